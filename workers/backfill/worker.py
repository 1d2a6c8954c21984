"""The backfill worker: any number of replicas, each taking one chunk after the other from whatever runs are active.

A worker owns nothing. What it knows of a run it reads again before each chunk, so it may be killed, stopped or added at
any moment. It wakes when it is notified, looks once a second otherwise, and waits out a database that is away.
"""

import asyncio
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import structlog

from persistence.backfill import accounts, chunk_rows, chunks, runs
from persistence.backfill.accounts import Spell, Spent
from persistence.backfill.chunk_rows import Lease
from persistence.backfill.definition import DefinitionError, load_definitions
from persistence.backfill.failures import in_one_line
from persistence.backfill.runs import Run
from persistence.backfill.states import Event, RunState
from persistence.backfill.wake import listen
from persistence.backfill.walk import Walk
from persistence.engine import Connection, PoolSettings, connected, create_engine
from persistence.faults import Fault, fault_of
from workers.backfill.closing import close
from workers.backfill.control import BackfillControl
from workers.backfill.labour import DRAIN_S, labour
from workers.backfill.leasing import clearance, current_budget, lease_chunk
from workers.backfill.timesheet import Timesheet
from workers.backfill.workplace import (
    APPLICATION_NAME,
    BUSY_POLL_S,
    IDLE_POLL_S,
    BackfillWorkerConfig,
    Workplace,
    back_off_s,
)

SHOW_EVERY_S: Final = 5.0
"""How often the metrics follow the ledger: a scraper seldom comes more often."""
IDLE_REPORT_S: Final = 5.0
"""How often an idle worker says that it is there."""
LOST_RACE_S: Final = 0.02
"""Pause after somebody else leased or planned first, or holds the ledger row that we would lease: it is soon over."""
_COMING_TO_REST = frozenset({RunState.PAUSING, RunState.CANCELLING})
_WORKABLE = frozenset({RunState.PENDING, RunState.RUNNING})

_log = structlog.get_logger(__name__)


async def run_backfill_worker(config: BackfillWorkerConfig, stop_event: asyncio.Event) -> None:
    """Work until told to stop; then the chunk in hand has 1.5 s to end, and what is left goes back to the others.

    Raises `DefinitionError` when a definition cannot be loaded. An outage of the database is waited out.
    """
    definitions = load_definitions(config.definitions)
    # One connection each for the step (or the watch) and the chunk, one that listens, one to spare.
    engine = create_engine(
        config.database_url, PoolSettings(size=3, max_overflow=1), config.worker, kind=f"{APPLICATION_NAME}/"
    )
    worker = f"{config.worker}-{uuid.uuid4().hex[:8]}"
    try:
        await _Worker(Workplace(config, definitions, engine, worker, stop_event, Timesheet(time.monotonic))).run()
    finally:
        await engine.dispose()


@dataclass(frozen=True, slots=True)
class _Task:
    """A chunk in hand, and what it should take in seconds."""

    walk: Walk
    lease: Lease
    target_s: float


