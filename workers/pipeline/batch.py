"""One batch of commands on its way: all that its steps share, so that none hands anything to the next beside it."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from handlers.queries.outcomes import outcome_erased
from persistence.outcomes import LookUp
from persistence.standing import Standing
from workers.pipeline.delivery import Delivery, Identified, Pending
from workers.pipeline.ends import Refused
from workers.pipeline.parking import KeyQueues
from workers.ports import Position

_NOT_ASKED: Final = LookUp({}, Standing(datetime.fromtimestamp(0, UTC), ""))


@dataclass(slots=True)
class Batch:
    """Deliveries, what the store knew of them, the queues of their keys, and the right to go on."""

    deliveries: list[Delivery]
    """All of them: each partition's in the order of the log."""
    asking: list[Identified]
    """Those that came in without an end."""
    still_ours: Callable[[], bool]
    """False once a partition was taken away: no transaction may begin after that."""
    queues: KeyQueues
    known: LookUp = _NOT_ASKED
    pending: list[Pending] = field(default_factory=list)
    """Those that nothing could be said against."""
    retry_after_s: float | None = None
    """In how many seconds what has no end is tried again, where anything has none."""
    held: dict[Position, float] = field(default_factory=dict)
    """Partitions whose next message waits, and for how many seconds."""
    dispatch_s: float = 0.0
    """What the use cases of its transactions have cost."""
    prepare_s: float = 0.0

    def undecided(self, pending: Iterable[Pending]) -> list[Pending]:
        """Return those that have no end yet and need not wait."""
        if self.held:
            return [one for one in pending if one.delivery.end is None and one.delivery.position not in self.held]
        return [one for one in pending if one.delivery.end is None]

    def groups(self) -> Iterator[Sequence[Pending]]:
        """Split what is pending into runs of ordinary ones, which share a transaction, and those that share it not."""
        ordinary: list[Pending] = []
        for one in self.undecided(self.pending):
            if one.keys.alone:
                if ordinary:
                    yield ordinary
                yield [one]
                ordinary = []
            else:
                ordinary.append(one)
        if ordinary:
            yield ordinary

    def hold(self, delivery: Delivery, seconds: float) -> None:
        """Have a message wait, unless it came to its end, and with it what follows in its partition."""
        if delivery.end is None:
            self.held[delivery.position] = seconds

    def stop(self, partitions: Iterable[Position]) -> None:
        """Have the rest of these partitions fetched again at once, where it need not wait for longer."""
        for position in partitions:
            self.held.setdefault(position, 0)

    def undo(self, part: Iterable[Pending], dispatch_s: float) -> None:
        """Forget an attempt that was rolled back; before it use cases had cost so much."""
        self.dispatch_s = dispatch_s
        for one in part:
            one.delivery.reopen()

    def give_back(self, retry_after_s: float) -> None:
        """Leave what has no end, or one of which nobody can be sure now, to be fetched again."""
        self.retry_after_s = retry_after_s
        for delivery in self.deliveries:
            if delivery.consequences is not None and delivery.consequences.is_unsure:
                delivery.reopen()

    def may_be_acked(self) -> bool:
        """Say whether what has come to an end may be acked, also where nobody could look who waits behind defects.

        One that has a place in a queue must leave it first: its key would wait for ever.
        """
        if self.queues.are_known:
            return True
        if self.known is not _NOT_ASKED:
            return not self.known.any_parked
        return all(delivery.replay is None for delivery in self.deliveries)

    def forget_erased(self) -> None:
        """Show no stored envelope that a message before it has erased: the look-up came before that."""
        gone: set[str] = set()
        for delivery in self.deliveries:
            if gone and not gone.isdisjoint(delivery.stored_subjects):
                delivery.come_to(Refused(outcome_erased(delivery.headers.message_id or "")))
            elif delivery.consequences is not None and delivery.consequences.erases:
                gone.update(delivery.consequences.erases)
