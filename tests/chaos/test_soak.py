"""Half an hour at half of what the machine can do, with a fault a minute: nothing grows, and nothing is lost.

`make soak` prints a line a minute. What counts as level: the median of the last third of the samples is at most
`LEVEL` times that of the third before. Outcomes are purged after a few minutes here, instead of days, by the worker's
own purge; its steps of ten minutes make the table a saw, so that its peaks are compared.
"""

import asyncio
import os
import statistics
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import asyncpg
import psutil
import pytest
from rich.console import Console
from rich.table import Table

from persistence.engine import PoolSettings, create_engine
from persistence.faults import Fault, fault_of
from tests.chaos import faults
from tests.chaos.arena import Arena, an_arena
from tests.chaos.faults import USUAL_WORKERS, Stage
from tests.chaos.inspection import Inspector
from tests.chaos.traffic import Traffic
from workers.outcome_purge import PURGE_EVERY, OutcomePurge
from workers.verify.run import Account, Plan

SIZE: Final = os.environ.get("SUITE_SIZE", "short")
MINUTES: Final = {"short": 1, "long": 30}[SIZE]
MINUTE_S: Final = {"short": 10.0, "long": 60.0}[SIZE]
FLAT_OUT_S: Final = {"short": 3.0, "long": 20.0}[SIZE]
SAMPLE_S: Final = {"short": 1.0, "long": 5.0}[SIZE]
WITHOUT_LIMIT_PER_S: Final = 100_000.0
ACTORS: Final = 256
KEPT: Final = timedelta(minutes=3)
LEVEL: Final = 1.15
STRIKES: Final = (
    "worker stopped",
    "broker stopped",
    "database killed",
    "connections cut",
    "worker killed",
    "redis killed",
    "connections silent",
    "broker killed",
    "database slow",
    "connections delayed",
)
"""In turn, one a minute."""

_LOOK: Final = """
select (select count(*) from pg_stat_activity where datname = current_database()) as connections,
    (select count(*) from outcomes) as outcomes, pg_total_relation_size('outcomes') as outcome_bytes"""


@dataclass(frozen=True)
class Sample:
    """How it stands at one moment. `memory` is of the worker that is never killed, in bytes."""

    memory: float
    connections: float
    outcomes: float
    outcome_bytes: float
    lag: float


@dataclass
class Soak:
    """What is measured while it lasts."""

    arena: Arena
    samples: list[Sample] = field(default_factory=list)

    @asynccontextmanager
    async def sampling(self) -> AsyncIterator[None]:
        """Look every few seconds, but while the database is away."""
        task = asyncio.create_task(self._sample_for_ever(), name="samples")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _sample_for_ever(self) -> None:
        while True:
            await asyncio.sleep(SAMPLE_S)
            try:
                self.samples.append(await self.look())
            except Exception as error:
                if fault_of(error) is Fault.DEFECT and not isinstance(error, asyncpg.PostgresError):
                    raise

    async def look(self) -> Sample:
        """Look at database and workers."""
        eldest = psutil.Process(self.arena.living[0].process.pid)
        (row,) = await self.arena.system.fetch(_LOOK)
        lag = 0.0
        for worker in self.arena.living:
            if worker.metrics_url:
                metrics = await self.arena.system.metrics(worker)
                lag += sum(value for name, value in metrics.items() if name.startswith("catalog_lag_messages"))
        return Sample(eldest.memory_info().rss, row["connections"], row["outcomes"], row["outcome_bytes"], lag)


def thirds(values: Sequence[float], of: Callable[[Sequence[float]], float]) -> tuple[float, float]:
    """Return what the middle third of the samples comes to, and the last."""
    third = len(values) // 3
    return of(values[third : 2 * third]), of(values[2 * third :])


async def load(arena: Arena, rate_per_s: float, seconds: float, seed: int) -> tuple[Account, Traffic, float]:
    """Send for so long, account for it; returns deliveries a second, too."""
    plan = Plan(rate_per_s, seconds, ACTORS, drain_s=60.0, seed=seed)
    async with Traffic(arena.system, plan, Inspector(arena.system)) as traffic:
        began = time.monotonic()
        sending = asyncio.create_task(traffic.run(), name="load")
        if seed:
            await strike(Stage(arena, traffic, seed, hurry=SIZE == "short", spared=1), seconds)
        account = await sending
        return account, traffic, account.deliveries / max(time.monotonic() - began, seconds)


