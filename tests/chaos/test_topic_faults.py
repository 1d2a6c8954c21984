"""Whatever is done to topics from outside, every message is accounted for.

Each fault happens under load (orders, look-ups): it is noticed in time; each message that the broker confirmed is
answered, or stood in what was deleted unread, which the workers count; sent again under its id, it is answered then;
none is applied twice, and nothing of a transaction that was aborted. In the long form faults come in random order, with
kills of workers in between.
"""

import asyncio
import json
import os
import random
import signal
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import NewPartitions, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from rich.console import Console

from contracts.topics import Topics
from tests.chaos.callers import Asked, Callers, Place
from tests.servers import Servers
from tests.system import System, WorkerProcess
from workers.deployment import group_id
from workers.kafka.log_reader import move_group
from workers.kafka.security import KafkaSecurity

SIZE: Final = os.environ.get("SUITE_SIZE", "short")
ROUNDS: Final = {"short": 1, "long": 12}[SIZE]
ORDERS_PER_S: Final = 60.0
QUERIES_PER_S: Final = 15.0
PARTITIONS: Final = 6
MOST_PARTITIONS: Final = 8
NOTICED_WITHIN_S: Final = 10.0
"""From the moment when it was done to the first reply of every partition that is written to."""
SETTLED_WITHIN_S: Final = 30.0
STALL_S: Final = 4.0
"""Shorter than what the workers wait for a lock."""
SEEN_WITHIN_S: Final = 3.5
"""What was sent so shortly before a topic was deleted, a worker need not have seen."""
KILLED_BEFORE: Final = 0.3
"""Of the faults of a long run: before how many a worker is killed."""


@dataclass
class Deleted:
    """What a fault deleted: of a topic all that was stamped before a time (ms), or partitions below an offset."""

    topic: str
    before_ms: float = 0.0
    below: Mapping[int, int] = field(default_factory=dict)

    def has(self, place: Place) -> bool:
        """Tell whether a delivery was in it."""
        if place.topic != self.topic:
            return False
        return place.stamped_ms < self.before_ms or place.offset < self.below.get(place.partition, 0)


@dataclass
class Stage:
    """A deployment, its load and its dice."""

    system: System
    callers: Callers
    dice: random.Random
    workers: list[WorkerProcess] = field(default_factory=list)
    counted: dict[str, float] = field(default_factory=dict)
    """Records told as lost, by topic, up to the fault before."""

    def topic(self, side: str) -> str:
        """The topic of a side."""
        return f"{self.system.prefix}.{side}"

    async def start(self, *roles: str) -> None:
        """Start workers."""
        self.workers += await asyncio.gather(*(self.system.start(role, LOG_LEVEL="WARNING") for role in roles))

    async def partitions(self, side: str) -> list[int]:
        """Of a topic, by now."""
        (described,) = await self.system.admin.describe_topics([self.topic(side)])
        return sorted(partition["partition"] for partition in described["partitions"])

    @asynccontextmanager
    async def stalled(self) -> AsyncIterator[None]:
        """Have commands wait for the database inside, from a while before."""
        connection = await asyncpg.connect(self.system.database_url)
        try:
            async with connection.transaction():
                await connection.execute("lock table orders in access exclusive mode")
                await asyncio.sleep(STALL_S)
                yield
        finally:
            await connection.close()

    async def lost(self, topic: str) -> float:
        """How many records of a topic were told as lost since this was last asked."""
        found = 0.0
        for worker in self.workers:
            for name, value in (await self.system.metrics(worker)).items():
                if name.startswith("catalog_records_lost_total") and f'topic="{topic}"' in name:
                    found += value
        since, self.counted[topic] = found - self.counted.get(topic, 0.0), found
        return since


Fault = Callable[[Stage], Awaitable[Deleted | None]]
"""Does it, and says what it deleted."""


# Faults --------------------------------------------------------------------------------------------------------------
async def made_anew(stage: Stage, side: str, partitions: int) -> Deleted:
    """Delete a topic and make it anew, as soon as the broker lets us."""
    topic = stage.topic(side)
    await stage.system.admin.delete_topics([topic])
    deleted = Deleted(topic)

    async def made() -> bool:
        deleted.before_ms = time.time() * 1000
        config = {"message.timestamp.type": "LogAppendTime", "max.message.bytes": "1048576"}
        response = await stage.system.admin.create_topics([NewTopic(topic, partitions, 1, topic_configs=config)])
        return bool(response.topic_errors[0][1] == 0)

    await stage.system.until(made, 20, "the topic is not made anew")
    return deleted


