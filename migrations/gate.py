"""The gate before a contracting revision: nothing is taken away unless the data is in order, and nobody still uses it.

What counts is what stands in the tables (the rows, the backfill's chunks, a verify begun after the last step), never a
flag that says so. The gate opens, closes with its reason (`RefusedError`), or asks for patience (`NotYetError`, after
which the runner comes again). Told to finish inline, it does the work that is missing first.
"""

from typing import Final

from alembic import context

from migrations.safe_ddl import commit, look_up, offline, run, unhurried

PHASES: Final = ("expanded", "dual_write", "backfilled", "reading_new", "contracted")
"""In their order; the last one is where a contracting revision begins."""

_STANDING: Final = "select phase, cast(last_exclusive_at as text) as since from schema_changes where change = :change"
_BEHIND: Final = """
select string_agg(worker, ', ' order by worker) as workers
from worker_heartbeats
where phases ->> :change is distinct from :phase
    -- a worker that was silent for longer has no transaction open: they last 15 s at most
    and seen_at > now() - interval '15 seconds'"""
_REFUSAL: Final = "select schema_change_refusal(:change, 'contracted') as reason"
_UNFINISHED: Final = "select schema_change_unfinished(:change) as reason"
_SHARED_LOCK: Final = "select pg_advisory_xact_lock_shared(lock_key) from schema_changes where change = :change"
_EXCLUSIVE_LOCK: Final = "select pg_advisory_xact_lock(lock_key) from schema_changes where change = :change"
_STEP: Final = """
with moved as (
    update schema_changes
    set phase = :to, changed_at = clock_timestamp(), changed_by = :by, last_exclusive_at = clock_timestamp()
    where change = :change and phase = :phase and cast(last_exclusive_at as text) = :since
    returning change, changed_at)
insert into schema_change_log (change, from_phase, to_phase, changed_at, changed_by)
select change, :phase, :to, changed_at, :by from moved
returning id"""


class RefusedError(Exception):
    """The gate is closed; the text says why, for an operator."""


class NotYetError(Exception):
    """The gate may open by itself soon: workers have yet to follow, or somebody moved the phase meanwhile."""


def let_go(change: str, *, by: str, fill: str) -> None:
    """Bring a change to `contracted` through the gate; return when every live worker acts by it. Commits as it goes.

    Usually the change must be `reading_new` (or `contracted` already) and the backfill's evidence in the ledger. With
    `finish_inline` the steps that are left are taken one after the other, and `fill` does what the backfill has not
    done: a statement that treats the next rows after the key `:after` (null: from the start) at the phase `:phase` and
    returns the last of them as `last`, no row at the end. Then a look at every row is the evidence.

    Interrupted anywhere, it goes on from the phase it finds. Raises `RefusedError`, `NotYetError`.
    """
    if offline():
        run(f"-- the gate: go on only when this returns null\nselect schema_change_refusal('{change}', 'contracted')")
        return
    if not context.config.attributes.get("contracting"):
        raise RefusedError("contracting takes something away, so it has a command of its own")
    inline = bool(context.config.attributes.get("finish_inline"))
    while True:
        standing = look_up(_STANDING, change=change)
        if standing is None:
            raise RefusedError(f"there is no change {change}")
        _wait_for_workers(change, standing.phase)
        if inline:
            _finish(change, standing.phase, fill)
        else:
            _prove(_REFUSAL, change)
        if standing.phase == PHASES[-1]:
            return
        after = PHASES[PHASES.index(standing.phase) + 1] if inline else PHASES[-1]
        _step(change, standing.phase, standing.since, after, by)


def take_back(change: str, *, by: str) -> None:
    """Go from `contracted` to `reading_new` in the revision's transaction, which must make the old column again.

    From its commit on, every write goes to both columns; what was written before is the downgrade's to fill in. Does
    nothing where an interrupted downgrade got as far.
    """
    if offline():
        run(f"update schema_changes set phase = 'reading_new' where change = '{change}'")  # noqa: S608 (a revision's own name)
        return
    standing = look_up(_STANDING, change=change)
    if standing is not None and standing.phase == PHASES[-1]:
        _exclusively(change, standing.phase, standing.since, PHASES[-2], by)


def _wait_for_workers(change: str, phase: str) -> None:
    behind = look_up(_BEHIND, change=change, phase=phase)
    if behind is not None and behind.workers is not None:
        raise NotYetError(f"{change} is {phase}, but not for these live workers: {behind.workers}")


def _finish(change: str, phase: str, fill: str) -> None:
    if phase == PHASES[0]:
        return  # nobody writes the new column yet: whatever is filled in may be outdated at once
    after = None
    while True:
        commit()
        look_up(_SHARED_LOCK, change=change)
        standing = look_up(_STANDING, change=change)  # in the statement after the lock: within it, it may be outdated
        if standing is None or standing.phase != phase:
            raise NotYetError(f"somebody else moved {change} meanwhile")
        batch = look_up(fill, after=after, phase=phase)
        if batch is None:
            break
        after = batch.last
    _prove(_UNFINISHED, change)


def _prove(question: str, change: str) -> None:
    with unhurried():
        answer = look_up(question, change=change)
    if answer is not None and answer.reason is not None:
        raise RefusedError(f"{change} cannot be contracted: {answer.reason}")


def _step(change: str, phase: str, since: str, to: str, by: str) -> None:
    _exclusively(change, phase, since, to, by)
    commit()


def _exclusively(change: str, phase: str, since: str, to: str, by: str) -> None:
    look_up(_EXCLUSIVE_LOCK, change=change)
    if look_up(_STEP, change=change, phase=phase, since=since, to=to, by=by) is None:
        raise NotYetError(f"somebody else moved {change} meanwhile")
