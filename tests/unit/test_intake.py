"""The first steps of a message: in turns, cheap for strangers, and with one mark for one content."""

import hashlib
import hmac
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import pytest
import rfc8785
from hypothesis import given

from contracts import codec
from contracts.errors import CatalogError
from contracts.registry import KINDS
from contracts.topics import Topics
from tests.system import SECRET, System
from tests.unit.test_canonical import VALUES
from tests.unit.test_dear_bodies import LEGAL
from workers.admission.identity import Verifier
from workers.admission.keys import Keyring, KeySource
from workers.admission.reply_topics import ReplyTopics
from workers.pipeline.delivery import Decoded, Delivery
from workers.pipeline.ends import Refused
from workers.pipeline.intake import Intake
from workers.pipeline.replays import Replays
from workers.pipeline.signature import Header

KEY: Final = b"k" * 32
TOKEN: Final = f"Bearer {System.token('tester')}".encode()


@dataclass(frozen=True)
class Stored:
    """A record of a log."""

    value: bytes
    headers: Sequence[Header]
    partition: int = 0
    offset: int = 0
    topic: str = "catalog.commands"
    key: bytes | None = None
    timestamp: int = int(time.time() * 1000)
    timestamp_type: int = 1


def an_intake() -> Intake:
    """Make the first step of a worker's pipeline."""
    verifier = Verifier(Keyring(KeySource(secret=SECRET.encode()), time.monotonic, print))
    topics = Topics("catalog")
    return Intake(topics, KINDS, verifier, ReplyTopics({}, "catalog"), KEY, needs_answer=False, replays=Replays(KEY))


def message(value: bytes, token: bytes | None = TOKEN, partition: int = 0, offset: int = 0) -> Stored:
    """Make a record."""
    headers: list[Header] = [("message_id", b"m"), ("reply_to", b"catalog.replies.a")]
    return Stored(value, [*headers, ("authorization", token)] if token else headers, partition, offset)


DEAR: Final = LEGAL["tiny doubles"]


@pytest.mark.parametrize(
    ("record", "code"),
    [
        (message(DEAR, token=None), "UNAUTHENTICATED"),
        (message(DEAR, token=b"Bearer no.such.token"), "UNAUTHENTICATED"),
        (message(DEAR, token=TOKEN[:-4] + b"AAAA"), "UNAUTHENTICATED"),
        (message(DEAR, token=f"Bearer {System.token('x', exp=1)}".encode()), "UNAUTHENTICATED"),
        (message(DEAR[:-1] + b',"more":1}', token=None), "MALFORMED_MESSAGE"),
        (message(DEAR + b" " * 300_000, token=None), "MESSAGE_TOO_LARGE"),
        (message(DEAR.replace(b'"kind":"create_customer"', b'"kind":"get_customer"'), token=None), "MALFORMED_MESSAGE"),
    ],
)
async def test_nothing_dear_is_done_for_a_stranger(record: Stored, code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The canonical form is made for nobody who is not known; the answer is the one that the contract's order gives."""
    made: list[object] = []
    monkeypatch.setattr(codec, "canonical", made.append)
    ((delivery,), identified, _) = await an_intake().take_in([record])
    assert identified == []
    assert isinstance(delivery.end, Refused)
    assert isinstance(delivery.end.error, CatalogError)
    assert delivery.end.error.error_code == code
    assert made == []


@given(VALUES)
def test_the_mark_is_that_of_the_canonical_form(value: object) -> None:
    """Outcomes that were stored before are found: the HMAC is over kind, version and the payload by RFC 8785."""
    payload = {"a": value}
    body = json.dumps({"kind": "create_customer", "version": 1, "payload": payload}, indent=1).encode()
    steps = an_intake()
    _, identified = steps.take(message(body))
    form = rfc8785.dumps(payload)  # type: ignore[arg-type]  # JSON types only
    assert identified is not None
    assert steps.seal(identified) == hmac.digest(KEY, b"create_customer\n1\n" + form, hashlib.sha256)
    assert identified.request.payload_json == form


@pytest.mark.parametrize("body", LEGAL.values(), ids=LEGAL)
def test_the_mark_of_a_large_body(body: bytes) -> None:
    """A body that is not kept as read has the same canonical form, and nothing of it is kept before that is made."""
    decoded = an_intake().decode(message(body), None)
    assert isinstance(decoded, Decoded)
    assert decoded.request.payload is None
    assert decoded.request.payload_json == rfc8785.dumps(json.loads(body)["payload"])


@pytest.mark.parametrize(("lanes", "read"), [(1, 6), (2, 3), (3, 2), (6, 1), (16, 1)])
async def test_lanes_share_the_time_for_reading(lanes: int, read: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch of one of n lanes is read for the n-th part of half a second, about: the last one is finished."""
    now_s = 0.0

    def take(_: Intake, record: Stored) -> tuple[Delivery, None]:
        nonlocal now_s
        now_s += 0.09
        return Delivery(record), None

    monkeypatch.setattr("workers.pipeline.intake.time.perf_counter", lambda: now_s)
    monkeypatch.setattr(Intake, "take", take)
    records = [message(b"", offset=number) for number in range(12)]
    taken = await replace(an_intake(), lanes=lanes).take_in(records)
    assert len(taken.deliveries) == read
    assert len(taken.left) == 12 - read


@pytest.mark.parametrize(
    ("costs_s", "order"),
    [
        ({}, "01010101"),
        ({0: 0.02}, "01111000"),
        ({0: 0.2}, "0111100"),
        ({0: 0.6}, "0"),
        ({0: 0.3, 1: 0.3}, "01"),
        ({1: 0.05}, "01000111"),
    ],
)
async def test_what_is_dear_makes_its_own_partition_wait(
    costs_s: dict[int, float], order: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The partition that took least to read comes next; a batch whose reading took half a second ends, after one."""
    now_s = 0.0

    def take(_: Intake, record: Stored) -> tuple[Delivery, None]:
        nonlocal now_s
        now_s += costs_s.get(record.partition, 0.0)
        return Delivery(record), None

    monkeypatch.setattr("workers.pipeline.intake.time.perf_counter", lambda: now_s)
    monkeypatch.setattr(Intake, "take", take)
    records = [message(b"", partition=number // 4, offset=number % 4) for number in range(8)]
    deliveries, _, left = await an_intake().take_in(records)
    taken = [(delivery.record.partition, delivery.record.offset) for delivery in deliveries]
    assert "".join(str(partition) for partition, _ in taken) == order
    for partition in (0, 1):
        offsets = [offset for other, offset in taken if other == partition]
        assert offsets == list(range(len(offsets)))
        assert [record.offset for record in left if record.partition == partition] == list(range(len(offsets), 4))
