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


@asynccontextmanager
async def patience(seconds: float) -> AsyncIterator[None]:
    """Cancel the block, as `asyncio.timeout` does, once it had so many seconds of a running process.

    Raise TimeoutError then.
    """
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(None) as limit:
        left = seconds

        def wait() -> asyncio.TimerHandle:
            length = min(SLICE_S, left)
            return loop.call_later(length, count, length, loop.time() + length)

        def count(length: float, due: float) -> None:
            nonlocal left, timer
            if loop.time() - due < SLICE_S:
                left -= length
            if left > 0:
                timer = wait()
            else:
                limit.reschedule(loop.time())

        timer = wait()
        try:
            yield
        finally:
            timer.cancel()
