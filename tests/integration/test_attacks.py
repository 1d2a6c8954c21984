"""A table of attacks: whatever is tried, the answer is the contract's, and nothing is left behind.

One deployment for all of it. Its command worker answers on any reply topic; its query worker binds callers to theirs,
and asks for an issuer and an audience. The table goes out at once, spread over the partitions; then every reply, every
dead letter and every row of the database is accounted for.
"""

import asyncio
import hashlib
import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import psutil
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import NewTopic
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from contracts.registry import KINDS
from contracts.topics import Topics
from tests.integration.attack_table import (
    AUDIENCE,
    DEAD_LETTER,
    EC_KEY,
    ISSUER,
    KIB,
    OPERATOR_KEY,
    OTHER,
    RSA_KEY,
    SLOW_RULE,
    VICTIM,
    Attack,
    Envelope,
    Header,
    Letter,
    attacks_on,
    creation,
    on_age,
    request,
    token,
)
from tests.system import SECRET, System
from workers.admission.identity import Verifier
from workers.admission.keys import Keyring, KeySource
from workers.admission.reply_topics import ReplyTopics
from workers.kafka.records import RecordBatches
from workers.pipeline.intake import Intake
from workers.pipeline.replays import Replays

GZIP, LZ4, ZSTD = 1, 3, 4


def packed(body: bytes, headers: Sequence[Header], codec: int = 0) -> bytes:
    """Write a record batch by aiokafka's encoder in Python, which asks few questions."""
    builder = _DefaultRecordBatchBuilderPy(2, codec, 0, -1, -1, 0, 1 << 30)
    builder.append(0, 1000, b"k", body, list(headers))
    return bytes(builder.build())


