"""From a delivery's end to what is published: reply, dead letter, or both. Matched once, here.

A defect is logged here and not where it came up: a batch that is tried again would log an incident that nobody is told.
Before a stored envelope goes out, whoever sends it clears the cache keys that its effect touched.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, assert_never

import structlog

from contracts.envelope import failure
from contracts.errors import CatalogError, InternalError
from contracts.registry import KINDS
from workers.fault_points import FaultPoints
from workers.pipeline.dead_letters import DeadLetters
from workers.pipeline.delivery import Applied, Broken, Delivery, PutAside, Refused, Repeated, Waiting
from workers.pipeline.fair_share import LoopShare
from workers.pipeline.parking import PASSING
from workers.pipeline.place import place_of
from workers.pipeline.replays import Replay
from workers.ports import DeadLetterPort, Message, ReplyPort

_log = structlog.get_logger(__name__)

REPLY_UNDELIVERABLE: Final = "REPLY_UNDELIVERABLE"
PARKED: Final = "PARKED"


@dataclass(frozen=True, slots=True)
class Answers:
    """What a batch of ends asks to be published."""

    replies: list[tuple[Delivery, Message]]
    dead_letters: list[Message]
    cache_keys: set[str]
    put_aside: set[int]
    """The ids of the deliveries that have a dead letter."""


@dataclass(frozen=True, slots=True)
class Answering:
    """Publishes what follows from the ends of deliveries; returns when the broker has all of it."""

    replies: ReplyPort
    dead_letter_port: DeadLetterPort
    dead_letters: DeadLetters
    clear_cache: Callable[[Sequence[str]], Awaitable[None]]
    fault_points: FaultPoints

    async def answer(self, deliveries: Sequence[Delivery]) -> int:
        """Clear caches, publish replies, then dead letters. Returns how many replies were undeliverable.

        Raises `BrokerAwayError`: then nothing may be acked; the outcomes are sent when the messages come again.
        """
        answers = await self._collect(deliveries)
        if answers.cache_keys:
            self.fault_points.reach("before_cache_clear")
            await self.clear_cache(sorted(answers.cache_keys))
            self.fault_points.reach("after_cache_clear")
        messages = [message for _, message in answers.replies]
        if self.fault_points.is_armed("between_replies"):
            await self.replies.publish(messages[:1])
            self.fault_points.reach("between_replies")
        undeliverable = await self.replies.publish(messages)
        for one in undeliverable:
            delivery = answers.replies[one.index][0]
            if id(delivery) not in answers.put_aside:  # what is put aside for a defect need not be so twice
                self._put_aside(answers, delivery, REPLY_UNDELIVERABLE, one.reason)
        if answers.dead_letters:
            await self.dead_letter_port.publish(answers.dead_letters)
        return len(undeliverable)

    async def _collect(self, deliveries: Sequence[Delivery]) -> Answers:
        answers, loop = Answers([], [], set(), set()), LoopShare()
        for delivery in deliveries:
            self._add(answers, delivery)
            if loop.is_due():
                await loop.give_back()
        return answers

    def _add(self, answers: Answers, delivery: Delivery) -> None:
        match delivery.end:
            case Applied(envelope, cache_keys=keys):
                answers.cache_keys.update(keys)
                self._reply(answers, delivery, envelope)
            case Repeated(envelope, keys):
                answers.cache_keys.update(keys)
                self._reply(answers, delivery, envelope, replayed=True)
            case Refused(error, dead_letter):
                answered = self._reply(answers, delivery, failure(error).encode())
                # Who did not ask to hear of it has it dead-lettered, unless it only came too often or too late
                if dead_letter or not (answered or error.error_code in PASSING):
                    self._put_aside(answers, delivery, error.error_code, error.summary)
            case Broken(incident, error, kind):
                message_id = delivery.headers.message_id
                _log.error("use_case_failed", incident=incident, kind=kind, message_id=message_id, exc_info=error)
                detail = f"{type(error).__name__} in {kind} at {place_of(error)}"
                self._reply(answers, delivery, failure(internal_error(incident)).encode())
                self._put_aside(answers, delivery, InternalError.error_code, detail, incident)
            case Waiting(behind, incident):
                self._reply(answers, delivery, failure(waits_behind(incident)).encode())
                detail = f"waits behind {behind} (partition/offset), which met a defect"
                self._put_aside(answers, delivery, PARKED, detail, incident)
            case PutAside(reason, detail):
                self._put_aside(answers, delivery, reason, detail)
            case None:
                msg = "a delivery without an end is not answered"
                raise AssertionError(msg)
            case _ as never:
                assert_never(never)

    def _reply(self, answers: Answers, delivery: Delivery, envelope: bytes, *, replayed: bool = False) -> bool:
        """Add the reply, where the caller wants one; returns whether it does."""
        headers = delivery.headers
        if headers.reply_to is None:
            return False
        fields: list[tuple[str, bytes]] = [("content-type", b"application/json")]
        key = headers.correlation_id.encode() if headers.correlation_id is not None else None
        if key is not None:
            fields.append(("correlation_id", key))
        if headers.message_id is not None:
            fields.append(("in_reply_to", headers.message_id.encode()))
        if delivery.request is not None:
            fields.append(("kind", delivery.request.kind[:200].encode()))
        if replayed:
            fields.append(("replayed", b"true"))
        if headers.traceparent is not None:
            fields.append(("traceparent", headers.traceparent))
        version = delivery.version
        if version is not None and version.deprecated_on is not None:
            fields.append(("deprecation", version.deprecated_on.isoformat().encode()))
            if version.sunset_on is not None:
                fields.append(("sunset", version.sunset_on.isoformat().encode()))
        answers.replies.append((delivery, Message(headers.reply_to, key, envelope, fields)))
        return True

    def _put_aside(
        self, answers: Answers, delivery: Delivery, reason: str, detail: str, incident: str | None = None
    ) -> None:
        answers.put_aside.add(id(delivery))
        answers.dead_letters.append(
            self.dead_letters.write(
                delivery.record,
                reason=reason,
                detail=detail,
                identity=delivery.identity,
                kind=known_kind(delivery),
                incident=incident,
                replay=delivery.replay if isinstance(delivery.replay, Replay) else None,
            )
        )


def known_kind(delivery: Delivery) -> str | None:
    """Return the name of the kind that was asked for, where it is one of ours."""
    if delivery.kind is not None:
        return delivery.kind.name
    return delivery.request.kind if delivery.request is not None and delivery.request.kind in KINDS else None


def internal_error(incident: str) -> CatalogError:
    """Say that it is our fault, and under which number the log has it."""
    return InternalError("An internal error occurred; it was recorded and may be tried again", {"incident": incident})


def waits_behind(incident: str) -> CatalogError:
    """Say that an earlier command of the key has to be mended first; the caller is answered again when it was."""
    text = "An earlier command of the same key met an internal error; this one waits until that is mended"
    return InternalError(text, {"incident": incident, "parked": True})
