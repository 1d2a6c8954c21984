"""The ledger's load against a deployment under test, with an eye on how long each partition goes without an answer.

`workers.verify` decides what is sent and what the answers prove. Added here is what only a test may do: look into the
database before the tool cleans up after itself, and ask for some replies on a topic that takes none.
"""

import asyncio
import random
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Self

import asyncpg
import orjson
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from contracts.topics import Topics
from tests.system import System
from workers.kafka.producer import murmur2
from workers.kafka.raw_caller import NotPublishedError, RawCaller
from workers.kafka.security import KafkaSecurity
from workers.kafka.topics import TopicAdmin
from workers.ports import BrokerAwayError
from workers.verify.ledger import Deviation, Ledger, Sent
from workers.verify.run import Account, Plan, Verification

REPLAYED: Final = "replayed"
DEAF: Final = "deaf"
"""The name of the reply topic that takes nothing: on one broker it does not exist, on three it is on the last alone."""
DEAF_SHARE: Final = 0.2
"""Of all messages, while some are to be answered on a deaf topic."""
CALM_S: Final = 2.0
_POLL_S: Final = 0.02

Inspection = Callable[[Ledger, str], Awaitable[Sequence[Deviation]]]
"""Compares the database with the ledger; is given the name of the run, which all callers and ids carry."""


@dataclass
class Watch:
    """What partitions did since a moment (monotonic seconds)."""

    since: float
    first: dict[int, float] = field(default_factory=dict)
    """When each gave its first reply to a message that was sent since."""
    silence_s: float = 0.0
    """The longest time between two replies of one partition."""

    def on_reply(self, partition: int, sent_at: float, at: float) -> None:
        """Take in a reply."""
        if sent_at >= self.since:
            self.first.setdefault(partition, at)


@dataclass(frozen=True)
class Letter:
    """A dead letter: why, and of which message."""

    reason: str
    message_id: str
    detail: str


