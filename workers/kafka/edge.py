"""The Kafka edge of one worker process, put together."""

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
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
from workers.kafka.dead_letters import DeadLetters
from workers.kafka.observation import EdgeHealth, EdgeObserver, SilentObserver
from workers.kafka.producer import PatientProducer
from workers.kafka.replies import Publisher, Replies
from workers.kafka.security import KafkaSecurity
from workers.kafka.stream import StreamFlow
from workers.kafka.subscriber import DRAIN_TIMEOUT_S, BatchFlow, Consumption, subscribe
from workers.kafka.topics import TopicAdmin, TopicsUnfitError
from workers.ports import BatchHandler, BrokerAwayError, DeadLetterPort, ReplyPort, StreamHandler

_WATCH_EVERY_S: Final = 1.0
_LOOK_AT_TOPIC_EVERY: Final = 2
"""Seconds: what is done to a topic is noticed within 10 s, by the contract; and what it held by then is known."""
_CHECK_EVERY: Final = 60
"""Seconds between two looks at what was checked at the start."""

_log = structlog.get_logger(__name__)


class KafkaEdge:
    """Reads one topic for one handler, and publishes replies and dead letters for it.

    Set `handler` before `start`: a `StreamHandler` where it answers `in_any_order`, else a `BatchHandler`. `stop` may
    take as long as a drain does (`drain_timeout_s`, and 16 s at most to roll back, to acknowledge and to leave the
    group).
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
        )
        flow = StreamFlow if in_any_order else BatchFlow
        self._flow = flow(consumption, self._observer, fault_points or FaultPoints())
        self._subscriber = subscribe(self._broker, consumption, self._flow)
        self._publisher = Publisher(
            partial(PatientProducer, bootstrap_servers, client_id, security),
            topics.dead_letters(topic),
            self._observer,
            min_insync_replicas,
        )
        self.replies: Final[ReplyPort] = Replies(self._publisher)
        self.dead_letters: Final[DeadLetterPort] = DeadLetters(self._publisher)
        self._starting: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._read_partitions = 0
        self._missing = False
        self._fault: str | None = None
        self._fatal: str | None = None
        self._broken = asyncio.Event()

    @property
    def handler(self) -> BatchHandler | StreamHandler | None:
        """Who decides the batches."""
        return self._flow.handler

    @handler.setter
    def handler(self, handler: BatchHandler | StreamHandler) -> None:
        self._flow.handler = handler

    async def start(self) -> None:
        """Return when this worker has joined its group, however long the broker stays away, or when it was stopped.

        Raise KafkaAccessError when Kafka refuses us, or is set up in a way that we must not work with.
        """
        if self.handler is None:
            raise RuntimeError("Set the handler first")
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
        await self._stop_consuming()
        await self._publisher.stop()

    def health(self) -> EdgeHealth:
        """How it is right now; asks nobody, and never waits."""
        consumer = self._subscriber.consumer
        joined = consumer is not None and self._flow.joined
        return EdgeHealth(
            joined=joined,
            partitions=self._flow.partitions(consumer) if joined else (),
            last_poll_s=self._flow.last_poll_s,
            paused_s=self._flow.paused_s,
            busy_s=self._flow.busy_s,
            closed_reply_topics=self._publisher.closed_topics,
            fault=self._fault or self._publisher.fault,
            fatal=self._fatal,
        )

    # -------------------------------------------------------------------------------------------------------------- own

    async def _start(self) -> None:
        await self._until_done(self._check_and_connect)
        await self._until_done(self._consume)
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

    async def _consume(self) -> None:
        try:
            identity = await self._publisher.identity_of(self._topic)
            self._flow.begin(identity.id if identity is not None else "")
            self._read_partitions = identity.partitions if identity is not None else 0
            await self._broker.start()
        except BaseException:
            await self._stop_consuming()
            raise

    async def _stop_consuming(self) -> None:
        try:
            await self._broker.stop()
        except* Exception as errors:  # noqa: BLE001 - it is closed as far as it can be
            _log.warning("consumer_not_closed", errors=[type(error).__name__ for error in errors.exceptions])

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
                self._fault = self._consumer_fault()
                if self._fault is None:
                    continue
                with suppress(BrokerAwayError):
                    await reach_broker(self._bootstrap_servers, self._security, self._client_id)
                    self._observer.on_kafka_error("consumer")
                    _log.error("consumer_replaced", reason=self._fault)
                    await self._stop_consuming()
                    await self._until_done(self._consume)
        except KafkaAccessError as error:
            self._break(str(error))
        except Exception as error:  # noqa: BLE001 - logged, and the end of this process
            _log.error("edge_broken", exc_info=error)
            self._break(f"the edge's watch failed: {type(error).__name__}")

    async def _look_at_topic(self) -> None:
        """Follow the topic: read another one of its name from its first record, and partitions that were added."""
        if self._subscriber.consumer is not None:
            await self._flow.note_ends(self._subscriber.consumer)
        with suppress(BrokerAwayError):
            identity = await self._publisher.identity_of(self._topic)
            if identity is None:
                if not self._missing:
                    _log.error("topic_missing", topic=self._topic)
                self._missing = True
                return
            self._missing = False
            if identity.id != self._flow.topic_id:
                _log.error("topic_made_anew", topic=self._topic, partitions=identity.partitions)
                self._observer.on_kafka_error("topic")
                await self._flow.renounce(self._subscriber.consumer)
                await self._stop_consuming()
                await self._until_done(self._consume)
                return
            self._flow.confirm_ends()
            if identity.partitions != self._read_partitions:
                _log.warning("partitions_added", topic=self._topic, partitions=identity.partitions)
                self._read_partitions = identity.partitions
                if self._subscriber.consumer is not None:
                    await self._subscriber.consumer._client.force_metadata_update()  # noqa: SLF001 - not public

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

    def _consumer_fault(self) -> str | None:
        consumer = self._subscriber.consumer
        if consumer is None:
            return "there is no consumer"
        if all(task.done() for task in self._subscriber.tasks):
            return "FastStream's loop ended"
        return self._flow.fault(consumer)

    def _break(self, reason: str) -> None:
        self._fatal = reason
        self._broken.set()
