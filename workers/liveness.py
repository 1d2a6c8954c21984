"""From what the edge and the pipeline say of themselves to what a probe may be told.

Stuck is a worker that has work, whose broker and database are there, and that gets nowhere: only another process can
help then. Waiting for a server that is away is no such thing, and a restart would only add to the trouble.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from persistence.observed_time import MOST_S, ObservedClock
from workers.kafka.observation import EdgeHealth, PartitionHealth

WATCH_EVERY_S = 1.0
_BUSY_FROM: Final = 0.5
"""A process that used more than this part of a time was not stopped, but busy."""
_REMEMBERED: Final = 100


class Presence:
    """Knows when this process was stopped (SIGSTOP, a host that slept): no age that it is told counts that time.

    It is found out by whoever looks next. A loop that was busy for as long was there all the time.
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, cpu_clock: Callable[[], float] = time.process_time
    ) -> None:
        self._clock, self._cpu_clock = clock, cpu_clock
        self._looked_at, self._cpu_s = clock(), cpu_clock()
        self._stops: deque[tuple[float, float]] = deque(maxlen=_REMEMBERED)

    def look(self) -> None:
        """Note a stop since the last look; there should be one a second."""
        now, cpu_s = self._clock(), self._cpu_clock()
        gap_s = now - self._looked_at
        if gap_s > MOST_S and cpu_s - self._cpu_s < gap_s * _BUSY_FROM:
            self._stops.append((self._looked_at, now))
        self._looked_at, self._cpu_s = now, cpu_s

    def seen_s(self, age_s: float) -> float:
        """Return how much of the last `age_s` seconds this process was there."""
        began = self._looked_at - age_s
        return age_s - sum(max(0.0, end - max(start, began)) for start, end in self._stops)

    def seen(self, health: EdgeHealth) -> EdgeHealth:
        """Look, and tell a health as of the time in which this process was there."""
        self.look()
        if not self._stops:
            return health
        partitions = tuple(
            replace(
                one,
                stuck_s=self.seen_s(one.stuck_s),
                fetched_s=None if one.fetched_s is None else self.seen_s(one.fetched_s),
            )
            for one in health.partitions
        )
        return replace(health, partitions=partitions, busy_s=self.seen_s(health.busy_s))


def stuck_because(health: EdgeHealth, outage: str | None, after_s: float) -> str | None:
    """Say why this process should be replaced, None while it need not be.

    `outage` is the server that the pipeline is waiting for, if any. A broker that is away shows in the edge alone: it
    answers no fetch, so nothing that was fetched waits to be decided.
    """
    if health.fatal is not None:
        return health.fatal
    if outage is not None:
        return None
    if health.busy_s > after_s:
        return f"one batch has been under way for {health.busy_s:.0f} s"
    worst = max((one for one in health.partitions if _is_held_up(one, after_s)), key=_stuck_s, default=None)
    if worst is None:
        return None
    topic, partition = worst.position
    return f"{worst.lag} records of {topic}/{partition} wait, and none was decided for {worst.stuck_s:.0f} s"


async def until_stuck(stuck: Callable[[], str | None], for_s: float) -> str:
    """Return the reason once a worker has been stuck for so long: time enough for a probe to have it replaced."""
    clock = ObservedClock()
    since: float | None = None
    while True:
        now, reason = clock(), stuck()
        if reason is None:
            since = None
        else:
            since = since if since is not None else now
            if now - since >= for_s:
                return reason
        await asyncio.sleep(WATCH_EVERY_S)


def _is_held_up(partition: PartitionHealth, after_s: float) -> bool:
    was_answered = partition.fetched_s is not None and partition.fetched_s <= after_s
    return partition.lag > 0 and partition.stuck_s > after_s and was_answered


def _stuck_s(partition: PartitionHealth) -> float:
    return partition.stuck_s
