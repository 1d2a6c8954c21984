"""Where the product's catalogue is written and read at each phase, and when its two columns count as different."""

import pytest

from persistence.phases import STEPS, Phase, catalogue_columns, count_drift
from tests.migrations.conftest import Connect


def test_what_is_read_is_always_written_and_survives_each_step() -> None:
    """At each phase the read column is written, and was already written at both neighbours: a step loses nothing."""
    for before, to in STEPS:
        assert catalogue_columns(to).read in catalogue_columns(before).written
        assert catalogue_columns(to).read in catalogue_columns(to).written
    assert catalogue_columns(Phase.EXPANDED).written == ("old_catalog_field",)
    assert catalogue_columns(Phase.CONTRACTED).written == ("new_catalog",)


JSON_TEXTS = [
    *("{}", "[]", "null", "true", "false", '"1"', '""', '" "', "[1]", "[1, 2]", "[2, 1]", "[true]", "[null]"),
    *("0", "-0", "1", "1.0", "1.00", "1e0", "10e-1", "1e400", "1E+400", "1e5000", "1" + "0" * 5000),
    *("12345678901234567890", "12345678901234567890.1", "12345678901234567890.10"),
    *('{"a": 1}', '{"a": 1.0}', '{"a": true}', '{"a": null}', '{"a": 1, "b": 2}', '{ "b" : 2,\n"a":1 }', '{"A": 1}'),
    *('{"a": 9, "a": 1}', '{"a": [{"b": []}]}', '{"a": [{"b": {}}]}', '"\\u00e9"', '"é"', '"e\\u0301"'),
]


async def test_drift_is_judged_as_jsonb_judges(connect: Connect) -> None:
    """Every pair of a list of awkward values is equal here exactly where the database finds it equal."""
    rows = await (await connect()).fetch(
        """
        select a.text as old, b.text::jsonb::text as new, a.text::jsonb <> b.text::jsonb as differs
        from unnest($1::text[]) as a (text), unnest($1::text[]) as b (text)
        """,
        JSON_TEXTS,
    )
    assert len(rows) == len(JSON_TEXTS) ** 2
    assert [row for row in rows if count_drift([(row["old"], row["new"])]) != int(row["differs"])] == []


@pytest.mark.parametrize(
    ("old", "new"), [("{}", None), ("{", "{}"), ("", "{}"), ("NaN", "{}"), ("[" * 200_000 + "]" * 200_000, "[]")]
)
def test_what_cannot_be_equal_is_drift(old: str, new: str | None) -> None:
    """A column that is missing, and text that is no JSON or too deep, count; they never raise."""
    assert count_drift([("{}", "{}"), (old, new)]) == 1
