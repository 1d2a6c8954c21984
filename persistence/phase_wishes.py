"""Steps of changes that are asked for by command: recorded with the command's outcome, carried out by a worker.

A step needs alone the lock that every write transaction shares, the command's own included: so it is taken afterwards,
by whichever backfill worker is first. Asking again is harmless, so a worker that dies in between costs nothing.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from contracts.backfills import ChangeResult
from contracts.errors import BackfillNotFoundError, IllegalTransitionError
from contracts.messages import not_found
from persistence.engine import Connection, Engine, connected
from persistence.faults import Fault, fault_of
from persistence.phases import Phase, PhaseRefusedError, UnknownPhaseError, advance, next_phases

_SHOW: Final = """
select c.change, c.phase, c.changed_at, c.changed_by, w.to_phase, w.state, w.reason, w.asked_by, w.asked_at
from schema_changes c
left join lateral (select * from phase_wishes w where w.change = c.change order by w.id desc limit 1) w on true
where $1::text is null or c.change = $1
order by c.change"""
_ASK: Final = """
insert into phase_wishes (change, to_phase, asked_by) values ($1, $2, $3)
on conflict (change) where state = 'waiting' do nothing
returning id"""
_WAITING: Final = "select id, change, to_phase, asked_by from phase_wishes where state = 'waiting' order by id"
_MY_TURN: Final = """
select pg_try_advisory_lock(hashtextextended('phase wishes', 0))
where exists (select from phase_wishes where state = 'waiting')"""
_TURN_OVER: Final = "select pg_advisory_unlock(hashtextextended('phase wishes', 0))"
_FINISH: Final = """
update phase_wishes set state = $2, reason = $3, finished_at = clock_timestamp() where id = $1 and state = 'waiting'"""


def _shown(row: Any) -> ChangeResult:  # noqa: ANN401 (a driver's record)
    return ChangeResult(
        row["change"],
        row["phase"],
        row["changed_at"],
        row["changed_by"],
        row["to_phase"],
        row["state"],
        row["reason"],
        row["asked_by"],
        row["asked_at"],
    )


async def all_changes(connection: Connection) -> Sequence[ChangeResult]:
    """Return every change, by name."""
    return [_shown(row) for row in await connection.fetch(_SHOW, None)]


async def find_change(connection: Connection, change: str) -> ChangeResult | None:
    """Return a change; None where there is none of this name."""
    row = await connection.fetchrow(_SHOW, change)
    return None if row is None else _shown(row)


class PhaseWishes:
    """Wishes inside a unit of work, whose shared lock holds every phase where it is."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def find(self, change: str) -> ChangeResult | None:
        """Show a change."""
        return await find_change(self._connection, change)

    async def wish(self, change: str, to: str, by: str) -> ChangeResult:
        """Ask for a step; the change as it stands where it is there already.

        Raises `BackfillNotFoundError`, or `IllegalTransitionError` for a step that does not exist or while one waits.
        """
        found = await self.find(change)
        if found is None:
            raise BackfillNotFoundError(not_found("Change", "name", change), {"change": change})
        if found.wish == "waiting":
            raise _waits(found)
        if found.phase == to:
            return found
        legal = [str(phase) for phase in next_phases(Phase(found.phase))]
        if to not in legal:
            raise IllegalTransitionError(
                f"{change} is {found.phase}, from where it does not go to {to}", {"state": found.phase, "legal": legal}
            )
        recorded = await self._connection.fetchval(_ASK, change, to, by)
        after = await self.find(change)
        assert after is not None
        if recorded is None:  # another worker recorded one meanwhile
            raise _waits(after)
        return after


def _waits(found: ChangeResult) -> IllegalTransitionError:
    return IllegalTransitionError(
        f"{found.change} is asked to go to {found.to} already: that has to end first",
        {"state": found.phase, "legal": []},
    )


@dataclass(frozen=True, slots=True)
class Granted:
    """What became of a wish; `refusal` says why nothing did."""

    change: str
    to: str
    refusal: str | None


async def carry_out_wishes(engine: Engine) -> Sequence[Granted]:
    """Take the steps that wait, one after the other, in one worker of all; others return at once.

    A refusal is stored with its reason. An outage passes through and leaves the wish waiting; so does a crash, after
    which the next worker finds the step taken, or takes it. Needs two connections.
    """
    async with connected(engine) as connection:
        if not await connection.fetchval(_MY_TURN):
            return []
        try:
            done = []
            for row in await connection.fetch(_WAITING):
                refusal = await _refusal(engine, row["change"], row["to_phase"], row["asked_by"])
                await connection.execute(_FINISH, row["id"], "refused" if refusal else "done", refusal)
                done.append(Granted(row["change"], row["to_phase"], refusal))
            return done
        finally:
            with suppress(Exception):  # a connection that is broken has let go already
                await connection.execute(_TURN_OVER)


async def _refusal(engine: Engine, change: str, to: str, by: str) -> str | None:
    """Take a step; returns why it was not taken."""
    try:
        await advance(engine, change, Phase(to), by=by)
    except (PhaseRefusedError, UnknownPhaseError) as error:
        return str(error)
    except Exception as error:
        if fault_of(error) is not Fault.DEFECT:
            raise
        return f"it failed: {type(error).__name__}: {error}"
    return None


class ChangeTable:
    """Shows changes to queries."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def find(self, change: str) -> ChangeResult | None:
        """Show a change."""
        async with connected(self._engine) as connection:
            return await find_change(connection, change)
