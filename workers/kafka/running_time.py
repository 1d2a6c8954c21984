"""A time-out that counts only time in which this process was running.

A process that was stopped (SIGSTOP, a debugger, a suspended machine), or whose event loop was held up, finds all its
timers run out as it goes on, before it has read what arrived meanwhile. Such a time-out would blame somebody else.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

SLICE_S: Final = 0.25
"""Time is counted in slices; one whose end is noticed later than by another is not counted."""


class _Countdown:
    """Ends a block once it has lasted long enough."""

    def __init__(self, limit: asyncio.Timeout, seconds: float) -> None:
        self._limit = limit
        self._left_s = seconds
        self._loop = asyncio.get_running_loop()
        self._wait()

    def _wait(self) -> None:
        length_s = min(SLICE_S, self._left_s)
        self._timer = self._loop.call_later(length_s, self._count, length_s, self._loop.time() + length_s)

    def _count(self, length_s: float, due: float) -> None:
        now = self._loop.time()
        if now - due < SLICE_S:
            self._left_s -= length_s
        if self._left_s > 0:
            self._wait()
        else:
            self._limit.reschedule(now)

    def cancel(self) -> None:
        """Let the block be."""
        self._timer.cancel()


@asynccontextmanager
async def running_time(seconds: float) -> AsyncIterator[None]:
    """Cancel the block, as `asyncio.timeout` does, once it had so many seconds of a running process.

    Raise TimeoutError then.
    """
    async with asyncio.timeout(None) as limit:
        countdown = _Countdown(limit, seconds)
        try:
            yield
        finally:
            countdown.cancel()
