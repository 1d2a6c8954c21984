"""What was handed out and is not answered: how far each partition may be acknowledged, and how much more it may have.

Answers come in any order; an offset is acknowledged when all before it are answered. A bound holds for all partitions
together, and a few records of it are kept for each: what one of them waits for stops no other.
"""

from collections import deque
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from workers.ports import Position, Record

AT_MOST: Final = 1_000
"""Records of one worker that are not answered; by the contract."""
AT_MOST_BYTES: Final = 32 * 1024 * 1024
"""What these may hold, in values; a partition that has none of them may still have one."""
KEPT_FOR_EACH: Final = 10
"""So many of the bound stay free for each partition that has fewer under way."""
RESUMED_AT: Final = 10
"""A paused partition goes on when the n-th part of the bound is free for it, or nothing of it is under way."""


@dataclass(slots=True)
class _Window:
    """One partition: its offsets in the order of the log, from the first that is not answered."""

    order: deque[int] = field(default_factory=deque)
    open: dict[int, int] = field(default_factory=dict)
    """What is not answered, and its bytes."""
    newest: int = -1


class UnderWay:
    """The records that one consumer has handed out; forgotten when its partitions are taken away."""

    def __init__(self, at_most: int = AT_MOST, at_most_bytes: int = AT_MOST_BYTES) -> None:
        self._at_most = at_most
        self._at_most_bytes = at_most_bytes
        self._windows: dict[Position, _Window] = {}
        self._bytes = 0
        self._count = 0

    def __len__(self) -> int:
        """How many records are not answered."""
        return self._count

    def take(self, records: Iterable[Record]) -> None:
        """These are handed out: each partition's in the order of its log."""
        for record in records:
            window = self._windows.setdefault((record.topic, record.partition), _Window())
            if record.offset <= window.newest:  # the partition began anew: what was under way is read again
                self._bytes -= sum(window.open.values())
                self._count -= len(window.open)
                window = self._windows[record.topic, record.partition] = _Window()
            size = len(record.value or b"")
            window.newest = record.offset
            window.order.append(record.offset)
            window.open[record.offset] = size
            self._bytes += size
            self._count += 1

    def answered(self, records: Iterable[Record]) -> dict[Position, int]:
        """These are answered; returns, for each partition that got further, the next offset to read after a crash."""
        further: dict[Position, int] = {}
        for record in records:
            position = (record.topic, record.partition)
            window = self._windows.get(position)
            if window is None or (size := window.open.pop(record.offset, None)) is None:
                continue
            self._bytes -= size
            self._count -= 1
            while window.order and window.order[0] not in window.open:
                further[position] = window.order.popleft() + 1
        return further

    def unanswered(self, records: Iterable[Record]) -> list[Record]:
        """Those of these that are not answered."""
        return [
            record
            for record in records
            if (window := self._windows.get((record.topic, record.partition))) and record.offset in window.open
        ]

    def first(self, position: Position) -> int | None:
        """The first offset of a partition that is not answered; None where all is."""
        window = self._windows.get(position)
        return window.order[0] if window is not None and window.order else None

    def forget(self) -> None:
        """They are no longer ours: whoever reads those partitions next reads them again."""
        self._windows.clear()
        self._bytes = self._count = 0

    def rooms(self, positions: Collection[Position], paused: Collection[Position]) -> Mapping[Position, int]:
        """How many more records each of these partitions may have under way, whatever the others then take.

        One that is paused has none until it is worth its while: what was fetched of it has been dropped, and is fetched
        again, by the megabyte.
        """
        kept = min(KEPT_FOR_EACH, self._at_most // (2 * max(1, len(positions))))
        own = {position: self._open(position) for position in positions}
        spare = max(0, self._at_most - self._count - sum(max(0, kept - count) for count in own.values()))
        if self._bytes >= self._at_most_bytes:
            return {position: int(not count) for position, count in own.items()}
        rooms = {position: spare + max(0, kept - count) for position, count in own.items()}
        for position in paused:
            if own.get(position) and rooms[position] < self._at_most // RESUMED_AT:
                rooms[position] = 0
        return rooms

    def _open(self, position: Position) -> int:
        window = self._windows.get(position)
        return len(window.open) if window is not None else 0
