"""Named places between two steps at which a test may kill the process; nothing but a comparison anywhere else.

The environment variable `FAULT_POINT` arms one of them, as `name`, `name:n` (the n-th time it is reached) or
`name:n:stop` (SIGSTOP instead of SIGKILL). Settings refuse it outside development.
"""

import os
import signal
from collections import Counter
from typing import Final, Literal

FaultPoint = Literal[
    "after_decode",
    "after_look_up",
    "after_dispatch",
    "after_flush",
    "before_commit",
    "after_commit",
    "between_replies",
    "before_ack",
    "after_ack",
    "before_cache_clear",
    "after_cache_clear",
]

VARIABLE: Final = "FAULT_POINT"


class FaultPoints:
    """Kills, or stops, its own process when the armed point is reached."""

    def __init__(self, armed: str = "") -> None:
        name, _, rest = armed.partition(":")
        times, _, action = rest.partition(":")
        self._armed = name
        self._times = int(times or 1)
        self._signal = signal.SIGSTOP if action == "stop" else signal.SIGKILL
        self._reached: Counter[str] = Counter()

    def is_armed(self, point: FaultPoint) -> bool:
        """Tell whether a test asked for this point."""
        return point == self._armed

    def reach(self, point: FaultPoint) -> None:
        """Do nothing, unless a test armed this point: then be killed, or stopped, right here."""
        if point == self._armed:
            self._reached[point] += 1
            if self._reached[point] == self._times:
                os.kill(os.getpid(), self._signal)
