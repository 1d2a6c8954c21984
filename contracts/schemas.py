"""The JSON Schemas of payloads and results, made from their models: the one place that knows pydantic's generator.

They are of the dialect that AsyncAPI takes by default, a superset of draft 07. Requests are closed, since an unknown
field is refused; results are open, since a field may be added to them.
"""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, Final, Literal, NamedTuple

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from contracts.kinds import Kind
from contracts.registry import KINDS

Schema = Mapping[str, Any]
_Input = tuple[Any, Literal["validation", "serialization"], TypeAdapter[Any]]

REF: Final = "#/components/schemas/"
_GENERIC: Final = re.compile(r"^([A-Za-z]+)_([A-Za-z]+)_$")


class _Generator(GenerateJsonSchema):
    """Says nothing twice: a field's title would be its name."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ANN401, ARG002 - pydantic's signature
        return False


class Schemas(NamedTuple):
    """The schemas of all kinds. A reference leads to `definitions`, by `REF` and a name."""

    requests: Mapping[tuple[str, int], Schema]
    """Of payloads, by kind and version."""
    results: Mapping[str, Schema]
    """Of `data`, by kind."""
    definitions: Mapping[str, Schema]


@cache
def schemas() -> Schemas:
    """Make them all; the same ones each time."""
    return schemas_of(KINDS)


def schemas_of(kinds: Mapping[str, Kind]) -> Schemas:
    """Make the schemas of these kinds."""
    payloads: list[_Input] = [
        ((kind.name, version.number), "validation", version.adapter)
        for kind in kinds.values()
        for version in kind.versions
    ]
    results: list[_Input] = [(kind.name, "serialization", TypeAdapter(kind.result)) for kind in kinds.values()]
    made, joint = TypeAdapter.json_schemas(
        [*payloads, *results],
        ref_template=REF + "{model}",
        schema_generator=_Generator,
    )
    return Schemas(
        {key: _plain(made[key, "validation"]) for key, _, _ in payloads},
        {key: _plain(made[key, "serialization"]) for key, _, _ in results},
        {_named(name): _definition(schema) for name, schema in joint.get("$defs", {}).items()},
    )


def _definition(schema: dict[str, Any]) -> Schema:
    """Make a definition plain; what is answered has no defaults: they are only how its type is written down.

    What an answer that was stored before may lack is not required (`contracts.fields.since`).
    """
    plain: dict[str, Any] = _plain(schema)
    if plain.get("additionalProperties") is not False:
        for name, field in plain.get("properties", {}).items():
            field.pop("default", None)
            if "x-since" in field:
                plain["required"].remove(name)
    return plain


def _named(name: str) -> str:
    """Name a generic type as people do: a page of customers is a `PageOfCustomerResult`."""
    return _GENERIC.sub(r"\1Of\2", name)


def _plain(schema: Any) -> Any:  # noqa: ANN401 - any JSON value
    """Leave out what only repeats a name, and put a docstring on one line.

    A default of null goes, too: where absent and null differ it would be wrong, and elsewhere it says nothing.
    """
    if isinstance(schema, list):
        return [_plain(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    plain: dict[str, Any] = {}
    for name, value in schema.items():
        if name == "properties":
            plain[name] = {field: _plain(one) for field, one in value.items()}
        elif name == "description":
            plain[name] = " ".join(value.split())
        elif name == "$ref":
            plain[name] = REF + _named(value.removeprefix(REF))
        elif name in {"default", "const", "enum"}:
            if name != "default" or value is not None:
                plain[name] = value
        elif name != "title":
            plain[name] = _plain(value)
    return plain


def references(schema: Any) -> Iterator[str]:  # noqa: ANN401 - any JSON value
    """Go through the addresses that a JSON document refers to."""
    if isinstance(schema, dict):
        for name, value in schema.items():
            if name == "$ref" and isinstance(value, str):
                yield value
            else:
                yield from references(value)
    elif isinstance(schema, list):
        for one in schema:
            yield from references(one)
