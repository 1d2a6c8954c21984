"""A batch is shared among the partitions that have records."""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest
from aiokafka.consumer.fetcher import Fetcher, FetchError, FetchResult
from aiokafka.errors import CorruptRecordException, TopicAuthorizationFailedError
from aiokafka.structs import TopicPartition

from workers.kafka.records import RecordBatches
from workers.kafka.turns import share_out


class Source:
    """What was fetched of a partition: records by their offsets alone."""

    def __init__(self, offsets: Iterator[int]) -> None:
        self._offsets = offsets
        self._records = RecordBatches(b"")
        self._records_iterator = offsets
        self.next_fetch_offset = 0

    def __iter__(self) -> "Source":
        return self

    def __next__(self) -> int:
        offset = next(self._offsets)
        self.next_fetch_offset = offset + 1
        return offset


class Fetched:
    """aiokafka's fetcher, as far as records are handed out of it."""

    _set_error = Fetcher._set_error
    _prefetch_backoff = 0.1
    _wait_consume_future = None

    def __init__(self) -> None:
        self._records: OrderedDict[TopicPartition, FetchResult | FetchError] = OrderedDict()
        self.positions: dict[TopicPartition, SimpleNamespace] = {}
        self.asked_again = 0

    def _notify(self, _: object) -> None:
        self.asked_again += 1

    def holds(self, partition: int, offsets: Iterator[int]) -> None:
        one = TopicPartition("t", partition)
        state = self.positions.setdefault(one, SimpleNamespace(position=0, paused=False))
        state.consumed_to = lambda offset: setattr(state, "position", offset)
        assignment = SimpleNamespace(active=True, state_value=self.positions.__getitem__)
        self._records[one] = FetchResult(one, assignment=assignment, partition_records=Source(offsets), backoff=0.1)


def taken(fetched: Fetched, max_records: int) -> dict[int, int]:
    """How many records of each partition the next batch has."""
    return {partition.partition: len(records) for partition, records in share_out(fetched, max_records).items()}


@pytest.mark.parametrize(
    ("have", "max_records", "share"),
    [
        ([5_000], 500, [500]),
        ([5_000, 5_000], 500, [250, 250]),
        ([5_000, 5_000, 5_000], 500, [167, 167, 166]),
        ([5_000, 3], 500, [497, 3]),
        ([5_000, 5_000, 10], 500, [245, 245, 10]),
        ([5_000, 0, 100, 5_000], 500, [200, 0, 100, 200]),
        ([3, 2, 1], 500, [3, 2, 1]),
        ([9] * 7, 5, [1, 1, 1, 1, 1, 0, 0]),
    ],
)
def test_share(have: list[int], max_records: int, share: list[int]) -> None:
    """While k partitions have records, each gets its k-th part, rounded up; more only where others have fewer."""
    fetched = Fetched()
    for partition, count in enumerate(have):
        fetched.holds(partition, iter(range(count)))
    found = taken(fetched, max_records)
    assert [found.get(partition, 0) for partition in range(len(have))] == share
    assert [state.position for state in fetched.positions.values()] == share


def test_whose_turn_is_first() -> None:
    """With fewer places than partitions, everybody's turn comes equally often."""
    fetched = Fetched()
    for partition in range(5):
        fetched.holds(partition, iter(range(100)))
    found = [partition for _ in range(5) for partition in taken(fetched, 2)]
    assert sorted(found) == sorted([*range(5)] * 2)


def test_each_in_its_order() -> None:
    """The records of a partition come in the order of the log, once each, whatever the others have."""
    fetched = Fetched()
    have = [1_000, 37, 400, 1]
    for partition, count in enumerate(have):
        fetched.holds(partition, iter(range(count)))
    seen: dict[int, list[int]] = {}
    while batch := share_out(fetched, 90):
        for partition, offsets in batch.items():
            seen.setdefault(partition.partition, []).extend(offsets)
    assert seen == {partition: list(range(count)) for partition, count in enumerate(have)}
    assert not fetched._records
    assert fetched.asked_again == len(have)


def broken(count: int) -> Iterator[int]:
    """Some records, then damage."""
    yield from range(count)
    raise CorruptRecordException("damaged")


def moved(fetched: Fetched) -> None:
    """Have the consumer seek."""
    fetched.positions[TopicPartition("t", 1)].position = 7


def paused(fetched: Fetched) -> None:
    """Have the consumer pause a partition."""
    fetched.positions[TopicPartition("t", 1)].paused = True


@pytest.mark.parametrize("change", [moved, paused])
def test_what_is_not_wanted_any_more(change: Callable[[Fetched], None]) -> None:
    """What was fetched before a seek or a pause is thrown away; the others' records come."""
    fetched = Fetched()
    for partition in range(3):
        fetched.holds(partition, iter(range(10)))
    change(fetched)
    assert taken(fetched, 30) == {0: 10, 2: 10}
    assert fetched.positions[TopicPartition("t", 1)].position in {0, 7}


@pytest.mark.parametrize("count", [0, 4])
def test_damage_is_one_partitions(count: int) -> None:
    """A partition's error costs no record of its own before it, nor of another; the next call tells it, and once."""
    fetched = Fetched()
    fetched.holds(0, broken(count))
    fetched.holds(1, iter(range(10)))
    assert taken(fetched, 100) == ({0: count} if count else {}) | {1: 10}
    assert fetched.positions[TopicPartition("t", 0)].position == count
    with pytest.raises(CorruptRecordException):
        share_out(fetched, 100)
    assert share_out(fetched, 100) == {}


def test_error_alone() -> None:
    """Where nobody has records, an error is raised at once."""
    fetched = Fetched()
    fetched.holds(0, broken(0))
    with pytest.raises(CorruptRecordException):
        share_out(fetched, 100)
    fetched._set_error(TopicPartition("t", 1), TopicAuthorizationFailedError("t"))
    with pytest.raises(TopicAuthorizationFailedError):
        share_out(fetched, 100)
    assert not fetched._records
