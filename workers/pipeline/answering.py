"""Publishing what follows from the ends of deliveries: cached reads cleared, replies, dead letters.

A defect is logged here and not where it came up: a batch that is tried again would log an incident that nobody is told.
Before a stored envelope goes out, whoever sends it clears the cache keys that its effect touched.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from contracts.registry import KINDS
from workers.fault_points import FaultPoints
from workers.pipeline.consequences import Letter
from workers.pipeline.dead_letters import DeadLetters
from workers.pipeline.delivery import Delivery, Ended
from workers.pipeline.fair_share import LoopShare
from workers.ports import DeadLetterPort, Message, ReplyPort

_log = structlog.get_logger(__name__)

REPLY_UNDELIVERABLE: Final = "REPLY_UNDELIVERABLE"
_JSON: Final = ("content-type", b"application/json")


@dataclass(slots=True)
class _Answers:
    """What a batch of ends asks to be published."""

    replies: list[Message]
    answered: list[Ended]
    """Whose replies these are, one by one."""
    dead_letters: list[Message]
    cache_keys: set[str]


@dataclass(frozen=True, slots=True)
class Answering:
    """Publishes what follows from the ends of deliveries; returns when the broker has all of it."""

    replies: ReplyPort
    dead_letter_port: DeadLetterPort
    dead_letters: DeadLetters
    clear_cache: Callable[[Sequence[str]], Awaitable[None]]
    fault_points: FaultPoints

    async def answer(self, ended: Sequence[Ended]) -> int:
        """Clear caches, publish replies, then dead letters. Returns how many replies were undeliverable.

        Raises `BrokerAwayError`: then nothing may be acked; the outcomes are sent when the messages come again.
        """
        answers = await self._collect(ended)
        if answers.cache_keys:
            self.fault_points.reach("before_cache_clear")
            await self.clear_cache(sorted(answers.cache_keys))
            self.fault_points.reach("after_cache_clear")
        if self.fault_points.is_armed("between_replies"):
            await self.replies.publish(answers.replies[:1])
            self.fault_points.reach("between_replies")
        undeliverable = await self.replies.publish(answers.replies)
        for one in undeliverable:
            delivery, consequences = answers.answered[one.index]
            if consequences.letter is None:  # what is put aside for a defect need not be so twice
                answers.dead_letters.append(self._letter(delivery, Letter(REPLY_UNDELIVERABLE, one.reason)))
        if answers.dead_letters:
            await self.dead_letter_port.publish(answers.dead_letters)
        return len(undeliverable)

    async def _collect(self, ended: Sequence[Ended]) -> _Answers:
        answers, loop = _Answers([], [], [], set()), LoopShare()
        for one in ended:
            self._add(answers, one)
            if loop.is_due():
                await loop.give_back()
        return answers

    def _add(self, answers: _Answers, one: Ended) -> None:
        delivery, consequences = one
        if consequences.cache_keys:
            answers.cache_keys.update(consequences.cache_keys)
        if consequences.envelope is not None and delivery.headers.reply_to is not None:
            answers.answered.append(one)
            answers.replies.append(
                _reply(delivery, delivery.headers.reply_to, consequences.envelope, replayed=consequences.is_replayed)
            )
        if (defect := consequences.defect) is not None:
            _log.error(
                "use_case_failed",
                incident=defect.incident,
                kind=defect.kind,
                message_id=delivery.headers.message_id,
                exc_info=defect.error,
            )
        if consequences.letter is not None:
            answers.dead_letters.append(self._letter(delivery, consequences.letter))

    def _letter(self, delivery: Delivery, letter: Letter) -> Message:
        return self.dead_letters.write(
            delivery.record,
            reason=letter.reason,
            detail=letter.detail,
            identity=delivery.identity,
            kind=known_kind(delivery),
            incident=letter.incident,
            replay=delivery.replay,
        )


def _reply(delivery: Delivery, topic: str, envelope: bytes, *, replayed: bool) -> Message:
    headers, key = delivery.headers, None
    fields: list[tuple[str, bytes]] = [_JSON]
    if headers.correlation_id is not None:
        key = headers.correlation_id.encode()
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
    return Message(topic, key, envelope, fields)


def known_kind(delivery: Delivery) -> str | None:
    """Return the name of the kind that was asked for, where it is one of ours."""
    if delivery.kind is not None:
        return delivery.kind.name
    return delivery.request.kind if delivery.request is not None and delivery.request.kind in KINDS else None
