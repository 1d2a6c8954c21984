"""What the metrics and logs tell of batches, partitions and waits."""

from dataclasses import dataclass, field
from typing import Any

import pytest
from prometheus_client import Counter, Gauge

from contracts.registry import KINDS
from workers.ports import BrokerAwayError, Message
from workers.telemetry.dead_letters import CountedDeadLetters
from workers.telemetry.metrics import Metrics
from workers.telemetry.watching import OUTAGE_NOTED_S, Watching

HERE = ("t.commands", 0)
FOUR = {(HERE[0], number) for number in range(4)}


@dataclass
class Clock:
    """A clock that stands until it is moved."""

    at: float = 1_000.0

    def __call__(self) -> float:
        return self.at


@dataclass(frozen=True)
class Stored:
    """A record of a log."""

    offset: int
    timestamp: int
    topic: str = HERE[0]
    partition: int = HERE[1]
    timestamp_type: int = 1
    key: None = None
    value: None = None
    headers: list[tuple[str, bytes | None]] = field(default_factory=list)


def value(metric: Counter | Gauge, *labels: str) -> float:
    """Read a metric."""
    return float((metric.labels(*labels) if labels else metric)._value.get())


def sample(metrics: Metrics, name: str, **labels: str) -> float | None:
    """Read a sample as it is exported."""
    return metrics.registry.get_sample_value(name, labels)


def watching(clock: Clock) -> Watching:
    """Make an observer."""
    return Watching(Metrics(), KINDS, 10, clock)


def age(observer: Watching) -> float | None:
    """Read how old the oldest undecided record is, in seconds."""
    return sample(observer.metrics, "catalog_lag_seconds", topic=HERE[0], partition="0")


def test_lag_in_seconds_grows_while_nothing_happens() -> None:
    """The age of the oldest undecided record is told when asked for; it is 0 where nothing is left."""
    clock = Clock()
    observer = watching(clock)
    with observer.batch([Stored(7, 990_000), Stored(8, 995_000)]):
        observer.on_lag(HERE, 2)
        assert age(observer) == 10
        clock.at += 5
        assert age(observer) == 15
    observer.lag.decided(HERE, 995_000)
    assert age(observer) == 10
    observer.on_lag(HERE, 0)
    assert age(observer) == 0
    observer.on_assigned({HERE})
    assert age(observer) is None


def test_records_that_come_again_are_counted() -> None:
    """What was given back or rewound is a redelivery; what is new is none."""
    observer = watching(Clock())
    for offsets in ([1, 2, 3], [2, 3, 4], [5], [3]):
        with observer.batch([Stored(offset, offset) for offset in offsets]):
            pass
    assert value(observer.metrics.redeliveries) == 3
    assert observer.lag.newest_ms == 5


def test_records_of_a_topic_made_anew_are_new() -> None:
    """Offsets that begin anew are no redeliveries; what comes again of the new topic is."""
    observer = watching(Clock())
    for records in ([(1, 1), (2, 2), (3, 3)], [(0, 10), (1, 11)], [(1, 11), (2, 12)], [(0, 10)]):
        with observer.batch([Stored(offset, stamp) for offset, stamp in records]):
            pass
    assert value(observer.metrics.redeliveries) == 2


def test_an_outage_is_known_until_it_is_forgotten() -> None:
    """The server that was waited for last counts as away for a while; waiting for Redis stops nothing."""
    clock = Clock()
    observer = watching(clock)
    observer.waits("redis", 1.0)
    assert observer.outage is None
    observer.waits("kafka", 2.5)
    assert observer.outage == "kafka"
    clock.at += OUTAGE_NOTED_S + 1
    assert observer.outage is None
    observer.retry("conflict", "decide")
    assert observer.outage is None
    observer.retry("too_slow", "decide")
    assert observer.outage == "postgres"
    assert value(observer.metrics.waiting_seconds, "kafka") == 2.5


def test_a_rebalance_lasts_until_the_next_assignment() -> None:
    """Its duration includes the drain."""
    clock = Clock()
    observer = watching(clock)
    observer.on_assigned(FOUR)
    observer.on_revoked(FOUR, 2.0)
    clock.at += 3
    observer.on_assigned({HERE})
    assert sample(observer.metrics, "catalog_rebalance_seconds_count") == 1
    assert sample(observer.metrics, "catalog_rebalance_seconds_sum") == 5


def test_lanes_are_told_of_together() -> None:
    """Partitions of all lanes count; what is taken from one lane, or leaves with it, changes nothing of another's."""
    clock = Clock()
    observer = watching(clock)
    one, other = {("t.commands", 0), ("t.commands", 1)}, {("t.commands", 2), ("t.commands", 3)}
    observer.on_assigned(one)
    observer.on_assigned(other)
    assert value(observer.metrics.partitions) == 4
    for topic, number in FOUR:
        observer.on_lag((topic, number), 7)
        observer.on_held((topic, number), 3)

    def lags() -> list[int]:
        told = (
            sample(observer.metrics, "catalog_lag_messages", topic="t.commands", partition=str(n)) for n in range(4)
        )
        held = (
            sample(observer.metrics, "catalog_records_held", topic="t.commands", partition=str(n)) for n in range(4)
        )
        return [number for number, both in enumerate(zip(told, held, strict=True)) if both == (7, 3)]

    observer.on_left(one)
    assert lags() == [2, 3]
    assert value(observer.metrics.partitions) == 2
    observer.on_revoked(other, 2.0)
    assert lags() == [2, 3]  # what is known last is told until it is known whose they are
    assert value(observer.metrics.partitions) == 0
    clock.at += 1
    observer.on_assigned(one)
    assert lags() == []
    observer.on_assigned({("t.commands", 2)})
    assert value(observer.metrics.partitions) == 3


def test_a_rebalance_of_several_lanes_is_one() -> None:
    """It lasts from the first drain to the first assignment."""
    clock = Clock()
    observer = watching(clock)
    observer.on_revoked({("t.commands", 0)}, 0.5)
    clock.at += 1
    observer.on_revoked({("t.commands", 1)}, 0.25)
    clock.at += 2
    observer.on_assigned({("t.commands", 1)})
    clock.at += 3
    observer.on_assigned({("t.commands", 0)})
    assert sample(observer.metrics, "catalog_rebalance_seconds_count") == 1
    assert sample(observer.metrics, "catalog_rebalance_seconds_sum") == 3.5


class Port:
    """A dead-letter port that may be away."""

    def __init__(self) -> None:
        self.away = True

    async def publish(self, letters: Any) -> None:  # noqa: ANN401
        if self.away:
            raise BrokerAwayError("away")


async def test_dead_letters_are_counted_once_stored() -> None:
    """A dead letter that has to be published again is one dead letter."""
    metrics, port = Metrics(), Port()
    counted = CountedDeadLetters(port, metrics.dead_letters)
    letters = [Message("t", None, None, [("dlq.reason", b"INTERNAL_ERROR")])] * 2
    with pytest.raises(BrokerAwayError):
        await counted.publish(letters)
    port.away = False
    await counted.publish(letters)
    assert value(metrics.dead_letters, "INTERNAL_ERROR") == 2
