"""The chunk rows of the ledger: planned, leased, renewed, given back, halved, put aside, finished.

Each is one statement. What a lease's holder changes names its epoch: when that has moved on, nothing happens.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from persistence.backfill.failures import LeaseLostError
from persistence.backfill.keys import Bounds, Key, KeyShape
from persistence.backfill.runs import FENCE_S, Run
from persistence.engine import Connection

LEASE_S: Final = 12.0
"""How long a lease lasts without a heartbeat. A dead worker's chunk is free after it, well within 30 s; a stopped one's
transaction is ended by its idle time-out (5 s) before."""
HEARTBEAT_S: Final = 2.0
"""How often a lease is renewed while its chunk runs: five chances before it runs out."""


@dataclass(frozen=True, slots=True)
class Lease:
    """A chunk that is ours until the epoch moves on."""

    chunk_id: int
    run_id: int
    epoch: int
    bounds: Bounds
    rows_walked: int
    attempts: int


@dataclass(frozen=True, slots=True)
class Treated:
    """What a chunk's work came to; `worked_s` is the time of the work alone, without lease, ledger and commit.

    `rows_left`: of work, those that the update passed over, as a trigger may have it; of a verify, those still to do.
    """

    rows: int
    expected_digest: int | None = None
    actual_digest: int | None = None
    rows_left: int | None = None
    rows_differing: int | None = None
    sample_key: Key | None = None
    worked_s: float = 0.0


_LEASED: Final = "id, run_id, epoch, low, high, rows_walked, attempts"
_CLAIM: Final = f"""
update backfill_chunks
set state = 'leased', epoch = epoch + 1, worker = $2, attempts = attempts + 1,
    leased_at = clock_timestamp(), lease_until = clock_timestamp() + make_interval(secs => {LEASE_S})
where id = (select c.id from backfill_chunks c join backfill_runs r on r.id = c.run_id
            where c.run_id = $1 and r.state = 'running'
              and (c.state = 'waiting' and c.not_before <= clock_timestamp()
                   or c.state = 'leased' and c.lease_until < clock_timestamp())
            order by c.id limit 1 for update of c skip locked)
returning {_LEASED}"""
_PLAN: Final = f"""
with moved as (
    update backfill_runs set walked_to = $4, walked = $4::text[] is null, chunk_rows = $7
    where id = $1 and pass = $2 and state = 'running' and not walked and walked_to is not distinct from $3::text[]
    returning id)
insert into backfill_chunks (run_id, pass, low, high, state, worker, leased_at, lease_until, attempts, rows_walked)
select id, $2, $3, $4, 'leased', $5, clock_timestamp(), clock_timestamp() + make_interval(secs => {LEASE_S}), 1, $6
from moved
returning {_LEASED}"""
_RENEW: Final = f"""
update backfill_chunks set lease_until = clock_timestamp() + make_interval(secs => {LEASE_S})
where id = $1 and epoch = $2 and state = 'leased'
returning id"""
FINISH: Final = f"""
update backfill_chunks c
set state = 'done', applied = c.applied + 1, rows_done = $3, expected_digest = $4, actual_digest = $5,
    rows_left = $6, rows_differing = $7, sample_key = $8, error = null,
    seconds = extract(epoch from clock_timestamp() - c.leased_at), finished_at = clock_timestamp()
from backfill_runs r
where c.id = $1 and c.epoch = $2 and c.state = 'leased' and r.id = c.run_id
  and (r.state = 'running'
       or r.state in ('pausing', 'cancelling')
          and clock_timestamp() < r.state_since + make_interval(secs => {FENCE_S}))
returning c.id"""
_GIVE_BACK: Final = """
update backfill_chunks
set state = 'waiting', epoch = epoch + 1, worker = null, lease_until = null, error = $3,
    not_before = clock_timestamp() + make_interval(secs => $4)
where id = $1 and epoch = $2 and state = 'leased'
returning id"""
_GIVE_BACK_ALL: Final = """
update backfill_chunks
set state = 'waiting', epoch = epoch + 1, worker = null, lease_until = null
where worker = $1 and state = 'leased'"""
_HALVE: Final = """
with cut as (
    update backfill_chunks
    set state = 'split', epoch = epoch + 1, worker = null, lease_until = null, error = $5,
        finished_at = clock_timestamp()
    where id = $1 and epoch = $2 and state = 'leased'
    returning run_id, pass, id, low, high)
