"""What a worker tells of itself with each heartbeat: its release, its partitions, and what ended lately, by kind.

It is read from the counters once a beat; nothing of it is done for a message.
"""

import time
from collections import Counter as Sum
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from typing import Final

import orjson
from prometheus_client import Counter

from workers.kafka.observation import PartitionHealth

SPANS_S: Final[Mapping[str, int]] = {"minute": 60, "hour": 3600}
KEPT_EVERY_S: Final = 10.0
"""How exact a span is; what is kept of an hour are 360 sums."""

Ended = Mapping[tuple[str, str], int]
"""How many ended, by kind and status code."""


class Tally:
    """What ended within the last spans, from a counter with the labels `kind` and `status_code` that only grows."""

    def __init__(self, counter: Counter, clock: Callable[[], float] = time.monotonic) -> None:
        self._counter = counter
        self._clock = clock
        self._kept: deque[tuple[float, Sum[tuple[str, str]]]] = deque([(clock(), Sum())])

    def __call__(self) -> Mapping[str, Ended]:
        """Return what ended in each span until now; what is older than the worker itself is nothing."""
        now, total = self._clock(), self._total()
        spans: dict[str, Ended] = {}
        for name, seconds in SPANS_S.items():
            before = next((kept for at, kept in reversed(self._kept) if now - at >= seconds), self._kept[0][1])
            spans[name] = total - before
        if now - self._kept[-1][0] >= KEPT_EVERY_S:
            self._kept.append((now, total))
        while len(self._kept) > 1 and now - self._kept[1][0] >= max(SPANS_S.values()):
            self._kept.popleft()
        return spans

    def _total(self) -> Sum[tuple[str, str]]:
        total: Sum[tuple[str, str]] = Sum()
        for metric in self._counter.collect():
            for sample in metric.samples:
                if sample.name.endswith("_total"):
                    total[sample.labels["kind"], sample.labels["status_code"]] += int(sample.value)
        return total


class Telling:
    """Writes it down as JSON. A worker without messages has neither a tally nor partitions."""

    def __init__(
        self, tally: Tally | None = None, partitions: Callable[[], Sequence[PartitionHealth]] = lambda: ()
    ) -> None:
        self._version = version("catalog-workers")
        self._tally = tally
        self._partitions = partitions

    def __call__(self) -> str:
        """Return what there is to tell now."""
        ended = self._tally() if self._tally is not None else {}
        return orjson.dumps(
            {
                "version": self._version,
                "partitions": sorted(
                    f"{topic}/{number}" for topic, number in (one.position for one in self._partitions())
                ),
                "ended": {
                    span: [[kind, status, number] for (kind, status), number in sorted(sums.items())]
                    for span, sums in ended.items()
                },
            }
        ).decode()
