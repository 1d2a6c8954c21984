"""The Kafka edge against a real broker: what it promises the pipeline, and what others may do to it."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaTimeoutError
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy

from contracts.topics import Topics
from tests.edge_place import PARTITIONS, PLAINTEXT, Collector, Gate, Handler, Place, Seen, a_place, all_of, until
from tests.servers import Servers
from workers.kafka import replies
from workers.kafka.connection import KafkaAccessError
from workers.kafka.edge import KafkaEdge
from workers.kafka.producer import Parcel, PatientProducer
from workers.kafka.raw_caller import NotPublishedError, RawCaller
from workers.kafka.replies import CLOSE_AFTER_S, Publisher, Replies
from workers.kafka.security import KafkaSecurity
from workers.kafka.topic_list import Leaders
from workers.kafka.topics import TopicAdmin, TopicsUnfitError
from workers.ports import BrokerAwayError, Message, Progress, Record
from workers.stack.embedded import EmbeddedStack

CODECS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}


class NotUtf8(str):
    """A header key that encodes to bytes which are not UTF-8."""

    __slots__ = ()

    def encode(self, *_: object) -> bytes:
        return b"caf\xe9"


def batch_bytes(keys: Sequence[str], codec: str) -> bytes:
    """A record batch by aiokafka's own encoder; each record has one header with the given key."""
    builder = _DefaultRecordBatchBuilderPy(2, CODECS[codec], 0, -1, -1, 0, 1 << 20)
    for at, key in enumerate(keys):
        builder.append(at, 1000, b"key", b"value %d " % at * 10, [(key, b"x")])
    return bytes(builder.build())


@pytest.fixture
async def place(stack: Servers) -> AsyncIterator[Place]:
    """Topics of the test's own on the session's broker."""
    async with a_place(stack.env.kafka_bootstrap_servers) as made:
        yield made


@pytest.fixture(scope="module")
def three_brokers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedStack]:
    """Three brokers, with a second listener that asks for names and passwords."""
    stack = EmbeddedStack(
        tmp_path_factory.mktemp("three"),
        brokers=3,
        kafka_listeners={"NAMED": "SASL_PLAINTEXT"},
        kafka_config={
            "sasl.enabled.mechanisms": "PLAIN",
            "listener.name.named.plain.sasl.jaas.config": "org.apache.kafka.common.security.plain.PlainLoginModule"
            ' required user_worker="right" user_nobody="right";',
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS;User:worker",
        },
    )
    with stack:
        yield stack
        for part in ("kafka", "kafka-2", "kafka-3"):
            stack.stop_part(part, "kill")  # in order, the last one would wait in vain for the others' votes


@pytest.fixture
async def wide_place(three_brokers: EmbeddedStack) -> AsyncIterator[Place]:
    """Topics of the test's own, three copies of each, on three brokers."""
    async with a_place(three_brokers.environment().kafka_bootstrap_servers, copies=3) as made:
        yield made


# Reading --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", list(CODECS))
async def test_bad_header_key_between_good_records(place: Place, codec: str) -> None:
    """A record whose header key is not UTF-8 arrives like its neighbours: each once, in order, all acknowledged."""
    await place.send([b"before"])
    await place.send_batch(batch_bytes(["good", NotUtf8("x"), "good", NotUtf8("x"), "good"], codec))
    await place.send([b"after"])
    seen, handler = Seen(), Collector()
    edge = await place.started(handler, seen)
    await until(lambda: b"after" in handler.values())
    await edge.stop()

    assert [record.offset for record in handler.records] == list(range(7))
    keys = [name.encode("utf-8", "surrogateescape") for record in handler.records for name, _ in record.headers]
    assert keys == [b"good", b"caf\xe9", b"good", b"caf\xe9", b"good"]
    assert seen.errors == []
    assert await place.acked() == 7


async def test_only_decided_offsets_are_acked(place: Place) -> None:
    """Acks name exactly what was decided, partition by partition, whatever was fetched beyond it."""
    for partition in range(PARTITIONS):
        await place.send([b"%d" % number for number in range(10)], partition)

    async def decide_some(records: Sequence[Record], _: Callable[[], bool]) -> Progress:
        return Progress(
            {
                (record.topic, record.partition): record.offset + 1
                for record in records
                if record.offset < {0: 10, 1: 4, 2: 0, 3: 1}[record.partition]
            },
            retry_after_s=60,
        )

    seen = Seen()
    edge = await place.started(decide_some, seen, max_records=100)
    await until(lambda: seen.acks == [True])
    began_at = time.monotonic()
    await edge.stop()  # in the middle of the pause

    assert time.monotonic() - began_at < 30
    assert [await place.acked(partition) for partition in range(PARTITIONS)] == [10, 4, None, 1]


