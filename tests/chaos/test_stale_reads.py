"""Writers and readers of one product, while workers die between commit, clearing and reply, and Redis restarts.

Short in `make smoke`, 30 seconds of each kind of cache in `make chaos`.
"""

import asyncio
import contextlib
import itertools
import os
import random
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

import pytest
from rich.console import Console

from persistence.cache import BREAK_S
from tests.redis_server import OwnRedis
from tests.system import System, WorkerProcess

SIZE: Final = os.environ.get("SUITE_SIZE", "short")
TRAFFIC_S: Final = {"short": 9.0, "long": 30.0}[SIZE]
"""The outages of Redis come on top of it."""
SEED: Final = int(os.environ.get("CHAOS_SEED") or 1)
POINTS: Final = ("after_commit", "before_cache_clear", "after_cache_clear", "between_replies")
SOONEST, LATEST = 2, 8
"""A worker dies when it is at its point for a time in this range."""
READERS: Final = 3
RESTARTS: Final = {"short": 1, "long": 2}[SIZE]
LONGEST_PAUSE_S: Final = 0.05
"""Of a writer after its answer: the next change clears what an earlier one forgot, and would hide it."""
LOOK_S: Final = 0.1
DELAYED: Final = "catalog_cache_invalidations_delayed_total"


@dataclass(frozen=True)
class StaleRead:
    """A read that is older than what had been answered when it was asked for."""

    asked_at: float
    ended_at: float
    seen: int
    answered: int


@dataclass
class Beside:
    """One product, who changes it and who reads it."""

    system: System
    redis: OwnRedis
    dice: random.Random
    points: Iterator[str] = field(default_factory=lambda: itertools.cycle(POINTS))
    answered: int = 0
    """The newest version that a writer was told."""
    writes: int = 0
    reads: int = 0
    deaths: int = 0
    stale: list[StaleRead] = field(default_factory=list)
    allowed: list[tuple[float, float]] = field(default_factory=list)
    """From when to when a reader may see an old value, if the cache is not a strict one."""
    delayed: dict[str, float] = field(default_factory=dict)
    """By worker: keys that it could not clear before its reply, as its metric tells."""
    done: bool = False

    async def run(self) -> None:
        """Let all of it happen for a while."""
        await self.system.command("create_product", {"mnemonic": "A", "overview": "0"}, key="A")
        async with asyncio.TaskGroup() as group:
            group.create_task(self._write(), name="writer")
            for number in range(READERS):
                group.create_task(self._read(number), name=f"reader {number}")
            group.create_task(self._replace_the_dead(), name="replacing")
            group.create_task(self._watch(), name="watching")
            group.create_task(self._restart_redis(), name="restarting")

    async def start_writer(self) -> None:
        """Start a command worker that will die at the next of the points, at a time that the dice tell."""
        times = self.dice.randint(SOONEST, LATEST)
        await self.system.start(FAULT_POINT=f"{next(self.points)}:{times}", ready=False)

    async def _write(self) -> None:
        """Change it again and again; a second writer's changes would clear what the first one's death left behind."""
        for turn in range(1, 1_000_000):
            if self.done:
                return
            reply = await self.system.command("update_product", {"mnemonic": "A", "overview": str(turn)}, key="A")
            assert reply.status == 200, reply.envelope
            self.answered = reply.data["version"]
            self.writes += 1
            await asyncio.sleep(self.dice.uniform(0, LONGEST_PAUSE_S))

    async def _read(self, number: int) -> None:
        while not self.done:
            answered, asked_at = self.answered, time.monotonic()
            reply = await self.system.query("get_product", {"mnemonic": "A"}, key=str(number))
            assert reply.status == 200, reply.envelope
            self.reads += 1
            if reply.data["version"] < answered:
                self.stale.append(StaleRead(asked_at, time.monotonic(), reply.data["version"], answered))

    async def _replace_the_dead(self) -> None:
        dead: set[int] = set()
        while not self.done:
            for worker in self.writing():
                if worker.process.returncode is not None and worker.process.pid not in dead:
                    assert worker.process.returncode == -signal.SIGKILL, f"{worker.log} ended by itself"
                    dead.add(worker.process.pid)
                    self.deaths += 1
                    await self.start_writer()
            await asyncio.sleep(LOOK_S)

    async def _watch(self) -> None:
        """Look at the metrics of those who live: what a worker counted is lost when it dies."""
        while not self.done:
            await self.count_delayed()
            await asyncio.sleep(LOOK_S)

    async def count_delayed(self) -> None:
        """Read how many keys could not be cleared in time."""
        for worker in self.writing():
            if worker.process.returncode is None and not worker.metrics_url:
                with contextlib.suppress(AssertionError):  # it died as it was looked at
                    await self.system._is_ready(worker, worker.log.with_suffix(".url"))
            if worker.process.returncode is None and worker.metrics_url:
                with contextlib.suppress(OSError):
                    self.delayed[worker.metrics_url] = (await self.system.metrics(worker)).get(DELAYED, 0.0)

    async def _restart_redis(self) -> None:
        for _ in range(RESTARTS):
            await asyncio.sleep(TRAFFIC_S / (RESTARTS + 1))
            began = time.monotonic()
            counted = sum(self.delayed.values())
            self.redis.kill()
            await self.system.until(partial(self._counted_more, counted), 30, "no key is counted as late")
            await self.redis.start()
            await asyncio.sleep(BREAK_S)  # until then a worker may keep away from Redis, and write a key down
            await self.system.until(self._nothing_recorded, 30, "keys that nobody clears")
            self.allowed.append((began, time.monotonic()))
        await asyncio.sleep(TRAFFIC_S / (RESTARTS + 1))
        self.done = True

    async def _counted_more(self, before: float) -> bool:
        """Tell whether the metrics have counted a key."""
        return sum(self.delayed.values()) > before

    async def _nothing_recorded(self) -> bool:
        """Tell whether every key that was written down has been cleared."""
        return not await self.system.fetch("select from cache_invalidations")

    def writing(self) -> Iterator[WorkerProcess]:
        """Name the command workers, dead or alive."""
        return (worker for worker in self.system.workers if worker.role == "commands")

    def unexplained(self) -> list[StaleRead]:
        """Find the stale reads at times when no key was waiting to be cleared."""
        return [
            read
            for read in self.stale
            if not any(began <= read.ended_at and read.asked_at <= ended for began, ended in self.allowed)
        ]


@pytest.mark.chaos
@pytest.mark.parametrize("strict", [False, True])
async def test_no_read_is_older_than_its_writer_was_told(
    system: System, tmp_path: Path, capsys: pytest.CaptureFixture[str], *, strict: bool
) -> None:
    """A strict cache never shows what is older than an answered write; another one only while keys wait for Redis.

    The metric counts those: Redis is not started again before it did.
    """
    async with OwnRedis(tmp_path) as redis:
        system.settings |= {"REDIS_URL": redis.url, "CACHE_STRICT": str(strict).lower()}
        beside = Beside(system, redis, random.Random(f"{SEED} {strict}"))
        await asyncio.gather(*(system.start("queries") for _ in range(2)), *(beside.start_writer() for _ in range(2)))
        await beside.run()
    with capsys.disabled():
        Console(width=160).print(
            f"\nstrict {strict}: {beside.writes} writes, {beside.reads} reads, {beside.deaths} deaths of writers,"
            f" {len(beside.stale)} stale reads, {sum(beside.delayed.values()):.0f} keys counted as late",
            highlight=False,
        )
    assert beside.deaths >= RESTARTS
    assert beside.unexplained() == []
    assert not (strict and beside.stale)
