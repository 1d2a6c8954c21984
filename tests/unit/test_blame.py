"""A message that takes too long is to blame only where the database writes others in their usual time."""

import asyncio
from dataclasses import dataclass, field

import pytest

from workers.pipeline.blame import NEVER_USUAL_S, UNKNOWN_USUAL_S, Attempt, Blame, Culprit
from workers.ports import LogPlace

MESSAGE: LogPlace = ("commands", 0, 7)
OTHER: LogPlace = ("commands", 1, 3)


@dataclass
class Database:
    """A clock, and probes that take the next of these times (the last of them for ever)."""

    probes: list[float] = field(default_factory=lambda: [0.01])
    now: float = 1_000.0

    def clock(self) -> float:
        """Tell the time."""
        return self.now

    async def probe(self) -> None:
        """Write one row."""
        seconds = self.probes.pop(0) if len(self.probes) > 1 else self.probes[0]
        if seconds < 0:
            raise ConnectionResetError
        self.now += seconds


def told(database: Database, usual_s: float | None = 0.01) -> Blame:
    """Make one that has seen a minute of batches with one message."""
    blame = Blame(database.probe, database.clock)
    for _ in range(60 if usual_s is not None else 0):
        database.now += 1
        blame.committed([OTHER], usual_s or 0)
    return blame


@pytest.mark.parametrize(
    ("others", "probes", "culprit"),
    [
        ([0.01], [5.0], Culprit.MESSAGE),
        ([0.05], [5.0], Culprit.MESSAGE),
        ([0.2, 0.2, 0.01], [5.0], Culprit.MESSAGE),
        ([0.051], [0.01], Culprit.UNSURE),
        ([0.2, 0.2, 0.2], [0.01], Culprit.UNSURE),
        ([0.2], [5.0], Culprit.DATABASE),
        ([], [0.01], Culprit.MESSAGE),
        ([], [0.2, 0.2, 0.05], Culprit.MESSAGE),
        ([], [0.1], Culprit.DATABASE),
    ],
)
async def test_a_second_failure(others: list[float], probes: list[float], culprit: Culprit) -> None:
    """What other batches took in between tells; where there was none, what a probe took."""
    database = Database(probes)
    blame = told(database)
    first = await blame.culprit(MESSAGE, 2)
    assert first in {Culprit.UNSURE, Culprit.DATABASE}
    for seconds in others:
        blame.committed([OTHER], seconds)
    assert await blame.culprit(MESSAGE, 2) is culprit


@pytest.mark.parametrize("failures", [2, 3, 10])
async def test_how_often_it_has_to_fail(failures: int) -> None:
    """It is to blame when it failed so often, and begins anew after that."""
    blame = told(Database())
    for _ in range(2):
        culprits = [await blame.culprit(MESSAGE, failures) for _ in range(failures)]
        assert culprits == [Culprit.UNSURE] * (failures - 1) + [Culprit.MESSAGE]


async def test_a_commit_of_its_own_clears_it() -> None:
    """A message that was committed after all begins anew."""
    blame = told(Database())
    assert await blame.culprit(MESSAGE, 2) is Culprit.UNSURE
    blame.committed([OTHER, MESSAGE], 0.01)
    assert await blame.culprit(MESSAGE, 2) is Culprit.UNSURE


async def test_a_slow_spell_makes_earlier_failures_count_for_nothing() -> None:
    """Failures count in a row: one while the database was slow for everybody begins the count anew."""
    blame = told(Database([0.01, 3.0, 3.0, 3.0, 0.01]))
    assert await blame.culprit(MESSAGE, 3) is Culprit.UNSURE
    blame.committed([OTHER], 0.01)
    assert await blame.culprit(MESSAGE, 3) is Culprit.DATABASE
    assert await blame.culprit(MESSAGE, 3) is Culprit.UNSURE
    assert await blame.culprit(MESSAGE, 3) is Culprit.UNSURE
    assert await blame.culprit(MESSAGE, 3) is Culprit.MESSAGE


@pytest.mark.parametrize(
    ("usual_s", "probe_s", "is_well"),
    [
        (None, UNKNOWN_USUAL_S, True),
        (None, UNKNOWN_USUAL_S * 6, False),
        (1.0, NEVER_USUAL_S - 0.1, True),
        (1.0, NEVER_USUAL_S + 0.1, False),
        (0.001, 0.006, False),
    ],
)
async def test_what_is_usual(usual_s: float | None, probe_s: float, is_well: bool) -> None:
    """A worker that wrote nothing yet takes a fifth of a second for usual; what takes 2 s is usual for nobody."""
    blame = told(Database([probe_s]), usual_s)
    assert (await blame.culprit(MESSAGE, 2) is Culprit.UNSURE) is is_well


async def test_batches_are_compared_with_their_like() -> None:
    """A batch of hundreds takes longer than one of few: that tells nothing of the database."""
    database = Database([5.0])
    blame = told(database, 0.001)
    many = [("commands", 2, offset) for offset in range(400)]
    for _ in range(5):
        database.now += 1
        blame.committed(list(many), 0.1)
    await blame.culprit(MESSAGE, 2)
    blame.committed(list(many), 0.2)
    assert await blame.culprit(MESSAGE, 2) is Culprit.MESSAGE


async def test_an_outage_is_told_by_the_probe() -> None:
    """What the probe raises is raised: the database is away."""
    with pytest.raises(ConnectionResetError):
        await told(Database([-1])).culprit(MESSAGE, 2)


async def test_suspects_are_few() -> None:
    """However many messages fail, the memory of them is bounded; the newest are kept."""
    blame = told(Database())
    for offset in range(3_000):
        await blame.culprit(("commands", 0, offset), 2)
    assert len(blame._suspects) <= 1_001
    assert await blame.culprit(("commands", 0, 2_999), 2) is Culprit.MESSAGE


@pytest.mark.parametrize(
    ("passed_s", "worked_s", "stood_still"),
    [(0.4, 0.0, False), (1.4, 0.1, False), (1.6, 0.1, True), (20.0, 0.2, True), (20.0, 19.0, False), (3.0, 1.0, True)],
)
async def test_an_attempt_in_which_the_process_stood_still(passed_s: float, worked_s: float, stood_still: bool) -> None:
    """A process that let the loop stand and did not use the time was stopped; one that waits, or works, was not."""
    clock, processor = Database(), Database()
    attempt = Attempt(clock.clock, processor.clock)
    with attempt:
        clock.now += passed_s
        processor.now += worked_s
    assert attempt.stood_still is stood_still
    assert attempt.seconds == pytest.approx(passed_s)


async def test_waiting_is_not_standing_still() -> None:
    """The loop is run while a statement is waited for, however long that takes."""
    clock, processor = Database(), Database()
    attempt = Attempt(clock.clock, processor.clock)
    with attempt:
        for _ in range(3):
            before = clock.now
            clock.now += 0.6
            async with asyncio.timeout(30):
                while attempt.looked_at < clock.now:  # noqa: ASYNC110 - nobody tells
                    await asyncio.sleep(0.05)
            assert attempt.looked_at == before + 0.6
    assert not attempt.stood_still
    assert attempt.seconds > 1.7
