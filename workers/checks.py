"""What is checked before a worker starts: it waits for what is away, and refuses what is wrong."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from typing import Final, TypeVar

import structlog

from persistence.address import Address, NotConnectedError
from persistence.engine import Engine, connected
from persistence.faults import Fault, fault_of, sqlstate_of
from persistence.key_fingerprints import KeyPair, strange_keys
from persistence.role_rights import excess_rights
from persistence.sessions import unfit_because
from workers.operator_error import OperatorError
from workers.pipeline.patience import Patience
from workers.settings import Settings

_log = structlog.get_logger(__name__)

T = TypeVar("T")

DURABLE: Final = frozenset({"on", "remote_apply", "remote_write"})
"""Values of synchronous_commit under which a commit survives a crash of the primary."""
_MAY_WRITE: Final = "select has_table_privilege(to_regclass('outcomes'), 'insert')"
OLDEST_SERVER: Final = 170000
"""transaction_timeout came with PostgreSQL 17."""


_ACCESS: Final = {
    "28P01": "user or password is wrong",
    "28000": "user or password is wrong",
    "3D000": "there is no such database",
    "42501": "its user lacks rights on our tables (the migrator grants them)",
}

STRANGE_KEY: Final = (
    "is not the key of this database's workers, nor is its _PREVIOUS: give it the same value everywhere, or exchange it"
    " as SECURITY.md says"
)

READY_TIMEOUT_S: Final = 2.0
"""What a probe waits for the database's answer; probes themselves give up after a few seconds."""


class StartRefusedError(OperatorError):
    """Something is set up wrongly; the text says what, and the remedy, in one line."""


async def check_database(engine: Engine, address: Address) -> None:
    """Wait until the database answers; raise `StartRefusedError` when it is not fit for what is promised."""
    if unfit := await when_there(partial(unfit_because, address)):
        raise StartRefusedError(unfit)

    async def ask() -> tuple[str, int, str | None, bool | None]:
        async with connected(engine) as connection:
            return (
                await connection.fetchval("show synchronous_commit"),
                int(await connection.fetchval("show server_version_num")),
                await connection.fetchval("select to_regclass('outcomes')::text"),
                await connection.fetchval(_MAY_WRITE),
            )

    durability, server, table, may_write = await when_there(ask)
    if server < OLDEST_SERVER:
        msg = f"Postgres {server // 10000} is too old: the workers need transaction_timeout, which came with 17"
        raise StartRefusedError(msg)
    if durability not in DURABLE:
        msg = f"synchronous_commit is {durability}: set it to on, or an answered command could be lost in a crash"
        raise StartRefusedError(msg)
    if table is None:
        msg = "the database has no schema"
        raise StartRefusedError(msg, hint="`catalog migrate`")
    if not may_write:
        raise StartRefusedError(f"Postgres refuses DATABASE_URL: {_ACCESS['42501']}")


RIGHTS_REMEDY: Final = (
    "give the workers a role of their own (migrations.roles.grant_worker), and let another one migrate"
)


def unset_in_production(settings: Settings) -> Iterator[tuple[str, str, str]]:
    """Name what production should set, what comes of its absence, and what to set."""
    if settings.process.environment != "production":
        return
    if settings.jwt.issuer is None:
        yield "JWT_ISSUER", "any issuer's token is taken that the key verifies", "name your identity provider"
    if settings.jwt.audience is None:
        yield (
            "JWT_AUDIENCE",
            "tokens that were made for other services are taken",
            "name what tokens for us are made out to",
        )
    if not settings.domain.reply_topics:
        prefix = settings.kafka.topic_prefix
        told = f"callers may have answers put into any {prefix}.replies.*"
        yield "REPLY_TOPICS", told, "name for each caller the topics it may be answered on"


async def warn(engine: Engine, settings: Settings) -> None:
    """Log what is set up with less care than it could be; what the database does not tell is left out."""
    for name, consequence, remedy in unset_in_production(settings):
        _log.warning("setting_missing", setting=name, consequence=consequence, remedy=remedy)

    async def ask() -> str | None:
        async with connected(engine) as connection:
            return await excess_rights(connection)

    if rights := await when_there(ask):
        _log.warning("role_may_too_much", finding=rights, remedy=RIGHTS_REMEDY)


async def check_keys(engine: Engine, keys: Sequence[KeyPair]) -> None:
    """Wait until the database answers; raise `StartRefusedError` for a key that its workers do not share."""

    async def ask() -> list[str]:
        async with connected(engine) as connection:
            return await strange_keys(connection, keys)

    if strange := await when_there(ask):
        raise StartRefusedError("; ".join(f"{name} {STRANGE_KEY}" for name in strange))


def _refusal(error: Exception) -> str | None:
    """Say what is wrong with our access, where waiting would not help."""
    code = sqlstate_of(error)
    if code in _ACCESS:
        return f"Postgres refuses DATABASE_URL: {_ACCESS[code]}"
    if isinstance(error, NotConnectedError):
        return f"Postgres refuses DATABASE_URL: {error}"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"The certificate of Postgres cannot be trusted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"Postgres does not speak TLS as we do: {error.reason}"
    if type(error) is ConnectionError and "SSL" in str(error):  # asyncpg's, which has no class for it
        return "Postgres does not speak TLS, which DATABASE_URL asks for"
    return None


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
            if refused := _refusal(error):
                raise StartRefusedError(refused) from None
            if fault_of(error) is Fault.SCHEMA_MOVED:
                msg = "the database has an older schema"
                raise StartRefusedError(msg, hint="`catalog migrate`") from None
            if fault_of(error) is Fault.DEFECT:
                raise
            wait = patience.database_away()
            _log.warning("waiting_for_database", wait_ms=round(wait * 1000), exc_info=error)
            await asyncio.sleep(wait)
