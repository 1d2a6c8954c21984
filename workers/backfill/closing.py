"""The end of a walk: one more, or the end of the run; and what a verify found."""

import asyncio
from typing import Final

import structlog

from persistence.backfill import accounts, chunk_rows, chunks, proof, runs
from persistence.backfill.keys import Bounds
from persistence.backfill.runs import Run
from persistence.backfill.states import Event, RunState
from persistence.backfill.walk import Walk
from persistence.engine import Connection
from workers.backfill.metrics import BackfillMetrics
from workers.backfill.workplace import BUSY_POLL_S, Workplace

MOST_PASSES: Final = 10
"""Walks through the whole key before a run gives up: rows that need the work keep being written."""

MOST_SPARED: Final = 1_000
"""With more rows put aside than this, another walk looks around each of them, instead of one statement around all."""

_log = structlog.get_logger(__name__)


async def close(place: Workplace, connection: Connection, run: Run, walk: Walk) -> bool:
    """End a run that is walked to its end, or begin another walk; False while chunks of others are open.

    The chunks are added up only once none is open: no further one can appear in this pass then.
    """
    if not await runs.all_closed(connection, run):
        return False
    if run.kind == runs.VERIFY:
        return await _close_verify(connection, run, walk, place.config.metrics)
    return await _close_work(place, connection, run, walk)


async def _close_work(place: Workplace, connection: Connection, run: Run, walk: Walk) -> bool:
    """A walk that treated nothing is the end, and so is one after which nothing is left to do.

    Otherwise another one follows, for what was written meanwhile. What every walk passes over, as a trigger of the
    table has it, is told with the end: a verify will find it. False while another worker looks what is left, or when
    the look was broken off, as a pause must not wait for it.
    """
    done = (await chunk_rows.totals(connection, run)).rows_done_in_pass
    passed_over, sample = await chunk_rows.passed_over(connection, run)
    # A first walk of a row-local definition does not count what it passes over.
    counted = run.pass_number > 1 or not walk.definition.row_local
    nothing_left = (done == 0 and counted) or await _nothing_left(place, connection, run, walk)
    if nothing_left is None:
        return False
    if nothing_left:
        event = Event.FINISH_WITH_QUARANTINE if run.quarantined else Event.FINISH
        reason = None
        if passed_over:
            reason = f"{passed_over} rows are still to do, for example {sample}: a trigger or rule passes them over"
        ended = await runs.end(connection, run, event, reason)
        if ended:
            _log.info("backfill_ended", backfill=run.name, run=run.id, quarantined=run.quarantined)
        return ended
    if run.pass_number < MOST_PASSES:
        return await runs.next_pass(connection, run)
    reason = f"after {MOST_PASSES} walks rows still come in that need the work: is the dual write on?"
    return await runs.end(connection, run, Event.STOP, reason)


async def _nothing_left(place: Workplace, connection: Connection, run: Run, walk: Walk) -> bool | None:
    if run.quarantined > MOST_SPARED:
        return False
    spared = await chunk_rows.spared_keys(connection, run, walk.shape, Bounds(None, None))
    held = (await accounts.read_budget(connection)).share < 1
    at_most_s = chunks.LOOK_BESIDE_TRAFFIC_S if held else chunks.LOOK_S
    look = asyncio.create_task(
        chunks.nothing_left(place.engine, run.id, walk, spared, at_most_s), name=f"look after run {run.id}"
    )
    try:
        while not look.done():
            await asyncio.wait({look}, timeout=BUSY_POLL_S)
            state, _ = await runs.state_of(connection, run.id)
            if not look.done() and (place.stop.is_set() or state != RunState.RUNNING):
                return None
        return look.result()
    finally:
        look.cancel()
        await asyncio.gather(look, return_exceptions=True)


async def _close_verify(connection: Connection, run: Run, walk: Walk, metrics: BackfillMetrics | None) -> bool:
    """Judge what the chunks of a verify found, and the ledgers of both runs."""
    verified = await runs.run_by_id(connection, run.verifies or 0)
    sums = await proof.sums(connection, run)
    findings = [
        *(await proof.flaws(connection, verified, walk.shape)),
        *(f"verify: {flaw}" for flaw in await proof.flaws(connection, run, walk.shape)),
    ]
    if sums["rows_left"]:
        findings.append(f"{sums['rows_left']} rows are still to do, for example {sums['sample_key']}")
    if sums["rows_differing"]:
        findings.append(f"{sums['rows_differing']} rows differ from their source, for example {sums['sample_key']}")
    findings += [
        f"row {unread['key']} cannot be compared: {unread['reason']}"
        for unread in await chunk_rows.quarantined(connection, run.id)
    ]
    result = {"findings": findings[: proof.FINDINGS_SHOWN], "rows_quarantined": verified.quarantined, **sums}
    event = Event.STOP if findings else Event.FINISH
    ended = await runs.end(connection, run, event, findings[0] if findings else None, result)
    if ended:
        _log.info("backfill_verified", backfill=run.name, run=run.id, findings=len(findings))
        if metrics is not None:
            metrics.verified(run.name, ok=not findings)
    return ended
