"""Single records of a topic, fetched again by their places: what stands in the log still, and was put aside in it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from workers.kafka.log_reader import LogReader
from workers.kafka.security import KafkaSecurity
from workers.ports import Record

_APART: Final = 1000
"""Places nearer to each other are read in one go, with what lies between them."""


@dataclass(frozen=True, slots=True)
class Recall:
    """Reads a topic beside the group; connects for each call, as it is seldom needed."""

    bootstrap_servers: str
    security: KafkaSecurity
    topic: str

    async def __call__(self, partition: int, offsets: Sequence[int]) -> Sequence[Record]:
        """Return the records at these offsets of a partition, by offset; what was deleted is left out.

        Raises `BrokerAwayError`, `KafkaAccessError` or `NoSuchTopicError`.
        """
        found: list[Record] = []
        wanted = set(offsets)
        async with LogReader(self.bootstrap_servers, self.security, "catalog-recall") as reader:
            first, end = (await reader.spans(self.topic)).get(partition, (0, 0))
            there = sorted(offset for offset in wanted if first <= offset < end)
            for start, last in _runs(there):
                span = {partition: (start, last + 1)}
                found += [record async for record in reader.read(self.topic, span) if record.offset in wanted]
        return found


def _runs(offsets: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Group sorted offsets that lie near to each other: the first and the last of each group."""
    breaks = [0, *(place for place, (one, other) in enumerate(pairwise(offsets), 1) if other - one > _APART)]
    for start, end in pairwise([*breaks, len(offsets)]):
        if start < end:
            yield offsets[start], offsets[end - 1]
