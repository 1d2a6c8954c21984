"""Acknowledging offsets, beside the work on the next batch."""

import asyncio
from collections.abc import Mapping
from typing import Final

import structlog
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import CommitFailedError, IllegalStateError
from aiokafka.structs import TopicPartition

from workers.fault_points import FaultPoints
from workers.kafka.connection import Backoff
from workers.kafka.observation import EdgeObserver
from workers.kafka.topic_identity import is_of_another, mark
from workers.ports import Position

ACK_TIMEOUT_S: Final = 4.0
"""One request. aiokafka itself tries for ever while the group's coordinator is away, and stops its caller meanwhile."""

_log = structlog.get_logger(__name__)


class Acks:
    """Tells the group how far its partitions are decided: explicit offsets, in order, one request at a time.

    The next batch need not wait for it: what is offered while a request is under way goes out with the next one. A
    crash before that brings those records again, as duplicates. A failure is counted and tried again, until it works or
    the partitions are taken away.

    Each offset says of which topic it is (`topic_id`, in the metadata that Kafka keeps with it), so that nobody takes
    it for one of another topic that has the name by then.
    """

    topic_id: str = ""
    """Of the topic that is read; empty where the brokers do not tell."""

    def __init__(self, observer: EdgeObserver, fault_points: FaultPoints) -> None:
        self._observer = observer
        self._fault_points = fault_points
        self._due: dict[Position, int] = {}
        self._sending: asyncio.Task[None] | None = None
        self._renounced = False

    def offer(self, consumer: AIOKafkaConsumer, decided: Mapping[Position, int]) -> None:
        """Acknowledge these next offsets soon. Returns at once."""
        if self._renounced:
            return
        self._due.update(decided)
        if self._sending is None or self._sending.done():
            self._sending = asyncio.create_task(self._send(consumer), name="ack offsets")

    async def settle(self, timeout_s: float) -> None:
        """Wait until all is acknowledged, at most so long."""
        if self._sending is not None:
            await asyncio.wait({self._sending}, timeout=timeout_s)

    async def renounce(self) -> None:
        """Acknowledge nothing any more, until `begin`: the topic is gone, and what has its name is another one."""
        self._renounced = True
        await self.forget()

    def begin(self, topic_id: str) -> None:
        """Acknowledge offsets of this topic from now on."""
        self.topic_id, self._renounced = topic_id, False

    def is_foreign(self, metadata: str) -> bool:
        """Tell whether an offset with this metadata is one of another topic."""
        return is_of_another(metadata, self.topic_id)

    async def forget(self) -> None:
        """Give up what is left: its partitions are no longer ours."""
        self._due.clear()
        if self._sending is not None and not self._sending.done():
            self._sending.cancel()
            await asyncio.wait({self._sending})

    async def _send(self, consumer: AIOKafkaConsumer) -> None:
        backoff = Backoff()
        metadata = mark(self.topic_id)
        while self._due:
            offsets, self._due = self._due, {}
            self._fault_points.reach("before_ack")
            try:
                async with asyncio.timeout(ACK_TIMEOUT_S):
                    await consumer.commit(
                        {TopicPartition(*position): (offset, metadata) for position, offset in offsets.items()}
                    )
            except (CommitFailedError, IllegalStateError) as error:
                # The group has moved on: these records come again, here or elsewhere, and are found to be done.
                self._observer.on_ack(ok=False)
                _log.warning("ack_refused", error=type(error).__name__)
            except Exception as error:  # noqa: BLE001 - whatever it was, the offsets are still due
                self._observer.on_ack(ok=False)
                _log.warning("ack_failed", error=type(error).__name__)
                self._due = offsets | self._due
                await asyncio.sleep(backoff.next_s())
            else:
                backoff.reset()
                self._observer.on_ack(ok=True)
                self._fault_points.reach("after_ack")
