"""`python -m tests.benchmarks.beside --at CHECKOUT`: this checkout's command worker beside another commit's.

Both sides apply the same creations: one process each, the commands in the topic before the worker starts, the same
client reading the replies. Rounds alternate, so that neither side has the quiet minutes for itself; compared are the
medians of the rates, and of the workers' own processor time a command, which a shared machine disturbs less.
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import asyncpg
import psutil
from rich.console import Console
from rich.table import Table

from tests.benchmarks.commands import copy_of, creation, rate_of
from tests.forked import ROOT
from tests.servers import Servers, start_servers
from tests.system import System

COMMANDS: Final = 10_000
ROUNDS: Final = 7

Round = tuple[float, float]
"""Commands a second, and processor time in µs a command."""


async def measure(servers: Servers, template: str, root: Path) -> Round:
    """Publish creations, start one worker, and measure from its first reply to the last."""
    async with System(servers, await copy_of(servers, template), root=root, forks=False) as system:
        sent = [await system.send("commands", creation(), key=uuid.uuid4().hex) for _ in range(COMMANDS)]
        await system.flush()
        worker = await system.start(ready=False, LOG_LEVEL="WARNING")
        await system.reply(sent[0], timeout_s=120)
        process, before = psutil.Process(worker.process.pid), len(system.replies)
        begun = process.cpu_times()
        rate = rate_of([await system.reply(correlation_id, timeout_s=120) for correlation_id in sent])
        ended = process.cpu_times()
        spent_s = ended.user + ended.system - begun.user - begun.system
        return rate, spent_s / (COMMANDS - before) * 1e6


async def template_of(servers: Servers, root: Path) -> str:
    """Make an empty database of a checkout's own schema; its name."""
    name = f"bench_template_{uuid.uuid4().hex[:8]}"
    admin = await asyncpg.connect(servers.env.database_url)
    await admin.execute(f'create database "{name}"')
    await admin.close()
    environment = System(servers, servers.database(name), root=root).environment()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "workers", "migrate", env=environment, cwd=root, stdout=asyncio.subprocess.DEVNULL
    )
    assert await process.wait() == 0
    return name


async def run(servers: Servers, sides: Mapping[str, Path], rounds: int) -> dict[str, list[Round]]:
    """Alternate rounds, each side first in every other one."""
    templates = {side: await template_of(servers, root) for side, root in sides.items()}
    measured: dict[str, list[Round]] = {side: [] for side in sides}
    for number in range(rounds):
        for side in sorted(sides, reverse=number % 2 == 1):
            measured[side].append(await measure(servers, templates[side], sides[side]))
    return measured


def main() -> None:
    """Print both sides and their ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--at", type=Path, required=True, help="the other checkout")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    asked = parser.parse_args()
    console = Console(width=140)
    with tempfile.TemporaryDirectory() as state, start_servers("embedded", Path(state)) as servers:
        sides = {"this checkout": ROOT, str(asked.at): asked.at.resolve()}
        measured = asyncio.run(run(servers, sides, asked.rounds))
    table = Table("", "commands/s", "µs of CPU a command", title=f"create_customer, medians of {asked.rounds} rounds")
    medians = []
    for side, rounds in measured.items():
        rates, spent = zip(*rounds, strict=True)
        medians.append((statistics.median(rates), statistics.median(spent)))
        table.add_row(
            side,
            f"{medians[-1][0]:,.0f} ({', '.join(f'{rate:,.0f}' for rate in rates)})",
            f"{medians[-1][1]:.0f} ({', '.join(f'{one:.0f}' for one in spent)})",
        )
    console.print(table)
    (rate, spent_us), (other_rate, other_us) = medians
    console.print(f"rate {rate / other_rate:.3f}, processor time {spent_us / other_us:.3f} of the other checkout's")


if __name__ == "__main__":
    main()
