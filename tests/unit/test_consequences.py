"""What follows from each end: judged once, and read by whoever answers, counts and keeps order."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args

import orjson
import pytest

from contracts.envelope import failure, retrieved
from contracts.errors import (
    DeadlineExceededError,
    ForbiddenError,
    OutcomeExpiredError,
    RateLimitedError,
    UnauthenticatedError,
    UnknownKindError,
)
from contracts.topics import Topics
from workers.fault_points import FaultPoints
from workers.pipeline.answering import Answering
from workers.pipeline.consequences import Consequences, Defect, Letter, Queued, consequences_of
from workers.pipeline.dead_letters import DeadLetters
from workers.pipeline.delivery import Delivery
from workers.pipeline.ends import Applied, Broken, End, PutAside, Refused, Repeated, Waiting
from workers.ports import Message, Undeliverable

BODY = retrieved("thing", 1).encode()
ENDS: dict[str, End] = {
    "applied": Applied(BODY, 201, ["k"], ["c"]),
    "repeated": Repeated(BODY, ["k"]),
    "refused": Refused(ForbiddenError("no")),
    "broken": Broken("i-1", KeyError("secret"), "place_order"),
    "parked": Waiting("3/7", "i-1"),
    "put_aside": PutAside("REPLY_TO_UNUSABLE", "reply_to is null"),
}


def test_every_end_has_its_label() -> None:
    """The table above holds each class of the closed set; its label is its name in metrics and logs."""
    assert {type(end) for end in ENDS.values()} == set(get_args(End))
    for label, end in ENDS.items():
        assert consequences_of(end, wants_reply=True).label == label


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("applied", {"status_code": 201, "envelope": BODY, "cache_keys": ["k"], "erases": ["c"], "is_result": True}),
        ("repeated", {"status_code": 200, "envelope": BODY, "cache_keys": ["k"], "is_replayed": True}),
        ("refused", {"status_code": 403, "error_code": "FORBIDDEN", "letter": None, "is_result": False}),
        ("broken", {"status_code": 500, "error_code": "INTERNAL_ERROR", "queued": Queued("i-1", is_head=True)}),
        ("broken", {"letter": Letter("INTERNAL_ERROR", "KeyError in place_order at a library", "i-1")}),
        ("parked", {"status_code": 500, "error_code": "INTERNAL_ERROR", "queued": Queued("i-1", is_head=False)}),
        ("parked", {"letter": Letter("PARKED", "waits behind 3/7 (partition/offset), which met a defect", "i-1")}),
        ("put_aside", {"status_code": 0, "envelope": None, "error_code": "REPLY_TO_UNUSABLE"}),
        ("put_aside", {"letter": Letter("REPLY_TO_UNUSABLE", "reply_to is null")}),
    ],
)
def test_what_follows(label: str, expected: dict[str, Any]) -> None:
    """Status, body, dead letter, cache keys and place in the queue are those of the contract."""
    found = consequences_of(ENDS[label], wants_reply=True)
    assert {name: getattr(found, name) for name in expected} == expected


def test_only_a_defect_is_logged_as_one() -> None:
    """A message that waits behind a defect, or is refused, is none."""
    defects = {label: consequences_of(end, wants_reply=True).defect for label, end in ENDS.items()}
    assert [label for label, defect in defects.items() if defect is not None] == ["broken"]
    assert defects["broken"] == Defect("i-1", "place_order", ENDS["broken"].error)  # type: ignore[union-attr]


def test_only_an_incident_keeps_a_place() -> None:
    """Whoever comes to any other end leaves the queue of its key."""
    queued = [label for label, end in ENDS.items() if consequences_of(end, wants_reply=True).queued is not None]
    assert queued == ["broken", "parked"]


@pytest.mark.parametrize(
    ("refused", "aside_unanswered", "aside_answered"),
    [
        (Refused(RateLimitedError("no")), False, False),
        (Refused(DeadlineExceededError("no")), False, False),
        (Refused(ForbiddenError("no")), True, False),
        (Refused(UnknownKindError("no")), True, False),
        (Refused(UnauthenticatedError("no")), True, False),
        (Refused(UnauthenticatedError("no"), dead_letter=True), True, True),
        (Refused(OutcomeExpiredError("no"), dead_letter=True), True, True),
    ],
    ids=lambda value: value.error.error_code if isinstance(value, Refused) else str(value),
)
def test_a_refusal_that_nobody_hears_is_put_aside(
    refused: Refused, aside_unanswered: bool, aside_answered: bool
) -> None:
    """Unless it says nothing of the message: it came too often, or too late."""
    assert (consequences_of(refused, wants_reply=False).letter is not None) == aside_unanswered
    assert (consequences_of(refused, wants_reply=True).letter is not None) == aside_answered


def test_what_is_asked_of_the_store_again() -> None:
    """Who waits, or came late, may have been applied by another worker; who came too often was not."""
    unsure = [label for label, end in ENDS.items() if consequences_of(end, wants_reply=True).is_unsure]
    assert unsure == ["parked"]
    assert consequences_of(Refused(DeadlineExceededError("late")), wants_reply=True).is_unsure
    assert not consequences_of(Refused(RateLimitedError("often")), wants_reply=True).is_unsure


@dataclass(frozen=True)
class Stored:
    """A record of a log."""

    offset: int
    topic: str = "catalog.commands"
    partition: int = 0
    timestamp: int = 1
    timestamp_type: int = 1
    key: bytes | None = None
    value: bytes | None = b"{}"
    headers: Sequence[tuple[str, bytes | None]] = ()


class Broker:
    """Reply topics of which none takes anything, and dead letters."""

    def __init__(self) -> None:
        self.letters: list[Message] = []

    async def publish(self, replies: Sequence[Message]) -> Sequence[Undeliverable]:
        """Take none."""
        return [Undeliverable(index, "no") for index in range(len(replies))]

    async def store(self, letters: Sequence[Message]) -> None:
        """Take all."""
        self.letters += letters


async def test_what_is_put_aside_is_not_so_twice() -> None:
    """A reply that no topic takes is put aside, but for a message that has a dead letter for a reason of its own."""
    broker = Broker()

    class Letters:
        publish = broker.store

    async def clear(_: Sequence[str]) -> None:
        """Nothing is cached."""

    writer = DeadLetters(Topics("catalog"), b"k" * 32, "w", lambda: 0.0, 1024 * 1024)
    answering = Answering(broker, Letters(), writer, clear, FaultPoints())
    batch = []
    for number, end in enumerate(ENDS.values()):
        delivery = Delivery(Stored(number))
        delivery.headers.reply_to = "catalog.replies.nowhere"
        delivery.come_to(end)
        batch.append((delivery, _judged(delivery)))
    assert await answering.answer(batch) == 5
    reasons = [(dict(one.headers)["dlq.offset"], dict(one.headers)["dlq.reason"]) for one in broker.letters]
    assert sorted(reasons, key=str) == [
        (b"0", b"REPLY_UNDELIVERABLE"),
        (b"1", b"REPLY_UNDELIVERABLE"),
        (b"2", b"REPLY_UNDELIVERABLE"),
        (b"3", b"INTERNAL_ERROR"),
        (b"4", b"PARKED"),
        (b"5", b"REPLY_TO_UNUSABLE"),
    ]


def test_the_body_of_a_refusal_is_the_contract_s() -> None:
    """Four keys; nothing of a defect but its incident."""
    assert consequences_of(ENDS["refused"], wants_reply=True).envelope == failure(ForbiddenError("no")).encode()
    for label in ("broken", "parked"):
        body = orjson.loads(consequences_of(ENDS[label], wants_reply=True).envelope or b"")
        assert body["data"]["details"]["incident"] == "i-1"
        assert "secret" not in str(body)
        assert ("parked" in body["data"]["details"]) == (label == "parked")


def _judged(delivery: Delivery) -> Consequences:
    assert delivery.consequences is not None
    return delivery.consequences
