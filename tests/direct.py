"""The whole command pipeline on a real database, without a broker: records go in, published messages come out."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache, partial
from typing import Any

import orjson
from uuid_utils import uuid7

from contracts.registry import KINDS
from contracts.topics import Topics
from handlers.commands import COMMANDS
from handlers.rules import RuleBook
from persistence.engine import Engine
from persistence.outcomes import probe
from tests.system import SECRET, System
from workers.admission.identity import Verifier
from workers.admission.keys import Keyring, KeySource
from workers.admission.rate import RateLimit
from workers.admission.reply_topics import ReplyTopics
from workers.bootstrap import steering
from workers.fault_points import FaultPoints
from workers.pipeline.answering import Answering
from workers.pipeline.blame import Blame
from workers.pipeline.commands import CommandPipeline
from workers.pipeline.dead_letters import DeadLetters
from workers.pipeline.intake import Intake
from workers.pipeline.parking import Parking
from workers.pipeline.patience import Patience
from workers.pipeline.refusal import Refusal
from workers.pipeline.replays import Replays
from workers.ports import STAMPED_BY_BROKER, Message, Progress, Undeliverable
from workers.telemetry.metrics import Metrics
from workers.telemetry.watching import Watching

TOPICS = Topics("catalog")
REPLY_TO = "catalog.replies.test"


@dataclass(frozen=True)
class Arrived:
    """A record, as the edge would hand it over."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]
    timestamp_type: int = STAMPED_BY_BROKER


@dataclass
class Published:
    """Takes what is published, and keeps it."""

    messages: list[Message] = field(default_factory=list)

    async def publish(self, messages: Sequence[Message]) -> list[Undeliverable]:
        """Keep them."""
        self.messages.extend(messages)
        return []


class Letters(Published):
    """Dead letters."""


@dataclass
class Cleared:
    """Notes which cache keys were cleared."""

    keys: list[str] = field(default_factory=list)

    async def clear(self, keys: Sequence[str]) -> None:
        """Note them."""
        self.keys.extend(keys)


_steering = cache(steering)
"""The definitions of backfills are read once; they are this release's."""


class Direct:
    """A command pipeline that a test hands records to."""

    def __init__(self, engine: Engine, parked: frozenset[str] = frozenset(), successes_per_s: float = 0) -> None:
        self.replies, self.letters, self.cleared = Published(), Letters(), Cleared()
        self.offset = 0
        self.metrics = Metrics()
        watching = Watching(self.metrics, KINDS, successes_per_s)
        rate_limit = RateLimit(None, limit=1_000_000, window_s=60, overrides={}, on_fallback=lambda: None)
        verifier = Verifier(Keyring(KeySource(secret=SECRET.encode()), time.monotonic, lambda _: None))
        self.pipeline = CommandPipeline(
            Intake(
                TOPICS,
                KINDS,
                verifier,
                ReplyTopics({}, TOPICS.prefix),
                SECRET.encode(),
                needs_answer=False,
                replays=Replays(SECRET.encode(), None),
            ),
            Refusal(KINDS, rate_limit, time.time, lambda: str(uuid7()), refuse_sunset_versions=False),
            Answering(
                self.replies,
                self.letters,  # type: ignore[arg-type]  # it returns a list that nobody looks at
                DeadLetters(TOPICS, SECRET.encode(), "test", time.time, 2**20),
                self.cleared.clear,
                FaultPoints(),
            ),
            engine,
            COMMANDS,
            Patience(),
            watching,
            FaultPoints(),
            lambda: str(uuid7()),
            RuleBook(caching=True),
            watching,
            _steering(),
            Parking(engine, TOPICS.commands, parked, SECRET.encode()),
            Blame(partial(probe, engine)),
        )
        self._tokens: dict[str, bytes] = {}

    def record(
        self,
        kind: str,
        payload: object,
        *,
        message_id: str,
        caller: str = "tester",
        key: bytes | None = None,
        **body: Any,  # noqa: ANN401
    ) -> Arrived:
        """Make a record; each has an offset of its own."""
        value = orjson.dumps({"kind": kind, "payload": payload, **body})
        return self.record_of(value, message_id=message_id, caller=caller, key=key)

    def record_of(self, value: bytes, *, message_id: str, caller: str = "tester", key: bytes | None = None) -> Arrived:
        """Make a record of a body as it stands."""
        self.offset += 1
        if caller not in self._tokens:
            self._tokens[caller] = f"Bearer {System.token(caller)}".encode()
        headers: list[tuple[str, bytes | None]] = [
            ("message_id", message_id.encode()),
            ("correlation_id", f"c{self.offset}".encode()),
            ("reply_to", REPLY_TO.encode()),
            ("authorization", self._tokens[caller]),
            ("content-type", b"application/json"),
        ]
        now_ms = int((time.time() - timedelta(seconds=1).total_seconds()) * 1000)
        return Arrived(TOPICS.commands, 0, self.offset, now_ms, key, value, headers)

    def replay(self, letter: Message) -> Arrived:
        """Make the record that a dead letter is when it is brought back."""
        self.offset += 1
        now_ms = int(time.time() * 1000)
        return Arrived(TOPICS.commands, 0, self.offset, now_ms, letter.key, letter.value, letter.headers)

    async def decide(self, *records: Arrived) -> list[tuple[dict[str, Any], bytes, bool]]:
        """Decide a batch; the envelope, its bytes, and whether it was a replay, for each record.

        What is left of a batch that has taken its time is handed over again, as the edge does.
        """
        self.replies.messages.clear()
        left: Sequence[Arrived] = records
        while left:
            progress: Progress = await self.pipeline(left, lambda: True)
            assert not progress.retry_after_s, progress
            reached = progress.decided
            undecided = [one for one in left if one.offset >= reached.get((one.topic, one.partition), -1)]
            assert len(undecided) < len(left), progress
            left = undecided
        by_correlation = {dict(message.headers)["correlation_id"]: message for message in self.replies.messages}
        found = []
        for record in records:
            message = by_correlation[dict(record.headers)["correlation_id"] or b""]
            body = message.value or b""
            found.append((orjson.loads(body), body, dict(message.headers).get("replayed") == b"true"))
        return found
