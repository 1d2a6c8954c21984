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
    observer.on_assigned(1)
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
    observer.on_assigned(4)
    observer.on_revoked(4, 2.0)
    clock.at += 3
    observer.on_assigned(2)
    assert sample(observer.metrics, "catalog_rebalance_seconds_count") == 1
    assert sample(observer.metrics, "catalog_rebalance_seconds_sum") == 5


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