insert into backfill_chunks (run_id, pass, parent_id, low, high, state, rows_walked)
select cut.run_id, cut.pass, cut.id, half.low, half.high, 'waiting', half.rows
from cut, lateral (values (1, cut.low, $3::text[], $4::bigint / 2),
                          (2, $3::text[], cut.high, $4::bigint - $4::bigint / 2)) as half (place, low, high, rows)
order by half.place
returning id"""
_PUT_ASIDE: Final = """
with closed as (
    update backfill_chunks
    set state = 'quarantined', epoch = epoch + 1, worker = null, lease_until = null, error = $4,
        finished_at = clock_timestamp()
    where id = $1 and epoch = $2 and state = 'leased'
    returning run_id)
insert into backfill_quarantine (run_id, key, reason)
select run_id, $3, $4 from closed
on conflict do nothing
returning id"""


def _lease(row: Any) -> Lease:  # noqa: ANN401 (a driver's record)
    return Lease(
        chunk_id=row["id"],
        run_id=row["run_id"],
        epoch=row["epoch"],
        bounds=Bounds(row["low"], row["high"]),
        rows_walked=row["rows_walked"],
        attempts=row["attempts"],
    )


async def claim(connection: Connection, run: Run, worker: str) -> Lease | None:
    """Lease a chunk that waits, or whose holder fell silent; None when there is none."""
    row = await connection.fetchrow(_CLAIM, run.id, worker)
    return None if row is None else _lease(row)


async def plan(
    connection: Connection, run: Run, worker: str, high: Key | None, rows_walked: int, chunk_rows: int
) -> Lease | None:
    """Move the run's walk on to `high` (None: to the end) and lease the chunk in between.

    None when somebody else planned first, or the run is no longer to be worked on: look at the run again.
    """
    row = await connection.fetchrow(
        _PLAN, run.id, run.pass_number, run.walked_to, high, worker, rows_walked, chunk_rows
    )
    return None if row is None else _lease(row)


async def renew(connection: Connection, lease: Lease) -> bool:
    """Say that the holder lives; False when the chunk is not its own any more."""
    return await connection.fetchval(_RENEW, lease.chunk_id, lease.epoch) is not None


async def finish(connection: Connection, lease: Lease, treated: Treated) -> None:
    """Write the chunk off: the last statement of its transaction. Raises `LeaseLostError`: it must not commit then."""
    done = await connection.fetchval(
        FINISH,
        lease.chunk_id,
        lease.epoch,
        treated.rows,
        treated.expected_digest,
        treated.actual_digest,
        treated.rows_left,
        treated.rows_differing,
        treated.sample_key,
    )
    if done is None:
        raise LeaseLostError(f"chunk {lease.chunk_id} is no longer leased at epoch {lease.epoch}")


async def give_back(connection: Connection, lease: Lease, pause_s: float, error: str | None) -> None:
    """Let anybody lease the chunk again after a pause. Nothing happens when it is not ours any more."""
    await connection.execute(_GIVE_BACK, lease.chunk_id, lease.epoch, error, pause_s)


async def give_back_all(connection: Connection, worker: str) -> None:
    """Free what a worker still holds: at its end, and when it finds the database again after an outage."""
    await connection.execute(_GIVE_BACK_ALL, worker)


async def halve(connection: Connection, lease: Lease, middle: Key, rows: int, error: str) -> bool:
    """Put two halves in the chunk's place, the second beginning at `middle`; False when it is not ours any more."""
    return await connection.fetchval(_HALVE, lease.chunk_id, lease.epoch, list(middle), rows, error) is not None


async def put_aside(connection: Connection, lease: Lease, key: Key, reason: str) -> bool:
    """Quarantine the only row of a chunk; False when it is not ours any more, or is aside already."""
    return await connection.fetchval(_PUT_ASIDE, lease.chunk_id, lease.epoch, list(key), reason) is not None


