"""Is the database slow, or is it this query? Told by how long look-ups by key take beside it.

One look-up a second, while queries come, makes the median of the last ten minutes. What was not measured yet counts as
the first ones, so that a database that becomes slow soon after the start is not taken for one that always was.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from math import inf
from statistics import median
from typing import Any, Final, TypeVar

T = TypeVar("T")

USUAL_TIMES: Final = 5
"""So many times their median look-ups may take; beyond it the database is slow for everybody. By the contract."""
KEPT: Final = 600
EVERY_S: Final = 1.0
"""Ten minutes' worth."""
FIRST: Final = 5
BESIDE_EVERY_S: Final = 0.05
LEAST: Final = 4
"""Fewer look-ups than these say nothing: one may have met a busy moment of this process."""


class LookUps:
    """What look-ups by key take in one database, as one process sees it."""

    def __init__(self, look_up: Callable[[], Awaitable[float]], clock: Callable[[], float] = time.monotonic) -> None:
        """`look_up` does one and returns its seconds; it may raise."""
        self._look_up = look_up
        self._clock = clock
        self._taken_s: deque[float] = deque(maxlen=KEPT)
        self._due_at = float("-inf")
        self._measuring: asyncio.Task[None] | None = None

    @property
    def usual_s(self) -> float | None:
        """The median of the last ten minutes; None before the first look-ups."""
        return median(self._taken_s) if self._taken_s else None

    def keep_up(self) -> None:
        """Look one up soon, where that is due. Returns at once; a failure is left to the queries to tell."""
        if self._clock() < self._due_at or (self._measuring is not None and not self._measuring.done()):
            return
        self._due_at = self._clock() + EVERY_S
        self._measuring = asyncio.create_task(self._measure(), name="look up")

    async def are_usual(self) -> bool:
        """Do a few look-ups now; tell whether they take what they usually take."""
        return self._usual([await self._try() for _ in range(LEAST)])

    async def beside(self, run: Coroutine[Any, Any, T]) -> tuple[T | Exception, bool]:
        """Look up while something runs; returns what came of it, and whether look-ups took what they usually take."""
        running = asyncio.create_task(run)
        seen: list[float | None] = []
        looking = asyncio.create_task(self._look_on(seen))
        try:
            await asyncio.wait({running})
        finally:
            running.cancel()
            looking.cancel()
            await asyncio.wait({running, looking})
        error = running.exception()
        if error is None:
            return running.result(), True
        if not isinstance(error, Exception):
            raise error
        return error, self._usual(seen)

    def _usual(self, seen: list[float | None]) -> bool:
        usual_s = self.usual_s
        if usual_s is None or len(seen) < LEAST:
            return False
        # A busy moment of this process or that machine makes some of them slow; a database that is slow, all: also one
        # that became so, or recovered, half-way.
        middle = len(seen) // 2
        return all(_quick_s(half) <= USUAL_TIMES * usual_s for half in (seen[:middle], seen[middle:]))

    async def _look_on(self, seen: list[float | None]) -> None:
        while True:
            await asyncio.sleep(BESIDE_EVERY_S)
            seen.append(None)  # until it is answered
            seen[-1] = await self._try()

    async def _try(self) -> float | None:
        try:
            return await self._look_up()
        except Exception:  # noqa: BLE001 - whatever it was: a look-up by key did not work
            return None

    async def _measure(self) -> None:
        with suppress(Exception):
            if not self._taken_s:
                first = [await self._look_up() for _ in range(FIRST)]
                self._taken_s.extend([median(first)] * KEPT)
            else:
                self._taken_s.append(await self._look_up())


def _quick_s(seen: Sequence[float | None]) -> float:
    """Return what a quarter of them took at most; None is one that failed, or has no answer yet."""
    return sorted(inf if seconds is None else seconds for seconds in seen)[len(seen) // 4]