class Deployment:
    """The system under attack, as its attackers and its operators see it."""

    def __init__(self, system: System) -> None:
        self.system = system

    async def guard(self) -> None:
        """Make a product with a rule that was stored before it would have to be counted, and one with a dear rule."""
        dear = {"properties": {"n": {"items": {"multipleOf": 1e-40}}}}
        rule = {"name": "slow", "parameters": dear, "start_date": "2020-01-01"}
        for kind, payload in (
            ("create_customer", {"name": "V", "email": "v@example.com", "customer_id": VICTIM}),
            ("create_product", {"mnemonic": "GUARDED", "overview": ""}),
            ("set_validation_rules", {"mnemonic": "GUARDED", "rules": [rule]}),
            ("create_product", {"mnemonic": "DEAR", "overview": ""}),
            ("set_validation_rules", {"mnemonic": "DEAR", "rules": [rule]}),
        ):
            version = {"version": 2} if kind == "create_product" else {}
            answer = await self.ask("commands", request(kind, payload, **version))
            assert answer["type"] == "success", answer
        await self.system.fetch(
            "update validation_instances set parameters = $1::text::jsonb"
            " where product_id = (select id from products where mnemonic = 'GUARDED')",
            json.dumps(SLOW_RULE),
        )

    async def start(self) -> None:
        """Start both workers; make the victim's reply topic."""
        system, keys = self.system, self.system.directory
        public = RSA_KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        (keys / "rsa.pem").write_bytes(public)
        jwk = json.loads(jwt.get_algorithm_by_name("ES256").to_jwk(EC_KEY.public_key()))
        (keys / "jwks.json").write_text(json.dumps({"keys": [jwk | {"kid": "ec"}]}))
        await system.admin.create_topics([NewTopic(self.victims_topic, 1, 1)])
        system.settings |= {
            "JWT_PUBLIC_KEY_FILE": str(keys / "rsa.pem"),
            "JWT_PUBLIC_KEY_KID": "rsa",
            "JWT_JWKS_FILE": str(keys / "jwks.json"),
            "RATE_LIMIT_OVERRIDES": json.dumps({"greedy": 2}),
            "REFUSE_SUNSET_VERSIONS": "true",
            "DLQ_OPERATOR_KEY": OPERATOR_KEY,
        }
        own = [system.reply_to]
        bound = dict.fromkeys(("greedy", "victim2", "victim ", "Victim"), own)
        bound["tester"] = [*own, f"{system.prefix}.replies.absent-*"]
        bound["victim"] = [self.victims_topic]
        await asyncio.gather(
            system.start("commands"),
            system.start("queries", REPLY_TOPICS=json.dumps(bound), JWT_ISSUER=ISSUER, JWT_AUDIENCE=AUDIENCE),
        )

    @property
    def victims_topic(self) -> str:
        return f"{self.system.prefix}.replies.victim"

    async def ask(self, side: str, body: bytes, sub: str = "tester", message_id: str | None = None) -> Envelope:
        """Send a good request, and return what it was answered."""
        who = token(sub).decode().removeprefix("Bearer ")
        sent = await self.system.send(side, body, token=who, message_id=message_id)
        return (await self.system.reply(sent)).envelope

    async def furnish(self) -> tuple[Mapping[str, Any], Letter]:
        """Put in place what is attacked; return a page with a cursor, and a dead letter of ours."""
        await self.guard()
        for sub, message_id, kind, payload in (
            ("victim", "victims", "create_customer", {"name": "Victim", "email": "victim@example.com"}),
            ("victim", "taken", "create_customer", {"name": "Victim", "email": "taken@example.com"}),
            ("tester", "2", "create_customer", {"name": "V", "email": "w@example.com", "customer_id": OTHER}),
            ("tester", "3", "create_product", {"mnemonic": "PLAIN", "overview": ""}),
        ):
            version = {"version": 2} if kind == "create_product" else {}
            answer = await self.ask("commands", request(kind, payload, **version), sub, message_id)
            assert answer["type"] == "success", answer
        for _ in range(2):
            assert (await self.ask("queries", request("search_customers", {}), "greedy"))["statusCode"] == 200
        page = await self.ask("queries", request("search_customers", {"limit": 1}))
        await self.publish(DEAD_LETTER, "dead letter")
        await self.system.letters(1)
        (letter,) = await self.letters("commands")
        return page["data"], letter

    async def publish(self, attack: Attack, name: str) -> None:
        """Publish an attack as the record that it is; its ids are `name` unless it says otherwise."""
        good = creation() if attack.side == "commands" else request("search_customers", {"limit": 1})
        headers: dict[str, bytes | None] = {
            "message_id": name.encode(),
            "correlation_id": name.encode(),
            "reply_to": self.system.reply_to.encode(),
            "authorization": token(),
            "content-type": b"application/json",
        }
        headers = {key: value for key, value in (headers | dict(attack.headers)).items() if key not in attack.drop}
        record = [*headers.items(), *attack.extra]
        if attack.detail is None:
            record.append(("x-attack", attack.title.encode()))
        topic, body = f"{self.system.prefix}.{attack.side}", attack.body or good
        if attack.raw_keys:
            await self._produce(topic, body, record)
        else:
            key = attack.record_key or name.encode()
            await self.system.producer.send(topic, body, key=key, headers=record)

    async def _produce(self, topic: str, body: bytes, headers: Sequence[Header]) -> None:
        """Publish a record that aiokafka's encoder, in C, would refuse to write."""
        await self.system.store(topic, packed(body, headers))

    async def letters(self, side: str) -> list[Letter]:
        """Read all dead letters, byte for byte."""
        topic = TopicPartition(f"{self.system.prefix}.{side}.dead-letters", 0)
        async with AIOKafkaConsumer(bootstrap_servers=self.system.servers.env.kafka_bootstrap_servers) as consumer:
            consumer.assign([topic])
            end = (await consumer.end_offsets([topic]))[topic]
            consumer.seek(topic, 0)
            found: list[Letter] = []
            while await consumer.position(topic) < end:
                fetched = (await consumer.getmany(topic, timeout_ms=200)).get(topic, [])
                found += [Letter(record.key, record.value, record.headers) for record in fetched]
            return found

    async def put_aside(self) -> Counter[tuple[str, str | None, str]]:
        """Count the dead letters: the side, the reason, and whose they are or, for what came back, what they say."""
        found: Counter[tuple[str, str | None, str]] = Counter()
        for side in ("commands", "queries"):
            for letter in await self.letters(side):
                notes = {name: (value or b"").decode("utf-8", "replace") for name, value in letter.headers}
                came_back = notes["x-attack"] == DEAD_LETTER.title and notes["dlq.reason"] == "UNAUTHENTICATED"
                found[side, notes["dlq.reason"], notes["dlq.detail" if came_back else "x-attack"]] += 1
        return found

    async def stored_on(self, topic: str) -> int:
        """Count the records of a topic's only partition."""
        partition = TopicPartition(topic, 0)
        async with AIOKafkaConsumer(bootstrap_servers=self.system.servers.env.kafka_bootstrap_servers) as consumer:
            return int((await consumer.end_offsets([partition]))[partition])

    async def contents(self) -> dict[str, object]:
        """Digest every table but the outcomes; counters as sums, since they are folded in the background."""
        tables = await self.system.fetch(
            "select table_name from information_schema.tables"
            " where table_schema = 'public' and table_type = 'BASE TABLE' order by 1"
        )
        found: dict[str, object] = {}
        for (name,) in tables:
            statement = f"select md5(string_agg(t::text, chr(10) order by t::text)) from {name} t"
            if name == "counter_deltas":
                statement = (
                    f"select array_agg(x::text order by x::text) from (select counter, label, sum(amount) from {name}"
                    " group by 1, 2 having sum(amount) <> 0) x"
                )
            if name not in {"outcomes", "worker_heartbeats"}:
                found[name] = (await self.system.fetch(statement))[0][0]
        return found

    async def outcomes(self) -> set[tuple[str, str]]:
        """Whose commands have an outcome."""
        rows = await self.system.fetch("select caller, message_id from outcomes")
        return {(row["caller"], row["message_id"]) for row in rows}


