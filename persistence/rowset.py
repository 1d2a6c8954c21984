"""Set-based writing: any number of rows of one table in one statement, as arrays that the server unnests."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Final, cast

import orjson

from persistence.engine import Connection

_AS_TEXT: Final = frozenset({"text", "uuid", "jsonb", "boolean", "integer", "bigint", "date", "timestamptz"})
"""Types whose values JSON and Postgres write alike. An array of them is sent as one text, written in one go; the driver
asks of each value by itself whether it is an array, too."""
_DECIMAL: Final = "numeric"
"""Values of this type are written by Python, then sent likewise."""
_BYTES: Final = "bytea"
"""Values of this type are sent as one, end to end, with where each begins and how long it is: three arguments."""


class RowSet:
    """The statements that write rows of one table.

    `columns` maps names to Postgres types, in the order of the rows' values. A jsonb value is passed as JSON text. An
    array type is passed as its text form and cast, since `unnest` flattens arrays of arrays.
    """

    def __init__(self, table: str, columns: Mapping[str, str], key: Sequence[str] = ("id",)) -> None:
        names = list(columns)
        transport = {name: "text" if kind.endswith("[]") else kind for name, kind in columns.items()}
        self._names = names
        self._kinds = [transport[name] for name in names]
        self._width = sum(3 if kind == _BYTES else 1 for kind in self._kinds)
        self._listed = ", ".join(names)
        self._values = ", ".join(f"r.{n}::{columns[n]}" if columns[n].endswith("[]") else f"r.{n}" for n in names)
        self._table = table
        self._insert = self.inserting(1)
        sets = ", ".join(f"{name} = r.{name}" for name in names if name not in key)
        match = " and ".join(f"t.{name} = r.{name}" for name in key)
        self._update = f"update {table} t set {sets} from {self.source(1)} where {match}"

    def source(self, first: int) -> str:
        """Write what the rows are taken from, as `r`; their columns are the arguments from $first on."""
        arrays, taken, shown, place = [], [], [], first
        for name, kind in zip(self._names, self._kinds, strict=True):
            if kind == _BYTES:
                arrays += [f"${place + 1}::text::integer[]", f"${place + 2}::text::integer[]"]
                taken += [f"{name}_at", f"{name}_size"]
                shown.append(f"substring(${place}::bytea from {name}_at for {name}_size) as {name}")
                place += 3
            else:
                arrays.append(f"${place}{'::text' if kind in _AS_TEXT or kind == _DECIMAL else ''}::{kind}[]")
                taken.append(name)
                shown.append(name)
                place += 1
        rows = f"unnest({', '.join(arrays)}) as r({', '.join(taken)})"
        return rows if shown == taken else f"(select {', '.join(shown)} from {rows}) as r"

    def inserting(self, first: int) -> str:
        """Write the statement that inserts rows, whose columns are the arguments from $first on."""
        return f"insert into {self._table} ({self._listed}) select {self._values} from {self.source(first)}"

    async def insert(self, connection: Connection, rows: Sequence[Sequence[object]]) -> None:
        """Insert all rows; raises what the database raises when one of them may not be there."""
        if rows:
            await connection.execute(self._insert, *self.arguments(rows))

    async def insert_columns(self, connection: Connection, columns: Sequence[Sequence[object]]) -> None:
        """Insert all rows, given by column; raises as `insert` does."""
        if columns[0]:
            await connection.execute(self._insert, *self.array_arguments(columns))

    async def insert_new(
        self,
        connection: Connection,
        columns: Sequence[Sequence[object]],
        beside: "tuple[RowSet, Sequence[Sequence[object]]] | None" = None,
    ) -> int:
        """Insert the rows, given by column, that do not conflict with others; returns how many these are.

        `beside` are rows of another table, which meet nobody's: they go in by the same statement.
        """
        other, others = beside or (self, ())
        if not columns or not columns[0]:
            await other.insert(connection, others)
            return 0
        first = f"with beside as ({other.inserting(self._width + 1)}) " if others else ""
        arguments = [*self.array_arguments(columns), *(other.arguments(others) if others else ())]
        tag = await connection.execute(f"{first}{self._insert} on conflict do nothing", *arguments)
        return int(tag.rsplit(" ", 1)[1])

    async def update(self, connection: Connection, rows: Sequence[Sequence[object]]) -> None:
        """Set all columns of the rows with these keys."""
        if rows:
            await connection.execute(self._update, *self.arguments(rows))

    async def update_columns(self, connection: Connection, columns: Sequence[Sequence[object]]) -> None:
        """Set all columns of the rows with these keys, given by column."""
        if columns[0]:
            await connection.execute(self._update, *self.array_arguments(columns))

    def arguments(self, rows: Sequence[Sequence[object]]) -> list[object]:
        """Return the columns of rows as the arguments of a statement."""
        return self.array_arguments(zip(*rows, strict=True))

    def array_arguments(self, columns: Iterable[Sequence[object]]) -> list[object]:
        """Return columns as the arguments of a statement."""
        arguments: list[object] = []
        for column, kind in zip(columns, self._kinds, strict=True):
            if kind == _BYTES:
                arguments += _end_to_end(cast("Sequence[bytes | None]", column))
            elif kind == _DECIMAL:
                arguments.append(array_text([None if one is None else str(one) for one in column]))
            else:
                arguments.append(array_text(column) if kind in _AS_TEXT else column)
        return arguments


def _end_to_end(values: Sequence[bytes | None]) -> tuple[bytes, str, str]:
    """Return values as one, and where each begins, from 1, and how long it is; of None no length is known."""
    sizes = [None if value is None else len(value) for value in values]
    starts = list(accumulate((size or 0 for size in sizes[:-1]), initial=1))
    return b"".join(filter(None, values)), array_text(starts), array_text(sizes)


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
