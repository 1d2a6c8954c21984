"""Check the declarations of all kinds: `python -m workers.contract.lint`. Findings end with status 1."""

import sys
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

import jsonschema_rs
import orjson
from pydantic import BaseModel

from contracts.errors import CatalogError
from contracts.kinds import Answer, Kind, Version
from contracts.registry import KINDS
from contracts.schemas import Schema, Schemas, schemas_of
from handlers.commands import COMMANDS
from handlers.queries import QUERIES


def findings(kinds: Mapping[str, Kind], served: Collection[str]) -> list[str]:
    """Say what the declarations lack; `served` are the kinds that have a use case."""
    made = schemas_of(kinds)
    found = [
        f"{kind.name}: {finding}"
        for kind in kinds.values()
        for finding in (
            *_of_words(kind),
            *_of_key(kind),
            *_of_needs(kind, kinds),
            *_of_errors(kind),
            *_of_examples(kind, made),
            *_of_reply(kind, made),
            *([] if kind.name in served else ["no use case serves it"]),
        )
    ]
    return found + [f"{name}: a use case serves it, but it is no kind" for name in sorted(set(served) - set(kinds))]


def _of_words(kind: Kind) -> Iterator[str]:
    if not kind.description.strip():
        yield "it has no description"
    for version in kind.versions:
        doc = version.model.__doc__
        if doc is None or doc == BaseModel.__doc__:
            yield f"version {version.number} has no description: its model has no docstring"
    if kind.result is Any or kind.result in {object, dict, list}:
        yield "its result has no type that says anything"


def _of_key(kind: Kind) -> Iterator[str]:
    if kind.topic == "queries" and kind.key:
        yield "a query has no key of its own"
    for version in kind.versions:
        for path in kind.key:
            if path not in version.model.model_fields:
                yield f"version {version.number} has no field '{path}', which its key names"


def _of_needs(kind: Kind, kinds: Mapping[str, Kind], seen: tuple[str, ...] = ()) -> Iterator[str]:
    for name in kind.needs:
        if name not in kinds:
            yield f"it needs '{name}', which is no kind"
        elif name in (*seen, kind.name):
            yield f"it needs itself, by way of {name}"
        else:
            yield from _of_needs(kinds[name], kinds, (*seen, kind.name))


def _of_errors(kind: Kind) -> Iterator[str]:
    codes = [error.error_code for error in kind.every_error]
    yield from (f"its error {code} is listed twice" for code in sorted({one for one in codes if codes.count(one) > 1}))
    yield from (f"its error {error.__name__} has no code of its own" for error in kind.errors if _is_a_family(error))


def _is_a_family(error: type[CatalogError]) -> bool:
    return "error_code" not in vars(error)


def _of_examples(kind: Kind, made: Schemas) -> Iterator[str]:
    for version in kind.versions:
        if not version.examples:
            yield f"version {version.number} has no example"
        schema = made.requests[kind.name, version.number]
        for number, example in enumerate(version.examples, 1):
            problem = _why_refused(kind, version, example) or why_invalid(schema, made.definitions, example)
            if problem is not None:
                yield f"example {number} of version {version.number} is not valid: {problem}"


def _why_refused(kind: Kind, version: Version, example: Mapping[str, object]) -> str | None:
    try:
        kind.read(version, orjson.dumps(example))
    except CatalogError as error:
        return error.message
    return None


def _of_reply(kind: Kind, made: Schemas) -> Iterator[str]:
    reply = kind.reply
    if Answer(reply.status_code, reply.type) not in kind.answers:
        yield f"its example of a reply, {reply.status_code} {reply.type}, is none of its answers"
    data = orjson.loads(reply.encode())["data"]
    problem = why_invalid(made.results[kind.name], made.definitions, data)
    if problem is not None:
        yield f"its example of a reply is not of its result: {problem}"


DRAFT: Final = "http://json-schema.org/draft-07/schema#"


def why_invalid(schema: Schema, definitions: Mapping[str, Schema], value: object) -> str | None:
    """Say where a value does not fit a schema; None where it does."""
    for error in validator(schema, definitions).iter_errors(value):
        return f"{'.'.join(map(str, error.instance_path)) or 'the whole'}: {error.message}"
    return None


def validator(schema: Schema, definitions: Mapping[str, Schema]) -> jsonschema_rs.Validator:
    """Compile a schema whose references lead to `definitions`."""
    whole = {"$schema": DRAFT, "allOf": [schema], "components": {"schemas": definitions}}
    return jsonschema_rs.validator_for(whole, validate_formats=True)


def main() -> int:
    """Lint the registry and return the process's status."""
    found = findings(KINDS, [*COMMANDS, *QUERIES])
    for one in found:
        print(one)
    print(f"contract: {len(KINDS)} kinds, {len(found) or 'no'} findings")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