async def go_through(attacks: Sequence[Attack], under_attack: Deployment) -> None:
    """Publish attacks, wait for what they must be answered, and find nothing else of them anywhere."""
    system = under_attack.system
    before, known, old_letters = (
        await under_attack.contents(),
        await under_attack.outcomes(),
        await under_attack.put_aside(),
    )
    replies_before = sum(map(len, system.replies.values()))
    numbered = {f"{attack.of} {number}": attack for number, attack in enumerate(attacks, 1)}
    for name, attack in numbered.items():
        await under_attack.publish(attack, name)
    await system.flush()

    answered = {name: attack for name, attack in numbered.items() if attack.answer is not None}
    wrong: dict[str, Envelope] = {}
    for name, attack in answered.items():
        reply = await system.reply("" if attack.has_no_key else name)
        if reply.envelope != attack.answer:
            wrong[attack.title] = reply.envelope
    assert wrong == {}
    expected = Counter(
        (attack.side, attack.letter, attack.detail or attack.title) for attack in attacks if attack.letter is not None
    )
    for side in ("commands", "queries"):
        number = sum(count for key, count in (expected + old_letters).items() if key[0] == side)
        await system.letters(number, side)
    assert await under_attack.put_aside() - old_letters == expected
    assert sum(map(len, system.replies.values())) == replies_before + len(answered)
    assert await under_attack.stored_on(under_attack.victims_topic) == 0

    assert await under_attack.contents() == before
    ids = [attack.headers.get("message_id") or name.encode() for name, attack in answered.items() if attack.is_stored]
    assert await under_attack.outcomes() == known | {(f"{ISSUER}\ntester", message_id.decode()) for message_id in ids}
    assert [worker.process.returncode for worker in system.workers] == [None, None]


async def test_attacks(system: System) -> None:
    """Each attack is answered as the contract says, word for word, or dead-lettered; nothing else comes of any."""
    under_attack = Deployment(system)
    await under_attack.start()
    page, letter = await under_attack.furnish()
    mark = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)
    attacks, too_old = attacks_on(system, page, letter), list(on_age(mark))
    everything = [*attacks, *too_old]
    assert len({attack.title for attack in everything}) == len(everything) >= 60
    assert min(Counter(attack.of for attack in everything).values()) >= 3

    await go_through(attacks, under_attack)
    assert (await under_attack.ask("commands", creation()))["statusCode"] == 201
    assert (await under_attack.ask("queries", request("customer_analytics", {})))["statusCode"] == 200
    await system.fetch("update outcome_mark set stamped_before = $1", mark)
    await go_through(too_old, under_attack)


