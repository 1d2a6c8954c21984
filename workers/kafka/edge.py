"""The Kafka edge of one worker process, put together: lanes that read, and what publishes for all of them."""

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Final

import structlog
from aiokafka.errors import KafkaError
from faststream.kafka import KafkaBroker

from contracts.topics import Topics
from workers.fault_points import FaultPoints
from workers.kafka import library_logs, records
from workers.kafka.connection import Backoff, KafkaAccessError, reach_broker, refusal, wait_for_broker
from workers.kafka.dead_letters import DeadLetterPublisher
from workers.kafka.lane import Lane, health_of, side_by_side
from workers.kafka.observation import EdgeHealth, EdgeObserver, SilentObserver
from workers.kafka.producer import PatientProducer
from workers.kafka.replies import Publisher, Replies
from workers.kafka.security import KafkaSecurity
from workers.kafka.subscriber import DRAIN_TIMEOUT_S, Consumption
from workers.kafka.topics import TopicAdmin, TopicsUnfitError
from workers.ports import BatchHandler, BrokerAwayError, DeadLetterPort, ReplyPort, StreamHandler

_WATCH_EVERY_S: Final = 1.0
_LOOK_AT_TOPIC_EVERY: Final = 2
"""Seconds: what is done to a topic is noticed within 10 s, by the contract; and what it held by then is known."""
_CHECK_EVERY: Final = 60
"""Seconds between two looks at what was checked at the start."""

_log = structlog.get_logger(__name__)


