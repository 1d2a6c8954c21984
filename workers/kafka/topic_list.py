"""Which topics exist, asked without creating any."""

import asyncio
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Final

from aiokafka.errors import KafkaError
from aiokafka.protocol.metadata import MetadataRequest

from workers.kafka.producer import PatientProducer
from workers.ports import BrokerAwayError

MISSING: Final = "topic does not exist"
NOT_AUTHORISED: Final = "not authorised"

LOOK_UP_EVERY_S: Final = 0.1
"""Between two look-ups: all names that turn up meanwhile are asked for in one, so that a batch of 500 unknown names
costs one request (and one more before they are called missing), and a flood of them ten a second."""

_LOOK_UP_TIMEOUT_S: Final = 2.0

Leaders = Mapping[int, int]
"""Which broker leads each of a topic's partitions; one that lacks a leader is led by -1."""

# Kafka's error codes for a topic: unknown, invalid name, access denied. Others (no leader yet) mean that it exists.
_VERDICTS: Final[Mapping[int, str]] = {3: MISSING, 17: MISSING, 29: NOT_AUTHORISED}


class TopicList:
    """Looks topics up for a producer, and has it keep the metadata of those that are in use.

    What the producer knows is the cache, half a minute old at most; a topic that it does not know is asked for afresh
    before it is called missing.
    """

    def __init__(self, in_use: Callable[[], Iterable[str]], clock: Callable[[], float] = time.monotonic) -> None:
        self._in_use = in_use
        self._clock = clock
        self._waiting: dict[str, asyncio.Future[str | None]] = {}
        self._looking: asyncio.Task[None] | None = None
        self._not_before = 0.0
        self._asked = 0

    async def make_known(self, producer: PatientProducer, topic: str) -> str | None:
        """Return None when the producer knows the topic, or why it never will. Waits for a topic that is being made.

        Raise BrokerAwayError when nobody could be asked.
        """
        while not producer.knows(topic):
            reason = await self._find(producer, topic)
            if reason is not None:
                return reason
            if not producer.knows(topic):
                await asyncio.sleep(LOOK_UP_EVERY_S)
        return None

    async def look_up(self, producer: PatientProducer, topics: Collection[str]) -> dict[str, str | None]:
        """For each topic why it cannot be written to, or None; one that lacks a leader is left out."""
        verdicts: dict[str, str | None] = {}
        for code, topic, _, partitions in await self._ask(producer, topics):
            if code in _VERDICTS:
                verdicts[topic] = _VERDICTS[code]
            elif code == 0 and all(leader >= 0 for _, _, leader, *_ in partitions):
                verdicts[topic] = None
        return verdicts

    async def brokers_work(
        self, producer: PatientProducer, own_topic: str, min_insync_replicas: int, others: Mapping[str, Leaders]
    ) -> bool:
        """Whether our own topic can be written to, and the brokers that lead it and the other topics answer.

        `others` are led as they were when they were first tried: where another broker leads a partition by now, it was
        the brokers that were busy with themselves meanwhile.
        """
        nodes: set[int] = set()
        try:
            found = await self._ask(producer, (own_topic, *others))
            for code, topic, _, partitions in found:
                led = {partition: leader for _, partition, leader, *_ in partitions if leader >= 0}
                nodes.update(led.values())
                if any(
                    leader != others[topic].get(number, leader) for number, leader in led.items() if topic in others
                ):
                    return False
                if topic == own_topic and (code or not _writable(partitions, min_insync_replicas)):
                    return False
            # Over the connections that produce: what is held up there is the brokers' doing
            async with asyncio.timeout(_LOOK_UP_TIMEOUT_S):
                await asyncio.gather(*(producer.client.send(node, MetadataRequest([])) for node in nodes))
        except (BrokerAwayError, KafkaError, TimeoutError):
            return False
        return True

    async def close(self) -> None:
        """Stop looking."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait({self._looking})

    async def _find(self, producer: PatientProducer, topic: str) -> str | None:
        waiting = self._waiting.get(topic)
        if waiting is None:
            waiting = self._waiting[topic] = asyncio.get_running_loop().create_future()
            if self._looking is None or self._looking.done():
                self._looking = asyncio.create_task(self._answer(producer), name="look topics up")
        return await asyncio.shield(waiting)

    async def _answer(self, producer: PatientProducer) -> None:
        """Look up all that wait, until none does."""
        while self._waiting:
            await asyncio.sleep(
                max(0.0, self._not_before - self._clock())
            )  # at least once, for the batch's other names
            self._not_before = self._clock() + LOOK_UP_EVERY_S
            waiting, self._waiting = self._waiting, {}
            try:
                verdicts = await self.look_up(producer, waiting)
                missing = [topic for topic, reason in verdicts.items() if reason == MISSING]
                if missing:  # a broker may not have heard yet of a topic that is new: ask once more, another one
                    await asyncio.sleep(LOOK_UP_EVERY_S)
                    verdicts |= await self.look_up(producer, missing)
                found = {topic for topic in waiting if verdicts.get(topic) is None}
                if found:
                    async with asyncio.timeout(_LOOK_UP_TIMEOUT_S):
                        await producer.client.set_topics(found.union(self._in_use()))
            except (BrokerAwayError, TimeoutError) as error:
                for future in waiting.values():
                    future.set_exception(BrokerAwayError(str(error)))
                    future.exception()  # its waiter may be gone
            else:
                for topic, future in waiting.items():
                    future.set_result(verdicts.get(topic))

    async def _ask(self, producer: PatientProducer, topics: Collection[str]) -> Any:  # noqa: ANN401 - aiokafka is untyped
        """Kafka's word on these topics. Not through aiokafka's own look-up, which asks for their creation."""
        try:
            async with asyncio.timeout(_LOOK_UP_TIMEOUT_S):
                request = MetadataRequest(list(topics), allow_auto_topic_creation=False)
                response = await producer.client.send(self._next_broker(producer), request)
        except (KafkaError, TimeoutError) as error:
            raise BrokerAwayError(f"Topics could not be looked up: {error!r}") from error
        return response.topics

    def _next_broker(self, producer: PatientProducer) -> int:
        """The brokers in turn."""
        brokers = sorted(broker.nodeId for broker in producer.client.cluster.brokers())
        if not brokers:
            raise BrokerAwayError("No broker is known")
        self._asked += 1
        chosen: int = brokers[self._asked % len(brokers)]
        return chosen


def _writable(partitions: Any, min_insync_replicas: int) -> bool:  # noqa: ANN401 - aiokafka is untyped
    return all(leader >= 0 and len(in_sync) >= min_insync_replicas for _, _, leader, _, in_sync, *_ in partitions)