async def test_batches_that_take_long(system: System) -> None:
    """Orders with all the work that rules may make end, some at a time, and other partitions need not wait for them."""
    number = 24
    under_attack = Deployment(system)
    await system.start("commands")
    await under_attack.guard()
    line = {"mnemonic": "DEAR", "quantity": 1, "unit_price": "1", "attributes": {"n": [1e40] * 300}}
    slow = request("place_order", {"customer_id": VICTIM, "lines": [line] * 40})
    heavy = [await system.send("commands", slow, partition=0) for _ in range(number)]
    light = await system.reply(await system.send("commands", creation(), partition=1), timeout_s=60)
    replies = [await system.reply(correlation_id, timeout_s=90) for correlation_id in heavy]
    assert light.status < 300
    assert {reply.status for reply in replies} == {201}
    assert sum(reply.at > light.at + 0.1 for reply in replies) >= number // 2
    assert await system.dead_letters("commands") == []


async def test_batches_that_unpack_to_gigabytes(system: System) -> None:
    """A small batch that unpacks beyond all bounds costs its own record; the worker lives, the partition goes on."""
    system.forks = False
    worker = await system.start("commands")
    process = psutil.Process(worker.process.pid)
    before = process.memory_info().rss
    size = 80 * 1024 * KIB
    good = []
    for codec in (GZIP, LZ4, ZSTD):
        good.append(await system.send("commands", json.loads(creation()), partition=0))
        await system.flush()
        batch = packed(b"\0" * size, [("message_id", b"bomb")], codec)
        assert len(batch) < 1_000_000
        await system.store(f"{system.prefix}.commands", batch)
    good.append(await system.send("commands", json.loads(creation()), partition=0))
    assert [(await system.reply(correlation_id)).status for correlation_id in good] == [201] * 4
    letters = await system.letters(3)
    told = {(headers["dlq.reason"], headers["dlq.value_bytes"], headers["dlq.value_sha256"]) for _, headers in letters}
    assert told == {("MESSAGE_TOO_LARGE", str(size), hashlib.sha256(b"\0" * size).hexdigest())}
    assert sorted(int(headers["dlq.offset"]) for _, headers in letters) == [1, 3, 5]
    assert process.memory_info().rss - before < 100 * 1024 * KIB


@pytest.mark.parametrize("codec", [0, GZIP, LZ4, ZSTD])
def test_what_is_within_bounds_is_read(codec: int) -> None:
    """A batch of many megabytes is read as ever by whoever reads no requests."""
    body = b"x" * (32 * 1024 * KIB)
    (record,) = RecordBatches(packed(body, [], codec)).next_batch()
    assert record.value == body


async def test_bodies_that_take_long() -> None:
    """The costliest bodies are decoded for about a second at once, and a partition with a quick one is not left out."""
    body = b'{"kind":"create_customer","payload":{"x":[' + b",".join([b"1e300"] * 42_000) + b"]}}"
    assert len(body) < 256 * KIB
    records = [Stored(0, offset, body) for offset in range(200)] + [Stored(1, 0, creation())]
    started = time.process_time()
    deliveries, _, _ = await an_intake().take_in(records)
    assert time.process_time() - started < 10
    assert [delivery.record.offset for delivery in deliveries if delivery.record.partition == 0] == list(
        range(len(deliveries) - 1)
    )
    assert deliveries[1].record.partition == 1
    assert 2 <= len(deliveries) < len(records)


async def test_headers_that_take_long() -> None:
    """A hundred thousand headers, whatever their names, are read in a moment."""
    for name in ("x", "é", "\udcff"):
        record = Stored(0, 0, creation(), [(name, b"")] * 100_000)
        started = time.process_time()
        await an_intake().take_in([record])
        assert time.process_time() - started < 5


@dataclass(frozen=True)
class Stored:
    """A record of a log."""

    partition: int
    offset: int
    value: bytes
    headers: Sequence[Header] = (("message_id", b"m"),)
    topic: str = "catalog.commands"
    timestamp: int = 0
    key: bytes | None = None
    timestamp_type: int = 1


def an_intake() -> Intake:
    """Make the first step of a worker's pipeline."""
    verifier = Verifier(Keyring(KeySource(secret=SECRET.encode()), time.monotonic, print))
    topics, key = Topics("catalog"), b"k" * 32
    return Intake(topics, KINDS, verifier, ReplyTopics({}, "catalog"), key, needs_answer=False, replays=Replays(key))
