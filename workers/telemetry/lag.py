"""How far behind this worker is, in messages and in seconds, by partition; and which records it sees again."""

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from prometheus_client import Gauge

from workers.ports import Position, Record

_NONE: Final = (-1, -1)


class Lag:
    """Follows the partitions of one worker.

    The age is told when it is asked for, so that it grows while nothing happens: an outage is seen in it. It is that of
    the oldest record that is not decided or, where that one was not fetched yet, of the last one before it; so it is
    too large by the gap between the two at most. `clock` gives seconds since the epoch.
    """

    def __init__(self, messages: Gauge, seconds: Gauge, clock: Callable[[], float]) -> None:
        self.newest_ms: int | None = None
        """The broker's time, as the newest record told it."""
        self._messages = messages
        self._seconds = seconds
        self._clock = clock
        self._behind: dict[Position, int] = {}
        self._stamps_ms: dict[Position, int] = {}
        self._seen: dict[Position, tuple[int, int]] = {}
        """By partition, stamp and offset of its newest record: offsets begin anew with a topic of the same name."""

    def fetched(self, records: Sequence[Record]) -> int:
        """Note a batch that is about to be decided; returns how many of its records this worker has had before."""
        first: dict[Position, Record] = {}
        last: dict[Position, Record] = {}
        again = 0
        for record in records:
            position = (record.topic, record.partition)
            if position not in first:
                first[position] = record
            last[position] = record
            again += (record.timestamp, record.offset) <= self._seen.get(position, _NONE)
        for position, record in first.items():
            newest = last[position]
            self._stamps_ms[position] = record.timestamp
            self._seen[position] = max(self._seen.get(position, _NONE), (newest.timestamp, newest.offset))
            self.newest_ms = max(self.newest_ms or 0, newest.timestamp)
        return again

    def decided(self, position: Position, stamped_ms: int) -> None:
        """Note the stamp of the last record of a partition that came to its end."""
        self._stamps_ms[position] = stamped_ms

    def behind(self, position: Position, messages: int) -> None:
        """Note how many records of a partition are not decided yet."""
        if position not in self._behind:
            topic, number = position[0], str(position[1])
            self._seconds.labels(topic, number).set_function(lambda: self._age_s(position))
        self._behind[position] = messages
        self._messages.labels(position[0], str(position[1])).set(messages)

    def forget(self, positions: Iterable[Position]) -> None:
        """These are somebody else's from now on."""
        for position in positions:
            self._stamps_ms.pop(position, None)
            self._behind.pop(position, None)
            for gauge in (self._messages, self._seconds):
                gauge.remove(position[0], str(position[1]))

    def _age_s(self, position: Position) -> float:
        stamp_ms = self._stamps_ms.get(position)
        if not self._behind.get(position) or stamp_ms is None:
            return 0.0
        return max(0.0, self._clock() - stamp_ms / 1000)
