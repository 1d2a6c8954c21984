"""Replies as weapons: topics that are missing, foreign, forbidden or full cost their own caller, and nobody else."""

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from tests.kafka_access import Right, allow, documented
from tests.servers import Given, Servers
from tests.system import System
from workers.stack.embedded import EmbeddedStack

PATIENCE_S: Final = 10.0
"""How much longer a bystander may wait while the attack goes on."""
CLOSED_WITHIN_S: Final = 15.0
"""A topic that takes nothing is closed after 5 s; the batch that meets it first waits so long, and once."""


@dataclass
class Bystander:
    """A caller that asks all the time, and notes how long its answers take."""

    system: System
    waits_s: list[tuple[float, float]] = field(default_factory=list)
    """When each was asked, and how long it took."""

    async def ask(self) -> None:
        """Send a command to every partition in turn, each when the one before it was answered."""
        for number in range(1_000_000):
            body = {"kind": "create_customer", "payload": {"name": "N", "email": f"{uuid.uuid4().hex}@example.com"}}
            asked_at = time.monotonic()
            sent = await self.system.send("commands", body, partition=number % self.system.partitions)
            reply = await self.system.reply(sent, timeout_s=60)
            assert reply.status == 201
            self.waits_s.append((asked_at, time.monotonic() - asked_at))
            await asyncio.sleep(0.02)

    def longest_s(self, since: float = 0.0) -> float:
        """The longest wait of those that began after a moment."""
        return max(wait_s for asked_at, wait_s in self.waits_s if asked_at >= since)

    async def settles(self, number: int) -> None:
        """Wait until so many more are answered."""
        enough = len(self.waits_s) + number
        await self.system.until(lambda: self._has(enough), 60, "the bystander is not answered")

    async def _has(self, number: int) -> bool:
        return len(self.waits_s) >= number


@asynccontextmanager
async def bystander(system: System) -> AsyncIterator[Bystander]:
    """Have one ask while something happens."""
    asking = Bystander(system)
    task = asyncio.create_task(asking.ask())
    try:
        yield asking
        assert not task.done(), task.exception()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def volley(system: System, topics: list[str], sub: str = "attacker") -> list[str]:
    """Send a good command for each reply topic, all at once; their message ids."""
    token, sent = system.token(sub), []
    for number, topic in enumerate(topics):
        body = {"kind": "create_customer", "payload": {"name": "A", "email": f"{uuid.uuid4().hex}@example.com"}}
        sent.append(uuid.uuid4().hex)
        await system.send(
            "commands",
            body,
            token=token,
            message_id=sent[-1],
            headers={"reply_to": topic},
            partition=number % system.partitions,
        )
    await system.flush()
    return sent


async def put_aside(system: System, sent: list[str]) -> list[tuple[str, str]]:
    """Wait until each of these messages is a dead letter; reasons and details."""

    async def all_there() -> bool:
        return found().keys() >= set(sent)

    def found() -> dict[str, tuple[str, str]]:
        return {notes["message_id"]: (notes["dlq.reason"], notes["dlq.detail"]) for notes in letters}

    letters: list[dict[str, str]] = []
    end = time.monotonic() + 60
    while not await all_there():
        assert time.monotonic() < end, f"{len(found())} dead letters"
        letters = [headers for _, headers in await system.dead_letters()]
        await asyncio.sleep(0.2)  # each look is a consumer of its own
    return [found()[message_id] for message_id in sent]


async def effects(system: System, sub: str = "attacker") -> int:
    """Count the commands of a caller that were applied."""
    rows = await system.fetch("select count(*) from outcomes where caller = $1 and envelope is not null", f"\n{sub}")
    return int(rows[0][0])


# Missing -------------------------------------------------------------------------------------------------------------


async def test_five_hundred_missing_topics(system: System) -> None:
    """500 commands that name 500 missing topics delay no other answer for long; nor do 500 more."""
    await system.start("commands", LOG_LEVEL="ERROR")
    async with bystander(system) as other:
        await other.settles(20)
        usual_s = other.longest_s()
        for wave in range(2):
            began = time.monotonic()
            missing = [f"{system.prefix}.replies.missing-{number}" for number in range(500)]
            sent = await volley(system, missing)
            letters = await put_aside(system, sent)
            assert set(letters) == {("REPLY_UNDELIVERABLE", "topic does not exist")}
            await other.settles(5)
            assert other.longest_s(began) < usual_s + PATIENCE_S, f"wave {wave}"
    assert await effects(system) == 1000
    assert not [name for name in await system.admin.list_topics() if ".missing-" in name]


# Foreign, forbidden, full --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def three_brokers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedStack]:
    """Three brokers that know who may do what; the workers come by name and password."""
    stack = EmbeddedStack(
        tmp_path_factory.mktemp("weapons"),
        brokers=3,
        kafka_listeners={"NAMED": "SASL_PLAINTEXT"},
        kafka_config={
            "group.min.session.timeout.ms": "2000",
            "sasl.enabled.mechanisms": "PLAIN",
            "listener.name.named.plain.sasl.jaas.config": "org.apache.kafka.common.security.plain.PlainLoginModule"
            ' required user_worker="right";',
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS",
        },
    )
    with stack:
        yield stack
        for part in ("kafka", "kafka-2", "kafka-3"):
            stack.stop_part(part, "kill")  # in order, the last one would wait in vain for the others' votes