async def fewer_partitions(stage: Stage) -> Deleted:
    """Make the commands' topic anew with fewer partitions, while its records are worked off."""
    return await made_anew(stage, "commands", stage.dice.randint(1, len(await stage.partitions("commands"))))


async def more_partitions(stage: Stage) -> Deleted:
    """Make the commands' topic anew with more partitions, behind a backlog."""
    async with stage.stalled():
        return await made_anew(stage, "commands", min(MOST_PARTITIONS - 1, len(await stage.partitions("commands")) + 3))


async def queries_made_anew(stage: Stage) -> Deleted:
    """Make the queries' topic anew."""
    return await made_anew(stage, "queries", stage.dice.randint(1, PARTITIONS))


async def added(stage: Stage) -> None:
    """Add partitions to both topics."""
    for side in ("commands", "queries"):
        number = len(await stage.partitions(side))
        if number < MOST_PARTITIONS:
            await stage.system.admin.create_partitions({stage.topic(side): NewPartitions(total_count=number + 1)})


async def truncated(stage: Stage) -> Deleted:
    """Delete all records of the commands' topic, behind a backlog."""
    topic = stage.topic("commands")
    async with stage.stalled():
        asked = {TopicPartition(topic, n): RecordsToDelete(-1) for n in await stage.partitions("commands")}
        below = await stage.system.admin.delete_records(asked)
    return Deleted(topic, below={partition.partition: offset for partition, offset in below.items()})


async def compacted(stage: Stage) -> None:
    """Have the callers' reply topic compacted, while strangers ask for replies that have no key."""
    for policy in ("compact", "delete"):
        resource = ConfigResource(
            ConfigResourceType.TOPIC, stage.system.reply_to, configs={"cleanup.policy": policy, "retention.ms": "-1"}
        )
        await stage.system.admin.alter_configs([resource])
        if policy == "compact":
            for _ in range(20):
                stranger = stage.callers.new("commands")
                headers = [pair for pair in stage.callers.headers(stranger, keyless=True) if pair[0] != "message_id"]
                await stage.callers.publish(stage.topic("commands"), b"{}", headers)
                await asyncio.sleep(0.05)


async def transactions(stage: Stage) -> None:
    """Send messages in transactions, of which some are aborted and some committed."""
    servers = stage.system.servers.env.kafka_bootstrap_servers
    for aborts in (True, False, True, False):
        identity = uuid.uuid4().hex
        async with AIOKafkaProducer(bootstrap_servers=servers, transactional_id=identity) as producer:
            await producer.begin_transaction()
            for number in range(20):
                side = "commands" if number % 4 else "queries"
                asked = stage.callers.new(side)
                sent = await producer.send_and_wait(
                    stage.topic(side),
                    json.dumps(asked.body).encode(),
                    key=asked.message_id.encode(),
                    headers=stage.callers.headers(asked),
                )
                if aborts:
                    stage.callers.aborted.add(asked.message_id)
                else:
                    asked.places.append(Place(sent.topic, sent.partition, sent.offset, sent.timestamp))
                    stage.callers.note(asked)
            await (producer.abort_transaction() if aborts else producer.commit_transaction())


