"""aiokafka's idempotent producer, with what one bad topic could do to all others taken out of it.

Read in aiokafka 0.14, and met again by the tests of this package:

- After an answer that says "try again" for one partition, its sender sleeps 100 ms before it sends *anything* to that
  broker, and again at every turn: one topic without enough replicas slows all replies to ten requests a second.
- For a partition without a leader it asks for metadata in a circle, without a pause.
- A batch that was refused for good has used up its sequence numbers all the same: the partition's next batch is refused
  as out of order, for the rest of that producer's life.
- `send()` waits up to `request_timeout_ms` for the metadata of an unknown topic, and refuses a record with neither key
  nor value.
- What was queued cannot be taken back: each attempt of a long outage would leave a copy in the queue.
- One record that the broker refuses (without a key, to a compacted topic) has the whole batch refused; that the answer
  names the record is ignored.
- What is queued for a partition that is gone, as its topic was made anew with fewer, stays queued for ever.

Here a partition that must wait waits alone, metadata is asked for ten times a second at most, sequence numbers of
refused batches are given back, `post()` never waits for metadata, and `withdraw()` takes back what was never sent. The
neighbours of a refused record end as `NeighbourRefusedError`, what is for a partition that is gone as
`PartitionGoneError`: both may be posted again.
"""

import asyncio
from collections import defaultdict, deque
from collections.abc import Sequence
from contextlib import suppress
from copy import copy
from typing import Any, Final, TypeAlias

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError, ProducerClosed, UnknownTopicOrPartitionError
from aiokafka.producer.message_accumulator import MessageAccumulator
from aiokafka.producer.sender import Sender, SendProduceReqHandler
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.structs import RecordMetadata, TopicPartition
from murmurhash2 import murmurhash2

from workers.kafka.security import KafkaSecurity
from workers.ports import Message

REQUEST_TIMEOUT_S: Final = 10.0
"""How long a broker may take over one request before another connection or leader is tried."""

MAX_BATCH_BYTES: Final = 256 * 1024
MAX_MESSAGE_BYTES: Final = 2 * 1024 * 1024
"""Beyond every topic of ours (1 MiB + 64 KiB) and every reply (900 KiB), headers included; the topic's own limit is for
the broker to tell."""

_SURELY_FITS: Final = MAX_MESSAGE_BYTES // 2  # a value; what its headers can add is less than that again
_METADATA_AGE_S: Final = 30.0
_RETRY_S: Final = 0.1
_SLOW_RETRY_S: Final = 1.0
_STOP_TIMEOUT_S: Final = 2.0
_FOREVER_S: Final = 86_400.0
"""For a place in the queue, and in it: whoever publishes gives up by itself, not for time in which it was stopped."""

# Kafka's error codes for "this batch was not stored, and never will be": corrupt, too large (twice), invalid topic,
# access denied, invalid timestamp, invalid request, policy violation, invalid record
_REFUSED: Final = frozenset({2, 10, 17, 18, 29, 32, 42, 44, 87})


_MURMUR2_SEED: Final = 0x9747B28C

Delivery: TypeAlias = asyncio.Future[RecordMetadata]
"""Of a batch of one partition, in which there may be several parcels."""


class PostAgainError(KafkaError):  # type: ignore[misc]
    """It was not stored, for a reason that does not lie with it."""


class NeighbourRefusedError(PostAgainError):
    """The broker refused another record of its batch."""


class PartitionGoneError(PostAgainError):
    """Its partition does not exist any more: the topic was made anew, with fewer of them."""


class Parcel:
    """Posted messages that go to the broker together and share a fate: a batch's, or an error before they had any.

    `indices` are the caller's numbers of them.
    """

    __slots__ = ("_batch", "_error", "_first", "indices")

    def __init__(self, indices: list[int], batch: Any = None, error: KafkaError | None = None) -> None:  # noqa: ANN401
        self.indices = indices
        self._batch = batch  # whose last record is the first of these, by now
        self._error = error
        self._first = 0 if batch is None else batch.record_count - 1

    @property
    def delivery(self) -> Delivery | None:
        """Done when the broker has them, or it is known that it will not; None where it is known already."""
        delivery: Delivery | None = self._batch.future if self._batch is not None else None
        return delivery

    @property
    def is_under_way(self) -> bool:
        """Whether that is not known yet."""
        return self._batch is not None and not self._batch.future.done()

    @property
    def is_taken(self) -> bool:
        """Whether the broker has all of them."""
        return self._batch is not None and self._batch.future.done() and error_of(self._batch.future) is None

    @property
    def is_certain(self) -> bool:
        """Whether its errors are those of its own messages: the broker named them, or each was alone in its batch."""
        return len(self.indices) == 1 if self._batch is None else self._batch.refused or self._batch.record_count == 1

    def errors(self) -> list[KafkaError]:
        """Why each was not taken; nothing where all were. Of what is not under way any more."""
        batch = self._batch
        error = self._error if batch is None else error_of(batch.future)
        if error is None:
            return []
        if batch is None or not batch.refused:
            return [error] * len(self.indices)
        places = range(self._first, self._first + len(self.indices))
        return [error if place in batch.refused else NeighbourRefusedError() for place in places]


