"""The chunk in hand: carried out under watch, and what becomes of it when it fails."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import structlog

from persistence.backfill import chunk_rows, chunks, runs
from persistence.backfill.accounts import Spent
from persistence.backfill.chunk_rows import HEARTBEAT_S, Lease, Treated
from persistence.backfill.failures import ChunkFailure, failure_of, in_one_line
from persistence.backfill.keys import Key
from persistence.backfill.runs import GRACE_S, Run
from persistence.backfill.states import Event, RunState
from persistence.backfill.walk import Walk
from persistence.engine import connected
from persistence.faults import Fault, fault_of
from persistence.observed_time import ObservedClock
from workers.backfill.metrics import DONE
from workers.backfill.workplace import BUSY_POLL_S, Workplace, back_off_s

PATIENCE: Final = 5
"""Attempts after which a chunk that keeps failing for passing reasons (a lock that others hold, rows that keep coming
in) is halved: what stands in the way is then in one half only."""
DRAIN_S: Final = 1.5
"""How long a chunk may go on when the worker is told to stop; then it is cancelled and left to others."""
LOOK_GROWTH: Final = 4
"""The time of a look at rows that are done is measured anew on a chunk this many times the last one measured."""

_log = structlog.get_logger(__name__)


class _UnwantedError(Exception):
    """The chunk was cancelled by its own worker; the text says why."""


async def labour(place: Workplace, run: Run, walk: Walk, lease: Lease, target: float, led_here_s: float) -> None:
    """Carry a chunk out; then learn from it, or deal with its failure. Raises what means that the database is away.

    It is meant to take `target` seconds; to get to it took `led_here_s`.
    """
    began = time.monotonic()
    try:
        treated = await _watched(place, run, walk, lease)
    except _UnwantedError as error:
        _log.info("backfill_chunk_cancelled", backfill=run.name, chunk=lease.chunk_id, reason=str(error))
        await _give_back(place, lease, 0.0, None)
        return
    except Exception as error:  # noqa: BLE001 (sorted there)
        await _failed(place, run, walk, lease, error)
        return
    took_s = time.monotonic() - began
    beside_s = led_here_s + took_s - treated.worked_s
    place.pace(run, walk).measured(lease.rows_walked, treated.worked_s, target, beside_s)
    _log.debug(
        "db_backfill_chunk",
        backfill=run.name,
        run=run.id,
        chunk=lease.chunk_id,
        rows=treated.rows,
        duration_ms=round(took_s * 1000, 1),
    )
    if place.config.metrics is not None:
        place.config.metrics.ended(run.name, run.kind, DONE, rows=treated.rows, walked=lease.rows_walked, took_s=took_s)
    if run.dry_run:
        await _conclude_dry_run(place, run, lease, treated, took_s)
    elif run.kind == runs.WORK and run.pass_number == 1:
        await _look_back(place, run, walk, lease, treated)


# ------------------------------------------------------------------------------------------------------------ under way


async def _act(place: Workplace, run: Run, walk: Walk, lease: Lease) -> Treated:
    if run.dry_run:
        return await chunks.rehearse(place.engine, walk, lease.bounds)
    spared: Sequence[Key] = ()
    if run.quarantined:
        async with connected(place.engine) as connection:
            spared = await chunk_rows.spared_keys(connection, run, walk.shape, lease.bounds)
    if run.kind == runs.VERIFY:
        return await chunks.compare(place.engine, walk, lease, spared)
    counted = run.pass_number > 1 or _is_looked_back_at(place, run, lease)
    return await chunks.carry_out(place.engine, walk, lease, spared, counted=counted)


async def _watched(place: Workplace, run: Run, walk: Walk, lease: Lease) -> Treated:
    """Run the chunk, renewing its lease beside it; cancel it when it is not wanted any more.

    Cancelling ends the statement on the server and rolls back; whatever else happens to it, the fence holds. A time in
    which this process was stopped is none that the chunk took.
    """
    task = asyncio.create_task(_act(place, run, walk, lease), name=f"chunk {lease.chunk_id}")
    clock = ObservedClock()
    renew_at = time.monotonic() + HEARTBEAT_S
    stopping_since: float | None = None
    look_in_s = BUSY_POLL_S
    try:
        while True:
            await asyncio.wait({task}, timeout=look_in_s)
            clock()
            if task.done():
                treated = task.result()
                return replace(treated, worked_s=max(0.0, treated.worked_s - clock.missed_s))
            now = time.monotonic()
            if place.stop.is_set():
                stopping_since = stopping_since or now
                if now - stopping_since > DRAIN_S:
                    raise _UnwantedError("the worker stops")
            look_in_s = await _still_wanted(place, run, lease, renew=now >= renew_at)
            if now >= renew_at:
                renew_at = now + HEARTBEAT_S
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _still_wanted(place: Workplace, run: Run, lease: Lease, *, renew: bool) -> float:
    """Look after the lease and the run; returns when to look again, in seconds.

    Raises `_UnwantedError`. A database that is away ends the chunk by itself.
    """
    try:
        async with connected(place.engine) as connection:
            if renew and not await chunk_rows.renew(connection, lease):
                raise _UnwantedError("the lease was lost")
            state, age_s = await runs.state_of(connection, run.id)
    except _UnwantedError:
        raise
    except Exception as error:  # noqa: BLE001 (sorted by the chunk itself)
        _log.warning("backfill_watch_failed", chunk=lease.chunk_id, error=in_one_line(error))
        return BUSY_POLL_S
    if state == RunState.RUNNING:
        return BUSY_POLL_S
    if state not in {RunState.PAUSING, RunState.CANCELLING}:
        raise _UnwantedError(f"the run is {state}")
    if age_s >= GRACE_S:
        raise _UnwantedError(f"the run is {state} for {age_s:.1f} s")
    return min(BUSY_POLL_S, GRACE_S - age_s)


# ----------------------------------------------------------------------------------------------------------- afterwards


def _is_looked_back_at(place: Workplace, run: Run, lease: Lease) -> bool:
    return lease.rows_walked > 0 and lease.rows_walked >= LOOK_GROWTH * place.looked_at.get(run.id, 0)


async def _look_back(place: Workplace, run: Run, walk: Walk, lease: Lease, treated: Treated) -> None:
    """Look at a chunk that is done as the closing walk will: how long that takes, and whether anything is left.

    A definition whose rows still meet its predicate afterwards would be walked for ever: it is stopped.
    """
    if not _is_looked_back_at(place, run, lease):
        return
    place.looked_at[run.id] = lease.rows_walked
    began = time.monotonic()
    left = await chunks.count_left(place.engine, walk, lease.bounds)
    took_s = time.monotonic() - began
    async with connected(place.engine) as connection:
        await runs.note_idle_row(connection, run, took_s / lease.rows_walked)
        left -= treated.rows_left or 0
        if 1 < treated.rows <= left:
            reason = f"{left} rows still meet the predicate after they were treated: {run.definition} would never end"
            await runs.move(connection, await runs.run_by_id(connection, run.id), Event.STOP, reason)


async def _conclude_dry_run(place: Workplace, run: Run, lease: Lease, treated: Treated, took_s: float) -> None:
    """Write down what the first chunk, rolled back, says of the whole."""
    rows = run.rows_estimated or 0
    row_s = took_s / max(lease.rows_walked, 1)
    result = {
        "rows_estimated": rows,
        "first_chunk": {"keys": lease.rows_walked, "rows_treated": treated.rows, "seconds": round(took_s, 4)},
        "seconds_estimated": round(rows * row_s, 3),
        "rolled_back": True,
    }
    async with connected(place.engine) as connection:
        await runs.conclude_dry_run(connection, run, result)
    _log.info("backfill_dry_run", backfill=run.name, run=run.id, **result)


async def _failed(place: Workplace, run: Run, walk: Walk, lease: Lease, error: Exception) -> None:
    failure = failure_of(error)
    text = in_one_line(error)
    _log.warning(
        "backfill_chunk_failed",
        backfill=run.name,
        run=run.id,
        chunk=lease.chunk_id,
        failure=failure.value,
        attempt=lease.attempts,
        error=text,
    )
    if place.config.metrics is not None:
        place.config.metrics.ended(run.name, run.kind, failure.value)
    place.turn_to(Spent.WAITING, run)
    if run.dry_run and failure is not ChunkFailure.TRANSIENT:
        failure = ChunkFailure.DEFINITION
    match failure:
        case ChunkFailure.LEASE_LOST:
            return
        case ChunkFailure.TRANSIENT if lease.attempts < PATIENCE or fault_of(error) is Fault.TRANSIENT:
            await _give_back(place, lease, back_off_s(lease.attempts), text)
        case ChunkFailure.SCHEMA_MOVED:
            place.walks.pop(run.id, None)
            await _give_back(place, lease, back_off_s(lease.attempts), text)
        case ChunkFailure.TIME:
            place.pace(run, walk).failed_on_time()
            await _halve(place, run, walk, lease, text)
        case ChunkFailure.TRANSIENT | ChunkFailure.DATA:
            await _halve(place, run, walk, lease, text)
        case ChunkFailure.DEFINITION:
            async with connected(place.engine) as connection:
                await runs.move(connection, await runs.run_by_id(connection, run.id), Event.STOP, text)


async def _give_back(place: Workplace, lease: Lease, pause_s: float, error: str | None) -> None:
    async with connected(place.engine) as connection:
        await chunk_rows.give_back(connection, lease, pause_s, error)


async def _halve(place: Workplace, run: Run, walk: Walk, lease: Lease, error: str) -> None:
    """Put two halves in the chunk's place, or put its only row aside."""
    async with connected(place.engine) as connection:
        spared = await chunk_rows.spared_keys(connection, run, walk.shape, lease.bounds)
        sql, arguments = walk.middle(lease.bounds, spared)
        found = await connection.fetchrow(sql, *arguments)
        if found is None:
            await chunk_rows.give_back(connection, lease, 0.0, None)  # its rows have gone meanwhile
        elif found["rows"] > 1:
            await chunk_rows.halve(connection, lease, found["key"], found["rows"], error)
        elif await chunk_rows.put_aside(connection, lease, found["key"], error):
            _log.warning("backfill_row_quarantined", backfill=run.name, run=run.id, error=error)
            if place.config.metrics is not None:
                place.config.metrics.quarantined.labels(run.name).inc()
            now = await runs.run_by_id(connection, run.id)
            walked = (await chunk_rows.totals(connection, now)).rows_walked_in_pass
            if place.config.failures.too_many(now.quarantined, walked) and now.state == RunState.RUNNING:
                reason = f"{now.quarantined} rows were put aside, the last with: {error}"
                await runs.move(connection, now, Event.STOP, reason)