async def test_give_back_and_pause(place: Place) -> None:
    """What is not decided comes again after the pause, from its first record on, and nothing is handled meanwhile."""
    await place.send([b"%d" % number for number in range(6)])
    calls: list[tuple[float, list[int]]] = []

    async def handler(records: Sequence[Record], _: Callable[[], bool]) -> Progress:
        calls.append((time.monotonic(), [record.offset for record in records]))
        if len(calls) == 1:
            return Progress({(place.commands, 0): 2}, retry_after_s=0.8)
        return Progress(all_of(records))

    seen = Seen()
    edge = await place.started(handler, seen)
    await until(lambda: seen.given_back != [])
    assert edge.health().paused_s <= 0.8
    await until(lambda: len(calls) == 2)
    await until(lambda: seen.acks == [True, True])

    assert [offsets for _, offsets in calls] == [[0, 1, 2, 3, 4, 5], [2, 3, 4, 5]]
    assert calls[1][0] - calls[0][0] >= 0.8
    assert seen.given_back == [(4, 0.8)]
    assert await place.acked() == 6


async def test_failing_handler(place: Place) -> None:
    """A handler that raises: nothing of its batch is acknowledged or skipped, it comes again, later."""
    await place.send([b"1", b"2"])
    offsets: list[list[int]] = []

    async def handler(records: Sequence[Record], _: Callable[[], bool]) -> Progress:
        offsets.append([record.offset for record in records])
        if len(offsets) == 1:
            raise LookupError("a defect")
        return Progress(all_of(records))

    seen = Seen()
    await place.started(handler, seen)
    await until(lambda: seen.acks == [True])

    assert offsets == [[0, 1], [0, 1]]
    assert seen.defects == 1


async def test_overclaiming_handler(place: Place) -> None:
    """A handler that claims more than its batch held has nothing acknowledged: it could skip records nobody decided."""
    await place.send([b"1", b"2"])

    async def handler(_: Sequence[Record], __: Callable[[], bool]) -> Progress:
        return Progress({(place.commands, 0): 3})

    seen = Seen()
    await place.started(handler, seen)
    await until(lambda: len(seen.given_back) >= 2)

    assert seen.defects >= 2
    assert seen.acks == []
    assert await place.acked() is None


async def test_batch_that_faststream_drops(place: Place) -> None:
    """FastStream swallows its own exceptions, and the batch with them; it comes again, before all later ones."""
    handler, seen = Collector(), Seen()
    edge = await place.started(handler, seen)
    (call,) = edge.lanes[0]._subscriber.calls
    parse = call.parser

    async def fail(_: object) -> None:
        raise LookupError("a defect of the library")

    call.parser = fail
    await place.send([b"1", b"2"])
    await until(lambda: seen.defects > 0)
    call.parser = parse
    await place.send([b"3"])
    await until(lambda: len(handler.records) == 3)

    assert handler.values() == [b"1", b"2", b"3"]


async def test_lag_and_health(place: Place) -> None:
    """Health tells what waits and for how long nothing moved; an idle partition is never stuck."""
    gate, seen = Gate(), Seen()
    edge = await place.started(gate, seen)
    await place.send([b"1", b"2", b"3"])
    await gate.entered.wait()
    await place.send([b"4"])
    await until(lambda: edge.health().stuck_s > 0.2 and edge.health().busy_s > 0.2)
    health = edge.health()
    assert health.joined
    assert health.fatal is None
    assert {partition.position[1]: partition.lag > 0 for partition in health.partitions} == {
        0: True,
        1: False,
        2: False,
        3: False,
    }
    gate.go_on.set()
    await until(lambda: len(gate.records) == 4)
    await until(lambda: edge.health().partitions[0].lag == 0)
    assert edge.health().stuck_s == 0
    await until(lambda: seen.lag == {(place.commands, number): 0 for number in range(PARTITIONS)})
    await edge.stop()
    assert not edge.health().joined


# Sharing --------------------------------------------------------------------------------------------------------------


async def test_handover_waits_for_running_batch(place: Place) -> None:
    """Another worker joins while a batch runs: the batch is told, ends, is acknowledged, and comes to nobody else."""
    await place.send([b"1", b"2"])
    gate, seen, other = Gate(), Seen(), Collector()
    await place.started(gate, seen)
    await gate.entered.wait()
    joining = asyncio.create_task(place.edge(other).start())
    first = place.edges[0]
    await until(lambda: not first.health().joined, what="the revocation")
    assert not joining.done()
    gate.go_on.set()
    await asyncio.wait_for(joining, 20)
    await place.send([b"3"] * 20, partition=None)
    await until(lambda: len(gate.records) + len(other.records) == 22)

    assert gate.ours[:2] == [True, False]
    assert seen.acks[0] is True
    assert False not in seen.acks
    assert [record.value for record in gate.records[:2]] == [b"1", b"2"]
    assert len({(record.partition, record.offset) for record in [*gate.records, *other.records]}) == 22


