"""One arrival of a message, and the closed set of ends that it can come to."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from contracts.codec import Headers, Request
from contracts.errors import CatalogError
from contracts.kinds import Keys, Kind, Payload, Version
from handlers.context import Context
from workers.admission.identity import Identity
from workers.pipeline.replays import RejectedReplay, Replay
from workers.ports import Record


@dataclass(frozen=True, slots=True)
class Applied:
    """The use case ran to a result, good or bad, which is stored. Answered with its envelope."""

    envelope: bytes
    status_code: int
    cache_keys: Sequence[str] = ()
    erases: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Repeated:
    """Decided before: the stored envelope is sent to this delivery."""

    envelope: bytes
    cache_keys: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Refused:
    """A "no" before any effect; not stored. `dead_letter` asks for an operator's eye as well."""

    error: CatalogError
    dead_letter: bool = False


@dataclass(frozen=True, slots=True)
class Broken:
    """A defect of ours: logged, answered 500 and dead-lettered, under one incident id."""

    incident: str
    error: Exception
    kind: str
    """`unknown` where no use case has the name."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """Parked behind an earlier command of its key that met a defect: answered with its incident and dead-lettered."""

    behind: str
    incident: str


@dataclass(frozen=True, slots=True)
class PutAside:
    """Nobody can be answered: dead-lettered, no effect."""

    reason: str
    detail: str


End = Applied | Repeated | Refused | Broken | Waiting | PutAside


@dataclass(slots=True)
class Delivery:
    """A record on its way through the pipeline; each step fills in what it found out."""

    record: Record
    headers: Headers = field(default_factory=Headers)
    request: Request | None = None
    content_hmac: bytes = b""
    """Empty until it is needed: `Intake.seal`."""
    replay: Replay | RejectedReplay | None = None
    """What an operator brought back; believed only where its signature holds."""
    is_recalled: bool = False
    """It was parked, and brought back out of the log: its offset was acked long ago."""
    identity: Identity | None = None
    kind: Kind | None = None
    version: Version | None = None
    payload: Payload | None = None
    keys: Keys | None = None
    """What its command will touch; known where the payload is."""
    context: Context | None = None
    stored_subjects: Sequence[str] = ()
    """The customers that this message's stored outcome speaks of, where it has one."""
    end: End | None = None

    @property
    def key(self) -> tuple[str, str]:
        """Caller and message_id: what makes two deliveries the same message."""
        assert self.identity is not None
        assert self.headers.message_id is not None
        return self.identity.caller, self.headers.message_id

    @property
    def first_position(self) -> tuple[int, int]:
        """Partition and offset at the message's first arrival."""
        if isinstance(self.replay, Replay):
            return self.replay.origin.partition, self.replay.origin.offset
        return self.record.partition, self.record.offset

    @property
    def stamped_ms(self) -> int:
        """When the broker stamped the message, at its first arrival, in milliseconds since the epoch."""
        return self.replay.origin.timestamp_ms if isinstance(self.replay, Replay) else self.record.timestamp

    @property
    def stamped_at(self) -> datetime:
        """When the broker stamped the message, at its first arrival."""
        millis = self.stamped_ms
        return datetime.fromtimestamp(millis // 1000, UTC).replace(microsecond=millis % 1000 * 1000)
