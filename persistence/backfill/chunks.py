"""The work on a chunk: its transaction, and the one place where anything of a backfill is committed.

A chunk's transaction locks, treats, and writes the ledger row last, `where epoch = mine`. Whoever lost the lease,
because it was stopped, cut off or slow, gets no row there and rolls back: so no chunk is applied late or twice, and
while a chunk runs its ledger row is free for whoever must rescue it.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Any, Final, Protocol, TypeVar

from persistence.backfill.chunk_rows import Lease, Treated, finish
from persistence.backfill.definition import Assignments, Definition, Row, Statement, Transform
from persistence.backfill.failures import (
    ChunkFailure,
    RowFault,
    RowsArrivedError,
    WrongPhaseError,
    failure_of,
    in_one_line,
)
from persistence.backfill.keys import Bounds, Key
from persistence.backfill.walk import Walk
from persistence.engine import Connection, Engine, transaction
from persistence.phases import SHARED_LOCK

T = TypeVar("T")


async def commit(engine: Engine, work: Callable[[Connection], Awaitable[T]]) -> T:
    """Do work in a transaction with the time-outs that every one has, and commit it. The one commit of backfills."""
    async with transaction(engine) as connection:
        done = await work(connection)
        await connection.execute("commit")
        return done


class Labour(Protocol):
    """What is done to a range of rows inside a transaction."""

    async def __call__(self, connection: Connection, bounds: Bounds, spared: Sequence[Key]) -> Treated: ...


async def carry_out(
    engine: Engine, walk: Walk, lease: Lease, spared: Sequence[Key], *, counted: bool = True
) -> Treated:
    """Treat the rows of a leased chunk and write it off, in one transaction.

    Without `counted` nobody need know what the update passed over, and a row-local one is spared the lock. Raises what
    `failure_of` sorts; whatever is raised, nothing of the chunk has happened.
    """
    labour = _timed(labour_of(walk, counted=counted))

    async def work(connection: Connection) -> Treated:
        await _hold_phases(connection, walk.definition)
        treated = await labour(connection, lease.bounds, spared)
        await finish(connection, lease, treated)
        return treated

    return await commit(engine, work)


async def rehearse(engine: Engine, walk: Walk, bounds: Bounds) -> Treated:
    """Treat the rows of a range and roll it back."""
    async with transaction(engine) as connection:
        await _hold_phases(connection, walk.definition)
        return await _timed(labour_of(walk))(connection, bounds, ())


async def compare(engine: Engine, walk: Walk, lease: Lease, spared: Sequence[Key]) -> Treated:
    """Compare f(source) with the target over a leased chunk, in one snapshot that is let go, and write it off."""
    async with _snapshot(engine) as connection:
        treated = await _timed(comparison_of(walk))(connection, lease.bounds, spared)

    async def work(connection: Connection) -> Treated:
        await finish(connection, lease, treated)
        return treated

    return await commit(engine, work)


def _timed(labour: Labour) -> Labour:
    async def timed(connection: Connection, bounds: Bounds, spared: Sequence[Key]) -> Treated:
        began = time.monotonic()
        treated = await labour(connection, bounds, spared)
        return replace(treated, worked_s=time.monotonic() - began)

    return timed


def _snapshot(engine: Engine) -> AbstractAsyncContextManager[Connection]:
    return transaction(engine, "set transaction isolation level repeatable read, read only")


async def _hold_phases(connection: Connection, definition: Definition) -> None:
    """Keep the changes that the backfill belongs to where they are until the transaction ends.

    Raises `WrongPhaseError` where one of them is at a phase that the definition does not name.
    """
    if not definition.phases:
        return
    await connection.execute(SHARED_LOCK)
    for row in await connection.fetch(  # in the statement after the lock: within it, it may be outdated
        "select change, phase from schema_changes where change = any($1::text[])", list(definition.phases)
    ):
        if row["phase"] not in definition.phases[row["change"]]:
            raise WrongPhaseError(f"{row['change']} is {row['phase']}: this backfill waits")


# ------------------------------------------------------------------------------------------------------------- treating


def labour_of(walk: Walk, *, counted: bool = True) -> Labour:
    """Return how a definition's rows are treated; `counted` as in `carry_out`."""
    work = walk.definition.work
    match work:
        case Assignments():
            return _assignments(walk, work, counted=counted)
        case Statement():
            return _statement(walk, work)
        case Transform():
            return _transform(walk, work)


