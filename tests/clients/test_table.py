"""The table of scenarios is what its head says it is."""

from typing import Any

import jsonschema_rs
import pytest

from contracts.registry import KINDS
from tests.clients.scenarios import deviations, filled, table


def test_each_row_fits_the_schema_at_the_head() -> None:
    """Names are told once, rows are of the form that drivers rely on, each that a fake runs has a script."""
    schema, rows = table()
    for name, row in rows.items():
        assert jsonschema_rs.is_valid(schema, row), name
        assert ("script" in row) == ("fake" in row["on"]), name
        kinds = {step["kind"] for step in row["steps"] if "kind" in step and not step.get("untyped")}
        assert kinds <= KINDS.keys(), name


def test_places_are_filled_in() -> None:
    """The same name is the same id within a row; another row has another."""
    row = {"name": "{run}", "ids": ["{uuid:a}", "{uuid:b}", "{uuid:a}"], "long": "{pad:5}", "kept": "{n}"}
    one, other = filled(row, "r1"), filled(row, "r1")
    assert (one["name"], one["long"], one["kept"]) == ("r1", "xxxxx", "{n}")
    assert one["ids"][0] == one["ids"][2] != one["ids"][1]
    assert one["ids"] != other["ids"]


@pytest.mark.parametrize(
    ("expected", "found", "number"),
    [
        ({"a": 1}, {"a": 1, "b": 2}, 0),
        ({"a": 1}, {"a": 2}, 1),
        ({"a": 1}, {}, 1),
        ({"a": ["*", {"b": None}]}, {"a": [0, {"b": None}]}, 0),
        ({"a": ["*", {"b": None}]}, {"a": [None, {"b": 0}]}, 2),
        ([1], [1, 2], 1),
        (None, {"error": "timeout"}, 1),
    ],
)
def test_a_deviation_is_named(expected: Any, found: Any, number: int) -> None:  # noqa: ANN401 - any JSON value
    """Expected is a part of the result; what differs has its place."""
    assert len(list(deviations(expected, found))) == number
