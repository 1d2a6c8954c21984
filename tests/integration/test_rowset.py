"""What is written as one array for many rows arrives as it was, whatever it holds."""

from datetime import UTC, date, datetime, timedelta, timezone
from uuid import uuid4

import asyncpg
import pytest

from persistence.rowset import RowSet, array_text

_TEXTS = (
    "plain",
    "",
    "NULL",
    "null",
    'quotes "" and "one"',
    "back\\slash",
    "\\",
    "\\\\n is no line end",
    "line\nend",
    "both \\ and\n",
    "tab\t, \r, \b, \f, \x01, \x1f, \x7f, \x85",
    "{braces},[brackets],'",
    "ж, é, \U0001f600, \u2028, \uffff",
    ' leading, trailing " ',
    None,
)


@pytest.mark.parametrize("texts", [*([one] for one in _TEXTS), _TEXTS, (), ("issuer\nsubject", None, '"\\n"')])
async def test_any_text_survives(database_url: str, texts: list[str | None]) -> None:
    """Quotes, backslashes, control characters, nulls, alone and beside each other."""
    connection = await asyncpg.connect(database_url)
    try:
        assert await connection.fetchval("select $1::text::text[]", array_text(texts)) == list(texts)
    finally:
        await connection.close()


_BYTES = (b"a", None, b"", b"\x00\xff" * 3, b"", None, b"z" * 5_000, b"\\x00")


@pytest.mark.parametrize("values", [_BYTES, _BYTES[::-1], (None,), (b"",), (None, b"b"), (b"", None)])
async def test_any_bytes_survive(database_url: str, values: list[bytes | None]) -> None:
    """Also those of none, and nulls, beside each other and alone; two columns of them do not meet."""
    connection = await asyncpg.connect(database_url)
    rows = RowSet("some_bytes", {"id": "integer", "one": "bytea", "other": "bytea"})
    try:
        await connection.execute("create temporary table some_bytes (id integer, one bytea, other bytea)")
        places = list(range(len(values)))
        await rows.insert_columns(connection, [places, values, values[::-1]])
        assert [tuple(row) for row in await connection.fetch("table some_bytes order by id")] == list(
            zip(places, values, values[::-1], strict=True)
        )
        await rows.update(connection, list(zip(places, values[::-1], values, strict=True)))
        found = await connection.fetch("select one, other from some_bytes order by id")
        assert [tuple(row) for row in found] == list(zip(values[::-1], values, strict=True))
    finally:
        await connection.close()


async def test_each_type_arrives_as_it_was(database_url: str) -> None:
    """Rows of every type that a table has, inserted and updated; ends of the calendar, too."""
    connection = await asyncpg.connect(database_url)
    columns = {
        "id": "uuid",
        "words": "text",
        "data": "jsonb",
        "flag": "boolean",
        "small": "integer",
        "large": "bigint",
        "amount": "numeric",
        "day": "date",
        "at": "timestamptz",
        "hash": "bytea",
        "ids": "uuid[]",
        "names": "text[]",
    }
    rows = RowSet("rows_of_all_types", columns)
    one, two = str(uuid4()), str(uuid4())
    moment = datetime(2024, 2, 29, 23, 59, 59, 999_999, timezone(timedelta(hours=5, minutes=30)))
    full = (
        *(one, 'a\n"b"\\', '{"a": "\\n\\"\\\\"}', True, -(2**31), 2**63 - 1, 7, date(1, 1, 1), moment),
        *(b"\x00\\\xff", array_text([one, two]), array_text(["x\ny", 'q"'])),
    )
    try:
        fields = ", ".join(f"{name} {kind}" for name, kind in columns.items())
        await connection.execute(f"create temporary table rows_of_all_types ({fields}, primary key (id))")
        await rows.insert(connection, [full, (two, *[None] * 11)])
        found = await connection.fetch(
            "select *, data->>'a' as said, day::text as day_text, at::text as at_text from rows_of_all_types"
        )
        first, second = sorted(found, key=lambda row: str(row["id"]) != one)
        assert (first["words"], first["said"], first["flag"]) == ('a\n"b"\\', '\n"\\', True)
        assert (first["small"], first["large"], first["amount"]) == (-(2**31), 2**63 - 1, 7)
        assert (first["day_text"], first["at"], first["hash"]) == ("0001-01-01", moment, b"\x00\\\xff")
        assert ([str(each) for each in first["ids"]], first["names"]) == ([one, two], ["x\ny", 'q"'])
        assert list(second.values())[1:] == [None] * 14
        assert await rows.insert_new(connection, [[one] for one in full]) == 0
        last = datetime(9999, 12, 31, 23, 59, 59, 999_999, UTC)
        times = RowSet("rows_of_all_types", {name: columns[name] for name in ("id", "day", "at")})
        await times.update(connection, [(one, date(9999, 12, 31), last)])
        told = "select day::text || ' ' || (at at time zone 'UTC')::text from rows_of_all_types where id = $1"
        assert await connection.fetchval(told, one) == "9999-12-31 9999-12-31 23:59:59.999999"
    finally:
        await connection.close()
