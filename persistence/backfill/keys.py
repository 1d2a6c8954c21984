"""Keys, and ranges of them: what PostgreSQL says of the key columns, and the SQL that speaks of a range.

A key travels as text, column by column (`array['17', 'a']`), and is cast back to the columns' types: one way for every
type that has a unique index, exact in both directions.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from persistence.backfill.definition import Definition, DefinitionError
from persistence.backfill.names import quoted
from persistence.engine import Connection

Key = Sequence[str]

_LAST_PART: Final = re.compile(r'(?:"(?:[^"]|"")+"|[^."]+)$')


@dataclass(frozen=True, slots=True)
class Bounds:
    """A range of keys: low ≤ key < high; None is without bound."""

    low: Key | None
    high: Key | None

    def arguments(self) -> list[object]:
        """Return the arguments of `KeyShape.within`."""
        return [list(bound) for bound in (self.low, self.high) if bound is not None]


@dataclass(frozen=True, slots=True)
class KeyColumn:
    """A column of the key: its name, its SQL type, and the collation it sorts by (quoted; None: it has none).

    The type is without its length: a cast to `character` alone would cut a key off after its first character.
    """

    name: str
    sql_type: str
    collation: str | None

    @property
    def sql(self) -> str:
        """The name as SQL needs it."""
        return quoted(self.name)


@dataclass(frozen=True, slots=True)
class KeyShape:
    """The key of a table. Every piece of SQL names columns as `table.column`, both as SQL needs them."""

    table: str
    columns: Sequence[KeyColumn]

    @property
    def alias(self) -> str:
        """The table without its schema: how an author names its columns."""
        found = _LAST_PART.search(self.table)
        return self.table if found is None else found[0]

    @property
    def order(self) -> str:
        """The key's columns in order, for ORDER BY."""
        return ", ".join(f"{self.table}.{column.sql}" for column in self.columns)

    @property
    def as_text(self) -> str:
        """The key of a row as an array of text."""
        return self.as_text_of(self.table)

    def as_text_of(self, relation: str) -> str:
        """Return the key as an array of text, out of a relation with the key's columns."""
        return f"array[{', '.join(f'{relation}.{column.sql}::text' for column in self.columns)}]"

    def within(self, bounds: Bounds) -> str:
        """Say that a row's key lies within bounds; `$1` (and `$2`) are `bounds.arguments()`."""
        parts = []
        if bounds.low is not None:
            parts.append(self.beyond(1))
        if bounds.high is not None:
            parts.append(f"{self._left()} < {self._right(len(parts) + 1)}")
        return " and ".join(parts) or "true"

    def beyond(self, parameter: int) -> str:
        """Say that a row's key is not below the key in a parameter."""
        return f"{self._left()} >= {self._right(parameter)}"

    def same(self, alias: str) -> str:
        """Say that a row's key equals the text columns `<alias>_k0`, `<alias>_k1` … of another relation."""
        return " and ".join(
            f"{self.table}.{column.sql} = {alias}.{alias}_k{place}::{column.sql_type}"
            for place, column in enumerate(self.columns)
        )

    def of_ledger(self, column: str) -> Sequence[str]:
        """Return the expressions that sort a bound in the ledger as the key sorts."""
        return [
            f"({column})[{place}]::{key.sql_type}" + (f" collate {key.collation}" if key.collation else "")
            for place, key in enumerate(self.columns, 1)
        ]

    def renamed(self, table: str, columns: Sequence[str]) -> "KeyShape":
        """Return the same key as another table carries it."""
        pairs = zip(columns, self.columns, strict=True)
        return KeyShape(table, [KeyColumn(name, key.sql_type, key.collation) for name, key in pairs])

    def _left(self) -> str:
        return self.order if len(self.columns) == 1 else f"({self.order})"

    def _right(self, parameter: int) -> str:
        casts = [f"(${parameter}::text[])[{place}]::{key.sql_type}" for place, key in enumerate(self.columns, 1)]
        return casts[0] if len(casts) == 1 else f"({', '.join(casts)})"


_COLUMNS: Final = """
select a.attname as name, format_type(a.atttypid, -1) as sql_type, a.attnotnull as not_null,
       case when a.attcollation <> 0 then quote_ident(n.nspname) || '.' || quote_ident(c.collname) end as collation
from pg_attribute a
left join pg_collation c on c.oid = a.attcollation
left join pg_namespace n on n.oid = c.collnamespace
where a.attrelid = to_regclass($1) and a.attname = any($2::text[]) and a.attnum > 0 and not a.attisdropped"""
_UNIQUE_INDEX: Final = """
select exists (
    select from pg_index i
    where i.indrelid = to_regclass($1) and i.indisunique and i.indisvalid and i.indpred is null and i.indexprs is null
      and (select array_agg(a.attname::text order by k.place)
           from unnest(i.indkey::int2[]) with ordinality k (attnum, place)
           join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
           where k.place <= i.indnkeyatts) = $2::text[])"""


async def read_key_shape(connection: Connection, definition: Definition) -> KeyShape:
    """Look the key up in the catalogue.

    Raises `DefinitionError` where the table or a column is missing or may be null, or where no unique index has exactly
    these columns: without one the walk would scan, and two rows could not be told apart.
    """
    names = list(definition.key)
    rows = {row["name"]: row for row in await connection.fetch(_COLUMNS, definition.table, names)}
    for name in names:
        if name not in rows:
            raise DefinitionError(f"{definition.name}: there is no {definition.table}.{name}")
        if not rows[name]["not_null"]:
            raise DefinitionError(f"{definition.name}: {definition.table}.{name} may be null, so it cannot be walked")
    if not await connection.fetchval(_UNIQUE_INDEX, definition.table, names):
        raise DefinitionError(f"{definition.name}: {definition.table} has no unique index on ({', '.join(names)})")
    return KeyShape(
        definition.table, [KeyColumn(name, rows[name]["sql_type"], rows[name]["collation"]) for name in names]
    )
