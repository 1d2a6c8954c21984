"""How long to wait, and why. Waiting for an outage happens outside the handler: the batch is given back meanwhile."""

import random
from collections.abc import Callable
from typing import Final, Literal

FIRST_WAIT_S: Final = 0.1
LONGEST_WAIT_S: Final = 5.0
CONFLICT_WAIT_S: Final = 0.005
LONGEST_CONFLICT_WAIT_S: Final = 0.25

Awaited = Literal["postgres", "kafka"]


class GiveBackError(Exception):
    """The rest of the batch cannot be decided now; fetch it again after `retry_after_s` seconds."""

    def __init__(self, retry_after_s: float) -> None:
        super().__init__(f"given back for {retry_after_s:.1f} s")
        self.retry_after_s = retry_after_s


class Patience:
    """Back-off with jitter that grows while an outage lasts, and starts again after it.

    `on_wait` is told of every wait: for which server, and for how many seconds.
    """

    def __init__(self, on_wait: Callable[[Awaited, float], None] = lambda _on, _seconds: None) -> None:
        self._outages = 0
        self._on_wait = on_wait

    def all_well(self) -> None:
        """A batch went through."""
        self._outages = 0

    def database_away(self) -> float:
        """Seconds until the batch is tried again."""
        return self._wait("postgres")

    def broker_away(self) -> float:
        """Seconds until the batch is tried again."""
        return self._wait("kafka")

    def after_conflict(self, conflicts: int) -> float:
        """Seconds until a lost race is run again."""
        return _spread(min(CONFLICT_WAIT_S * 2**conflicts, LONGEST_CONFLICT_WAIT_S))

    def _wait(self, on: Awaited) -> float:
        self._outages += 1
        seconds = _spread(min(FIRST_WAIT_S * 2 ** min(self._outages, 10), LONGEST_WAIT_S))
        self._on_wait(on, seconds)
        return seconds


def _spread(seconds: float) -> float:
    return seconds * random.uniform(0.5, 1.0)  # noqa: S311 - jitter is no secret
