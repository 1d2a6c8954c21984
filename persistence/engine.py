"""Connections to Postgres: one pool a process, and the only place where a transaction begins.

The pool is SQLAlchemy's; statements go to asyncpg directly, because a batch is a handful of statements with arrays as
arguments, and what an ORM would add is paid per row.
"""

import time
from collections.abc import AsyncIterable, AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final, Protocol, cast

import asyncpg
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from persistence.address import read_address
from persistence.dates import use_exact_dates
from persistence.faults import ConnectionTimeoutError, Fault, TooMuchAtOnceError, fault_of


class Connection(Protocol):
    """The part of asyncpg's connection that we use; it has no types of its own."""

    async def execute(self, query: str, *args: object, timeout: float | None = None) -> str:  # noqa: ASYNC109 - asyncpg's
        """Run statements; returns the last command tag, such as `INSERT 0 3`."""
        ...

    async def fetch(self, query: str, *args: object) -> Sequence[Any]:
        """Run one statement; returns its rows."""
        ...

    async def fetchrow(self, query: str, *args: object) -> Any: ...  # noqa: ANN401
    async def fetchval(self, query: str, *args: object, timeout: float | None = None) -> Any: ...  # noqa: ANN401, ASYNC109
    def cursor(self, query: str, *args: object, prefetch: int | None = None) -> AsyncIterable[Any]:
        """Run one statement within a transaction; its rows come `prefetch` at a time, as they are asked for."""
        ...

    def is_in_transaction(self) -> bool: ...


Engine = AsyncEngine
"""A pool of connections."""

COMMAND_TIMEOUT_S: Final = 20.0
"""Longest wait for a statement's answer: above every time-out of the server, below what a drain waits for."""
POOL_TIMEOUT_S: Final = 5.0
"""Longest wait for a connection of the pool to become free."""

READ_TIMEOUT_MS: Final = 1_000
"""What one statement of a query may take of a backend; by the contract."""
READ_LOCK_TIMEOUT_MS: Final = 500
"""How long it waits for a lock: by that, what is held up by others is told from what takes long itself."""
_READ_BOUNDS: Final = f"; set statement_timeout = {READ_TIMEOUT_MS}; set lock_timeout = {READ_LOCK_TIMEOUT_MS}"


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """How many connections, and how they are kept. Times in seconds."""

    size: int = 5
    max_overflow: int = 5
    pre_ping: bool = False
    recycle_s: int = 3600
    echo: bool = False


_SESSION: Final = """
set tcp_keepalives_idle = 10; set tcp_keepalives_interval = 5; set tcp_keepalives_count = 3;
set tcp_user_timeout = 20000; set plan_cache_mode = force_custom_plan;
set datestyle = 'ISO, MDY'; set intervalstyle = 'postgres'; set timezone = 'UTC'; set extra_float_digits = 1;
set bytea_output = 'hex'; set lc_monetary = 'C'; set standard_conforming_strings = on;
select set_config('search_path', quote_ident(n.nspname) || ', public', false)
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where c.oid = to_regclass('products')"""
"""The server gives up on a silent client by itself, so that the locks of a machine that vanished are released within
about half a minute. A plan made while a table was empty reads the whole of it for ever after; planning anew costs a
batch some 0.1 ms a statement. A value has one text (keys of backfills travel as text), and a name one table, whatever
role and database have as their defaults. Set once connected: a pooler in between refuses what it does not know while
connecting.
"""


