"""What the signals mean for the backfills: run, slow down, or stop, and why. A policy without I/O or clock.

Each signal is put in relation to its limit. Below 0.7 of it nothing happens; from there to the limit the share of time
that backfills may run falls to nothing; at the limit they stop. The worst signal decides. One that cannot be read stops
them, too: it may be the very trouble that it should warn of. It can be switched off by name, which is seen everywhere.

The live traffic answers late: its percentile is that of the last seconds. So the share does not follow the level
alone but stays below a ceiling that knows the past, as TCP's window does. Beside live traffic it begins low and grows
quickly; a stop halves it, and from there it grows slowly, so that what was too much is tried again only after minutes,
and most windows of the live traffic see nothing of it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Final

from persistence.backfill.accounts import Budget
from persistence.backfill.signals import Reading, Signal
from workers.backfill.pacing import GENTLE_TARGET_S, TARGET_S

SLOW_FROM: Final = 0.7
"""Share of a limit from which the backfills slow down."""
START: Final = 0.05
"""Where the ceiling begins beside live traffic: 25 ms of each half second."""
QUICK_PER_S: Final = 1.15
"""Growth a second while nothing was too much yet: from the start to all of the time in 21 s, within which the
percentile has answered several times."""
SLOW_PER_S: Final = 1.0067
"""Growth a second after a stop: it takes 104 s to come back to what was too much, ten windows of ten seconds."""
LEAST: Final = 0.02
"""The ceiling never falls below this: 20 ms a second, enough to learn that the traffic bears more."""
FORGET_S: Final = 60.0
"""After a minute without a sample (nothing ran) what was learned is out of date: it begins anew."""

GIB: Final = 1024.0**3

LIMITS: Final[Mapping[Signal, float]] = MappingProxyType(
    {
        # Readers of a replica accept a few seconds; ten say that it does not keep up.
        Signal.REPLICA_LAG: 10.0,
        # A slot that holds back this much fills a disk before anybody looks.
        Signal.SLOT_WAL: 4 * GIB,
        # About half of what a common SSD writes in a row; the engine alone at full speed makes 60 to 100 MB/s.
        Signal.WAL_RATE: 256 * 1024.0**2,
        # One session may always be waiting; five say that we stand in the way.
        Signal.LOCK_WAITS: 5.0,
        # A core runs one session at a time; with four for each, everybody waits three quarters of the time.
        Signal.ACTIVE_SESSIONS: 4.0,
        # A vacuum (1) slows down to two thirds, one against wraparound (2) stops: it must not be held up.
        Signal.AUTOVACUUM: 1.25,
        # Rewriting every row once makes one dead row for each live one; at three, vacuum is not keeping up.
        Signal.DEAD_TUPLES: 3.0,
        # The budget of the live traffic's 99th percentile, in milliseconds; each deployment states its own.
        Signal.LIVE_P99: 250.0,
    }
)


@dataclass(frozen=True, slots=True)
class Throttle:
    """The limits in force, and the signals that are switched off."""

    limits: Mapping[Signal, float] = field(default_factory=lambda: LIMITS)
    off: frozenset[Signal] = frozenset()

    @property
    def signals(self) -> Sequence[Signal]:
        """The signals that are listened to."""
        return [signal for signal in Signal if signal not in self.off]

    def decide(self, readings: Sequence[Reading], before: Budget) -> Budget:
        """Say what readings mean, `before` being what held since the last ones."""
        levels = {reading.signal: self._level(reading) for reading in readings}
        worst = max(levels, key=lambda signal: levels[signal], default=None)
        level = 0.0 if worst is None else levels[worst]
        if before.age_s > FORGET_S:
            start = START if any(one.signal == Signal.LIVE_P99 and one.value for one in readings) else 1.0
            before = replace(before, share=start, ceiling=start, trusted=1.0, age_s=0.0)
        ceiling, trusted, share = before.ceiling, before.trusted, 0.0
        if level < 1:
            ceiling = _grown(before)
            share = min(allowed_share(level), ceiling)
        elif before.share > 0:
            ceiling = trusted = max(LEAST, before.share / 2)
        signal = before.signal or str(Signal.LIVE_P99)
        if worst is not None and level >= SLOW_FROM:
            signal = str(worst)
        return Budget(
            level=level,
            signal=signal if share < 1 else "",
            share=share,
            ceiling=ceiling,
            trusted=trusted,
            readings=[self._shown(reading, levels[reading.signal]) for reading in readings],
            age_s=0.0,
            workers=before.workers,
        )

    def _level(self, reading: Reading) -> float:
        return math.inf if reading.value is None else reading.value / self.limits[reading.signal]

    def _shown(self, reading: Reading, level: float) -> Mapping[str, Any]:
        return {
            "signal": str(reading.signal),
            "value": reading.value,
            "limit": self.limits[reading.signal],
            "level": None if math.isinf(level) else round(level, 3),
            "trouble": reading.trouble,
        }


def _grown(before: Budget) -> float:
    """Let the ceiling grow, if it was what held the share down: one that was not reached has proved nothing."""
    if before.share < before.ceiling:
        return before.ceiling
    if before.ceiling < before.trusted:
        return min(before.trusted, before.ceiling * math.pow(QUICK_PER_S, before.age_s))
    return min(1.0, before.ceiling * math.pow(SLOW_PER_S, before.age_s))


def allowed_share(level: float) -> float:
    """Return the share of time that a level leaves: all below 0.7, none from 1.0 on, falling in a line between."""
    return max(0.0, min(1.0, (1 - level) / (1 - SLOW_FROM)))


def target_s(share: float) -> float:
    """Return how long a chunk should take: the less may be run, the shorter each stretch."""
    return TARGET_S if share >= 1 else max(GENTLE_TARGET_S, TARGET_S * share)


def stretch_s(expected_s: float, share: float, workers: int) -> float:
    """Return how much of everybody's budget a chunk takes up: all workers together run `share` of their time."""
    return expected_s / (max(share, LEAST) * workers)