async def test_handover_cancels_what_takes_too_long(place: Place) -> None:
    """A batch that does not end within the drain's time is cancelled, not acknowledged, and decided elsewhere."""
    await place.send([b"1"] * 8, partition=None)
    gate, seen, other = Gate(), Seen(), Collector()
    first = await place.started(gate, seen, drain_timeout_s=1.0)
    await gate.entered.wait()
    await place.started(other)
    assert gate.cancelled >= 1
    assert 1.0 <= seen.revoked[0] < 15.0
    stopping = asyncio.create_task(first.stop())
    await until(lambda: len(other.records) == 8)
    await stopping

    assert seen.acks == []
    assert gate.records == []


@pytest.mark.parametrize("lanes", [1, 2])
async def test_scaling_under_load(place: Place, lanes: int) -> None:
    """One worker, two, one again, three times under load: nothing is lost, twice or out of order, and no ack fails.

    So with lanes, which hand partitions over among each other, too.
    """
    total = 0
    turning = True
    order: list[tuple[str, int, int]] = []
    handled: dict[tuple[int, int], int] = {}
    observers: list[Seen] = []

    def handler(name: str) -> Handler:
        async def handle(records: Sequence[Record], _: Callable[[], bool]) -> Progress:
            await asyncio.sleep(0.01)  # the transaction
            for record in records:
                order.append((name, record.partition, record.offset))
                handled[record.partition, record.offset] = handled.get((record.partition, record.offset), 0) + 1
            return Progress(all_of(records))

        return handle

    def is_near() -> bool:
        return total - len(handled) < 2000

    async def load() -> None:
        nonlocal total
        while turning or total < 6000:
            await place.send([b"%d" % (total + number) for number in range(20)], partition=None)
            total += 20
            await until(is_near)

    def worker(name: str) -> Awaitable[KafkaEdge]:
        observers.append(Seen())
        return place.started(handler(name), observers[-1], max_records=50, lanes=lanes)

    await worker("first")
    loading = asyncio.create_task(load())
    for turn in range(3):
        second = await worker(f"second-{turn}")
        mine = len(order)
        await until(lambda mine=mine: any(name.startswith("second") for name, *_ in order[mine:]))  # type: ignore[misc]
        await second.stop()
    turning = False
    await loading
    await until(lambda: len(handled) == total, 60)

    assert max(handled.values()) == 1
    for partition in range(PARTITIONS):
        offsets = [offset for _, of, offset in order if of == partition]
        assert all(later == earlier + 1 for earlier, later in pairwise(offsets))
    assert all(ok for seen in observers for ok in seen.acks)


async def test_an_idle_consumer_asks_seldom(place: Place) -> None:
    """Where nothing comes, a fetch waits at the broker for a second; what comes then is handed out at once, all of it.

    While there is work, it waits for as short as before: a slow batch must not make a busy partition wait.
    """
    handler = Collector()
    edge = await place.started(handler, lanes=2)
    consumers = [lane._subscriber.consumer for lane in edge.lanes]

    def waits() -> set[int]:
        return {consumer._fetcher._fetch_max_wait_ms for consumer in consumers if consumer is not None}

    await until(lambda: waits() == {1000})
    for number in range(PARTITIONS):
        await place.send([b"1"] * 10, partition=number)
    await until(lambda: len(handler.records) == 10 * PARTITIONS)
    assert waits() == {50}
    await until(lambda: waits() == {1000})


async def test_stop_finishes_running_batch(place: Place) -> None:
    """Stopping lets the running batch end and be acknowledged; the group need not wait for a session to expire."""
    await place.send([b"1", b"2"])
    gate, seen = Gate(), Seen()
    edge = await place.started(gate, seen, session_timeout_s=90.0)
    await gate.entered.wait()
    stopping = asyncio.create_task(edge.stop())
    await until(lambda: not stopping.done())
    gate.go_on.set()
    await asyncio.wait_for(stopping, 30)
    assert gate.ours == [True, True]
    assert seen.acks == [True]
    assert await place.acked() == 2

    began_at = time.monotonic()
    handler = Collector()
    await place.started(handler)
    await place.send([b"3"])
    await until(lambda: handler.values() == [b"3"], 60)
    assert time.monotonic() - began_at < 45  # half of the session


# Going on -------------------------------------------------------------------------------------------------------------


