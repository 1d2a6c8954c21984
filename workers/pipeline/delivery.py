"""One arrival of a message, and the stages that it comes to: decoded, identified, admitted, ended.

A stage is a type: what it holds was found out by the step before it, and no later one asks whether that was done.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import ClassVar, Final

from contracts.codec import Headers, Request
from contracts.kinds import Keys, Kind, Payload, Version
from handlers.context import Context
from workers.admission.identity import Identity
from workers.pipeline.consequences import Consequences, consequences_of
from workers.pipeline.ends import Broken, End
from workers.pipeline.replays import Replay
from workers.ports import Record

UNKNOWN_KIND: Final = "unknown"

_EXACT_MS: Final = 2**32 * 1000
"""Up to the year 2106 a double of seconds is less than half a microsecond off."""

MessageKey = tuple[str, str]
"""Caller and message_id: what makes two deliveries the same message. A query need not have the second, nor uses it."""


class Delivery:
    """A record on its way: what there is to tell of it by now, and the end that it comes to."""

    __slots__ = (
        "consequences",
        "end",
        "headers",
        "identity",
        "is_recalled",
        "key",
        "kind",
        "payload",
        "position",
        "record",
        "replay",
        "request",
        "stored_subjects",
        "version",
    )

    def __init__(self, record: Record, headers: Headers | None = None, replay: Replay | None = None) -> None:
        """Begin with a record, what its headers say, and whose dead letter it is, where an operator brought it back."""
        self.record = record
        self.position = (record.topic, record.partition)
        self.headers = Headers() if headers is None else headers
        self.replay = replay
        self.request: Request | None = None
        self.identity: Identity | None = None
        self.key: MessageKey | None = None
        self.kind: Kind | None = None
        self.version: Version | None = None
        self.payload: Payload | None = None
        self.is_recalled = False
        """It was parked, and brought back out of the log: its offset was acked long ago."""
        self.stored_subjects: Sequence[str] = ()
        """The customers that this message's stored outcome speaks of, where it has one."""
        self.end: End | None = None
        self.consequences: Consequences | None = None

    def come_to(self, end: End) -> None:
        """Take an end, and judge it."""
        self.end = end
        self.consequences = consequences_of(end, wants_reply=self.headers.reply_to is not None)

    def break_on(self, error: Exception, incident: str) -> None:
        """Come to the end of a message that met a defect of ours, under this number."""
        self.come_to(Broken(incident, error, UNKNOWN_KIND if self.kind is None else self.kind.name))

    def reopen(self) -> None:
        """Forget the end: it is decided anew."""
        self.end = self.consequences = None

    @property
    def first_position(self) -> tuple[int, int]:
        """Partition and offset at the message's first arrival."""
        if self.replay is not None:
            return self.replay.origin.partition, self.replay.origin.offset
        return self.record.partition, self.record.offset

    @property
    def stamped_ms(self) -> int:
        """When the broker stamped the message, at its first arrival, in milliseconds since the epoch."""
        return self.replay.origin.timestamp_ms if self.replay is not None else self.record.timestamp

    @property
    def stamped_at(self) -> datetime:
        """When the broker stamped the message, at its first arrival."""
        return moment(self.stamped_ms)


def moment(ms: int) -> datetime:
    """Return the time so many milliseconds after the epoch, exactly."""
    if 0 <= ms < _EXACT_MS:
        return datetime.fromtimestamp(ms / 1000, UTC)
    return datetime.fromtimestamp(ms // 1000, UTC).replace(microsecond=ms % 1000 * 1000)


@dataclass(slots=True)
class Decoded:
    """A delivery whose headers and body could be read; whose it is nobody has asked yet."""

    delivery: Delivery
    request: Request


@dataclass(slots=True)
class Identified:
    """A request of a caller who is known, and may be answered where it wants to be."""

    delivery: Delivery
    request: Request
    identity: Identity
    key: MessageKey
    content_hmac: bytes = b""
    """Empty until it is needed: `Intake.seal`."""


@dataclass(slots=True)
class Admitted:
    """A message that nothing is said against: its use case may run."""

    delivery: Delivery
    key: MessageKey
    identified: Identified
    kind: Kind
    payload: Payload
    keys: Keys
    """What its command will touch."""
    context: Context


@dataclass(slots=True)
class Following:
    """The second delivery of a message within a batch: it waits for what becomes of the first."""

    keys: ClassVar[Keys] = Keys()

    delivery: Delivery
    key: MessageKey
    identified: Identified
    first: Delivery


Pending = Admitted | Following
"""What a batch of commands has yet to decide."""


Ended = tuple[Delivery, Consequences]
"""A delivery that has come to its end, with what follows from that."""


def ended(deliveries: Iterable[Delivery]) -> list[Ended]:
    """Return those that have come to their end."""
    return [(one, one.consequences) for one in deliveries if one.consequences is not None]