def _assignments(walk: Walk, work: Assignments, *, counted: bool) -> Labour:
    async def assign(connection: Connection, bounds: Bounds, spared: Sequence[Key]) -> Treated:
        sql, arguments = walk.assign(work, bounds, spared)
        if walk.definition.row_local and not counted:
            return Treated(_rows_of(await connection.execute(sql, *arguments)))
        locked = await _lock(connection, walk, bounds, spared)
        updated = _rows_of(await connection.execute(sql, *arguments))
        return await _updated(connection, walk, bounds, spared, updated, locked)

    return assign


async def _updated(
    connection: Connection, walk: Walk, bounds: Bounds, spared: Sequence[Key], updated: int, locked: int
) -> Treated:
    """Note what an update of locked rows passed over: a trigger or a rule of the table's has it so.

    That is a finding, and nothing that another try or a smaller chunk could change: the run goes on without them.
    """
    if updated >= locked:
        return Treated(_as_locked(updated, locked))
    sql, arguments = walk.a_row_left(bounds, spared)
    return Treated(updated, rows_left=locked - updated, sample_key=await connection.fetchval(sql, *arguments))


def _statement(walk: Walk, work: Statement) -> Labour:
    async def run(connection: Connection, bounds: Bounds, spared: Sequence[Key]) -> Treated:
        locked = await _lock(connection, walk, bounds, spared)
        sql, arguments = walk.statement(work, bounds, spared)
        if not walk.definition.consumes_source:
            return Treated(_as_locked(await connection.fetchval(sql, *arguments), locked))
        source, source_arguments = walk.digest_expected(bounds, spared)
        before = await connection.fetchrow(source, *source_arguments)
        treated = _as_locked(await connection.fetchval(sql, *arguments), locked)
        written, written_arguments = walk.digest_written(bounds)
        after = await connection.fetchrow(written, *written_arguments)
        if tuple(before) != tuple(after):
            raise RowFault(
                f"the target differs from what the source says: {before['rows']} rows read, {after['rows']} written"
            )
        return Treated(treated, before["digest"], after["digest"])

    return run


def _transform(walk: Walk, work: Transform) -> Labour:
    async def transform(connection: Connection, bounds: Bounds, spared: Sequence[Key]) -> Treated:
        locked = await _lock(connection, walk, bounds, spared)
        sql, arguments = walk.read(work, bounds, spared)
        columns = await _transformed(walk, work, await connection.fetch(sql, *arguments))
        _as_locked(len(columns[0]), locked)
        updated = _rows_of(await connection.execute(walk.write(work), *columns))
        return await _updated(connection, walk, bounds, spared, updated, locked)

    return transform


async def _transformed(walk: Walk, work: Transform, rows: Sequence[Sequence[str | None]]) -> list[list[str | None]]:
    """Call the author's function for each row, beside the event loop; returns columns: keys, then what it wrote."""
    keys = len(walk.shape.columns)
    made = await asyncio.to_thread(_call, work, [dict(zip(work.reads, row[keys:], strict=True)) for row in rows])
    return [
        *([row[place] for row in rows] for place in range(keys)),
        *([row[column] for row in made] for column in work.writes),
    ]


def _call(work: Transform, rows: Sequence[Row]) -> list[Row]:
    """Raises `RowFault` for the first row that the function does not take."""
    made: list[Row] = []
    for row in rows:
        try:
            new = work.function(row)
        except Exception as error:
            raise RowFault(f"transform: {in_one_line(error)}") from error
        if not isinstance(new, dict) or new.keys() != set(work.writes):
            raise RowFault(f"transform must return a dict of {', '.join(work.writes)}")
        made.append(new)
    return made


async def _lock(connection: Connection, walk: Walk, bounds: Bounds, spared: Sequence[Key]) -> int:
    """Lock what will be written, in a statement of its own: what the next statement reads is then true."""
    sql, arguments = walk.lock(bounds, spared)
    locked: int = await connection.fetchval(sql, *arguments)
    for also, also_arguments in walk.also_lock(bounds):
        await connection.fetchval(also, *also_arguments)
    return locked


def _as_locked(treated: int | None, locked: int) -> int:
    """Insist that exactly the locked rows were treated.

    More: a row came in after the lock; nobody holds it, so a live update could be lost. Fewer: the author's work passes
    over rows that meet the predicate, which would then be walked for ever.
    """
    if treated is None:
        raise RowFault("SQL must return one number: how many rows of the chunk it treated")
    if treated > locked:
        raise RowsArrivedError(f"{treated - locked} rows came in after the lock")
    if treated < locked:
        raise RowFault(f"only {treated} of {locked} rows were treated")
    return treated


def _rows_of(tag: str) -> int:
    """Read the number of rows out of a command tag, such as `UPDATE 3`."""
    return int(tag.rpartition(" ")[2])


