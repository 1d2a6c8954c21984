"""A client that has the document and a token, and nothing else of ours: no kind is named in it."""

import asyncio
import json
import time
import urllib.request
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import jwt
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from tests.contracts.reader import Contract
from tests.system import SECRET, System

FAILED: Final = {"retry_backfill"}
"""It asks for a run that has failed, which needs a backfill worker; without one: `ILLEGAL_TRANSITION`."""


def in_order(contract: Contract) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Go through the messages of all kinds, each after those of the kinds that it needs."""
    done: list[str] = []

    def visit(kind: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
        if kind in done:
            return
        for needed in contract.operations[kind]["x-needs"]:
            yield from visit(needed)
        done.append(kind)
        for message in contract.requests(kind):
            yield kind, message

    for kind in contract.operations:
        yield from visit(kind)


def key_of(operation: Mapping[str, Any], example: Mapping[str, Any]) -> bytes:
    """Read the key out of the payload, by the paths that the operation names."""
    for path in operation["x-key"]:
        value: Any = example["payload"]["payload"]
        for part in path.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if value is not None:
            return str(value).encode()
    name = "message_id" if operation["channel"]["$ref"].endswith("/commands") else "correlation_id"
    return str(example["headers"][name]).encode()


class Client:
    """Sends examples, and reads what they are answered."""

    def __init__(self, contract: Contract, servers: str) -> None:
        self.contract = contract
        self.servers = servers
        self.reply_to = contract.document["channels"]["replies"]["title"].replace("<name>", "reader")
        roles = sorted({role for one in contract.operations.values() for role in one["x-roles"]})
        claims = {"sub": "reader", "roles": roles, "iat": int(time.time()), "exp": int(time.time()) + 600}
        self.token = jwt.encode(claims, SECRET, "HS256")

    async def ask_all(self) -> list[tuple[str, int, Mapping[str, Any], Mapping[str, str]]]:
        """Send every example, one after the other; returns kind, version, envelope and headers of each."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.servers)
        await admin.start()
        await admin.create_topics([NewTopic(self.reply_to, 1, 1)])
        await admin.close()
        producer = AIOKafkaProducer(bootstrap_servers=self.servers, acks="all", enable_idempotence=True)
        consumer = AIOKafkaConsumer(self.reply_to, bootstrap_servers=self.servers, auto_offset_reset="earliest")
        await producer.start()
        await consumer.start()
        try:
            answers = []
            for kind, message in in_order(self.contract):
                for example in message["examples"]:
                    envelope, headers = await self._ask(producer, consumer, kind, example)
                    answers.append((kind, message["x-version"], envelope, headers))
            return answers
        finally:
            await consumer.stop()
            await producer.stop()

    async def _ask(
        self, producer: AIOKafkaProducer, consumer: AIOKafkaConsumer, kind: str, example: Mapping[str, Any]
    ) -> tuple[Mapping[str, Any], Mapping[str, str]]:
        operation = self.contract.operations[kind]
        correlation_id = uuid.uuid4().hex
        headers = {
            **example["headers"],
            "correlation_id": correlation_id,
            "reply_to": self.reply_to,
            "authorization": f"Bearer {self.token}",
        }
        key = key_of(operation, {**example, "headers": headers})
        topic = self.contract.resolved(operation["channel"])["address"]
        sent = [(name, value.encode()) for name, value in headers.items()]
        await producer.send_and_wait(topic, json.dumps(example["payload"]).encode(), key=key, headers=sent)
        async with asyncio.timeout(30):
            async for record in consumer:
                told = {name: value.decode() for name, value in record.headers}
                if told["correlation_id"] == correlation_id:
                    return json.loads(record.value), told
        raise AssertionError


def problems(contract: Contract, answers: Sequence[tuple[str, int, Mapping[str, Any], Mapping[str, str]]]) -> list[str]:
    """Say which answers are not what the document says, or are no success."""
    found = []
    for kind, version, envelope, headers in answers:
        reply = contract.reply(kind)
        if why := contract.problem(reply["payload"], envelope) or contract.problem(reply["headers"], headers):
            found.append(f"{kind} v{version}: {why}")
        told = envelope["data"]["error_code"] if envelope["type"] == "error" else envelope["type"]
        expected = {"ILLEGAL_TRANSITION"} if kind in FAILED else {"success", "neutral", "warning"}
        if told not in expected:
            found.append(f"{kind} v{version}: {envelope}")
    return found


async def test_a_client_that_has_only_the_document(system: System) -> None:
    """Reading it from a worker, it sends every example by its needs, and each kind and version does what it says.

    Sent again, as they are, commands are answered as before.
    """
    system.settings["CONTRACT_SERVERS"] = "kafka.example.com:9093"
    worker, _ = await asyncio.gather(system.start("commands"), system.start("queries"))
    with await asyncio.to_thread(urllib.request.urlopen, worker.metrics_url + "/asyncapi.json") as file:
        text = file.read().decode()
    contract = Contract(json.loads(text))
    assert [server["host"] for server in contract.document["servers"].values()] == ["kafka.example.com:9093"]
    assert system.servers.env.kafka_bootstrap_servers not in text
    client = Client(contract, system.servers.env.kafka_bootstrap_servers)
    answers = await client.ask_all()
    assert problems(contract, answers) == []
    asked = {(kind, version) for kind, version, _, _ in answers}
    assert asked == {(kind, one["x-version"]) for kind in contract.operations for one in contract.requests(kind)}
    commands = {kind for kind, one in contract.operations.items() if one["channel"]["$ref"].endswith("/commands")}
    for (kind, _, first, _), (_, _, second, _) in zip(answers, await client.ask_all(), strict=True):
        is_erased = second["statusCode"] == 410  # it spoke of the customer that another example deletes
        assert kind not in commands or is_erased or second == first
    deprecated = {(kind, version) for kind, version, _, headers in answers if "deprecation" in headers}
    assert deprecated == {
        (kind, one["x-version"])
        for kind in contract.operations
        for one in contract.requests(kind)
        if "x-deprecated-on" in one
    }


async def test_every_worker_shows_the_contract(system: System) -> None:
    """Each kind of worker serves the page and both documents, the same ones."""
    workers = await asyncio.gather(*(system.start(role) for role in ("commands", "queries", "backfill")))
    for path in ("/contract", "/asyncapi.json", "/asyncapi.yaml"):
        bodies = set()
        for worker in workers:
            with await asyncio.to_thread(urllib.request.urlopen, worker.metrics_url + path) as file:
                bodies.add(file.read())
        assert len(bodies) == 1
        assert system.prefix.encode() in bodies.pop()
