"""How far a topic was read, and how far it went, as far as this worker has seen: what is lost when it goes away."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from workers.ports import Position

KEPT_S: Final = 15.0
"""How long a partition that was taken away is remembered: a deleted topic's are, before anybody looks at it."""


@dataclass(slots=True)
class _Reach:
    handed_to: int
    end: int
    taken_away_at: float | None = None


class Reach:
    """Kept by one consumer, for one topic."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._of: dict[Position, _Reach] = {}

    def handed(self, spans: Mapping[Position, tuple[int, int]]) -> None:
        """These were handed out: first offset, one past the last."""
        for position, (_, end) in spans.items():
            reach = self._of.setdefault(position, _Reach(end, end))
            reach.handed_to, reach.taken_away_at = max(reach.handed_to, end), None

    def goes_to(self, position: Position, next_offset: int | None, end: int | None) -> None:
        """A partition's log ends there, and `next_offset` is the first of it that is not handed out."""
        if next_offset is not None and end is not None:
            reach = self._of.setdefault(position, _Reach(next_offset, end))
            reach.end, reach.taken_away_at = max(reach.end, end), None

    def taken_away(self) -> None:
        """All of them are somebody else's from now on."""
        for reach in self._of.values():
            reach.taken_away_at = reach.taken_away_at or self._clock()

    def unread(self) -> Iterable[tuple[Position, int, int]]:
        """What was seen to be there and was never handed out: first offset, one past the last; and forget all."""
        oldest = self._clock() - KEPT_S
        found, self._of = self._of, {}
        for position, reach in sorted(found.items()):
            if reach.end > reach.handed_to and (reach.taken_away_at is None or reach.taken_away_at > oldest):
                yield position, reach.handed_to, reach.end
