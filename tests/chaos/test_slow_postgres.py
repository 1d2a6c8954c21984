"""Postgres ten times slower than usual, and a worker stopped inside its transaction: all of it is waited for."""

import asyncio
import os
import signal
import uuid
from typing import Final

import psutil
import pytest

from tests.system import System, WorkerProcess

SIZE: Final = os.environ.get("SUITE_SIZE", "short")
SLOW_S: Final = {"short": 6.0, "long": 60.0}[SIZE]
"""About: two thirds of it before the worker stops, and the rest after."""
STOPPED_S: Final = {"short": 7.0, "long": 20.0}[SIZE]
"""Longer than the 5 s after which the server ends a transaction that idles, and than the session time-out."""
EACH_S: Final = 0.1
"""Between two commands, and between two queries."""
STATEMENT_S: Final = 0.05
"""What each statement that writes takes longer; a batch has three of those, and takes some ten milliseconds."""
STOPS_AT: Final = {"short": 8, "long": 200}[SIZE]
"""At which of its transactions the worker stops: each takes about a fifth of a second."""
ANSWERED_S: Final = 60.0
TABLES: Final = ("customers", "orders", "outcomes")

pytestmark = pytest.mark.chaos


async def slowed(system: System) -> None:
    """Have each statement that writes take its time."""
    await system.fetch(
        "create function slow() returns trigger language plpgsql as"
        f" $$ begin perform pg_sleep({STATEMENT_S}); return null; end $$"
    )
    for table in TABLES:
        await system.fetch(
            f"create trigger slow after insert or update on {table} for each statement execute function slow()"
        )


async def as_usual(system: System) -> None:
    """End that."""
    for table in TABLES:
        await system.fetch(f"drop trigger slow on {table}")


class Load:
    """Customers, orders and queries at a steady pace; who was asked, by correlation id."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.customers: list[str] = []
        self.asked: dict[str, str] = {}
        self.goes_on = True

    async def commands(self) -> None:
        """Create customers, each of whom orders at once."""
        while self.goes_on:
            customer_id, order_id = str(uuid.uuid4()), str(uuid.uuid4())
            created = {"customer_id": customer_id, "name": "N", "email": f"{customer_id}@example.com"}
            line = {"mnemonic": "A", "quantity": 1, "unit_price": "2.50"}
            ordered = {"customer_id": customer_id, "order_id": order_id, "lines": [line]}
            for kind, payload in (("create_customer", created), ("place_order", ordered)):
                await self._ask("commands", kind, payload, customer_id)
            self.customers.append(customer_id)
            await asyncio.sleep(EACH_S)

    async def queries(self) -> None:
        """Ask for the product, and search for who was created."""
        while self.goes_on:
            await self._ask("queries", "get_product", {"mnemonic": "A"}, "A")
            await self._ask("queries", "search_customers", {"name_contains": "N"}, "N")
            await asyncio.sleep(EACH_S)

    async def _ask(self, side: str, kind: str, payload: object, key: str) -> None:
        self.asked[await self.system.send(side, {"kind": kind, "payload": payload}, key=key)] = kind


async def set_up(system: System) -> None:
    """Make the product that everybody orders; by a worker that ends with that."""
    worker = await system.start()
    version = {"mnemonic": "A", "version_label": "1", "start_date": "2020-01-01", "items": []}
    await system.command("create_product", {"mnemonic": "A", "overview": "x"}, key="A", version=2)
    await system.command("add_product_version", version, key="A")
    for _ in range(4):  # so that there is a usual time
        email = f"{uuid.uuid4().hex}@example.com"
        assert (await system.command("create_customer", {"name": "M", "email": email})).status == 201
    worker.process.terminate()
    await worker.ended()


async def is_stopped(worker: WorkerProcess) -> bool:
    """Tell whether a process is stopped."""
    return bool(psutil.Process(worker.process.pid).status() == psutil.STATUS_STOPPED)


async def test_slow_is_no_failure(system: System) -> None:
    """No command and no query fails or is put aside; all are answered after, and each effect exists once."""
    await set_up(system)
    worker = await system.start(ready=True, FAULT_POINT=f"before_commit:{STOPS_AT}:stop")
    await system.start("queries")
    await slowed(system)
    load = Load(system)
    async with asyncio.TaskGroup() as group:
        group.create_task(load.commands())
        group.create_task(load.queries())
        await system.until(lambda: is_stopped(worker), SLOW_S + ANSWERED_S, "the worker did not stop itself")
        await asyncio.sleep(STOPPED_S)
        worker.send(signal.SIGCONT)
        await asyncio.sleep(SLOW_S / 3)
        load.goes_on = False
    await as_usual(system)
    await system.flush()
    for correlation_id, kind in load.asked.items():
        reply = await system.reply(correlation_id, timeout_s=ANSWERED_S)
        assert reply.status in {200, 201}, (kind, reply.envelope)
    assert await system.dead_letters("commands") == await system.dead_letters("queries") == []
    rows = await system.fetch("select customer_id::text as id from orders")
    assert sorted(row["id"] for row in rows) == sorted(load.customers)
    assert load.customers
