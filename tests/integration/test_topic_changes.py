"""What is done to a topic from outside while workers run."""

import json
import signal
import time
import uuid
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import NewPartitions, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from tests.servers import Servers
from tests.system import System, WorkerProcess


async def configure(system: System, topic: str, **settings: str) -> None:
    """Set a topic's settings, as an operator does by Kafka's own tools."""
    config = {name.replace("_", "."): value for name, value in settings.items()}
    await system.admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, configs=config)])


@pytest.mark.parametrize("groups", [0, 157, 290])
async def test_a_token_may_fill_what_the_other_headers_leave(system: System, groups: int) -> None:
    """A token of 15 KB, full of groups, is as good as a short one."""
    await system.start("commands")
    names = [f"a-group-with-a-long-name-{number:012}" for number in range(groups)]
    token = system.token(groups=names)
    assert len(token) > groups * 50
    reply = await system.command("create_customer", {"name": "Ada", "email": "ada@example.com"}, token=token)
    assert reply.status == 201, reply.envelope


async def test_a_message_that_the_broker_did_not_stamp(system: System) -> None:
    """On a topic that was set to CreateTime nobody knows when a message was sent: no token can be judged.

    It is answered 401 and dead-lettered, whatever time it claims and however good its token is; when the topic is right
    again, messages are applied again.
    """
    await system.start("commands", LOG_LEVEL="ERROR")
    topic = f"{system.prefix}.commands"
    created = {"name": "Ada", "email": "ada@example.com"}
    await configure(system, topic, message_timestamp_type="CreateTime", max_message_bytes="1048576")
    now = int(time.time())
    tokens = [
        system.token(exp=now - 2 * 86_400),
        system.token(),
        system.token(exp=now + 1),
        system.token(nbf=now + 86_400),
        "no.token.atall",
    ]
    sent = [
        await system.send("commands", {"kind": "create_customer", "payload": created}, token=token) for token in tokens
    ]
    for correlation_id in sent:
        reply = await system.reply(correlation_id)
        assert (reply.status, reply.code) == (401, "UNAUTHENTICATED"), reply.envelope
    letters = await system.letters(len(tokens))
    assert {headers["dlq.reason"] for _, headers in letters} == {"UNAUTHENTICATED"}
    await configure(system, topic, message_timestamp_type="LogAppendTime", max_message_bytes="1048576")

    async def is_applied() -> bool:  # the broker goes by its new setting a moment after it took it
        return (await system.command("create_customer", created)).status == 201

    await system.until(is_applied, 20, "no message is applied again")


async def creation(system: System, partition: int = 0, **how: object) -> str:
    """Send a creation; returns its correlation id."""
    body = {"kind": "create_customer", "payload": {"name": "Ada", "email": f"{uuid.uuid4().hex}@example.com"}}
    return await system.send("commands", body, partition=partition, confirm=True, **how)  # type: ignore[arg-type]


async def ask(system: System, side: str, partition: int) -> str:
    """Send a creation, or a query for nobody; returns its correlation id."""
    if side == "commands":
        return await creation(system, partition)
    body = {"kind": "get_customer", "payload": {"customer_id": str(uuid.uuid4())}}
    return await system.send(side, body, partition=partition, confirm=True)


async def lines(worker: WorkerProcess, event: str) -> list[dict[str, Any]]:
    """Read a worker's log lines of an event."""
    return [line for line in worker.lines() if line["message"] == event]


async def make_anew(system: System, topic: str, partitions: int) -> None:
    """Delete a topic and make it anew, as soon as the broker lets us."""
    await system.admin.delete_topics([topic])

    async def made() -> bool:
        config = {"message.timestamp.type": "LogAppendTime", "max.message.bytes": "1048576"}
        response = await system.admin.create_topics([NewTopic(topic, partitions, 1, topic_configs=config)])
        return bool(response.topic_errors[0][1] == 0)

    await system.until(made, 20, "the topic is not made anew")
    await system.producer.client.force_metadata_update()


@pytest.mark.parametrize(
    ("side", "before", "after"), [("commands", 4, 1), ("commands", 1, 4), ("commands", 2, 2), ("queries", 3, 2)]
)
async def test_a_topic_made_anew_is_read_from_its_first_record(
    stack: Servers, database_url: str, tmp_path: Path, side: str, before: int, after: int
) -> None:
    """Under another id the log begins anew: nothing of it is skipped, however far the old one was read.

    Two workers read it: each message of the new topic is answered, all within what noticing may take.
    """
    async with System(stack, database_url, partitions=before, logs=tmp_path) as system:
        workers = [await system.start(side, LOG_LEVEL="WARNING") for _ in range(2)]
        for number in range(20):
            await ask(system, side, number % before)
        await system.until(partial(has, system, 20), 30, "the old topic is not read")
        await make_anew(system, f"{system.prefix}.{side}", after)
        sent = [await ask(system, side, number % after) for number in range(30)]
        for correlation_id in sent:
            reply = await system.reply(correlation_id, timeout_s=30)
            assert reply.status == (201 if side == "commands" else 404)
        for worker in workers:
            assert worker.process.returncode is None
            assert await lines(worker, "records_lost") == []


