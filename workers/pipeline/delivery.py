"""One arrival of a message, and what it has come to."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple

from contracts.codec import Headers, Request
from contracts.kinds import Keys, Kind, Payload, Version
from handlers.context import Context
from workers.admission.identity import Identity
from workers.pipeline.consequences import Consequences, consequences_of
from workers.pipeline.ends import End
from workers.pipeline.replays import RejectedReplay, Replay
from workers.ports import Record


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
    """Set by `come_to`, which judges it."""
    consequences: Consequences | None = None
    """What follows from its end, where it has come to one."""

    def come_to(self, end: End) -> None:
        """Take an end, and judge it."""
        self.end = end
        self.consequences = consequences_of(end, wants_reply=self.headers.reply_to is not None)

    def reopen(self) -> None:
        """Forget the end: it is decided anew."""
        self.end = self.consequences = None

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


class Ended(NamedTuple):
    """A delivery that has come to its end, with what follows from that."""

    delivery: Delivery
    consequences: Consequences


def ended(deliveries: Iterable[Delivery]) -> list[Ended]:
    """Return those that have come to their end."""
    return [Ended(one, one.consequences) for one in deliveries if one.consequences is not None]
