"""The SQL of one definition: how its table is walked, its rows locked, treated and compared.

Texts depend on the definition and on which bounds a range has, never on values, so each is prepared once a connection.
Where rows were put aside, the range is cut out around them with one more argument.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from persistence.backfill.definition import CHUNK, Assignments, Definition, DefinitionError, Statement, Transform
from persistence.backfill.keys import Bounds, Key, KeyShape, read_key_shape
from persistence.backfill.names import quoted, read_column
from persistence.engine import Connection

Query = tuple[str, list[object]]

# A length or precision belongs to the column: written by a cast, a value that is too long would be cut off, where the
# assignment refuses it. What PostgreSQL compares is told by the type that stands behind domains and arrays.
_TYPES: Final = """
select a.attname as name, format_type(a.atttypid, -1) as sql_type, format_type(a.atttypid, a.atttypmod) as full_type,
  format_type(case when b.typelem <> 0 and b.typcategory = 'A' then pg_basetype(b.typelem) else b.oid end, -1) as base,
  b.typtype = 'c' as is_composite
from pg_attribute a join pg_type b on b.oid = pg_basetype(a.atttypid)
where a.attrelid = to_regclass($1) and a.attname = any($2::text[]) and a.attnum > 0 and not a.attisdropped"""
_MADE: Final = "made_by_backfill"
"""What a function made, as a relation; its columns begin so, too: SQL may name those of the table without it."""
_AS_TEXT: Final = frozenset(
    {
        '"bit"',
        "bit varying",
        "box",
        "circle",
        "json",
        "jsonpath",
        "line",
        "lseg",
        "money",
        "path",
        "point",
        "polygon",
        "tsquery",
        "tsvector",
        "xid",
        "xml",
    }
)
"""Types without equality or hash: they are compared as text."""


@dataclass(frozen=True, slots=True)
class ColumnType:
    """The SQL type of a column: without its length or precision, and with it; `as_text`: it has no equality."""

    name: str
    full: str
    as_text: bool


@dataclass(frozen=True, slots=True)
class Walk:
    """A definition and what the catalogue says of its columns."""

    definition: Definition
    shape: KeyShape
    types: Mapping[str, ColumnType]
    """The columns that are read or written by name."""
    actual_type: ColumnType | None
    """That of ACTUAL, where it names a column of the walked table and nothing else."""

    # ----------------------------------------------------------------------------------------------------- planning

    def edge(self, low: Key | None, rows: int) -> Query:
        """Find the key that lies `rows` rows after `low`: where the next chunk ends. No row: the table ends first."""
        bounds = Bounds(low, None)
        skip = len(bounds.arguments()) + 1
        # The key becomes text outside: inside it would for every row that is skipped.
        sql = (
            f"select {self.shape.as_text_of('edge')} from ("
            f"select {self.shape.order} from {self.shape.table} where {self.shape.within(bounds)}"
            f" order by {self.shape.order} offset ${skip}::bigint limit 1) as edge"
        )
        return sql, [*bounds.arguments(), rows]

    def count(self, bounds: Bounds, most: int) -> Query:
        """Count the keys of a range, up to `most` of them."""
        last = len(bounds.arguments()) + 1
        sql = (
            f"select count(*) from (select from {self.shape.table} where {self.shape.within(bounds)}"
            f" limit ${last}::bigint) as counted"
        )
        return sql, [*bounds.arguments(), most]

    def count_all(self) -> str:
        """Count the table's rows: an index-only scan where the visibility map allows it."""
        return f"select count(*) from {self.shape.table}"

    def plan_all(self) -> str:
        """Ask the planner how many rows the table has, by its statistics and its size now: it reads none of them."""
        return f"explain (format json) select from {self.shape.table}"

    def middle(self, bounds: Bounds, spared: Sequence[Key]) -> Query:
        """Find the rows of a range without those put aside: how many, and the key of the one in the middle.

        The predicate is not asked: what a row holds may be what it fails on.
        """
        condition, arguments = self._within(bounds, spared)
        place = f"row_number() over (order by {self.shape.order})"
        sql = (
            f"select key, rows from (select {self.shape.as_text} as key, {place} as place, count(*) over () as rows"
            f" from {self.shape.table} where {condition}) as counted where place = rows / 2 + 1"
        )
        return sql, arguments

    # ------------------------------------------------------------------------------------------------------- treating

    def lock(self, bounds: Bounds, spared: Sequence[Key]) -> Query:
        """Lock the rows that are still to do, in key order; returns how many they are.

        Where other tables' rows are written the lock is FOR UPDATE, which even an insert that refers to the row waits
        for: a target that does not exist yet is protected by its parent.
        """
        condition, arguments = self._to_do(bounds, spared)
        strength = "update" if self.definition.locks_for_children else "no key update"
        sql = (
            f"select count(*) from (select from {self.shape.table} where {condition}"
            f" order by {self.shape.order} for {strength}) as locked"
        )
        return sql, arguments

    def also_lock(self, bounds: Bounds) -> Sequence[Query]:
        """Lock the rows of other tables that carry the same keys, each table in key order."""
        queries: list[Query] = []
        for table, columns in self.definition.also_lock.items():
            shape = self.shape.renamed(table, columns)
            sql = (
                f"select count(*) from (select from {table} where {shape.within(bounds)}"
                f" order by {shape.order} for update) as locked"
            )
            queries.append((sql, bounds.arguments()))
        return queries

    def assign(self, work: Assignments, bounds: Bounds, spared: Sequence[Key]) -> Query:
        """Update the rows that are still to do."""
        condition, arguments = self._to_do(bounds, spared)
        assignments = ", ".join(f"{quoted(column)} = {sql}" for column, sql in work.columns.items())
        return f"update {self.shape.table} set {assignments} where {condition}", arguments

    def statement(self, work: Statement, bounds: Bounds, spared: Sequence[Key]) -> Query:
        """Complete the author's statement with the chunk."""
        condition, arguments = self._to_do(bounds, spared)
        return work.sql.replace(CHUNK, f"({condition})"), arguments

    def read(self, work: Transform, bounds: Bounds, spared: Sequence[Key]) -> Query:
        """Read the rows that are still to do, in key order, each value as text."""
        condition, arguments = self._to_do(bounds, spared)
        return self._read(work, condition), arguments

    def write(self, work: Transform) -> str:
        """Write transformed rows: arguments are the key's columns, then the written ones, each an array of text."""
        table = self.shape.table
        assignments = ", ".join(
            f"{quoted(column)} = {_made(place)}::{self.types[column].name}" for place, column in enumerate(work.writes)
        )
        return f"update {table} set {assignments} from {self._unnest(work)} where {self.shape.same(_MADE)}"

    # ------------------------------------------------------------------------------------------------------ comparing

    def digest_expected(self, bounds: Bounds, spared: Sequence[Key]) -> Query:
        """Digest f(source) of the rows that are still to do (and locked)."""
        condition, arguments = self._to_do(bounds, spared)
        return self._digest(self._sides()[0][0], condition), arguments

    def digest_written(self, bounds: Bounds) -> Query:
        """Digest the target of the rows that this transaction has written: their xmin is its own id."""
        own = f"{self.shape.table}.xmin::text = (select mod(pg_current_xact_id()::text::numeric, 4294967296)::text)"
        condition = f"{self.shape.within(bounds)} and {own}"
        return self._digest(self._sides()[1][0], condition), bounds.arguments()

    def compare(self, bounds: Bounds, spared: Sequence[Key]) -> Query:
        """Compare f(source) with the target, and count what is still to do, in one snapshot."""
        expected, actual = self._sides()
        condition, arguments = self._within(bounds, spared)
        return self._compare(expected, actual, f"{self.shape.table} where {condition}"), arguments

    def read_to_compare(self, work: Transform, bounds: Bounds, spared: Sequence[Key]) -> Query:
        """Read every row of a range but those put aside, in key order, each value as text."""
        condition, arguments = self._within(bounds, spared)
        return self._read(work, condition), arguments

    def compare_transformed(self, work: Transform) -> str:
        """Compare what the function made with the target: the arguments of `write`, in the snapshot of the read."""
        expected = [self._as_stored(self.types[column], _made(place)) for place, column in enumerate(work.writes)]
        actual = [self._stored(column) for column in work.writes]
        return self._compare(
            expected, actual, f"{self.shape.table} join {self._unnest(work)} on {self.shape.same(_MADE)}"
        )

    def a_row_left(self, bounds: Bounds, spared: Sequence[Key]) -> Query:
        """Find the key of a row of a range that is still to do."""
        condition, arguments = self._to_do(bounds, spared)
        return f"select {self.shape.as_text} from {self.shape.table} where {condition} limit 1", arguments

    def any_left(self, spared: Sequence[Key]) -> Query:
        """Ask whether any row of the table is still to do."""
        condition, arguments = self._to_do(Bounds(None, None), spared)
        return f"select exists (select from {self.shape.table} where {condition})", arguments

    def left(self, bounds: Bounds, spared: Sequence[Key]) -> Query:
        """Count the rows of a range, and those of them that are still to do."""
        condition, arguments = self._within(bounds, spared)
        return self._compare([], [], f"{self.shape.table} where {condition}"), arguments

    # -------------------------------------------------------------------------------------------------------- pieces

    def _within(self, bounds: Bounds, spared: Sequence[Key]) -> Query:
        arguments = bounds.arguments()
        if not spared:
            return self.shape.within(bounds), arguments
        return f"{self.shape.within(bounds)} and not {self._spared(len(arguments) + 1)}", [*arguments, _as_json(spared)]

    def _to_do(self, bounds: Bounds, spared: Sequence[Key]) -> Query:
        arguments = bounds.arguments()
        within = self.shape.within(bounds)
        if not spared:
            return f"{within} and ({self.definition.todo})", arguments
        # CASE, because the order of ANDed conditions is the planner's, and asking the predicate may be what fails
        todo = f"case when {self._spared(len(arguments) + 1)} then false else ({self.definition.todo}) end"
        return f"{within} and {todo}", [*arguments, _as_json(spared)]

    def _spared(self, parameter: int) -> str:
        own = ", ".join(f"{self.shape.table}.{column.sql}::text" for column in self.shape.columns)
        theirs = ", ".join(f"spared.key ->> {place}" for place in range(len(self.shape.columns)))
        return f"(({own}) in (select {theirs} from jsonb_array_elements(${parameter}::text::jsonb) as spared (key)))"

    def _read(self, work: Transform, condition: str) -> str:
        keys = ", ".join(f"{self.shape.table}.{key.sql}::text" for key in self.shape.columns)
        reads = ", ".join(f"{self.shape.table}.{quoted(column)}::text" for column in work.reads)
        return f"select {keys}, {reads} from {self.shape.table} where {condition} order by {self.shape.order}"

    def _unnest(self, work: Transform) -> str:
        names = [f"{_MADE}_k{place}" for place in range(len(self.shape.columns))]
        names += [f"{_MADE}_w{place}" for place in range(len(work.writes))]
        arrays = ", ".join(f"${place}::text[]" for place in range(1, len(names) + 1))
        return f"unnest({arrays}) as {_MADE} ({', '.join(names)})"

    def _sides(self) -> tuple[list[str], list[str]]:
        work = self.definition.work
        if isinstance(work, Assignments):
            return (
                [self._as_stored(self.types[column], f"({sql})") for column, sql in work.columns.items()],
                [self._stored(column) for column in work.columns],
            )
        expected, actual = f"({self.definition.expected})", f"({self.definition.actual})"
        if self.actual_type is None:
            return [expected], [actual]
        actual = f"{actual}::text" if self.actual_type.as_text else actual
        return [self._as_stored(self.actual_type, expected)], [actual]

    @staticmethod
    def _as_stored(kind: ColumnType, sql: str) -> str:
        """Write a value as it becomes when it is assigned to a column of the type, in a form that can be compared."""
        value = f"{sql}::{kind.name}::{kind.full}"
        return f"{value}::text" if kind.as_text else value

    def _stored(self, column: str) -> str:
        value = f"{self.shape.table}.{quoted(column)}"
        return f"{value}::text" if self.types[column].as_text else value

    def _digest(self, expression: str, condition: str) -> str:
        keys = self.shape.order
        return (
            f"select count(*) as rows, bit_xor(hash_record_extended(row({keys}, value), 0)) as digest from ("
            f"select {keys}, ({expression}) as value from {self.shape.table} where {condition} offset 0"
            f") as {self.shape.alias}"
        )

    def _compare(self, expected: Sequence[str], actual: Sequence[str], source: str) -> str:
        """Compare row by row, each expression computed once (OFFSET 0 keeps the planner from writing it out twice).

        The digests are the exclusive or of a 64-bit hash of key and values, so the order of rows does not matter, and
        a key makes each row's hash its own. Equal values have equal hashes: those of a target are only computed where
        it differs.
        """
        keys = [f"k{place}" for place in range(len(self.shape.columns))]
        places = range(len(expected))
        columns = [f"{self.shape.table}.{key.sql} as k{place}" for place, key in enumerate(self.shape.columns)]
        columns += [f"{sql} as e{place}" for place, sql in enumerate(expected)]
        columns += [f"{sql} as a{place}" for place, sql in enumerate(actual)]
        columns.append(f"({self.definition.todo}) as todo")
        differs = " or ".join(f"e{place} is distinct from a{place}" for place in places) or "false"

        def hashed(side: str) -> str:
            values = ", ".join([*keys, *(f"{side}{place}" for place in places)])
            return f"hash_record_extended(row({values}), 0)" if places else "null::bigint"

        key = f"array[{', '.join(f'{name}::text' for name in keys)}]"
        return (
            "select count(*) as rows, count(*) filter (where todo) as left, bit_xor(hash) as expected,"
            f" bit_xor(case when differs then {hashed('a')} else hash end) as actual,"
            f" count(*) filter (where differs) as differing, min({key}) filter (where todo or differs) as sample"
            f" from (select *, {differs} as differs, {hashed('e')} as hash"
            f" from (select {', '.join(columns)} from {source} offset 0) as valued offset 0) as compared"
        )


