"""Dead letters and what is believed when they come back."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import jwt
import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from hypothesis import given
from hypothesis import strategies as st

from contracts.codec import Omission, OmittedPart
from contracts.registry import KINDS
from contracts.topics import Topics
from workers.admission.identity import Identity, Verifier
from workers.admission.keys import Keyring, KeySource
from workers.admission.reply_topics import ReplyTopics
from workers.pipeline.dead_letters import DeadLetters
from workers.pipeline.delivery import Delivery
from workers.pipeline.ends import PutAside, Refused
from workers.pipeline.intake import Intake
from workers.pipeline.raised_at import raised_at
from workers.pipeline.replays import RejectedReplay, Replay, Replays
from workers.pipeline.signature import SIGNATURE, Header, is_signed, sign
from workers.ports import Message

KEY, OPERATOR_KEY, SECRET = b"k" * 32, b"o" * 32, b"s" * 32
TOPICS = Topics("catalog")
MIB = 1024 * 1024
SENDER = Identity("iss", "ada", frozenset({"catalog_writer"}), 0, 0)
REPLAYS = Replays(KEY, OPERATOR_KEY)
LETTERS = DeadLetters(TOPICS, KEY, "worker-1", lambda: 1_700_000_000.5, MIB + 64 * 1024)


@dataclass(frozen=True)
class Stored:
    """A record of a log."""

    headers: Sequence[Header] = ()
    value: bytes | None = b"{}"
    key: bytes | None = b"k"
    topic: str = "catalog.commands"
    partition: int = 3
    offset: int = 7
    timestamp: int = 1_600_000_000_000
    timestamp_type: int = 1


def put_aside(
    record: Stored,
    *,
    identity: Identity | None = SENDER,
    came_back: Replay | None = None,
    letters: DeadLetters = LETTERS,
) -> Message:
    """Make the dead letter of a record, for a defect."""
    return letters.write(
        record, reason="INTERNAL_ERROR", detail="KeyError", identity=identity, incident="i-1", replay=came_back
    )


def brought_back(letter: Message, topic: str = "catalog.commands") -> Stored:
    """Put a dead letter, as it is, at the end of a topic."""
    return Stored(letter.headers, letter.value, letter.key, topic, 5, 4711, 1_700_000_100_000)


def believed(record: Stored, replays: Replays = REPLAYS) -> Replay:
    """Recognise a replay that must be one."""
    found = replays.recognise(record)
    assert isinstance(found, Replay), found
    return found


def why_not(record: Stored, replays: Replays = REPLAYS) -> str:
    """Say why a replay is not believed."""
    found = replays.recognise(record)
    assert isinstance(found, RejectedReplay), found
    return found.reason


def signed_again(record: Stored, key: bytes, **notes: str | None) -> Stored:
    """Edit our headers of a dead letter (None: leave it out) and sign it with a key."""
    kept = [(name, value) for name, value in record.headers if name != SIGNATURE and name not in notes]
    headers = kept + [(name, value.encode()) for name, value in notes.items() if value is not None]
    return replace(record, headers=[*headers, (SIGNATURE, sign(key, record.key, record.value, headers))])


def test_a_dead_letter_holds_all_but_the_token() -> None:
    """Key, value and headers are the original's, null and repeated ones too; the token and forged notes are not."""
    original: list[Header] = [("a", None), ("a", b""), ("message_id", b"m"), ("é", b"\xff")]
    letter = put_aside(Stored([*original, ("authorization", b"Bearer x"), ("dlq.caller", b"\nroot")], None, None))

    assert list(letter.headers)[:4] == original
    assert (letter.key, letter.value, letter.topic) == (None, None, "catalog.commands.dead-letters")
    ours = dict(letter.headers)
    assert ours["dlq.caller"] == b"iss\nada"
    assert "authorization" not in ours
    assert {name: ours[name] for name in ("dlq.partition", "dlq.offset", "dlq.timestamp", "dlq.attempts")} == {
        "dlq.partition": b"3",
        "dlq.offset": b"7",
        "dlq.timestamp": b"1600000000000",
        "dlq.attempts": b"1",
    }
    assert ours["dlq.failed_at"] == b"1700000000500"


