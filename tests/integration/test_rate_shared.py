"""One limit for all replicas: exact through kills and redeliveries, blind to backlogs, and no harm to other callers."""

import asyncio
import json
import random
import signal
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Final

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from contracts.registry import KINDS
from contracts.topics import Topics
from persistence.rate_limits import RedisWindows
from tests.servers import Servers
from tests.system import SECRET, System, WorkerProcess
from workers.admission.identity import Verifier
from workers.admission.keys import Keyring, KeySource
from workers.admission.rate import RateLimit
from workers.admission.reply_topics import ReplyTopics
from workers.pipeline.ends import Refused
from workers.pipeline.intake import Intake
from workers.pipeline.refusal import Refusal
from workers.pipeline.replays import Replays

LIMIT: Final = 100
WINDOW_S: Final = 5
PER_S: Final = 10 * LIMIT / WINDOW_S
"""Ten times what the limit allows."""
FOR_S: Final = 12
ROUNDS: Final = 5
"""Of a comparison that takes a quarter of a second each time."""

DELETION: Final = {"kind": "delete_customer", "payload": {"customer_id": str(uuid.UUID(int=1))}}
"""A request that costs little: 404, stored."""


# Four replicas -------------------------------------------------------------------------------------------------------


async def stamps(system: System) -> dict[str, int]:
    """Read when the broker stamped each command, in milliseconds since the epoch, by message id."""
    topic = f"{system.prefix}.commands"
    partitions = [TopicPartition(topic, number) for number in range(system.partitions)]
    servers = system.servers.env.kafka_bootstrap_servers
    async with AIOKafkaConsumer(bootstrap_servers=servers, auto_offset_reset="earliest") as consumer:
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        found: dict[str, int] = {}
        while len(found) < sum(ends.values()):
            for records in (await consumer.getmany(timeout_ms=200)).values():
                found |= {dict(record.headers)["message_id"].decode(): record.timestamp for record in records}
        return found


def greatest_window(times: Sequence[int]) -> int:
    """Count the most requests that any half-open window holds."""
    first = most = 0
    for last, at in enumerate(times):
        while at - times[first] >= WINDOW_S * 1000:
            first += 1
        most = max(most, last - first + 1)
    return most


def usable(times: Sequence[int]) -> int:
    """Count what could have been accepted of these at best: each as soon as the limit allows."""
    accepted: list[int] = []
    for at in times:
        if len(accepted) < LIMIT or at - accepted[-LIMIT] >= WINDOW_S * 1000:
            accepted.append(at)
    return len(accepted)


async def replace_the_dead(system: System, mortal: Sequence[WorkerProcess]) -> None:
    """Start a new worker for each that ends."""
    for ending in asyncio.as_completed([worker.ended(60) for worker in mortal]):
        await ending
        await system.start("commands")


async def test_four_replicas_share_a_limit(system: System) -> None:
    """A caller at ten times its limit: no window holds more than that, nearly all of it is used; workers are killed."""
    system.settings |= {
        "RATE_LIMIT_REQUESTS": str(LIMIT),
        "RATE_LIMIT_WINDOW_S": str(WINDOW_S),
        "KAFKA_MAX_BATCH": "50",
        "LOG_LEVEL": "ERROR",
        "COMMAND_LANES": "1",  # one for each partition: all four have something to do
    }
    workers = await asyncio.gather(
        system.start("commands"),
        system.start("commands"),
        system.start("commands", FAULT_POINT="before_commit:3"),  # charged, and nobody knows
        system.start("commands", FAULT_POINT="before_ack:20"),  # answered, and it comes again
    )
    replacing = asyncio.create_task(replace_the_dead(system, [workers[0], *workers[2:]]))
    started = time.monotonic()
    sent: list[str] = []
    killed = False
    while (passed := time.monotonic() - started) < FOR_S:
        while len(sent) < passed * PER_S:
            correlation_id = uuid.uuid4().hex
            sent.append(correlation_id)
            await system.send(
                "commands", DELETION, key=correlation_id, message_id=correlation_id, correlation_id=correlation_id
            )
        await asyncio.sleep(0.01)
        if passed > FOR_S / 2 and not killed:
            workers[0].send(signal.SIGKILL)
            killed = True
    await system.flush()
    for correlation_id in sent:
        await system.reply(correlation_id, timeout_s=60)
    await replacing

    answers = {one: {reply.status for reply in system.replies[one]} for one in sent}
    assert all(statuses in ({404}, {429}) for statuses in answers.values()), "an answer that changed its mind"
    stamped = await stamps(system)
    accepted = sorted(stamped[one] for one, statuses in answers.items() if statuses == {404})
    metrics = [await system.metrics(worker) for worker in (workers[1], *system.workers[4:])]
    assert sum(found["catalog_rate_limit_fallbacks_total"] for found in metrics) == 0, "Redis did not answer in time"
    assert greatest_window(accepted) <= LIMIT
    assert len(accepted) >= 0.95 * usable(sorted(stamped.values()))
    assert len(await system.fetch("select 1 from outcomes")) == len(accepted)


# A backlog -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Stored:
    """A record of a log."""

    partition: int
    offset: int
    timestamp: int
    headers: Sequence[tuple[str, bytes | None]]
    value: bytes = json.dumps(DELETION).encode()
    topic: str = "catalog.commands"
    key: bytes | None = None
    timestamp_type: int = 1


