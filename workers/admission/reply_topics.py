"""Which callers may be answered where: without it, whoever may send can have answers put into any reply topic."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from workers.admission.identity import Identity


@dataclass(frozen=True, slots=True)
class _Pattern:
    """A name in which each "*" stands for any characters, none included. Matched without backtracking."""

    first: str
    middle: tuple[str, ...]
    last: str | None
    """None where the pattern has no "*": the name is `first`, then."""

    @classmethod
    def of(cls, text: str) -> Self:
        first, *rest = text.split("*")
        return cls(first, tuple(part for part in rest[:-1] if part), rest[-1] if rest else None)

    def matches(self, name: str) -> bool:
        if self.last is None:
            return name == self.first
        end = len(name) - len(self.last)
        start = len(self.first)
        if not name.startswith(self.first) or not name.endswith(self.last):
            return False
        for part in self.middle:
            found = name.find(part, start, end)
            if found < 0:
                return False
            start = found + len(part)
        return start <= end


class ReplyTopics:
    """The reply topics that callers are bound to.

    `patterns` maps callers to the topics they may be answered on: whole names, in which "*" stands for any characters.
    A caller is named by its `sub` or, which comes first, by `Identity.caller` (iss, a line end, sub). Without any
    pattern everybody may be answered on every reply topic; with some, whoever is not named may be answered nowhere.
    """

    def __init__(self, patterns: Mapping[str, Sequence[str]], prefix: str) -> None:
        """Read the patterns. Raises ValueError for one outside the reply topics."""
        replies = f"{prefix}.replies."
        for caller, texts in patterns.items():
            for text in texts:
                if not text.startswith(replies):
                    raise ValueError(f"pattern '{text}' of caller {caller!r} does not start with '{replies}'")
        self._patterns = {caller: tuple(map(_Pattern.of, texts)) for caller, texts in patterns.items()}
        self._replies = replies

    @property
    def is_restricted(self) -> bool:
        """Tell whether callers are bound to topics at all."""
        return bool(self._patterns)

    def allows(self, identity: Identity, topic: str) -> bool:
        """Tell whether this caller may be answered on this topic."""
        if not self._patterns:
            return topic.startswith(self._replies)
        patterns = self._patterns.get(identity.caller)
        if patterns is None:
            patterns = self._patterns.get(identity.subject, ())
        return any(pattern.matches(topic) for pattern in patterns)
