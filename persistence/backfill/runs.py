"""The runs of backfills: their row in the ledger, and how it goes from state to state.

Every change is one statement that names the state it starts from, so that it happens once, whoever asks, and fits into
anybody's transaction (a command's batch, a tool's own).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from persistence.backfill.definition import Definition
from persistence.backfill.keys import Key
from persistence.backfill.states import ACTIVE, Event, RunState, step
from persistence.engine import Connection

GRACE_S: Final = 1.5
"""How long a chunk in flight may go on after a pause or cancel was asked for; then its worker cancels it."""
FENCE_S: Final = 1.9
"""After this long its last statement is refused, and its lease may be revoked: so within 2 s nothing moves any more."""
FIRST_CHUNK_ROWS: Final = 1_000
"""The first chunk of a run: at the slowest rate worth a backfill (a few thousand rows/s) it takes under a second."""

FIRST_VERIFY_ROWS: Final = 20_000
"""The first chunk of a verify: comparing takes a few microseconds a row, so a tenth of a second or less."""

CHANNEL: Final = "catalog_backfill"
"""Notified when a run was asked for, or its state or rate changed."""

WORK: Final = "work"
VERIFY: Final = "verify"


@dataclass(frozen=True, slots=True)
class Run:
    """A run as its row stands; times are ages in seconds by the database's clock."""

    id: int
    name: str
    kind: str
    definition: str
    definition_digest: str
    reverse: bool
    dry_run: bool
    verifies: int | None
    state: RunState
    reason: str | None
    rate_rows_per_s: float | None
    pass_number: int
    walked_to: Key | None
    walked: bool
    chunk_rows: int
    rows_estimated: int | None
    idle_row_s: float | None
    result: Mapping[str, Any] | None
    asked_at: str
    started_at: str | None
    finished_at: str | None
    state_age_s: float
    age_s: float
    """Since it was started; until its end, where it has ended."""
    quarantined: int
    """Rows put aside and not released: the run's own, and those of the run that it verifies."""
    claimable: bool
    """A chunk waits to be leased, or its lease has run out."""


def _iso(column: str) -> str:
    return f"to_char(r.{column} at time zone 'utc', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"') as {column}"


_RUN: Final = f"""
select r.id, r.name, r.kind, r.definition, r.definition_digest, r.reverse, r.dry_run, r.verifies, r.state, r.reason,
       r.rate_rows_per_s, r.pass, r.walked_to, r.walked, r.chunk_rows, r.rows_estimated, r.idle_row_s,
       r.result::text as result, {_iso("asked_at")}, {_iso("started_at")}, {_iso("finished_at")},
       extract(epoch from clock_timestamp() - r.state_since)::float8 as state_age_s,
       coalesce(extract(epoch from coalesce(r.finished_at, clock_timestamp()) - r.started_at), 0)::float8 as age_s,
       (select count(*) from backfill_quarantine q
        where q.run_id in (r.id, r.verifies) and q.released_at is null) as quarantined,
       exists (select from backfill_chunks c
               where c.run_id = r.id
                 and (c.state = 'waiting' and c.not_before <= clock_timestamp()
                      or c.state = 'leased' and c.lease_until < clock_timestamp())) as claimable
from backfill_runs r"""
_ACTIVE: Final = f"{_RUN} where r.state in ('pending', 'running', 'pausing', 'paused', 'cancelling') order by r.id"
_BY_ID: Final = f"{_RUN} where r.id = $1"
_NEWEST: Final = f"{_RUN} where r.name = $1 and r.kind = 'work' and ($2 or not r.dry_run) order by r.id desc limit 1"
_NEWEST_VERIFY: Final = f"{_RUN} where r.verifies = $1 order by r.id desc limit 1"
_NEWEST_OF_EACH: Final = f"""{_RUN}
where r.id in (select max(id) from backfill_runs where kind = 'work' group by name) order by r.name"""

