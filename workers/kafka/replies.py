"""Publishing replies, so that no reply topic can be used as a weapon; dead letters go the same way.

All topics of a batch are published to at once, each by itself. What a topic may do to its own replies:

- It is missing from a fresh look-up, or closed to us: its replies are undeliverable at once.
- It refuses a message for good: that message is undeliverable, and none beside it.
- It takes none for 5 s of our running while ours work, no other broker has taken it over meanwhile, and nothing comes
  through once its brokers have answered: it is closed, and its replies are undeliverable at once while it is probed
  every second, by what it has not taken yet (or by a look-up, where nothing is left). The batch that meets it first
  waits.
- Nobody takes any: the broker is away, and the batch has to be given back.

A producer that cannot go on (its sequence numbers are out of order, it was fenced, its task ended) is replaced.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from operator import itemgetter
from typing import Final

import structlog
from aiokafka import errors

from workers.kafka.connection import refusal
from workers.kafka.observation import EdgeObserver
from workers.kafka.producer import Delivery, Parcel, PatientProducer, PostAgainError, error_of
from workers.kafka.running_time import running_time
from workers.kafka.topic_identity import TopicIdentity, identity_of
from workers.kafka.topic_list import NOT_AUTHORISED, TopicList
from workers.ports import BrokerAwayError, Message, Undeliverable

TAKES_NONE: Final = "topic takes no messages"
TOO_LARGE: Final = "message too large for the topic"

CLOSE_AFTER_S: Final = 5.0
"""A topic that takes none for so long is closed; by the contract."""

PROBE_EVERY_S: Final = 1.0
"""How often a closed topic is tried; by the contract."""

_SECOND_CHANCE_S: Final = 1.0
"""Instead of the 5 s, for a topic that was closed before and has taken nothing since: it must not cost them again."""

_GRACE_S: Final = 0.5
"""What a topic has from the answer of its brokers, or from the last message that it took, before it is closed: where
they were silent until now, all that was held up comes through just then."""

_LOOK_AGAIN_S: Final = 0.5  # whether a topic that takes its time is still there
_START_TIMEOUT_S: Final = 15.0
_FORGET_CLOSED_S: Final = 60.0  # a closed topic that nobody asked for is looked at afresh when somebody does
_FORGET_UNUSED_S: Final = 600.0
_MOST_CLOSED: Final = 1000  # that are only missing: beyond it, the oldest are looked up again when asked for
_MOST_PRODUCERS: Final = 3  # for one batch; then the broker is called away

_FAULTS: Final = (
    errors.OutOfOrderSequenceNumber,
    errors.ProducerFenced,
    errors.InvalidProducerEpoch,
    errors.InvalidProducerIdMapping,
    errors.UnknownProducerId,
    errors.ProducerClosed,
)
_TOO_LARGE: Final = (errors.MessageSizeTooLargeError, errors.RecordListTooLargeError)

_log = structlog.get_logger(__name__)


class _GoneError(Exception):
    """The topic went away while messages were under way to it."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class _WithdrawnError(errors.KafkaError):  # type: ignore[misc]
    """It was queued, never sent, and taken back."""

    retriable = True


@dataclass(slots=True)
class _Standing:
    """What is known of a topic that was published to."""

    used_at: float
    second_chance: bool = False


@dataclass(slots=True)
class _Closed:
    """A topic whose replies are undeliverable, and what is still on its way to it."""

    reason: str
    asked_at: float
    told: bool = False
    probes: set[Delivery] = field(default_factory=set)


@dataclass(slots=True)
class _Unsettled:
    """What has to be posted again.

    In halves what is too large or refused, perhaps only together; the spared as they are; the faulty by another
    producer.
    """

    too_large: list[int] = field(default_factory=list)
    refused: list[int] = field(default_factory=list)
    spared: list[int] = field(default_factory=list)
    faulty: list[int] = field(default_factory=list)


