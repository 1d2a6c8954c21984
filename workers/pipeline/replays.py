"""A dead letter that comes back: its signature stands for the token, and its first arrival is the one that is judged.

A replay carries the dead letter's headers as they are, signature included. What the signature covers is believed: who
sent the message, where it first stood in the log, when the broker stamped it there. Whatever differs in a single byte
is an unauthenticated message.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from contracts.codec import Omission
from workers.admission.identity import Identity
from workers.pipeline.signature import PREFIX, SIGNATURE, Header, Signable, is_signed
from workers.ports import Record

NOT_WHOLE: Final = frozenset({"dlq.value_bytes", "dlq.headers_left_out", "dlq.key_bytes"})
"""Headers that say that a part of the message did not fit into its dead letter."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a message first stood in the log, when the broker stamped it (ms since the epoch), how often it failed."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    attempts: int


@dataclass(frozen=True, slots=True)
class Original:
    """A replayed record as its caller sent it: without the token, and without what was added since."""

    key: bytes | None
    value: bytes | None
    headers: Sequence[Header]


@dataclass(frozen=True, slots=True)
class Replay:
    """A dead letter that is believed. `operator` is who edited it, if anybody did."""

    origin: Origin
    identity: Identity
    operator: str | None
    original: Original


@dataclass(frozen=True, slots=True)
class RejectedReplay:
    """It claims to be a dead letter, and is not believed; the reason is fixed text."""

    reason: str


_BAD_SIGNATURE: Final = RejectedReplay("the signature of the dead letter does not match")
_OTHER_TOPIC: Final = RejectedReplay("the dead letter belongs to another topic")
_NOT_READABLE: Final = RejectedReplay("the dead letter's headers cannot be read")
_PARTIAL: Final = RejectedReplay("a part of the message did not fit into its dead letter: it has to be edited")
_NOBODY: Final = RejectedReplay("nobody was verified when it was put aside: an edited replay has to name the caller")


@dataclass(frozen=True, slots=True)
class Replays:
    """Recognises dead letters that come back. Without an operator's key no edited ones are accepted.

    The previous keys count as much, while keys are exchanged.
    """

    signing_key: bytes = field(repr=False)
    operator_key: bytes | None = field(default=None, repr=False)
    previous_signing_key: bytes | None = field(default=None, repr=False)
    previous_operator_key: bytes | None = field(default=None, repr=False)

    def is_ours(self, record: Signable) -> bool:
        """Tell whether the workers signed exactly this."""
        return _is_signed_by((self.signing_key, self.previous_signing_key), record)

    def recognise(self, record: Record) -> Replay | RejectedReplay | None:
        """Say what a record's signature vouches for, or why for nothing; None for a record that claims none."""
        for name, _ in record.headers:
            if name == SIGNATURE:
                return self._judge(record)
        return None

    def _judge(self, record: Record) -> Replay | RejectedReplay:
        if Omission.of(record.headers) is not None:
            return _BAD_SIGNATURE  # what is not there cannot be checked, and is in no letter of ours
        edited = False
        if not self.is_ours(record):
            if not _is_signed_by((self.operator_key, self.previous_operator_key), record):
                return _BAD_SIGNATURE
            edited = True
        notes = notes_of(record)
        origin = origin_of(notes)
        if origin is None or (edited and "dlq.operator" not in notes):
            return _NOT_READABLE
        if origin.topic != record.topic:
            return _OTHER_TOPIC
        if not NOT_WHOLE.isdisjoint(notes):
            return _PARTIAL
        identity = identity_of(notes)
        if identity is None:
            return _NOBODY
        headers = [header for header in record.headers if not header[0].startswith(PREFIX)]
        return Replay(origin, identity, notes.get("dlq.operator"), Original(record.key, record.value, headers))


def _is_signed_by(keys: Sequence[bytes | None], record: Signable) -> bool:
    return any(is_signed(key, record) for key in keys if key is not None)


def notes_of(record: Record) -> dict[str, str]:
    """Read our own headers. The values are ours to read only where the signature holds."""
    return {
        name: value.decode("utf-8", "replace")
        for name, value in record.headers
        if name.startswith(PREFIX) and value is not None
    }


def origin_of(notes: dict[str, str]) -> Origin | None:
    """Read where a message came from; None where that is not told."""
    try:
        return Origin(
            notes["dlq.topic"],
            int(notes["dlq.partition"]),
            int(notes["dlq.offset"]),
            int(notes["dlq.timestamp"]),
            int(notes["dlq.attempts"]),
        )
    except (KeyError, ValueError):
        return None


def identity_of(notes: dict[str, str]) -> Identity | None:
    """Read who was verified when the message was put aside; None where nobody was."""
    issuer, separator, subject = notes.get("dlq.caller", "").partition("\n")
    if not separator or not subject:
        return None
    roles = frozenset(notes.get("dlq.roles", "").split(",")) - {""}
    return Identity(issuer, subject, roles, expires_at_ms=0, not_before_ms=0)
