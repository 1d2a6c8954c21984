"""`make bench`: how many creations a second, beside the usual handler, in one run on one machine.

Both sides: one process, the same broker, database, token, body, stored outcome, reply and acks. The commands are in the
topic before a worker starts; the clock runs from the first reply to the last. Rounds alternate, so that neither side
has the quiet minutes for itself; the figures are medians, the comparison is their ratio.
"""

import asyncio
import os
import random
import statistics
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

import asyncpg
from rich.console import Console
from rich.table import Table

from migrations import runner
from tests.servers import Servers, start_servers
from tests.system import SECRET, Reply, System, WorkerProcess
from workers.stack.tied import tied

OURS, RIVALS = 10_000, 1_000
ROUNDS = 3


async def measure(servers: Servers, template: str, *, rival: bool, number: int) -> float:
    """Publish commands, start one worker, and return replies a second."""
    async with System(servers, await copy_of(servers, template), forks=False) as system:
        sent = [await system.send("commands", creation(), key=uuid.uuid4().hex) for _ in range(number)]
        await system.flush()
        if rival:
            await start_rival(system)
        else:
            await system.start(ready=False, LOG_LEVEL="WARNING")
        return rate_of([await system.reply(correlation_id, timeout_s=120) for correlation_id in sent])


MIXED = 10_000
STOCK = 2_000
PRODUCTS = 50


async def measure_mix(servers: Servers, template: str) -> float:
    """The same for a mix: 40 % update_customer, 30 % place_order, 20 % create_customer, 10 % update_product."""
    async with System(servers, await copy_of(servers, template), forks=False) as system:
        worker = await system.start(LOG_LEVEL="WARNING")
        stock = []
        for n in range(PRODUCTS):
            body = {"kind": "create_product", "version": 2, "payload": {"mnemonic": f"P_{n}", "overview": "O"}}
            stock.append(await system.send("commands", body, key=f"P_{n}"))
        stock += [await system.send("commands", creation(), key=uuid.uuid4().hex) for _ in range(STOCK)]
        created = [await system.reply(correlation_id, timeout_s=120) for correlation_id in stock]
        customers = [reply.data["id"] for reply in created[PRODUCTS:]]
        worker.process.terminate()
        await worker.ended()
        chance = random.Random(1)
        sent = []
        for n in range(MIXED):
            key = customer = chance.choice(customers)
            share = n % 10
            if share < 4:
                body = {"kind": "update_customer", "payload": {"customer_id": customer, "name": f"Name {n}"}}
            elif share < 7:
                line = {"mnemonic": f"P_{chance.randrange(PRODUCTS)}", "quantity": 1, "unit_price": "9.99"}
                body = {"kind": "place_order", "payload": {"customer_id": customer, "lines": [line]}}
            elif share < 9:
                body, key = creation(), uuid.uuid4().hex
            else:
                key = f"P_{chance.randrange(PRODUCTS)}"
                body = {"kind": "update_product", "payload": {"mnemonic": key, "overview": f"O {n}"}}
            sent.append(await system.send("commands", body, key=key))
        await system.flush()
        await system.start(ready=False, LOG_LEVEL="WARNING")
        return rate_of([await system.reply(correlation_id, timeout_s=120) for correlation_id in sent])


def rate_of(replies: list[Reply]) -> float:
    """Replies a second; all of them must be good ones."""
    assert all(reply.status in {200, 201} for reply in replies)
    times = [reply.at for reply in replies]
    return (len(replies) - 1) / (max(times) - min(times))


def creation() -> dict[str, Any]:
    """Make a creation."""
    payload = {"name": "Ada Lovelace", "email": f"{uuid.uuid4().hex}@gmail.com", "preferences": {"theme": "dark"}}
    return {"kind": "create_customer", "payload": payload}


async def copy_of(servers: Servers, template: str) -> str:
    """Make an empty database; its URL."""
    name = f"bench_{uuid.uuid4().hex[:8]}"
    admin = await asyncpg.connect(servers.env.database_url)
    await admin.execute(f'create database "{name}" template "{template}"')
    await admin.close()
    return servers.database(name)


async def start_rival(system: System) -> None:
    """Start the rival as a process."""
    env = os.environ | {
        "DATABASE_URL": system.database_url,
        "KAFKA_BOOTSTRAP_SERVERS": system.servers.env.kafka_bootstrap_servers,
        "TOPIC_PREFIX": system.prefix,
        "JWT_SECRET": SECRET,
    }
    log = system.directory / "rival.log"
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *tied([sys.executable, "-m", "tests.benchmarks.rival"]), env=env, stdout=output, stderr=output
        )
    system.workers.append(WorkerProcess("rival", process, log))


async def run(servers: Servers) -> tuple[list[float], list[float], list[float]]:
    """Alternate rounds; the rates of creations, of the rival's, and of the mix."""
    template = f"bench_template_{uuid.uuid4().hex[:8]}"
    admin = await asyncpg.connect(servers.env.database_url)
    await admin.execute(f'create database "{template}"')
    await admin.close()
    await runner.upgrade(servers.database(template))
    ours, rivals, mixed = [], [], []
    for _ in range(ROUNDS):
        rivals.append(await measure(servers, template, rival=True, number=RIVALS))
        ours.append(await measure(servers, template, rival=False, number=OURS))
        mixed.append(await measure_mix(servers, template))
    return ours, rivals, mixed


def main() -> None:
    """Print both rates and their ratio."""
    console = Console()
    started = time.monotonic()
    with (
        tempfile.TemporaryDirectory() as state,
        start_servers(os.environ.get("TEST_STACK", "embedded"), Path(state)) as servers,
    ):
        ours, rivals, mixed = asyncio.run(run(servers))
    table = Table(
        "", "commands/s, median", "rounds", title=f"create_customer, one process, {os.cpu_count()} cores shared"
    )
    for name, rates in (("Catalog Workers", ours), ("the usual handler", rivals), ("Catalog Workers, mixed", mixed)):
        table.add_row(name, f"{statistics.median(rates):,.0f}", ", ".join(f"{rate:,.0f}" for rate in rates))
    console.print(table)
    console.print(
        f"ratio {statistics.median(ours) / statistics.median(rivals):.1f}, {time.monotonic() - started:.0f} s"
    )


if __name__ == "__main__":
    main()