class KafkaEdge:
    """Reads one topic, and publishes replies and dead letters for it.

    Each lane is a consumer of its own in the group, whose batches its own handler decides. Set the `handler` of each
    before `start` (`handle_by`): a `StreamHandler` where it answers `in_any_order`, else a `BatchHandler`. `stop` may
    take as long as a drain does (`drain_timeout_s`, and 16 s at most to roll back, to acknowledge and to leave the
    group). With `group_instance_id` lane n of several joins as `<id>-<n>`.
    """

    def __init__(  # noqa: PLR0913 - one parameter for each thing that differs between deployments
        self,
        *,
        bootstrap_servers: str,
        security: KafkaSecurity,
        topics: Topics,
        topic: str,
        group_id: str,
        client_id: str,
        lanes: int = 1,
        max_records: int = 500,
        session_timeout_s: float = 10.0,
        group_instance_id: str | None = None,
        drain_timeout_s: float = DRAIN_TIMEOUT_S,
        accept_auto_create: bool = False,
        outcomes_kept: timedelta | None = None,
        min_insync_replicas: int = 1,
        in_any_order: bool = False,
        observer: EdgeObserver | None = None,
        fault_points: FaultPoints | None = None,
    ) -> None:
        """Connect nothing yet. Raise SecurityConfigError for security settings that cannot work."""
        self._bootstrap_servers = bootstrap_servers
        self._security = security
        self._client_id = client_id
        self._topics = topics
        self._topic = topic
        self._accept_auto_create = accept_auto_create
        self._outcomes_kept = outcomes_kept
        self._observer = observer or SilentObserver()
        self._broker = KafkaBroker(
            bootstrap_servers.split(","),
            client_id=client_id,
            security=security.faststream(),
            sasl_oauth_token_provider=security.token_source(),
            consumer_only=True,  # FastStream's headers are text; replies and dead letters carry any bytes
            allow_auto_create_topics=False,
            apply_types=False,
            graceful_timeout=drain_timeout_s,
            logger=logging.getLogger("workers.kafka.faststream"),
            log_level=logging.DEBUG,
        )
        consumption = Consumption(
            topic=topic,
            group_id=group_id,
            max_records=max_records,
            session_timeout_s=session_timeout_s,
            drain_timeout_s=drain_timeout_s,
            group_instance_id=group_instance_id,
            lanes=lanes,
        )
        self.lanes: Final[Sequence[Lane]] = [
            Lane(self._broker, one, self._observer, fault_points or FaultPoints(), in_any_order=in_any_order)
            for one in _of_lanes(consumption)
        ]
        self._publisher = Publisher(
            partial(PatientProducer, bootstrap_servers, client_id, security),
            topics.dead_letters(topic),
            self._observer,
            min_insync_replicas,
        )
        self.replies: Final[ReplyPort] = Replies(self._publisher)
        self.dead_letters: Final[DeadLetterPort] = DeadLetterPublisher(self._publisher)
        self._starting: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._read_partitions = 0
        self._missing = False
        self._fault: str | None = None
        self._fatal: str | None = None
        self._broken = asyncio.Event()

    def handle_by(self, make: Callable[[], BatchHandler | StreamHandler]) -> None:
        """Give each lane a handler of its own."""
        for lane in self.lanes:
            lane.handler = make()

    async def start(self) -> None:
        """Return when this worker has joined its group, however long the broker stays away, or when it was stopped.

        Raise KafkaAccessError when Kafka refuses us, or is set up in a way that we must not work with.
        """
        if any(lane.handler is None for lane in self.lanes):
            raise RuntimeError("Set the handlers first")
        records.install()
        library_logs.limit()
        self._starting = asyncio.create_task(self._start(), name="start edge")
        try:
            await self._starting
        except asyncio.CancelledError:
            this = asyncio.current_task()
            if this is None or this.cancelling():
                raise

    async def failed(self) -> str:
        """Return, with the reason, when this edge will never work again: the process should end and be replaced."""
        await self._broken.wait()
        return self._fatal or ""

    async def stop(self) -> None:
        """Stop fetching, let the running batch end and be acknowledged, leave the group, close."""
        for task in (self._starting, self._watching):
            if task is not None:
                task.cancel()
                await asyncio.wait({task})
        await self._leave(self.lanes)
        try:
            await self._broker.stop()
        except* Exception as errors:  # noqa: BLE001 - it is closed as far as it can be
            _not_closed(errors.exceptions)
        await self._publisher.stop()

    def health(self) -> EdgeHealth:
        """How it is right now; asks nobody, and never waits."""
        return health_of(
            self.lanes,
            closed_reply_topics=self._publisher.closed_topics,
            fault=self._fault or self._publisher.fault,
            fatal=self._fatal,
        )

    # -------------------------------------------------------------------------------------------------------------- own

    async def _start(self) -> None:
        await self._until_done(self._check_and_connect)
        await self._broker.connect()
        await self._until_done(partial(self._join, self.lanes))
        self._watching = asyncio.create_task(self._watch(), name="watch edge")

    async def _check_and_connect(self) -> None:
        async with TopicAdmin(self._bootstrap_servers, self._security, self._client_id) as admin:
            await self._check(admin)
        await self._publisher.start()

    async def _check(self, admin: TopicAdmin) -> None:
        await admin.check(
            self._topics,
            self._topic,
            accept_auto_create=self._accept_auto_create,
            outcomes_kept=self._outcomes_kept,
        )

    async def _join(self, lanes: Sequence[Lane]) -> None:
        """Have them read what has the topic's name now; none begins before all of them have joined."""
        try:
            for lane in lanes:
                lane.flow.may_fetch.clear()
            identity = await self._publisher.identity_of(self._topic)
            self._read_partitions = identity.partitions if identity is not None else 0
            await side_by_side(lane.start(identity.id if identity is not None else "") for lane in lanes)
            for lane in lanes:
                lane.flow.may_fetch.set()
        except BaseException:
            await self._leave(lanes)
            raise

    async def _leave(self, lanes: Sequence[Lane]) -> None:
        ends = await asyncio.gather(*(lane.stop() for lane in lanes), return_exceptions=True)
        if errors := [end for end in ends if isinstance(end, Exception)]:
            _not_closed(errors)

    async def _until_done(self, step: Callable[[], Awaitable[None]]) -> None:
        """Do a step of starting again until it works; a broker that is away only makes it wait."""
        backoff = Backoff()
        while True:
            await wait_for_broker(self._bootstrap_servers, self._security, self._client_id)
            try:
                await step()
                return
            except (BrokerAwayError, KafkaError, OSError, TimeoutError) as error:
                if forbidden := refusal(error, f"reading {self._topic}"):
                    raise forbidden from error
                self._observer.on_kafka_error("start")
                _log.warning("start_failed", error=type(error).__name__)
            await asyncio.sleep(backoff.next_s())

    async def _watch(self) -> None:
        """Replace a consumer that would never deliver again; notice what is done to the topic from outside."""
        try:
            for second in itertools.count(1):
                await asyncio.sleep(_WATCH_EVERY_S)
                if second % _LOOK_AT_TOPIC_EVERY == 0:
                    await self._look_at_topic()
                if second % _CHECK_EVERY == 0:
                    await self._check_again()
                await self._replace_faulty()
        except KafkaAccessError as error:
            self._break(str(error))
        except Exception as error:  # noqa: BLE001 - logged, and the end of this process
            _log.error("edge_broken", exc_info=error)
            self._break(f"the edge's watch failed: {type(error).__name__}")

    async def _replace_faulty(self) -> None:
        """Have lanes whose consumer is of no use any more begin with another one, once a broker answers."""
        faults = [(lane, fault) for lane in self.lanes if (fault := lane.fault()) is not None]
        self._fault = faults[0][1] if faults else None
        if not faults:
            return
        with suppress(BrokerAwayError):
            await reach_broker(self._bootstrap_servers, self._security, self._client_id)
            for _, fault in faults:
                self._observer.on_kafka_error("consumer")
                _log.error("consumer_replaced", reason=fault)
            faulty = [lane for lane, _ in faults]
            await self._leave(faulty)
            await self._until_done(partial(self._join, faulty))

    async def _look_at_topic(self) -> None:
        """Follow the topic: read another one of its name from its first record, and partitions that were added."""
        await side_by_side(lane.note_ends() for lane in self.lanes)
        with suppress(BrokerAwayError):
            identity = await self._publisher.identity_of(self._topic)
            if identity is None:
                if not self._missing:
                    _log.error("topic_missing", topic=self._topic)
                self._missing = True
                return
            self._missing = False
            if any(identity.id != lane.topic_id for lane in self.lanes):
                _log.error("topic_made_anew", topic=self._topic, partitions=identity.partitions)
                self._observer.on_kafka_error("topic")
                await side_by_side(lane.renounce() for lane in self.lanes)
                await self._leave(self.lanes)
                await self._until_done(partial(self._join, self.lanes))
                return
            for lane in self.lanes:
                lane.flow.confirm_ends()
            if identity.partitions != self._read_partitions:
                _log.warning("partitions_added", topic=self._topic, partitions=identity.partitions)
                self._read_partitions = identity.partitions
                await side_by_side(lane.look_for_partitions() for lane in self.lanes)

    async def _check_again(self) -> None:
        """Look again at what was checked at the start: what has become wrong since is told, and the work goes on."""
        try:
            async with TopicAdmin(self._bootstrap_servers, self._security, self._client_id) as admin:
                await self._check(admin)
        except TopicsUnfitError as error:
            self._observer.on_topics(fit=False)
            _log.error("topics_unfit", reason=str(error))
        except (KafkaAccessError, KafkaError, OSError, TimeoutError) as error:
            _log.warning("topics_not_checked", error=type(error).__name__)
        else:
            self._observer.on_topics(fit=True)

    def _break(self, reason: str) -> None:
        self._fatal = reason
        self._broken.set()


def _not_closed(errors: Sequence[BaseException]) -> None:
    """Tell of consumers that are closed as far as they can be."""
    _log.warning("consumer_not_closed", errors=[type(error).__name__ for error in errors])


def _of_lanes(consumption: Consumption) -> Sequence[Consumption]:
    """Say how each lane consumes: a member that is told by name needs one of its own."""
    name, lanes = consumption.group_instance_id, consumption.lanes
    if name is None or lanes == 1:
        return [consumption] * lanes
    return [replace(consumption, group_instance_id=f"{name}-{number}") for number in range(1, lanes + 1)]