@dataclass(slots=True)
class _Topic:
    """One batch's messages for one topic."""

    name: str
    unsettled: set[int]
    undeliverable: list[Undeliverable] = field(default_factory=list)
    posted: list[Parcel] = field(default_factory=list)
    leaders: dict[int, int] = field(default_factory=dict)
    taken: bool = False
    stuck: bool = False
    waited_out: bool = False
    """It had its full time. What is stuck otherwise (withdrawn by another batch, say) may come again."""

    def refuse(self, indices: Iterable[int], reason: str) -> None:
        refused = list(indices)
        self.undeliverable += [Undeliverable(index, reason) for index in refused]
        self.unsettled.difference_update(refused)

    def settle(self, posted: Sequence[Parcel]) -> "_Unsettled":
        """Settle what can be of these; return what has to be posted again."""
        left = _Unsettled()
        self.look_at_rest(posted)
        met = [
            (index, error, one.is_certain)
            for one in posted
            for index, error in zip(one.indices, one.errors(), strict=False)
        ]
        for index, error, is_certain in sorted(met, key=itemgetter(0)):
            if isinstance(error, _TOO_LARGE):
                left.too_large.append(index)
            elif isinstance(error, PostAgainError):
                left.spared.append(index)
            elif isinstance(error, _FAULTS):
                left.faulty.append(index)
            elif isinstance(error, errors.TopicAuthorizationFailedError):
                self.refuse((index,), NOT_AUTHORISED)
            elif error.retriable or isinstance(error, errors.KafkaTimeoutError):
                self.stuck = True
            elif isinstance(error, errors.InvalidTopicError):
                self.refuse((index,), TAKES_NONE)
            elif not is_certain:  # it may be another one of its batch, of this call or not, that had it refused
                left.refused.append(index)
            else:
                _log.warning("message_refused", topic=self.name)
                self.refuse((index,), TAKES_NONE)
        return left

    def look_at_rest(self, posted: Iterable[Parcel] | None = None) -> None:
        """Settle what was taken: of these, or of all that was posted, after waiting for it was given up."""
        for parcel in self.posted if posted is None else posted:
            if parcel.is_taken:
                self.taken = True
                self.unsettled.difference_update(parcel.indices)

    async def is_moving(self) -> bool:
        """Wait for what is under way for as long as some of it comes through; whether any did since it was stuck."""
        before = len(self.unsettled)
        self.look_at_rest()
        while under_way := self.under_way():
            with suppress(TimeoutError):
                async with running_time(_GRACE_S):
                    await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
            seen = len(self.unsettled)
            self.look_at_rest()
            if len(self.unsettled) == seen:
                break
        return len(self.unsettled) < before

    def under_way(self) -> set[Delivery]:
        """What was sent and is neither taken nor refused."""
        return {parcel.delivery for parcel in self.posted if parcel.delivery is not None and parcel.is_under_way}


