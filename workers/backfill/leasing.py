"""Getting to a chunk: what the throttle and the rate allow, and where the next chunk begins and ends."""

from collections.abc import Sequence
from dataclasses import replace

import structlog

from persistence.backfill import accounts, chunk_rows, runs
from persistence.backfill.accounts import Budget, Spent
from persistence.backfill.chunk_rows import Lease
from persistence.backfill.keys import Bounds, Key
from persistence.backfill.runs import Run
from persistence.backfill.signals import OVERSLEPT_S, READ_TIMEOUT_S, read_signals
from persistence.backfill.walk import Walk
from persistence.engine import Connection
from persistence.observed_time import ObservedClock
from workers.backfill.throttle import stretch_s, target_s
from workers.backfill.workplace import APPLICATION_NAME, BUSY_POLL_S, IDLE_POLL_S, Workplace

_log = structlog.get_logger(__name__)


async def clearance(
    place: Workplace, connection: Connection, run: Run, walk: Walk, tables: Sequence[str]
) -> tuple[float, float]:
    """Ask whether a chunk may begin now: returns how long to wait (0: it may), and what it should take, in seconds."""
    budget = await current_budget(place, connection, tables)
    # Before the next sample nothing changes of which we are not notified: to look more often only takes from the live
    # traffic that we wait for, of which each look takes about two milliseconds.
    look_in_s = max(BUSY_POLL_S, accounts.SAMPLE_EVERY_S - budget.age_s)
    if budget.share <= 0:
        _hold(place, run, budget.signal)
        return look_in_s, 0.0
    target = target_s(budget)
    pace = place.pace(run, walk)
    rows = pace.next_rows(target, run.rate_rows_per_s)
    if budget.share < 1:
        stretch = stretch_s(pace.expected_s(rows), budget.share, budget.workers)
        pause_s = await accounts.reserve_run(connection, stretch)
        if pause_s > 0:
            _hold(place, run, budget.signal)
            return min(pause_s, look_in_s), target
    if run.rate_rows_per_s is not None:
        pause_s = await runs.reserve_rate(connection, run, rows)
        if pause_s > 0:
            place.turn_to(Spent.WAITING, run)
            return min(pause_s, IDLE_POLL_S), target
    return 0.0, target


def _hold(place: Workplace, run: Run, signal: str) -> None:
    if place.turn_to(Spent.HELD, run, signal):
        _log.info("backfill_held", backfill=run.name, run=run.id, signal=signal)


async def current_budget(place: Workplace, connection: Connection, tables: Sequence[str]) -> Budget:
    """Return what the signals allow everybody; reads them when it is this worker's turn."""
    budget = await accounts.read_budget(connection)
    throttle = place.config.throttle
    if budget.age_s > accounts.SAMPLE_EVERY_S and await accounts.claim_sample(connection, place.worker):
        clock = ObservedClock(most_s=len(throttle.signals) * (READ_TIMEOUT_S + OVERSLEPT_S))
        readings = await read_signals(
            connection,
            throttle.signals,
            tables=tables,
            cores=place.config.database_cores,
            own_sessions=f"{APPLICATION_NAME}%",
        )
        clock()
        if clock.missed_s > 0:  # stopped meanwhile: what was read before is out of date
            return _without_sample(budget)
        budget = throttle.decide(readings, budget)
        await accounts.store_sample(connection, budget)
        if place.config.metrics is not None:
            place.config.metrics.sampled(budget)
        return budget
    if budget.age_s > accounts.SAMPLE_VALID_S:
        return _without_sample(budget)
    return budget


def _without_sample(budget: Budget) -> Budget:
    return replace(budget, level=float("inf"), signal="sample", share=0.0, readings=())


async def lease_chunk(place: Workplace, connection: Connection, run: Run, walk: Walk, target: float) -> Lease | None:
    """Lease a chunk that waits, or plan the next one. None: somebody was faster, or nothing is left to plan."""
    place.turn_to(Spent.RUNNING, run)
    if run.claimable:
        lease = await chunk_rows.claim(connection, run, place.worker)
        if lease is not None or run.walked:
            return lease
    rows = place.pace(run, walk).next_rows(target, run.rate_rows_per_s)
    before = await runs.walked_before(connection, run)
    if before is not None:
        high, walked = await chunk_rows.edge_along(connection, run, before, walk.shape, rows)
    else:
        high, walked = await _edge(connection, walk, run.walked_to, rows)
    return await chunk_rows.plan(connection, run, place.worker, high, walked, rows)


async def _edge(connection: Connection, walk: Walk, low: Key | None, rows: int) -> tuple[Key | None, int]:
    """Find where a chunk of `rows` keys ends (None: with the table), and how many keys it has."""
    sql, arguments = walk.edge(low, rows)
    high: Key | None = await connection.fetchval(sql, *arguments)
    if high is not None:
        return high, rows
    sql, arguments = walk.count(Bounds(low, None), rows)
    return None, await connection.fetchval(sql, *arguments)