class Traffic:
    """One run of the ledger; an async context manager around its clients. Await it to run it to its end."""

    def __init__(self, system: System, plan: Plan, inspect: Inspection | None = None, copies: int = 1) -> None:
        """Connect nothing yet. `copies`: of the topic for the replies."""
        self.system = system
        self.replayed = 0
        """Replies that came from the store."""
        self.ask_deaf = False
        """Whether some messages are to be answered on the deaf topic from now on."""
        self.asked_deaf = 0
        self.letters: list[Letter] = []
        """Dead letters, but for replies that the deaf topic did not take."""
        self.undelivered: set[str] = set()
        """Messages whose reply the deaf topic did not take."""
        self.deaf_topic = f"{system.prefix}.replies.{DEAF}"
        self.inspected: list[Deviation] = []
        self._inspect = inspect
        self._topics = Topics(system.prefix)
        self._tokens: dict[tuple[str, tuple[str, ...]], str] = {}
        self._random = random.Random(plan.seed)
        self._watches: list[Watch] = []
        self._last_reply: dict[int, float] = {}
        self._used: set[int] = set()
        self._pending: dict[str, float] = {}
        self._copies = copies
        self._looked = inspect is None
        self.verification = Verification(self, self._token, plan)

    async def __aenter__(self) -> Self:
        servers = self.system.servers.env.kafka_bootstrap_servers
        name = f"chaos-{uuid.uuid4().hex[:8]}"
        self._client = RawCaller(servers, self.system.prefix, name, KafkaSecurity(), self._on_reply)
        async with TopicAdmin(servers, KafkaSecurity()) as admin:
            await admin.create_reply_topic(self._client.reply_to, replication_factor=self._copies)
        await self._client.__aenter__()
        letters = self._topics.dead_letters(self._topics.commands)
        self._reading = [await self._read(letters, self._on_letter)]
        if self._copies > 1:
            self._reading.append(await self._read(self.deaf_topic, self._on_late_reply))
        return self

    async def __aexit__(self, *_: object) -> None:
        for consumer, reading in self._reading:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            await consumer.stop()
        await self._client.__aexit__(None, None, None)

    @property
    def ledger(self) -> Ledger:
        """What was sent and answered so far."""
        return self.verification.ledger

    async def run(self) -> Account:
        """Send until the plan's time is over or `stop` is called, wait for the answers, clean up, account."""
        return await self.verification()

    def stop(self) -> None:
        """Send nothing more."""
        self.verification.stop()

    # Watching --------------------------------------------------------------------------------------------------------
    def watch(self) -> Watch:
        """Begin to look out for replies to what is sent from now on."""
        watch = Watch(time.monotonic())
        self._watches.append(watch)
        return watch

    def silent(self, watch: Watch) -> set[int]:
        """Name the partitions that are written to and have not answered since."""
        return self._used - watch.first.keys()

    async def recovered(self, watch: Watch, timeout_s: float) -> None:
        """Wait until every partition that is written to has answered, or the time is up; the watch is over then."""
        end = time.monotonic() + timeout_s
        while (not self._used or self.silent(watch)) and time.monotonic() < end:  # noqa: ASYNC110 - replies come in
            await asyncio.sleep(_POLL_S)
        self._watches.remove(watch)

    async def calm(self, timeout_s: float) -> None:
        """Wait until nothing has waited for long, so that what comes next is not blamed for what was before."""
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            if not self._pending or next(iter(self._pending.values())) > time.monotonic() - CALM_S:
                return
            await asyncio.sleep(_POLL_S)

    def _partition(self, key: str) -> int:
        return (murmur2(key.encode()) & 0x7FFFFFFF) % self.system.partitions

    def _on_reply(self, headers: Mapping[str, str], body: bytes) -> None:
        at = time.monotonic()
        self.replayed += headers.get(REPLAYED) == "true"
        self.verification.on_reply(headers, body)
        sent = self.ledger._by_id.get(headers.get("in_reply_to", ""))
        if sent is None:
            return
        partition = self._partition(sent.key)
        self._pending.pop(sent.message_id, None)
        if len(sent.answers) == 1:
            for watch in self._watches:
                watch.on_reply(partition, sent.first_sent_at, at)
        gap_s = at - self._last_reply.get(partition, at)
        for watch in self._watches:
            watch.silence_s = max(watch.silence_s, gap_s)
        self._last_reply[partition] = at

    # Publishing ------------------------------------------------------------------------------------------------------
    async def publish(self, side: str, key: str, body: bytes, headers: Sequence[tuple[str, bytes]]) -> None:
        """Publish for the tool. Its first deletion is when all is answered and nothing is cleaned up."""
        if not self._looked and orjson.loads(body)["kind"] == "delete_customer":
            self._looked = True
            if self._inspect is not None:
                self.inspected += await self._inspect(self.ledger, self.verification._run)
        topic = self._topics.commands if side == "commands" else self._topics.queries
        reply_to = self._client.reply_to
        if self.ask_deaf and self._random.random() < DEAF_SHARE:
            reply_to = self.deaf_topic
            self.asked_deaf += 1
        self._used.add(self._partition(key))
        self._pending.setdefault(dict(headers)["message_id"].decode(), time.monotonic())
        try:
            await self._client.publish(topic, key.encode(), body, [*headers, ("reply_to", reply_to.encode())])
        except NotPublishedError as error:
            raise BrokerAwayError(str(error)) from error

    def _token(self, sub: str, roles: tuple[str, ...]) -> str:
        token = self._tokens.get((sub, roles))
        if token is None:
            token = self._tokens[sub, roles] = self.system.token(sub, roles)
        return token

    # Other topics ----------------------------------------------------------------------------------------------------
    async def _read(
        self, topic: str, on_record: Callable[[ConsumerRecord[bytes, bytes]], Awaitable[None]]
    ) -> tuple[AIOKafkaConsumer, asyncio.Task[None]]:
        """Begin to read a topic from its end."""
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self.system.servers.env.kafka_bootstrap_servers, fetch_max_wait_ms=50
        )
        await consumer.start()
        await consumer.end_offsets([TopicPartition(topic, 0)])  # also learns of the others
        partitions = [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic)]
        ends = await consumer.end_offsets(partitions)
        consumer.assign(partitions)
        for partition, end in ends.items():
            consumer.seek(partition, end)

        async def read() -> None:
            async for record in consumer:
                await on_record(record)

        return consumer, asyncio.create_task(read(), name=f"read {topic}")

    async def _on_late_reply(self, record: ConsumerRecord[bytes, bytes]) -> None:
        """Take in what the deaf topic took after all."""
        self.verification.on_reply(_text(record), record.value or b"")

    async def _on_letter(self, record: ConsumerRecord[bytes, bytes]) -> None:
        headers = _text(record)
        letter = Letter(headers["dlq.reason"], headers.get("message_id", ""), headers["dlq.detail"])
        if letter.reason == "REPLY_UNDELIVERABLE" and headers.get("reply_to") == self.deaf_topic:
            await self._ask_for_outcome(letter)
        else:
            self.letters.append(letter)

    async def _ask_for_outcome(self, letter: Letter) -> None:
        """What could not be delivered has its outcome, to be asked for: that is its answer. A refusal has none."""
        sent = self.ledger._by_id.get(letter.message_id)
        if sent is None:
            return
        self.undelivered.add(letter.message_id)
        self._pending.pop(letter.message_id, None)
        stored = await self._stored(letter.message_id)
        if stored is not None:
            self.ledger.reply(letter.message_id, stored, time.monotonic())
        elif _is_refused(sent):
            self.ledger.undeliverable.add(letter.message_id)

    async def _stored(self, message_id: str) -> bytes | None:
        statement = "select envelope from outcomes where message_id = $1 and envelope is not null"
        while True:
            try:
                rows = await self.system.fetch(statement, message_id)
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                await asyncio.sleep(0.2)  # a fault of its own has the database away
            else:
                return bytes(rows[0]["envelope"]) if rows else None


def _text(record: ConsumerRecord[bytes, bytes]) -> dict[str, str]:
    return {name: (value or b"").decode("utf-8", "replace") for name, value in record.headers}


def _is_refused(sent: Sent) -> bool:
    """Tell whether a message is one of those that are refused, whose answers are not stored."""
    return bool(sent.expected & {403, 422})