def create_engine(
    url: str, pool: PoolSettings, session_name: str, *, kind: str = "", for_queries: bool = False
) -> AsyncEngine:
    """Make the pool; connects only when first used. `for_queries`: each statement has the time of a read.

    Sessions are called `kind` and `session_name`, or `kind` and the `application_name` of the URL where it has one.
    Raises `AddressError` for a URL that cannot be used.
    """
    address = read_address(url)

    async def connect() -> asyncpg.Connection:
        connection = await address.connect(session_name, kind=kind, command_timeout=COMMAND_TIMEOUT_S)
        try:
            await connection.execute(_SESSION + (_READ_BOUNDS if for_queries else ""))
            await use_exact_dates(connection)
        except BaseException:
            connection.terminate()
            raise
        return connection

    return create_async_engine(
        "postgresql+asyncpg://",
        async_creator=connect,
        pool_size=pool.size,
        max_overflow=pool.max_overflow,
        pool_pre_ping=pool.pre_ping,
        pool_recycle=pool.recycle_s,
        pool_timeout=POOL_TIMEOUT_S,
        echo=pool.echo,
        hide_parameters=True,
    )


@dataclass(slots=True)
class DatabaseTime:
    """Seconds spent with a connection in hand."""

    seconds: float = 0.0


_spent: ContextVar[DatabaseTime | None] = ContextVar("database_time", default=None)


@contextmanager
def database_time() -> Iterator[DatabaseTime]:
    """Add up the time that this task, and those it starts, spend with a connection."""
    spent = DatabaseTime()
    token = _spent.set(spent)
    try:
        yield spent
    finally:
        _spent.reset(token)


@asynccontextmanager
async def connected(engine: AsyncEngine) -> AsyncIterator[Connection]:
    """Borrow a connection for single statements. One that fails in any way but by a defect goes back to nobody.

    Raises `ConnectionTimeoutError` where none can be had in time.
    """
    async with AsyncExitStack() as stack:
        try:
            borrowed = await stack.enter_async_context(engine.connect())
        except TimeoutError as error:
            raise ConnectionTimeoutError from error
        started = time.perf_counter()
        try:
            raw = await borrowed.get_raw_connection()
            yield cast("Connection", raw.driver_connection)
        except BaseException as error:
            await _give_up(borrowed, error)
            raise
        finally:
            if (spent := _spent.get()) is not None:
                spent.seconds += time.perf_counter() - started


async def _give_up(borrowed: AsyncConnection, error: BaseException) -> None:
    if not isinstance(error, Exception) or not _leaves_it_well(error):
        await borrowed.invalidate()


def _leaves_it_well(error: Exception) -> bool:
    """Say whether a connection may be used again after an error."""
    return isinstance(error, TooMuchAtOnceError) or fault_of(error) in {Fault.CONFLICT, Fault.DEFECT}


TRANSACTION_TIMEOUT: Final = "15s"
IDLE_TIMEOUT: Final = "5s"
LOCK_TIMEOUT: Final = "5s"
"""What a stopped or blocked worker may cost the others each, by what it does."""

_BEGIN: Final = f"""
begin isolation level read committed;
set local transaction_timeout = '{TRANSACTION_TIMEOUT}';
set local idle_in_transaction_session_timeout = '{IDLE_TIMEOUT}';
set local lock_timeout = '{LOCK_TIMEOUT}'"""


async def begin(connection: Connection, *also: str) -> None:
    """Begin a transaction that cannot outlive its time-outs, on a connection that `for_transaction` lent.

    `also` are statements without arguments that run in the same round trip, one after the other, each with a snapshot
    of its own.
    """
    await connection.execute(";\n".join((_BEGIN, *also)))


@asynccontextmanager
async def transaction(engine: AsyncEngine, *also: str) -> AsyncIterator[Connection]:
    """Begin a transaction, as `begin` does; whoever uses it commits, at one place, else it rolls back."""
    async with for_transaction(engine) as connection:
        await begin(connection, *also)
        yield connection


@asynccontextmanager
async def for_transaction(engine: AsyncEngine) -> AsyncIterator[Connection]:
    """Borrow a connection for one transaction, that may begin later; what is not committed is rolled back.

    A connection whose transaction ended by anything but a commit or a clean roll-back is closed.
    """
    async with connected(engine) as connection:
        try:
            yield connection
        except Exception as error:
            if connection.is_in_transaction() and _leaves_it_well(error):
                await connection.execute("rollback")
            raise
        if connection.is_in_transaction():
            await connection.execute("rollback")
