"""The first two steps of every message: decode and identify. Neither waits for anything but its turn."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from contracts.codec import RawRecord, Request, UnreadableRecord, malformed_header, read_headers, read_request
from contracts.errors import CatalogError, UnauthenticatedError
from contracts.kinds import Kind
from contracts.topics import Topics
from workers.admission.identity import Identity, Unauthenticated, Verifier
from workers.admission.reply_topics import ReplyTopics
from workers.pipeline.delivery import Decoded, Delivery, Identified
from workers.pipeline.ends import PutAside, Refused
from workers.pipeline.fair_share import FairShare, LoopShare
from workers.pipeline.mac import Mac
from workers.pipeline.replays import RejectedReplay, Replay, Replays
from workers.ports import STAMPED_BY_BROKER, Position, Record

DECODE_S: Final = 0.5
"""How long the messages of a batch may take to be read; what is left of it is fetched again. The worst one of the
greatest size takes 30 ms: a batch of those, small as it is when compressed, would make all others wait. Lanes share it,
as they share the thread."""

_NOT_STAMPED: Final = Unauthenticated("the broker did not stamp the message, so that nobody knows when it was sent")
"""The topic was set to CreateTime while workers ran."""

REPLY_TO_UNUSABLE = "REPLY_TO_UNUSABLE"
UNREADABLE_RECORD = "UNREADABLE_RECORD"


class TakenIn(NamedTuple):
    """A batch after its first steps: every delivery, and of those without an end who asks for what."""

    deliveries: list[Delivery]
    identified: list[Identified]
    left: Sequence[Record] = ()
    """Of each partition, what comes after all that was read."""


@dataclass(frozen=True, slots=True)
class Intake:
    """Turns records into deliveries whose caller is known, or whose end is."""

    topics: Topics
    kinds: Mapping[str, Kind]
    verifier: Verifier
    reply_topics: ReplyTopics
    hmac_key: bytes
    needs_answer: bool
    """Queries: without reply_to and correlation_id there is nothing to do."""
    replays: Replays
    previous_hmac_key: bytes | None = None
    """While the key is exchanged: what was stored under the other one is recognised."""
    lanes: int = 1
    _mac: Mac = field(init=False, repr=False)
    _previous_mac: Mac | None = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Take the keys in."""
        previous = self.previous_hmac_key
        object.__setattr__(self, "_mac", Mac(self.hmac_key))
        object.__setattr__(self, "_previous_mac", None if previous is None else Mac(previous))

    async def take_in(self, records: Sequence[Record]) -> TakenIn:
        """Decode and identify a batch; partitions take turns, so that what is dear makes only its own partition wait.

        Where that takes long some records are left, but at least one is taken.
        """
        share, loop = FairShare(records, _partition_of), LoopShare()
        taken, spent_s, clock = TakenIn([], []), 0.0, time.perf_counter
        waiting = iter(share)
        began_at = clock()
        for record in waiting:
            delivery, identified = self.take(record)
            taken.deliveries.append(delivery)
            if identified is not None:
                taken.identified.append(identified)
            ended_at = clock()
            cost_s, began_at = ended_at - began_at, ended_at
            share.costs(cost_s)
            spent_s += cost_s
            if spent_s > DECODE_S / self.lanes:
                break
            if loop.is_due():
                await loop.give_back()
                began_at = clock()
        return taken._replace(left=list(waiting))

    def take(self, record: Record) -> tuple[Delivery, Identified | None]:
        """Decode and identify one record; whatever is wrong with it is the delivery's end, and it asks for nothing.

        Who sent what is refused already is found out as well: its dead letter tells, and cannot be asked later.
        """
        claim = self.replays.recognise(record)
        decoded = self.decode(record, claim)
        if isinstance(decoded, Decoded):
            return decoded.delivery, self.identify(decoded, claim)
        found = self._who(decoded, claim, _authorization(record))
        decoded.identity = found if isinstance(found, Identity) else None
        return decoded, None

    def decode(self, record: Record, claim: Replay | RejectedReplay | None) -> Decoded | Delivery:
        """Read headers and body; of what cannot be read only the delivery is returned, at its end.

        `claim` is what became of a dead letter that an operator brought back.
        """
        replay = claim if isinstance(claim, Replay) else None
        content: RawRecord = record if replay is None else replay.original
        try:
            headers = read_headers(content, self.topics)
        except UnreadableRecord as unreadable:
            delivery = Delivery(record, replay=replay)
            delivery.come_to(PutAside(UNREADABLE_RECORD, str(unreadable)))
            return delivery
        delivery = Delivery(record, headers, replay)
        if replay is not None:
            headers.deadline_ms = None  # whoever brings it back wants it done
        if headers.reply_to_fault is not None:
            delivery.come_to(PutAside(REPLY_TO_UNUSABLE, headers.reply_to_fault))
            return delivery
        side = "queries" if self.needs_answer else "commands"
        request = read_request(record, headers, self.kinds, side)
        if not isinstance(request, CatalogError) and self.needs_answer:
            for name in ("reply_to", "correlation_id"):
                if name not in headers.names:
                    request = malformed_header(name, "missing")
        if isinstance(request, CatalogError):
            delivery.come_to(self._unreadable(delivery, request))
            return delivery
        delivery.request = request
        return Decoded(delivery, request)

    def seal(self, identified: Identified) -> bytes:
        """Return the HMAC of a request's content, by which its id is told from a reused one.

        It is made once, when it is needed: of somebody who is known, and of what is stored or will be.
        """
        if not identified.content_hmac:
            identified.content_hmac = self._mac.of(identified.request.content)
        return identified.content_hmac

    def is_of(self, identified: Identified, sealed: bytes) -> bool:
        """Say whether that is the HMAC of a request's content, by either key; the second is tried last."""
        if sealed == self.seal(identified):
            return True
        previous = self._previous_mac
        return previous is not None and sealed == previous.of(identified.request.content)

    def identify(self, decoded: Decoded, claim: Replay | RejectedReplay | None) -> Identified | None:
        """Find out who asks, and whether that caller may be answered where it wants to be; else that is its end."""
        delivery, request = decoded.delivery, decoded.request
        headers = delivery.headers
        found = self._who(delivery, claim, headers.authorization or b"")
        if isinstance(found, Unauthenticated):
            error = UnauthenticatedError(f"Not authenticated: {found.reason}")
            # Where the broker did not stamp it, it is not the caller's fault alone
            delivery.come_to(self._unreadable(delivery, error, dead_letter=found is _NOT_STAMPED))
            return None
        delivery.identity = found
        delivery.key = key = found.caller, headers.message_id or ""
        self._recognise(delivery, request)
        reply_to = headers.reply_to
        if reply_to is not None and not self.reply_topics.allows(found, reply_to):
            delivery.come_to(PutAside(REPLY_TO_UNUSABLE, "the caller may not be answered on this topic"))
            return None
        return Identified(delivery, request, found, key)

    def _recognise(self, delivery: Delivery, request: Request) -> None:
        """Note the kind and the version that are asked for, where we have them: a stored answer tells of both, too."""
        if (kind := self.kinds.get(request.kind)) is not None:
            delivery.kind, delivery.version = kind, kind.version(request.version)

    def _who(
        self, delivery: Delivery, claim: Replay | RejectedReplay | None, authorization: bytes
    ) -> Identity | Unauthenticated:
        match claim:
            case Replay(identity=identity):
                return identity
            case RejectedReplay(reason):
                return Unauthenticated(reason)
            case None if delivery.record.timestamp_type != STAMPED_BY_BROKER:
                return _NOT_STAMPED
            case None:
                return self.verifier.verify(authorization, delivery.record.timestamp)

    def _unreadable(self, delivery: Delivery, error: CatalogError, *, dead_letter: bool = False) -> Refused | PutAside:
        """Refuse before the caller is known: where callers are bound to reply topics, nobody may be answered yet."""
        if delivery.headers.reply_to is None or self.reply_topics.is_restricted:
            return PutAside(error.error_code, error.summary)
        return Refused(error, dead_letter)


def _partition_of(record: Record) -> Position:
    return record.topic, record.partition


def _authorization(record: Record) -> bytes:
    """Return the token of a message that is malformed otherwise: it may be a good one."""
    given = [value for name, value in record.headers if name == "authorization"]
    return (given[0] or b"") if len(given) == 1 else b""