async def strike(stage: Stage, seconds: float) -> None:
    """Let one fault happen a third into the minute, and wait until it is recovered from."""
    await asyncio.sleep(seconds / 3)
    stage.dice.seed(stage.seed)
    fault = STRIKES[(stage.seed - 1) % len(STRIKES)]
    for recovery in await faults.strike(stage, fault):
        assert recovery.in_time, f"{recovery.what}: {recovery.all_s:.1f} s, bound {recovery.bound_s:.0f} s"


def deviations(account: Account, traffic: Traffic, arena: Arena) -> list[str]:
    """Name everything that must not be."""
    found = [f"{one.kind} {one.message_id}: {one.detail}" for one in (*account.deviations, *traffic.inspected)]
    found += [f"dead-lettered {one.message_id}: {one.reason}" for one in traffic.letters]
    return [*found, *arena.ended_by_themselves()]


async def purge(arena: Arena) -> None:
    """Purge outcomes as a worker does, by connections of its own: those of a minute ago may have met a fault."""
    engine = create_engine(arena.system.servers.env.database_url, PoolSettings(), "soak")
    try:
        await OutcomePurge(engine, KEPT, lambda: int(time.time() * 1000), lambda _: None).once()
    finally:
        await engine.dispose()


def row(soak: Soak, minute: int, account: Account) -> list[str]:
    """Say how it stands after a minute."""
    last = soak.samples[-1]
    p99_ms = account.latencies_s[int(len(account.latencies_s) * 0.99)] * 1000
    return [
        str(minute),
        STRIKES[(minute - 1) % len(STRIKES)],
        f"{account.messages:,}",
        f"{p99_ms:,.0f}",
        f"{last.memory / 1e6:.1f}",
        f"{last.connections:.0f}",
        f"{last.outcomes:,.0f}",
        f"{last.outcome_bytes / 1e6:.0f}",
        f"{last.lag:.0f}",
    ]


@pytest.mark.soak
@pytest.mark.alone
async def test_soak(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Memory, connections, the outcome table and the lag are level, and every command is accounted for."""
    table = Table("minute", "fault", "messages", "p99 ms", "MB", "connections", "outcomes", "their MB", "lag")
    async with an_arena(tmp_path, 1, USUAL_WORKERS) as arena:
        _, _, at_most = await load(arena, WITHOUT_LIMIT_PER_S, FLAT_OUT_S, 0)
        say(capsys, f"\nflat out {at_most:,.0f} messages/s, half of that from now on")
        soak = Soak(arena)
        async with soak.sampling():
            for minute in range(1, MINUTES + 1):
                account, traffic, _ = await load(arena, at_most / 2, MINUTE_S, minute)
                assert deviations(account, traffic, arena) == [], f"minute {minute}"
                await purge(arena)
                table.add_row(*row(soak, minute, account))
                say(capsys, " | ".join(row(soak, minute, account)))
        say(capsys, table)
        judge(soak, capsys)


def judge(soak: Soak, capsys: pytest.CaptureFixture[str]) -> None:
    """Compare the last third with the one before."""
    grown = []
    for name in ("memory", "connections", "outcomes", "outcome_bytes"):
        peaks = name.startswith("outcome")
        before, after = thirds([getattr(one, name) for one in soak.samples], max if peaks else statistics.median)
        say(capsys, f"{name}: {before:,.0f}, then {after:,.0f} ({after / max(before, 1):.2f})")
        if after > before * LEVEL:
            grown.append(name)
    calm = statistics.median([one.lag for one in soak.samples])
    say(capsys, f"lag: median {calm:.0f} messages, at the end {soak.samples[-1].lag:.0f}")
    if SIZE == "long":
        assert grown == []
        assert timedelta(minutes=MINUTES) > 2 * PURGE_EVERY
    assert soak.samples[-1].lag < calm + 100


def say(capsys: pytest.CaptureFixture[str], what: Any) -> None:  # noqa: ANN401 - whatever rich can print
    """Print at once, past pytest's capturing."""
    with capsys.disabled():
        Console(width=140).print(what, highlight=False)
