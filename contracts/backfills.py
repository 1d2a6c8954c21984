"""Backfills and phases on the wire: what an operator may wish, and what is shown of it."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from contracts.envelope import Page
from contracts.kinds import Keys, Kind, Payload, Role, Version

RESOURCE = "Backfill"

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
"""A backfill's or a change's name: the name of a Python module, short enough for Postgres."""
RowsPerSecond = Annotated[float, Field(ge=0.001, le=1e9, allow_inf_nan=False)]
"""At most so many rows a second, all workers together. The least is one row in a quarter of an hour."""
PhaseName = Literal["expanded", "dual_write", "backfilled", "reading_new", "contracted"]


@dataclass(frozen=True, slots=True)
class ChangeResult:
    """A zero-downtime change: where it stands, and what became of the last step that was asked for.

    `wish` is `waiting`, `done` or `refused`, with the reason; null where none was ever asked for.
    """

    change: str
    phase: str
    changed_at: datetime
    changed_by: str
    to: str | None
    wish: Literal["waiting", "done", "refused"] | None
    reason: str | None
    asked_by: str | None
    asked_at: datetime | None


class StartBackfill(Payload):
    """Ask for a run; with `dry_run` for a plan, an estimate, and one chunk that is rolled back."""

    name: Name
    dry_run: bool = False
    reverse: bool = False
    rate: RowsPerSecond | None = None


class NamedBackfill(Payload):
    """Name a backfill: to be paused, resumed, cancelled, retried, verified or shown."""

    name: Name


class SetBackfillRate(Payload):
    """Cap the rate of the active run; null lifts the cap."""

    name: Name
    rows_per_s: RowsPerSecond | None


class AdvancePhase(Payload):
    """Ask for one step of a change, forth or back."""

    change: Name
    to: PhaseName


class ListBackfills(Payload):
    """Ask for every backfill with the state of its last run."""


def _steers(_: object) -> Keys:
    """Declare no row: a run's are found by its state, so the command is a batch of its own."""
    return Keys(alone=True)


def _command(name: str, action: str, model: type[Payload], result: object = dict[str, Any]) -> Kind:
    return Kind(name, "commands", Role.OPERATOR, RESOURCE, action, (Version(1, model),), result=result, keys=_steers)


COMMANDS = (
    _command("start_backfill", "start", StartBackfill),
    _command("pause_backfill", "pause", NamedBackfill),
    _command("resume_backfill", "resume", NamedBackfill),
    _command("cancel_backfill", "cancel", NamedBackfill),
    _command("set_backfill_rate", "pace", SetBackfillRate),
    _command("retry_backfill", "retry", NamedBackfill),
    _command("verify_backfill", "verify", NamedBackfill),
    _command("advance_phase", "advance", AdvancePhase, ChangeResult),
)

QUERIES = (
    Kind(
        "get_backfill",
        "queries",
        Role.OPERATOR,
        RESOURCE,
        "read",
        (Version(1, NamedBackfill),),
        result=dict[str, Any],
    ),
    Kind("list_backfills", "queries", Role.OPERATOR, RESOURCE, "list", (Version(1, ListBackfills),), result=Page),
)
