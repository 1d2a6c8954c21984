"""The ledger: every send, every reply, and what they prove together.

A message must be answered at least once; all *stored* answers to it (whatever was not an unstored refusal) must be the
same bytes; its effect must exist at most once; and the effects on one key must follow the order in which its messages
were acknowledged by the broker. What is not so is a deviation, named.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

UNSTORED: Final = frozenset(
    {
        "MALFORMED_MESSAGE",
        "UNKNOWN_KIND",
        "UNSUPPORTED_VERSION",
        "UNAUTHENTICATED",
        "FORBIDDEN",
        "MESSAGE_ID_REUSED",
        "VERSION_REMOVED",
        "OUTCOME_EXPIRED",
        "OUTCOME_ERASED",
        "MESSAGE_TOO_LARGE",
        "RATE_LIMITED",
        "INTERNAL_ERROR",
        "DEADLINE_EXCEEDED",
        "VALIDATION_FAILED",
        "INVALID_PRODUCT_CODE",
    }
)
"""Codes of refusals, which say nothing about another delivery of the same id."""


@dataclass(slots=True)
class Sent:
    """One message: who sent it, on which key, as which of that key's messages, and what may answer it."""

    message_id: str
    caller: str
    key: str
    place: int
    kind: str
    expected: frozenset[int]
    unique: bool = True
    """False for an id that was sent with other content, too: it may be answered by either."""
    deliveries: int = 0
    first_sent_at: float = 0.0
    answers: list[tuple[bytes, float]] = field(default_factory=list)

    @property
    def stored(self) -> set[bytes]:
        """The different bodies among the stored answers."""
        return {body for body, _ in self.answers if not is_unstored(body)}

    @property
    def outcome(self) -> Mapping[str, Any] | None:
        """What became of it: its stored envelope, or else the refusal."""
        for body in (*self.stored, *(body for body, _ in self.answers)):
            found: Mapping[str, Any] = orjson.loads(body)
            return found
        return None


def is_unstored(body: bytes) -> bool:
    """Tell whether an envelope is a refusal that is not stored."""
    envelope = orjson.loads(body)
    return envelope["type"] == "error" and envelope["data"]["error_code"] in UNSTORED


@dataclass(frozen=True, slots=True)
class Deviation:
    """Something that must not be."""

    kind: str
    """lost, doubled, disordered, changed, wrong or failed."""
    message_id: str
    detail: str


class Ledger:
    """Everything that was sent and answered in a run."""

    def __init__(self) -> None:
        self._sent: dict[tuple[str, str], Sent] = {}
        self._by_id: dict[str, Sent] = {}
        self.undeliverable: set[str] = set()
        """Ids whose replies were dead-lettered as undeliverable: answered by their outcome alone."""
        self.unknown_replies = 0

    def __len__(self) -> int:
        return len(self._sent)

    def send(self, sent: Sent) -> None:
        """Note a message, before it is published for the first time."""
        self._sent[sent.caller, sent.message_id] = sent
        self._by_id[sent.message_id] = sent

    def reply(self, message_id: str, body: bytes, at: float) -> None:
        """Note a reply; `message_id` is what it says it answers."""
        sent = self._by_id.get(message_id)
        if sent is None:
            self.unknown_replies += 1
        else:
            sent.answers.append((body, at))

    def unanswered(self) -> list[Sent]:
        """List the messages without any answer."""
        return [one for one in self._sent.values() if not one.answers and one.message_id not in self.undeliverable]

    def statuses(self) -> Counter[tuple[str, int]]:
        """Count messages by kind and the status of what became of them."""
        return Counter(
            (one.kind, int(outcome["statusCode"])) for one in self._sent.values() if (outcome := one.outcome)
        )

    def latencies_s(self) -> list[float]:
        """How long each message waited for its first answer, sorted."""
        return sorted(one.answers[0][1] - one.first_sent_at for one in self._sent.values() if one.answers)

    def repeats(self) -> int:
        """Count the replies beyond the first of each message."""
        return sum(len(one.answers) - 1 for one in self._sent.values() if one.answers)

    def deviations(self) -> Iterator[Deviation]:
        """Go through everything that must not be."""
        for one in self.unanswered():
            yield Deviation("lost", one.message_id, f"{one.kind} on {one.key}: no reply to {one.deliveries} deliveries")
        for one in self._sent.values():
            yield from self._own(one)
        by_key: dict[str, list[Sent]] = defaultdict(list)
        for one in self._sent.values():
            by_key[one.key].append(one)
        for key, messages in by_key.items():
            yield from _order(key, sorted(messages, key=lambda one: one.place))

    def _own(self, one: Sent) -> Iterator[Deviation]:
        if len(one.stored) > 1 and one.unique:
            yield Deviation("changed", one.message_id, f"{one.kind}: {len(one.stored)} different stored answers")
        for body in {body for body, _ in one.answers}:
            envelope = orjson.loads(body)
            status = envelope["statusCode"]
            if status == 500:  # noqa: PLR2004
                yield Deviation("failed", one.message_id, f"{one.kind}: {envelope['data']}")
            elif status not in one.expected:
                yield Deviation("wrong", one.message_id, f"{one.kind}: {status} {envelope['message']}")


def _order(key: str, messages: list[Sent]) -> Iterator[Deviation]:
    """Each change of a customer raises its version by one: so versions tell of doubled, lost and swapped effects."""
    version = 0
    for one in messages:
        outcome = one.outcome
        if outcome is None or one.kind not in {"create_customer", "update_customer"}:
            continue
        if outcome["type"] != "success":
            continue
        seen = int(outcome["data"]["version"])
        if seen == version + 1:
            version = seen
        elif seen > version + 1:
            yield Deviation("doubled", one.message_id, f"{key}: version {seen} after {version}")
            version = seen
        else:
            yield Deviation("disordered", one.message_id, f"{key}: version {seen} after {version}")