@pytest.mark.parametrize(
    ("record", "left_out"),
    [
        (Stored([("h", b"x" * 64_000)], b"v" * (MIB - 70_000)), set()),
        (Stored([("h", b"x")], b"v" * 3 * MIB), {"dlq.value_bytes", "dlq.value_sha256"}),
        (Stored([("h", b"x" * 9 * MIB), ("i", b"y")], b"v"), {"dlq.value_bytes", "dlq.headers_left_out"}),
        (Stored([("i", b"y")], b"v", b"k" * 2 * MIB), {"dlq.value_bytes", "dlq.key_bytes", "dlq.key_sha256"}),
    ],
)
def test_a_dead_letter_always_fits_into_its_topic(record: Stored, left_out: set[str]) -> None:
    """What a compressed request may hold beyond the limit is left out, and named; the letter is never refused."""
    letter = put_aside(record)
    names = {name for name, _ in letter.headers}

    size = DefaultRecordBatchBuilder.estimate_size_in_bytes(letter.key, letter.value, list(letter.headers))
    assert size <= MIB + 64 * 1024
    assert left_out <= names
    assert (letter.value is None) == bool(left_out)
    if left_out:
        assert "has to be edited" in why_not(brought_back(letter))
    else:
        believed(brought_back(letter))


@pytest.mark.parametrize(
    ("omission", "more_headers", "told"),
    [
        (Omission(1, 5, 0, None, OmittedPart(300_000, "ab" * 32)), 0, {"dlq.value_bytes": b"300000"}),
        (Omission(1, 5, 0, OmittedPart(2_000, "cd" * 32), None), 0, {"dlq.key_bytes": b"2000"}),
        (Omission(3_000_001, 5, 3_000_000, None, None), 0, {"dlq.headers_left_out": b"3000000"}),
        (
            Omission(9, 5, 8, OmittedPart(1 << 31, "ef" * 32), OmittedPart(1 << 33, "ab" * 32)),
            0,
            {"dlq.key_bytes": b"2147483648", "dlq.value_bytes": b"8589934592", "dlq.headers_left_out": b"8"},
        ),
        (Omission(9, 5, 8, None, None), 2_000_000, {"dlq.headers_left_out": b"9"}),
    ],
)
def test_what_the_edge_left_out_is_told(omission: Omission, more_headers: int, told: dict[str, bytes]) -> None:
    """Of what was beyond a message's limits its letter has sizes and hashes, signed, and it cannot be replayed."""
    headers: list[Header] = [("x", b"y" * (4 + more_headers)), omission.as_header()]
    value = None if omission.value else b"{}"
    letter = put_aside(Stored(headers, value, None if omission.key else b"k"))
    notes = dict(letter.headers)
    assert {name: notes[name] for name in told} == told
    for part, left_out in (("key", omission.key), ("value", omission.value)):
        if left_out is not None:
            assert notes[f"dlq.{part}_sha256"] == left_out.sha256.encode()
    assert [name for name, _ in letter.headers if not name.isascii()] == []
    assert is_signed(KEY, letter)
    assert "did not fit" in why_not(brought_back(letter))
    signed = [*brought_back(put_aside(Stored())).headers, omission.as_header()]
    assert "signature" in why_not(Stored(signed))


def test_a_header_whose_name_is_no_text_is_left_out() -> None:
    """The rest of such a record is kept, and is believed when it comes back."""
    letter = put_aside(Stored([("bad\udcff", b"1"), ("message_id", b"m")]))

    assert [name for name, _ in letter.headers if not name.startswith("dlq.")] == ["message_id"]
    believed(brought_back(letter))


headers = st.lists(st.tuples(st.text(max_size=8), st.none() | st.binary(max_size=8)), max_size=5)


@given(st.none() | st.binary(), st.none() | st.binary(), headers, st.integers(0, 10_000), st.binary(min_size=1))
def test_every_change_breaks_the_signature(
    key: bytes | None, value: bytes | None, given_headers: list[Header], place: int, other: bytes
) -> None:
    """No other key, value, header, order of headers or boundary between them has the same signature."""
    letter = brought_back(put_aside(Stored(given_headers, value, key)))
    assert is_signed(KEY, letter)
    assert not is_signed(OPERATOR_KEY, letter)
    at = place % len(letter.headers)
    name, content = letter.headers[at]
    changed = list(letter.headers)
    if name != SIGNATURE:
        changed[at] = (name, (content or b"") + other)
        assert not is_signed(KEY, replace(letter, headers=changed))
        changed[at] = (name + "x", content)
        assert not is_signed(KEY, replace(letter, headers=changed))
    assert not is_signed(KEY, replace(letter, headers=[*letter.headers[:at], *letter.headers[at + 1 :]]))
    assert not is_signed(KEY, replace(letter, headers=[*letter.headers, ("x", other)]))
    assert not is_signed(KEY, replace(letter, headers=[*letter.headers, (SIGNATURE, other)]))
    assert not is_signed(KEY, replace(letter, key=(key or b"") + other))
    assert not is_signed(KEY, replace(letter, value=None if value is not None else b""))
    assert not is_signed(KEY, replace(letter, key=value, value=key)) or key == value