async def offsets_reset(stage: Stage) -> None:
    """Set the group's offsets back, half back, and beyond the end, its workers being stopped, as an operator may.

    Half of the log may end behind what they have done by then: who sets an offset there has told them to skip the rest.
    """
    commanders = [worker for worker in stage.workers if worker.role == "commands"]
    for worker in commanders:
        worker.send(signal.SIGTERM)
    for worker in commanders:
        assert await worker.ended() == 0
        stage.workers.remove(worker)
    stage.counted.pop(stage.topic("commands"), None)  # it was counted by who has ended
    servers, topic = stage.system.servers.env.kafka_bootstrap_servers, stage.topic("commands")
    partitions = [TopicPartition(topic, number) for number in await stage.partitions("commands")]
    group = group_id(Topics(stage.system.prefix), "commands")
    consumer = AIOKafkaConsumer(bootstrap_servers=servers, group_id=group, enable_auto_commit=False)
    consumer.assign(partitions)
    async with consumer:
        first, end = await consumer.beginning_offsets(partitions), await consumer.end_offsets(partitions)
        done = {one: await consumer.committed(one) for one in partitions}
    half = {one: min((first[one] + end[one]) // 2, max(first[one], done[one] or 0)) for one in partitions}
    offsets = {one.partition: (first[one], half[one], end[one] + 1_000_000)[one.partition % 3] for one in partitions}
    await move_group(servers, KafkaSecurity(), group, topic, offsets)
    await stage.start(*(worker.role for worker in commanders))


async def nothing(_: Stage) -> None:
    """Harm nothing: the load flows."""


FAULTS: Final[Mapping[str, Fault]] = {
    "nothing": nothing,
    "fewer partitions": fewer_partitions,
    "more partitions, behind a backlog": more_partitions,
    "partitions added": added,
    "truncated behind a backlog": truncated,
    "replies compacted": compacted,
    "transactions": transactions,
    "offsets reset": offsets_reset,
    "queries made anew": queries_made_anew,
}


# Accounting ----------------------------------------------------------------------------------------------------------
async def strike(stage: Stage, name: str) -> str:
    """Have one fault happen, wait until all that is left is answered, and account for what was deleted."""
    deleted = await FAULTS[name](stage)
    done_s = time.time()
    callers = stage.callers

    def gone(one: Asked) -> bool:
        # What was sent again had been deleted before, perhaps with another topic of this name
        return deleted is not None and bool(one.places) and deleted.has(one.places[-1])

    partitions = await all_partitions(stage)

    async def every_partition_replies() -> bool:
        return partitions <= first_replies(stage, done_s * 1000).keys()

    async def every_worker_noticed() -> bool:
        return deleted is None or not deleted.before_ms or all(has_noticed(stage, deleted))

    await stage.system.until(every_partition_replies, SETTLED_WITHIN_S, f"{name}: partitions without a reply")
    replied_s = max(first_replies(stage, done_s * 1000).values()) - done_s
    told = f"{name}: every partition replies after {replied_s:.1f} s"
    await stage.system.until(every_worker_noticed, NOTICED_WITHIN_S, f"{name}: not noticed by every worker")
    due = [one for one in callers.unanswered() if one.places and not gone(one)]

    async def all_answered() -> bool:
        return all(callers.replies(one) or gone(one) for one in due)

    try:
        await stage.system.until(all_answered, SETTLED_WITHIN_S, f"{name}: messages without a reply")
    except AssertionError as error:
        left = [(one.message_id, one.places) for one in due if not (callers.replies(one) or gone(one))]
        raise AssertionError(f"{error}: {left}") from None
    if deleted is not None:
        told += await accounted_for(stage, deleted, [one for one in callers.unanswered() if gone(one)])
    # Of what nobody knows whether the broker took it, and of what was deleted: sent again, under its id.
    callers.deliver([one for one in callers.unanswered() if gone(one) or not (one.places or one.under_way)])
    assert replied_s <= NOTICED_WITHIN_S, told
    return told


def has_noticed(stage: Stage, deleted: Deleted) -> list[bool]:
    """Of each worker of a topic that was made anew: whether it has told so since."""
    since = datetime.fromtimestamp(deleted.before_ms / 1000, UTC).isoformat()
    return [
        any(line["message"] == "topic_made_anew" and line["timestamp"] > since for line in worker.lines())
        for worker in stage.workers
        if stage.topic(worker.role) == deleted.topic
    ]


async def accounted_for(stage: Stage, deleted: Deleted, missing: list[Asked]) -> str:
    """What was deleted unread is counted: in a topic that lives to the last, else as far as it was seen.

    Who had to give a partition away so shortly before the topic went cannot know whether its heir has read it.
    """
    least = most = len(missing)
    if deleted.before_ms:
        seen_ms = deleted.before_ms - SEEN_WITHIN_S * 1000
        least = sum(one.places[-1].stamped_ms < seen_ms for one in missing)
        answered = [one for one in stage.callers.asked.values() if one.places and deleted.has(one.places[-1])]
        most += sum(any(reply.at * 1000 > seen_ms for reply in stage.callers.replies(one)) for one in answered)
    counted = 0.0

    async def is_told() -> bool:
        nonlocal counted
        counted += await stage.lost(deleted.topic)
        return counted >= least

    with suppress(AssertionError):
        await stage.system.until(is_told, NOTICED_WITHIN_S, "")
    told = f"; {len(missing)} messages deleted unread, {counted:.0f} counted"
    assert least <= counted <= most, f"at least {least}, at most {most}{told}"
    return told


def first_replies(stage: Stage, since_ms: float) -> dict[tuple[str, int], float]:
    """When each partition first replied to what the broker took since then (seconds since the epoch)."""
    found: dict[tuple[str, int], float] = {}
    for one in stage.callers.asked.values():
        for place in one.places:
            if place.stamped_ms >= since_ms and (replies := stage.callers.replies(one)):
                where = (place.topic, place.partition)
                found[where] = min(found.get(where, replies[0].at), replies[0].at)
    return found


async def all_partitions(stage: Stage) -> set[tuple[str, int]]:
    """Those of both topics, by now."""
    return {(stage.topic(side), number) for side in ("commands", "queries") for number in await stage.partitions(side)}


async def settle(stage: Stage) -> None:
    """Send nothing new; send again what has no answer, until all have one."""
    await stage.callers.stop()

    async def all_answered() -> bool:
        return not stage.callers.unanswered()

    for _ in range(3):
        stage.callers.deliver(stage.callers.unanswered())
        await stage.callers.delivered()
        try:
            await stage.system.until(all_answered, 10, "messages without a reply")
        except AssertionError:
            continue
        return
    left = stage.callers.unanswered()
    assert not left, left[:5]


async def account(stage: Stage) -> None:
    """Compare the replies with the database: each message took effect once, or, being aborted, not at all."""
    callers = stage.callers
    orders = {}
    for one in callers.asked.values():
        replies = callers.replies(one)
        if one.side == "commands":
            assert {(reply.status, reply.raw) for reply in replies} == {(201, replies[0].raw)}, (one, replies)
            orders[replies[0].data["id"]] = one
        else:
            assert {reply.status for reply in replies} == {200}, (one, replies)
    commands = {one.message_id for one in callers.asked.values() if one.side == "commands"}
    stored = await stage.system.fetch("select id::text from orders")
    assert sorted(row["id"] for row in stored) == sorted(orders)
    assert len(orders) == len(commands)
    outcomes = await stage.system.fetch("select message_id from outcomes where message_id like 'commands-%'")
    assert sorted(row["message_id"] for row in outcomes) == sorted(commands)
    assert not callers.aborted & stage.system.replies.keys()
    for side in ("commands", "queries"):
        letters = await stage.system.dead_letters(side)
        assert {headers["dlq.reason"] for _, headers in letters} <= {"REPLY_UNDELIVERABLE"}, letters[:3]
    for worker in stage.workers:
        assert worker.process.returncode is None, worker.log


def chosen(dice: random.Random) -> list[str]:
    """Each fault once in their order; in the long form in a random one, over and over."""
    if SIZE == "short":
        return list(FAULTS)
    return [name for _ in range(ROUNDS) for name in dice.sample(list(FAULTS), len(FAULTS))]


async def kill_one(stage: Stage) -> None:
    """Kill a worker, and start another one in its place."""
    victim = stage.dice.choice(stage.workers)
    victim.send(signal.SIGKILL)
    await victim.ended()
    stage.workers.remove(victim)
    stage.counted.clear()
    await stage.start(victim.role)
    for side in ("commands", "queries"):
        await stage.lost(stage.topic(side))


@pytest.mark.chaos
async def test_topic_faults(
    stack: Servers, database_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Topics made anew, extended, truncated and compacted, transactions, offsets set back: all is accounted for."""
    seed = int(os.environ.get("CHAOS_SEED") or ("1" if SIZE == "short" else random.SystemRandom().randrange(1 << 32)))

    def say(what: str) -> None:
        with capsys.disabled():
            Console(width=160).print(what, highlight=False)

    async with System(stack, database_url, partitions=PARTITIONS, logs=tmp_path) as system:
        stage = Stage(system, Callers(system, ORDERS_PER_S, QUERIES_PER_S), random.Random(seed))
        await stage.start("commands", "commands", "queries")
        async with stage.callers:
            say(f"\nseed {seed}, logs in {system.directory}")
            for name in chosen(stage.dice):
                if SIZE == "long" and stage.dice.random() < KILLED_BEFORE:
                    await kill_one(stage)
                began_at = time.monotonic()
                say(f"  {await strike(stage, name)} (took {time.monotonic() - began_at:.1f} s)")
            await settle(stage)
            await account(stage)
            say(f"  {len(stage.callers.asked)} messages accounted for")
