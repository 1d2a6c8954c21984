"""What an author writes: which rows to walk, and what to do to a chunk of them. Read from files, checked when loaded.

A definition is a module of constants and at most one function that imports no application code, so that it keeps its
meaning whatever becomes of the code around it. The guide for authors stands beside the files.
"""

import hashlib
import importlib.util
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any, Final

from persistence.backfill.names import read_column, read_table

CHUNK: Final = "{chunk}"
"""Stands in an author's statement for "the rows of this chunk that are still to do"."""

Row = Mapping[str, str | None]
"""A row as a Python transform sees it: each value as PostgreSQL's text, or None."""

MAX_ROWS_SQL: Final = 250_000
"""Most rows of a chunk that never leaves the server. At the best rate seen (300,000 rows/s) it takes about a second."""
MAX_ROWS_PYTHON: Final = 10_000
"""Most rows of a chunk that goes through Python: what is in memory at once, a few MB at 100 bytes a value."""


class DefinitionError(Exception):
    """A definition cannot be used; the text says why, for its author."""


@dataclass(frozen=True, slots=True)
class Assignments:
    """Columns of the walked row, each with the SQL expression it gets."""

    columns: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement for the whole chunk. It returns one number: how many of the chunk's rows it treated."""

    sql: str


@dataclass(frozen=True, slots=True)
class Transform:
    """A Python function from the columns read to the columns written, row by row."""

    reads: Sequence[str]
    writes: Sequence[str]
    function: Callable[[Row], Row]


@dataclass(frozen=True, slots=True)
class Definition:
    """A backfill. `key` are the columns of a unique index in its order, `todo` is the predicate "still to do".

    Tables are written as SQL needs them, columns as they are called.
    """

    name: str
    digest: str
    summary: str
    table: str
    key: Sequence[str]
    todo: str
    work: Assignments | Statement | Transform
    row_local: bool
    """The assignments read nothing but their own row: no lock ahead is needed."""
    expected: str | None
    actual: str | None
    """Expressions over a walked row: f(source), and what the target holds. Given with a statement, else derived."""
    consumes_source: bool
    """The work takes the source away, so f(source) is compared with the target in the chunk's own transaction."""
    also_lock: Mapping[str, Sequence[str]]
    """Other tables whose rows are locked after the walked ones, with the columns that carry the walked key."""
    phases: Mapping[str, Sequence[str]]
    """Changes whose phase must be one of those named while a chunk runs."""
    reverse: str | None
    irreversible: str | None
    max_rows: int

    @property
    def locks_for_children(self) -> bool:
        """Whether rows of other tables may be written or made: then their parents must not even be referred to."""
        return isinstance(self.work, Statement)


_SELECT: Final = re.compile(r"\bselect\b", re.IGNORECASE)
_IN_QUOTES: Final = re.compile(r"""\"(?:[^"]|"")*\"|'(?:[^']|'')*'""")
_CONSTANTS: Final = frozenset(
    {
        "TABLE",
        "KEY",
        "TODO",
        "SET",
        "SQL",
        "READS",
        "WRITES",
        "ROW_LOCAL",
        "EXPECTED",
        "ACTUAL",
        "CONSUMES_SOURCE",
        "ALSO_LOCK",
        "PHASES",
        "REVERSE",
        "IRREVERSIBLE",
        "MAX_ROWS",
    }
)


def load_definitions(folder: Path) -> Mapping[str, Definition]:
    """Load every definition of a folder, by name. Raises `DefinitionError` for the first that cannot be used."""
    found = {path.stem: _load(path) for path in sorted(folder.glob("*.py")) if not path.stem.startswith("_")}
    for definition in found.values():
        if definition.reverse is not None and definition.reverse not in found:
            raise DefinitionError(f"{definition.name}: its reverse {definition.reverse!r} does not exist")
    return MappingProxyType(found)


