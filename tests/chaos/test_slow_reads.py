"""Postgres ten times slower for queries, and a query worker that is stopped meanwhile: all of it is waited for."""

import asyncio
import os
import signal
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import pytest

from tests.chaos.proxy import HOST, Line, Proxy
from tests.system import System

SIZE: Final = os.environ.get("SUITE_SIZE", "short")
USUAL_S: Final = {"short": 3.0, "long": 20.0}[SIZE]
SLOW_S: Final = {"short": 4.0, "long": 60.0}[SIZE]
"""Before the worker is stopped, and again after it goes on."""
STOPPED_S: Final = {"short": 4.0, "long": 20.0}[SIZE]
"""Longer than the session time-out."""
READ_S: Final = 0.12
"""What a search takes of a backend; ten times that is more than a read may have."""
DELAY_S: Final = 0.25
"""What the line adds to each piece of data: a look-up by key takes a millisecond or two without it, and forty where the
machine is busy."""
EACH_S: Final = 0.25
ANSWERED_S: Final = 90.0

pytestmark = pytest.mark.chaos


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    """A line to Postgres that can be made slow."""
    line = Line()
    made = Proxy(line)
    made.start()
    yield made
    made.stop()
    line.close()


async def read_takes(system: System, seconds: float) -> None:
    """Have each search, and each list, take so long of a backend."""
    await system.fetch(
        f"create or replace view counter_deltas as with slept as materialized (select pg_sleep({seconds}))"
        " select kept.* from slept, counter_deltas_kept kept"
    )


async def test_slow_reads_are_no_failure(system: System, proxy: Proxy) -> None:
    """No query fails, is put aside or is called too expensive; all are answered, also those of before the stop."""
    commands = await system.start()
    customer = (await system.command("create_customer", {"name": "Ada", "email": "ada@example.com"})).data["id"]
    product = (await system.command("create_product", {"mnemonic": "A", "overview": "x"}, version=2)).data["id"]
    commands.process.terminate()
    await commands.ended()
    await system.fetch("alter table counter_deltas rename to counter_deltas_kept")
    await read_takes(system, READ_S)
    url = urlsplit(system.database_url)
    assert url.hostname is not None
    proxy.lead_to(url.hostname, url.port or 5432)
    who = url.netloc.rpartition("@")[0]
    through = urlunsplit(url._replace(netloc=f"{who}@{HOST}:{proxy.port}" if who else f"{HOST}:{proxy.port}"))
    worker = await system.start("queries", DATABASE_URL=through)

    asked: dict[str, str] = {}
    kinds: list[tuple[str, dict[str, Any]]] = [
        ("get_product", {"product_id": product}),
        ("get_customer", {"customer_id": customer}),
        ("search_customers", {}),
        ("list_products", {}),
        ("customer_analytics", {}),
    ]

    async def load() -> None:
        while True:
            for number, (kind, payload) in enumerate(kinds):
                body = {"kind": kind, "payload": payload}
                asked[await system.send("queries", body, partition=number % system.partitions)] = kind
            await asyncio.sleep(EACH_S)

    loading = asyncio.create_task(load())
    try:
        await asyncio.sleep(USUAL_S)
        proxy.delay_s = DELAY_S
        await read_takes(system, 10 * READ_S)
        await asyncio.sleep(SLOW_S)
        worker.send(signal.SIGSTOP)
        await asyncio.sleep(STOPPED_S)
        worker.send(signal.SIGCONT)
        await asyncio.sleep(SLOW_S)
    finally:
        loading.cancel()
        await asyncio.gather(loading, return_exceptions=True)
    await read_takes(system, READ_S)
    proxy.heal()
    await system.flush()
    for correlation_id, kind in asked.items():
        reply = await system.reply(correlation_id, timeout_s=ANSWERED_S)
        assert reply.status == 200, (kind, reply.envelope)
    assert await system.dead_letters("queries") == []