class PatientProducer(AIOKafkaProducer):  # type: ignore[misc]
    """An idempotent producer, acks=all, whose partitions do not wait for each other."""

    def __init__(self, bootstrap_servers: str, client_id: str, security: KafkaSecurity) -> None:
        super().__init__(
            bootstrap_servers=bootstrap_servers,
            client_id=client_id,
            acks="all",
            enable_idempotence=True,
            linger_ms=0,
            max_batch_size=MAX_BATCH_BYTES,
            max_request_size=MAX_MESSAGE_BYTES,
            metadata_max_age_ms=int(_METADATA_AGE_S * 1000),
            request_timeout_ms=int(REQUEST_TIMEOUT_S * 1000),
            retry_backoff_ms=int(_RETRY_S * 1000),
            **security.client_options(),
        )
        self._message_accumulator = _Queue(self.client, self._txn_manager)
        self._sender = _Sender(
            self.client,
            acks=-1,
            txn_manager=self._txn_manager,
            message_accumulator=self._message_accumulator,
            retry_backoff_ms=int(_RETRY_S * 1000),
            request_timeout_ms=int(REQUEST_TIMEOUT_S * 1000),
        )

    @property
    def alive(self) -> bool:
        """Whether anything sent will ever leave."""
        sender = self._sender.sender_task
        return not self._closed and sender is not None and not sender.done()

    def knows(self, topic: str) -> bool:
        """Whether `post` to this topic is possible."""
        return bool(self._metadata.partitions_for_topic(topic))

    def leaders(self, topic: str) -> dict[int, int]:
        """Which broker leads each partition, as far as it is known."""
        partitions = self._metadata.partitions_for_topic(topic) or ()
        led = {number: self._metadata.leader_for_partition(TopicPartition(topic, number)) for number in partitions}
        return {number: leader for number, leader in led.items() if leader is not None}

    async def post(
        self,
        topic: str,
        messages: Sequence[Message],
        indices: Sequence[int],
        posted: list[Parcel],
        *,
        apart: bool = False,
    ) -> None:
        """Queue those messages, all of this topic; append to `posted` what was queued, and what was not taken and why.

        `apart`: in batches of their own, which hold nothing that others post.

        Waits only while this topic's own queue is full; a cancelled call leaves in `posted` what was queued. Raise
        UnknownTopicOrPartitionError for a topic that `knows` denies, or a partition that it does not have.
        """
        partitions = sorted(self._metadata.partitions_for_topic(topic) or ())
        if not partitions:
            raise UnknownTopicOrPartitionError(topic)
        available = sorted(self._metadata.available_partitions_for_topic(topic))
        of_partition: dict[int, list[int]] = {}
        too_large: list[int] = []
        for index in indices:
            message = messages[index]
            if len(message.value or b"") > _SURELY_FITS and _size(message) > MAX_MESSAGE_BYTES:
                too_large.append(index)
                continue
            partition = message.partition
            if partition is None:
                partition = self._choose(message.key, partitions, available)
            elif partition not in partitions:
                raise UnknownTopicOrPartitionError(topic)
            of_partition.setdefault(partition, []).append(index)
        if too_large:
            posted.append(Parcel(too_large, error=MessageSizeTooLargeError()))
        for partition, chosen in of_partition.items():
            await self._message_accumulator.add(TopicPartition(topic, partition), messages, chosen, posted, apart=apart)

    def slow_down(self, topics: frozenset[str]) -> None:
        """Try what is stuck of these topics once a second from now on, of all others ten times."""
        self._sender.slow_topics = topics

    def withdraw(self, topic: str, error: KafkaError) -> None:
        """Fail what is queued for this topic and was never sent."""
        self._message_accumulator.withdraw(topic, error)

    async def abort(self, error: KafkaError) -> None:
        """Close at once. All that is not acknowledged fails; the broker may have it nevertheless."""
        self._closed = True
        self._message_accumulator.fail(error)
        with suppress(TimeoutError, KafkaError):
            async with asyncio.timeout(_STOP_TIMEOUT_S):
                await self._sender.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(_STOP_TIMEOUT_S):
                await self.client.close()

    def _choose(self, key: bytes | None, partitions: list[int], available: list[int]) -> int:
        if len(partitions) == 1:
            return partitions[0]
        if key is None:
            chosen: int = self._partitioner(None, partitions, available)
            return chosen
        return partitions[(murmur2(key) & 0x7FFFFFFF) % len(partitions)]


