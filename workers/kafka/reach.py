"""How far a topic was read, and how far it went, as far as this worker has seen: what is lost when it goes away.

A name may stand for another topic before anybody notices, and offsets do not tell of which one they are. So what is
seen counts once the topic was found to be the same *after* it was seen.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from workers.ports import Position


@dataclass(slots=True)
class _Reach:
    handed_to: int
    end: int
    is_taken_away: bool = False


class Reach:
    """Kept by one consumer, for one topic."""

    def __init__(self) -> None:
        self._of: dict[Position, _Reach] = {}
        self._seen: dict[Position, tuple[int, int]] = {}

    def handed(self, spans: Mapping[Position, tuple[int, int]]) -> None:
        """These were handed out: first offset, one past the last."""
        for position, (_, end) in spans.items():
            reach = self._of.setdefault(position, _Reach(end, end))
            reach.handed_to, reach.is_taken_away = max(reach.handed_to, end), False

    def goes_to(self, position: Position, next_offset: int | None, end: int | None) -> None:
        """A log ends there, and `next_offset` is the first of it that is not handed out; to be confirmed."""
        if next_offset is not None and end is not None:
            self._seen[position] = (next_offset, end)

    def confirm(self) -> None:
        """The topic is the same still, what was seen is of it, what was taken away is its next reader's to count."""
        for position, (next_offset, end) in self._seen.items():
            reach = self._of.setdefault(position, _Reach(next_offset, end))
            reach.handed_to, reach.end = max(reach.handed_to, next_offset), max(reach.end, end)
            reach.is_taken_away = False
        self._seen.clear()
        self._of = {position: reach for position, reach in self._of.items() if not reach.is_taken_away}

    def taken_away(self) -> None:
        """All of them are somebody else's from now on, or the topic's end took them away: nobody knows yet."""
        self._seen.clear()
        for reach in self._of.values():
            reach.is_taken_away = True

    def unread(self) -> Iterable[tuple[Position, int, int]]:
        """What was seen to be there and was never handed out: first offset, one past the last; and forget all."""
        found, self._of = self._of, {}
        self._seen.clear()
        for position, reach in sorted(found.items()):
            if reach.end > reach.handed_to:
                yield position, reach.handed_to, reach.end
