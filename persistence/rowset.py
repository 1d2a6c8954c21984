"""Set-based writing: any number of rows of one table in one statement, as arrays that the server unnests."""

from collections.abc import Mapping, Sequence
from typing import Final

import orjson

from persistence.engine import Connection

_AS_TEXT: Final = frozenset({"text", "uuid", "jsonb", "boolean", "integer", "bigint", "date", "timestamptz"})
"""Types whose values JSON and Postgres write alike. An array of them is sent as one text, written in one go; the driver
asks of each value by itself whether it is an array, too."""


class RowSet:
    """The statements that write rows of one table.

    `columns` maps names to Postgres types, in the order of the rows' values. A jsonb value is passed as JSON text. An
    array type is passed as its text form and cast, since `unnest` flattens arrays of arrays.
    """

    def __init__(self, table: str, columns: Mapping[str, str], key: Sequence[str] = ("id",)) -> None:
        names = list(columns)
        transport = {name: "text" if kind.endswith("[]") else kind for name, kind in columns.items()}
        self._are_text = [transport[name] in _AS_TEXT for name in names]
        arrays = ", ".join(
            f"${place}{'::text' if is_text else ''}::{transport[name]}[]"
            for place, (name, is_text) in enumerate(zip(names, self._are_text, strict=True), 1)
        )
        values = ", ".join(f"r.{n}::{columns[n]}" if columns[n].endswith("[]") else f"r.{n}" for n in names)
        source = f"unnest({arrays}) as r({', '.join(names)})"
        self._insert = f"insert into {table} ({', '.join(names)}) select {values} from {source}"
        sets = ", ".join(f"{name} = r.{name}" for name in names if name not in key)
        match = " and ".join(f"t.{name} = r.{name}" for name in key)
        self._update = f"update {table} t set {sets} from {source} where {match}"
        self._table = table

    async def insert(self, connection: Connection, rows: Sequence[Sequence[object]]) -> None:
        """Insert all rows; raises what the database raises when one of them may not be there."""
        if rows:
            await connection.execute(self._insert, *self._arguments(rows))

    async def insert_new(self, connection: Connection, rows: Sequence[Sequence[object]]) -> int:
        """Insert the rows that do not conflict with others; returns how many these are."""
        if not rows:
            return 0
        tag = await connection.execute(self._insert + " on conflict do nothing", *self._arguments(rows))
        return int(tag.rsplit(" ", 1)[1])

    async def update(self, connection: Connection, rows: Sequence[Sequence[object]]) -> None:
        """Set all columns of the rows with these keys."""
        if rows:
            await connection.execute(self._update, *self._arguments(rows))

    def _arguments(self, rows: Sequence[Sequence[object]]) -> list[object]:
        columns = zip(*rows, strict=True)
        return [array_text(one) if is_text else one for one, is_text in zip(columns, self._are_text, strict=True)]


def array_text(values: Sequence[object]) -> str:
    """Write an array of texts, numbers, truth values or times as Postgres reads it; None is null, any text survives.

    JSON's form is the same but for its brackets, and where a text holds a control character. A line end, which every
    caller's name has, is put back by itself where no backslash is in the way.
    """
    form = orjson.dumps(values)
    if b"\\n" in form and b"\\\\" not in form:
        form = form.replace(b"\\n", b"\n")
    if b"\\" in form and b"\\" in form.replace(b"\\\\", b"").replace(b'\\"', b""):
        return "{" + ",".join("NULL" if value is None else _quoted(str(value)) for value in values) + "}"
    return "{" + form[1:-1].decode() + "}"


def _quoted(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
