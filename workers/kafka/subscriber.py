"""From the log to the handler: fetching batches, acknowledging what is decided, giving back what is not.

FastStream runs the loop (a batch subscriber with manual acks and no replies of its own), `BatchFlow` decides what
happens in it. What FastStream and aiokafka would do by themselves is not what the contract asks for:

- Their loop sleeps deaf between two empty fetches; ours waits inside `turns.take` and returns when there is something.
- An error would be met by 5 s of sleep, or by an immediate restart; ours backs off, wakes when told to stop.
- `ack()` would acknowledge the *positions* of all partitions; ours are explicit offsets of decided records.
- `nack()` would fetch the same batch again at once; ours pauses as long as the handler said, outside of it.
- A rebalance would run beside the handler; ours waits until the running batch is decided and acknowledged, so that no
  other worker decides later records of its partitions before.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final, cast

import structlog
from aiokafka import AIOKafkaConsumer
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.consumer.fetcher import OffsetResetStrategy
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.errors import (
    ConsumerStoppedError,
    KafkaError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
)
from aiokafka.structs import TopicPartition
from faststream import AckPolicy
from faststream._internal.broker.registrator import Registrator
from faststream._internal.endpoint.subscriber.call_item import CallsCollection
from faststream.kafka import KafkaBroker
from faststream.kafka.configs import KafkaBrokerConfig
from faststream.kafka.message import FAKE_CONSUMER, KafkaMessage
from faststream.kafka.schemas import Topic
from faststream.kafka.subscriber.config import KafkaSubscriberConfig, KafkaSubscriberSpecificationConfig
from faststream.kafka.subscriber.specification import KafkaSubscriberSpecification
from faststream.kafka.subscriber.usecase import BatchSubscriber

from workers.fault_points import FaultPoints
from workers.kafka import turns
from workers.kafka.acks import ACK_TIMEOUT_S, Acks
from workers.kafka.connection import Backoff
from workers.kafka.observation import EdgeObserver, PartitionHealth, lag_of
from workers.kafka.reach import Reach
from workers.kafka.records import LogRecord
from workers.ports import BatchHandler, Position, Progress, StreamHandler

Records = tuple[LogRecord, ...]

REBALANCE_TIMEOUT_S: Final = 30.0
"""How long the group waits for a member that drains, before it goes on without it."""

DRAIN_TIMEOUT_S: Final = 22.0
"""How long a running batch may go on when its partitions are taken away; then it is cancelled. The rest of the 30 s is
for rolling back and for acknowledging."""

MAX_POLL_INTERVAL_S: Final = 300.0
"""A batch that takes longer has aiokafka leave the group."""

_POLL_S: Final = 1.0  # how long one fetch waits: nothing but the pace of the loop's book-keeping
NO_PROGRESS_WAIT_S: Final = 0.1  # a handler that decides nothing and names no wait must not spin
CANCEL_TIMEOUT_S: Final = 2.0  # for a cancelled handler to roll back
_CLOSE_TIMEOUT_S: Final = 5.0  # for leaving the group and closing sockets
_LAG_EVERY_S: Final = 1.0
_ASK_ENDS_TIMEOUT_S: Final = 1.0
_FETCHED_LATELY_S: Final = 2.0
"""Twice as long as an idle fetch waits at the broker."""
_LOOK_EVERY_S: Final = 0.02  # while waiting for what is fetched of a topic that is gone
_BROKER_AWAY_AFTER_S: Final = 2.0  # without an answer to a fetch: then waiting is all that can be done
_SILENT_AFTER_S: Final = 60.0
"""Without an answer to a fetch for so long, with nothing left to hand out, a consumer is stuck and is replaced."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Consumption:
    """How to consume. Sizes that nobody should need to change, times that a deployment may.

    `fetch_max_wait_s` is short on purpose: aiokafka has one fetch under way for each broker and leaves out partitions
    whose records still wait, so behind a slow batch a busy partition waits for the idle ones' long poll to end. Where
    there is nothing at all, the broker may wait for longer (`idle_fetch_wait_s`): what comes then is sent at once.
    `partition_fetch_bytes` are several batches' worth, so that the buffer is not dry after each; it bounds memory, too
    (times the partitions of this worker).
    """

    topic: str
    group_id: str
    max_records: int = 500
    fetch_max_wait_s: float = 0.05
    idle_fetch_wait_s: float = 1.0
    partition_fetch_bytes: int = 1024 * 1024
    session_timeout_s: float = 10.0
    heartbeat_interval_s: float = 0.5
    drain_timeout_s: float = DRAIN_TIMEOUT_S
    group_instance_id: str | None = None
    lanes: int = 1
    """How many consumers of this worker share what its batches may hold."""


