"""What the edge lets others see of it: events for metrics, and a snapshot for health checks."""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Protocol

from workers.ports import Position


class EdgeObserver(Protocol):
    """Told what happens at the edge, as it happens, by all of its lanes; it must not raise, and changes nothing."""

    def on_batch(self, size: int, seconds: float) -> None:
        """A batch of so many records came back from the handler after so long."""
        ...

    def on_ack(self, *, ok: bool) -> None:
        """Offsets were acknowledged, or were not: then they are tried again, or their records come again."""
        ...

    def on_give_back(self, size: int, wait_s: float) -> None:
        """The handler left so many records undecided; they are fetched again after the wait."""
        ...

    def on_defect(self) -> None:
        """The handler raised: a defect. The whole batch was given back."""
        ...

    def on_revoked(self, positions: AbstractSet[Position], seconds: float) -> None:
        """These partitions of a lane, which are all that it had, were taken away; draining took so long."""
        ...

    def on_assigned(self, positions: AbstractSet[Position]) -> None:
        """These partitions are a lane's from now on, and no others."""
        ...

    def on_left(self, positions: AbstractSet[Position]) -> None:
        """A lane has left the group, and with it these partitions, which are all that it had."""
        ...

    def on_lag(self, position: Position, messages: int) -> None:
        """How many records of a partition of ours are not decided yet; about once a second."""
        ...

    def on_held(self, position: Position, messages: int) -> None:
        """So many records of a partition wait for a producer's open transaction, and nothing else; once a second."""
        ...

    def on_lost(self, position: Position, messages: int) -> None:
        """So many records of a partition were deleted before anybody read them."""
        ...

    def on_topics(self, *, fit: bool) -> None:
        """Whether topics and brokers are still what they were found to be at the start; about once a minute."""
        ...

    def on_kafka_error(self, kind: str) -> None:
        """Something about Kafka failed and is tried again; `kind` is one of a few fixed words."""
        ...

    def on_reply_topic(self, *, closed: bool) -> None:
        """A reply topic that exists takes nothing and was closed, or takes messages again."""
        ...


class SilentObserver:
    """Watches nothing."""

    def on_batch(self, size: int, seconds: float) -> None:
        """Ignore it."""

    def on_ack(self, *, ok: bool) -> None:
        """Ignore it."""

    def on_give_back(self, size: int, wait_s: float) -> None:
        """Ignore it."""

    def on_defect(self) -> None:
        """Ignore it."""

    def on_revoked(self, positions: AbstractSet[Position], seconds: float) -> None:
        """Ignore it."""

    def on_assigned(self, positions: AbstractSet[Position]) -> None:
        """Ignore it."""

    def on_left(self, positions: AbstractSet[Position]) -> None:
        """Ignore it."""

    def on_lag(self, position: Position, messages: int) -> None:
        """Ignore it."""

    def on_held(self, position: Position, messages: int) -> None:
        """Ignore it."""

    def on_lost(self, position: Position, messages: int) -> None:
        """Ignore it."""

    def on_topics(self, *, fit: bool) -> None:
        """Ignore it."""

    def on_kafka_error(self, kind: str) -> None:
        """Ignore it."""

    def on_reply_topic(self, *, closed: bool) -> None:
        """Ignore it."""


@dataclass(frozen=True, slots=True)
class PartitionHealth:
    """One partition of ours. An offset is None as long as it is not known."""

    position: Position
    next_offset: int | None  # the first that is not decided
    end_offset: int | None  # one past the newest record that is stable (committed, or aborted), as of the last fetch
    stuck_s: float  # since the last progress; 0 where there is nothing to do, or nothing to do but wait for a server
    fetched_s: float | None  # since the broker last answered a fetch of it
    held: int = 0  # records beyond the stable ones: a producer's transaction is open

    @property
    def lag(self) -> int:
        """Records that are not decided yet."""
        return lag_of(self.next_offset, self.end_offset)


def lag_of(next_offset: int | None, end_offset: int | None) -> int:
    """Count the records that are not decided yet; 0 where it is not known."""
    if next_offset is None or end_offset is None:
        return 0
    return max(0, end_offset - next_offset)


@dataclass(frozen=True, slots=True)
class EdgeHealth:
    """A snapshot of the edge.

    `joined` is a member's with zero partitions, too; with several lanes, once all are members. `fault` says what is
    wrong with a consumer or the producer right now (it is being replaced), `fatal` what the process should end for.
    """

    joined: bool
    partitions: tuple[PartitionHealth, ...]
    last_poll_s: float  # since the consumer was last asked for records
    paused_s: float  # until records are fetched again after a give-back; 0 unless paused
    busy_s: float  # since the running batch began or, where they overlap, since the last answer; 0 when none is
    closed_reply_topics: int
    fault: str | None = None
    fatal: str | None = None

    @property
    def stuck_s(self) -> float:
        """Since the last progress of the partition that has waited longest while it had work."""
        return max((partition.stuck_s for partition in self.partitions), default=0.0)
