"""The states of a backfill's run, and the legal ways from one to another: one table, a sentence for each edge."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from contracts.errors import IllegalTransitionError


class RunState(StrEnum):
    """Where a run stands."""

    PENDING = "pending"
    """Asked for; no worker has taken it up."""
    RUNNING = "running"
    """Workers lease its chunks."""
    PAUSING = "pausing"
    """No chunk is leased any more; those in flight end, or are cancelled."""
    PAUSED = "paused"
    """Nothing of it is in flight."""
    CANCELLING = "cancelling"
    """As `pausing`, for good."""
    CANCELLED = "cancelled"
    """Ended by an operator; what was committed stays."""
    COMPLETED = "completed"
    """Every row was treated; of a verify: and everything is in order."""
    COMPLETED_WITH_QUARANTINE = "completed_with_quarantine"
    """Every row was treated but those put aside, each with its reason."""
    FAILED = "failed"
    """Stopped by itself; the reason says why. Of a verify: something is not in order."""


class Event(StrEnum):
    """What moves a run: an operator's wish, or what the workers find."""

    TAKE = "take"
    PAUSE = "pause"
    RESUME = "resume"
    CANCEL = "cancel"
    DRAIN = "drain"
    FINISH = "finish"
    FINISH_WITH_QUARANTINE = "finish_with_quarantine"
    STOP = "stop"
    RETRY = "retry"


@dataclass(frozen=True, slots=True)
class Edge:
    """One legal transition, and what makes it right."""

    source: RunState
    event: Event
    target: RunState
    sentence: str


EDGES: Final[Sequence[Edge]] = (
    Edge(RunState.PENDING, Event.TAKE, RunState.RUNNING, "A worker found it and estimated its rows."),
    Edge(RunState.PENDING, Event.PAUSE, RunState.PAUSED, "Nothing had begun, so it is paused at once."),
    Edge(RunState.PENDING, Event.CANCEL, RunState.CANCELLED, "Nothing had begun, so nothing is left behind."),
    Edge(RunState.PENDING, Event.STOP, RunState.FAILED, "It cannot be carried out at all: the reason says why."),
    Edge(RunState.RUNNING, Event.PAUSE, RunState.PAUSING, "No further chunk begins; those in flight have 1.5 s left."),
    Edge(
        RunState.RUNNING, Event.CANCEL, RunState.CANCELLING, "No further chunk begins; those in flight have 1.5 s left."
    ),
    Edge(
        RunState.RUNNING,
        Event.FINISH,
        RunState.COMPLETED,
        "A look at every row, after the walk, found nothing left to do.",
    ),
    Edge(
        RunState.RUNNING,
        Event.FINISH_WITH_QUARANTINE,
        RunState.COMPLETED_WITH_QUARANTINE,
        "A look at every row, after the walk, found nothing left to do but the rows put aside.",
    ),
    Edge(
        RunState.RUNNING, Event.STOP, RunState.FAILED, "Too many rows failed, or it cannot go on: the reason says why."
    ),
    Edge(RunState.PAUSING, Event.DRAIN, RunState.PAUSED, "The last chunk in flight was committed or rolled back."),
    Edge(RunState.PAUSING, Event.RESUME, RunState.RUNNING, "The pause is taken back; chunks in flight go on."),
    Edge(RunState.PAUSING, Event.CANCEL, RunState.CANCELLING, "It will not go on; chunks in flight end as they would."),
    Edge(RunState.PAUSED, Event.RESUME, RunState.RUNNING, "Workers lease chunks again, from where it stood."),
    Edge(RunState.PAUSED, Event.CANCEL, RunState.CANCELLED, "Nothing is in flight, so it ends at once."),
    Edge(
        RunState.CANCELLING, Event.DRAIN, RunState.CANCELLED, "The last chunk in flight was committed or rolled back."
    ),
    Edge(RunState.FAILED, Event.RETRY, RunState.RUNNING, "The cause was removed: rows put aside are tried again, too."),
    Edge(RunState.FAILED, Event.CANCEL, RunState.CANCELLED, "The operator gives it up."),
    Edge(
        RunState.COMPLETED_WITH_QUARANTINE,
        Event.RETRY,
        RunState.RUNNING,
        "The rows put aside were repaired: another walk treats them.",
    ),
)

ACTIVE: Final = frozenset({RunState.PENDING, RunState.RUNNING, RunState.PAUSING, RunState.PAUSED, RunState.CANCELLING})
"""The states of a run that has not ended: a backfill has at most one such run."""


def step(state: RunState, event: Event) -> RunState:
    """Return the state that follows. Raises `IllegalTransitionError`, which lists the legal events."""
    for edge in EDGES:
        if edge.source == state and edge.event == event:
            return edge.target
    legal = sorted(edge.event for edge in EDGES if edge.source == state)
    raise IllegalTransitionError(
        f"a backfill that is {state} does not take '{event}'",
        {"state": str(state), "legal": [str(one) for one in legal]},
    )
