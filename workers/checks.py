"""What is checked before a worker starts: it waits for what is away, and refuses what is wrong."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import structlog

from persistence.engine import Engine, connected
from persistence.faults import Fault, fault_of
from workers.pipeline.patience import Patience

_log = structlog.get_logger(__name__)

T = TypeVar("T")

DURABLE: Final = frozenset({"on", "remote_apply", "remote_write"})
"""Values of synchronous_commit under which a commit survives a crash of the primary."""
OLDEST_SERVER: Final = 170000
"""transaction_timeout came with PostgreSQL 17."""


READY_TIMEOUT_S: Final = 2.0
"""What a probe waits for the database's answer; probes themselves give up after a few seconds."""


class StartRefusedError(Exception):
    """Something is set up wrongly; the text says what, and the remedy, in one line."""


async def check_database(engine: Engine) -> None:
    """Wait until the database answers; raise `StartRefusedError` when it is not fit for what is promised."""

    async def ask() -> tuple[str, int, str | None]:
        async with connected(engine) as connection:
            return (
                await connection.fetchval("show synchronous_commit"),
                int(await connection.fetchval("show server_version_num")),
                await connection.fetchval("select to_regclass('outcomes')::text"),
            )

    durability, server, table = await when_there(ask)
    if server < OLDEST_SERVER:
        msg = f"Postgres {server // 10000} is too old: the workers need transaction_timeout, which came with 17"
        raise StartRefusedError(msg)
    if durability not in DURABLE:
        msg = f"synchronous_commit is {durability}: set it to on, or an answered command could be lost in a crash"
        raise StartRefusedError(msg)
    if table is None:
        msg = "the database has no schema: run `catalog migrate`"
        raise StartRefusedError(msg)


async def why_unusable(engine: Engine) -> str | None:
    """Say why no work can be done with the database right now; None when it answers."""
    try:
        async with asyncio.timeout(READY_TIMEOUT_S), connected(engine) as connection:
            await connection.fetchval("select 1")
    except Exception as error:  # noqa: BLE001 - whatever it is, the database is of no use now
        return f"the database does not answer ({type(error).__name__})"
    return None


async def when_there(ask: Callable[[], Awaitable[T]]) -> T:
    """Return what the database answers, waiting for it while it is away.

    Raises `StartRefusedError` when it refuses us, or lacks what is asked for.
    """
    patience = Patience()
    while True:
        try:
            return await ask()
        except Exception as error:
            code = getattr(error, "sqlstate", None)
            if code in {"28P01", "28000", "3D000"}:
                msg = "Postgres refuses DATABASE_URL: " + (
                    "there is no such database" if code == "3D000" else "user or password is wrong"
                )
                raise StartRefusedError(msg) from None
            if fault_of(error) is Fault.SCHEMA_MOVED:
                msg = "the database has an older schema: run `catalog migrate`"
                raise StartRefusedError(msg) from None
            if fault_of(error) is not Fault.TRANSIENT:
                raise
            wait = patience.database_away()
            _log.warning("waiting_for_database", wait_ms=round(wait * 1000), exc_info=error)
            await asyncio.sleep(wait)
