"""What the signals mean for the backfills: run, slow down, or stop, and why. A policy without I/O or clock.

Each signal is put in relation to its limit. Below 0.7 of it nothing happens; from there to the limit the share of time
that backfills may run falls to nothing; at the limit they stop. The worst signal decides. One that cannot be read stops
them, too: it may be the very trouble that it should warn of. It can be switched off by name, which is seen everywhere.

A stop halves the ceiling under which the share grows back, step by step: the live traffic's percentile answers seconds
late, and what grew back at once would swing between all and nothing.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from persistence.backfill.accounts import Budget
from persistence.backfill.signals import Reading, Signal
from workers.backfill.pacing import GENTLE_TARGET_S, TARGET_S

SLOW_FROM: Final = 0.7
"""Share of a limit from which the backfills slow down."""
CEILING_PER_S: Final = 0.02
"""How fast the ceiling grows back, in shares a second: from a half to full in 25 s, some windows of the percentile."""
LEAST_CEILING: Final = 0.02
"""The ceiling never falls below this: 20 ms a second, enough to learn that the traffic bears more."""

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
        elapsed_s = min(before.age_s, 1 / CEILING_PER_S)
        if level >= 1:
            ceiling = max(LEAST_CEILING, before.share / 2) if before.share > 0 else before.ceiling
            share = 0.0
        else:
            ceiling = min(1.0, before.ceiling + CEILING_PER_S * elapsed_s)
            share = min(allowed_share(level), ceiling)
        signal = str(worst) if worst is not None and level >= SLOW_FROM else before.signal if share < 1 else ""
        return Budget(
            level=level,
            signal=signal,
            share=share,
            ceiling=ceiling,
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


def allowed_share(level: float) -> float:
    """Return the share of time that a level leaves: all below 0.7, none from 1.0 on, falling in a line between."""
    return max(0.0, min(1.0, (1 - level) / (1 - SLOW_FROM)))


def target_s(share: float) -> float:
    """Return how long a chunk should take: the less may be run, the shorter each stretch."""
    return TARGET_S if share >= 1 else max(GENTLE_TARGET_S, TARGET_S * share)


def stretch_s(expected_s: float, share: float, workers: int) -> float:
    """Return how much of everybody's budget a chunk takes up: all workers together run `share` of their time."""
    return expected_s / (max(share, LEAST_CEILING) * workers)
