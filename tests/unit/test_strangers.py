"""What senders that nobody verified can have written: each kind of it is bounded, whoever they are and however many."""

import io
import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import structlog
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from contracts.registry import KINDS
from tests.unit.test_dead_letters import KEY, TOPICS, Sent, Stored, brought_back, intake, put_aside
from workers.fault_points import FaultPoints
from workers.pipeline.answering import Answering
from workers.pipeline.dead_letters import DeadLetters
from workers.pipeline.delivery import ended
from workers.pipeline.signature import Header, is_signed
from workers.pipeline.strangers import LETTERS_A_MINUTE, StrangersAllowance
from workers.ports import Message, Undeliverable
from workers.telemetry import logs
from workers.telemetry.dead_letters import CountedDeadLetters
from workers.telemetry.metrics import Metrics
from workers.telemetry.watching import STRANGERS_LINES_A_MINUTE, Watching

MIB = 1024 * 1024
BARE_BYTES = 1536
"""What a letter without key, value and headers takes at most."""
PADDING: tuple[Header, ...] = (("x-padding", b"p" * 2000),)


@dataclass
class Clock:
    """A clock that stands until it is moved."""

    at: float = 1_000.0

    def __call__(self) -> float:
        return self.at


@dataclass
class Broker:
    """Takes replies and letters; replies to some topics are undeliverable."""

    letters: list[Message] = field(default_factory=list)

    async def publish_replies(self, replies: Sequence[Message]) -> list[Undeliverable]:
        return [
            Undeliverable(index, "topic does not exist") for index, one in enumerate(replies) if "nowhere" in one.topic
        ]

    async def publish_letters(self, letters: Sequence[Message]) -> None:
        self.letters.extend(letters)


@dataclass
class Port:
    """One side of the broker."""

    publish: Callable[[Sequence[Message]], Any]


class Desk:
    """The steps of a worker that a stranger's message passes, with what watches them."""

    def __init__(self) -> None:
        self.clock, self.broker, self.metrics, self.offset = Clock(), Broker(), Metrics(), 0
        letters = DeadLetters(TOPICS, KEY, "worker-1", time.time, MIB + 64 * 1024, StrangersAllowance(clock=self.clock))
        port = CountedDeadLetters(Port(self.broker.publish_letters), self.metrics.dead_letters)
        self.answering = Answering(
            Port(self.broker.publish_replies),
            port,
            letters,
            _nothing_cached,
            FaultPoints(),
        )
        self.watching = Watching(self.metrics, KINDS, 0, self.clock)
        self.intake = intake()

    async def take(self, record: Stored, times: int) -> list[Message]:
        """Take a message so often, each at a place of its own; returns the letters that it led to."""
        before = len(self.broker.letters)
        deliveries = []
        for _ in range(times):
            self.offset += 1
            delivery, identified = self.intake.take(replace(record, offset=self.offset))
            assert identified is None
            assert delivery.identity is None
            assert delivery.end is not None
            deliveries.append(delivery)
        await self.answering.answer(ended(deliveries))
        self.watching.count(ended(deliveries))
        return self.broker.letters[before:]

    def label_sets(self) -> int:
        """Count the time series there are."""
        return sum(len(metric.samples) for metric in self.metrics.registry.collect())


async def _nothing_cached(_: Sequence[str]) -> None:
    pass


def forged() -> Stored:
    """A dead letter that was altered, with a token beside it."""
    letter = brought_back(put_aside(Sent().record()))
    return replace(letter, value=b"{" + b"x" * 20_000, headers=[*letter.headers, *PADDING])


STRANGERS = {
    "no token": Sent(token="", reply_to=None, more=PADDING).record(),
    "a token of nobody's": Sent(token="a.b.c", reply_to=None, more=PADDING).record(),
    "an expired token": replace(Sent(reply_to=None, more=PADDING).record(), timestamp=1_700_000_000_000),
    "two tokens": Sent(reply_to=None, more=[("authorization", b"Bearer x"), *PADDING]).record(),
    "a header that is no text": Sent(token="", more=[("bad\udcff" * 900, b"1"), *PADDING]).record(),
    "a reply topic that is none": Sent(token="", reply_to="elsewhere", more=PADDING).record(),
    "a reply topic that is missing": Sent(token="", reply_to="catalog.replies.nowhere", more=PADDING).record(),
    "too many headers": Sent(token="", reply_to=None, more=[(f"h{n}", b"v" * 900) for n in range(40)]).record(),
    "a value that is too large": replace(Sent(token="", reply_to=None).record(), value=b"v" * 300_000),
    "nothing but a key": Stored([("x", None)], None, b"k" * 100_000),
    "a forged dead letter": replace(forged(), headers=[h for h in forged().headers if h[0] != "reply_to"]),
}


