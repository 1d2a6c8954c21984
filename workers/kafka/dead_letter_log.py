"""The dead-letter topics as an operator's tool sees them: read, and brought back to the topics that they serve."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Self

from contracts.topics import Topics
from workers.kafka.log_reader import LogReader
from workers.kafka.observation import SilentObserver
from workers.kafka.producer import PatientProducer
from workers.kafka.replies import Publisher
from workers.kafka.security import KafkaSecurity
from workers.ports import Message, Record

_CLIENT_ID = "catalog-dlq"


class DeadLetterLog:
    """An async context manager; waits for a broker that is away. Raises KafkaAccessError where Kafka refuses us."""

    def __init__(self, bootstrap_servers: str, security: KafkaSecurity, topics: Topics) -> None:
        self._reader = LogReader(bootstrap_servers, security, _CLIENT_ID)
        self._publisher = Publisher(
            partial(PatientProducer, bootstrap_servers, _CLIENT_ID, security),
            topics.dead_letters(topics.commands),
            SilentObserver(),
        )
        self._publishes = False
        self._spans: dict[str, dict[int, tuple[int, int]]] = {}
        """As they were when somebody asked last: a letter that was found is read without asking again."""

    async def __aenter__(self) -> Self:
        await self._reader.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._publishes:
            await self._publisher.stop()
        await self._reader.__aexit__()

    async def spans(self, topic: str, since: datetime | None = None) -> dict[int, tuple[int, int]]:
        """Return for each partition of a dead-letter topic where the letters of `since` or later begin, and the end.

        Raises `NoSuchTopicError`, `BrokerAwayError`.
        """
        spans = self._spans[topic] = await self._reader.spans(topic)
        if since is None:
            return dict(spans)
        from_time = await self._reader.offsets_at(topic, since)
        return {number: (max(first, from_time.get(number, first)), end) for number, (first, end) in spans.items()}

    def read(self, topic: str, spans: Mapping[int, tuple[int, int]]) -> AsyncIterator[Record]:
        """Yield the letters of these spans, each partition in its order. Raises `BrokerAwayError`."""
        return self._reader.read(topic, spans)

    async def letter(self, topic: str, partition: int, offset: int) -> Record | None:
        """Read one letter; None where it is not there (any more). Raises `NoSuchTopicError`, `BrokerAwayError`."""
        if offset >= self._spans.get(topic, {}).get(partition, (0, 0))[1]:
            await self.spans(topic)
        first, end = self._spans[topic].get(partition, (0, 0))
        if not first <= offset < end:
            return None
        found = None
        async for record in self._reader.read(topic, {partition: (offset, offset + 1)}):
            found = record
        return found

    async def bring_back(self, message: Message) -> str | None:
        """Publish a replay; returns once all replicas have it, or why its topic does not take it.

        It goes to the partition that it names, beside what it stood with; by its key where there is none such (any
        more). Raises `BrokerAwayError`: it may have been published, and may come twice when it is done again.
        """
        if message.partition not in await self._reader.partitions(message.topic):
            message = replace(message, partition=None)
        if not self._publishes:
            await self._publisher.start()
            self._publishes = True
        refused = await self._publisher.publish([message], closable=True)
        return refused[0].reason if refused else None
