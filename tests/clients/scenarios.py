"""The table of scenarios, as drivers in every language are given it."""

import json
import re
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

TABLE: Final = Path(__file__).parent.parent.parent / "clients" / "scenarios.json"
_PLACE: Final = re.compile(r"\{(run|uuid:\w+|pad:[0-9]+)\}")


class Table(NamedTuple):
    """The schema of a row, and the rows by name."""

    schema: dict[str, Any]
    rows: Mapping[str, Mapping[str, Any]]


def table() -> Table:
    """Read the table."""
    read = json.loads(TABLE.read_text(encoding="utf-8"))
    return Table(read["schema"], {row["name"]: row for row in read["rows"]})


def filled(row: Mapping[str, Any], run: str) -> dict[str, Any]:
    """Fill the places in the texts of a row in: what is made for a run, for an id, and so many letters."""
    ids: dict[str, str] = {}

    def value(found: re.Match[str]) -> str:
        name, _, rest = found[1].partition(":")
        if name == "uuid":
            return ids.setdefault(rest, str(uuid.uuid4()))
        return run if name == "run" else "x" * int(rest)

    return dict(_mapped(row, value))


def _mapped(value: Any, place: Any) -> Any:  # noqa: ANN401 - any JSON value
    if isinstance(value, str):
        return _PLACE.sub(place, value)
    if isinstance(value, list):
        return [_mapped(one, place) for one in value]
    if isinstance(value, dict):
        return {_PLACE.sub(place, name): _mapped(one, place) for name, one in value.items()}
    return value


def deviations(expected: Any, found: Any, place: str = "") -> Iterator[str]:  # noqa: ANN401 - any JSON value
    """Name where a result is not what is expected, which is a part of it; "*" is anything but null."""
    if expected == "*":
        if found is None:
            yield f"{place}: nothing"
    elif isinstance(expected, dict) and isinstance(found, dict):
        for name, one in expected.items():
            if name in found:
                yield from deviations(one, found[name], f"{place}.{name}")
            else:
                yield f"{place}.{name}: missing in {found}"
    elif isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        for number, (one, other) in enumerate(zip(expected, found, strict=True)):
            yield from deviations(one, other, f"{place}[{number}]")
    elif expected != found:
        yield f"{place}: {found!r}, not {expected!r}"
