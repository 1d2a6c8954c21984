"""What is told of a rule that is broken: where, and what it asks for; never the value that was given."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

import orjson

from handlers.rules.compiling import CompiledRule
from handlers.rules.schemas import cut

MAX_VIOLATIONS: Final = 20
"""Of one rule; the others are not told."""


@dataclass(frozen=True, slots=True)
class Violation:
    """Where the data breaks a rule (a dotted path, empty for the whole), and how."""

    path: str
    reason: str


UNTOLD: Final = (Violation("", "does not hold; too much of the rule would have to be gone through to tell where"),)


def violations_of(compiled: CompiledRule, data: object) -> Sequence[Violation]:
    """Tell the first violations of a rule that does not hold; it costs what `CompiledRule.told` counts."""
    assert compiled.schema is not None  # noqa: S101 - what has no problem has a schema
    schema = compiled.schema
    told = (
        one for error in compiled.validator.iter_errors(data) for one in _told(error, schema.for_engine, schema.shown)
    )
    return list(islice(told, MAX_VIOLATIONS))


def _told(error: Any, schema: Mapping[str, Any], shown: Mapping[str, str]) -> Iterator[Violation]:  # noqa: ANN401 - the engine's
    path = [str(part) for part in error.instance_path]
    where = ".".join(path)
    match error.kind.name:
        case "falseSchema":
            yield Violation(where, "is not allowed here")
        case "additionalProperties":
            for name in error.kind.unexpected:
                yield Violation(".".join([*path, name]), "is not allowed here")
        case "required":
            yield Violation(where, cut(f"'{error.kind.property}' is a required property"))
        case "unevaluatedProperties":
            names = ", ".join(f"'{name}'" for name in error.kind.unexpected)
            were = "was" if len(error.kind.unexpected) == 1 else "were"
            yield Violation(where, cut(f"Unevaluated properties are not allowed ({names} {were} unexpected)"))
        case _:
            keyword, value = _asked(error.schema_path, schema)
            shown_value = shown.get(value, value) if keyword == "pattern" else value
            yield Violation(where, cut(f"does not meet {keyword}: {orjson.dumps(shown_value).decode()}"))


def _asked(place: Sequence[str | int], schema: Mapping[str, Any]) -> tuple[str, Any]:
    """Find the keyword that is not met, and its value, by the place that the engine tells."""
    value: Any = schema
    for part in place:  # the engine tells names made of digits as numbers
        value = value[int(part)] if isinstance(value, list) else value[str(part)]
    return str(place[-1]), value