def _made(place: int) -> str:
    return f"{_MADE}.{_MADE}_w{place}"


def _as_json(keys: Sequence[Key]) -> str:
    return json.dumps([list(key) for key in keys])


async def read_walk(connection: Connection, definition: Definition) -> Walk:
    """Look up what the definition's SQL needs to know. Raises `DefinitionError` where it does not fit the schema."""
    shape = await read_key_shape(connection, definition)
    work = definition.work
    names: Sequence[str] = ()
    if isinstance(work, Assignments):
        names = list(work.columns)
    elif isinstance(work, Transform):
        names = [*work.reads, *work.writes]
    shown = None if definition.actual is None else _column_of(definition.actual, shape)
    rows = await connection.fetch(_TYPES, definition.table, [*names, *([] if shown is None else [shown])])
    types = {
        row["name"]: ColumnType(row["sql_type"], row["full_type"], row["is_composite"] or row["base"] in _AS_TEXT)
        for row in rows
    }
    for name in names:
        if name not in types:
            raise DefinitionError(f"{definition.name}: there is no {definition.table}.{name}")
    return Walk(definition, shape, types, types.get(shown) if shown is not None else None)


_COLUMN: Final = re.compile(r'(?P<name>[A-Za-z_][\w$]*|"(?:[^"]|"")+")')


def _column_of(actual: str, shape: KeyShape) -> str | None:
    """Return the column that an expression is, where it is nothing else."""
    found = _COLUMN.fullmatch(actual.removeprefix(f"{shape.alias}."))
    if found is None:
        return None
    name = found["name"]
    return read_column(name) if name.startswith('"') else name.lower()
