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
from struct import unpack_from
from typing import Any, Final, TypeAlias

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError, UnknownTopicOrPartitionError
from aiokafka.producer.message_accumulator import MessageAccumulator
from aiokafka.producer.sender import Sender, SendProduceReqHandler
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.structs import RecordMetadata, TopicPartition

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


Delivery: TypeAlias = asyncio.Future[RecordMetadata]
Queued: TypeAlias = Delivery | KafkaError
"""A message's delivery, or why it will have none."""


class PostAgainError(KafkaError):  # type: ignore[misc]
    """It was not stored, for a reason that does not lie with it."""


class NeighbourRefusedError(PostAgainError):
    """The broker refused another record of its batch."""


class PartitionGoneError(PostAgainError):
    """Its partition does not exist any more: the topic was made anew, with fewer of them."""


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

    async def post(self, topic: str, messages: Sequence[Message], queued: list[Queued]) -> None:
        """Queue messages, all of this topic; append to `queued`, for each, its delivery, or why it was not taken.

        Waits only while this topic's own queue is full; a cancelled call leaves in `queued` what was queued. Raise
        UnknownTopicOrPartitionError for a topic that `knows` denies, or a partition that it does not have.
        """
        partitions = sorted(self._metadata.partitions_for_topic(topic) or ())
        if not partitions:
            raise UnknownTopicOrPartitionError(topic)
        available = sorted(self._metadata.available_partitions_for_topic(topic))
        for message in messages:
            headers = list(message.headers)
            if len(message.value or b"") > _SURELY_FITS and _size(message, headers) > MAX_MESSAGE_BYTES:
                queued.append(MessageSizeTooLargeError())
                continue
            partition = message.partition
            if partition is None:
                partition = self._choose(message.key, partitions, available)
            elif partition not in partitions:
                raise UnknownTopicOrPartitionError(topic)
            queued.append(
                await self._message_accumulator.add_message(
                    TopicPartition(topic, partition), message.key, message.value, _FOREVER_S, headers=headers
                )
            )

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
        if batch is None or not refused:
            return
        for index, (future, _) in enumerate(batch._msg_futures):  # noqa: SLF001 - no public way to its records
            if index not in refused and not future.done():
                future.set_exception(NeighbourRefusedError())

    def _give_back_sequence(self, partition: TopicPartition, code: int) -> None:
        """A batch refused at its first attempt was not stored, and nothing of its partition was sent after it."""
        batch = self._batches.get(partition)
        if batch is not None and code in _REFUSED and batch.retry_count == 1:
            self._sender._txn_manager.increment_sequence_number(partition, -batch.record_count)  # noqa: SLF001


def murmur2(data: bytes) -> int:
    """Kafka's hash of a key, as Java's and aiokafka's partitioners have it, and three times as fast as the latter."""
    length = len(data)
    whole = length // 4
    h = 0x9747B28C ^ length
    for k in unpack_from(f"<{whole}I", data):
        k = k * 0x5BD1E995 & 0xFFFFFFFF  # noqa: PLW2901 - it is the algorithm's variable
        k = (k ^ k >> 24) * 0x5BD1E995 & 0xFFFFFFFF  # noqa: PLW2901
        h = h * 0x5BD1E995 & 0xFFFFFFFF ^ k
    if rest := data[whole * 4 :]:
        h = (h ^ int.from_bytes(rest, "little")) * 0x5BD1E995 & 0xFFFFFFFF
    h = (h ^ h >> 13) * 0x5BD1E995 & 0xFFFFFFFF
    return h ^ h >> 15


def _size(message: Message, headers: list[tuple[str, bytes | None]]) -> int:
    size: int = DefaultRecordBatchBuilder.estimate_size_in_bytes(message.key, message.value, headers)
    return size


def _fail(batch: Any, error: KafkaError) -> None:  # noqa: ANN401 - aiokafka is untyped
    """Fail a batch's futures, and leave no exception behind that nobody asks for."""
    batch.failure(error)
    for future in (batch.future, batch._drain_waiter, *(future for future, _ in batch._msg_futures)):  # noqa: SLF001
        if future.done() and not future.cancelled():
            future.exception()
