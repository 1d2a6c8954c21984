"""Bring a database to a revision and back, safely from several places at once.

Everything runs on one asyncpg connection that holds a session's advisory lock, so migrators take turns: the second
finds nothing left to do. A revision that meets a held lock is rolled back and run again after a growing, random pause;
each revision is committed on its own, so after a crash the next `upgrade` goes on from the last one.
"""

import asyncio
import io
import random
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import asyncpg
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, NullPool, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from migrations.gate import NotYetError, RefusedError
from migrations.safe_ddl import SESSION_SETTINGS

MAIN: Final = "main@head"
"""The target of `upgrade`: the newest revision that takes nothing away."""
CONTRACT: Final = "contract@head"
"""The end of the contracting branch, where only `contract` goes."""

_MIGRATORS_LOCK: Final = 0x636174616C6F67  # any number that all migrators share: "catalog"
_TURN_POLL_S: Final = 0.2
_CONNECT_TIMEOUT_S: Final = 5.0
_FIRST_PAUSE_S: Final = 0.25
_LONGEST_PAUSE_S: Final = 10.0
_NOT_THERE_YET: Final = (
    OSError,
    TimeoutError,
    asyncpg.CannotConnectNowError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.TooManyConnectionsError,
    asyncpg.ConnectionDoesNotExistError,
)
_HELD_UP: Final = frozenset({"55P03", "40P01"})  # lock_not_available, deadlock_detected
_PLACE: Final = Path(__file__).parent


Database = str | Mapping[str, Any]
"""A URL as asyncpg reads it, or the arguments of its `connect`."""


class MigrationError(Exception):
    """The database could not be brought where it should be; the text is one line for an operator."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait before giving up, in seconds: for the database to answer, for our turn, for a free lock."""

    database_s: float = 60.0
    turn_s: float = 900.0
    lock_s: float = 300.0


@dataclass(frozen=True, slots=True)
class Revision:
    """One line of the history: a revision, the one it follows or (a branch's first) needs, its branch and title."""

    revision: str
    follows: str | None
    needs: str | None
    branch: str
    title: str


async def upgrade(
    database: Database,
    target: str | None = None,
    *,
    patience: Patience | None = None,
    unfit_because: Callable[[], Awaitable[str | None]] | None = None,
) -> list[str]:
    """Bring the database up to `target` (the head of the main branch) and return the revisions that were applied.

    `unfit_because` is asked once the database answers; what it says refuses the database. Raises `MigrationError`: no
    database within the patience, a lock that never came free, an error of a statement, or a database at a revision that
    this release does not know.
    """
    return await _migrate(
        database, lambda config: command.upgrade(config, target or MAIN), patience, unfit=unfit_because
    )


async def downgrade(database: Database, target: str, *, patience: Patience | None = None) -> list[str]:
    """Take the database back to `target` (a revision, `-1` or `base`) and return the revisions that were taken back.

    What a revision holds is lost with it. Raises as `upgrade` does.
    """
    return await _migrate(database, lambda config: command.downgrade(config, target), patience)


async def contract(database: Database, *, finish_inline: bool = False, patience: Patience | None = None) -> list[str]:
    """Take away what the finished changes left behind, and return the revisions that were applied.

    Each contracting revision stands behind a gate (`migrations.gate`): backfill and verify must be there, as data, and
    every live worker must follow. With `finish_inline` the missing work is done first, in this very process. Raises
    `MigrationError` with the gate's reason; what was done until then stays done, and the next try goes on from there.
    """
    return await _migrate(
        database,
        lambda config: command.upgrade(config, CONTRACT),
        patience,
        {"contracting": True, "finish_inline": finish_inline},
    )


async def current(database: Database, *, patience: Patience | None = None) -> tuple[str, ...]:
    """Return the revisions the database is at: one a branch, sorted; none for an empty database."""

    def heads(connection: Connection) -> tuple[str, ...]:
        return tuple(sorted(MigrationContext.configure(connection).get_current_heads()))

    async with _alembic_connection(database, patience or Patience()) as connection:
        return await connection.run_sync(heads)


def history() -> list[Revision]:
    """Return every revision this release knows, oldest first."""
    scripts = ScriptDirectory.from_config(_config())
    return [
        Revision(
            script.revision,
            _single(script.down_revision),
            _single(script.dependencies),
            "contract" if "contract" in script.branch_labels else "main",
            script.doc,
        )
        for script in reversed(list(scripts.walk_revisions()))
    ]


def write_sql(one: Revision, *, down: bool = False) -> str:
    """Return the SQL of one revision, as a linter or a DBA reads it: what depends on a look at the data is left out."""
    output = io.StringIO()
    if down:
        command.downgrade(_config(output), f"{one.revision}:{one.follows or f'{one.branch}@base'}", sql=True)
    else:
        command.upgrade(_config(output), f"{one.follows or one.needs or 'base'}:{one.revision}", sql=True)
    return output.getvalue()