class Publisher:
    """Publishes to any topic with one idempotent producer; several batches may do so at once.

    `own_topic` is one that must work while anything does (a dead-letter topic): by it a broker that is away is told
    from a reply topic that takes nothing.
    """

    def __init__(
        self,
        make_producer: Callable[[], PatientProducer],
        own_topic: str,
        observer: EdgeObserver,
        min_insync_replicas: int = 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._make_producer = make_producer
        self._own_topic = own_topic
        self._observer = observer
        self._min_insync_replicas = min_insync_replicas
        self._clock = clock
        self._producer: PatientProducer | None = None
        self._replacing = asyncio.Lock()
        self._standings: dict[str, _Standing] = {}
        self._closed: dict[str, _Closed] = {}
        self._topics = TopicList(self._in_use, clock)
        self._away = False
        self._watching: asyncio.Task[None] | None = None
        self._aborting: set[asyncio.Task[None]] = set()

    @property
    def closed_topics(self) -> int:
        """How many topics take nothing at the moment."""
        return len(self._closed)

    @property
    def fault(self) -> str | None:
        """What is wrong with the producer; the next message has it replaced."""
        return None if self._producer is None or self._producer.alive else "aiokafka's producer ended"

    async def start(self) -> None:
        """Connect. Raise KafkaAccessError when Kafka does not let us write, BrokerAwayError when it did not answer."""
        self._producer = await self._started()

    async def stop(self) -> None:
        """Close at once: what was published is acknowledged already, what is stuck stays undelivered."""
        tasks = {task for task in (self._watching, *self._aborting) if task is not None}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await self._topics.close()
        producer, self._producer = self._producer, None
        if producer is not None:
            await producer.abort(errors.ProducerClosed())

    async def identity_of(self, topic: str) -> TopicIdentity | None:
        """Which topic has that name right now; None where there is none. Raise BrokerAwayError without an answer."""
        return await identity_of((await self._living()).client, topic)

    async def publish(self, messages: Sequence[Message], *, closable: bool) -> list[Undeliverable]:
        """Return when each message is acknowledged by all replicas, or is known to be undeliverable.

        Only a `closable` topic can be closed; for one that is ours the broker is called away. Raise BrokerAwayError for
        that: messages may have been stored then, and may come twice when the same batch is published again.
        """
        began_at = self._clock()
        if self._away:
            if not await self._ours_answer():
                raise BrokerAwayError("Kafka still takes nothing")
            self._away = False
        indices: dict[str, set[int]] = {}
        for index, message in enumerate(messages):
            indices.setdefault(message.topic, set()).add(index)
        topics = [_Topic(name, of) for name, of in indices.items()]
        results = await asyncio.gather(
            *(self._publish_to(topic, messages, closable=closable) for topic in topics), return_exceptions=True
        )
        failures = [result for result in results if result is not None]
        stuck = [topic for topic in topics if topic.stuck]
        if stuck or failures:
            works = closable and not failures and await self._ours_answer(stuck)
            if works:
                moving = await asyncio.gather(*(topic.is_moving() for topic in stuck))
                blamed = [
                    topic
                    for topic, moves in zip(stuck, moving, strict=True)
                    if not moves and (topic.waited_out or topic.name in self._closed)
                ]
                self._give_up(blamed, close=True)
                stuck = [topic for topic in stuck if topic.unsettled]
            self._give_up(stuck, close=False)
            if failures:
                raise failures[0]
            if stuck or not works:
                self._away = True
                raise BrokerAwayError(f"Kafka took nothing for {self._clock() - began_at:.1f} s")
        return [undeliverable for topic in topics for undeliverable in topic.undeliverable]

    # ------------------------------------------------------------------------------------------------------- one topic

    async def _publish_to(self, topic: _Topic, messages: Sequence[Message], *, closable: bool) -> None:
        now = self._clock()
        closed = self._closed.get(topic.name)
        if closed is not None and closable:
            closed.asked_at = now
            topic.refuse(sorted(topic.unsettled), closed.reason)
            return
        standing = self._standings.get(topic.name)
        second_chance = standing is not None and standing.second_chance
        try:
            async with running_time(_SECOND_CHANCE_S if second_chance else CLOSE_AFTER_S):
                missing = await self._deliver(topic, sorted(topic.unsettled), messages)
        except TimeoutError:
            missing = None
            topic.stuck = topic.waited_out = True
            topic.look_at_rest()
        if missing is not None:
            if closable:
                self._close(topic.name, missing)
            return
        standing = self._standings.setdefault(topic.name, _Standing(now))
        standing.used_at = now
        if topic.taken:
            standing.second_chance = False

    async def _deliver(
        self, topic: _Topic, todo: list[int], messages: Sequence[Message], *, apart: bool = False
    ) -> str | None:
        """Publish these; again after a replacement of the producer, in halves where together they are too large.

        What was refused for a reason that may be another's is published `apart` from what others publish, in halves.

        Return why nothing can be published to this topic, where that is so.
        """
        for _ in range(_MOST_PRODUCERS):
            producer = await self._living()
            missing = await self._topics.make_known(producer, topic.name)
            if missing is not None:
                topic.refuse(todo, missing)
                return missing
            topic.leaders = topic.leaders or producer.leaders(topic.name)
            before = len(topic.posted)
            try:
                await producer.post(topic.name, messages, todo, topic.posted, apart=apart)
            except errors.KafkaError as error:  # nothing more was queued
                queued = set(chain.from_iterable(parcel.indices for parcel in topic.posted[before:]))
                topic.posted.append(Parcel([index for index in todo if index not in queued], error=error))
            posted = topic.posted[before:]
            try:
                for parcel in posted:
                    await self._arrival(producer, topic.name, parcel)
            except _GoneError as gone:
                self._give_up_on(producer, topic)
                topic.look_at_rest()
                topic.refuse(sorted(topic.unsettled), gone.reason)
                return gone.reason
            left = topic.settle(posted)
            if len(todo) == 1:
                topic.refuse(left.too_large, TOO_LARGE)
                left.too_large = []
            suspected = _halves(left.refused)
            for part in (*_halves(left.too_large), *suspected, left.spared):
                if not part:
                    continue
                missing = await self._deliver(topic, part, messages, apart=part in suspected)
                if missing is not None:
                    return missing
            if not left.faulty:
                return None
            await self._replace(producer)
            todo = left.faulty
        topic.stuck = True
        return None

    async def _arrival(self, producer: PatientProducer, topic: str, parcel: Parcel) -> None:
        """Wait until it is known what became of a parcel. Raise _GoneError where the topic goes away meanwhile.

        Waiting can be cancelled, a message cannot.
        """
        delivery = parcel.delivery
        while delivery is not None and not delivery.done():
            await asyncio.wait({delivery}, timeout=_LOOK_AGAIN_S)
            if not delivery.done() and not producer.knows(topic):
                reason = await self._topics.make_known(producer, topic)
                if reason is not None:
                    raise _GoneError(reason)

    # --------------------------------------------------------------------------------------------------- closed topics

    async def _ours_answer(self, stuck: Sequence[_Topic] = ()) -> bool:
        """Whether it is these topics' fault that they take nothing."""
        try:
            producer = await self._living()
        except BrokerAwayError:
            return False
        others = {topic.name: topic.leaders for topic in stuck}
        return await self._topics.brokers_work(producer, self._own_topic, self._min_insync_replicas, others)

    def _give_up(self, stuck: Sequence[_Topic], *, close: bool) -> None:
        """End what took too long: what was sent is under way, and probes its topic where that is closed."""
        for topic in stuck:
            under_way = self._give_up_on(self._producer, topic)
            if close:
                _log.warning("reply_topic_takes_nothing", topic=topic.name)
                self._close(topic.name, TAKES_NONE, under_way)
                topic.refuse(sorted(topic.unsettled), TAKES_NONE)

    @staticmethod
    def _give_up_on(producer: PatientProducer | None, topic: _Topic) -> set[Delivery]:
        """Take back what was never sent to this topic; return the rest, whose fate nobody waits for any more."""
        if producer is not None:
            producer.withdraw(topic.name, _WithdrawnError())
        return topic.under_way()

    def _close(self, name: str, reason: str, probes: Iterable[Delivery] = ()) -> None:
        closed = self._closed.get(name)
        if closed is None:
            closed = self._closed[name] = _Closed(reason, self._clock())
        if reason == TAKES_NONE and not closed.told:  # of missing ones anybody can name thousands
            closed.told = True
            self._observer.on_reply_topic(closed=True)
        standing = self._standings.get(name)
        if standing is not None:
            standing.second_chance = True
        for probe in probes:
            closed.probes.add(probe)
            probe.add_done_callback(partial(self._probed, name))
        self._slow_down()
        while len(self._closed) > _MOST_CLOSED:
            idle = next((each for each, other in self._closed.items() if not other.probes), None)
            if idle is None:
                break
            self._open(idle)
        if self._watching is None or self._watching.done():
            self._watching = asyncio.create_task(self._watch(), name="probe closed topics")

    def _open(self, name: str) -> None:
        closed = self._closed.pop(name, None)
        if closed is None:
            return
        self._slow_down()
        if closed.told:
            self._observer.on_reply_topic(closed=False)

    def _slow_down(self) -> None:
        if self._producer is not None:
            self._producer.slow_down(frozenset(name for name, closed in self._closed.items() if closed.probes))

    def _probed(self, name: str, delivery: Delivery) -> None:
        """What was stuck has come to its end: through, or failed for good."""
        error = error_of(delivery)
        closed = self._closed.get(name)
        if closed is None:
            return
        closed.probes.discard(delivery)
        if error is None:
            _log.info("reply_topic_takes_messages_again", topic=name)
            standing = self._standings.get(name)
            if standing is not None:
                standing.second_chance = False
            self._open(name)

    async def _watch(self) -> None:
        """Every second look whether a closed topic that nothing is under way to would take messages by now."""
        while self._closed:
            await asyncio.sleep(PROBE_EVERY_S)
            now = self._clock()
            for name, closed in list(self._closed.items()):
                if now - closed.asked_at > _FORGET_CLOSED_S and not closed.probes:
                    self._open(name)
            quiet = [name for name, closed in self._closed.items() if not closed.probes]
            if not quiet:
                continue
            try:
                verdicts = await self._topics.look_up(await self._living(), quiet)
            except BrokerAwayError:
                continue
            for name, reason in verdicts.items():
                if reason is None:
                    self._open(name)
                elif name in self._closed:
                    self._closed[name].reason = reason

    # -------------------------------------------------------------------------------------------------------- producers

    def _in_use(self) -> list[str]:
        """Topics whose metadata is worth keeping; what nobody used for long is forgotten here."""
        oldest = self._clock() - _FORGET_UNUSED_S
        for name in [name for name, standing in self._standings.items() if standing.used_at < oldest]:
            if name not in self._closed:
                del self._standings[name]
        return list(self._standings)

    async def _living(self) -> PatientProducer:
        producer = self._producer
        if producer is None:
            raise BrokerAwayError("Not connected")
        if not producer.alive:
            await self._replace(producer)
            return await self._living()
        return producer

    async def _replace(self, broken: PatientProducer) -> None:
        """Put a new producer in the place of this one, unless somebody already has. What was under way fails."""
        async with self._replacing:
            if self._producer is not broken:
                return
            self._observer.on_kafka_error("producer")
            _log.error("producer_replaced")
            self._producer = await self._started()
            self._slow_down()
            ending = asyncio.create_task(broken.abort(errors.ProducerClosed()), name="abort producer")
            self._aborting.add(ending)
            ending.add_done_callback(self._aborting.discard)

    async def _started(self) -> PatientProducer:
        producer = self._make_producer()
        try:
            async with asyncio.timeout(_START_TIMEOUT_S):
                await producer.start()
        except BaseException as error:
            await producer.abort(errors.ProducerClosed())
            if forbidden := refusal(error, "publishing"):
                raise forbidden from error
            if isinstance(error, (errors.KafkaError, TimeoutError)):
                raise BrokerAwayError(f"No producer could be started: {error!r}") from error
            raise
        return producer


class Replies:
    """The `ReplyPort`: each reply acknowledged by all replicas, or named with the reason why it cannot be."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher

    async def publish(self, replies: Sequence[Message]) -> Sequence[Undeliverable]:
        """Publish a batch's replies, at most about 7 s. Raise BrokerAwayError when the broker takes nothing."""
        return await self._publisher.publish(replies, closable=True) if replies else ()


def _halves(indices: list[int]) -> tuple[list[int], list[int]]:
    middle = (len(indices) + 1) // 2
    return indices[:middle], indices[middle:]
