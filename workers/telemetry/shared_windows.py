"""Measures the one call a batch that the rate limit makes to Redis."""

import time
from collections.abc import Sequence

from persistence.rate_limits import Limit, RedisAwayError
from workers.admission.rate import Charge, SharedWindows
from workers.telemetry.watching import Watching


class WatchedWindows:
    """`SharedWindows` whose time is the step `rate`; time spent on a Redis that does not answer is waiting for it."""

    def __init__(self, windows: SharedWindows, watching: Watching) -> None:
        self._windows = windows
        self._watching = watching

    @property
    def failures(self) -> int:
        """How often a try failed so far."""
        return self._windows.failures

    async def judge(self, charges: Sequence[Charge], limits: Sequence[Limit]) -> Sequence[int]:
        """Judge requests. Raises `RedisAwayError`."""
        started = time.perf_counter()
        try:
            with self._watching.step("rate"):
                return await self._windows.judge(charges, limits)
        except RedisAwayError:
            self._watching.waits("redis", time.perf_counter() - started)
            raise

    async def ping(self) -> None:
        """Return when the server answers. Raises `RedisAwayError`."""
        await self._windows.ping()

    async def close(self) -> None:
        """Close the connections."""
        await self._windows.close()