class Replica:
    """The part of a worker that judges."""

    def __init__(self, redis_url: str, prefix: str) -> None:
        self.limit = RateLimit(
            RedisWindows(redis_url, prefix),
            limit=LIMIT,
            window_s=60,
            overrides={},
            on_fallback=lambda: pytest.fail("Redis did not answer"),
        )
        verifier = Verifier(Keyring(KeySource(secret=SECRET.encode()), time.monotonic, pytest.fail))
        topics, key = Topics("catalog"), b"k" * 32
        self.intake = Intake(
            topics, KINDS, verifier, ReplyTopics({}, "catalog"), key, needs_answer=False, replays=Replays(key)
        )
        self.refusal = Refusal(KINDS, self.limit, time.time, uuid.uuid4().hex.lower, refuse_sunset_versions=False)

    async def refused(self, records: Sequence[Stored]) -> list[str]:
        """Judge a batch; the codes of what is refused."""
        deliveries, identified, _ = await self.intake.take_in(records)
        await self.refusal.refuse(identified)
        return [one.end.error.error_code for one in deliveries if isinstance(one.end, Refused)]


@pytest.fixture
async def replicas(stack: Servers) -> AsyncIterator[list[Replica]]:
    """Four replicas that share a Redis."""
    prefix = f"test-{uuid.uuid4().hex}"
    made = [Replica(stack.env.redis_url, prefix) for _ in range(4)]
    yield made
    for replica in made:
        await replica.limit.close()


def backlog(minutes: int, per_minute: int) -> list[Stored]:
    """Write down what a caller sent at an even pace, over four partitions, while all workers were away."""
    now_ms = int(time.time() * 1000)
    begun_ms = now_ms - minutes * 60_000
    records = []
    for number in range(minutes * per_minute):
        stamped_ms = begun_ms + number * 60_000 // per_minute
        headers = [
            ("message_id", f"m{number}".encode()),
            ("reply_to", b"catalog.replies.x"),
            (
                "authorization",
                b"Bearer " + System.token("patient", exp=stamped_ms // 1000 + 30).encode(),
            ),  # expired since
        ]
        records.append(Stored(number % 4, number // 4, stamped_ms, headers))
    return records


@pytest.mark.parametrize("order", ["as sent", "by partition", "at random"])
async def test_a_backlog_is_no_flood(replicas: list[Replica], order: str) -> None:
    """What was sent within the limit during an outage of five minutes passes at once, whatever order it is read in."""
    records = backlog(5, LIMIT)
    if order == "by partition":  # one worker is far ahead of the others
        records.sort(key=lambda record: record.partition)
    elif order == "at random":
        random.Random(1).shuffle(records)
    batches = [records[start : start + 50] for start in range(0, len(records), 50)]
    refused = [await replicas[number % 4].refused(batch) for number, batch in enumerate(batches)]
    assert [code for codes in refused for code in codes] == []
    again = [await replicas[number % 4].refused(batch) for number, batch in enumerate(reversed(batches))]
    assert [code for codes in again for code in codes] == [], "a redelivery was charged"


async def test_a_flood_in_a_backlog_is_one(replicas: list[Replica]) -> None:
    """Twice the limit, sent during the outage, is half refused: waiting in the log makes nothing legal."""
    records = backlog(5, 2 * LIMIT)
    refused = [await replicas[0].refused(records[start : start + 50]) for start in range(0, len(records), 50)]
    codes = [code for of_batch in refused for code in of_batch]
    assert set(codes) == {"RATE_LIMITED"}
    assert len(records) * 0.45 <= len(codes) <= len(records) * 0.55


# Neighbours ----------------------------------------------------------------------------------------------------------


async def time_of_others(system: System, crowd: Sequence[str]) -> float:
    """Have callers in turn fill the log, one in twenty of them a bystander; seconds until those have their answers."""
    bystander, sent = System.token("bystander"), []
    tokens = [System.token(sub) for sub in crowd]
    started = time.monotonic()
    for number in range(2_000):
        body = {"kind": "create_customer", "payload": {"name": "N", "email": f"{uuid.uuid4().hex}@example.com"}}
        key = uuid.uuid4().hex
        if number % 20 == 0:
            sent.append(await system.send("commands", body, key=key, token=bystander))
        else:
            await system.send("commands", body, key=key, token=tokens[number % len(tokens)])
    await system.flush()
    for correlation_id in sent:
        assert (await system.reply(correlation_id, timeout_s=60)).status == 201
    return time.monotonic() - started


async def test_a_flood_delays_others_by_its_share_at_most(system: System) -> None:
    """Requests beyond the limit cost others no more time than as many that are within it."""
    limits = json.dumps({"greedy": 10, "bystander": 0, **{f"caller-{number}": 0 for number in range(19)}})
    system.settings |= {"RATE_LIMIT_OVERRIDES": limits, "RATE_LIMIT_WINDOW_S": "3600"}
    await system.start("commands", LOG_SUCCESSES_PER_S="0", LOG_LEVEL="ERROR")
    await time_of_others(system, ["caller-0"])  # connections, plans, caches
    in_company, in_a_flood = [], []
    for _ in range(ROUNDS):  # in turn; the quickest of each counts: what else the machine does is nobody's share
        in_company.append(await time_of_others(system, [f"caller-{number}" for number in range(19)]))
        in_a_flood.append(await time_of_others(system, ["greedy"]))
    statuses = [reply.status for replies in system.replies.values() for reply in replies]
    assert statuses.count(429) == ROUNDS * (2_000 - 100) - 10
    assert min(in_a_flood) < min(in_company) * 1.25, f"seconds in a flood {in_a_flood}, in company {in_company}"
