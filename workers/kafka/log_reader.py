"""Looking into a topic without being a member of its group: for operators' tools. Nothing here moves a group."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from typing import Any, Final, Self

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import (
    GroupCoordinatorNotAvailableError,
    GroupLoadInProgressError,
    KafkaError,
    NotCoordinatorForGroupError,
)

from workers.kafka import records
from workers.kafka.connection import refusal
from workers.kafka.security import KafkaSecurity
from workers.kafka.topic_identity import identity_of, is_of_another
from workers.kafka.topics import TopicAdmin
from workers.operator_error import OperatorError
from workers.ports import BrokerAwayError, Record

_REQUEST_TIMEOUT_S: Final = 15.0
_SILENCE_S: Final = 30.0
"""How long a record that must be there is waited for."""
_NO_COORDINATOR_PAUSE_S: Final = 0.2
_FETCH_BYTES: Final = 1024 * 1024
"""Of a partition at once: it bounds what a tool holds, and what it reads beyond the place where it stops."""


_NO_COORDINATOR_YET: Final = (
    GroupCoordinatorNotAvailableError,
    GroupLoadInProgressError,
    NotCoordinatorForGroupError,
)
"""What a cluster says that was never asked for a group before, or whose group moves just now."""


class NoSuchTopicError(OperatorError):
    """The topic, or the partition, does not exist."""


class LogReader(TopicAdmin):
    """An async context manager; waits for a broker that is away. Raises KafkaAccessError where Kafka refuses us."""

    def __init__(self, bootstrap_servers: str, security: KafkaSecurity, client_id: str = "catalog-reader") -> None:
        super().__init__(bootstrap_servers, security, client_id)
        self._consumer: AIOKafkaConsumer = None

    async def __aenter__(self) -> Self:
        records.install()
        await super().__aenter__()
        consumer = AIOKafkaConsumer(
            request_timeout_ms=int(_REQUEST_TIMEOUT_S * 1000),
            max_partition_fetch_bytes=_FETCH_BYTES,
            enable_auto_commit=False,
            **self._options,
        )
        try:
            await consumer.start()
        except BaseException:
            await consumer.stop()
            await super().__aexit__()
            raise
        # aiokafka's `stop` raises CancelledError when a task that `start` made has not had its first turn yet
        await asyncio.sleep(0)
        self._consumer = consumer
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._consumer.stop()
        await super().__aexit__()

    async def partitions(self, topic: str) -> list[int]:
        """Return the numbers of a topic's partitions. Raises `NoSuchTopicError`; creates nothing."""
        if await self._missing([topic]):
            raise NoSuchTopicError(f"topic {topic} does not exist")
        try:
            (described,) = await self._admin.describe_topics([topic])
        except KafkaError as error:
            raise refusal(error, f"reading about topic {topic}") or error from error
        return sorted(partition["partition"] for partition in described["partitions"])

    async def spans(self, topic: str) -> dict[int, tuple[int, int]]:
        """Return for each partition its first offset and the one after its last. Raises `NoSuchTopicError`."""
        wanted = [TopicPartition(topic, number) for number in await self.partitions(topic)]
        async with asyncio.timeout(_REQUEST_TIMEOUT_S * 2):
            first = await self._asked(self._consumer.beginning_offsets(wanted), topic)
            end = await self._asked(self._consumer.end_offsets(wanted), topic)
        return {one.partition: (first[one], end[one]) for one in wanted}

    async def offsets_at(self, topic: str, at: datetime) -> dict[int, int]:
        """Return for each partition the first offset stamped at that time or later; its end where there is none."""
        spans = await self.spans(topic)
        asked = {TopicPartition(topic, number): int(at.timestamp() * 1000) for number in spans}
        found = await self._asked(self._consumer.offsets_for_times(asked), topic)
        return {
            one.partition: found[one].offset if found.get(one) is not None else spans[one.partition][1] for one in asked
        }

    async def read(self, topic: str, spans: Mapping[int, tuple[int, int]]) -> AsyncIterator[Record]:
        """Yield the records of some partitions from an offset up to, not with, another; each partition in its order.

        Ends where they were when it was called: what is written meanwhile is not read. Raises `BrokerAwayError` when
        nothing comes for half a minute.
        """
        left = {TopicPartition(topic, number): end for number, (first, end) in spans.items() if first < end}
        self._consumer.assign(list(left))
        for one in left:
            self._consumer.seek(one, spans[one.partition][0])
        loop = asyncio.get_running_loop()
        heard_at = loop.time()
        while left:
            fetched: dict[TopicPartition, list[Any]] = await self._asked(
                self._consumer.getmany(*left, timeout_ms=500), topic
            )
            if fetched:
                heard_at = loop.time()
            for one, found in fetched.items():
                for record in found:
                    if record.offset < left[one]:
                        yield record
            for one in list(left):
                if await self._consumer.position(one) >= left[one]:
                    del left[one]
                    self._consumer.pause(one)
            if loop.time() - heard_at > _SILENCE_S:
                raise BrokerAwayError(f"Kafka sent nothing of {topic} for {_SILENCE_S:.0f} s")

    async def committed(self, group_id: str, topic: str) -> dict[int, int]:
        """Return the offsets that a group has acknowledged; a partition without one is left out.

        So is one that was acknowledged of another topic of that name: a worker begins at the first record there.
        """
        try:
            identity = await identity_of(self._admin._client, topic)  # noqa: SLF001 - not public: ids of topics
            found = await self._offsets_of(group_id)
        except KafkaError as error:
            raise refusal(error, f"reading the offsets of group {group_id}") or error from error
        topic_id = identity.id if identity is not None else ""
        return {
            one.partition: entry.offset
            for one, entry in found.items()
            if one.topic == topic and entry.offset >= 0 and not is_of_another(entry.metadata, topic_id)
        }

    async def _offsets_of(self, group_id: str) -> Mapping[TopicPartition, Any]:
        """Ask a group's coordinator; one that is not there yet is waited for."""
        loop = asyncio.get_running_loop()
        asked_at = loop.time()
        while True:
            try:
                found: Mapping[TopicPartition, Any] = await self._admin.list_consumer_group_offsets(group_id)
            except _NO_COORDINATOR_YET:
                if loop.time() - asked_at > _SILENCE_S:
                    raise
                await asyncio.sleep(_NO_COORDINATOR_PAUSE_S)
            else:
                return found

    async def _asked(self, answer: Any, topic: str) -> Any:  # noqa: ANN401 - aiokafka is untyped
        try:
            return await answer
        except KafkaError as error:
            raise refusal(error, f"reading topic {topic}") or error from error


async def move_group(
    bootstrap_servers: str, security: KafkaSecurity, group_id: str, topic: str, offsets: Mapping[int, int]
) -> None:
    """Have a group go on from these offsets. Raises `GroupBusyError` while it has members: stop its workers first."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap_servers,
        client_id="catalog-offsets",
        group_id=group_id,
        enable_auto_commit=False,
        **security.client_options(),
    )
    try:
        await consumer.start()
        consumer.assign([TopicPartition(topic, number) for number in offsets])
        async with asyncio.timeout(_REQUEST_TIMEOUT_S):
            await consumer.commit({TopicPartition(topic, number): offset for number, offset in offsets.items()})
    except (KafkaError, TimeoutError) as error:
        forbidden = refusal(error, f"moving the offsets of group {group_id}")
        raise forbidden or GroupBusyError(
            f"the offsets of group {group_id} cannot be moved ({type(error).__name__}): are workers running?"
        ) from error
    finally:
        await consumer.stop()


class GroupBusyError(OperatorError):
    """The group has members, who would not notice that their offsets were moved."""