async def has(system: System, number: int) -> bool:
    """Whether so many are answered."""
    return len(system.replies) >= number


async def test_partitions_that_are_added_are_read(system: System) -> None:
    """What is sent to a new partition is answered within what noticing may take, by workers that ran before it."""
    await system.start("commands", LOG_LEVEL="WARNING")
    await system.admin.create_partitions({f"{system.prefix}.commands": NewPartitions(total_count=6)})
    await system.producer.client.force_metadata_update()
    sent = [await creation(system, number) for number in range(6)]
    for correlation_id in sent:
        assert (await system.reply(correlation_id, timeout_s=30)).status == 201


async def test_records_deleted_unread_are_counted(system: System) -> None:
    """Retention took records that nobody had read: a metric and a line at error say how many, and which."""
    worker = await system.start("commands")
    assert (await system.reply(await creation(system))).status == 201
    worker.process.terminate()
    await worker.ended()
    for _ in range(7):
        await creation(system)
    topic = TopicPartition(f"{system.prefix}.commands", 0)
    await system.admin.delete_records({topic: RecordsToDelete(before_offset=6)})
    worker = await system.start("commands")
    assert (await system.reply(await creation(system))).status == 201
    (lost,) = await lines(worker, "records_lost")
    assert (lost["level"], lost["first_offset"], lost["last_offset"]) == ("error", 1, 5)
    metrics = await system.metrics(worker)
    assert metrics[f'catalog_records_lost_total{{partition="0",topic="{topic.topic}"}}'] == 5


@pytest.mark.parametrize("side", ["commands", "queries"])
async def test_what_a_transaction_aborted_never_was(system: System, side: str) -> None:
    """Requests of an open transaction wait, those of an aborted one have no effect and no answer.

    The partition behind it waits as well, which a metric tells and which is no lag and no reason to restart; those of a
    committed one are answered.
    """
    worker = await system.start(side, LOG_LEVEL="WARNING")
    servers = system.servers.env.kafka_bootstrap_servers
    topic = f"{system.prefix}.{side}"
    body: dict[str, Any] = {"kind": "get_customer", "payload": {"customer_id": str(uuid.uuid4())}}
    if side == "commands":
        body = {"kind": "create_customer", "payload": {"name": "Ada", "email": "ada@example.com"}}

    def headers(correlation_id: str) -> list[tuple[str, bytes]]:
        fields = {"message_id": correlation_id, "correlation_id": correlation_id, "reply_to": system.reply_to}
        fields["authorization"] = f"Bearer {system.token()}"
        return [(name, value.encode()) for name, value in fields.items()]

    held = f'catalog_records_held{{partition="0",topic="{topic}"}}'
    lag = f'catalog_lag_messages{{partition="0",topic="{topic}"}}'
    async with AIOKafkaProducer(bootstrap_servers=servers, transactional_id=uuid.uuid4().hex) as producer:
        await producer.begin_transaction()
        await producer.send_and_wait(topic, json.dumps(body).encode(), partition=0, headers=headers("aborted"))
        behind = await system.send(side, body, partition=0, message_id="behind", confirm=True)

        async def waits() -> bool:
            metrics = await system.metrics(worker)
            return metrics.get(held) == 2 and metrics.get(lag) == 0

        await system.until(waits, 20, "the partition is not told to be held")
        assert await system.http_status(worker.metrics_url + "/ready") == 200
        assert system.replies == {}
        await producer.abort_transaction()
        assert (await system.reply(behind)).status == (201 if side == "commands" else 404)
        await producer.begin_transaction()
        await producer.send_and_wait(topic, json.dumps(body).encode(), partition=0, headers=headers("committed"))
        await producer.commit_transaction()
    assert (await system.reply("committed")).status == (409 if side == "commands" else 404)
    assert "aborted" not in system.replies

    async def all_read() -> bool:
        metrics = await system.metrics(worker)
        return metrics.get(held) == 0 and metrics.get(lag) == 0

    await system.until(all_read, 20, "a transaction's end counts as lag")


async def test_a_position_in_the_old_log_means_nothing_in_the_new_one(system: System) -> None:
    """A worker that stood still while the topic was made anew, and filled, skips nothing where it had been before."""
    worker = await system.start("commands", KAFKA_SESSION_TIMEOUT_MS="30000", LOG_LEVEL="WARNING")
    for _ in range(2):
        assert (await system.reply(await creation(system))).status == 201
    worker.send(signal.SIGSTOP)
    await make_anew(system, f"{system.prefix}.commands", system.partitions)
    sent = [await creation(system) for _ in range(5)]
    worker.send(signal.SIGCONT)
    for correlation_id in sent:
        assert (await system.reply(correlation_id, timeout_s=30)).status == 201
