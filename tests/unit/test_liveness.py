"""When a worker is stuck, and when it only waits."""

import asyncio
from dataclasses import replace

import pytest

from workers.kafka.observation import EdgeHealth, PartitionHealth
from workers.liveness import stuck_because, until_stuck

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

    assert await asyncio.wait_for(until_stuck(stuck, 0.01), 5) == "second"
