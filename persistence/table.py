"""A table's columns, declared once: what is selected, inserted, updated and erased follows, and how a row is read.

A column is a field of the value that a row is. How to read and write is laid out when the table is declared: all
columns of a row are taken at once, and rows are written column by column.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import date, datetime
from operator import attrgetter, itemgetter
from typing import Any, Final, Generic, TypeVar

import orjson

V = TypeVar("V")


def json_text(value: object) -> str | None:
    """Write JSON for a jsonb column; None is null."""
    return None if value is None else orjson.dumps(value).decode()


def json_value(text: str | None) -> Any:  # noqa: ANN401 - any JSON
    """Read the text of a jsonb column; null is None."""
    return None if text is None else orjson.loads(text)


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(f"{text}+00:00")


_SELECTED: Final = {"uuid": "{0}::text", "jsonb": "{0}::text as {1}"}
_IN_JSON: Final = {"timestamptz": "{0} at time zone 'UTC'"}
"""How a column is named in a select, and in an array of JSON, where not as it is."""
_READ: Final[Mapping[str, Callable[[Any], object]]] = {"jsonb": json_value}
_WRITE: Final[Mapping[str, Callable[[Any], object]]] = {"jsonb": json_text}
_FROM_JSON: Final[Mapping[str, Callable[[Any], object]]] = {"date": date.fromisoformat, "timestamptz": _moment}
"""What is made of a value where types differ, by the column's type; null is None in an array of JSON, whatever type."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its name, its Postgres type, and what else there is to say of it.

    `read` and `write` stand where the type alone does not say how: `read` makes the field of what is selected, `write`
    what is sent of the field (of jsonb both see its text).
    """

    name: str
    kind: str
    changes: bool = True
    """False: it stays as it was inserted."""
    read: Callable[[Any], object] | None = None
    write: Callable[[Any], object] | None = None
    field: str = ""
    """The field's name, where it has another."""
    erased: str | None = None
    """What stands there once the row's personal data is erased, as SQL; None: it stays."""

    @property
    def of(self) -> str:
        """The name of its field."""
        return self.field or self.name


class Table(Generic[V]):
    """The columns of a table whose rows are values of a dataclass; `id` is their key where there is one.

    `also_read` are fields that are selected by an expression and written by other means; `also_written` are columns
    that follow from the value, and are not read back.
    """

    def __init__(
        self,
        name: str,
        row: type[V],
        columns: Sequence[Column],
        also_read: Sequence[Column] = (),
        also_written: Sequence[Column] = (),
    ) -> None:
        """Raise `TypeError` unless each field is read from a column."""
        self.name = name
        self._selected = (*columns, *also_read)
        self._written = (*columns, *also_written)
        self._changed = tuple(one for one in self._written if one.changes or one.name == "id")
        self.names = tuple(one.name for one in self._selected)
        """The names of what is selected."""
        ordered = _in_order_of_fields(name, row, self._selected)
        self.read = _reader(row, ordered)
        """Read a row that has the columns of `selected`."""
        self.to_insert: Callable[[Iterable[V]], list[Sequence[object]]] = _writer(self._written)
        """Return the columns of new rows, those of `inserted`."""
        self.to_update: Callable[[Iterable[V]], list[Sequence[object]]] = _writer(self._changed)
        """Return the columns of changed rows, those of `updated`."""
        self.read_json: Callable[[Sequence[Any]], V] = _json_reader(row, self._selected, ordered)
        """Read the values of `json_array`, but for the others."""

    def selected(self, alias: str = "", **instead: str) -> str:
        """Name the columns that `read` reads, of a row `alias`; `instead` has expressions for some of them."""
        alias = alias or self.name
        return ", ".join(
            f"{instead[one.name]} as {one.name}"
            if one.name in instead
            else _SELECTED.get(one.kind, "{0}").format(f"{alias}.{one.name}", one.name)
            for one in self._selected
        )

    def json_array(self, alias: str, *others: str) -> str:
        """Write the expression that makes a row an array of JSON, with other expressions behind its columns."""
        columns = (_IN_JSON.get(one.kind, "{0}").format(f"{alias}.{one.name}") for one in self._selected)
        return f"json_build_array({', '.join((*columns, *others))})"

    @property
    def inserted(self) -> Mapping[str, str]:
        """The types of the columns that a new row is written with, by name."""
        return {one.name: one.kind for one in self._written}

    @property
    def updated(self) -> Mapping[str, str]:
        """The types of the key and of the columns that may change, by name."""
        return {one.name: one.kind for one in self._changed}

    @property
    def erased(self) -> str:
        """The assignments that erase a row's personal data."""
        return ", ".join(f"{one.name} = {one.erased}" for one in self._written if one.erased is not None)


def _writer(columns: Sequence[Column]) -> Callable[[Iterable[object]], list[Sequence[object]]]:
    """Make the function that takes these columns of rows, each as it is sent."""
    takes = [(attrgetter(one.of), one.write or _WRITE.get(one.kind)) for one in columns]

    def write_columns(rows: Iterable[object]) -> list[Sequence[object]]:
        values = list(rows)
        return [
            list(map(take, values)) if write is None else [write(take(one)) for one in values] for take, write in takes
        ]

    return write_columns


def _in_order_of_fields(table: str, row: type, columns: Sequence[Column]) -> Sequence[Column]:
    """Order columns as a row takes them; each field is a column's, and each column a field's."""
    by_field = {one.of: one for one in columns}
    names = [one.name for one in fields(row)]
    if set(by_field) != set(names) or len(columns) != len(names):
        strange, lacking = sorted(set(by_field) - set(names)), sorted(set(names) - set(by_field))
        msg = f"{table}: {row.__name__} has no field for the columns {strange}; its fields {lacking} have no column"
        raise TypeError(msg)
    return [by_field[name] for name in names]


def _reader(row: Callable[..., V], columns: Sequence[Column]) -> Callable[[Any], V]:
    """Make the function that reads a row by the names of its columns."""
    names = [one.name for one in columns]
    take: Callable[[Any], Sequence[Any]] = itemgetter(*names)
    reads = [one.read or _READ.get(one.kind) for one in columns]
    read_at = [(place, read) for place, read in enumerate(reads) if read is not None]

    def read_row(found: Any) -> V:  # noqa: ANN401 - asyncpg's Record has no types
        values = list(take(found))
        for place, read in read_at:
            values[place] = read(values[place])
        return row(*values)

    return read_row


def _json_reader(
    row: Callable[..., V], selected: Sequence[Column], columns: Sequence[Column]
) -> Callable[[Sequence[Any]], V]:
    """Make the function that reads an array of JSON, whose values are in the order of what is selected."""
    take: Callable[[Any], Sequence[Any]] = itemgetter(*(selected.index(one) for one in columns))
    read_at = [(place, _FROM_JSON[one.kind]) for place, one in enumerate(columns) if one.kind in _FROM_JSON]
    if not read_at and list(selected) == list(columns):
        return lambda found: row(*found)

    def read_row(found: Sequence[Any]) -> V:
        values = list(take(found))
        for place, read in read_at:
            if values[place] is not None:
                values[place] = read(values[place])
        return row(*values)

    return read_row