async def make_topics(system: System) -> None:
    """Put the deployment's own topics on the first two brokers, those that will be full on the first and the third."""
    stamped = {"message.timestamp.type": "LogAppendTime", "max.message.bytes": "1048576"}
    commands, replies = f"{system.prefix}.commands", f"{system.prefix}.replies"
    admin = AIOKafkaAdminClient(bootstrap_servers=system.servers.env.kafka_bootstrap_servers)
    await admin.start()
    safe = {number: [1, 2] for number in range(system.partitions)}
    topics = [
        NewTopic(commands, -1, -1, replica_assignments=safe, topic_configs=stamped),
        *(
            NewTopic(name, -1, -1, replica_assignments={0: [1, 2]}, topic_configs={"max.message.bytes": "1114112"})
            for name in (f"{commands}.dead-letters", system.reply_to, f"{replies}.forbidden", f"{replies}.victim")
        ),
        *(
            NewTopic(
                f"{replies}.full-{number}",
                -1,
                -1,
                replica_assignments={0: [1, 3]},
                topic_configs={"min.insync.replicas": "2"},
            )
            for number in range(3)
        ),
    ]
    made = await admin.create_topics(topics)
    assert not any(code for _, code, _ in made.topic_errors), made.topic_errors
    await admin.close()


@pytest.fixture
async def guarded(
    three_brokers: EmbeddedStack, stack: Servers, database_url: str, tmp_path: Path
) -> AsyncIterator[System]:
    """A deployment on three brokers, whose worker has the listed rights, but for one reply topic."""
    kafka = three_brokers.environment().kafka_bootstrap_servers
    servers = Servers(Given(kafka, stack.env.database_url, stack.env.redis_url), three_brokers, 2000)
    system = System(servers, database_url, logs=tmp_path)
    await make_topics(system)
    async with system:
        forbidden = f"{system.prefix}.replies.forbidden"
        await allow(system.admin, "worker", *documented("Command worker", system.prefix))
        await allow(system.admin, "worker", Right("Topic", forbidden, "literal", "WRITE"), deny=True)
        bound = {
            "tester": [system.reply_to],
            "attacker": [f"{system.prefix}.replies.full-*", forbidden],
            "thief": [f"{system.prefix}.replies.thief"],
        }
        await system.start(
            "commands",
            KAFKA_BOOTSTRAP_SERVERS=three_brokers.listener_servers("NAMED"),
            KAFKA_SECURITY_PROTOCOL="SASL_PLAINTEXT",
            KAFKA_SECURITY_USERNAME="worker",
            KAFKA_SECURITY_PASSWORD="right",
            REPLY_TOPICS=json.dumps(bound),
            LOG_LEVEL="WARNING",
        )
        yield system


async def stored(system: System, topic: str) -> int:
    """Count the records of a topic's only partition."""
    async with AIOKafkaConsumer(bootstrap_servers=system.servers.env.kafka_bootstrap_servers) as consumer:
        partition = TopicPartition(topic, 0)
        return int((await consumer.end_offsets([partition]))[partition])


async def test_topics_that_may_or_will_not_take_replies(guarded: System) -> None:
    """Replies to foreign and forbidden topics are put aside at once, to full ones after 5 s, once; the others go on."""
    system, parts = guarded, guarded.servers.parts
    replies = f"{system.prefix}.replies."
    async with bystander(system) as other:
        await other.settles(20)
        usual_s = other.longest_s()

        began = time.monotonic()
        stolen = await volley(system, [f"{replies}victim"] * 30, "thief")
        forbidden = await volley(system, [f"{replies}forbidden"] * 30)
        assert set(await put_aside(system, stolen)) == {
            ("REPLY_TO_UNUSABLE", "the caller may not be answered on this topic")
        }
        assert set(await put_aside(system, forbidden)) == {("REPLY_UNDELIVERABLE", "not authorised")}
        await other.settles(5)
        assert other.longest_s(began) < usual_s + PATIENCE_S
        assert (await effects(system, "thief"), await effects(system)) == (0, 30)
        assert await stored(system, f"{replies}victim") == 0

        await asyncio.to_thread(parts.stop_part, "kafka-3")
        try:
            await other.settles(20)
            full = [f"{replies}full-{number % 3}" for number in range(30)]
            began = time.monotonic()
            first = await put_aside(system, await volley(system, full))
            await other.settles(5)
            assert other.longest_s(began) < usual_s + CLOSED_WITHIN_S
            began = time.monotonic()
            second = await put_aside(system, await volley(system, full))
            await other.settles(5)
            assert other.longest_s(began) < usual_s + PATIENCE_S
            assert set(first + second) == {("REPLY_UNDELIVERABLE", "topic takes no messages")}
            assert await effects(system) == 90
        finally:
            await asyncio.to_thread(parts.start_part, "kafka-3")

        known = [await stored(system, f"{replies}full-{number}") for number in range(3)]

        async def taken() -> bool:
            await volley(system, full[:3])
            return all([await stored(system, f"{replies}full-{number}") > known[number] for number in range(3)])

        await system.until(taken, 40, "a topic that has room again gets no replies")
    assert system.workers[0].process.returncode is None
