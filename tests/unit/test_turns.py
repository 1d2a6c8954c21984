"""A batch is shared among the partitions that have records."""

import sys
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from itertools import count as counting
from types import SimpleNamespace

import cramjam
import pytest
from aiokafka.consumer.fetcher import Fetcher, FetchError, FetchResult, PartitionRecords
from aiokafka.errors import CorruptRecordException, TopicAuthorizationFailedError
from aiokafka.structs import TopicPartition

from contracts.codec import UNREADABLE, Omission
from tests.record_batches import GZIP, LZ4, SNAPPY, ZSTD, Part, around, batch, records
from workers.kafka.records import RecordBatches
from workers.kafka.turns import READING_S, share_out

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


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
        self._holds(partition, Source(offsets))

    def holds_batches(self, partition: int, data: bytes) -> RecordBatches:
        """What a fetch brought, byte for byte."""
        one, batches = TopicPartition("t", partition), RecordBatches(data)
        self._holds(partition, PartitionRecords(one, batches, [], 0, None, None, True, 0))
        return batches

    def _holds(self, partition: int, records: Source | PartitionRecords) -> None:
        one = TopicPartition("t", partition)
        state = self.positions.setdefault(one, SimpleNamespace(position=0, paused=False))
        state.consumed_to = lambda offset: setattr(state, "position", offset)
        assignment = SimpleNamespace(active=True, state_value=self.positions.__getitem__)
        self._records[one] = FetchResult(one, assignment=assignment, partition_records=records, backoff=0.1)


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


# ----------------------------------------------------------------------------------------------------- bytes of a batch

KIB = 1024
MIB = 1024 * KIB
GOOD = Part(b"g" * 200)
FULL = Part(b"f" * 256 * KIB, b"k")
BOMB = Part(b"\0" * (60 * MIB))
CROWD = Part(more_headers=1_000_000)


def far_back(count: int, window: int) -> bytes:
    """Full records in a zstd frame that refers back as far as this power of two says."""
    options = {int(zstd.CompressionParameter.window_log): window, int(zstd.CompressionParameter.compression_level): 1}
    written = records([FULL] * count)
    packed = zstd.compress(written, options=options)
    return around(written, count, 0, ZSTD, packed=packed)


def one_block(count: int) -> bytes:
    """Full records in one block of snappy, which has to be unpacked as a whole."""
    written = records([FULL] * count)
    return around(written, count, 0, SNAPPY, packed=bytes(cramjam.snappy.compress_raw(written)))


FETCHED: dict[str, tuple[Callable[[], bytes], int, int, int]] = {
    # name: what each partition has, in how many, how many good records each has, and how many that are cut
    "300 commands in one batch of 75 MiB": (lambda: batch(0, [FULL] * 300, GZIP), 1, 300, 0),
    "40 full commands in each of 12": (lambda: batch(0, [FULL] * 40, LZ4), 12, 40, 0),
    "bodies of 60 MiB in each of 8": (lambda: batch(0, [GOOD, BOMB, GOOD], ZSTD), 8, 2, 1),
    "crowds of headers between": (lambda: batch(0, [GOOD, CROWD, FULL, CROWD, GOOD] * 3, GZIP), 6, 9, 6),
    "far back in each of 12": (lambda: far_back(80, 23), 12, 80, 0),
    "one block in each of 5": (lambda: one_block(80), 5, 80, 0),
    "unpacked as it is": (lambda: batch(0, [FULL] * 40), 12, 40, 0),
    "5,000 empty records": (lambda: batch(0, [Part(None, None)] * 5_000, GZIP), 3, 5_000, 0),
}


