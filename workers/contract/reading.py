"""The contract as people read it: fields as rows, limits in words. Terminal, page and Markdown show the same."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

import orjson

from contracts.asyncapi import answer_in_words, key_in_words, roles_of
from contracts.kinds import Kind, Version
from contracts.registry import KINDS
from contracts.schemas import REF, Schema, schemas


@dataclass(frozen=True, slots=True)
class FieldRow:
    """A field: its path (`lines[].quantity`), its type, whether it must be there, and its limits."""

    path: str
    type: str
    is_required: bool
    limits: str


@dataclass(frozen=True, slots=True)
class ErrorRow:
    """An error that a request may be answered with."""

    status_code: int
    code: str
    meaning: str
    is_own: bool
    """False for what any request may meet."""


@dataclass(frozen=True, slots=True)
class RequestPart:
    """A version of a kind, with bodies, and the payloads alone, to copy."""

    number: int
    meaning: str
    fields: Sequence[FieldRow]
    bodies: Sequence[str]
    payloads: Sequence[str]
    deprecated_on: date | None
    sunset_on: date | None
    alternative: str | None


@dataclass(frozen=True, slots=True)
class KindText:
    """All that is told of a kind."""

    name: str
    topic: str
    resource: str
    description: str
    who: str
    key: str
    needs: Sequence[str]
    requests: Sequence[RequestPart]
    answers: str
    result: Sequence[FieldRow]
    reply: str
    errors: Sequence[ErrorRow]


def kind_text(kind: Kind) -> KindText:
    """Put a kind into words."""
    roles = roles_of(kind)
    return KindText(
        kind.name,
        kind.topic,
        kind.resource,
        kind.description,
        ", ".join(roles) if roles else "anybody with a valid token",
        key_in_words(kind),
        kind.needs,
        [_request_part(kind, version) for version in kind.versions],
        ", ".join(map(answer_in_words, kind.answers)),
        fields_of(schemas().results[kind.name], schemas().definitions),
        pretty(orjson.loads(kind.reply.encode())),
        [
            ErrorRow(error.status_code, error.error_code, one_line(error.__doc__), error in kind.errors)
            for error in kind.every_error
        ],
    )


def all_texts() -> list[KindText]:
    """Put every kind into words, in the registry's order."""
    return [kind_text(kind) for kind in KINDS.values()]


def _request_part(kind: Kind, version: Version) -> RequestPart:
    schema = schemas().requests[kind.name, version.number]
    return RequestPart(
        version.number,
        one_line(version.model.__doc__),
        fields_of(schema, schemas().definitions),
        [pretty(body_of(kind, version, example)) for example in version.examples],
        [pretty(example) for example in version.examples],
        version.deprecated_on,
        version.sunset_on,
        version.alternative,
    )


def body_of(kind: Kind, version: Version, payload: Mapping[str, object]) -> Mapping[str, object]:
    """Make the body of a request."""
    named: dict[str, object] = {"kind": kind.name}
    return named | ({"version": version.number} if version.number > 1 else {}) | {"payload": payload}


def pretty(value: object) -> str:
    """Write JSON for people."""
    return json.dumps(value, indent=2, ensure_ascii=False)


def one_line(doc: str | None) -> str:
    """Put a docstring on one line."""
    return " ".join((doc or "").split())


# Fields ------------------------------------------------------------------------------------------------------------
def fields_of(schema: Schema, definitions: Mapping[str, Schema]) -> list[FieldRow]:
    """List the fields of an object, and of the objects in it."""
    return list(_fields(_resolved(schema, definitions), definitions, ""))


def _fields(schema: Schema, definitions: Mapping[str, Schema], within: str) -> Iterator[FieldRow]:
    required = schema.get("required", ())
    for name, declared in schema.get("properties", {}).items():
        path = f"{within}{name}"
        options = [_resolved(one, definitions) for one in declared.get("anyOf", [declared])]
        words = [_type_of(one, definitions) for one in options]
        said = [declared.get("description", ""), *(text for one in options for text in _limits(one))]
        if "default" in declared:
            said.append(f"{json.dumps(declared['default'])} where absent")
        yield FieldRow(
            path, " or ".join(dict.fromkeys(words)), name in required, "; ".join(dict.fromkeys(filter(None, said)))
        )
        for one in options:
            inner, suffix = (_resolved(one["items"], definitions), "[].") if "items" in one else (one, ".")
            yield from _fields(inner, definitions, path + suffix)


def _resolved(schema: Schema, definitions: Mapping[str, Schema]) -> Schema:
    while "$ref" in schema:
        schema = definitions[schema["$ref"].removeprefix(REF)]
    return schema


_TYPES: Final = {"string": "text", "integer": "integer", "number": "number", "boolean": "true or false", "null": "null"}


def _type_of(schema: Schema, definitions: Mapping[str, Schema]) -> str:
    if "enum" in schema:
        return " | ".join(f'"{one}"' for one in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_type_of(_resolved(schema['items'], definitions), definitions)}"
    if schema.get("type") == "object":
        return "object"
    return _TYPES.get(str(schema.get("type")), "any JSON value")


_FORMATS: Final = {"uuid": "a UUID", "date": "YYYY-MM-DD", "date-time": "RFC 3339, UTC"}
_RANGES: Final = (
    ("minLength", "maxLength", "characters"),
    ("minItems", "maxItems", "items"),
    ("minimum", "maximum", ""),
)


def _limits(schema: Schema) -> Iterator[str]:
    """Say what a schema allows, in words; what is an object says it by its fields."""
    is_object = "properties" in schema
    description = "" if is_object else schema.get("description", "")
    if description:
        yield description
    for least, most, unit in _RANGES:
        if text := _range(schema, least, most):
            yield f"{text} {unit}".strip()
    if schema.get("format") in _FORMATS:
        if not description:
            yield _FORMATS[schema["format"]]
    elif "pattern" in schema:
        yield f"`{schema['pattern']}`"
    if "items" in schema and not is_object:
        yield from (f"each {text}" for text in _limits(schema["items"]) if "$ref" not in schema["items"])


def _range(schema: Schema, least: str, most: str) -> str:
    low: Any = schema.get(least)
    high: Any = schema.get(most)
    if high is None and "exclusiveMaximum" in schema and most == "maximum":
        high = schema["exclusiveMaximum"] - 1
    if low is not None and high is not None:
        return f"{low:,}–{high:,}"
    if high is not None:
        return f"at most {high:,}"
    return f"at least {low:,}" if low is not None else ""
