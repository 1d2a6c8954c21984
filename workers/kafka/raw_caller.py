"""Publishes records as they are, and hands over every reply: for `catalog verify`, and the traffic of chaos tests."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, Self

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from contracts.topics import Topics
from workers.kafka import records
from workers.kafka.connection import Backoff
from workers.kafka.observation import SilentObserver
from workers.kafka.producer import PatientProducer
from workers.kafka.replies import Publisher
from workers.kafka.security import KafkaSecurity
from workers.kafka.topics import TopicAdmin
from workers.ports import Message

_FETCH_WAIT_S: Final = 0.05
_POLL_S: Final = 1.0


class NotPublishedError(Exception):
    """A request could not be published; the text says why."""


class RawCaller:
    """An async context manager: makes its reply topic and reads it. Ids and repetitions are its user's."""

    def __init__(
        self,
        bootstrap_servers: str,
        prefix: str,
        reply_name: str,
        security: KafkaSecurity,
        on_reply: Callable[[Mapping[str, str], bytes], None],
    ) -> None:
        """Connect nothing yet. `on_reply` is given every reply that arrives: headers and body."""
        self._on_reply = on_reply
        self.reply_to: Final = Topics(prefix).replies + reply_name
        self._bootstrap_servers = bootstrap_servers
        self._security = security
        self._client_id = f"catalog-raw-caller-{reply_name}"
        self._publisher = Publisher(
            partial(PatientProducer, bootstrap_servers, self._client_id, security), self.reply_to, SilentObserver()
        )
        self._consumer: AIOKafkaConsumer = None
        self._reading: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Connect; waits for a broker that is away. Raise KafkaAccessError when it refuses us."""
        records.install()
        async with TopicAdmin(self._bootstrap_servers, self._security, self._client_id) as admin:
            await admin.create_reply_topic(self.reply_to)
        try:
            await self._publisher.start()
            await self._read_from_end()
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._close()

    async def publish(
        self, topic: str, key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes]]
    ) -> None:
        """Publish a message as it is. Raise NotPublishedError, or BrokerAwayError when nothing can be published."""
        failed = await self._publisher.publish([Message(topic, key, value, headers)], closable=True)
        if failed:
            raise NotPublishedError(f"{topic}: {failed[0].reason}")

    async def _read_from_end(self) -> None:
        self._consumer = consumer = AIOKafkaConsumer(
            bootstrap_servers=self._bootstrap_servers,
            client_id=self._client_id,
            fetch_max_wait_ms=int(_FETCH_WAIT_S * 1000),
            **self._security.client_options(),
        )
        await consumer.start()
        end = await consumer.end_offsets([TopicPartition(self.reply_to, 0)])
        partitions = [
            TopicPartition(self.reply_to, number) for number in consumer.partitions_for_topic(self.reply_to) or (0,)
        ]
        consumer.assign(partitions)
        end |= await consumer.end_offsets(partitions)
        for partition in partitions:
            consumer.seek(partition, end[partition])
        self._reading = asyncio.create_task(self._read(consumer), name="read replies")

    async def _read(self, consumer: AIOKafkaConsumer) -> None:
        backoff = Backoff()
        while True:
            try:
                fetched: dict[Any, list[Any]] = await consumer.getmany(timeout_ms=int(_POLL_S * 1000))
            except KafkaError:
                await asyncio.sleep(backoff.next_s())
                continue
            backoff.reset()
            for found in fetched.values():
                for record in found:
                    self._on_reply(_text(dict(record.headers)), record.value or b"")

    async def _close(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait({self._reading})
        if self._consumer is not None:
            await self._consumer.stop()
        await self._publisher.stop()


def _text(headers: Mapping[str, bytes | None]) -> dict[str, str]:
    return {name: (value or b"").decode("utf-8", "replace") for name, value in headers.items()}