class _Worker:
    def __init__(self, place: Workplace) -> None:
        self._place = place
        self._wake = asyncio.Event()
        self._reported_at = 0.0
        self._shown_at = 0.0
        self._turn = 0
        self._strangers: set[int] = set()
        self._failures = 0

    # ----------------------------------------------------------------------------------------------------------- life

    async def run(self) -> None:
        place = self._place
        _log.info("backfill_worker_started", worker=place.worker, backfills=sorted(place.definitions))
        beside = [
            asyncio.create_task(listen(place.engine, runs.CHANNEL, self._wake.set), name="listen"),
            asyncio.create_task(self._wake_on_stop(), name="stop"),
        ]
        try:
            while not place.stop.is_set():
                await self._rest(await self._step_or_back_off())
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
            await self._leave()

    async def _wake_on_stop(self) -> None:
        await self._place.stop.wait()
        self._wake.set()

    async def _rest(self, pause_s: float) -> None:
        """Wait for a time, or until woken."""
        if pause_s > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._wake.wait()
        self._wake.clear()

    async def _step_or_back_off(self) -> float:
        try:
            pause_s = await self._step()
        except Exception as error:  # noqa: BLE001 (sorted; whatever it is, the worker goes on)
            if fault_of(error) is Fault.DEFECT:
                _log.exception("backfill_step_failed", worker=self._place.worker)
            else:
                _log.warning("backfill_waits_for_database", worker=self._place.worker, error=in_one_line(error))
            self._failures += 1
            self._place.time.turn_to(Spell(Spent.WAITING, self._place.time.spell.run_id))
            return back_off_s(self._failures)
        self._failures = 0
        return pause_s

    async def _leave(self) -> None:
        """Give back what is in hand, as far as the database listens."""
        place = self._place
        try:
            async with asyncio.timeout(DRAIN_S), connected(place.engine) as connection:
                await chunk_rows.give_back_all(connection, place.worker)
                await self._book(connection)
                await accounts.leave(connection, place.worker)
                await runs.notify(connection)
        except Exception as error:  # noqa: BLE001 (the leases run out by themselves)
            _log.warning("backfill_worker_left_silently", worker=place.worker, error=in_one_line(error))
        _log.info("backfill_worker_stopped", worker=place.worker)

    # --------------------------------------------------------------------------------------------------------- a step

    async def _step(self) -> float:
        """Do the next thing there is to do; returns how long to rest after it, in seconds."""
        place = self._place
        began = time.monotonic()
        async with connected(place.engine) as connection:
            if self._failures:
                await chunk_rows.give_back_all(connection, place.worker)
            active = await runs.active_runs(connection)
            for resting in active:
                if resting.state in _COMING_TO_REST:
                    await runs.drain(connection, resting)
            await self._report(connection)
            await self._show(connection, active)
            mine = self._in_turn(active)
            if not mine:
                return await self._idle(connection, active)
            pauses = [IDLE_POLL_S]
            for run in mine:
                task = await self._next_task(connection, run, self._tables(active))
                if not isinstance(task, float):
                    break
                pauses.append(task)
            else:
                return min(pauses)
        await labour(place, run, task.walk, task.lease, task.target_s, time.monotonic() - began)
        return 0.0

    def _in_turn(self, active: Sequence[Run]) -> Sequence[Run]:
        """Return the runs that can be worked on, each time another one first, so that none waits for others to end."""
        mine = [run for run in active if run.state in _WORKABLE and self._know(run)]
        self._turn += 1
        first = self._turn % len(mine) if mine else 0
        return [*mine[first:], *mine[:first]]

    async def _next_task(self, connection: Connection, run: Run, tables: Sequence[str]) -> "float | _Task":
        """Get a chunk of a run; or how long to wait before asking again, in seconds."""
        place = self._place
        try:
            walk = await place.walk(connection, run)
        except DefinitionError as error:
            await self._does_not_fit(connection, run, error)
            return IDLE_POLL_S
        if run.state == RunState.PENDING:
            return await self._begin(connection, run, walk, tables)
        if run.walked and not run.claimable:
            if await close(place, connection, run, walk):
                return 0.0
            place.turn_to(Spent.IDLE, run)
            return BUSY_POLL_S
        pause_s, target = await clearance(place, connection, run, walk, tables)
        if pause_s > 0:
            return pause_s
        lease = await lease_chunk(place, connection, run, walk, target)
        return LOST_RACE_S if lease is None else _Task(walk, lease, target)

    async def _does_not_fit(self, connection: Connection, run: Run, error: DefinitionError) -> None:
        """Stop a run that cannot begin; one that has begun waits, as a release may be on its way."""
        if run.state == RunState.PENDING:
            await runs.move(connection, run, Event.STOP, str(error))
        elif run.reason != str(error):
            await runs.note_reason(connection, run, str(error))
        self._place.turn_to(Spent.WAITING, run)

    def _know(self, run: Run) -> bool:
        """Say whether this release carries the very definition that the run was asked for with."""
        definition = self._place.definitions.get(run.definition)
        known = definition is not None and definition.digest == run.definition_digest
        if not known and run.id not in self._strangers:
            self._strangers.add(run.id)
            _log.warning("backfill_of_another_release", run=run.id, definition=run.definition)
        return known

    def _tables(self, active: Sequence[Run]) -> Sequence[str]:
        """Return the tables that the active runs write."""
        known = [self._place.definitions[run.definition] for run in active if self._know(run)]
        return sorted({table for one in known for table in (one.table, *one.also_lock)})

    async def _idle(self, connection: Connection, active: Sequence[Run]) -> float:
        """Nothing can be worked on: tidy up, here and (once an hour, one worker of all) in the ledger."""
        place = self._place
        place.time.turn_to(Spell(Spent.IDLE))
        place.forget_all_but(frozenset(run.id for run in active))
        for run_id in await accounts.runs_to_prune(connection, place.config.keep_ledger_days):
            await accounts.prune(connection, run_id)
            _log.info("backfill_ledger_pruned", run=run_id)
        return BUSY_POLL_S if any(run.state in _COMING_TO_REST for run in active) else IDLE_POLL_S

    async def _begin(self, connection: Connection, run: Run, walk: Walk, tables: Sequence[str]) -> float:
        """Take up a run that was asked for: its rows are counted. A verify need not: its run has walked them all.

        Returns how long to wait before the next step, in seconds.
        """
        place = self._place
        place.turn_to(Spent.RUNNING, run)
        if run.verifies is not None and await runs.walked_before(connection, run) is not None:
            verified = await runs.run_by_id(connection, run.verifies)
            rows = (await chunk_rows.totals(connection, verified)).rows_walked_in_pass
        else:
            budget = await current_budget(place, connection, tables)
            if budget.age_s > accounts.SAMPLE_VALID_S:  # another worker reads the signals just now
                place.turn_to(Spent.WAITING, run)
                return BUSY_POLL_S
            rows = await chunks.estimate_rows(place.engine, walk, beside_traffic=budget.share < 1)
        if await runs.take(connection, run, rows):
            _log.info("backfill_begun", backfill=run.name, run=run.id, run_kind=run.kind, rows_estimated=rows)
        return 0.0

    async def _show(self, connection: Connection, active: Sequence[Run]) -> None:
        """Let the metrics carry what the query and `watch` show of the active runs."""
        metrics = self._place.config.metrics
        now = time.monotonic()
        if metrics is None or now - self._shown_at < SHOW_EVERY_S:
            return
        self._shown_at = now
        control = BackfillControl(connection, self._place.definitions)
        names = sorted({run.name for run in active if self._know(run)})
        metrics.shown([await control.get(name) for name in names])

    async def _report(self, connection: Connection) -> None:
        """Say what this worker does and book its time: once a second, less often when it is idle."""
        now = time.monotonic()
        every_s = IDLE_REPORT_S if self._place.time.spell == Spell(Spent.IDLE) else IDLE_POLL_S
        if now - self._reported_at < every_s:
            return
        self._reported_at = now
        known = {name: definition.digest for name, definition in self._place.definitions.items()}
        await accounts.say(connection, self._place.worker, self._place.time.spell, known)
        await self._book(connection)

    async def _book(self, connection: Connection) -> None:
        place = self._place
        seconds = place.time.take()
        try:
            await accounts.book(connection, seconds)
        except BaseException:
            place.time.put_back(seconds)
            raise
        if place.config.metrics is not None:
            place.config.metrics.spells(seconds)