@dataclass(frozen=True, slots=True)
class _Verdict:
    """What becomes of a batch: next offsets to acknowledge, offsets to read again from, how many records those are."""

    decided: dict[Position, int]
    undecided: dict[Position, int]
    left: int
    wait_s: float


class BatchFlow:
    """What happens to the batches of one consumer, in order."""

    def __init__(
        self,
        consumption: Consumption,
        observer: EdgeObserver,
        fault_points: FaultPoints,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.handler: BatchHandler | StreamHandler | None = None
        self.joined = False
        self.may_fetch = asyncio.Event()
        """Whether all that start together have joined: a batch before that would only be drained for the next one."""
        self.may_fetch.set()
        self._consumption = consumption
        self._observer = observer
        self._clock = clock
        self._acks = Acks(observer, fault_points)
        self._assignment = 0  # counts revocations: a batch belongs to the one in which it was fetched
        self._drained = -1  # the newest assignment of which nothing may be acknowledged any more
        self._fetched_in = 0
        self._spans: dict[Position, tuple[int, int]] = {}  # of the batch in hand: its first offset, one past its last
        self._running: asyncio.Task[Progress] | None = None
        self._began_at = 0.0
        self._idle = asyncio.Event()
        self._idle.set()
        self._resume_at = 0.0
        self._wake = asyncio.Event()
        self._polled_at = clock()
        self._positions: frozenset[Position] = frozenset()
        self._progress_at: dict[Position, float] = {}
        self._lag_due_at = 0.0
        self._reach = Reach()
        self._unverified: set[TopicPartition] = set()  # of which topic the offset is that they begin from
        self._fetch_errors = Backoff()
        self._defects = Backoff(first_s=0.5, longest_s=30.0)

    # ---------------------------------------------------------------------------------------------- called by the loop

    async def fetch(self, consumer: AIOKafkaConsumer) -> Records:
        """The next batch; nothing after a second of silence, or after an error that was dealt with here.

        Between the last await in here and the handler's start there is none: a revocation either finds the records
        still in aiokafka's buffer, which it throws away, or a batch that is running, and waits for it.
        """
        self._give_back_what_was_dropped(consumer)
        await self.may_fetch.wait()
        await self._sit_out_pause()
        try:
            fetched = await self._take(consumer)
        except ConsumerStoppedError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it was: count it, wait, ask again
            wait_s = self._fetch_errors.next_s()
            self._pause(wait_s)
            self._observer.on_kafka_error("fetch")
            _log.warning("fetch_failed", error=type(error).__name__, wait_ms=round(wait_s * 1000))
            return ()
        self._fetch_errors.reset()
        self._polled_at = self._clock()
        self._pace_fetches(consumer, is_idle=not fetched and not self._has_work)
        self._fetched_in = self._assignment
        self._spans = {tuple(of): (records[0].offset, records[-1].offset + 1) for of, records in fetched.items()}
        self._reach.handed(self._spans)
        self._watch_lag(consumer)
        return tuple(chain.from_iterable(fetched.values()))

    async def handle(self, consumer: AIOKafkaConsumer, records: Records) -> None:
        """Have a batch decided, acknowledge as far as it was, give back the rest. Raise nothing but a cancellation."""
        assignment = self._fetched_in
        self._began_at = self._clock()
        self._idle.clear()
        try:
            if assignment == self._assignment:  # else taken away since the fetch: it comes again, here or elsewhere
                verdict = await self._decide(records, assignment)
                if verdict is not None and assignment > self._drained:  # else it came back too late: not ours any more
                    self._conclude(consumer, verdict, ours=assignment == self._assignment)
            self._spans = {}
        finally:
            self._idle.set()

    # ------------------------------------------------------------------------------------------ called by the listener

    async def revoke(self) -> None:
        """Hand over: from now on nothing new starts; return when the running batch is decided and acknowledged."""
        began_at = self._clock()
        self.joined = False
        self._assignment += 1
        self._resume_at = 0.0
        self._wake.set()
        await self._drain()
        await self._let_go()
        revoked, self._positions = self._positions, frozenset()
        if revoked:
            self._observer.on_revoked(revoked, self._clock() - began_at)

    def assign(self, positions: AbstractSet[Position]) -> None:
        """Begin with these, from where they were last acknowledged."""
        self._positions = frozenset(positions)
        self._progress_at = dict.fromkeys(positions, self._clock())
        self._unverified = {TopicPartition(*position) for position in positions}
        self.joined = True
        self._observer.on_assigned(self._positions)

    def begin(self, topic_id: str) -> None:
        """Read this topic from now on; before the consumer joins."""
        self._acks.begin(topic_id)

    @property
    def topic_id(self) -> str:
        """Which topic is read; empty where the brokers do not tell."""
        return self._acks.topic_id

    async def renounce(self, consumer: AIOKafkaConsumer | None) -> None:
        """The topic is gone, another one has its name: acknowledge nothing of it any more.

        Returns when what was fetched of it is decided and answered, or after as long as a drain may take. What it is
        known to have held beyond that is told as lost.
        """
        await self._acks.renounce()
        fetched = list(consumer._fetcher._records.values()) if consumer is not None else []  # noqa: SLF001
        with suppress(TimeoutError):
            async with asyncio.timeout(self._consumption.drain_timeout_s):
                while consumer is not None and _holds_any(consumer, fetched):  # noqa: ASYNC110 - it tells nobody
                    await asyncio.sleep(_LOOK_EVERY_S)
                self._pause(self._consumption.drain_timeout_s)
                while self._has_work or not self._idle.is_set():  # noqa: ASYNC110 - there are two signs of it
                    await asyncio.sleep(_LOOK_EVERY_S)
        for position, first, end in self._reach.unread():
            self._lost(position, first, end)

    async def finish(self) -> None:
        """End: wait for the running batch as in `revoke`, which it need not know about. No fetch may follow."""
        await self._drain()
        self.joined = False
        self._assignment += 1
        await self._let_go()
        left, self._positions = self._positions, frozenset()
        self._observer.on_left(left)

    # --------------------------------------------------------------------------------------------------------- watching

    @property
    def last_poll_s(self) -> float:
        """Seconds since records were last asked for with success."""
        return self._clock() - self._polled_at

    @property
    def paused_s(self) -> float:
        """Seconds until records are asked for again."""
        return max(0.0, self._resume_at - self._clock())

    @property
    def busy_s(self) -> float:
        """Seconds since the running batch began; 0 when none is."""
        return 0.0 if self._idle.is_set() else self._clock() - self._began_at

    def partitions(self, consumer: AIOKafkaConsumer) -> tuple[PartitionHealth, ...]:
        """Each partition of ours, as far as it is known."""
        now, wall_ms = self._clock(), time.time() * 1000
        found = []
        for partition in sorted(consumer.assignment()):
            position = (partition.topic, partition.partition)
            # Not public: whether a position is known yet, without waiting for it
            state = consumer._subscription.subscription.assignment.state_value(partition)  # noqa: SLF001
            in_hand = self._first_in_hand(position)
            fetched_at_ms = state.timestamp
            next_offset = state._position if in_hand is None else in_hand  # noqa: SLF001
            end_offset = state.highwater if state.lso is None else state.lso
            found.append(
                PartitionHealth(
                    position=position,
                    next_offset=next_offset,
                    end_offset=end_offset,
                    held=0 if state.lso is None else max(0, (state.highwater or 0) - state.lso),
                    stuck_s=now - self._progress_at.get(position, now) if lag_of(next_offset, end_offset) else 0.0,
                    fetched_s=None if fetched_at_ms is None else max(0.0, wall_ms - fetched_at_ms) / 1000,
                )
            )
        return tuple(found)

    async def note_ends(self, consumer: AIOKafkaConsumer) -> None:
        """Note how far the log goes by now. The broker is asked: behind a slow batch nothing is fetched that tells.

        Not where all is decided, and fetches are answered: what comes is sent at once, and has told of itself.
        """
        asked: Mapping[TopicPartition, int] = {}
        if self._has_work or not all(map(_is_up_to_date, self.partitions(consumer))):
            with suppress(TimeoutError, KafkaError):
                async with asyncio.timeout(_ASK_ENDS_TIMEOUT_S):
                    asked = await consumer.end_offsets(consumer.assignment())
        for health in self.partitions(consumer):
            end = asked.get(TopicPartition(*health.position), health.end_offset)
            self._reach.goes_to(health.position, health.next_offset, end)

    def confirm_ends(self) -> None:
        """Take the ends that were noted for those of this topic: it still has its name."""
        self._reach.confirm()

    def fault(self, consumer: AIOKafkaConsumer) -> str | None:
        """Why this consumer will never deliver again, where that is so; None for a living one.

        aiokafka itself would only log it, or raise the same error for ever.
        """
        if consumer._coordinator._coordination_task.done():  # noqa: SLF001 - no public sign of it
            return "aiokafka's group coordination ended"
        if consumer._fetcher.error_future.done():  # noqa: SLF001 - no public sign of it
            return "aiokafka's fetching ended"
        if self.joined and not self._has_work and not self.paused_s and not consumer._fetcher._records:  # noqa: SLF001
            ages = [health.fetched_s for health in self.partitions(consumer) if health.fetched_s is not None]
            if ages and min(ages) > _SILENT_AFTER_S:
                return f"no fetch was answered for {_SILENT_AFTER_S:.0f} s"
        return None

    # -------------------------------------------------------------------------------------------------------------- own

    async def _take(self, consumer: AIOKafkaConsumer) -> turns.Batch:
        """The next records; nothing where a partition has to begin anew first."""
        if self._unverified:
            await self._leave_foreign_offsets(consumer)
        try:
            return await turns.take(consumer, _POLL_S, self._most_records(consumer), self._consumption.lanes)
        except NoOffsetForPartitionError as error:
            _start_over(consumer, error.args[0])
        except OffsetOutOfRangeError as error:
            ((partition, offset),) = error.args[0].items()
            async with asyncio.timeout(ACK_TIMEOUT_S):
                first = (await consumer.beginning_offsets([partition]))[partition]
            if offset < first:
                self._lost(tuple(partition), offset, first)
            else:
                _log.error("log_shortened", partition=partition.partition, offset=offset)
            _start_over(consumer, partition)
        return {}

    async def _leave_foreign_offsets(self, consumer: AIOKafkaConsumer) -> None:
        """Begin at the first record where the group's offset was acknowledged of another topic of the same name."""
        asked = set(self._unverified)
        async with asyncio.timeout(ACK_TIMEOUT_S):
            committed = await consumer._coordinator.fetch_committed_offsets(asked)  # noqa: SLF001 - for its metadata
        for partition, known in committed.items():
            if partition in consumer.assignment() and self._acks.is_foreign(known.metadata):
                _log.error("offset_of_another_topic", partition=partition.partition, offset=known.offset)
                _start_over(consumer, partition)
        self._unverified -= asked

    def _pace_fetches(self, consumer: AIOKafkaConsumer, *, is_idle: bool) -> None:
        """Let the next fetches wait at the broker as long as they may."""
        wait_s = self._consumption.idle_fetch_wait_s if is_idle else self._consumption.fetch_max_wait_s
        consumer._fetcher._fetch_max_wait_ms = int(wait_s * 1000)  # noqa: SLF001 - aiokafka has it fixed, and reads it anew

    def _lost(self, position: Position, first: int, end: int) -> None:
        """Tell of records that went before anybody read them."""
        self._observer.on_lost(position, end - first)
        _log.error("records_lost", topic=position[0], partition=position[1], first_offset=first, last_offset=end - 1)

    def _most_records(self, _: AIOKafkaConsumer) -> int:
        """How many records the next batch may have."""
        return self._consumption.max_records

    def _first_in_hand(self, position: Position) -> int | None:
        """The first offset that was fetched and is not decided."""
        span = self._spans.get(position)
        return span[0] if span is not None else None

    @property
    def _has_work(self) -> bool:
        return bool(self._spans)

    async def _drain(self) -> None:
        """Wait for the running batch and its ack; cancel what takes too long. Bounded below the rebalance time-out."""
        running = self._running
        if running is not None:
            await asyncio.wait({running}, timeout=self._consumption.drain_timeout_s)
            if not running.done():
                _log.warning("batch_cancelled", after_s=self._consumption.drain_timeout_s)
                running.cancel()
        with suppress(TimeoutError):
            async with asyncio.timeout(CANCEL_TIMEOUT_S):
                await self._idle.wait()
        await self._acks.settle(ACK_TIMEOUT_S)

    async def _let_go(self) -> None:
        """Acknowledge nothing of the assignment that ended."""
        await self._acks.forget()
        self._drained = self._assignment - 1
        self._progress_at.clear()
        self._resume_at = 0.0
        self._reach.taken_away()

    def _give_back_what_was_dropped(self, consumer: AIOKafkaConsumer) -> None:
        """A batch that never came to its end here (FastStream swallows its own exceptions) must not be read past."""
        dropped, self._spans = self._spans, {}
        if dropped and self._fetched_in == self._assignment:
            self._observer.on_defect()
            _log.error("batch_dropped", positions=sorted(dropped))
            self._conclude(consumer, _verdict(dropped, Progress({}, self._defects.next_s())), ours=True)

    async def _decide(self, records: Records, assignment: int) -> _Verdict | None:
        """The handler's word on a batch, None for a batch that was cancelled to hand its partitions over."""
        if self.handler is None:
            raise RuntimeError("An edge without a handler must not be started")
        running = asyncio.create_task(
            _as_coroutine(cast("BatchHandler", self.handler), records, lambda: self._assignment == assignment),
            name="batch",
        )
        self._running = running
        try:
            progress = await running
            verdict = _verdict(self._spans, progress)
        except asyncio.CancelledError:
            this = asyncio.current_task()
            if this is not None and this.cancelling():
                raise
            return None
        except Exception as error:  # noqa: BLE001 - a defect: logged, and nothing of the batch is acknowledged
            wait_s = self._defects.next_s()
            self._observer.on_defect()
            _log.error("batch_failed", messages=len(records), wait_ms=round(wait_s * 1000), exc_info=error)
            return _verdict(self._spans, Progress({}, wait_s))
        finally:
            self._running = None
        self._defects.reset()
        self._observer.on_batch(len(records), self._clock() - self._began_at)
        if progress.retry_after_s is not None:  # it waits for something, and is alive
            self._progress_at.update(dict.fromkeys(self._spans, self._clock()))
        return verdict

    def _conclude(self, consumer: AIOKafkaConsumer, verdict: _Verdict, *, ours: bool) -> None:
        if verdict.decided:
            self._progress_at.update(dict.fromkeys(verdict.decided, self._clock()))
            self._acks.offer(consumer, verdict.decided)
        if verdict.undecided and ours:
            for position, offset in verdict.undecided.items():
                consumer.seek(TopicPartition(*position), offset)
            self._pause(verdict.wait_s)
            self._observer.on_give_back(verdict.left, verdict.wait_s)

    def _pause(self, wait_s: float) -> None:
        self._resume_at = self._clock() + wait_s

    async def _sit_out_pause(self) -> None:
        """Wait until the pause is over; a revocation ends it, stopping cancels it."""
        while (wait_s := self.paused_s) > 0:
            self._wake.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._wake.wait()

    def _watch_lag(self, consumer: AIOKafkaConsumer) -> None:
        if self._polled_at < self._lag_due_at:
            return
        self._lag_due_at = self._polled_at + _LAG_EVERY_S
        unpacking = turns.stopped(consumer._fetcher)  # noqa: SLF001 - as in `turns`
        for health in self.partitions(consumer):
            self._observer.on_lag(health.position, health.lag)
            self._observer.on_held(health.position, 0 if health.lag else health.held)
            waits = not self._has_work and health.fetched_s is not None and health.fetched_s > _BROKER_AWAY_AFTER_S
            if waits or not health.lag or health.position in unpacking:
                self._progress_at[health.position] = self._polled_at


class EdgeSubscriber(BatchSubscriber):
    """FastStream's batch subscriber, its batches fetched and drained by a `BatchFlow`."""

    flow: BatchFlow

    async def _ensure_topics(self) -> None:
        """Topics are created by `catalog topics create`, and checked before this starts."""

    async def get_msg(self, consumer: AIOKafkaConsumer) -> Records:
        """The next batch; called by FastStream's loop."""
        return await self.flow.fetch(consumer)

    async def stop(self) -> None:
        """Stop fetching, let the running batch end and be acknowledged (bounded), leave the group."""
        self.running = False
        consumer, self.consumer = self.consumer, None
        await self.flow.finish()
        await super().stop()
        if consumer is not None:
            await _close(consumer)


def subscribe(broker: KafkaBroker, consumption: Consumption, flow: BatchFlow) -> EdgeSubscriber:
    """Register a subscriber for `flow` at the broker, as `broker.subscriber(...)` does for FastStream's own classes."""
    topics = [Topic(consumption.topic, declare=False)]
    config = cast("KafkaBrokerConfig", broker.config)
    calls = CallsCollection[Records]()
    subscriber = EdgeSubscriber(
        KafkaSubscriberConfig(
            topics=topics,
            group_id=consumption.group_id,
            listener=_Handover(flow),
            no_reply=True,
            connection_args={
                "auto_offset_reset": "none",  # where to begin, and what was lost, is told by `BatchFlow`
                "isolation_level": "read_committed",
                "fetch_max_wait_ms": int(consumption.fetch_max_wait_s * 1000),
                "max_partition_fetch_bytes": consumption.partition_fetch_bytes,
                "group_instance_id": consumption.group_instance_id,
                "heartbeat_interval_ms": int(consumption.heartbeat_interval_s * 1000),
                "max_poll_interval_ms": int(MAX_POLL_INTERVAL_S * 1000),
                # aiokafka's sticky assignor keeps its memory on the class; a rebalance takes all partitions anyway
                "partition_assignment_strategy": (RoundRobinPartitionAssignor,),
                "rebalance_timeout_ms": int(REBALANCE_TIMEOUT_S * 1000),
                "session_timeout_ms": int(consumption.session_timeout_s * 1000),
            },
            _outer_config=config,
            _ack_policy=AckPolicy.MANUAL,
        ),
        KafkaSubscriberSpecification(
            _outer_config=config,
            calls=calls,
            specification_config=KafkaSubscriberSpecificationConfig(topics=topics, title_=None, description_=None),
        ),
        calls,
        batch_timeout_ms=int(_POLL_S * 1000),
        max_records=consumption.max_records,
    )
    subscriber.flow = flow
    Registrator.subscriber(broker, subscriber)

    async def handle(records: Records) -> None:
        if subscriber.consumer is not None:
            await flow.handle(subscriber.consumer, records)

    subscriber(handle, parser=_parse, decoder=_decode)
    return subscriber


class _Handover(ConsumerRebalanceListener):  # type: ignore[misc]
    """aiokafka awaits both, before it asks to join again and before it fetches."""

    def __init__(self, flow: BatchFlow) -> None:
        self._flow = flow

    async def on_partitions_revoked(self, _: set[TopicPartition]) -> None:
        await self._flow.revoke()

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        self._flow.assign({(partition.topic, partition.partition) for partition in assigned})


async def _close(consumer: AIOKafkaConsumer) -> None:
    """Leave the group and close, or else end what would go on being a member that nobody reads for."""
    try:
        async with asyncio.timeout(_CLOSE_TIMEOUT_S):
            await consumer.stop()
    except (TimeoutError, KafkaError) as error:
        _log.warning("consumer_not_closed", error=type(error).__name__)
        # Not public: aiokafka has no other way to give up on a coordinator that does not answer
        coordinator, fetcher = consumer._coordinator, consumer._fetcher  # noqa: SLF001
        for task in (
            coordinator and coordinator._coordination_task,  # noqa: SLF001
            coordinator and coordinator._heartbeat_task,  # noqa: SLF001
            fetcher and fetcher.error_future,
        ):
            if task is not None:
                task.cancel()
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                await consumer._client.close()  # noqa: SLF001


async def _parse(records: Records) -> KafkaMessage:
    """A batch as FastStream sees it: it reads no record, so none can make it fail."""
    return KafkaMessage(raw_message=records, body=b"", correlation_id="batch", consumer=FAKE_CONSUMER)


async def _decode(message: KafkaMessage) -> Any:  # noqa: ANN401 - FastStream's raw message is a union
    return message.raw_message


async def _as_coroutine(handler: BatchHandler, records: Records, still_ours: Callable[[], bool]) -> Progress:
    return await handler(records, still_ours)


def _verdict(spans: Mapping[Position, tuple[int, int]], progress: Progress) -> _Verdict:
    """What to acknowledge, and from where to read again. Raise ValueError for a claim beyond the batch."""
    decided: dict[Position, int] = {}
    undecided: dict[Position, int] = {}
    left = 0
    for position, (first, end) in spans.items():
        reached = progress.decided.get(position, first)
        if not first <= reached <= end:
            raise ValueError(f"The handler claims offset {reached} of {position}, which had {first} to {end}")
        if reached > first:
            decided[position] = reached
        if reached < end:
            undecided[position] = reached
            left += end - reached
    return _Verdict(decided, undecided, left, progress.retry_after_s or (0.0 if decided else NO_PROGRESS_WAIT_S))


def _is_up_to_date(health: PartitionHealth) -> bool:
    return not health.lag and health.fetched_s is not None and health.fetched_s <= _FETCHED_LATELY_S


def _holds_any(consumer: AIOKafkaConsumer, fetched: list[Any]) -> bool:
    """Whether aiokafka still has any of these to hand out."""
    held = {id(one) for one in consumer._fetcher._records.values()}  # noqa: SLF001 - no public sign of it
    return any(id(one) in held for one in fetched)


def _start_over(consumer: AIOKafkaConsumer, partition: TopicPartition) -> None:
    """Begin a partition at its first record: `latest` would skip what was sent before the first ack."""
    consumer._fetcher.request_offset_reset([partition], OffsetResetStrategy.EARLIEST)  # noqa: SLF001 - without waiting
