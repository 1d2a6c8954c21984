"""`python -m tests.fuzz.calibrate --at CHECKOUT`: what the families of costly messages cost the workers of a checkout.

Each message is sent alone, and cut off after 5 s: the workers are replaced then. Costs are multiples of a plain
creation's: of the processor time of both workers and their server processes, and of the bytes that a message unpacks
to. A message is costly where one of the two is at least 50.
"""

import argparse
import asyncio
import sys
import tempfile
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Final

import asyncpg
import psutil
from rich.console import Console
from rich.table import Table

from tests.fuzz.costly import CUSTOMERS, Costly, Fuzzer
from tests.fuzz.probing import send_costly
from tests.fuzz.stock import lay_in
from tests.servers import Servers, start_servers
from tests.system import System, WorkerProcess

CUT_OFF_S: Final = 5.0
COSTLY_FROM: Final = 50.0
SAMPLES: Final = 5
CREATIONS: Final = 2_000
CREATION_BYTES: Final = 700
"""Body and headers, token included."""


def unpacked_bytes(costly: Costly) -> int:
    """Add up what a record holds once it is unpacked; each record and header takes some bytes of its own."""
    headers = sum(2 + len(name) + len(value or b"") for name, value in costly.headers)
    return len(costly.value) + headers + 7 * costly.empty_before + CREATION_BYTES


class Calibration:
    """Sends one message after the other to workers of a checkout."""

    def __init__(self, system: System) -> None:
        self._system = system
        self.workers: list[WorkerProcess] = []

    async def start(self) -> None:
        """Start a worker of each kind."""
        self.workers = [await self._system.start(side, LOG_LEVEL="ERROR") for side in ("commands", "queries")]

    async def spent_s(self) -> float:
        """Add up the processor time of the workers and of their connections' server processes, in seconds."""
        pids = [worker.process.pid for worker in self.workers]
        statement = "select pid from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
        pids += [row["pid"] for row in await self._system.fetch(statement)]
        total = 0.0
        for pid in pids:
            with suppress(psutil.NoSuchProcess):
                times = psutil.Process(pid).cpu_times()
                total += times.user + times.system
        return total

    async def creation_s(self) -> float:
        """What a plain creation costs, among others as it mostly comes."""
        began = await self.spent_s()
        sent = []
        for _ in range(CREATIONS):
            payload = {"name": "Ada", "email": f"{uuid.uuid4().hex}@example.com"}
            sent.append(await self._system.send("commands", {"kind": "create_customer", "payload": payload}))
        for correlation_id in sent:
            await self._system.reply(correlation_id, timeout_s=60)
        return (await self.spent_s() - began) / CREATIONS

    async def cost_s(self, family: str, seed: int, customer: str) -> float:
        """What one message costs until it is answered, or cut off."""
        began = await self.spent_s()
        result = await send_costly(self._system, seed, 1, customer, families=[family], senders=1, answer_s=CUT_OFF_S)
        spent = await self.spent_s() - began
        if result["unanswered"]:
            for worker in self.workers:
                worker.process.kill()
                await worker.ended()
            await self.start()
        return spent


async def run(servers: Servers, at: Path, console: Console) -> None:
    """Calibrate every family."""
    name = f"calibrate_{uuid.uuid4().hex[:8]}"
    admin = await asyncpg.connect(servers.env.database_url)
    await admin.execute(f'create database "{name}"')
    await admin.close()
    async with System(servers, servers.database(name), root=at, forks=False) as system:
        migrating = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "workers", "migrate", env=system.environment(), cwd=at
        )
        assert await migrating.wait() == 0
        calibration = Calibration(system)
        await calibration.start()
        customer = (await lay_in(system, CUSTOMERS["short"])).customer
        creation_s = await calibration.creation_s()
        table = Table(
            "family",
            "CPU, multiples",
            "bytes, multiples",
            "costly",
            title=f"a plain creation: {creation_s * 1e3:.2f} ms",
        )
        for family in Fuzzer(1, customer).families:
            times, sizes = [], []
            for seed in range(SAMPLES):
                sizes.append(unpacked_bytes(Fuzzer(seed, customer).families[family]()) / CREATION_BYTES)
                times.append(await calibration.cost_s(family, seed, customer) / creation_s)
            costly = sum(max(pair) >= COSTLY_FROM for pair in zip(times, sizes, strict=True))
            table.add_row(
                family,
                ", ".join(f"{one:,.0f}" for one in times),
                ", ".join(f"{one:,.0f}" for one in sizes),
                f"{costly} of {SAMPLES}",
            )
        console.print(table)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--at", type=Path, required=True, help="the checkout whose workers are measured")
    at = parser.parse_args().at.resolve()
    with tempfile.TemporaryDirectory() as state, start_servers("embedded", Path(state)) as servers:
        asyncio.run(run(servers, at, Console(width=140)))


if __name__ == "__main__":
    main()
