"""`catalog doctor` tells what is wrong, and after a restore which case it is; the procedure then puts it right."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import NewTopic

from migrations import runner
from tests.command_line import Finished, catalog
from tests.conftest import drop_database
from tests.servers import Servers
from tests.system import System


@pytest.fixture
async def another_database(stack: Servers) -> AsyncIterator[str]:
    """The name of a database that does not exist; dropped afterwards if it does by then."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    yield name
    await drop_database(stack, name)


async def run(stack: Servers, statement: str) -> None:
    """Run a statement on the server."""
    connection = await asyncpg.connect(stack.env.database_url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


def failing(finished: Finished) -> str:
    """Return the failing rows of the doctor's table, blanks squeezed."""
    return "\n".join(" ".join(line.split()) for line in finished.out.splitlines() if line.strip().startswith("failing"))


async def nothing_fails(system: System, **settings: str) -> Finished:
    """Have the doctor find nothing that fails, but that a server of tests waits for no disk, where it does not."""
    (answer,) = await system.fetch("show fsync")
    finished = await catalog(system, "doctor", code=int(answer["fsync"] == "off"), **settings)
    expected = "failing durability fsync is off: a crash damages the data fsync = on" if finished.code else ""
    assert failing(finished) == expected
    return finished


async def test_a_healthy_deployment(system: System) -> None:
    """Nothing fails; what may be meant is a warning, and reply topics that are not bound are one."""
    await system.start()
    assert (await create(system, "a")).status == 201
    healthy = await nothing_fails(system)
    assert "offsets and outcomes agree" in healthy.out
    assert "REPLY_TOPICS is not set" in healthy.out
    bound = await nothing_fails(system, REPLY_TOPICS=f'{{"tester": ["{system.prefix}.replies.*"]}}')
    assert "REPLY_TOPICS" not in bound.out


async def test_what_cannot_be_reached_fails(system: System) -> None:
    """Kafka, database and Redis away: a failing line each, nothing else stops the examination, exit code 1."""
    nowhere = "127.0.0.1:1"
    database, redis = f"postgresql://{nowhere}/x", f"redis://{nowhere}/0"
    away = catalog(system, "doctor", code=1, KAFKA_BOOTSTRAP_SERVERS=nowhere, DATABASE_URL=database, REDIS_URL=redis)
    found = failing(await away)
    assert [line.split()[1] for line in found.splitlines()] == ["database", "kafka", "redis"]


async def test_why_a_database_is_of_no_use(system: System) -> None:
    """The doctor says what the server said: a wrong password, a name that is none, a right that is missing."""
    head, _, place = system.database_url.partition("@")
    for url, words in (
        (f"{head}wrong@{place}", "password authentication failed"),
        (f"{head}@{place.partition('/')[0]}/nothing", 'database "nothing" does not exist'),
        (f"{head}@nobody.invalid:1/x", "the name of its host is not known"),
    ):
        (line,) = [
            line
            for line in failing(await catalog(system, "doctor", code=1, DATABASE_URL=url)).splitlines()
            if line.startswith("failing database")
        ]
        assert words in line


async def test_topics_and_retention(system: System) -> None:
    """Topics that do not exist, and outcomes that are forgotten before their messages are, fail by name."""
    found = failing(await catalog(system, "doctor", code=1, TOPIC_PREFIX="nowhere", OUTCOME_RETENTION_DAYS="3"))
    assert "nowhere.commands it does not exist catalog topics create" in found
    found = failing(await catalog(system, "doctor", code=1, OUTCOME_RETENTION_DAYS="3"))
    assert f"failing {system.prefix}.commands topic" in found
    assert "longer than outcomes are kept" in found


async def test_an_old_schema(system: System, stack: Servers, another_database: str) -> None:
    """A database of an earlier release is told by its revision, and what to do; an empty one likewise."""
    await run(stack, f'create database "{another_database}"')
    url = stack.database(another_database)
    assert "failing schema there is none catalog migrate" in failing(
        await catalog(system, "doctor", code=1, DATABASE_URL=url)
    )
    await runner.upgrade(url, "006")
    found = failing(await catalog(system, "doctor", code=1, DATABASE_URL=url))
    assert "failing schema revision 006, this release needs" in found


async def test_a_database_older_than_the_offsets(system: System, stack: Servers, another_database: str) -> None:
    """A restored database lacks what was acknowledged: it is told, and a rewind has it done again, deadlines or not."""
    worker = await system.start()
    for name in "abc":
        await create(system, name)
    worker.process.terminate()
    await worker.ended()
    await run(stack, f'create database "{another_database}" template "{system.database_url.rsplit("/", 1)[1]}"')
    worker = await system.start()
    deadline = {"deadline": str(int((time.time() + 8) * 1000))}
    lost = [await create(system, name, headers=deadline) for name in "de"]
    await consistent(system)
    restored = stack.database(another_database)
    unsure = await nothing_fails(system, DATABASE_URL=restored)
    assert "may be older than the offsets: 2 of the last commands" in unsure.out
    lost.append(await create(system, "f"))
    found = failing(await catalog(system, "doctor", code=1, DATABASE_URL=restored))
    assert "restore the database is older than the offsets: 3 of the last commands" in found

    busy = await catalog(system, "offsets", "rewind", "--to-stored", code=1, DATABASE_URL=restored)
    assert "are workers running?" in busy.err
    worker.process.terminate()
    await worker.ended()
    await system.until(passed(float(deadline["deadline"]) / 1000), 10, "time stands still")
    assert "nothing to do" in (await catalog(system, "offsets", "rewind", "--to-stored")).out
    dry = await catalog(system, "offsets", "rewind", "--to-stored", "--dry-run", DATABASE_URL=restored)
    assert "partition 0: from 6 to 3" in dry.out
    await catalog(system, "offsets", "rewind", "--to-stored", DATABASE_URL=restored)
    await system.start(DATABASE_URL=restored)

    for reply in lost:
        again = await system.reply(reply.headers["correlation_id"], nth=2)
        assert (again.status, again.headers.get("replayed")) == (201, None)
    await consistent(system, restored)
    late = await create(system, "late", headers={"deadline": "1"})
    assert late.status == 504


async def test_a_topic_older_than_the_database(system: System) -> None:
    """A topic that was made anew has other messages at known offsets: it is told, and a rewind leaves none out."""
    worker = await system.start()
    first = [await create(system, name, message_id=f"m-{name}") for name in "abc"]
    worker.process.terminate()
    await worker.ended()
    topic = f"{system.prefix}.commands"
    await system.admin.delete_topics([topic])
    await system.until(lambda: made_anew(system, topic), 20, "the topic is not made anew")
    found = failing(await catalog(system, "doctor", code=1))
    assert "the topic is older than the database: there is an outcome of offset 2 of partition 0" in found

    new = [await send(system, name) for name in "wxyz"]
    await system.flush()
    found = failing(await catalog(system, "doctor", code=1))
    assert "holds another message than its outcome says" in found
    await acknowledge(system, topic, 2)  # as offsets that outlived the topic
    rewound = await catalog(system, "offsets", "rewind", "--to-start")
    assert "partition 0: from 2 to 0" in rewound.out
    await system.start()
    for correlation_id in new:
        assert (await system.reply(correlation_id)).status == 201
    again = await create(system, "a", message_id="m-a")
    assert (again.raw, again.headers["replayed"]) == (first[0].raw, "true")


async def test_a_topic_made_anew_is_no_restore(system: System, stack: Servers, another_database: str) -> None:
    """Once workers have read the new topic, what they decided of the old one proves nothing, however far it went.

    That holds for partitions to which nothing has come yet, too.
    A database that is older than what was acknowledged of the new one is told as ever, and set back to its outcomes.
    """
    worker = await system.start()
    for number in range(6):
        await create(system, f"old-{number}")
        await create(system, f"elsewhere-{number}", partition=1)
    topic = f"{system.prefix}.commands"
    await system.admin.delete_topics([topic])
    await system.until(lambda: made_anew(system, topic), 20, "the topic is not made anew")
    await system.producer.client.force_metadata_update()
    for name in "ab":
        await create(system, name)
    await system.until(lambda: is_consistent(system), 30, "no worker noticed that the topic is another one")
    worker.process.terminate()
    await worker.ended()
    await run(stack, f'create database "{another_database}" template "{system.database_url.rsplit("/", 1)[1]}"')
    worker = await system.start()
    lost = [await create(system, name) for name in "cd"]
    worker.process.terminate()
    await worker.ended()
    restored = stack.database(another_database)
    found = failing(await catalog(system, "doctor", code=1, DATABASE_URL=restored))
    assert "the database is older than the offsets: 2 of the last commands" in found
    dry = await catalog(system, "offsets", "rewind", "--to-stored", "--dry-run", DATABASE_URL=restored)
    assert "partition 0: from 4 to 2" in dry.out
    assert len(lost) == 2


async def send(system: System, name: str, **how: Any) -> str:  # noqa: ANN401
    """Send a creation, to partition 0 unless told."""
    body = {"kind": "create_customer", "payload": {"name": name, "email": f"{name}@example.com"}}
    return await system.send("commands", body, **{"partition": 0} | how)


async def create(system: System, name: str, **how: Any) -> Any:  # noqa: ANN401
    """Create a customer; returns the reply."""
    return await system.reply(await send(system, name, **how))


async def is_consistent(system: System) -> bool:
    """Tell whether the doctor finds by now that offsets and outcomes agree."""
    return "offsets and outcomes agree" in (await catalog(system, "doctor", code=None)).out


async def consistent(system: System, database_url: str | None = None) -> None:
    """Have the doctor find that offsets and outcomes agree."""
    finished = await nothing_fails(system, DATABASE_URL=database_url or system.database_url)
    assert "offsets and outcomes agree" in finished.out


def passed(at: float) -> Any:  # noqa: ANN401 - a condition
    """Tell whether a time has passed."""

    async def has_passed() -> bool:
        return time.time() > at

    return has_passed


async def made_anew(system: System, topic: str) -> bool:
    """Make a topic that is being deleted; tells whether that was possible."""
    stamped = {"message.timestamp.type": "LogAppendTime", "max.message.bytes": "1048576"}
    response = await system.admin.create_topics([NewTopic(topic, system.partitions, 1, topic_configs=stamped)])
    await asyncio.sleep(0.2)
    return all(code == 0 for _, code, *_ in response.topic_errors)


async def acknowledge(system: System, topic: str, offset: int) -> None:
    """Set the group's offset of partition 0."""
    servers = system.servers.env.kafka_bootstrap_servers
    consumer = AIOKafkaConsumer(bootstrap_servers=servers, group_id=topic, enable_auto_commit=False)
    await consumer.start()
    try:
        consumer.assign([TopicPartition(topic, 0)])
        await consumer.commit({TopicPartition(topic, 0): offset})
    finally:
        await consumer.stop()


async def test_rules_that_are_not_evaluated(system: System) -> None:
    """Stored rules that would not be accepted now are listed by product and name; all others are not."""
    await system.start()
    rules = [
        {"name": "good", "parameters": {"type": "object"}, "start_date": "2020-01-01"},
        {"name": "dear", "parameters": {}, "start_date": "2020-01-01"},
    ]
    for mnemonic in ("DEAR", "GOOD"):
        for kind, payload in (
            ("create_product", {"mnemonic": mnemonic, "overview": ""}),
            ("set_validation_rules", {"mnemonic": mnemonic, "rules": rules}),
        ):
            version = {"version": 2} if kind == "create_product" else {}
            sent = await system.send("commands", {"kind": kind, "payload": payload} | version)
            assert (await system.reply(sent)).status < 300
    assert "those of 2 products can be evaluated" in (await nothing_fails(system)).out
    await system.fetch(
        """update validation_instances set parameters = '{"not": {"pattern": "(?=x)"}}' where name = 'dear'
        and product_id = (select id from products where mnemonic = 'DEAR')"""
    )
    told = " ".join((await nothing_fails(system, COLUMNS="400")).out.split())
    assert "rule 'dear' of product 'DEAR' is not evaluated: a pattern is not supported" in told
    assert "rule 'good'" not in told
    assert "product 'GOOD'" not in told
