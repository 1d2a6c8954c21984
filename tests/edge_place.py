"""A Kafka edge under test: its topics, what it tells, and handlers to give it."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from collections.abc import Set as AbstractSet
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.produce import ProduceRequest

from contracts.topics import Topics
from workers.kafka.edge import KafkaEdge
from workers.kafka.observation import SilentObserver
from workers.kafka.security import KafkaSecurity
from workers.kafka.topics import TopicAdmin
from workers.ports import Position, Progress, Record

PLAINTEXT = KafkaSecurity()
PARTITIONS = 4
Handler = Callable[[Sequence[Record], Callable[[], bool]], Awaitable[Progress]]


async def until(
    condition: Callable[[], bool | Awaitable[bool]], timeout_s: float = 20, what: str = "it to happen"
) -> None:
    """Poll a condition; fail after the time-out."""
    end = time.monotonic() + timeout_s
    while True:
        met = condition()
        if met is True or (isinstance(met, Awaitable) and await met):
            return
        assert time.monotonic() < end, f"waited {timeout_s} s for {what}"
        await asyncio.sleep(0.02)


def all_of(records: Sequence[Record]) -> dict[Position, int]:
    """Everything is decided."""
    return {(record.topic, record.partition): record.offset + 1 for record in records}


@dataclass
class Seen(SilentObserver):
    """Counts what the edge tells."""

    acks: list[bool] = field(default_factory=list)
    given_back: list[tuple[int, float]] = field(default_factory=list)
    defects: int = 0
    revoked: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    lag: dict[Position, int] = field(default_factory=dict)
    reply_topics: list[bool] = field(default_factory=list)

    def on_ack(self, *, ok: bool) -> None:
        self.acks.append(ok)

    def on_give_back(self, size: int, wait_s: float) -> None:
        self.given_back.append((size, wait_s))

    def on_defect(self) -> None:
        self.defects += 1

    def on_revoked(self, positions: AbstractSet[Position], seconds: float) -> None:
        self.revoked.append(seconds)

    def on_lag(self, position: Position, messages: int) -> None:
        self.lag[position] = messages

    def on_kafka_error(self, kind: str) -> None:
        self.errors.append(kind)

    def on_reply_topic(self, *, closed: bool) -> None:
        self.reply_topics.append(closed)


@dataclass
class Collector:
    """A handler that decides everything and remembers it."""

    records: list[Record] = field(default_factory=list)
    batches: int = 0

    async def __call__(self, records: Sequence[Record], _: Callable[[], bool]) -> Progress:
        self.batches += 1
        self.records += records
        return Progress(all_of(records))

    def values(self) -> list[bytes | None]:
        return [record.value for record in self.records]


@dataclass
class Gate:
    """A handler that waits in the middle of a batch until it is let go."""

    entered: asyncio.Event = field(default_factory=asyncio.Event)
    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    records: list[Record] = field(default_factory=list)
    ours: list[bool] = field(default_factory=list)
    cancelled: int = 0

    async def __call__(self, records: Sequence[Record], still_ours: Callable[[], bool]) -> Progress:
        self.ours.append(still_ours())
        self.entered.set()
        try:
            await self.go_on.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        self.ours.append(still_ours())
        self.records += records
        return Progress(all_of(records))


@dataclass
class Place:
    """A set of topics, and everything made for them."""

    servers: str
    topics: Topics
    producer: AIOKafkaProducer
    admin: AIOKafkaAdminClient
    edges: list[KafkaEdge] = field(default_factory=list)

    @property
    def commands(self) -> str:
        return self.topics.commands

    def edge(self, handler: Handler, observer: Seen | None = None, **more: object) -> KafkaEdge:
        settings: dict[str, Any] = {
            "bootstrap_servers": self.servers,
            "security": PLAINTEXT,
            "topics": self.topics,
            "topic": self.commands,
            "group_id": f"{self.topics.prefix}.commands",
            "client_id": f"worker-{len(self.edges)}",
            "observer": observer or Seen(),
        }
        edge = KafkaEdge(**settings | more)

        async def handle(records: Sequence[Record], still_ours: Callable[[], bool]) -> Progress:
            return await handler(records, still_ours)

        edge.handle_by(lambda: handle)
        self.edges.append(edge)
        return edge

    async def started(self, handler: Handler, observer: Seen | None = None, **more: object) -> KafkaEdge:
        edge = self.edge(handler, observer, **more)
        await asyncio.wait_for(edge.start(), 30)
        return edge

    async def send(self, values: Sequence[bytes], partition: int | None = 0, topic: str | None = None) -> None:
        deliveries = [await self.producer.send(topic or self.commands, value, partition=partition) for value in values]
        await asyncio.gather(*deliveries)

    async def send_batch(self, data: bytes, partition: int = 0) -> None:
        """Have the broker store a record batch, byte for byte."""
        client = AIOKafkaClient(bootstrap_servers=self.servers)
        await client.bootstrap()
        request = ProduceRequest(
            transactional_id=None, required_acks=-1, timeout=5000, topics=[(self.commands, [(partition, data)])]
        )
        response = await client.send(1, request)
        await client.close()
        ((_, ((_, code, *_),)),) = response.topics
        assert code == 0

    async def topic(
        self, name: str, partitions: int = 1, copies: int = 1, on: Sequence[int] | None = None, **config: str
    ) -> str:
        """Make a reply topic; `on` puts its only partition on these brokers."""
        full = f"{self.topics.replies}{name}"
        settings = {key.replace("_", "."): value for key, value in config.items()}
        if on is None:
            new = NewTopic(full, partitions, copies, topic_configs=settings)
        else:
            new = NewTopic(full, -1, -1, replica_assignments={0: list(on)}, topic_configs=settings)
        response = await self.admin.create_topics([new])
        assert response.topic_errors[0][1] == 0, response.topic_errors
        return full

    async def acked(self, partition: int = 0) -> int | None:
        """The group's offset, as a worker that starts now would find it."""
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self.servers, group_id=f"{self.topics.prefix}.commands", enable_auto_commit=False
        )
        consumer.assign([TopicPartition(self.commands, partition)])
        await consumer.start()
        try:
            offset: int | None = await consumer.committed(TopicPartition(self.commands, partition))
            return offset
        finally:
            await consumer.stop()

    async def stored(self, topic: str) -> list[Any]:
        """All records of a topic, by partition."""
        consumer = AIOKafkaConsumer(bootstrap_servers=self.servers, auto_offset_reset="earliest", fetch_max_wait_ms=50)
        await consumer.start()
        try:
            await consumer.end_offsets([TopicPartition(topic, 0)])
            partitions = [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic)]
            ends = await consumer.end_offsets(partitions)
            consumer.assign(partitions)
            found: list[Any] = []
            while any([await consumer.position(partition) < ends[partition] for partition in partitions]):
                for records in (await consumer.getmany(timeout_ms=100)).values():
                    found += records
            return sorted(found, key=lambda record: (record.partition, record.offset))
        finally:
            await consumer.stop()


@asynccontextmanager
async def a_place(servers: str, copies: int = 1) -> AsyncIterator[Place]:
    """Topics of a test's own; the test's edges are stopped at its end."""
    topics = Topics(f"e{uuid.uuid4().hex[:10]}")
    async with TopicAdmin(servers, PLAINTEXT) as admin:
        await admin.create_topics(topics, partitions=PARTITIONS, replication_factor=copies)
    async with AIOKafkaProducer(bootstrap_servers=servers, acks="all", max_request_size=2 << 20) as producer:
        admin_client = AIOKafkaAdminClient(bootstrap_servers=servers)
        await admin_client.start()
        place = Place(servers, topics, producer, admin_client)
        try:
            yield place
        finally:
            for edge in place.edges:
                await edge.stop()
            await admin_client.close()