class _Queue(MessageAccumulator):  # type: ignore[misc]
    """aiokafka's queue of batches; what was never sent can be taken back."""

    _batches: dict[TopicPartition, deque[Any]]

    def __init__(self, client: Any, txn_manager: Any) -> None:  # noqa: ANN401 - aiokafka is untyped
        super().__init__(client.cluster, MAX_BATCH_BYTES, 0, _FOREVER_S, txn_manager=txn_manager, linger_ms=0)
        self._client = client
        self._asking = False

    async def add(
        self,
        partition: TopicPartition,
        messages: Sequence[Message],
        indices: Sequence[int],
        posted: list[Parcel],
        *,
        apart: bool = False,
    ) -> None:
        """Queue messages of one partition, in their order: as `add_message` does, with one future for a batch."""
        batch: Any = None
        taken: list[int] = []
        for index in indices:
            message = messages[index]
            while batch is None or not _append(batch, message):
                if batch is not None:
                    self.wake()
                    await batch.wait_drain(_FOREVER_S)
                batch, taken = self._open_batch(partition, apart=apart), []
            if not taken:
                posted.append(Parcel(taken, batch))
            taken.append(index)
        if apart and batch is not None:
            batch._builder.close()  # noqa: SLF001 - no public way to have nothing more put into it

    def _open_batch(self, partition: TopicPartition, *, apart: bool) -> Any:  # noqa: ANN401 - aiokafka is untyped
        """Return the batch that is filled next."""
        if self._closed:
            raise ProducerClosed
        if self._exception is not None:
            raise copy(self._exception)
        waiting = self._batches.get(partition)
        return waiting[-1] if waiting and not apart else self._append_batch(self.create_builder(), partition)

    def _append_batch(self, builder: Any, tp: TopicPartition) -> Any:  # noqa: ANN401 - aiokafka is untyped
        batch = super()._append_batch(builder, tp)
        batch.future.add_done_callback(error_of)  # nobody may ask any more
        batch.refused = frozenset()  # which of its records the broker named, where it refused it for some of them
        return batch

    def drain_by_nodes(self, ignore_nodes: Any, muted_partitions: Any = frozenset()) -> tuple[Any, bool]:  # noqa: ANN401
        nodes, leaderless = super().drain_by_nodes(ignore_nodes, muted_partitions)
        if leaderless:
            self._fail_what_is_for_nobody()
        if leaderless and not self._asking:
            self._asking = True
            self._client.force_metadata_update().add_done_callback(self._asked)
        return nodes, False  # else the sender would wait for metadata, whatever comes in for other partitions

    def withdraw(self, topic: str, error: KafkaError) -> None:
        for partition, batches in list(self._batches.items()):
            if partition.topic != topic:
                continue
            sent = deque(batch for batch in batches if batch.retry_count)
            for batch in batches:
                if not batch.retry_count:
                    _fail(batch, error)
            if sent:
                self._batches[partition] = sent
            else:
                del self._batches[partition]

    def _fail_what_is_for_nobody(self) -> None:
        """Fail what is for partitions that their topics lack; a topic without any may be in the making."""
        for partition in list(self._batches):
            known = self._cluster.partitions_for_topic(partition.topic)
            if known and partition.partition not in known:
                for batch in self._batches.pop(partition):
                    _fail(batch, PartitionGoneError())

    def fail(self, error: KafkaError) -> None:
        self._exception = error
        for batch in [*self._pending_batches, *(batch for batches in self._batches.values() for batch in batches)]:
            _fail(batch, error)
        self._batches = defaultdict(deque)

    def reenqueue(self, batch: Any) -> None:  # noqa: ANN401 - aiokafka is untyped
        if not batch.future.done():  # else it failed as a whole while it was under way
            super().reenqueue(batch)

    def wake(self) -> None:
        """Have the sender look at the queue."""
        self._wakeup(self._waiter_future)

    def _asked(self, _: Any) -> None:  # noqa: ANN401 - aiokafka's future
        self.wake()
        self._loop.call_later(_RETRY_S, self._ask_again)

    def _ask_again(self) -> None:
        self._asking = False
        self.wake()


