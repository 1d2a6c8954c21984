"""What a process does not see, because it is stopped, decides nothing."""

import asyncio
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from persistence.backfill import signals
from persistence.backfill.signals import Reading, Signal
from persistence.observed_time import ObservedClock


def clock_of(*times: float) -> Callable[[], float]:
    """Make a clock that shows these times, one a look."""
    shown: Iterator[float] = iter(times)
    return lambda: next(shown)


@pytest.mark.parametrize(
    ("times", "seen_s", "missed_s"),
    [
        ((0, 1, 2, 3), 3, 0),
        ((0, 1, 31, 32), 7, 25),
        ((0, 5, 10), 10, 0),
        ((0, 3600), 5, 3595),
        ((7, 7, 7), 0, 0),
        ((0, 6, 12, 18), 15, 3),
    ],
)
def test_a_gap_counts_for_little(times: tuple[float, ...], seen_s: float, missed_s: float) -> None:
    """Of each time between two looks at most five seconds were seen; the rest is what was missed."""
    clock = ObservedClock(clock_of(*times))
    for _ in times[1:]:
        now = clock()
    assert (now, clock.missed_s) == (seen_s, missed_s)


class Slow:
    """A connection whose first answers never come."""

    def __init__(self, silent: int) -> None:
        self.silent = silent

    async def fetchrow(self, *_: object) -> Any:  # noqa: ANN401
        """Answer, or never."""
        if self.silent > 0:
            self.silent -= 1
            await asyncio.Event().wait()
        return {"value": 0.5, "hidden": False}


@pytest.mark.parametrize(
    ("looks", "value"),
    [
        ((0, 2), None),  # the first answer is late, and the process was there
        ((0, 2.9), None),
        ((0, 3.5, 3.5), 0.5),  # it was stopped while it waited: asked again, the answer is there
        ((0, 30, 30), 0.5),
        ((0, 3600, 3600), 0.5),
        ((0, 30, 30, 60, 60), 0.5),  # twice
        ((0, 30, 30, 32), None),  # asked again, it is late
    ],
)
async def test_a_signal_is_not_late_because_its_reader_was_stopped(
    monkeypatch: pytest.MonkeyPatch, looks: tuple[float, ...], value: float | None
) -> None:
    """A stopped reader asks again; only an answer that it waited for is late, which stops the backfills."""
    monkeypatch.setattr(signals, "READ_TIMEOUT_S", 2.0)
    monkeypatch.setattr(signals, "ObservedClock", partial(ObservedClock, clock_of(*looks)))
    monkeypatch.setattr(asyncio, "timeout", lambda _: _timeout(0.01))
    late = (len(looks) - (value is not None)) // 2 if value is not None else len(looks) // 2
    reading = await signals._read(Slow(late), Signal.LOCK_WAITS, "select", ())  # type: ignore[arg-type]
    assert reading == Reading(Signal.LOCK_WAITS, value, "" if value is not None else "not read within 2 s")


_timeout = asyncio.timeout
