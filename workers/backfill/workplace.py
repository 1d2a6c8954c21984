"""What the parts of a backfill worker share: its configuration, its time sheet, and what it remembers of runs."""

import asyncio
import os
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from migrations import backfills
from persistence.backfill.accounts import Spell, Spent
from persistence.backfill.definition import Definition
from persistence.backfill.runs import Run
from persistence.backfill.walk import Walk, read_walk
from persistence.engine import Connection, Engine
from workers.backfill.metrics import BackfillMetrics
from workers.backfill.pacing import Pace
from workers.backfill.throttle import Throttle
from workers.backfill.timesheet import Timesheet

IDLE_POLL_S: Final = 1.0
"""How often an idle worker looks without being woken."""
BUSY_POLL_S: Final = 0.25
"""How often it looks while it waits for others, watches its own chunk, or is held and the next sample is due."""
BACK_OFF_S: Final = 0.2
LONGEST_BACK_OFF_S: Final = 5.0
"""First and longest pause after something transient; random between half and all of it."""

RELEASED: Final = Path(backfills.__file__).parent
"""The definitions of this release."""
APPLICATION_NAME: Final = "catalog-backfill"
"""Begins the name of every session of a backfill worker: the throttle tells them from the live traffic by it."""


@dataclass(frozen=True, slots=True)
class FailureLimits:
    """When a run stops by itself: more rows put aside than `floor`, and than `share` of those walked.

    A thousandth of the rows may be damaged in any table that is old enough; a backfill that fails more often was not
    understood when it was written. The floor lets a small table have a few.
    """

    floor: int = 20
    share: float = 0.001

    def too_many(self, quarantined: int, walked: int) -> bool:
        """Say whether so many rows put aside are too many."""
        return quarantined > max(self.floor, self.share * walked)


@dataclass(frozen=True, slots=True)
class BackfillWorkerConfig:
    """A backfill worker. `worker` names the process in the ledger; a suffix makes it unique."""

    database_url: str
    worker: str
    definitions: Path = RELEASED
    throttle: Throttle = field(default_factory=Throttle)
    failures: FailureLimits = field(default_factory=FailureLimits)
    database_cores: int = field(default_factory=lambda: os.cpu_count() or 1)
    keep_ledger_days: float = 30.0
    metrics: BackfillMetrics | None = None


@dataclass(slots=True)
class Workplace:
    """One worker's. What is remembered of a run only spares looking it up again; the ledger decides."""

    config: BackfillWorkerConfig
    definitions: Mapping[str, Definition]
    engine: Engine
    worker: str
    stop: asyncio.Event
    time: Timesheet
    walks: dict[int, Walk] = field(default_factory=dict)
    paces: dict[int, Pace] = field(default_factory=dict)
    looked_at: dict[int, int] = field(default_factory=dict)
    """Keys in the largest chunk that was looked back at, by run."""

    async def walk(self, connection: Connection, run: Run) -> Walk:
        """Return the SQL of a run's definition. Raises `DefinitionError` where that does not fit the schema."""
        if run.id not in self.walks:
            self.walks[run.id] = await read_walk(connection, self.definitions[run.definition])
        return self.walks[run.id]

    def pace(self, run: Run, walk: Walk) -> Pace:
        """Return this worker's pace at a run; it begins at the size that was planned last by anybody."""
        if run.id not in self.paces:
            most = walk.definition.max_rows
            self.paces[run.id] = Pace(rows=min(run.chunk_rows, most), most_rows=most)
        return self.paces[run.id]

    def forget_all_but(self, run_ids: frozenset[int]) -> None:
        """Let go of what is remembered of other runs."""
        for remembered in (self.walks, self.paces, self.looked_at):
            for run_id in remembered.keys() - run_ids:
                del remembered[run_id]

    def turn_to(self, spent: Spent, run: Run, signal: str = "") -> bool:
        """Begin a spell of time; False when this one goes on."""
        spell = Spell(spent, run.id, signal)
        if self.time.spell == spell:
            return False
        self.time.turn_to(spell)
        return True


def back_off_s(failures: int) -> float:
    """Return the pause after so many failures in a row."""
    longest = min(BACK_OFF_S * 2 ** min(failures - 1, 16), LONGEST_BACK_OFF_S)
    return random.uniform(longest / 2, longest)  # noqa: S311 (jitter, no secret)
