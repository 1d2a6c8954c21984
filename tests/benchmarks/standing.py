"""What a worker takes while it stands there: processor time when idle, and memory after a minute of load."""

import asyncio
import time
import uuid
from dataclasses import dataclass
from typing import Final

from tests.benchmarks.backlog import creation
from tests.benchmarks.sides import PARTITIONS, Databases, Side, resident_bytes, spent_s
from tests.servers import Servers
from tests.system import System

SETTLED_S: Final = 5.0
LASTING_S: Final = 60.0
OFFERED: Final = 1_000
"""Commands a second of the load, the same for all sides."""


@dataclass(frozen=True)
class Standing:
    """Percent of a core when idle, of a command and of a query worker; MB of the command worker after the load."""

    commands_idle: float
    queries_idle: float
    resident_mb: float


async def measure_standing(
    servers: Servers, databases: Databases, side: Side, lasting_s: float = LASTING_S
) -> Standing:
    """Start one worker of each role, let them be, then keep the command worker busy."""
    idle = {}
    async with System(
        servers, await databases.new(side.root), PARTITIONS, side.root, forks=False, judges=False
    ) as system:
        for role in ("commands", "queries"):
            workers = await side.start(system, role, ready=True)
            await asyncio.sleep(SETTLED_S)
            begun_s, began_at = spent_s(workers), time.monotonic()
            await asyncio.sleep(lasting_s)
            idle[role] = (spent_s(workers) - begun_s) / (time.monotonic() - began_at) * 100
            for worker in workers:
                worker.process.terminate()
                await worker.ended()
        workers = await side.start(system, ready=True)
        token, sent, began_at = system.token(), 0, time.monotonic()
        while (since_s := time.monotonic() - began_at) < lasting_s:
            while sent < since_s * OFFERED:
                last = await system.send("commands", creation(), key=uuid.uuid4().hex, token=token)
                sent += 1
            await asyncio.sleep(0.05)
        await system.reply(last, timeout_s=120)
        return Standing(idle["commands"], idle["queries"], resident_bytes(workers) / 1e6)
