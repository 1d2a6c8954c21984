"""What the pipeline and the Kafka edge know of each other.

The pipeline (`workers.pipeline`) turns records into decisions, the edge (`workers.kafka`) fetches, publishes and acks.
No type of FastStream or aiokafka crosses this line, so that either side is tested and replaced without the other.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final, Protocol

from contracts.values import value

STAMPED_BY_BROKER: Final = 1
"""Kafka's number of LogAppendTime."""


class Record(Protocol):
    """One record of the log, as the broker stores it.

    A header key that is not UTF-8 is decoded with `surrogateescape`: encoding it the same way gives its bytes back.
    """

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int:
        """Milliseconds since the epoch, by the broker's clock (LogAppendTime)."""
        ...

    @property
    def timestamp_type(self) -> int | None:
        """Who stamped it: `STAMPED_BY_BROKER`, or whoever sent it, whose word is worth nothing."""
        ...

    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Sequence[tuple[str, bytes | None]]: ...


Position = tuple[str, int]
"""A partition: (topic, partition)."""

LogPlace = tuple[str, int, int]
"""Where a record stands: topic, partition, offset."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a handler got with a batch.

    `decided` holds, for each partition that got anywhere, the next offset to read: each earlier record of the batch has
    its effect committed and its reply or dead letter acknowledged by the broker. What is not covered is fetched again,
    after `retry_after_s` seconds where that is set.
    """

    decided: Mapping[Position, int]
    retry_after_s: float | None = None


class BatchHandler(Protocol):
    """The pipeline, as the edge sees it.

    `still_ours()` turns false when a partition of the batch was revoked: no transaction may start after that.
    """

    async def __call__(self, records: Sequence[Record], still_ours: Callable[[], bool]) -> Progress: ...


class Custody(Protocol):
    """Records that were handed out to be answered in any order, until each is, or their partitions are taken away."""

    @property
    def is_ours(self) -> bool:
        """False once a partition was revoked: what runs may end and count, nothing more may begin."""
        ...

    def waiting(self) -> AbstractContextManager[None]:
        """Wait inside; raises CancelledError at once when the partitions are taken away, or were before."""
        ...

    def answered(self, records: Sequence[Record]) -> None:
        """The broker has the reply, or the dead letter, of each of these: they need not come again."""
        ...


class StreamHandler(Protocol):
    """A pipeline that answers in any order; the next batch is handed to it while it is at work on this one.

    What it leaves without an answer when it returns, or raises, it is asked for again, as long as it is ours.
    """

    async def __call__(self, records: Sequence[Record], custody: Custody) -> None: ...


@value(frozen=True, slots=True)
class Message:
    """Something to publish. Without a partition the key decides (murmur2, as in Java)."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]
    partition: int | None = None


@dataclass(frozen=True, slots=True)
class Undeliverable:
    """A reply that its topic does not take: its place in the published sequence, and a fixed text that says why."""

    index: int
    reason: str


class BrokerAwayError(Exception):
    """The broker cannot be reached, or does not acknowledge: nothing of this batch may be acked; wait and try again."""


class ReplyPort(Protocol):
    """Publishes replies; each is acknowledged by all replicas when it returns, or named as undeliverable."""

    async def publish(self, replies: Sequence[Message]) -> Sequence[Undeliverable]:
        """Raise `BrokerAwayError` when the broker, not a single topic, takes nothing."""
        ...


class DeadLetterPort(Protocol):
    """Publishes dead letters; returns when all replicas have them."""

    async def publish(self, letters: Sequence[Message]) -> None:
        """Raise `BrokerAwayError` when they could not be stored: the offset is not acked then."""
        ...