async def test_broker_stops_and_starts(stack: Servers, place: Place) -> None:
    """The broker goes and comes back: reading, acks and replies go on by themselves, and nothing is lost."""
    reply_topic = await place.topic("outage")
    outages: list[BrokerAwayError] = []
    handled: list[bytes | None] = []

    async def handler(records: Sequence[Record], _: Callable[[], bool]) -> Progress:
        try:
            await edge.replies.publish([Message(reply_topic, None, record.value, []) for record in records])
        except BrokerAwayError as error:
            outages.append(error)
            return Progress({}, retry_after_s=0.2)
        handled.extend(record.value for record in records)
        return Progress(all_of(records))

    edge = place.edge(handler)
    await edge.start()
    await place.send([b"before"])
    await until(lambda: handled == [b"before"])
    await asyncio.to_thread(stack.parts.stop_part, "kafka")
    with pytest.raises(BrokerAwayError):
        await edge.replies.publish([Message(reply_topic, None, b"into the void", [])])
    with pytest.raises(BrokerAwayError):
        await edge.dead_letters.publish([Message(place.topics.dead_letters(place.commands), None, b"letter", [])])
    assert edge.health().fatal is None
    await asyncio.to_thread(stack.parts.start_part, "kafka")
    await place.send([b"after"])
    await until(lambda: b"after" in handled, 60)

    assert {b"before", b"after"} <= {record.value for record in await place.stored(reply_topic)}
    await until(lambda: _is(place.acked(), 2), 30)
    assert edge.health().closed_reply_topics == 0


async def _is(asked: Awaitable[Any], expected: object) -> bool:
    return bool(await asked == expected)


async def test_start_waits_for_absent_broker(stack: Servers, place: Place) -> None:
    """A worker that starts before its broker waits, and joins when it comes; one that is stopped meanwhile ends."""
    await asyncio.to_thread(stack.parts.stop_part, "kafka")
    handler = Collector()
    patient, impatient = place.edge(handler), place.edge(Collector())
    starting = asyncio.create_task(patient.start())
    giving_up = asyncio.create_task(impatient.start())
    await until(lambda: not starting.done() and not giving_up.done())
    await asyncio.wait_for(impatient.stop(), 30)
    await asyncio.wait_for(giving_up, 30)
    await asyncio.to_thread(stack.parts.start_part, "kafka")
    await asyncio.wait_for(starting, 60)
    await place.send([b"1"])
    await until(lambda: handler.values() == [b"1"])


@pytest.mark.parametrize("part", ["fetching", "coordination", "loop"])
async def test_dead_consumer_is_replaced(place: Place, part: str) -> None:
    """When aiokafka's background tasks end for good, which it only logs, the edge notices, and reads on."""
    seen, handler = Seen(), Collector()
    edge = await place.started(handler, seen)
    await place.send([b"1"])
    await until(lambda: seen.acks == [True])
    consumer = edge.lanes[0]._subscriber.consumer
    assert consumer is not None
    match part:
        case "fetching":
            consumer._fetcher._fetch_task.cancel()
        case "coordination":
            consumer._coordinator._coordination_task.cancel()
        case _:
            for task in edge.lanes[0]._subscriber.tasks:
                task.cancel()
    await until(lambda: "consumer" in seen.errors)
    await place.send([b"2"])
    await until(lambda: b"2" in handler.values())

    assert handler.values() == [b"1", b"2"]
    assert edge.health().fatal is None


# Publishing -----------------------------------------------------------------------------------------------------------


def publisher_of(edge: KafkaEdge) -> Publisher:
    """Return what publishes an edge's replies."""
    replies = edge.replies
    assert isinstance(replies, Replies)
    return replies._publisher


def look_ups(edge: KafkaEdge) -> int:
    """Count the requests about topics so far."""
    return publisher_of(edge)._topics._asked


def deliveries(edge: KafkaEdge) -> list[str]:
    """Return a list of the topics that are tried from now on."""
    tried: list[str] = []
    publisher = publisher_of(edge)
    deliver = publisher._deliver

    async def noted(topic: Any, *more: Any) -> str | None:  # noqa: ANN401 - handed on as it is
        tried.append(topic.name)
        return await deliver(topic, *more)

    setattr(publisher, "_deliver", noted)  # noqa: B010 - in the place of a method
    return tried


async def test_many_missing_topics_delay_nobody(place: Place) -> None:
    """500 replies to 500 topics that do not exist are undeliverable at once; one good reply beside them is not late."""
    good = await place.topic("good")
    edge = await place.started(Collector())
    missing = [Message(f"{place.topics.replies}no-{number}", b"k", b"v", []) for number in range(500)]
    for _ in range(2):
        looks = look_ups(edge)
        failed = await edge.replies.publish([*missing[:250], Message(good, b"k", b"v", []), *missing[250:]])
        assert look_ups(edge) - looks <= 10  # one for all of them, one that makes sure, and a probe now and then
        assert {(one.index, one.reason) for one in failed} == {
            (index, "topic does not exist") for index in range(501) if index != 250
        }
    assert len(await place.stored(good)) == 2
    assert edge.health().closed_reply_topics == 500
    listed = await place.admin.list_topics()
    assert not [name for name in listed if ".replies.no-" in name]


