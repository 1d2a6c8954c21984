"""What the signals mean for the backfills: run, slow down, or stop, and why. A policy without I/O or clock.

Each signal is put in relation to its limit. Below 0.7 of it nothing happens; from there to the limit the share of time
that backfills may run falls to nothing; at the limit they stop. The worst signal decides. One that cannot be read stops
them, too: it may be the very trouble that it should warn of. It can be switched off by name, which is seen everywhere.

The live traffic answers late: its percentile is that of the last seconds. So the share stays below a ceiling that knows
the past, as TCP's window does. Beside live traffic it begins low and grows while the level stays below 0.7, the slower
the nearer it is. A stop halves it; it comes back quickly to a little below what was too much, lingers there for two
minutes, so that the live traffic sees little of it, and grows on from there if that was bearable after all.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Final

from persistence.backfill.accounts import SAMPLE_VALID_S, Budget
from persistence.backfill.signals import Reading, Signal
from workers.backfill.pacing import GENTLE_TARGET_S, LEAST_TARGET_S, TARGET_S

SLOW_FROM: Final = 0.7
"""Share of a limit from which the backfills slow down."""
NEAR_FROM: Final = SLOW_FROM / 2
"""… and from which the ceiling grows more slowly, down to nothing at 0.7: the nearer, the smaller the steps, so that it
comes to rest there instead of jumping over it."""
LEAST: Final = 0.01
"""Where the ceiling begins beside live traffic, and never falls below: 10 ms a second, which a 99th percentile cannot
show. A stop at no more than this was not our doing, and teaches nothing."""
QUICK_PER_S: Final = 1.07
"""Growth a second: it doubles in 10 s, within which the percentile of the last seconds has answered."""
SLOW_PER_S: Final = 1.004
"""Growth a second about what was too much: it takes 89 s to come back to it, and 135 s to leave it behind, so that one
of ten windows of ten seconds meets it, or none. CUBIC has the same plateau (RFC 9438, section 4.2)."""
PLATEAU: Final = (0.7, 1.2)
"""… which lies between these parts of what was too much."""
PART_OF_LIVE: Final = 0.5
"""How much of the live traffic's budget a chunk may take; the rest is the request's own time and its queue's."""
FORGET_S: Final = 60.0
"""After a minute without a sample (nothing ran) what was learned is out of date: it begins anew. So it does when a
signal is switched off or on: nobody is held by what he does not listen to, nor trusts what ran unheard."""

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
        if before.age_s > FORGET_S or {one["signal"] for one in before.readings} != {str(one) for one in levels}:
            start = LEAST if any(one.signal == Signal.LIVE_P99 and one.value for one in readings) else 1.0
            before = replace(before, share=start, ceiling=start, trusted=1.0, age_s=0.0)
        ceiling, trusted, share = before.ceiling, before.trusted, 0.0
        if level < 1:
            if level < SLOW_FROM:
                ceiling = _grown(before, level)
            share = ceiling * allowed_share(level)
        elif before.share > 0 and before.ceiling > LEAST:
            ceiling, trusted = max(LEAST, before.ceiling / 2), before.ceiling * PLATEAU[0]
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


def _grown(before: Budget, level: float) -> float:
    """Let the ceiling grow, if it was what held the share down: one that was not reached has proved nothing.

    Nor has the time after a sample that was out of date: nothing ran then, as while every run was paused.
    """
    if before.share < before.ceiling:
        return before.ceiling
    room = min(1.0, (SLOW_FROM - level) / (SLOW_FROM - NEAR_FROM))
    grows_s = min(before.age_s, SAMPLE_VALID_S) * room
    plateau_ends = before.trusted * PLATEAU[1] / PLATEAU[0]
    if before.trusted <= before.ceiling < plateau_ends:
        return min(1.0, before.ceiling * math.pow(SLOW_PER_S, grows_s))
    edge = before.trusted if before.ceiling < before.trusted else 1.0
    return min(edge, before.ceiling * math.pow(QUICK_PER_S, grows_s))


def allowed_share(level: float) -> float:
    """Return the share of time that a level leaves: all below 0.7, none from 1.0 on, falling in a line between."""
    return max(0.0, min(1.0, (1 - level) / (1 - SLOW_FROM)))


def target_s(budget: Budget) -> float:
    """Return how long a chunk should take: the less may be run, the shorter each stretch.

    Beside live traffic it is at most half of the traffic's own budget: a request that meets a chunk, at a row that it
    has locked or on the core that it keeps busy, waits for the chunk's end, and is to stay within the budget even so.
    """
    felt_s = [
        float(one["limit"]) / 1000 * PART_OF_LIVE
        for one in budget.readings
        if one["signal"] == Signal.LIVE_P99 and one["value"]
    ]
    target = TARGET_S if budget.share >= 1 else max(GENTLE_TARGET_S, TARGET_S * budget.share)
    return max(LEAST_TARGET_S, min([target, *felt_s]))


def stretch_s(expected_s: float, share: float, workers: int) -> float:
    """Return how much of everybody's budget a chunk takes up: all workers together run `share` of their time."""
    return expected_s / (max(share, LEAST) * workers)
