"""What is put aside for an operator: the original message, why, and a signature over all of it.

A dead letter carries the original key, value and headers, but never the token: the signature by the workers' key
stands for it when an operator replays the message.

Of senders that nobody verified so many a minute go in full; what is beyond goes as one that does not fit does.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from contracts.codec import Omission, OmittedPart
from contracts.kinds import Role
from contracts.topics import Topics
from workers.admission.identity import Identity
from workers.pipeline.replays import Origin, Replay
from workers.pipeline.signature import PREFIX, SIGNATURE, Header, sign
from workers.pipeline.strangers import StrangersAllowance
from workers.ports import Message, Record

SECRET_HEADERS: Final = frozenset({"authorization"})
MAX_DETAIL_BYTES: Final = 16 * 1024
"""Enough for the bytes, in hex, of any header that the contract has room for."""
_MAX_BARE_DETAIL_BYTES: Final = 200
"""Where nothing else of its sender is kept: a detail may repeat what was sent."""
_MAX_NAME_CHARS: Final = 200
_MEANINGFUL_ROLES: Final = frozenset(Role) - {Role.ANYONE}
"""Others grant nothing here, and their names, which anybody may choose, would be read as a list."""

# How Kafka lays a record out: a batch of one and the record itself take less than the first, the two lengths of a
# header at most the second.
_FRAME_BYTES: Final = 128
_HEADER_FRAME_BYTES: Final = 10


@dataclass(frozen=True, slots=True)
class DeadLetters:
    """Writes dead letters; the clock gives seconds since the epoch.

    `max_bytes` is what the dead-letter topics take, batch included. Requests are smaller by 64 KiB, so that a letter
    always fits; but a compressed request may be larger than its topic's limit. `strangers` is one for all that a worker
    writes: what it does not grant goes without key, value and headers.
    """

    topics: Topics
    key: bytes = field(repr=False)
    worker: str
    clock: Callable[[], float]
    max_bytes: int
    strangers: StrangersAllowance = field(default_factory=StrangersAllowance)

    def write(
        self,
        record: Record,
        *,
        reason: str,
        detail: str,
        identity: Identity | None,
        kind: str | None = None,
        incident: str | None = None,
        replay: Replay | None = None,
    ) -> Message:
        """Make the dead letter of a record. `reason` is an error code, `detail` one readable line without internals.

        `kind` is the name of one of ours, so that what is on a topic can be told without reading any body.

        One of a replay keeps where and when the message first arrived, and counts on.
        """
        origin = replay.origin if replay is not None else _first(record)
        whole = identity is not None or self.strangers.grants((record.topic, record.partition, record.offset))
        most = MAX_DETAIL_BYTES if whole else _MAX_BARE_DETAIL_BYTES
        notes: list[Header] = [
            ("dlq.reason", reason.encode()),
            ("dlq.detail", detail.encode()[:most].decode("utf-8", "ignore").encode()),
            ("dlq.topic", origin.topic.encode()),
            ("dlq.partition", b"%d" % origin.partition),
            ("dlq.offset", b"%d" % origin.offset),
            ("dlq.timestamp", b"%d" % origin.timestamp_ms),
            ("dlq.attempts", b"%d" % (origin.attempts + 1)),
            ("dlq.failed_at", b"%d" % int(self.clock() * 1000)),
            ("dlq.worker", self.worker[:_MAX_NAME_CHARS].encode("utf-8", "replace")),
        ]
        if kind is not None:
            notes.append(("dlq.kind", kind.encode()))
        if incident is not None:
            notes.append(("dlq.incident", incident.encode()))
        if identity is not None:
            notes += caller_notes(identity)
        if replay is not None and replay.operator is not None:
            notes.append(("dlq.operator", replay.operator.encode()))
        original = [header for header in record.headers if _is_kept(header[0])]
        missing = 0
        if (omission := Omission.of(record.headers)) is not None:  # the edge did not keep what is beyond the limits
            missing = omission.headers_left_out
            notes += _instead("key", omission.key) + _instead("value", omission.value)
        room = self.max_bytes - _FRAME_BYTES - _size([*notes, (SIGNATURE, b"0" * 64)]) if whole else 0
        key, value, headers = _fit(record.key, record.value, original, notes, room, missing)
        headers.append((SIGNATURE, sign(self.key, key, value, headers)))
        return Message(self.topics.dead_letters(origin.topic), key, value, headers)


def caller_notes(identity: Identity) -> list[Header]:
    """Write down who was verified, as a replay reads it."""
    roles = ",".join(sorted(identity.roles & _MEANINGFUL_ROLES))
    return [("dlq.caller", identity.caller.encode()), ("dlq.roles", roles.encode())]


def _fit(
    key: bytes | None, value: bytes | None, original: Sequence[Header], notes: list[Header], room: int, missing: int
) -> tuple[bytes | None, bytes | None, list[Header]]:
    """Leave out what does not fit, and say so: the value first, then headers, at last the key."""
    if len(key or b"") + len(value or b"") + _size(original) <= room:
        return key, value, [*original, *notes, *_left_out(missing)]
    if value is not None:
        notes += _instead("value", _digest(value))
        value = None
    room -= 512  # for what is noted here
    if key is not None and len(key) > room:
        notes += _instead("key", _digest(key))
        key = None
    room -= len(key or b"")
    headers: list[Header] = []
    for header in original:
        size = _size([header])
        if size <= room:
            headers.append(header)
            room -= size
    return key, value, [*headers, *notes, *_left_out(missing + len(original) - len(headers))]


def _first(record: Record) -> Origin:
    return Origin(record.topic, record.partition, record.offset, record.timestamp, attempts=0)


def _is_kept(name: str) -> bool:
    """A header goes along unless it is a secret, ours, or has a name that is no text (told in the detail)."""
    if name.lower() in SECRET_HEADERS or name.startswith(PREFIX):  # other letters are no token, but may hold one
        return False
    return name.isascii() or not any("\ud800" <= character <= "\udfff" for character in name)


def _size(headers: Sequence[Header]) -> int:
    return sum(len(name.encode()) + len(value or b"") + _HEADER_FRAME_BYTES for name, value in headers)


def _digest(content: bytes) -> OmittedPart:
    return OmittedPart(len(content), hashlib.sha256(content).hexdigest())


def _instead(part: str, omitted: OmittedPart | None) -> list[Header]:
    if omitted is None:
        return []
    return [(f"dlq.{part}_bytes", b"%d" % omitted.size), (f"dlq.{part}_sha256", omitted.sha256.encode())]


def _left_out(headers: int) -> list[Header]:
    return [("dlq.headers_left_out", b"%d" % headers)] if headers else []