async def test_missing_topic_is_found_once_it_exists(place: Place) -> None:
    """A topic is called missing only by a fresh look, and is looked for every second from then on."""
    edge = await place.started(Collector())
    name = f"{place.topics.replies}late"
    (failed,) = await edge.replies.publish([Message(name, b"k", b"1", [])])
    assert failed.reason == "topic does not exist"
    assert await place.topic("late") == name

    async def arrives() -> bool:
        return not await edge.replies.publish([Message(name, b"k", b"2", [])])

    await until(arrives, 20)
    fresh = await place.topic("fresh")
    assert not await edge.replies.publish([Message(fresh, b"k", b"v", [])])


async def test_deleted_topic(place: Place) -> None:
    """A topic that is deleted under our hands is closed, others go on; it takes replies again when it is back."""
    edge = await place.started(Collector())
    gone, good = await place.topic("gone"), await place.topic("good")
    assert not await edge.replies.publish([Message(gone, b"k", b"1", []), Message(good, b"k", b"1", [])])
    await place.admin.delete_topics([gone])

    async def is_gone() -> bool:
        return gone not in await place.admin.list_topics()

    await until(is_gone)
    began_at = time.monotonic()
    failed = await edge.replies.publish([Message(gone, b"k", b"2", []), Message(good, b"k", b"2", [])])
    assert [(one.index, one.reason) for one in failed] == [(0, "topic does not exist")]
    assert time.monotonic() - began_at < 20  # aiokafka itself would wait for 40 s
    assert not await edge.replies.publish([Message(good, b"k", b"3", [])])
    assert await place.topic("gone") == gone

    async def arrives() -> bool:
        return not await edge.replies.publish([Message(gone, b"k", b"4", [])])

    await until(arrives, 15)


async def test_topic_with_a_small_limit(place: Place) -> None:
    """What is too large for its topic is named, its batch's others arrive, and the topic goes on working."""
    edge = await place.started(Collector())
    small = await place.topic("small", max_message_bytes="2000")
    messages = [Message(small, b"k", bytes(5000 if number in {3, 7} else 300), []) for number in range(20)]
    for turn in range(1, 4):
        failed = await edge.replies.publish(messages)
        assert [(one.index, one.reason) for one in failed] == [
            (3, "message too large for the topic"),
            (7, "message too large for the topic"),
        ]
        assert len(await place.stored(small)) == 18 * turn
    huge = Message(small, b"k", bytes(3 << 20), [])
    (failed_at_home,) = await edge.replies.publish([huge])
    assert failed_at_home.reason == "message too large for the topic"
    assert seen_errors(edge) == []


def seen_errors(edge: KafkaEdge) -> list[str]:
    """What the edge told its observer."""
    observer = edge._observer
    assert isinstance(observer, Seen)
    return observer.errors