def test_a_replay_is_believed_for_what_was_signed() -> None:
    """The caller, its roles, and where and when the message first arrived come from the signed headers."""
    found = believed(brought_back(put_aside(Stored([("message_id", b"m")]))))

    assert (found.identity.caller, found.identity.roles, found.operator) == ("iss\nada", SENDER.roles, None)
    assert (found.origin.partition, found.origin.offset, found.origin.timestamp_ms) == (3, 7, 1_600_000_000_000)
    assert found.original.headers == [("message_id", b"m")]
    assert REPLAYS.recognise(Stored([("dlq.caller", b"\nroot")])) is None


def test_roles_cannot_be_smuggled_in_by_their_names() -> None:
    """A role of anybody's own choosing is not read as two."""
    sender = Identity("", "eve", frozenset({"x,catalog_admin", "catalog_reader"}), 0, 0)
    found = believed(brought_back(put_aside(Stored(), identity=sender)))

    assert found.identity.roles == {"catalog_reader"}


def test_a_replay_that_fails_again_keeps_its_origin() -> None:
    """A dead letter of a replay names the first arrival and counts the attempts, as often as it happens."""
    first = brought_back(put_aside(Stored()))
    second = brought_back(put_aside(first, came_back=believed(first)))
    third = believed(brought_back(put_aside(second, came_back=believed(second))))

    assert (third.origin.partition, third.origin.offset, third.origin.timestamp_ms) == (3, 7, 1_600_000_000_000)
    assert third.origin.attempts == 3


def test_a_signature_is_good_on_its_own_topic_only() -> None:
    """A dead letter of a query cannot be brought back as a command."""
    letter = put_aside(Stored(topic="catalog.queries"))
    assert "another topic" in why_not(brought_back(letter))
    believed(brought_back(letter, "catalog.queries"))


def test_nobody_is_taken_at_his_word() -> None:
    """Where no token was verified, the workers' signature vouches for nobody."""
    letter = brought_back(put_aside(Stored(), identity=None))
    assert "name the caller" in why_not(letter)
    edited = signed_again(letter, OPERATOR_KEY, **{"dlq.caller": "\nada", "dlq.operator": "op"})
    assert believed(edited).identity.subject == "ada"


def test_an_edited_replay_needs_the_operators_key_and_name() -> None:
    """Signed by the operator it names who edited it; without a key, or a name, it is not believed."""
    letter = replace(brought_back(put_aside(Stored())), value=b'{"edited": 1}')
    edited = signed_again(letter, OPERATOR_KEY, **{"dlq.operator": "op"})

    assert believed(edited).operator == "op"
    assert "does not match" in why_not(edited, Replays(KEY))
    assert "cannot be read" in why_not(signed_again(letter, OPERATOR_KEY))
    again = believed(brought_back(put_aside(edited, came_back=believed(edited))))
    assert (again.operator, again.origin.attempts) == ("op", 2)


@pytest.mark.parametrize(
    "notes",
    [{"dlq.offset": "x"}, {"dlq.offset": None}, {"dlq.timestamp": ""}, {"dlq.caller": "ada"}, {"dlq.topic": None}],
)
def test_signed_nonsense_is_refused(notes: dict[str, str | None]) -> None:
    """Headers that cannot be read make a message unauthenticated, never an exception."""
    why_not(signed_again(brought_back(put_aside(Stored())), OPERATOR_KEY, **{"dlq.operator": "op"} | notes))


def intake(*, restricted: bool = False) -> Intake:
    """Build the first two steps as a command worker has them."""
    keyring = Keyring(KeySource(secret=SECRET), time.monotonic, print)
    patterns = {"ada": ["catalog.replies.ada*"]} if restricted else {}
    return Intake(TOPICS, KINDS, Verifier(keyring), ReplyTopics(patterns, "catalog"), KEY, False, REPLAYS)