@pytest.mark.parametrize("name", FETCHED)
def test_bytes_of_a_batch(name: str) -> None:
    """Each good record comes, in order, whatever its batch holds; at no time are more than 32 MiB unpacked of all."""
    make, partitions, good, cut = FETCHED[name]
    data = make()
    assert len(data) < 12 * MIB
    fetched = Fetched()
    readers = [fetched.holds_batches(partition, data) for partition in range(partitions)]
    seen: dict[int, list[int]] = {partition: [] for partition in range(partitions)}
    found: Counter[bool] = Counter()
    while fetched._records:
        taken = share_out(fetched, 500, lambda: 0.0)  # whose time stands still: a batch ends by its bytes alone
        size = 0
        for partition, some in taken.items():
            seen[partition.partition] += [record.offset for record in some]
            found.update(Omission.of(record.headers) is None for record in some)
            size += sum(len(record.key or b"") + len(record.value or b"") for record in some)
        assert size + sum(reader.held_bytes for reader in readers) <= 32 * MIB
    assert found == Counter({True: good * partitions, False: cut * partitions})
    assert set(map(tuple, seen.values())) == {tuple(range(good + cut))}


@pytest.mark.parametrize("lanes", [1, 2, 3, 16])
def test_lanes_share_the_bytes_of_a_batch(lanes: int) -> None:
    """A batch of one of n lanes holds the n-th part of 32 MiB at most, and a record at least; all records come."""
    fetched = Fetched()
    for partition in range(12):
        fetched.holds_batches(partition, batch(0, [FULL] * 20, LZ4))
    largest, found = 0, 0
    while fetched._records:
        records = [record for some in share_out(fetched, 500, lanes=lanes).values() for record in some]
        largest = max(largest, sum(len(record.value or b"") for record in records))
        found += len(records)
    assert found == 12 * 20
    assert 16 * MIB // lanes < largest <= 32 * MIB // lanes


def test_further_back_than_anybody_may_remember() -> None:
    """What takes more memory to unpack than a batch has is put aside as one record; what came before it is not lost."""
    fetched = Fetched()
    fetched.holds_batches(0, far_back(200, 27) + batch(200, [GOOD]))
    offsets, told = [], []
    while fetched._records:
        for some in share_out(fetched, 500).values():
            offsets += [record.offset for record in some]
            told += [name for record in some for name, _ in record.headers]
    assert offsets[-2:] == [199, 200]
    assert offsets == [*range(len(offsets) - 2), 199, 200]
    assert [name[0] for name in told] == [UNREADABLE]


# ------------------------------------------------------------------------------------------------------ time of a batch

LARGE = Part(b"\0" * (16 * MIB))
LONG: dict[str, Callable[[], bytes]] = {
    "a body in gzip": lambda: batch(0, [GOOD, LARGE, GOOD], GZIP),
    "a body in zstd": lambda: batch(0, [LARGE, GOOD], ZSTD),
    "bodies in lz4": lambda: batch(0, [GOOD, LARGE, LARGE], LZ4),
    "headers in snappy": lambda: batch(0, [GOOD, Part(more_headers=8_000_000), GOOD], SNAPPY),
    "a key": lambda: batch(0, [GOOD, Part(key=LARGE.value)], GZIP),
    "full commands": lambda: batch(0, [FULL] * 100, ZSTD),
    "batches of one body each": lambda: b"".join(batch(at, [Part(b"\0" * MIB)], GZIP) for at in range(30)),
}


@pytest.mark.parametrize("name", LONG)
def test_time_of_a_batch(name: str) -> None:
    """Where a partition takes long to unpack only its own records are late; each batch takes its bounded time.

    The clock counts the looks at it: there is one before each step.
    """
    ticks = counting()
    step_s = READING_S / 40
    fetched = Fetched()
    slow = fetched.holds_batches(0, LONG[name]())
    for partition in (1, 2, 3):
        fetched.holds_batches(partition, batch(0, [GOOD] * 400))
    served: Counter[int] = Counter()
    late = 0
    while fetched._records:
        before = next(ticks)
        others_have = {TopicPartition("t", partition) for partition in (1, 2, 3) if served[partition] < 400}
        got = share_out(fetched, 40, lambda: next(ticks) * step_s)
        assert next(ticks) - before <= 40 + 3 * 8
        if others_have:
            assert got.keys() >= others_have or sum(map(len, got.values())) >= 40
        late += slow.is_stopped
        served.update({partition.partition: len(records) for partition, records in got.items()})
    assert late > 3
    assert [served[partition] for partition in (1, 2, 3)] == [400, 400, 400]