async def test_a_stopped_process_blames_no_topic(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker stopped (SIGSTOP) with a reply under way goes on to its broker's answer; the topic is not closed."""
    edge = await place.started(Collector())
    topic = await place.topic("slept")
    assert not await edge.replies.publish([Message(topic, b"k", b"1", [])])
    producer, loop = edge._publisher._producer, asyncio.get_running_loop()
    assert producer is not None
    post, clock, stopped_s = producer.post, loop.time, 0.0

    async def post_and_be_stopped(
        topic: str, messages: Sequence[Message], indices: Sequence[int], posted: list[Parcel], *, apart: bool
    ) -> None:
        nonlocal stopped_s
        await post(topic, messages, indices, posted, apart=apart)
        stopped_s += CLOSE_AFTER_S + 2

    monkeypatch.setattr(producer, "post", post_and_be_stopped)
    monkeypatch.setattr(loop, "time", lambda: clock() + stopped_s)
    assert not await edge.replies.publish([Message(topic, b"k", b"2", [])])
    assert edge.health().closed_reply_topics == 0
    assert [record.value for record in await place.stored(topic)] == [b"1", b"2"]


async def test_a_broker_that_was_silent_blames_no_topic(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where brokers answer again just as they are asked, what they had held up comes through: no topic is closed."""
    monkeypatch.setattr(replies, "CLOSE_AFTER_S", 0.5)
    edge = await place.started(Collector())
    topic = await place.topic("silence")
    assert not await edge.replies.publish([Message(topic, b"k", b"1", [])])
    producer, topics = edge._publisher._producer, edge._publisher._topics
    assert producer is not None
    speaks = asyncio.Event()
    send, brokers_work = producer.client.send, topics.brokers_work

    async def send_once_it_speaks(*arguments: object, **named: object) -> object:
        await speaks.wait()
        return await send(*arguments, **named)

    async def ask_and_have_it_speak(
        by: PatientProducer, own_topic: str, min_insync_replicas: int, others: Mapping[str, Leaders]
    ) -> bool:
        speaks.set()
        return await brokers_work(by, own_topic, min_insync_replicas, others)

    monkeypatch.setattr(producer.client, "send", send_once_it_speaks)
    monkeypatch.setattr(topics, "brokers_work", ask_and_have_it_speak)
    assert not await edge.replies.publish([Message(topic, b"k", b"2", [])])
    assert speaks.is_set()
    assert edge.health().closed_reply_topics == 0
    assert [record.value for record in await place.stored(topic)] == [b"1", b"2"]


async def test_what_is_stuck_before_its_time_closes_no_topic(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the library gives up before the topic had its full time, the batch comes again; the topic stays open."""
    edge = await place.started(Collector())
    topic = await place.topic("early")
    assert not await edge.replies.publish([Message(topic, b"k", b"1", [])])
    producer = edge._publisher._producer
    assert producer is not None

    async def give_up(*_: object, **__: object) -> None:
        raise KafkaTimeoutError

    with monkeypatch.context() as patched:
        patched.setattr(producer, "post", give_up)
        with pytest.raises(BrokerAwayError):
            await edge.replies.publish([Message(topic, b"k", b"2", [])])
    assert edge.health().closed_reply_topics == 0
    assert not await edge.replies.publish([Message(topic, b"k", b"2", [])])


async def test_producer_out_of_order_is_replaced(place: Place) -> None:
    """A producer whose sequence numbers are out of order would fail for ever; it is replaced within the same call."""
    edge = await place.started(Collector())
    topic, other = await place.topic("sequence"), await place.topic("other")
    assert not await edge.replies.publish([Message(topic, b"k", b"1", []), Message(other, b"k", b"1", [])])
    producer = edge._publisher._producer
    assert producer is not None
    producer._txn_manager.increment_sequence_number(TopicPartition(topic, 0), 5)
    assert not await edge.replies.publish([Message(topic, b"k", b"2", []), Message(other, b"k", b"2", [])])

    assert "producer" in seen_errors(edge)
    assert [record.value for record in await place.stored(topic)] == [b"1", b"2"]
    assert b"2" in {record.value for record in await place.stored(other)}


async def test_replies_keep_their_bytes(place: Place) -> None:
    """Keys, values and header values go out as they are; the key chooses the partition as Java and aiokafka do."""
    edge = await place.started(Collector())
    topic = await place.topic("bytes", partitions=5)
    keys = [uuid.uuid4().hex.encode()[:length] for length in range(1, 33)]
    headers = [("a", b"\xff\x00"), ("a", b"again"), ("b", b"")]
    assert not await edge.replies.publish([Message(topic, key, b"\x00\xff", headers) for key in keys])
    assert not await edge.replies.publish([Message(topic, None, b"v", [], partition=3)])
    found = await place.stored(topic)
    for key in keys:
        await place.producer.send_and_wait(topic, b"by aiokafka", key=key)
    theirs = {record.key: record.partition for record in await place.stored(topic) if record.value == b"by aiokafka"}

    assert {record.key: record.partition for record in found if record.key} == theirs
    assert all(record.value == b"\x00\xff" and list(record.headers) == headers for record in found if record.key)
    assert [record.partition for record in found if record.key is None] == [3]


async def test_dead_letters(place: Place) -> None:
    """Dead letters of any shape are stored; without their topic nothing is, and the batch has to come again."""
    edge = await place.started(Collector())
    letters = place.topics.dead_letters(place.commands)
    await edge.dead_letters.publish(
        [
            Message(letters, None, None, [("dlq.reason", b"x")]),
            Message(letters, b"k", bytes(1024 * 1024), [("dlq.detail", bytes(32 * 1024))]),
            Message(letters, b"", b"", []),
        ]
    )
    found = {(record.key, len(record.value or b"")) for record in await place.stored(letters)}
    assert found == {(None, 0), (b"k", 1024 * 1024), (b"", 0)}
    with pytest.raises(BrokerAwayError, match="does not exist"):
        await edge.dead_letters.publish([Message("nowhere", b"k", b"v", [])])


async def test_topics_that_take_none(three_brokers: EmbeddedStack, wide_place: Place) -> None:
    """Topics without a leader or enough replicas are closed after 5 s, while others work, and open when they work."""
    place, seen = wide_place, Seen()
    edge = await place.started(Collector(), seen)
    good = await place.topic("good", copies=3)
    thin = await place.topic("thin", on=[1, 3], min_insync_replicas="2")
    lost = await place.topic("lost", on=[3])
    everywhere = [Message(name, b"k", b"1", []) for name in (thin, good, lost)]
    assert not await edge.replies.publish(everywhere)
    await asyncio.to_thread(three_brokers.stop_part, "kafka-3")
    try:
        began_at = time.monotonic()
        first = asyncio.create_task(
            edge.replies.publish([Message(name, b"k", b"2", []) for name in (thin, good, lost)])
        )
        others, looks = 0, look_ups(edge)
        while not first.done():
            assert not await edge.replies.publish([Message(good, b"k", b"other", [])])
            others += 1
            await asyncio.sleep(0.02)
        failed = first.result()
        assert [(one.index, one.reason) for one in failed] == [
            (0, "topic takes no messages"),
            (2, "topic takes no messages"),
        ]
        assert 4.9 < time.monotonic() - began_at < 30
        assert others >= 10  # the good topic is not held up by what its neighbours wait for
        assert look_ups(edge) - looks < 10

        delivered = deliveries(edge)
        assert len(await edge.replies.publish([Message(name, b"k", b"3", []) for name in (thin, good, lost)])) == 2
        assert delivered == [good]  # the others are refused without another try
        assert seen.reply_topics == [True, True]
    finally:
        await asyncio.to_thread(three_brokers.start_part, "kafka-3")
    await until(lambda: seen.reply_topics == [True, True, False, False], 30)
    assert not await edge.replies.publish([Message(name, b"k", b"4", []) for name in (thin, good, lost)])

    assert [record.value for record in await place.stored(thin)] == [b"1", b"2", b"4"]
    assert [record.value for record in await place.stored(lost)][-1] == b"4"
    assert [record.value for record in await place.stored(good) if record.value != b"other"] == [b"1", b"2", b"3", b"4"]
    assert seen.errors == []


async def test_one_of_three_brokers_is_killed(three_brokers: EmbeddedStack, wide_place: Place) -> None:
    """While another broker takes over, batches may have to come again; no reply topic is blamed, nothing is lost."""
    place, seen = wide_place, Seen()
    topic = await place.topic("spread", partitions=6, copies=3)
    handled: list[bytes | None] = []

    async def handler(records: Sequence[Record], _: Callable[[], bool]) -> Progress:
        try:
            failed = await edge.replies.publish([Message(topic, record.value, record.value, []) for record in records])
        except BrokerAwayError:
            return Progress({}, retry_after_s=0.2)
        assert not failed
        handled.extend(record.value for record in records)
        return Progress(all_of(records))

    edge = place.edge(handler, seen)
    await edge.start()

    async def load() -> None:
        for number in range(300):
            await place.send([b"%d" % number], partition=number % PARTITIONS)

    loading = asyncio.create_task(load())
    await until(lambda: len(handled) > 20)
    await asyncio.to_thread(three_brokers.stop_part, "kafka-2", "kill")
    try:
        await asyncio.wait_for(loading, 60)
        await until(lambda: len(set(handled)) == 300, 60)
    finally:
        await asyncio.to_thread(three_brokers.start_part, "kafka-2")

    assert seen.reply_topics == []
    assert seen.defects == 0
    assert {record.value for record in await place.stored(topic)} == {b"%d" % number for number in range(300)}


# Setting up -----------------------------------------------------------------------------------------------------------


async def test_create_topics(place: Place) -> None:
    """Topics are made as the contract says; an existing one is left as it is, and what differs is named."""
    topics = Topics(f"e{uuid.uuid4().hex[:10]}")
    async with TopicAdmin(place.servers, PLAINTEXT) as admin:
        made = await admin.create_topics(topics, partitions=3)
        again = await admin.create_topics(topics, partitions=3)
        other = await admin.create_topics(topics, partitions=5)
        with pytest.raises(KafkaAccessError, match="replication factor"):
            await admin.create_topics(Topics(topics.prefix + "x"), replication_factor=9)

    assert {report.outcome for report in made} == {"created"}
    assert {report.outcome for report in again} == {"exists"}
    assert str(other[0]) == f"{topics.commands}: exists, but it has 3 partitions, not 5"
    keys = ["message.timestamp.type", "retention.ms", "max.message.bytes"]
    found = {}
    for name in (topics.commands, topics.queries, topics.dead_letters(topics.commands)):
        resource = ConfigResource(ConfigResourceType.TOPIC, name, dict.fromkeys(keys))
        (response,) = await place.admin.describe_configs([resource])
        found[name] = [value for _, value, *_ in sorted(response.resources[0][4])]
    assert found == {
        topics.commands: ["1048576", "LogAppendTime", "604800000"],
        topics.queries: ["1048576", "LogAppendTime", "3600000"],
        topics.dead_letters(topics.commands): ["1114112", "CreateTime", "1209600000"],
    }


async def test_unfit_topics(place: Place) -> None:
    """A worker refuses missing topics, producers' timestamps, small dead letters, records that outlive the outcomes."""
    with pytest.raises(TopicsUnfitError, match=r"nowhere\.commands does not exist .*nowhere\.commands\.dead-letters"):
        await place.edge(Collector(), topics=Topics("nowhere"), topic="nowhere.commands").start()
    with pytest.raises(TopicsUnfitError, match="may keep a record for 8 days"):
        await place.edge(Collector(), outcomes_kept=timedelta(days=8)).start()
    letters = place.topics.dead_letters(place.commands)
    for size, why in (("1048576", "a letter that does not fit"), (str(1048576 + 65536), None)):
        await place.admin.alter_configs(
            [ConfigResource(ConfigResourceType.TOPIC, letters, {"max.message.bytes": size})]
        )
        if why is not None:
            with pytest.raises(TopicsUnfitError, match=why):
                await place.edge(Collector()).start()
    await place.admin.alter_configs(
        [ConfigResource(ConfigResourceType.TOPIC, place.commands, {"message.timestamp.type": "CreateTime"})]
    )
    with pytest.raises(TopicsUnfitError, match=r"message\.timestamp\.type=CreateTime"):
        await place.edge(Collector(), outcomes_kept=timedelta(days=30)).start()


async def test_security_that_the_broker_does_not_have(place: Place) -> None:
    """To ask a plaintext listener for SASL is one readable error, at once."""
    security = KafkaSecurity("SASL_PLAINTEXT", "PLAIN", "somebody", "a password")
    with pytest.raises(KafkaAccessError, match="refuses our credentials"):
        await place.edge(Collector(), security=security).start()


async def test_names_and_passwords(three_brokers: EmbeddedStack, wide_place: Place) -> None:
    """A wrong password and a missing right are one readable error each, without the password; the right ones work."""
    servers = three_brokers.listener_servers("NAMED")

    def named(user: str, password: str) -> KafkaEdge:
        security = KafkaSecurity("SASL_PLAINTEXT", "PLAIN", user, password)
        return wide_place.edge(handler, bootstrap_servers=servers, security=security)

    handler = Collector()
    with pytest.raises(KafkaAccessError, match="refuses our credentials") as refused:
        await named("worker", "wr0ng").start()
    assert "wr0ng" not in str(refused.value)
    with pytest.raises(
        KafkaAccessError, match=r"does not allow reading about topic .*: a right on the topic is missing"
    ):
        await named("nobody", "right").start()
    edge = named("worker", "right")
    await edge.start()
    await wide_place.send([b"1"])
    await until(lambda: handler.values() == [b"1"])
    reply_topic = await wide_place.topic("named")
    # Three brokers on a busy machine may need longer to make a topic than a worker waits for one to take a reply
    await until(lambda: _is(edge.replies.publish([Message(reply_topic, b"k", b"v", [])]), []), 60)


# Calling --------------------------------------------------------------------------------------------------------------


async def test_raw_caller(place: Place) -> None:
    """Records are published as they are, many at once, and every reply is handed over; what cannot be is told."""

    async def echo(records: Sequence[Record], _: Callable[[], bool]) -> Progress:
        replies = []
        for record in records:
            to = (dict(record.headers)["reply_to"] or b"").decode()
            replies += [Message(to, record.key, record.value, [("correlation_id", record.key or b"")])] * 2
        await edge.replies.publish(replies)
        return Progress(all_of(records))

    edge = place.edge(echo)
    await edge.start()
    replies: list[tuple[str, bytes]] = []
    all_came = asyncio.Event()

    def on_reply(headers: Mapping[str, str], body: bytes) -> None:
        replies.append((headers["correlation_id"], body))
        if len(replies) == 400:
            all_came.set()

    async with RawCaller(place.servers, place.topics.prefix, "caller", PLAINTEXT, on_reply) as caller:
        reply_to = [("reply_to", caller.reply_to.encode())]
        await asyncio.gather(
            *(caller.publish(place.commands, b"%d" % number, b"%d" % number, reply_to) for number in range(200))
        )
        await asyncio.wait_for(all_came.wait(), 20)
        assert sorted(replies) == sorted((str(number), b"%d" % number) for number in range(200) for _ in range(2))
        with pytest.raises(NotPublishedError, match="does not exist"):
            await caller.publish("nowhere", b"k", b"v", reply_to)