_ASK: Final = """
insert into backfill_runs
    (name, kind, definition, definition_digest, reverse, dry_run, verifies, state, rate_rows_per_s, chunk_rows)
values ($1, $2, $3, $4, $5, $6, $7, 'pending', $8, $9)
on conflict do nothing
returning id"""
_MOVE: Final = """
update backfill_runs
set state = $3, reason = $4, state_since = clock_timestamp(),
    finished_at = case when $3 = any($5::text[]) then null else clock_timestamp() end
where id = $1 and state = $2
returning id"""
_TAKE: Final = """
update backfill_runs
set state = 'running', state_since = clock_timestamp(), started_at = clock_timestamp(), rows_estimated = $2,
    reason = null
where id = $1 and state = 'pending'
returning id"""
_OPEN: Final = "select from backfill_chunks c where c.run_id = $1 and c.state in ('waiting', 'leased')"
_NEXT_PASS: Final = f"""
update backfill_runs
set pass = pass + 1, walked = false, walked_to = null
where id = $1 and pass = $2 and walked and state = 'running' and not exists ({_OPEN})
returning id"""
_END: Final = f"""
update backfill_runs
set state = $3, reason = $4, result = coalesce($5::text::jsonb, result), state_since = clock_timestamp(),
    finished_at = clock_timestamp()
where id = $1 and pass = $2 and walked and state = 'running' and not exists ({_OPEN})
returning id"""
_REVOKE: Final = """
update backfill_chunks
set state = 'waiting', epoch = epoch + 1, worker = null, lease_until = null
where id in (select id from backfill_chunks
             where run_id = $1 and state = 'leased' and ($2::boolean or lease_until < clock_timestamp())
             for update skip locked)"""
_DRAINED: Final = """
update backfill_runs
set state = $3, state_since = clock_timestamp(),
    finished_at = case when $3 = 'cancelled' then clock_timestamp() end
where id = $1 and state = $2
  and not exists (select from backfill_chunks c where c.run_id = $1 and c.state = 'leased')
returning id"""
_RETRY: Final = """
with released as (
    update backfill_quarantine set released_at = clock_timestamp() where run_id = $1 and released_at is null),
again as (
    update backfill_chunks set state = 'waiting', epoch = epoch + 1, worker = null, lease_until = null,
           attempts = 0, not_before = '-infinity'
    where run_id = $1 and state in ('waiting', 'leased'))
update backfill_runs
set state = $3, reason = null, state_since = clock_timestamp(), finished_at = null,
    pass = case when walked then pass + 1 else pass end,
    walked_to = case when walked then null else walked_to end,
    walked = false
where id = $1 and state = $2
returning id"""


