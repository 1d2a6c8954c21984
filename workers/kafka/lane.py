"""A lane: one consumer of the group, with its own batch in hand and its own handler, as another replica would be."""

import asyncio
from collections.abc import Awaitable, Iterable, Iterator
from typing import Final

from faststream.kafka import KafkaBroker

from workers.fault_points import FaultPoints
from workers.kafka.observation import EdgeHealth, EdgeObserver, PartitionHealth
from workers.kafka.stream import StreamFlow
from workers.kafka.subscriber import BatchFlow, Consumption, subscribe
from workers.ports import BatchHandler, StreamHandler


class Lane:
    """Registers its subscriber at a broker that all lanes of a worker share. Set `handler` before `start`."""

    def __init__(
        self,
        broker: KafkaBroker,
        consumption: Consumption,
        observer: EdgeObserver,
        fault_points: FaultPoints,
        *,
        in_any_order: bool,
    ) -> None:
        flow = StreamFlow if in_any_order else BatchFlow
        self.flow: Final = flow(consumption, observer, fault_points)
        self._subscriber = subscribe(broker, consumption, self.flow)

    @property
    def handler(self) -> BatchHandler | StreamHandler | None:
        """Who decides this lane's batches."""
        return self.flow.handler

    @handler.setter
    def handler(self, handler: BatchHandler | StreamHandler) -> None:
        self.flow.handler = handler

    @property
    def topic_id(self) -> str:
        """Which topic is read; empty where the brokers do not tell."""
        return self.flow.topic_id

    @property
    def is_joined(self) -> bool:
        """Whether this consumer is a member; with no partition, too."""
        return self._subscriber.consumer is not None and self.flow.joined

    async def start(self, topic_id: str) -> None:
        """Read this topic; return when this consumer has joined its group. Raise what aiokafka raises."""
        self.flow.begin(topic_id)
        await self._subscriber.start()

    async def stop(self) -> None:
        """Stop fetching, let the running batch end and be acknowledged (bounded), leave the group."""
        await self._subscriber.stop()

    async def renounce(self) -> None:
        """The topic is gone: acknowledge nothing of it; return when what was fetched of it is seen to."""
        await self.flow.renounce(self._subscriber.consumer)

    async def note_ends(self) -> None:
        """Note how far the log goes by now, to be confirmed."""
        if self._subscriber.consumer is not None:
            await self.flow.note_ends(self._subscriber.consumer)

    async def look_for_partitions(self) -> None:
        """Have the consumer look at once, which does so every few minutes by itself."""
        if self._subscriber.consumer is not None:
            await self._subscriber.consumer._client.force_metadata_update()  # noqa: SLF001 - not public

    def fault(self) -> str | None:
        """Why this consumer will never deliver again, where that is so."""
        consumer = self._subscriber.consumer
        if consumer is None:
            return "there is no consumer"
        if all(task.done() for task in self._subscriber.tasks):
            return "FastStream's loop ended"
        return self.flow.fault(consumer)

    def partitions(self) -> tuple[PartitionHealth, ...]:
        """Each partition of this lane, as far as it is known."""
        consumer = self._subscriber.consumer
        return self.flow.partitions(consumer) if consumer is not None and self.flow.joined else ()


def health_of(lanes: Iterable[Lane], *, closed_reply_topics: int, fault: str | None, fatal: str | None) -> EdgeHealth:
    """How they are, taken together: a worker has joined when all have, and is as late as the latest of them."""
    flows = [lane.flow for lane in lanes]
    joined = all(lane.is_joined for lane in lanes)
    return EdgeHealth(
        joined=joined,
        partitions=tuple(sorted(_partitions(lanes), key=lambda one: one.position)),
        last_poll_s=max(flow.last_poll_s for flow in flows),
        paused_s=max(flow.paused_s for flow in flows),
        busy_s=max(flow.busy_s for flow in flows),
        closed_reply_topics=closed_reply_topics,
        fault=fault,
        fatal=fatal,
    )


def _partitions(lanes: Iterable[Lane]) -> Iterator[PartitionHealth]:
    for lane in lanes:
        yield from lane.partitions()


async def side_by_side(steps: Iterable[Awaitable[None]]) -> None:
    """Take a step of several lanes; the first that fails ends the others', and is what is raised."""
    running = [asyncio.ensure_future(step) for step in steps]
    try:
        await asyncio.gather(*running)
    finally:
        for one in running:
            one.cancel()
        await asyncio.gather(*running, return_exceptions=True)