# ------------------------------------------------------------------------------------------------------------ comparing


def comparison_of(walk: Walk) -> Labour:
    """Return how a definition's result is compared with its source."""
    work = walk.definition.work
    if walk.definition.consumes_source:
        return _count_left(walk)
    if isinstance(work, Transform):
        return _compare_transformed(walk, work)
    return _compare_in_sql(walk)


def _compare_in_sql(walk: Walk) -> Labour:
    async def compared(connection: Connection, bounds: Bounds, spared: Sequence[Key]) -> Treated:
        sql, arguments = walk.compare(bounds, spared)
        return _compared(await connection.fetchrow(sql, *arguments))

    return compared


def _count_left(walk: Walk) -> Labour:
    """The source is gone, and was compared in the transaction that took it: what is left to show is the predicate."""

    async def counted(connection: Connection, bounds: Bounds, spared: Sequence[Key]) -> Treated:
        sql, arguments = walk.left(bounds, spared)
        return _compared(await connection.fetchrow(sql, *arguments))

    return counted


def _compare_transformed(walk: Walk, work: Transform) -> Labour:
    async def compared(connection: Connection, bounds: Bounds, spared: Sequence[Key]) -> Treated:
        sql, arguments = walk.read_to_compare(work, bounds, spared)
        columns = await _transformed(walk, work, await connection.fetch(sql, *arguments))
        return _compared(await connection.fetchrow(walk.compare_transformed(work), *columns))

    return compared


def _compared(row: Any) -> Treated:  # noqa: ANN401 (a driver's record)
    return Treated(
        rows=row["rows"],
        expected_digest=row["expected"],
        actual_digest=row["actual"],
        rows_left=row["left"],
        rows_differing=row["differing"],
        sample_key=row["sample"],
    )


# ----------------------------------------------------------------------------------------------------------- estimating

COUNT_S: Final = 2.0
"""How long the rows may be counted at the beginning: 10 to 20 million of them."""
LOOK_S: Final = 10.0
"""How long one statement may look along a whole table in the end, as long as nobody needs the time: shorter than a
chunk may take, so no snapshot lives longer for it."""
LOOK_BESIDE_TRAFFIC_S: Final = 0.5
"""… while the throttle holds: what a chunk may take. Whatever takes longer is walked in chunks, which it paces."""
_LOOK_ALONE: Final = "select pg_try_advisory_xact_lock('backfill_runs'::regclass::oid::int, $1::bigint::int)"


def _along_table(at_most_s: float) -> Sequence[str]:
    return (
        f"set local statement_timeout = {int(at_most_s * 1000)}",
        "set local max_parallel_workers_per_gather = 0",  # the other cores are the live traffic's
    )


async def estimate_rows(engine: Engine, walk: Walk, *, beside_traffic: bool) -> int:
    """Count the table's rows, or estimate them as the planner does where counting takes too long.

    Beside live traffic any count does: it keeps a core busy for 100 ms per million rows, which the throttle could
    neither shorten nor spread.
    """
    if not beside_traffic:
        try:
            async with transaction(engine, *_along_table(COUNT_S)) as connection:
                return int(await connection.fetchval(walk.count_all()))
        except Exception as error:
            if getattr(error, "sqlstate", None) != "57014":
                raise
    async with transaction(engine) as connection:
        plan = await connection.fetchval(walk.plan_all())
    return int(plan[0]["Plan"]["Plan Rows"])


async def nothing_left(engine: Engine, run_id: int, walk: Walk, spared: Sequence[Key], at_most_s: float) -> bool | None:
    """Say whether no row of the table meets the predicate any more, in one snapshot; False where that takes too long.

    Along the table this costs a part of what another walk along the key does, which is what follows on False. One
    worker looks at a time: None says that another one does. A worker that is stopped meanwhile lets go within
    `at_most_s` and the idle time-out.
    """
    try:
        async with transaction(engine, *_along_table(at_most_s)) as connection:
            if not await connection.fetchval(_LOOK_ALONE, run_id):
                return None
            sql, arguments = walk.any_left(spared)
            return not await connection.fetchval(sql, *arguments)
    except Exception as error:
        if failure_of(error) in {ChunkFailure.TIME, ChunkFailure.DATA}:
            return False
        raise


async def count_left(engine: Engine, walk: Walk, bounds: Bounds) -> int:
    """Count the rows of a range that still meet the predicate."""
    async with transaction(engine) as connection:
        sql, arguments = walk.left(bounds, ())
        left: int = (await connection.fetchrow(sql, *arguments))["left"]
        return left
