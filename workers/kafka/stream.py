"""A flow whose batches overlap: answers in any order, offsets in the order of the log.

As in `BatchFlow`, whose fetching, acknowledging and handing over it shares; but the next batch is fetched while earlier
ones are at work, as long as what is not answered stays within a bound (`under_way`): partitions that have their share
of it pause. What a handler waits for inside itself (a turn, a server that is away) is given up at once when its
partitions are taken away, what runs has the time of a drain; what is left comes again to whoever has the partition
next.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import structlog
from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition

from workers.fault_points import FaultPoints
from workers.kafka.acks import ACK_TIMEOUT_S
from workers.kafka.observation import EdgeObserver
from workers.kafka.subscriber import CANCEL_TIMEOUT_S, NO_PROGRESS_WAIT_S, BatchFlow, Consumption, Records
from workers.kafka.under_way import UnderWay
from workers.ports import Position, Record, StreamHandler

_log = structlog.get_logger(__name__)


class StreamFlow(BatchFlow):
    """What happens to the batches of one consumer whose handler answers in any order."""

    def __init__(
        self,
        consumption: Consumption,
        observer: EdgeObserver,
        fault_points: FaultPoints,
        clock: Callable[[], float] = time.monotonic,
        under_way: UnderWay | None = None,
    ) -> None:
        super().__init__(consumption, observer, fault_points, clock)
        self._under_way = under_way or UnderWay()
        self._batches: dict[asyncio.Task[None], _Custody] = {}
        self._answered_at = clock()

    async def handle(self, consumer: AIOKafkaConsumer, records: Records) -> None:
        """Hand a batch to the handler, and go on fetching meanwhile."""
        if self._fetched_in == self._assignment:  # else taken away since the fetch: it comes again, here or elsewhere
            if not self._under_way:
                self._answered_at = self._clock()
            self._under_way.take(records)
            custody = _Custody(self, consumer, self._assignment)
            batch = asyncio.create_task(self._have_answered(records, custody), name="batch of a stream")
            self._batches[batch] = custody
            batch.add_done_callback(self._ended)
        self._spans = {}

    @property
    def busy_s(self) -> float:
        """Seconds since anything was answered, while something waits for that; else 0."""
        return self._clock() - self._answered_at if self._under_way else 0.0

    def note(self, consumer: AIOKafkaConsumer, assignment: int, records: Sequence[Record]) -> None:
        """Take note of answers, unless they came too late: not ours any more."""
        if assignment <= self._drained:
            return
        further = self._under_way.answered(records)
        # All wait for the same few places: where any goes on, none is stuck.
        self._answered_at = now = self._clock()
        self._progress_at.update(dict.fromkeys(self._progress_at, now))
        if further:
            self._acks.offer(consumer, further)
        if assignment == self._assignment and consumer.paused():
            self._most_records(consumer)

    # -------------------------------------------------------------------------------------------------------------- own

    async def _have_answered(self, records: Records, custody: "_Custody") -> None:
        began_at = self._clock()
        left: Sequence[Record] = records
        while custody.is_ours and left:
            wait_s = NO_PROGRESS_WAIT_S
            try:
                await cast("StreamHandler", self.handler)(left, custody)
            except Exception as error:  # noqa: BLE001 - a defect: logged, and what is left is tried again
                wait_s = self._defects.next_s()
                self._observer.on_defect()
                _log.error("batch_failed", messages=len(left), wait_ms=round(wait_s * 1000), exc_info=error)
            else:
                self._defects.reset()
            left = self._under_way.unanswered(left)
            if left:
                with custody.waiting():
                    await asyncio.sleep(wait_s)
        self._observer.on_batch(len(records), self._clock() - began_at)

    def _ended(self, batch: asyncio.Task[None]) -> None:
        del self._batches[batch]
        if not batch.cancelled() and (error := batch.exception()) is not None:  # _have_answered catches what is caught
            _log.error("batch_lost", exc_info=error)

    def _most_records(self, consumer: AIOKafkaConsumer) -> int:
        """Pause the partitions that have enough under way; how many records any of the others may have now.

        Where all pause, 1: an answer makes room, and lets a partition go on, while the fetch waits.
        """
        partitions = consumer.assignment()
        paused = [tuple(partition) for partition in consumer.paused()]
        rooms = self._under_way.rooms([tuple(partition) for partition in partitions], paused)
        readable = {TopicPartition(*position) for position, room in rooms.items() if room}
        consumer.resume(*readable)
        consumer.pause(*(partitions - readable))
        return min((self._consumption.max_records, *(room for room in rooms.values() if room))) if readable else 1

    def _first_in_hand(self, position: Position) -> int | None:
        first = self._under_way.first(position)
        return first if first is not None else super()._first_in_hand(position)

    @property
    def _has_work(self) -> bool:
        return bool(self._under_way) or super()._has_work

    async def _drain(self) -> None:
        """Give up what waits, wait for what runs and its acks; cancel what takes too long, below the time-out."""
        for custody in self._batches.values():
            custody.give_up()
        if batches := set(self._batches):
            _, late = await asyncio.wait(batches, timeout=self._consumption.drain_timeout_s)
            if late:
                _log.warning("batch_cancelled", after_s=self._consumption.drain_timeout_s)
                for batch in late:
                    batch.cancel()
                await asyncio.wait(late, timeout=CANCEL_TIMEOUT_S)
        await self._acks.settle(ACK_TIMEOUT_S)

    async def _let_go(self) -> None:
        await super()._let_go()
        self._under_way.forget()


class _Custody:
    """One batch in the handler's hands."""

    def __init__(self, flow: StreamFlow, consumer: AIOKafkaConsumer, assignment: int) -> None:
        self._flow = flow
        self._consumer = consumer
        self._assignment = assignment
        self._waiting: set[asyncio.Task[Any]] = set()
        self._given_up = False

    @property
    def is_ours(self) -> bool:
        """False once it is given up."""
        return not self._given_up

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Wait inside; cancelled when given up."""
        this = asyncio.current_task()
        if self._given_up or this is None:
            raise asyncio.CancelledError
        self._waiting.add(this)
        try:
            yield
        finally:
            self._waiting.discard(this)

    def answered(self, records: Sequence[Record]) -> None:
        """Count these as answered."""
        self._flow.note(self._consumer, self._assignment, records)

    def give_up(self) -> None:
        """End what waits."""
        self._given_up = True
        for task in self._waiting:
            task.cancel()
