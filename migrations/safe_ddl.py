"""Statements that change a schema under live traffic, so that nobody waits behind them.

The rules, and where each is kept:

- **No long wait for a lock.** A statement that waits for ACCESS EXCLUSIVE holds up everybody who comes after it, so the
  session's `lock_timeout` is short (`SESSION_SETTINGS`). When it strikes, the revision's transaction is rolled back,
  which frees all it had locked, and the runner comes again after a growing, random pause. There is no retry inside a
  transaction: it would sleep on the locks it has.
- **A revision is either one transaction or a row of repeatable steps.** `run` and `drop_tables` are for the first kind.
  The other functions commit as they go: each looks first at what is there, so a revision that was interrupted anywhere
  is simply run again.
- **Indexes of a live table** are built and dropped CONCURRENTLY; an INVALID one, left by an interrupted build, is
  dropped and built again.
- **Constraints of a live table** are added NOT VALID (new rows are checked at once) and validated in a later
  transaction that lets writers go on.

A table that is created in the same revision is seen by nobody yet: plain statements are right there.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from alembic import op
from sqlalchemy import Row, text
from sqlalchemy.exc import IntegrityError

_CHECK_VIOLATION = "23514"

SESSION_SETTINGS = {"lock_timeout": "1s", "statement_timeout": "60s", "idle_in_transaction_session_timeout": "60s"}
"""Of every migrating session. 1 s is what a request may be held up behind DDL; a statement on a table in use that takes
a minute (a rewrite, say) has no place in a migration. The steps that scan a whole table lift that for themselves."""

CONCURRENT_LOCK_TIMEOUT = "30s"
"""For CONCURRENTLY and VALIDATE: they make no writer wait, but wait themselves for every transaction that is open.
Twice the 15 s after which the workers' own transactions are ended."""


def run(*statements: str) -> None:
    """Run statements in the revision's transaction, one after the other."""
    for statement in statements:
        op.execute(text(_literal(statement)))


def drop_tables(*names: str) -> None:
    """Drop tables in the revision's transaction, in the order given: the ones that refer to others come first."""
    # A downgrade is asked for by name, and what used the table is gone with the release: nobody breaks.
    run(*(f"-- squawk-ignore ban-drop-table\ndrop table {name}" for name in names))


def create_index_concurrently(name: str, on: str, *, unique: bool = False) -> None:
    """Build index `name`, `on` being all that follows ON (`products (category)`), while writers go on.

    Commits what the revision did before. A valid index of the name is left as it is, an INVALID one is replaced.
    """
    if not offline():
        found = look_up("select i.indisvalid from pg_index i where i.indexrelid = to_regclass(:name)", name=name)
        if found is not None and found.indisvalid:
            return
        if found is not None:
            drop_index_concurrently(name)
    kind = "unique index" if unique else "index"
    lasting(f"create {kind} concurrently if not exists {name} on {on}")


def drop_index_concurrently(name: str) -> None:
    """Drop an index while readers and writers go on; none of that name is right as well. Commits what came before."""
    lasting(f"drop index concurrently if exists {name}")


def add_check(table: str, name: str, condition: str) -> None:
    """Add a check that binds new and changed rows at once, and old ones after `validate`. Commits as it goes."""
    _add_constraint(table, name, f"check ({condition})")


def add_foreign_key(table: str, name: str, columns: str, references: str) -> None:
    """Add a foreign key (`columns` → `references`, as in `parents (id)`) like `add_check` does. Commits as it goes."""
    _add_constraint(table, name, f"foreign key ({columns}) references {references}")


def validate(table: str, name: str) -> None:
    """Check the old rows against a constraint while readers and writers go on. Commits as it goes.

    A row that breaks it ends the migration with that row's error; the constraint stays as it was, NOT VALID.
    """
    if not offline():
        found = _constraint(table, name)
        if found is not None and found.convalidated:
            return
    # To validate what is valid already does nothing.
    lasting(f"-- squawk-ignore prefer-robust-stmts\nalter table {table} validate constraint {name}")


def validate_unless_broken(table: str, name: str) -> None:
    """Do as `validate`, but leave the constraint NOT VALID where an old row breaks it: it binds what is written on.

    For bounds that came after the rows. `catalog doctor` names the rows; once they are mended, the constraint can be
    validated by hand.
    """
    try:
        validate(table, name)
    except IntegrityError as error:
        if getattr(error.orig, "sqlstate", None) != _CHECK_VIOLATION:
            raise


def offline() -> bool:
    """Say whether SQL is only being written down: then there is no database to look at."""
    return op.get_context().as_sql


def look_up(query: str, **values: object) -> Row[Any] | None:
    """Return the first row that a query finds in the database, or None."""
    return op.get_bind().execute(text(query), values).first()


def lasting(*statements: str) -> None:
    """Run statements that may take as long as the table is large, without holding up others: CONCURRENTLY, VALIDATE.

    Each is committed on its own, and so is what came before.
    """
    with unhurried():
        run(*statements)


@contextmanager
def unhurried() -> Iterator[None]:
    """Commit what came before, and every statement inside on its own, with the time-outs that `lasting` work needs."""
    with op.get_context().autocommit_block():
        run(f"set lock_timeout = '{CONCURRENT_LOCK_TIMEOUT}'", "set statement_timeout = 0")
        try:
            yield
        finally:
            run(*(f"set {name} = '{SESSION_SETTINGS[name]}'" for name in ("lock_timeout", "statement_timeout")))


def commit() -> None:
    """Commit what the revision did so far; it must be such that a repetition finds it done."""
    with op.get_context().autocommit_block():
        pass


def _add_constraint(table: str, name: str, definition: str) -> None:
    if offline() or _constraint(table, name) is None:
        # There is no IF NOT EXISTS for it: the look above stands for that.
        run(f"-- squawk-ignore prefer-robust-stmts\nalter table {table} add constraint {name} {definition} not valid")
        commit()


def _constraint(table: str, name: str) -> Row[Any] | None:
    return look_up(
        "select c.convalidated from pg_constraint c where c.conrelid = to_regclass(:on) and c.conname = :name",
        on=table,
        name=name,
    )


def _literal(statement: str) -> str:
    """Escape what SQLAlchemy would take for a bind: revisions are literal SQL."""
    return statement.replace(":", r"\:")