def _load(path: Path) -> Definition:
    source = path.read_bytes()
    spec = importlib.util.spec_from_file_location(f"backfill_definition_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise DefinitionError(f"{path.stem}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise DefinitionError(f"{path.stem}: {type(error).__name__}: {error}") from error
    return read_definition(path.stem, module, hashlib.sha256(source).hexdigest())


def read_definition(name: str, module: ModuleType, digest: str) -> Definition:
    """Make a definition of a module's constants. Raises `DefinitionError` with what is wrong."""
    try:
        return _Reader(name, module).definition(digest)
    except DefinitionError as error:
        raise DefinitionError(f"{name}: {error}") from None


class _Reader:
    def __init__(self, name: str, module: ModuleType) -> None:
        self._name = name
        self._doc = (module.__doc__ or "").strip().splitlines()
        self._values = {key: value for key, value in vars(module).items() if key.isupper() and not key.startswith("_")}
        self._function: Callable[[Row], Row] | None = getattr(module, "transform", None)
        unknown = self._values.keys() - _CONSTANTS
        if unknown:
            raise DefinitionError(f"no such setting: {', '.join(sorted(unknown))}")

    def definition(self, digest: str) -> Definition:
        work = self._work()
        python = isinstance(work, Transform)
        definition = Definition(
            name=self._name,
            digest=digest,
            summary=self._doc[0] if self._doc else "",
            table=_table("TABLE", self._text("TABLE")),
            key=self._columns("KEY"),
            todo=self._text("TODO"),
            work=work,
            row_local=self._flag("ROW_LOCAL"),
            expected=self._optional("EXPECTED"),
            actual=self._optional("ACTUAL"),
            consumes_source=self._flag("CONSUMES_SOURCE"),
            also_lock={_table("ALSO_LOCK", name): columns for name, columns in self._lists("ALSO_LOCK").items()},
            phases=self._lists("PHASES"),
            reverse=self._optional("REVERSE"),
            irreversible=self._optional("IRREVERSIBLE"),
            max_rows=self._values.get("MAX_ROWS", MAX_ROWS_PYTHON if python else MAX_ROWS_SQL),
        )
        _check(definition)
        return definition

    def _work(self) -> Assignments | Statement | Transform:
        given = [one for one in ("SET", "SQL") if one in self._values] + (["transform"] if self._function else [])
        if len(given) != 1:
            raise DefinitionError("it needs exactly one of SET, SQL and a function named transform")
        if self._function is not None:
            return Transform(self._columns("READS"), self._columns("WRITES"), self._function)
        if given == ["SET"]:
            columns = self._values["SET"]
            if not isinstance(columns, dict) or not columns:
                raise DefinitionError("SET maps columns to SQL expressions")
            names = _columns("SET", tuple(columns))
            return Assignments(MappingProxyType(dict(zip(names, columns.values(), strict=True))))
        return Statement(self._text("SQL"))

    def _text(self, constant: str) -> str:
        value = self._values.get(constant)
        if not isinstance(value, str) or not value.strip():
            raise DefinitionError(f"{constant} is missing, or no text")
        return value.strip()

    def _optional(self, constant: str) -> str | None:
        return self._text(constant) if constant in self._values else None

    def _flag(self, constant: str) -> bool:
        return bool(self._values.get(constant, False))

    def _columns(self, constant: str) -> Sequence[str]:
        return _columns(constant, self._values.get(constant))

    def _lists(self, constant: str) -> Mapping[str, Sequence[str]]:
        value = self._values.get(constant, {})
        if not isinstance(value, dict):
            raise DefinitionError(f"{constant} maps a name to a tuple of names")
        return MappingProxyType({key: _columns(constant, names) for key, names in value.items()})


def _table(constant: str, value: str) -> str:
    name = read_table(value)
    if name is None:
        raise DefinitionError(f"{constant} is no plain name (others are written in double quotes): {value!r}")
    return name


def _columns(constant: str, value: Any) -> Sequence[str]:  # noqa: ANN401 (an author may have written anything)
    if not isinstance(value, tuple) or not value:
        raise DefinitionError(f'{constant} is a tuple of names, as in ("id",)')
    names = [read_column(name) if isinstance(name, str) else None for name in value]
    for name, written in zip(names, value, strict=True):
        if name is None:
            raise DefinitionError(f"{constant}: {written!r} is no name")
    return tuple(name for name in names if name is not None)


def _check(definition: Definition) -> None:
    """Refuse what would be wrong without anybody noticing."""
    work = definition.work
    if isinstance(work, Statement):
        if CHUNK not in work.sql:
            raise DefinitionError(f"SQL must say {CHUNK} where it chooses its rows")
        if definition.expected is None or definition.actual is None:
            raise DefinitionError("beside SQL stand EXPECTED and ACTUAL, or nobody could verify it")
    elif definition.expected is not None or definition.actual is not None:
        raise DefinitionError("EXPECTED and ACTUAL follow from SET or transform by themselves")
    if definition.row_local:
        if not isinstance(work, Assignments):
            raise DefinitionError("only SET can be ROW_LOCAL")
        if any(_SELECT.search(_IN_QUOTES.sub(" ", sql)) for sql in (definition.todo, *work.columns.values())):
            raise DefinitionError("ROW_LOCAL reads nothing but the row itself, so it has no SELECT in it")
    if definition.consumes_source and not isinstance(work, Statement):
        raise DefinitionError("CONSUMES_SOURCE belongs to SQL")
    if definition.reverse is not None and definition.irreversible is not None:
        raise DefinitionError("it has a REVERSE, or is IRREVERSIBLE, not both")
    if not 1 <= definition.max_rows <= MAX_ROWS_SQL:
        raise DefinitionError(f"MAX_ROWS is 1 to {MAX_ROWS_SQL}")
