"""Time as a process saw it: what went by while it was stopped (SIGSTOP, a host that slept) says nothing of others.

A process that wakes has seen nothing meanwhile, and every clock says that it waited for long. Whoever gives up, refuses
or calls somebody stuck after a while, measures the while by this.
"""

import time
from collections.abc import Callable
from typing import Final

MOST_S: Final = 5.0
"""Of a longer time between two looks only this counts: who looks once a second is that late only when stopped."""


class ObservedClock:
    """A clock that goes on by what passed between two looks, at most `most_s`. Look at it more often than that."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, most_s: float = MOST_S) -> None:
        self._clock = clock
        self._most_s = most_s
        self._looked_at = clock()
        self._observed_s = 0.0
        self.missed_s = 0.0
        """What went by unseen, in all."""

    def __call__(self) -> float:
        """Look: seconds that were seen to pass since the clock was made."""
        now = self._clock()
        passed = now - self._looked_at
        seen = min(passed, self._most_s)
        self._looked_at = now
        self._observed_s += seen
        self.missed_s += passed - seen
        return self._observed_s
