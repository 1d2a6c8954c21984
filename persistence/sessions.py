"""Is a session what the workers take it for: in UTF8, and the same backend from its first transaction to its last.

A pooler that gives each transaction another backend (PgBouncer in transaction mode) takes away what belongs to a
session: prepared statements, settings, locks, what it listens to; one by statement takes transactions away, too.
Nothing in the protocol tells; so it is tried out.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import asyncpg

from persistence.address import Address

ANSWER_TIMEOUT_S: Final = 5.0
ROUNDS: Final = 5
"""How often a pooler is tried: others may take its backends meanwhile, so that ours comes back to us by chance."""

SHARED: Final = (
    "a pooler gives each transaction another session: set it to session mode (PgBouncer: pool_mode = session), or give"
    " a direct URL"
)
_LOST: Final = (
    asyncpg.InvalidSQLStatementNameError,
    asyncpg.DuplicatePreparedStatementError,
    asyncpg.NoActiveSQLTransactionError,
)
"""What only a session that is not ours any more says of what we made in it."""
_NOT_POSTGRES: Final = asyncpg.ProtocolViolationError
"""How a pooler by statement refuses to begin a transaction, before it closes the connection: Postgres takes a begin."""


async def unfit_because(address: Address) -> str | None:
    """Say why the sessions of an address cannot be worked with, and the remedy; None when they can.

    Takes two connections. Raises what asyncpg raises, TimeoutError where it takes long.
    """
    async with _session(address) as ours, _session(address) as other:
        encoding = ours.get_settings().server_encoding
        if encoding != "UTF8":
            return (
                f"the database's encoding is {encoding}: make one with encoding UTF8 (create database … encoding 'UTF8'"
                " template template0), and move the data there"
            )
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            try:
                return SHARED if await _is_shared(ours, other) else None
            except _LOST:
                return SHARED
            except asyncpg.PostgresConnectionError as error:
                if isinstance(error, _NOT_POSTGRES) or isinstance(error.__cause__ or error.__context__, _NOT_POSTGRES):
                    return SHARED
                raise


async def _is_shared(ours: asyncpg.Connection, other: asyncpg.Connection) -> bool:
    """Leave a mark in a session, let another transaction take its backend, and look whether the mark is still there."""
    mark = secrets.token_hex(8)
    backend = await _ask(ours, "select pg_backend_pid(), set_config('catalog.mark', $1, false)", mark)
    direct = backend[0] == ours.get_server_pid()  # a pooler makes up a number of its own
    for _ in range(1 if direct else ROUNDS):
        await other.execute("begin")
        theirs = await other.fetchval("select pg_backend_pid()")
        if theirs == backend[0] or await _ask(ours, _LOOK) != (backend[0], mark):
            return True
        await other.execute("rollback")
    return False


_LOOK: Final = "select pg_backend_pid(), current_setting('catalog.mark', true)"


async def _ask(connection: asyncpg.Connection, query: str, *args: object) -> tuple[Any, ...]:
    """Ask in one transaction: between two of them the backend may change."""
    await connection.execute("begin")
    row = await connection.fetchrow(query, *args)
    await connection.execute("commit")
    return tuple(row or ())


@asynccontextmanager
async def _session(address: Address) -> AsyncIterator[asyncpg.Connection]:
    connection = await address.connect("catalog-start", statement_cache_size=0)
    try:
        yield connection
    finally:
        connection.terminate()
