"""Backfills and phases on the wire: what an operator may wish, and what is shown of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal

from pydantic import Field, StringConstraints

from contracts.envelope import Page, listed, retrieved, updated
from contracts.errors import BackfillNotFoundError, IllegalTransitionError
from contracts.kinds import DONE, UNCHANGED, Keys, Kind, Payload, Role, Version

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


RunState = Literal[
    "pending",
    "running",
    "pausing",
    "paused",
    "cancelling",
    "cancelled",
    "completed",
    "completed_with_quarantine",
    "failed",
]


@dataclass(frozen=True, kw_only=True)
class QuarantinedRow:
    """A row that was put aside: its key, column by column as text, and why."""

    key: Sequence[str]
    reason: str


@dataclass(frozen=True, kw_only=True)
class TimeSpent:
    """Where the workers' time went; `signal` is what held them up, where something did."""

    spent: str
    signal: str | None
    seconds: float


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """A run, or a verify, as it stands. Of what was never started `state` is null, and the figures are not there.

    `seconds_left` is an interval; `result` is what a dry run or a verify found, in a form of each; `events` are the
    moves that are legal now; `fraction` is of the estimate.
    """

    name: str
    state: RunState | None
    run_id: int = 0
    kind: Literal["work", "verify"] = "work"
    definition: str = ""
    reason: str | None = None
    events: Sequence[str] = ()
    reverse: bool = False
    dry_run: bool = False
    rate_cap_rows_per_s: float | None = None
    # `pass` in what is sent, a word that Python has for itself
    pass_: Annotated[int, Field(alias="pass")] = 1
    rows_estimated: int = 0
    rows_walked: int = 0
    rows_done: int = 0
    rows_quarantined: int = 0
    quarantine: Sequence[QuarantinedRow] = ()
    fraction: float = 0.0
    chunk_rows: int = 0
    chunks: Annotated[Mapping[str, int], Field(description="How many chunks there are, by state")] = Field(
        default_factory=dict
    )
    rows_per_s: float | None = None
    seconds_left: Annotated[Sequence[float], Field(min_length=2, max_length=2)] | None = None
    time: Sequence[TimeSpent] = ()
    trouble: str | None = None
    result: Mapping[str, Any] | None = None
    asked_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class SignalReading:
    """What a signal of the live traffic said last; `level` is its part of the budget."""

    signal: str
    value: float | None
    limit: float
    level: float | None
    trouble: str | None


@dataclass(frozen=True, kw_only=True)
class ThrottleResult:
    """How much of their time workers may run: `share` 1 without limit, 0 stopped, and the signal that says so."""

    level: float | None
    signal: str | None
    share: float
    sampled_s_ago: float | None
    readings: Sequence[SignalReading]


@dataclass(frozen=True, kw_only=True)
class BackfillWorkerResult:
    """A backfill worker, and whether it knows this definition; null where it does not tell."""

    worker: str
    run_id: int | None
    spent: str
    signal: str | None
    knows: bool | None


@dataclass(frozen=True, kw_only=True)
class BackfillResult(RunResult):
    """The last run of a backfill, and its verify. `waits_because` says why nobody takes it up."""

    summary: str = ""
    verify: RunResult | None = None
    throttle: ThrottleResult | None = None
    workers: Sequence[BackfillWorkerResult] = ()
    waits_because: str | None = None


@dataclass(frozen=True, kw_only=True)
class BackfillDetailResult(BackfillResult):
    """… and the change of the same name; null where there is none."""

    change: ChangeResult | None


@dataclass(frozen=True, kw_only=True)
class BackfillItem(RunResult):
    """A backfill in the list of all, with its last run."""

    summary: str
    table: str
    reversed_by: str | None
    irreversible: str | None
    reverse_of_another: bool
    known_by: Sequence[str]
    waits_because: str | None


class StartBackfill(Payload):
    """Ask for a run; with `dry_run` for a plan, an estimate, and one chunk that is rolled back."""

    name: Name
    dry_run: bool = False
    reverse: bool = False
    rate: RowsPerSecond | None = None


class NamedBackfill(Payload):
    """Name a backfill."""

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


_NAME: Final = "product_catalog"
_OTHER: Final = "customer_summaries"
_AT: Final = datetime(2026, 1, 31, 9, 30, tzinfo=UTC)
_RUN: Final[Mapping[str, Any]] = {
    "name": _NAME,
    "run_id": 1,
    "kind": "work",
    "definition": _NAME,
    "state": "pending",
    "reason": None,
    "events": ["cancel", "pause", "take"],
    "reverse": False,
    "dry_run": False,
    "rate_cap_rows_per_s": None,
    "pass": 1,
    "rows_estimated": 0,
    "rows_walked": 0,
    "rows_done": 0,
    "rows_quarantined": 0,
    "quarantine": [],
    "fraction": 0.0,
    "chunk_rows": 1000,
    "chunks": {},
    "rows_per_s": None,
    "seconds_left": None,
    "time": [],
    "trouble": None,
    "result": None,
    "asked_at": _AT,
    "started_at": None,
    "finished_at": None,
    "seconds": 0.0,
    "waits_because": "no backfill worker runs: start one with `catalog worker backfill`",
}
_SHOWN: Final[Mapping[str, Any]] = {
    **_RUN,
    "verify": None,
    "throttle": {"level": None, "signal": None, "share": 1.0, "sampled_s_ago": None, "readings": []},
    "workers": [],
}
_GIVEN_UP: Final[Mapping[str, Any]] = {
    **_SHOWN,
    "name": _OTHER,
    "definition": _OTHER,
    "state": "cancelled",
    "events": [],
    "waits_because": None,
}
_CHANGE: Final = ChangeResult(
    _NAME, "expanded", _AT, "catalog migrate", "dual_write", "waiting", reason=None, asked_by="olga", asked_at=_AT
)


