"""The first two steps of every message: decode and identify. Neither waits for anything but its turn."""

import hashlib
import hmac
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from contracts.codec import RawRecord, UnreadableRecord, malformed_header, read_headers, read_request
from contracts.errors import CatalogError, UnauthenticatedError
from contracts.kinds import Kind
from contracts.topics import Topics
from workers.admission.identity import Identity, Unauthenticated, Verifier
from workers.admission.reply_topics import ReplyTopics
from workers.pipeline.delivery import Delivery
from workers.pipeline.ends import PutAside, Refused
from workers.pipeline.fair_share import FairShare, LoopShare
from workers.pipeline.replays import RejectedReplay, Replay, Replays
from workers.ports import STAMPED_BY_BROKER, Position, Record

DECODE_S: Final = 0.5
"""How long the messages of a batch may take to be read; what is left of it is fetched again. The worst one of the
greatest size takes 30 ms: a batch of those, small as it is when compressed, would make all others wait."""

_NOT_STAMPED: Final = Unauthenticated("the broker did not stamp the message, so that nobody knows when it was sent")
"""The topic was set to CreateTime while workers ran."""

REPLY_TO_UNUSABLE = "REPLY_TO_UNUSABLE"
UNREADABLE_RECORD = "UNREADABLE_RECORD"


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

    async def take_in(self, records: Sequence[Record]) -> list[Delivery]:
        """Decode and identify a batch; partitions take turns, so that what is dear makes only its own partition wait.

        Returns fewer deliveries than there are records, but at least one, where that takes long: of each partition, all
        before the first one that was left.
        """
        share, loop = FairShare(records, _partition_of), LoopShare()
        deliveries, spent_s, clock = [], 0.0, time.perf_counter
        began_at = clock()
        for record in share:
            delivery = self.decode(record)
            self.identify(delivery)
            deliveries.append(delivery)
            ended_at = clock()
            cost_s, began_at = ended_at - began_at, ended_at
            share.costs(cost_s)
            spent_s += cost_s
            if spent_s > DECODE_S:
                break
            if loop.is_due():
                await loop.give_back()
                began_at = clock()
        return deliveries

    def decode(self, record: Record) -> Delivery:
        """Read headers and body; whatever is wrong with them becomes the delivery's end."""
        replay = self.replays.recognise(record)
        content: RawRecord = replay.original if isinstance(replay, Replay) else record
        try:
            headers = read_headers(content, self.topics)
        except UnreadableRecord as unreadable:
            delivery = Delivery(record, replay=replay)
            delivery.come_to(PutAside(UNREADABLE_RECORD, str(unreadable)))
            return delivery
        delivery = Delivery(record, headers, replay=replay)
        if isinstance(replay, Replay):
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
        return delivery

    def seal(self, delivery: Delivery) -> bytes:
        """Return the HMAC of a request's content, by which its id is told from a reused one.

        It is made once, when it is needed: of somebody who is known, and of what is stored or will be.
        """
        assert delivery.request is not None
        if not delivery.content_hmac:
            delivery.content_hmac = hmac.digest(self.hmac_key, delivery.request.content, hashlib.sha256)
        return delivery.content_hmac

    def is_of(self, delivery: Delivery, sealed: bytes) -> bool:
        """Say whether that is the HMAC of a request's content, by either key; the second is tried last."""
        if sealed == self.seal(delivery):
            return True
        assert delivery.request is not None
        previous = self.previous_hmac_key
        return previous is not None and sealed == hmac.digest(previous, delivery.request.content, hashlib.sha256)

    def identify(self, delivery: Delivery) -> None:
        """Find out who asks, and whether that caller may be answered where it wants to be.

        Who sent what is refused already is found out as well: its dead letter tells, and cannot be asked later.
        """
        found = self._who(delivery)
        if delivery.end is not None:
            delivery.identity = found if isinstance(found, Identity) else None
            return
        if isinstance(found, Unauthenticated):
            error = UnauthenticatedError(f"Not authenticated: {found.reason}")
            # Where the broker did not stamp it, it is not the caller's fault alone
            delivery.come_to(self._unreadable(delivery, error, dead_letter=found is _NOT_STAMPED))
            return
        delivery.identity = found
        self._recognise(delivery)
        reply_to = delivery.headers.reply_to
        if reply_to is not None and not self.reply_topics.allows(found, reply_to):
            delivery.come_to(PutAside(REPLY_TO_UNUSABLE, "the caller may not be answered on this topic"))

    def _recognise(self, delivery: Delivery) -> None:
        """Note the kind and the version that are asked for, where we have them: a stored answer tells of both, too."""
        if delivery.request is not None and (kind := self.kinds.get(delivery.request.kind)) is not None:
            delivery.kind, delivery.version = kind, kind.version(delivery.request.version)

    def _who(self, delivery: Delivery) -> Identity | Unauthenticated:
        match delivery.replay:
            case Replay(identity=identity):
                return identity
            case RejectedReplay(reason):
                return Unauthenticated(reason)
            case None if delivery.record.timestamp_type != STAMPED_BY_BROKER:
                return _NOT_STAMPED
            case None:
                return self.verifier.verify(_authorization(delivery), delivery.record.timestamp)

    def _unreadable(self, delivery: Delivery, error: CatalogError, *, dead_letter: bool = False) -> Refused | PutAside:
        """Refuse before the caller is known: where callers are bound to reply topics, nobody may be answered yet."""
        if delivery.headers.reply_to is None or self.reply_topics.is_restricted:
            return PutAside(error.error_code, error.summary)
        return Refused(error, dead_letter)


def _partition_of(record: Record) -> Position:
    return record.topic, record.partition


def _authorization(delivery: Delivery) -> bytes:
    """Return the token of a message; one that is malformed otherwise may carry a good one."""
    if delivery.end is None:
        return delivery.headers.authorization or b""
    given = [value for name, value in delivery.record.headers if name == "authorization"]
    return (given[0] or b"") if len(given) == 1 else b""
