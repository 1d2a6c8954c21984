"""Who is to blame where a message takes too long, or what it writes is refused again and again: it, or the database?

A message is, once it failed so twice by itself while the database wrote something else in its usual time in between:
another batch of this worker, or where there was none, one row as a probe. Else the database is slow for everybody, and
the message waits. An attempt during which this process was stopped (by a signal, with its host) says nothing of either.
All of it is this process's own memory: another worker begins anew.
"""

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from statistics import median
from types import TracebackType
from typing import Final, Self

from workers.ports import LogPlace

TIMES_USUAL: Final = 5
"""In so many times its usual time something is written while the database is well."""
HISTORY_S: Final = 600.0
UNKNOWN_USUAL_S: Final = 0.2
"""What counts as usual for a probe as long as this worker has written next to nothing."""
NEVER_USUAL_S: Final = 2.0
"""A database that takes longer is not well, however long it has been so."""

_SAMPLE_EVERY_S: Final = 1.0
_ENOUGH_SAMPLES: Final = 3
_MAX_SUSPECTS: Final = 1_000
_PROBES: Final = 3
_TICK_S: Final = 0.5
_STOOD_STILL_S: Final = 1.0


class Culprit(Enum):
    """Who is to blame."""

    MESSAGE = "message"
    DATABASE = "database"
    UNSURE = "unsure"
    """The database is well, and the message has not failed often enough."""


class Attempt:
    """One attempt at a transaction: how long it took, and whether this process stood still meanwhile.

    It stood still where the event loop was not run for a second, and this process did not use the time either.
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, processor: Callable[[], float] = time.thread_time
    ) -> None:
        self.stood_still = False
        self.seconds = 0.0
        self._clock, self._processor = clock, processor

    def __enter__(self) -> Self:
        """Begin."""
        self._began_at = self.looked_at = self._clock()
        self._cpu_s = self._processor()
        self._timer = asyncio.get_running_loop().call_later(_TICK_S, self._tick)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """End."""
        self._timer.cancel()
        self._look()
        self.seconds = self.looked_at - self._began_at

    def _tick(self) -> None:
        self._look()
        self._timer = asyncio.get_running_loop().call_later(_TICK_S, self._tick)

    def _look(self) -> None:
        now, cpu_s = self._clock(), self._processor()
        missed_s = now - self.looked_at - _TICK_S
        if missed_s > _STOOD_STILL_S and cpu_s - self._cpu_s < missed_s / 2:
            self.stood_still = True
        self.looked_at, self._cpu_s = now, cpu_s


class UsualTime:
    """What something usually takes: the median of the last ten minutes, of one sample a second."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, float]] = deque()

    def add(self, now: float, seconds: float) -> None:
        """Take a sample, if it is time for one."""
        if self._samples and now - self._samples[-1][0] < _SAMPLE_EVERY_S and len(self._samples) >= _ENOUGH_SAMPLES:
            return
        self._samples.append((now, seconds))
        while self._samples[0][0] < now - HISTORY_S:
            self._samples.popleft()

    @property
    def seconds(self) -> float | None:
        """None as long as too few are known."""
        return median(seconds for _, seconds in self._samples) if len(self._samples) >= _ENOUGH_SAMPLES else None


@dataclass(slots=True)
class _Suspect:
    """A message that failed by itself; what was written since its last failure."""

    failures: int = 0
    others: int = 0
    """Batches of which it is known whether they took their usual time."""
    others_in_time: int = 0
    probe_in_time: bool = False


class Blame:
    """Keeps the evidence; `probe` writes one row and commits it. Times by `clock`, in seconds."""

    def __init__(self, probe: Callable[[], Awaitable[None]], clock: Callable[[], float] = time.monotonic) -> None:
        self._probe = probe
        self._clock = clock
        self._usual: dict[int, UsualTime] = {}  # by the batch's size, in powers of two
        self._suspects: OrderedDict[LogPlace, _Suspect] = OrderedDict()

    def committed(self, places: list[LogPlace], seconds: float) -> None:
        """Note that a batch of these records was committed after so long."""
        usual = self._usual.setdefault(len(places).bit_length(), UsualTime())
        if self._suspects:
            for place in places:
                self._suspects.pop(place, None)
            if (known_s := usual.seconds) is not None:
                for suspect in self._suspects.values():
                    suspect.others += 1
                    suspect.others_in_time += _in_time(seconds, known_s)
        usual.add(self._clock(), seconds)

    async def culprit(self, place: LogPlace, failures: int) -> Culprit:
        """Say who is to blame for a message's having failed by itself, again; raises what the probe raises.

        The message is, once it failed so often, with something else written in its usual time between any two failures.
        """
        suspect = self._suspects.setdefault(place, _Suspect())
        database_was_well = suspect.others_in_time > 0 if suspect.others else suspect.probe_in_time
        suspect.failures = suspect.failures + 1 if database_was_well else 1
        if suspect.failures >= failures:
            del self._suspects[place]
            return Culprit.MESSAGE
        while len(self._suspects) > _MAX_SUSPECTS:
            self._suspects.popitem(last=False)
        suspect.others = suspect.others_in_time = 0
        suspect.probe_in_time = False
        suspect.probe_in_time = await self._is_well()
        return Culprit.UNSURE if suspect.probe_in_time else Culprit.DATABASE

    async def _is_well(self) -> bool:
        """Write one row, and say whether that took no longer than what this worker writes in its smallest batches."""
        known = [usual.seconds for _, usual in sorted(self._usual.items())]
        usual_s = next((seconds for seconds in known if seconds is not None), UNKNOWN_USUAL_S)
        for _ in range(_PROBES):
            began_at = self._clock()
            await self._probe()
            if _in_time(self._clock() - began_at, usual_s):
                return True
        return False


def _in_time(seconds: float, usual_s: float) -> bool:
    return seconds <= min(TIMES_USUAL * usual_s, NEVER_USUAL_S)
