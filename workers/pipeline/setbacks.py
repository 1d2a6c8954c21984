"""What follows from a transaction that failed: try again, fewer at once, wait, or the end of whoever is to blame."""

import asyncio
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from persistence.faults import Fault, fault_of, is_refused_write
from workers.pipeline.batch import Batch
from workers.pipeline.blame import Attempt, Blame, Culprit
from workers.pipeline.delivery import Delivery, Pending
from workers.pipeline.inbox import Inbox
from workers.pipeline.observer import Observer
from workers.pipeline.patience import GiveBackError, Patience
from workers.ports import LogPlace

CONFLICTS_BEFORE_HALVING: Final = 3
"""A batch that lost this many races in a row is halved: a smaller one holds its locks for less time."""
CONFLICTS_BEFORE_WAITING: Final = 10
"""A lone message that lost this many waits outside, with what follows it in its partition; others go on."""
TIMES_TOO_SLOW: Final = 2
"""A lone message that took too long this often, while others were written in between, is a defect."""
REFUSED_WRITES: Final = 10
"""A lone message whose write meets a constraint this often in a row, while others are written, is a defect."""
WELL_BELOW_S: Final = 3.0
"""A transaction that took no longer may be followed by one of twice as many messages, after some were too large."""


@dataclass(slots=True)
class Setbacks:
    """Judges the attempts of one lane."""

    patience: Patience
    observer: Observer
    blame: Blame
    inbox: Inbox
    new_incident: Callable[[], str]
    most: int = sys.maxsize
    """How many messages fit into one transaction, as far as that was seen."""

    def none(self, part: Sequence[Pending], most: int, attempt: Attempt, *, is_committed: bool) -> int:
        """Learn from an attempt that went well; returns how many may be tried next, after so many."""
        if is_committed:
            self.blame.committed([place_of(one.delivery) for one in part], attempt.seconds)
        if len(part) == most and attempt.seconds < WELL_BELOW_S:
            most *= 2
            self.most = max(self.most, most)
        return most

    async def after(
        self, error: Exception, batch: Batch, part: Sequence[Pending], attempt: Attempt, conflicts: int
    ) -> bool:
        """Say whether half as many should be tried; a lone message comes to its end, or waits, where it is to blame.

        Raises `GiveBackError` when the database is away.
        """
        fault = fault_of(error)
        self.observer.retry(fault.value, "decide")
        if fault is Fault.TOO_SLOW and attempt.stood_still:
            fault = Fault.CONFLICT  # nobody was slow but this process, which was stopped
        if fault in {Fault.TRANSIENT, Fault.SCHEMA_MOVED}:
            raise GiveBackError(self.patience.database_away()) from error
        if len(part) == 1:
            await self._after_lone(fault, error, batch, part, conflicts)
        elif fault is not Fault.CONFLICT or conflicts >= CONFLICTS_BEFORE_HALVING:
            if fault is Fault.TOO_SLOW:
                self.most = len(part) // 2
            return True
        if fault is Fault.CONFLICT:
            await asyncio.sleep(self.patience.after_conflict(conflicts))
        return False

    async def _after_lone(
        self, fault: Fault, error: Exception, batch: Batch, part: Sequence[Pending], conflicts: int
    ) -> None:
        """End a message that failed by itself, where it is to blame; else it may be tried again, here or later."""
        delivery = part[0].delivery
        if fault is Fault.DEFECT:
            delivery.break_on(error, self.new_incident())
        elif fault is Fault.TOO_SLOW:
            await self._accuse(error, batch, part, TIMES_TOO_SLOW)
            batch.hold(delivery, self.patience.after_conflict(conflicts))
        else:
            if is_refused_write(error):
                await self._accuse(error, batch, part, REFUSED_WRITES)
            if conflicts >= CONFLICTS_BEFORE_WAITING:
                batch.hold(delivery, self.patience.after_conflict(conflicts))

    async def _accuse(self, error: Exception, batch: Batch, part: Sequence[Pending], failures: int) -> None:
        """End a lone message as a defect, where it is to blame for having failed so often, and the store knows nothing.

        Raises `GiveBackError` when the database is slow for everybody: that is an outage.
        """
        delivery = part[0].delivery
        try:
            culprit = await self.blame.culprit(place_of(delivery), failures)
        except Exception as away:
            raise GiveBackError(self.patience.database_away()) from away
        if culprit is Culprit.DATABASE:
            raise GiveBackError(self.patience.database_away()) from error
        if culprit is Culprit.MESSAGE:
            await self.inbox.look_again(batch, part)
            if delivery.end is None:
                delivery.break_on(error, self.new_incident())


def place_of(delivery: Delivery) -> LogPlace:
    """Return where a delivery stands in the log."""
    return delivery.record.topic, delivery.record.partition, delivery.record.offset