async def spared_keys(connection: Connection, run: Run, shape: KeyShape, bounds: Bounds) -> Sequence[Key]:
    """Return the keys of rows put aside within bounds, of a run and of the one that it verifies."""
    if run.quarantined == 0:
        return []
    key = f"({', '.join(shape.of_ledger('key'))})"
    given = [(sign, bound) for sign, bound in ((">=", bounds.low), ("<", bounds.high)) if bound is not None]
    within = [
        f"and {key} {sign} ({', '.join(shape.of_ledger(f'${place}::text[]'))})"
        for place, (sign, _) in enumerate(given, 2)
    ]
    rows = await connection.fetch(
        f"""
        select key from backfill_quarantine
        where run_id = any($1::bigint[]) and released_at is null {" ".join(within)}
        order by id""",
        [run.id, run.verifies],
        *bounds.arguments(),
    )
    return [row["key"] for row in rows]


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over the chunks of a run; the last one only over those of its present pass."""

    rows_done: int
    rows_done_in_pass: int
    rows_walked_in_pass: int


async def totals(connection: Connection, run: Run) -> Totals:
    """Add up what the finished chunks of a run walked and treated."""
    row = await connection.fetchrow(
        """
        select coalesce(sum(rows_done), 0)::bigint as done,
               coalesce(sum(rows_done) filter (where pass = $2), 0)::bigint as done_in_pass,
               coalesce(sum(rows_walked) filter (where pass = $2), 0)::bigint as walked_in_pass
        from backfill_chunks where run_id = $1 and state in ('done', 'quarantined')""",
        run.id,
        run.pass_number,
    )
    return Totals(row["done"], row["done_in_pass"], row["walked_in_pass"])


async def passed_over(connection: Connection, run: Run) -> tuple[int, Key | None]:
    """Return how many rows the present pass of a run passed over, and the key of one of them."""
    row = await connection.fetchrow(
        """
        select coalesce(sum(rows_left), 0)::bigint as rows, min(sample_key) as sample
        from backfill_chunks where run_id = $1 and pass = $2 and state = 'done'""",
        run.id,
        run.pass_number,
    )
    return row["rows"], row["sample"]


async def quarantined(connection: Connection, run_id: int) -> Sequence[Mapping[str, Any]]:
    """Return the rows put aside: key and reason, the first hundred."""
    rows = await connection.fetch(
        "select key, reason from backfill_quarantine where run_id = $1 and released_at is null order by id limit 100",
        run_id,
    )
    return [{"key": row["key"], "reason": row["reason"]} for row in rows]


async def trouble(connection: Connection, run_id: int) -> str | None:
    """Return why a chunk of the run is waiting to be tried again, if one is."""
    error: str | None = await connection.fetchval(
        """
        select error from backfill_chunks
        where run_id = $1 and state in ('waiting', 'leased') and error is not null order by id limit 1""",
        run_id,
    )
    return error


async def edge_along(
    connection: Connection, run: Run, walked: tuple[int, int], shape: KeyShape, rows: int
) -> tuple[Key | None, int]:
    """Find where a chunk of about `rows` rows ends, along the chunks of a pass that was walked to its end.

    `walked` are the run and the pass. Its chunks tile the key range, so following them does as well, and costs nothing
    per row.
    """
    order = ", ".join(["low is not null", *shape.of_ledger("low")])
    beyond = "true"
    if run.walked_to is not None:
        ours = ", ".join(shape.of_ledger("low"))
        start = ", ".join(shape.of_ledger("$4::text[]"))
        beyond = f"low is not null and ({ours}) >= ({start})"
    row = await connection.fetchrow(
        f"""
        select high, walked from (
            select high, sum(rows_walked) over (order by {order})::bigint as walked,
                   row_number() over (order by {order}) as place
            from backfill_chunks
            where run_id = $1 and pass = $2 and state in ('done', 'quarantined') and {beyond}) as along
        where walked >= $3 or high is null
        order by place limit 1""",
        *walked,
        rows,
        *([] if run.walked_to is None else [run.walked_to]),
    )
    return (None, 0) if row is None else (row["high"], row["walked"])


async def count_by_state(connection: Connection, run_id: int) -> Mapping[str, int]:
    """Count a run's chunks by state."""
    rows = await connection.fetch(
        "select state, count(*) as chunks from backfill_chunks where run_id = $1 group by state", run_id
    )
    return {row["state"]: row["chunks"] for row in rows}
