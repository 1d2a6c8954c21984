"""What is put aside for an operator: the original message, why, and a signature over all of it.

A dead letter carries the original key, value and headers, but never the token: the signature by the workers' key
stands for it when an operator replays the message.
"""

import hashlib
import hmac
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from contracts.codec import MAX_HEADER_BYTES
from contracts.topics import Topics
from workers.admission.identity import Identity
from workers.ports import Message, Record

SIGNATURE: Final = "dlq.signature"
PREFIX: Final = "dlq."
SECRET_HEADERS: Final = frozenset({"authorization"})
MAX_VALUE_BYTES: Final = 1024 * 1024
"""What the topics of requests take. The dead-letter topics take 64 KiB more, for the headers we add."""


@dataclass(frozen=True, slots=True)
class DeadLetters:
    """Writes dead letters; the clock gives seconds since the epoch."""

    topics: Topics
    key: bytes
    worker: str
    clock: Callable[[], float]

    def write(
        self,
        record: Record,
        *,
        reason: str,
        detail: str,
        identity: Identity | None,
        attempts: int = 1,
        incident: str | None = None,
    ) -> Message:
        """Make the dead letter of a record. `reason` is an error code, `detail` one readable line without internals."""
        headers: list[tuple[str, bytes]] = []
        size = 0
        for name, value in record.headers:
            size += len(name) + len(value or b"")
            if name in SECRET_HEADERS or name.startswith(PREFIX) or not _is_utf8(name) or size > MAX_HEADER_BYTES:
                continue
            headers.append((name, value if value is not None else b""))
        value = record.value
        notes: list[tuple[str, str]] = [
            ("dlq.reason", reason),
            ("dlq.detail", detail[:1000]),
            ("dlq.topic", record.topic),
            ("dlq.partition", str(record.partition)),
            ("dlq.offset", str(record.offset)),
            ("dlq.timestamp", str(record.timestamp)),
            ("dlq.attempts", str(attempts)),
            ("dlq.failed_at", str(int(self.clock() * 1000))),
            ("dlq.worker", self.worker),
        ]
        if incident is not None:
            notes.append(("dlq.incident", incident))
        if identity is not None:
            notes += [("dlq.caller", identity.caller), ("dlq.roles", ",".join(sorted(identity.roles)))]
        if value is not None and len(value) > MAX_VALUE_BYTES - MAX_HEADER_BYTES:
            notes += [
                ("dlq.value_bytes", str(len(value))),
                ("dlq.value_sha256", hashlib.sha256(value).hexdigest()),
            ]
            value = None
        headers += [(name, text.encode()) for name, text in notes]
        headers.append((SIGNATURE, sign(self.key, record.key, value, headers)))
        return Message(self.topics.dead_letters(record.topic), record.key, value, headers)


def sign(key: bytes, record_key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes]]) -> bytes:
    """Compute the HMAC-SHA256 over key, value and headers, each with its length, in hex."""
    mac = hmac.new(key, digestmod=hashlib.sha256)
    for part in (record_key, value, *(one for pair in headers for one in (pair[0].encode(), pair[1]))):
        mac.update(b"-" if part is None else b"%d:" % len(part) + part)
    return mac.hexdigest().encode()


def is_signed(key: bytes, record: Record) -> bool:
    """Tell whether the record is a dead letter of ours, untouched but for a `authorization` that was left out."""
    headers = [(name, value or b"") for name, value in record.headers if name != SIGNATURE]
    given = [value for name, value in record.headers if name == SIGNATURE]
    return len(given) == 1 and hmac.compare_digest(given[0] or b"", sign(key, record.key, record.value, headers))


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
