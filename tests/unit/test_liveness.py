"""When a worker is stuck, and when it only waits."""

import asyncio
from dataclasses import replace

import pytest

from workers.kafka.observation import EdgeHealth, PartitionHealth
from workers.liveness import Presence, stuck_because, until_stuck

AFTER_S = 60.0
WELL = EdgeHealth(joined=True, partitions=(), last_poll_s=0.1, paused_s=0, busy_s=0, closed_reply_topics=0)


def partition(*, lag: int = 5, stuck_s: float = 61, fetched_s: float | None = 1) -> PartitionHealth:
    """Make a partition with work that was last advanced so long ago."""
    return PartitionHealth(("t.commands", 3), 10, 10 + lag, stuck_s, fetched_s)


@pytest.mark.parametrize(
    ("health", "reason"),
    [
        (WELL, None),
        (replace(WELL, partitions=(partition(),)), "5 records of t.commands/3 wait, and none was decided for 61 s"),
        (replace(WELL, partitions=(partition(stuck_s=59),)), None),
        (replace(WELL, partitions=(partition(lag=0),)), None),
        (replace(WELL, busy_s=61), "one batch has been under way for 61 s"),
        (replace(WELL, busy_s=59, fault="aiokafka's fetching ended"), None),
        (replace(WELL, fatal="Kafka refuses us"), "Kafka refuses us"),
        (replace(WELL, joined=False), None),
    ],
)
def test_stuck_is_work_without_progress(health: EdgeHealth, reason: str | None) -> None:
    """Work that lies there for longer than it may, a batch that does not end, and what cannot be mended: no more."""
    assert stuck_because(health, None, AFTER_S) == reason


@pytest.mark.parametrize("fetched_s", [None, 61])
def test_a_broker_that_is_away_makes_nobody_stuck(fetched_s: float | None) -> None:
    """Where no fetch is answered, the records of before wait for the broker, not for this worker."""
    assert stuck_because(replace(WELL, partitions=(partition(fetched_s=fetched_s),)), None, AFTER_S) is None


def test_an_outage_makes_nobody_stuck() -> None:
    """While the pipeline waits for a server, nothing but a fatal fault counts."""
    waiting = replace(WELL, partitions=(partition(),), busy_s=100)
    assert stuck_because(waiting, "postgres", AFTER_S) is None
    assert stuck_because(replace(waiting, fatal="x"), "postgres", AFTER_S) == "x"


async def test_a_stuck_worker_ends_only_if_it_stays_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that goes on again in time is not ended; one that stays stuck is, with the last reason."""
    monkeypatch.setattr("workers.liveness.WATCH_EVERY_S", 0.001)
    reasons: list[str | None] = ["first", None, "second"]

    def stuck() -> str | None:
        return reasons.pop(0) if len(reasons) > 1 else reasons[0]

    assert await asyncio.wait_for(until_stuck(stuck, 0.01), 30) == "second"


class Machine:
    """A process's clocks: time that passes, and the time in which it ran."""

    def __init__(self) -> None:
        self.now_s, self.cpu_s = 1000.0, 10.0

    def passes(self, seconds: float, cpu: float = 0.01) -> None:
        """Let time pass; the process ran for a part of it."""
        self.now_s += seconds
        self.cpu_s += seconds * cpu


# Steps of (seconds, part of them that the process ran); what is told as an age at the end; what of it counts.
@pytest.mark.parametrize(
    ("steps", "age_s", "seen_s"),
    [
        ([(1, 0.01)] * 70, 70, 70),
        ([(1, 0.01), (90, 0.0), (1, 0.01)], 92, 2),
        ([(90, 0.0)], 91, 1),
        ([(1, 0.01)] * 30 + [(40, 0.0)] + [(1, 0.01)] * 31, 101, 61),
        ([(30, 0.0), (1, 0.01), (30, 0.0), (1, 0.01)], 62, 2),
        ([(90, 0.0), (1, 0.01)], 20, 1),
        ([(90, 0.0)] + [(1, 0.01)] * 10, 5, 5),
        ([(90, 0.99)], 90, 90),
        ([(4, 0.0)] * 20, 80, 80),
    ],
)
def test_a_stop_is_no_time_that_anything_took(steps: list[tuple[float, float]], age_s: float, seen_s: float) -> None:
    """What went by while the process was stopped counts for nobody's age; what a busy loop took does."""
    machine = Machine()
    presence = Presence(lambda: machine.now_s, lambda: machine.cpu_s)
    for seconds, cpu in steps:
        machine.passes(seconds, cpu)
        presence.look()
    assert presence.seen_s(age_s) == pytest.approx(seen_s)


@pytest.mark.parametrize("stopped_s", [0, 6, 60, 600, 86_400])
def test_a_worker_that_was_stopped_is_not_stuck_when_it_wakes(stopped_s: float) -> None:
    """Neither its batch nor its partitions are; those that were stuck before still are."""
    machine = Machine()
    presence = Presence(lambda: machine.now_s, lambda: machine.cpu_s)
    machine.passes(stopped_s, 0)
    waking = replace(WELL, busy_s=1 + stopped_s, partitions=(partition(stuck_s=3 + stopped_s, fetched_s=stopped_s),))
    assert stuck_because(presence.seen(waking), None, AFTER_S) is None
    stuck = replace(WELL, partitions=(partition(stuck_s=61 + stopped_s, fetched_s=1 + stopped_s),))
    assert stuck_because(presence.seen(stuck), None, AFTER_S) is not None
    busy = replace(WELL, busy_s=61 + stopped_s)
    assert stuck_because(presence.seen(busy), None, AFTER_S) == "one batch has been under way for 61 s"
