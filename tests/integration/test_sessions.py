"""What the workers need of a database's sessions: UTF8, and one backend from beginning to end."""

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from persistence.address import read_address
from persistence.sessions import SHARED, unfit_because
from tests.command_line import catalog
from tests.conftest import drop_database
from tests.pooler import Mode, Pooler
from tests.servers import Servers
from tests.system import System


@pytest.mark.parametrize(
    ("mode", "backends", "expected"),
    [
        (Mode.ANOTHER, 1, SHARED),
        (Mode.ANOTHER, 2, SHARED),
        (Mode.ANOTHER, 5, SHARED),
        (Mode.LAST, 1, SHARED),
        (Mode.LAST, 2, SHARED),
        (Mode.LAST, 5, SHARED),
        (Mode.STATEMENT, 2, SHARED),
        (Mode.SESSION, 0, None),
    ],
)
async def test_a_pooler_by_transaction_is_told_from_one_by_session(
    database_url: str, mode: Mode, backends: int, expected: str | None
) -> None:
    """However a pooler chooses the backend of a transaction: it is recognised; one that keeps it is worked with."""
    async with Pooler(database_url, mode, backends) as pooler:
        assert await unfit_because(read_address(pooler.url)) == expected
    assert await unfit_because(read_address(database_url)) is None


async def test_a_pooler_is_recognised_while_others_use_it(database_url: str) -> None:
    """Other clients' transactions, which take and give back backends meanwhile, hide nothing."""
    async with Pooler(database_url, Mode.LAST, 3) as pooler:
        other = await asyncpg.connect(pooler.url)
        await other.execute("begin")
        assert await unfit_because(read_address(pooler.url)) == SHARED
        await other.close()


async def test_commands_refuse_a_pooler_by_transaction(system: System) -> None:
    """`migrate`, each worker and doctor refuse it in one line with the remedy; by session all of them work."""
    async with Pooler(system.database_url, Mode.STATEMENT, 6) as pooler:
        refused = await catalog(system, "migrate", code=1, DATABASE_URL=pooler.url)
        assert refused.err.splitlines()[-1] == f"error: {SHARED}"
    async with Pooler(system.database_url, Mode.LAST, 6) as pooler:
        for command in (["migrate"], ["worker", "commands"], ["worker", "queries"], ["worker", "backfill"]):
            refused = await catalog(system, *command, code=1, DATABASE_URL=pooler.url)
            assert refused.err.splitlines()[-1] == f"error: {SHARED}"
            assert [line for line in refused.err.splitlines() if not line.startswith("{")] == [f"error: {SHARED}"]
        finished = await catalog(system, "doctor", code=1, DATABASE_URL=pooler.url)
        assert f"sessions {SHARED.partition(':')[0]}" in " ".join(finished.out.split())
    async with Pooler(system.database_url, Mode.SESSION) as pooler:
        assert (await catalog(system, "migrate", DATABASE_URL=pooler.url)).out.startswith("nothing to do")
        system.settings["DATABASE_URL"] = pooler.url
        await system.start()
        assert (await system.command("create_customer", {"name": "Ada", "email": "ada@example.com"})).status == 201
        for worker in system.workers:
            worker.process.terminate()
            assert await worker.ended() == 0


@asynccontextmanager
async def encoded(stack: Servers, encoding: str) -> AsyncIterator[str]:
    """Make a database of an encoding; yields its URL."""
    name = f"encoded_{uuid.uuid4().hex[:8]}"
    admin = await asyncpg.connect(stack.env.database_url)
    await admin.execute(
        f"create database \"{name}\" encoding '{encoding}' template template0 locale_provider libc locale 'C'"
    )
    await admin.close()
    try:
        yield stack.database(name)
    finally:
        await drop_database(stack, name)


@pytest.mark.parametrize("encoding", ["LATIN1", "LATIN9", "SQL_ASCII", "WIN1252", "EUC_JP", "KOI8R"])
async def test_a_database_of_another_encoding_is_refused(stack: Servers, encoding: str) -> None:
    """Whatever cannot hold every name is refused by its own."""
    async with encoded(stack, encoding) as url:
        assert (await unfit_because(read_address(url)) or "").startswith(f"the database's encoding is {encoding}: make")


async def test_commands_refuse_another_encoding(system: System, stack: Servers) -> None:
    """`migrate`, a worker and doctor say it, with the remedy."""
    async with encoded(stack, "LATIN1") as url:
        for command in (["migrate"], ["worker", "commands"], ["doctor"]):
            refused = await catalog(system, *command, code=1, DATABASE_URL=url)
            assert "the database's encoding is LATIN1" in refused.out + refused.err, command
