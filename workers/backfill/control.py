"""What an operator may wish of a backfill, by command or by tool: one code path, inside the caller's transaction.

A wish is recorded in the ledger, and the run is returned as it stands; workers, woken when the transaction commits,
carry it out. Nothing here commits.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from contracts.errors import BackfillNotFoundError, IllegalTransitionError
from persistence.backfill import accounts, chunk_rows, runs
from persistence.backfill.definition import Definition, DefinitionError, Statement, Transform
from persistence.backfill.keys import Bounds
from persistence.backfill.runs import Run
from persistence.backfill.states import ACTIVE, EDGES, Event, RunState
from persistence.backfill.walk import read_walk
from persistence.engine import Connection
from workers.backfill.progress import CHUNKS_LOOKED_AT, Walked, last_look_s, progress_of

RunView = Mapping[str, Any]
"""A run as an operator sees it: plain JSON. The query, the tool and the metrics carry the same figures."""

_LOOK_AGAIN: Final = 3
"""A wish that met a change of state is judged anew; more than two changes within a moment are a defect."""


class BackfillControl:
    """The wishes, over one connection."""

    def __init__(self, connection: Connection, definitions: Mapping[str, Definition]) -> None:
        self._connection = connection
        self._definitions = definitions

    async def start(
        self, name: str, *, dry_run: bool = False, reverse: bool = False, rate_rows_per_s: float | None = None
    ) -> RunView:
        """Ask for a run. Raises `IllegalTransitionError` while one is active, or where there is no reverse."""
        definition = self._definition(name)
        if reverse:
            if definition.reverse is None:
                reason = definition.irreversible or "nobody has written its reverse"
                raise IllegalTransitionError(f"{name} cannot be reversed: {reason}")
            definition = self._definition(definition.reverse)
        for active in await runs.active_runs(self._connection):
            if active.name != name and active.definition in {definition.name, definition.reverse}:
                raise IllegalTransitionError(f"{active.name} is {active.state}, and {name} would work against it")
        run_id = await runs.ask_for_work(
            self._connection, name, definition, reverse=reverse, dry_run=dry_run, rate_rows_per_s=rate_rows_per_s
        )
        return await self._asked(name, run_id)

    async def verify(self, name: str) -> RunView:
        """Ask for a verify of the last run; of one that was given up, it says what is left.

        Raises `IllegalTransitionError` unless the run has ended.
        """
        worked = await self._newest(name, dry_runs=False)
        if worked.state in ACTIVE:
            raise IllegalTransitionError(f"the last run of {name} is {worked.state}: there is nothing to verify yet")
        return await self._asked(name, await runs.ask_for_verify(self._connection, worked))

    async def pause(self, name: str) -> RunView:
        """Let no chunk begin; those in flight end within 2 s, or are rolled back."""
        return await self._move(name, Event.PAUSE)

    async def resume(self, name: str) -> RunView:
        """Let a paused run go on."""
        return await self._move(name, Event.RESUME)

    async def cancel(self, name: str) -> RunView:
        """End a run for good; what was committed stays."""
        return await self._move(name, Event.CANCEL)

    async def set_rate(self, name: str, rows_per_s: float | None) -> RunView:
        """Cap the rate of the active run, all workers together; None lifts the cap."""
        run = await self._current(name)
        if run.state not in ACTIVE:
            raise IllegalTransitionError(f"no run of {name} is active: give the rate when you start one")
        await runs.set_rate(self._connection, run, rows_per_s)
        return await self.get(name)

    async def retry(self, name: str) -> RunView:
        """Set a failed run, or one that ended with rows put aside, going again."""
        for _ in range(_LOOK_AGAIN):
            run = await self._newest(name)
            if await runs.retry(self._connection, run):
                return await self.get(name)
        raise IllegalTransitionError(f"{name} keeps changing its state: look again")

    async def get(self, name: str) -> RunView:
        """Return the last run of a backfill, and the last verify of its last run that was no dry one.

        Raises `BackfillNotFoundError`.
        """
        self._definition(name)
        run = await runs.newest_run(self._connection, name)
        if run is None:
            return {"name": name, "summary": self._definition(name).summary, "state": None}
        workers = await accounts.workers_seen(self._connection)
        real = await runs.newest_run(self._connection, name, dry_runs=False)
        verify = None if real is None else await runs.newest_verify(self._connection, real.id)
        return {
            **await self._view(run),
            "verify": None if verify is None else await self._view(verify),
            "throttle": await self._throttle(),
            "workers": [
                {
                    **{key: one[key] for key in ("worker", "run_id", "spent", "signal")},
                    "knows": _knows(one, run.definition, run.definition_digest),
                }
                for one in workers
            ],
            "waits_because": _waits_because(run, workers),
        }

    async def list_all(self) -> Sequence[RunView]:
        """Return every definition, by name, with the state of its last run."""
        newest = {run.name: run for run in await runs.newest_runs(self._connection)}
        workers = await accounts.workers_seen(self._connection)
        reverses = {one.reverse for one in self._definitions.values()}
        return [
            {
                "name": name,
                "summary": definition.summary,
                "table": definition.table,
                "reversed_by": definition.reverse,
                "irreversible": definition.irreversible,
                "reverse_of_another": name in reverses,
                **(await self._view(newest[name]) if name in newest else {"state": None}),
                "known_by": [one["worker"] for one in workers if _knows(one, name, definition.digest)],
                "waits_because": _waits_because(newest[name], workers) if name in newest else None,
            }
            for name, definition in self._definitions.items()
        ]

    async def plan(self, name: str, *, reverse: bool = False) -> RunView:
        """Say what a run would do, without asking for one: key, rows, lock, and the SQL of a chunk without bounds."""
        definition = self._definition(name)
        if reverse and definition.reverse is not None:
            definition = self._definition(definition.reverse)
        try:
            walk = await read_walk(self._connection, definition)
        except DefinitionError as error:
            raise IllegalTransitionError(str(error)) from None
        unbounded = Bounds(None, None)
        if isinstance(definition.work, Statement):
            sql, _ = walk.statement(definition.work, unbounded, ())
        elif isinstance(definition.work, Transform):
            sql = f"{walk.read(definition.work, unbounded, ())[0]};\n{walk.write(definition.work)}"
        else:
            sql, _ = walk.assign(definition.work, unbounded, ())
        rows = await self._connection.fetchval(
            "select greatest(reltuples, 0)::bigint from pg_class where oid = to_regclass($1)", definition.table
        )
        return {
            "name": name,
            "definition": definition.name,
            "summary": definition.summary,
            "table": definition.table,
            "key": [{"column": column.name, "type": column.sql_type} for column in walk.shape.columns],
            "still_to_do": definition.todo,
            "rows_in_catalogue": rows,
            "first_chunk_rows": runs.FIRST_CHUNK_ROWS,
            "most_chunk_rows": definition.max_rows,
            "locks": None if definition.row_local else walk.lock(unbounded, ())[0],
            "statement": sql,
            "phases": {change: list(phases) for change, phases in definition.phases.items()},
            "reverse": definition.reverse,
            "irreversible": definition.irreversible,
        }

    # ------------------------------------------------------------------------------------------------------- pieces

    def _definition(self, name: str) -> Definition:
        definition = self._definitions.get(name)
        if definition is None:
            raise BackfillNotFoundError(f"There is no backfill {name}", {"known": sorted(self._definitions)})
        return definition

    async def _newest(self, name: str, *, dry_runs: bool = True) -> Run:
        """Return the last run of work. Raises `IllegalTransitionError` where none was ever asked for."""
        self._definition(name)
        run = await runs.newest_run(self._connection, name, dry_runs=dry_runs)
        if run is None:
            raise IllegalTransitionError(f"no run of {name} was ever started", {"legal": ["start"]})
        return run

    async def _current(self, name: str) -> Run:
        """Return the run that a wish is about: an active verify, or else the last run."""
        run = await self._newest(name)
        active = [one for one in await runs.active_runs(self._connection) if one.name == name]
        return active[0] if active else run

    async def _asked(self, name: str, run_id: int | None) -> RunView:
        if run_id is None:
            run = await self._current(name)
            raise IllegalTransitionError(
                f"a run of {name} is {run.state}: it has to end first",
                {"state": str(run.state), "legal": _events(run.state)},
            )
        return await self.get(name)

    async def _move(self, name: str, event: Event) -> RunView:
        for _ in range(_LOOK_AGAIN):
            run = await self._current(name)
            if await runs.move(self._connection, run, event):
                await self._settle(await runs.run_by_id(self._connection, run.id))
                return await self.get(name)
        raise IllegalTransitionError(f"{name} keeps changing its state: look again")

    async def _settle(self, run: Run) -> None:
        """Where no chunk is in flight, nobody needs to carry the wish out."""
        if run.state in {RunState.PAUSING, RunState.CANCELLING}:
            await runs.drain(self._connection, run)

    async def _throttle(self) -> Mapping[str, Any]:
        budget = await accounts.read_budget(self._connection)
        return {
            "level": None if budget.level == float("inf") else round(budget.level, 3),
            "signal": budget.signal or None,
            "share": round(budget.share, 3),
            "sampled_s_ago": None if budget.age_s == float("inf") else round(budget.age_s, 1),
            "readings": list(budget.readings),
        }

    async def _view(self, run: Run) -> RunView:
        counts = await chunk_rows.count_by_state(self._connection, run.id)
        totals = await chunk_rows.totals(self._connection, run)
        chunks = await accounts.finished_chunks(self._connection, run.id, CHUNKS_LOOKED_AT)
        last_look_ahead = run.kind == runs.WORK and run.pass_number == 1
        progress = progress_of(
            Walked(
                rows_estimated=run.rows_estimated or 0,
                pass_number=run.pass_number,
                rows_walked=totals.rows_walked_in_pass,
                age_s=run.age_s,
                last_look_s=last_look_s(run.rows_estimated or 0, run.idle_row_s) if last_look_ahead else 0.0,
            ),
            chunks,
        )
        running = run.state == RunState.RUNNING
        return {
            "name": run.name,
            "run_id": run.id,
            "kind": run.kind,
            "definition": run.definition,
            "state": str(run.state),
            "reason": run.reason,
            "events": _events(run.state),
            "reverse": run.reverse,
            "dry_run": run.dry_run,
            "rate_cap_rows_per_s": run.rate_rows_per_s,
            "pass": run.pass_number,
            "rows_estimated": progress.rows_estimated,
            "rows_walked": progress.rows_walked,
            "rows_done": totals.rows_done,
            "rows_quarantined": run.quarantined,
            "quarantine": list(await chunk_rows.quarantined(self._connection, run.id)) if run.quarantined else [],
            "fraction": round(progress.fraction, 4) if run.state != RunState.PENDING else 0.0,
            "chunk_rows": run.chunk_rows,
            "chunks": dict(counts),
            "rows_per_s": round(progress.rows_per_s, 1) if running and progress.rows_per_s is not None else None,
            "seconds_left": (
                [round(progress.low_s, 2), round(progress.high_s, 2)]
                if running and progress.low_s is not None and progress.high_s is not None
                else None
            ),
            "time": [
                {"spent": spent, "signal": signal or None, "seconds": round(seconds, 3)}
                for spent, signal, seconds in await accounts.times_of(self._connection, run.id)
            ],
            "trouble": await chunk_rows.trouble(self._connection, run.id),
            "result": run.result,
            "asked_at": run.asked_at,
            "started_at": run.started_at,
            "finished_at": run.finished_at,
            "seconds": round(run.age_s, 3),
        }


def _knows(worker: Mapping[str, Any], definition: str, digest: str) -> bool | None:
    """Say whether a worker can carry out a definition; None for one of a release that does not tell."""
    known = worker["definitions"]
    return None if known is None else known.get(definition) == digest


def _waits_because(run: Run, workers: Sequence[Mapping[str, Any]]) -> str | None:
    """Say why nobody takes up a run that is asked for, as far as the workers tell; None where somebody may."""
    if run.state not in {RunState.PENDING, RunState.RUNNING}:
        return None
    if not workers:
        return "no backfill worker runs: start one with `catalog worker backfill`"
    if any(_knows(one, run.definition, run.definition_digest) is not False for one in workers):
        return None
    others = [one["worker"] for one in workers if run.definition in one["definitions"]]
    if others:
        return f"each running worker has another version of {run.definition} ({', '.join(others)}): start them anew"
    names = ", ".join(one["worker"] for one in workers)
    return f"no running worker knows {run.definition} ({names} do not): start them anew with its file"


def _events(state: RunState) -> Sequence[str]:
    return sorted(str(edge.event) for edge in EDGES if edge.source == state)
