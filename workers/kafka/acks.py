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
from workers.ports import Position

ACK_TIMEOUT_S: Final = 4.0
"""One request. aiokafka itself tries for ever while the group's coordinator is away, and stops its caller meanwhile."""

_log = structlog.get_logger(__name__)


class Acks:
    """Tells the group how far its partitions are decided: explicit offsets, in order, one request at a time.

    The next batch need not wait for it: what is offered while a request is under way goes out with the next one. A
    crash before that brings those records again, as duplicates. A failure is counted and tried again, until it works or
    the partitions are taken away.
    """

    def __init__(self, observer: EdgeObserver, fault_points: FaultPoints) -> None:
        self._observer = observer
        self._fault_points = fault_points
        self._due: dict[Position, int] = {}
        self._sending: asyncio.Task[None] | None = None

    def offer(self, consumer: AIOKafkaConsumer, decided: Mapping[Position, int]) -> None:
        """Acknowledge these next offsets soon. Returns at once."""
        self._due.update(decided)
        if self._sending is None or self._sending.done():
            self._sending = asyncio.create_task(self._send(consumer), name="ack offsets")

    async def settle(self, timeout_s: float) -> None:
        """Wait until all is acknowledged, at most so long."""
        if self._sending is not None:
            await asyncio.wait({self._sending}, timeout=timeout_s)

    async def forget(self) -> None:
        """Give up what is left: its partitions are no longer ours."""
        self._due.clear()
        if self._sending is not None and not self._sending.done():
            self._sending.cancel()
            await asyncio.wait({self._sending})

    async def _send(self, consumer: AIOKafkaConsumer) -> None:
        backoff = Backoff()
        while self._due:
            offsets, self._due = self._due, {}
            self._fault_points.reach("before_ack")
            try:
                async with asyncio.timeout(ACK_TIMEOUT_S):
                    await consumer.commit({TopicPartition(*position): offset for position, offset in offsets.items()})
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
