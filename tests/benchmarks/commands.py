"""`make bench`: how many creations a second, beside the usual handler, in one run on one machine.

Both sides: one process, the same broker, database, token, body, stored outcome, reply and acks. The commands are in the
topic before a worker starts; the clock runs from the first reply to the last. Rounds alternate, so that neither side
has the quiet minutes for itself; the figures are medians, the comparison is their ratio.
"""

import asyncio
import os
import statistics
import sys
import tempfile
import time
import uuid
from pathlib import Path

import asyncpg
from rich.console import Console
from rich.table import Table

from migrations import runner
from tests.servers import Servers, start_servers
from tests.system import SECRET, System, WorkerProcess

OURS, RIVALS = 10_000, 1_000
ROUNDS = 3


async def measure(servers: Servers, template: str, *, rival: bool, number: int) -> float:
    """Publish commands, start one worker, and return replies a second."""
    name = f"bench_{uuid.uuid4().hex[:8]}"
    admin = await asyncpg.connect(servers.env.database_url)
    await admin.execute(f'create database "{name}" template "{template}"')
    await admin.close()
    async with System(servers, servers.database(name)) as system:
        sent = []
        for _ in range(number):
            body = {
                "kind": "create_customer",
                "payload": {
                    "name": "Ada Lovelace",
                    "email": f"{uuid.uuid4().hex}@gmail.com",
                    "preferences": {"theme": "dark"},
                },
            }
            sent.append(await system.send("commands", body, key=uuid.uuid4().hex))
        await system.flush()
        if rival:
            await start_rival(system)
        else:
            await system.start(ready=False, LOG_LEVEL="WARNING")
        replies = [await system.reply(correlation_id, timeout_s=120) for correlation_id in sent]
        assert all(reply.status == 201 for reply in replies)
        times = [reply.at for reply in replies]
        return (number - 1) / (max(times) - min(times))


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
            sys.executable, "-m", "tests.benchmarks.rival", env=env, stdout=output, stderr=output
        )
    system.workers.append(WorkerProcess("rival", process, log))


async def run(servers: Servers) -> tuple[list[float], list[float]]:
    """Alternate rounds; the rates of both sides."""
    template = f"bench_template_{uuid.uuid4().hex[:8]}"
    admin = await asyncpg.connect(servers.env.database_url)
    await admin.execute(f'create database "{template}"')
    await admin.close()
    await runner.upgrade(servers.database(template))
    ours, rivals = [], []
    for _ in range(ROUNDS):
        rivals.append(await measure(servers, template, rival=True, number=RIVALS))
        ours.append(await measure(servers, template, rival=False, number=OURS))
    return ours, rivals


def main() -> None:
    """Print both rates and their ratio."""
    console = Console()
    started = time.monotonic()
    with (
        tempfile.TemporaryDirectory() as state,
        start_servers(os.environ.get("TEST_STACK", "embedded"), Path(state)) as servers,
    ):
        ours, rivals = asyncio.run(run(servers))
    table = Table(
        "", "commands/s, median", "rounds", title=f"create_customer, one process, {os.cpu_count()} cores shared"
    )
    for name, rates in (("Catalog Workers", ours), ("the usual handler", rivals)):
        table.add_row(name, f"{statistics.median(rates):,.0f}", ", ".join(f"{rate:,.0f}" for rate in rates))
    console.print(table)
    console.print(
        f"ratio {statistics.median(ours) / statistics.median(rivals):.1f}, {time.monotonic() - started:.0f} s"
    )


if __name__ == "__main__":
    main()