class _Sender(Sender):  # type: ignore[misc]
    """aiokafka's sender, which does not hold up a broker for one of its partitions."""

    slow_topics: frozenset[str] = frozenset()

    async def _send_produce_req(self, node_id: int, batches: dict[TopicPartition, Any]) -> None:
        request = _Request(self, node_id, batches)
        await request.do(node_id)
        request.release(batches)  # the end of this task wakes the routine that sends the next


class _Request(SendProduceReqHandler):  # type: ignore[misc]
    """One produce request: those of its partitions that are done are free again before the others have waited."""

    def __init__(self, sender: _Sender, node_id: int, batches: dict[TopicPartition, Any]) -> None:
        super().__init__(sender, batches)
        self._node_id = node_id
        self._holds_node = True

    def handle_response(self, response: Any) -> None:  # noqa: ANN401 - aiokafka is untyped
        for topic, results in response.topics:
            for partition, code, _, _, _, *told in results:
                if code in _REFUSED and told:  # from version 8 on
                    self._spare_neighbours(TopicPartition(topic, partition), {index for index, _ in told[0] or ()})
        super().handle_response(response)
        again = {batch.tp for batch in self._to_reenqueue}
        if again and all(partition.topic in self._sender.slow_topics for partition in again):
            self._default_backoff = _SLOW_RETRY_S
        for topic, results in response.topics:
            for partition, code, *_ in results:
                self._give_back_sequence(TopicPartition(topic, partition), code)
        if again:
            self.release([partition for partition in self._batches if partition not in again])
            self._sender._message_accumulator.wake()  # noqa: SLF001 - of the same class, as it were

    def release(self, partitions: Any) -> None:  # noqa: ANN401 - any iterable of partitions
        """Let these be sent again, and the broker be sent to."""
        self._sender._muted_partitions.difference_update(partitions)  # noqa: SLF001
        if self._holds_node:
            self._holds_node = False
            self._sender._in_flight.discard(self._node_id)  # noqa: SLF001

    def _spare_neighbours(self, partition: TopicPartition, refused: set[int]) -> None:
        """Tell the records that were refused from those that only were in a batch with them."""
        batch = self._batches.get(partition)
        if batch is not None:
            batch.refused = frozenset(refused)

    def _give_back_sequence(self, partition: TopicPartition, code: int) -> None:
        """A batch refused at its first attempt was not stored, and nothing of its partition was sent after it."""
        batch = self._batches.get(partition)
        if batch is not None and code in _REFUSED and batch.retry_count == 1:
            self._sender._txn_manager.increment_sequence_number(partition, -batch.record_count)  # noqa: SLF001


def error_of(delivery: Delivery) -> KafkaError | None:
    """Why a batch was not taken, None if it was."""
    return ProducerClosed() if delivery.cancelled() else delivery.exception()


def _append(batch: Any, message: Message) -> bool:  # noqa: ANN401 - aiokafka is untyped
    """Put a message into a batch; false where that is full, or was sent."""
    added = batch._builder.append(  # noqa: SLF001 - its own `append` makes a future for each message
        timestamp=None, key=message.key, value=message.value, headers=list(message.headers)
    )
    return added is not None


def murmur2(key: bytes) -> int:
    """Kafka's hash of a key, as Java's partitioner has it."""
    hashed: int = murmurhash2(key, _MURMUR2_SEED)
    return hashed


def _size(message: Message) -> int:
    size: int = DefaultRecordBatchBuilder.estimate_size_in_bytes(message.key, message.value, list(message.headers))
    return size


def _fail(batch: Any, error: KafkaError) -> None:  # noqa: ANN401 - aiokafka is untyped
    """Fail a batch's futures, and leave no exception behind that nobody asks for."""
    batch.failure(error)
    for future in (batch.future, batch._drain_waiter):  # noqa: SLF001
        if future.done() and not future.cancelled():
            future.exception()