def taken_in(record: Stored, *, restricted: bool = False) -> Delivery:
    """Bring a record through both steps."""
    return intake(restricted=restricted).take(record)[0]


@dataclass
class Sent:
    """A command as its caller sends it."""

    token: str = field(
        default_factory=lambda: jwt.encode(
            {"sub": "ada", "exp": 1_600_000_100, "roles": ["catalog_admin"]}, SECRET.decode(), "HS256"
        )
    )
    body: object = field(default_factory=lambda: {"kind": "delete_customer", "payload": {}})
    reply_to: str | None = "catalog.replies.ada"
    more: Sequence[Header] = ()

    def record(self) -> Stored:
        """Make the record, stamped while the token was valid."""
        sent: list[Header] = [
            ("message_id", b"m"),
            ("deadline", b"1600000000001"),
            ("authorization", b"Bearer " + self.token.encode()),
            *self.more,
        ]
        if self.reply_to is not None:
            sent.append(("reply_to", self.reply_to.encode()))
        return Stored(sent, json.dumps(self.body).encode())


def test_a_replay_needs_no_token_and_has_no_deadline() -> None:
    """Its caller, its time and its headers are those of the first arrival, long after the token expired."""
    steps = intake()
    first, before = steps.take(Sent().record())
    assert (first.headers.deadline_ms, first.end) == (1_600_000_000_001, None)
    again, after = steps.take(brought_back(put_aside(Sent().record(), identity=first.identity)))

    assert again.end is None
    assert again.key == first.key
    assert again.stamped_at == first.stamped_at
    assert before is not None
    assert after is not None
    assert steps.seal(after) == steps.seal(before)
    assert again.headers.deadline_ms is None
    assert again.headers.reply_to == "catalog.replies.ada"


def test_the_added_headers_do_not_count() -> None:
    """A message with 16 KiB of headers can be brought back."""
    size = sum(len(name) + len(value or b"") for name, value in Sent().record().headers)
    full = Sent(more=[("x", b"y" * (16 * 1024 - size - 1))]).record()
    assert taken_in(full).end is None
    assert taken_in(brought_back(put_aside(full))).end is None


def test_a_forged_replay_is_unauthenticated() -> None:
    """Neither a broken signature nor a token beside it lets a message in."""
    letter = brought_back(put_aside(Sent().record()))
    forged = replace(letter, value=b'{"kind": "delete_product", "payload": {}}')
    for record in (forged, replace(forged, headers=[*forged.headers, *Sent().record().headers[2:3]])):
        delivery = taken_in(record)
        assert isinstance(delivery.end, Refused)
        assert (delivery.end.error.status_code, delivery.identity) == (401, None)
    hidden = taken_in(forged, restricted=True)
    assert isinstance(hidden.end, PutAside)


@pytest.mark.parametrize(
    "sent",
    [
        Sent(body=[]),
        Sent(reply_to="elsewhere"),
        Sent(more=[("content-type", None)]),
        Sent(more=[("bad\udcff", b"1")]),
    ],
)
def test_who_sent_a_refused_message_is_known(sent: Sent) -> None:
    """The token of a message that is put aside before its caller matters is checked all the same."""
    delivery = taken_in(sent.record())
    assert delivery.end is not None
    assert delivery.identity is not None
    assert delivery.identity.subject == "ada"


@pytest.mark.parametrize("token", ["nonsense", ""])
def test_who_cannot_be_verified_is_not_named(token: str) -> None:
    """A message that is put aside with a bad token has no caller."""
    assert taken_in(Sent(token=token, body=[]).record()).identity is None
    assert taken_in(Sent(body=[], more=[("authorization", b"Bearer x")]).record()).identity is None


def test_a_place_is_a_line_of_ours() -> None:
    """The innermost frame of our own code names a defect; a library's alone does not."""
    with pytest.raises(AttributeError) as raised:
        LETTERS.write(None, reason="", detail="", identity=None)  # type: ignore[arg-type]
    assert raised_at(raised.value).startswith("workers/pipeline/dead_letters.py:")
    with pytest.raises(json.JSONDecodeError) as elsewhere:
        json.loads("{")
    assert raised_at(elsewhere.value) == "a library"
