"""Messages that were posted: what became of each, where a batch of one partition holds those of several callers."""

import asyncio
from types import SimpleNamespace
from typing import Any, Final

import pytest
from aiokafka.errors import KafkaError, NotEnoughReplicasError, PolicyViolationError, ProducerClosed
from aiokafka.structs import TopicPartition

from workers.kafka.producer import MAX_BATCH_BYTES, NeighbourRefusedError, Parcel, _Queue, murmur2
from workers.ports import Message

PARTITION: Final = TopicPartition("t", 0)
MESSAGES: Final = [Message("t", b"k", b"%d" % number, []) for number in range(6)]


@pytest.fixture
async def queue() -> Any:  # noqa: ANN401 - aiokafka's queue is untyped
    """A producer's queue, of which nothing is sent unless the test does it."""
    return _Queue(SimpleNamespace(cluster=None), None)


async def post(queue: Any, *indices: int) -> list[Parcel]:  # noqa: ANN401 - as above
    """Queue these messages."""
    posted: list[Parcel] = []
    await queue.add(PARTITION, MESSAGES, indices, posted)
    return posted


def told(parcel: Parcel) -> list[type[KafkaError]]:
    """Say what each of a parcel's messages met."""
    return [type(error) for error in parcel.errors()]


@pytest.mark.parametrize(
    ("refused", "first", "second"),
    [
        ({0}, [PolicyViolationError, NeighbourRefusedError], [NeighbourRefusedError, NeighbourRefusedError]),
        ({1}, [NeighbourRefusedError, PolicyViolationError], [NeighbourRefusedError, NeighbourRefusedError]),
        ({2}, [NeighbourRefusedError, NeighbourRefusedError], [PolicyViolationError, NeighbourRefusedError]),
        ({1, 3}, [NeighbourRefusedError, PolicyViolationError], [NeighbourRefusedError, PolicyViolationError]),
        (set(), [PolicyViolationError, PolicyViolationError], [PolicyViolationError, PolicyViolationError]),
    ],
)
async def test_whose_record_was_refused(
    queue: Any,  # noqa: ANN401 - as above
    refused: set[int],
    first: list[type[KafkaError]],
    second: list[type[KafkaError]],
) -> None:
    """Two callers share a batch; each hears of its own records which were refused and which were only beside one."""
    (one,), (other,) = await post(queue, 4, 2), await post(queue, 0, 5)
    assert one.delivery is other.delivery
    (batch,) = queue._batches[PARTITION]
    batch.refused = frozenset(refused)
    batch.failure(PolicyViolationError())
    assert (told(one), told(other)) == (first, second)
    assert (one.indices, other.indices) == ([4, 2], [0, 5])
    assert not one.is_taken


async def test_what_the_broker_has(queue: Any) -> None:  # noqa: ANN401 - as above
    """It is under way until the broker answers, and taken then; one future tells it of all messages of a batch."""
    (parcel,) = await post(queue, 0, 1, 2)
    assert parcel.is_under_way
    assert not parcel.is_taken
    (batch,) = queue._batches[PARTITION]
    batch.done(base_offset=7)
    assert parcel.is_taken
    assert not parcel.is_under_way
    assert parcel.errors() == []


async def test_what_is_queued_when_waiting_is_given_up(queue: Any) -> None:  # noqa: ANN401 - as above
    """A full queue makes whoever posts wait; when that is cancelled, what was queued is told."""
    large = Message("t", None, b"x" * (MAX_BATCH_BYTES // 2), [])
    posted: list[Parcel] = []
    posting = asyncio.create_task(queue.add(PARTITION, [large] * 3, [0, 1, 2], posted))
    await asyncio.sleep(0)
    posting.cancel()
    await asyncio.wait({posting})
    assert posting.cancelled()
    assert [parcel.indices for parcel in posted] == [[0]]
    assert posted[0].is_under_way


async def test_a_full_batch_is_followed_by_another(queue: Any) -> None:  # noqa: ANN401 - as above
    """When a full batch was sent, what is left goes into the next one, in its order, with a fate of its own."""
    large = Message("t", None, b"x" * (MAX_BATCH_BYTES // 2), [])
    posted: list[Parcel] = []
    posting = asyncio.create_task(queue.add(PARTITION, [large] * 2, [0, 1], posted))
    await asyncio.sleep(0)
    sent = queue._batches.pop(PARTITION)[0]
    sent.drain_ready()
    await posting
    assert [parcel.indices for parcel in posted] == [[0], [1]]
    sent.failure(NotEnoughReplicasError())
    assert told(posted[0]) == [NotEnoughReplicasError]
    assert posted[1].is_under_way


@pytest.mark.parametrize("error", [ProducerClosed(), NotEnoughReplicasError()])
async def test_a_queue_that_failed_takes_nothing(queue: Any, error: KafkaError) -> None:  # noqa: ANN401 - as above
    """What waited in it fails, and what comes later is refused with the same error."""
    (parcel,) = await post(queue, 0)
    queue.fail(error)
    assert told(parcel) == [type(error)]
    with pytest.raises(type(error)):
        await post(queue, 1)


@pytest.mark.parametrize(
    ("key", "number"),
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_keys_go_where_java_puts_them(key: bytes, number: int) -> None:
    """The hash is that of Java's client : all senders choose one partition."""
    assert murmur2(key) == number & 0xFFFFFFFF
