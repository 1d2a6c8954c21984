"""Set-based writing: any number of rows of one table in one statement, as arrays that the server unnests."""

from collections.abc import Mapping, Sequence

from persistence.engine import Connection


class RowSet:
    """The statements that write rows of one table.

    `columns` maps names to Postgres types, in the order of the rows' values. A jsonb value is passed as JSON text. An
    array type is passed as its text form and cast, since `unnest` flattens arrays of arrays.
    """

    def __init__(self, table: str, columns: Mapping[str, str], key: Sequence[str] = ("id",)) -> None:
        names = list(columns)
        transport = {name: "text" if kind.endswith("[]") else kind for name, kind in columns.items()}
        arrays = ", ".join(f"${place}::{transport[name]}[]" for place, name in enumerate(names, 1))
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
            await connection.execute(self._insert, *zip(*rows, strict=True))

    async def insert_new(self, connection: Connection, rows: Sequence[Sequence[object]]) -> int:
        """Insert the rows that do not conflict with others; returns how many these are."""
        if not rows:
            return 0
        tag = await connection.execute(self._insert + " on conflict do nothing", *zip(*rows, strict=True))
        return int(tag.rsplit(" ", 1)[1])

    async def update(self, connection: Connection, rows: Sequence[Sequence[object]]) -> None:
        """Set all columns of the rows with these keys."""
        if rows:
            await connection.execute(self._update, *zip(*rows, strict=True))


def text_array(values: Sequence[str]) -> str:
    """Write a Postgres array literal; any text survives it."""
    return "{" + ",".join('"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"' for value in values) + "}"