def _run(row: Any) -> Run:  # noqa: ANN401 (a driver's record)
    return Run(
        id=row["id"],
        name=row["name"],
        kind=row["kind"],
        definition=row["definition"],
        definition_digest=row["definition_digest"],
        reverse=row["reverse"],
        dry_run=row["dry_run"],
        verifies=row["verifies"],
        state=RunState(row["state"]),
        reason=row["reason"],
        rate_rows_per_s=row["rate_rows_per_s"],
        pass_number=row["pass"],
        walked_to=row["walked_to"],
        walked=row["walked"],
        chunk_rows=row["chunk_rows"],
        rows_estimated=row["rows_estimated"],
        idle_row_s=row["idle_row_s"],
        result=None if row["result"] is None else json.loads(row["result"]),
        asked_at=row["asked_at"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
        state_age_s=row["state_age_s"],
        age_s=row["age_s"],
        quarantined=row["quarantined"],
        claimable=row["claimable"],
    )


async def active_runs(connection: Connection) -> Sequence[Run]:
    """Return the runs that have not ended, oldest first."""
    return [_run(row) for row in await connection.fetch(_ACTIVE)]


async def run_by_id(connection: Connection, run_id: int) -> Run:
    """Return a run that is known to exist."""
    return _run(await connection.fetchrow(_BY_ID, run_id))


async def newest_run(connection: Connection, name: str, *, dry_runs: bool = True) -> Run | None:
    """Return the last run of a backfill that did its work (or rehearsed it), if there was one."""
    row = await connection.fetchrow(_NEWEST, name, dry_runs)
    return None if row is None else _run(row)


async def newest_verify(connection: Connection, run_id: int) -> Run | None:
    """Return the last verify of a run, if there was one."""
    row = await connection.fetchrow(_NEWEST_VERIFY, run_id)
    return None if row is None else _run(row)


async def newest_runs(connection: Connection) -> Sequence[Run]:
    """Return the last run of each backfill that ever ran, by name."""
    return [_run(row) for row in await connection.fetch(_NEWEST_OF_EACH)]


async def ask_for_work(
    connection: Connection,
    name: str,
    definition: Definition,
    *,
    reverse: bool,
    dry_run: bool,
    rate_rows_per_s: float | None,
) -> int | None:
    """Ask for a run; returns its id, or None while another one of this backfill is active."""
    return await _ask(
        connection,
        (name, WORK, definition.name, definition.digest, reverse, dry_run, None, rate_rows_per_s, FIRST_CHUNK_ROWS),
    )


async def ask_for_verify(connection: Connection, verified: Run) -> int | None:
    """Ask for a verify of a run; returns its id, or None while another run of this backfill is active."""
    return await _ask(
        connection,
        (
            verified.name,
            VERIFY,
            verified.definition,
            verified.definition_digest,
            verified.reverse,
            False,
            verified.id,
            verified.rate_rows_per_s,
            min(verified.chunk_rows, FIRST_VERIFY_ROWS),
        ),
    )


async def _ask(connection: Connection, values: tuple[object, ...]) -> int | None:
    run_id: int | None = await connection.fetchval(_ASK, *values)
    if run_id is not None:
        await notify(connection)
    return run_id


async def notify(connection: Connection) -> None:
    """Wake every worker when this transaction commits."""
    await connection.execute(f"select pg_notify('{CHANNEL}', '')")


async def move(connection: Connection, run: Run, event: Event, reason: str | None = None) -> bool:
    """Take a run along an edge; False when it has left the state it was seen in: look again.

    Raises `IllegalTransitionError` where there is no such edge.
    """
    target = step(run.state, event)
    moved = await connection.fetchval(_MOVE, run.id, run.state, target, reason, sorted(ACTIVE))
    if moved is not None:
        await notify(connection)
    return moved is not None


async def take(connection: Connection, run: Run, rows_estimated: int) -> bool:
    """Begin a pending run; False when somebody else has."""
    step(run.state, Event.TAKE)
    return await connection.fetchval(_TAKE, run.id, rows_estimated) is not None


async def retry(connection: Connection, run: Run) -> bool:
    """Set an ended run going again: rows put aside are released, and the key is walked once more."""
    target = step(run.state, Event.RETRY)
    moved = await connection.fetchval(_RETRY, run.id, run.state, target)
    if moved is not None:
        await notify(connection)
    return moved is not None


async def set_rate(connection: Connection, run: Run, rows_per_s: float | None) -> None:
    """Cap the rate of a run, all workers together; None lifts the cap. Holds from the next chunk on."""
    await connection.execute(
        "update backfill_runs set rate_rows_per_s = $2, rate_free_at = '-infinity' where id = $1", run.id, rows_per_s
    )
    await notify(connection)


async def reserve_rate(connection: Connection, run: Run, rows: int) -> float:
    """Take `rows` out of the run's rate; returns 0, or the seconds to wait before asking again."""
    taken = await connection.fetchval(
        """
        update backfill_runs
        set rate_free_at = greatest(rate_free_at, clock_timestamp()) + make_interval(secs => $2 / rate_rows_per_s)
        where id = $1 and rate_rows_per_s is not null and rate_free_at <= clock_timestamp()
        returning id""",
        run.id,
        float(rows),
    )
    if taken is not None:
        return 0.0
    wait_s: float | None = await connection.fetchval(
        """
        select greatest(extract(epoch from rate_free_at - clock_timestamp()), 0.001)::float8
        from backfill_runs where id = $1 and rate_rows_per_s is not null""",
        run.id,
    )
    return wait_s or 0.0


async def all_closed(connection: Connection, run: Run) -> bool:
    """Say whether the present pass is walked to its end and none of the run's chunks is open."""
    closed: bool = await connection.fetchval(
        f"select walked and not exists ({_OPEN}) from backfill_runs where id = $1 and pass = $2",
        run.id,
        run.pass_number,
    )
    return bool(closed)


async def next_pass(connection: Connection, run: Run) -> bool:
    """Walk the key once more; False when this pass is not over, or somebody else began the next."""
    return await connection.fetchval(_NEXT_PASS, run.id, run.pass_number) is not None


async def end(
    connection: Connection, run: Run, event: Event, reason: str | None = None, result: Mapping[str, Any] | None = None
) -> bool:
    """End a run whose last pass is over; False when it is not, or somebody else ended it."""
    target = step(run.state, event)
    encoded = None if result is None else json.dumps(result)
    ended = await connection.fetchval(_END, run.id, run.pass_number, target, reason, encoded)
    if ended is not None:
        await notify(connection)
    return ended is not None


async def drain(connection: Connection, run: Run) -> bool:
    """Let a pausing or cancelling run come to rest once no chunk of it is leased; say whether it has.

    When its time is over, leases are revoked: a worker that was stopped finds its epoch gone. A chunk whose ledger row
    is locked is about to be committed, or its session about to be ended by a time-out: then the run waits for that.
    """
    target = step(run.state, Event.DRAIN)
    await connection.execute(_REVOKE, run.id, run.state_age_s > FENCE_S)
    drained = await connection.fetchval(_DRAINED, run.id, run.state, target)
    if drained is not None:
        await notify(connection)
    return drained is not None


async def walked_before(connection: Connection, run: Run) -> tuple[int, int] | None:
    """Return the run and pass whose chunks a walk may follow: its own pass before, or the last of a verified run."""
    if run.pass_number > 1:
        return run.id, run.pass_number - 1
    if run.verifies is None:
        return None
    row = await connection.fetchrow(
        "select id, pass from backfill_runs where id = $1 and state in ('completed', 'completed_with_quarantine')",
        run.verifies,
    )
    return None if row is None else (row["id"], row["pass"])


async def state_of(connection: Connection, run_id: int) -> tuple[RunState, float]:
    """Return a run's state and how long it has been in it, in seconds."""
    row = await connection.fetchrow(
        """
        select state, extract(epoch from clock_timestamp() - state_since)::float8 as age_s
        from backfill_runs where id = $1""",
        run_id,
    )
    return RunState(row["state"]), row["age_s"]


async def note_reason(connection: Connection, run: Run, reason: str) -> None:
    """Say why a run does not go on, though its state is the same."""
    await connection.execute("update backfill_runs set reason = $2 where id = $1", run.id, reason)


async def note_idle_row(connection: Connection, run: Run, seconds: float) -> None:
    """Note how long a look at a row takes that has nothing left to do."""
    await connection.execute("update backfill_runs set idle_row_s = $2 where id = $1", run.id, seconds)


async def conclude_dry_run(connection: Connection, run: Run, result: Mapping[str, Any]) -> None:
    """End a dry run with its estimate; the chunk that was tried leaves the ledger."""
    target = step(run.state, Event.FINISH)
    await connection.execute(
        """
        with tried as (delete from backfill_chunks where run_id = $1)
        update backfill_runs
        set state = $2, result = $3::text::jsonb, state_since = clock_timestamp(), finished_at = clock_timestamp()
        where id = $1 and state = 'running'""",
        run.id,
        target,
        json.dumps(result),
    )
    await notify(connection)
