"""Postgres fails over to a server that takes no writes yet: what is sent meanwhile waits, and is applied once."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from tests.integration.test_outages import answered, at_least, flowing
from tests.system import System

FORMS = {
    "sessions that stay open": ("alter system set default_transaction_read_only = on", "select pg_reload_conf()"),
    "sessions that are lost": (
        "alter database {name} set default_transaction_read_only = on",
        "select pg_terminate_backend(pid) from pg_stat_activity where datname = '{name}' and pid <> pg_backend_pid()",
    ),
}
BACK = {
    "sessions that stay open": ("alter system reset default_transaction_read_only", "select pg_reload_conf()"),
    "sessions that are lost": (
        "alter database {name} reset default_transaction_read_only",
        FORMS["sessions that are lost"][1],
    ),
}


@asynccontextmanager
async def read_only(system: System, form: str) -> AsyncIterator[None]:
    """Have the server take no writes."""
    name = system.database_url.rsplit("/", 1)[1]
    admin = await asyncpg.connect(system.servers.env.database_admin_url)
    try:
        for statement in FORMS[form]:
            await admin.execute(statement.format(name=name))
        try:
            yield
        finally:
            for statement in BACK[form]:
                await admin.execute(statement.format(name=name))
    finally:
        await admin.close()


@pytest.mark.parametrize("form", FORMS)
async def test_a_server_that_takes_no_writes_is_waited_for(system: System, form: str) -> None:
    """No command fails, none is dead-lettered, none is applied twice; queries are answered meanwhile."""
    worker = await system.start()
    await system.start("queries")
    sent: dict[str, str] = {}
    async with flowing(system, sent):
        await answered(system, sent, 20)
        async with read_only(system, form):
            before = len(sent)
            await system.until(at_least(lambda: len(sent), before + 50), 60, "commands do not flow")
            assert (await system.query("search_customers", {"limit": 1})).status == 200
        await answered(system, sent, before + 50)
    for correlation_id in sent.values():
        assert (await system.reply(correlation_id, timeout_s=60)).status == 201
    rows = await system.fetch("select email from customers")
    assert sorted(row["email"] for row in rows) == sorted(sent)
    assert await system.dead_letters() == []
    assert worker.process.returncode is None