def _config(output: io.StringIO | None = None) -> Config:
    config = Config(output_buffer=output)
    config.set_main_option("script_location", str(_PLACE).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


async def _migrate(
    database: Database,
    step: Callable[[Config], None],
    patience: Patience | None,
    attributes: Mapping[str, bool] | None = None,
    unfit: Callable[[], Awaitable[str | None]] | None = None,
) -> list[str]:
    bounds = patience or Patience()
    config = _config()
    applied: list[str] = []
    config.attributes.update({"applied": applied, **(attributes or {})})

    def run(connection: Connection) -> None:
        config.attributes["connection"] = connection
        step(config)

    async with _alembic_connection(database, bounds, unfit) as connection:
        await _take_turn(connection, bounds.turn_s)
        await _patiently(connection, run, bounds.lock_s)
    return applied


async def _patiently(connection: AsyncConnection, run: Callable[[Connection], None], lock_s: float) -> None:
    """Run, and again when a lock was held: what was committed stays, what was not has freed its locks meanwhile."""
    clock = asyncio.get_running_loop()
    give_up_at = clock.time() + lock_s
    pause_s = _FIRST_PAUSE_S
    while True:
        try:
            await connection.run_sync(run)
        except (CommandError, RefusedError) as error:
            raise MigrationError(_first_line(error)) from error
        except NotYetError as error:
            await _roll_back(connection)
            if clock.time() + pause_s > give_up_at:
                raise MigrationError(_first_line(error)) from error
        except DBAPIError as error:
            await _roll_back(connection)
            held_up = getattr(error.orig, "sqlstate", None) in _HELD_UP
            if not held_up or clock.time() + pause_s > give_up_at:
                raise MigrationError(_one_line(error)) from error
        else:
            return
        await asyncio.sleep(random.uniform(pause_s / 2, pause_s))  # noqa: S311 (jitter, no secret)
        pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)


async def _roll_back(connection: AsyncConnection) -> None:
    with suppress(DBAPIError):  # a lost connection has rolled back by itself; what it was doing is the better error
        await connection.rollback()


async def _take_turn(connection: AsyncConnection, turn_s: float) -> None:
    """Take the migrators' lock.

    It is asked for again and again, never waited for: a waiting statement is an open snapshot, and the other migrator's
    CREATE INDEX CONCURRENTLY would wait for that snapshot while we wait for its lock.
    """
    clock = asyncio.get_running_loop()
    give_up_at = clock.time() + turn_s
    while True:
        taken = await connection.scalar(text("select pg_try_advisory_lock(:lock)"), {"lock": _MIGRATORS_LOCK})
        await connection.commit()
        if taken:
            return
        if clock.time() > give_up_at:
            raise MigrationError(f"another migrator has been at work on this database for {turn_s:.0f} s")
        await asyncio.sleep(_TURN_POLL_S)


@asynccontextmanager
async def connected(database: Database, patience: Patience | None = None) -> AsyncIterator[asyncpg.Connection]:
    """Connect as a migrating session, waiting for a database that is not there yet. Raises `MigrationError`."""
    connection = await _reach(database, (patience or Patience()).database_s)
    try:
        yield connection
    finally:
        await connection.close(timeout=_CONNECT_TIMEOUT_S)


@asynccontextmanager
async def _alembic_connection(
    database: Database, patience: Patience, unfit: Callable[[], Awaitable[str | None]] | None = None
) -> AsyncIterator[AsyncConnection]:
    async with connected(database, patience) as driver:
        if unfit is not None and (reason := await unfit()):
            raise MigrationError(reason)  # before alembic's first transaction, which some poolers do not let begin

        async def borrow() -> asyncpg.Connection:
            return driver

        engine = create_async_engine("postgresql+asyncpg://", async_creator=borrow, poolclass=NullPool)
        try:
            async with engine.connect() as connection:
                yield connection
        finally:
            await engine.dispose()


async def _reach(database: Database, database_s: float) -> asyncpg.Connection:
    """Connect, waiting with back-off for a database that is not there yet: not up, not created, or full."""
    clock = asyncio.get_running_loop()
    give_up_at = clock.time() + database_s
    pause_s = _FIRST_PAUSE_S
    told = {"dsn": database.replace("postgresql+asyncpg:", "postgresql:", 1)} if isinstance(database, str) else database
    arguments = {
        "timeout": _CONNECT_TIMEOUT_S,
        "statement_cache_size": 0,  # the schema changes under every cached plan
        "server_settings": {"application_name": "catalog-migrations"},
        **told,
    }
    while True:
        try:
            return await _session(arguments)
        except ssl.SSLError as error:
            raise MigrationError(f"the database cannot be used: {_first_line(error)}") from error
        except _NOT_THERE_YET as error:
            if clock.time() + pause_s > give_up_at:
                raise MigrationError(f"no database within {database_s:.0f} s: {_first_line(error)}") from error
        except (asyncpg.PostgresError, asyncpg.InterfaceError, ValueError) as error:
            raise MigrationError(f"the database cannot be used: {_first_line(error)}") from error
        await asyncio.sleep(pause_s)
        pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)


async def _session(arguments: Mapping[str, Any]) -> asyncpg.Connection:
    """Connect, and set what the session is to keep: a pooler in between refuses to be told while connecting."""
    connection: asyncpg.Connection = await asyncpg.connect(**arguments)
    try:
        await connection.execute("; ".join(f"set {name} = '{value}'" for name, value in SESSION_SETTINGS.items()))
    except BaseException:
        connection.terminate()
        raise
    return connection


def _single(revision: str | list[str] | tuple[str, ...] | None) -> str | None:
    return revision if isinstance(revision, str) else None


def _one_line(error: DBAPIError) -> str:
    statement = " ".join((error.statement or "").split())
    return f"{_first_line(error.orig or error)}, in: {statement[:200]}"


def _first_line(error: BaseException) -> str:
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__