@pytest.mark.parametrize("record", STRANGERS.values(), ids=STRANGERS)
async def test_letters_of_strangers_are_bounded(record: Stored) -> None:
    """600 a minute go in full; each one beyond is small, says what it left out, and is signed; a minute later anew."""
    desk = Desk()
    letters = await desk.take(record, LETTERS_A_MINUTE + 150)
    full, bare = letters[:LETTERS_A_MINUTE], letters[LETTERS_A_MINUTE:]

    assert len(bare) == 150
    for letter in full:
        assert (letter.key, letter.value) == (record.key, record.value)
    for letter in bare:
        notes = dict(letter.headers)
        assert (letter.key, letter.value) == (None, None)
        assert all(name.startswith("dlq.") for name in notes)
        assert notes.get("dlq.value_bytes") == (None if record.value is None else b"%d" % len(record.value))
        assert ("dlq.value_sha256" in notes) == (record.value is not None)
        size = DefaultRecordBatchBuilder.estimate_size_in_bytes(None, None, list(letter.headers))
        assert size <= BARE_BYTES
        assert is_signed(KEY, brought_back(letter))
    desk.clock.at += 59.9
    (late,) = await desk.take(record, 1)
    assert late.key is None
    desk.clock.at += 0.1
    (later,) = await desk.take(record, 1)
    assert later.key == record.key


async def test_a_batch_that_comes_again_uses_up_nothing() -> None:
    """While the broker takes no letters, the same records come again: they are in full when they are stored."""
    desk = Desk()
    record = STRANGERS["no token"]
    for _ in range(5):
        desk.offset = 0
        letters = await desk.take(record, LETTERS_A_MINUTE)
    assert all(letter.value is not None for letter in letters)


async def test_the_verified_are_not_counted_among_strangers() -> None:
    """A caller's dead letters go in full, however many strangers there are."""
    desk = Desk()
    await desk.take(STRANGERS["no token"], LETTERS_A_MINUTE + 1)
    delivery, _ = desk.intake.take(replace(Sent(body=[], reply_to=None).record(), offset=10_000))
    await desk.answering.answer(ended([delivery]))
    assert desk.broker.letters[-1].value == b"[]"


@pytest.fixture
def printed() -> Any:  # noqa: ANN401
    """What a worker logs, with the clock that its bound goes by."""
    stream, clock = io.StringIO(), Clock(1_020.0)
    logs.configure("INFO", "json", "w", stream=stream, lines_a_minute=logs.LINES_A_MINUTE, clock=clock)
    yield stream, clock
    structlog.reset_defaults()
    logging.getLogger().handlers = []


@pytest.mark.parametrize("record", STRANGERS.values(), ids=STRANGERS)
async def test_lines_about_strangers_are_bounded(record: Stored, printed: Any) -> None:  # noqa: ANN401
    """So many lines a minute tell of them; how many were not told is told; each is counted, by labels of ours."""
    stream, _ = printed
    desk = Desk()
    await desk.take(record, 1)
    label_sets = desk.label_sets()
    await desk.take(record, STRANGERS_LINES_A_MINUTE + 200)
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert len(lines) == STRANGERS_LINES_A_MINUTE
    assert desk.label_sets() == label_sets
    desk.clock.at += 60
    await desk.take(record, 1)
    told, line = (json.loads(line) for line in stream.getvalue().splitlines()[-2:])
    assert (told["operation"], told["messages"]) == ("strangers_not_told", 201)
    assert line["end"] in {"refused", "put_aside"}


EVENTS: dict[str, Callable[[int], None]] = {
    "a reply that was refused": lambda n: structlog.get_logger().warning("message_refused", topic=f"t-{n}"),
    "a topic that takes nothing": lambda n: structlog.get_logger().warning("reply_topic_takes_nothing", topic=f"t-{n}"),
    "a batch given back": lambda n: structlog.get_logger().warning("batch_given_back", messages=n),
    "an info line": lambda n: structlog.get_logger().info("reply_topic_opened", topic=f"t-{n}"),
    "a library's warning": lambda n: logging.getLogger("a.library").warning("header %s", n),
    "a library's text with a value in it": lambda n: logging.getLogger("another.library").warning(f"header {n}"),  # noqa: G004
}


@pytest.mark.parametrize("event", EVENTS.values(), ids=EVENTS)
def test_no_event_fills_the_log(event: Callable[[int], None], printed: Any) -> None:  # noqa: ANN401
    """Below an error, one event has so many lines a minute, its own; the first of the next says what was left out."""
    stream, clock = printed
    for number in range(logs.LINES_A_MINUTE + 50):
        event(number)
    structlog.get_logger().warning("another")
    assert len(stream.getvalue().splitlines()) == logs.LINES_A_MINUTE + 1
    clock.at += 60
    event(0)
    assert "50" in stream.getvalue().splitlines()[-1]


def test_defects_are_always_told(printed: Any) -> None:  # noqa: ANN401
    """An incident that a caller was told is in the log, however many there are."""
    stream, _ = printed
    for number in range(logs.LINES_A_MINUTE + 50):
        structlog.get_logger().error("use_case_failed", incident=f"i-{number}")
    assert len(stream.getvalue().splitlines()) == logs.LINES_A_MINUTE + 50