_WISH: Final = Kind(
    name="pause_backfill",
    description="Let a run begin no more chunks; those in flight end within 2 s, or are rolled back",
    topic="commands",
    role=Role.OPERATOR,
    resource=RESOURCE,
    action="pause",
    versions=(Version(1, NamedBackfill, examples=({"name": _NAME},)),),
    key=(),
    result=BackfillResult,
    reply=updated(RESOURCE, _NAME, _SHOWN),
    errors=(BackfillNotFoundError, IllegalTransitionError),
    needs=("start_backfill",),
    keys=_steers,
)
"""The others say how they differ."""

COMMANDS = (
    replace(
        _WISH,
        name="start_backfill",
        description="Ask for a run of a backfill, or for a dry one; a backfill worker takes it up",
        action="start",
        versions=(Version(1, StartBackfill, examples=({"name": _NAME}, {"name": _OTHER, "rate": 1000})),),
        needs=(),
    ),
    _WISH,
    replace(
        _WISH,
        name="resume_backfill",
        description="Let a paused run go on",
        action="resume",
        needs=("pause_backfill",),
    ),
    replace(
        _WISH,
        name="cancel_backfill",
        description="End a run for good; what was committed stays",
        action="cancel",
        versions=(Version(1, NamedBackfill, examples=({"name": _OTHER},)),),
        reply=updated(RESOURCE, _OTHER, _GIVEN_UP),
    ),
    replace(
        _WISH,
        name="set_backfill_rate",
        description="Cap the rate of the active run, all workers together, or lift the cap",
        action="pace",
        versions=(Version(1, SetBackfillRate, examples=({"name": _NAME, "rows_per_s": 500},)),),
        reply=updated(RESOURCE, _NAME, {**_SHOWN, "rate_cap_rows_per_s": 500}),
    ),
    replace(
        _WISH,
        name="retry_backfill",
        description="Set a failed run going again, or one that ended with rows put aside",
        action="retry",
    ),
    replace(
        _WISH,
        name="verify_backfill",
        description="Ask for a verify of the last run, once that has ended, in whatever way",
        action="verify",
        versions=(Version(1, NamedBackfill, examples=({"name": _OTHER},)),),
        reply=updated(
            RESOURCE, _OTHER, {**_GIVEN_UP, "verify": {**_RUN, "name": _OTHER, "definition": _OTHER, "kind": "verify"}}
        ),
        needs=("cancel_backfill",),
    ),
    replace(
        _WISH,
        name="advance_phase",
        description="Ask for one step of a zero-downtime change, forth or back; a backfill worker takes it",
        action="advance",
        versions=(Version(1, AdvancePhase, examples=({"change": _NAME, "to": "dual_write"},)),),
        result=ChangeResult,
        answers=(DONE, UNCHANGED),
        reply=updated(RESOURCE, _NAME, _CHANGE),
        needs=(),
    ),
)

QUERIES = (
    Kind(
        name="get_backfill",
        description="The last run of a backfill with its verify, and the change of the same name",
        topic="queries",
        role=Role.OPERATOR,
        resource=RESOURCE,
        action="read",
        versions=(Version(1, NamedBackfill, examples=({"name": _NAME},)),),
        key=(),
        result=BackfillDetailResult,
        reply=retrieved(RESOURCE, {**_SHOWN, "change": _CHANGE}),
        errors=(BackfillNotFoundError,),
    ),
    Kind(
        name="list_backfills",
        description="Every backfill with its last run, by name, on one page",
        topic="queries",
        role=Role.OPERATOR,
        resource=RESOURCE,
        action="list",
        versions=(Version(1, ListBackfills, examples=({},)),),
        key=(),
        result=Page[BackfillItem],
        reply=listed(
            RESOURCE,
            Page(
                [
                    {
                        **_RUN,
                        "summary": "Fill the catalogue's new column from the old one",
                        "table": "products",
                        "reversed_by": "product_catalog_reverse",
                        "irreversible": None,
                        "reverse_of_another": False,
                        "known_by": [],
                    }
                ],
                1,
                1,
                1,
                has_more=False,
                next_cursor=None,
            ),
        ),
        errors=(),
    ),
)
