"""Phases of a zero-downtime change: where they are read, how they are advanced, and who has followed.

A change of the schema under live traffic goes expand → dual write → backfill → switch reads → contract. The phase is a
row of `schema_changes`; workers act on it without a restart. **A lock decides, heartbeats inform**: each write
transaction holds the change's advisory lock shared while it acts on the phase, and a step takes it exclusively, so no
transaction can write by a phase that is over, not even one whose worker was stopped and wakes later.
"""

import asyncio
import json
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, Final

import asyncpg
from sqlalchemy.ext.asyncio import AsyncEngine

from persistence.engine import Connection, connected, transaction
from persistence.observed_time import ObservedClock


class Phase(StrEnum):
    """The five phases of a change, in their order."""

    EXPANDED = "expanded"
    """The new column exists; nobody uses it."""
    DUAL_WRITE = "dual_write"
    """Writes go to both columns, reads come from the old one; the backfill fills the rows of before."""
    BACKFILLED = "backfilled"
    """Both columns agree in every row; reads still come from the old one."""
    READING_NEW = "reading_new"
    """Reads come from the new column; the old one is still written, so that this can be taken back."""
    CONTRACTED = "contracted"
    """Only the new column is read and written; the old one may be dropped."""


_NAMES: Final = frozenset(phase.value for phase in Phase)
Phases = Mapping[str, Phase]
"""The phase of each change that this release knows."""

PRODUCT_CATALOG: Final = "product_catalog"
"""The change from `products.old_catalog_field` (text) to `products.new_catalog` (jsonb)."""
KNOWN_CHANGES: Final = frozenset({PRODUCT_CATALOG})

STEPS: Final[Mapping[tuple[Phase, Phase], str]] = {
    (Phase.EXPANDED, Phase.DUAL_WRITE): "Every worker knows the new column: writes go to both from here on.",
    (Phase.DUAL_WRITE, Phase.EXPANDED): "Writes go to the old column alone; the new one goes stale.",
    (Phase.DUAL_WRITE, Phase.BACKFILLED): "The backfill's chunks tile the table and no row is missing or differs.",
    (Phase.BACKFILLED, Phase.DUAL_WRITE): "The backfill is to be run again; nothing else changes.",
    (Phase.BACKFILLED, Phase.READING_NEW): "A verify begun after the last step found both columns equal.",
    (Phase.READING_NEW, Phase.BACKFILLED): "Reads go back to the old column, which was written all the time.",
    (Phase.READING_NEW, Phase.CONTRACTED): "A verify begun after the switch found the same again.",
}
"""The legal steps, each with what makes it right. What is not listed is refused; nothing leads out of `contracted`."""


def next_phases(phase: Phase) -> Sequence[Phase]:
    """Say where a change may go from a phase, forth and back."""
    return [after for before, after in STEPS if before == phase]


class UnknownPhaseError(Exception):
    """The database is in a phase that this release cannot act on: it must not start, or go on."""


class PhaseRefusedError(Exception):
    """A step is not taken; the text says why, and nothing has changed."""


# -------------------------------------------------------------------------------------------- in each write transaction

SHARED_LOCK: Final = """
select count(pg_advisory_xact_lock_shared(lock_key))
from (select lock_key from schema_changes order by change) as changes"""
"""Holds every change where it is until the transaction ends. It has no arguments, so it can ride with `begin`."""

READ_PHASES: Final = "select change, phase from schema_changes"
"""To be sent *after* the answer to `SHARED_LOCK`: a statement that waits for the lock sees the phase of before."""


async def shared_lock_and_phases(connection: Connection) -> Phases:
    """Hold all changes where they are until the transaction ends and return their phases: two round trips.

    Waits while a step is being taken, at most its lock_timeout (half a second) at a time. Raises `UnknownPhaseError`.
    """
    await connection.execute(SHARED_LOCK)
    return await read_phases(connection)


async def read_phases(connection: Connection) -> Phases:
    """Read the phases without holding them: at a worker's start, for its heartbeat, or once `SHARED_LOCK` is held."""
    return known_phases((row["change"], row["phase"]) for row in await connection.fetch(READ_PHASES))


def known_phases(rows: Iterable[tuple[str, str]]) -> Phases:
    """Sort out the rows of `READ_PHASES`.

    Raises `UnknownPhaseError` for a phase without a name here, for a known change that the database does not have yet,
    and for a change of a later release that has begun: while that one is `expanded`, nothing is different for us.
    """
    stored = dict(rows)
    missing = KNOWN_CHANGES - stored.keys()
    if missing:
        raise UnknownPhaseError(f"the database does not have the change {min(missing)} yet: migrate it first")
    for change, phase in stored.items():
        if phase not in _NAMES or (change not in KNOWN_CHANGES and phase != Phase.EXPANDED):
            raise UnknownPhaseError(f"this release does not know the phase {phase} of the change {change}")
    return {change: Phase(stored[change]) for change in KNOWN_CHANGES}


# ---------------------------------------------------------------------------------------------- the product's catalogue


@dataclass(frozen=True, slots=True)
class CatalogueColumns:
    """Which columns of `products` hold the catalogue at a phase: the ones to write, and the one to read."""

    written: tuple[str, ...]
    read: str


_OLD: Final = "old_catalog_field"
_NEW: Final = "new_catalog"


def catalogue_columns(phase: Phase) -> CatalogueColumns:
    """Say where the catalogue is written and read. Old: JSON as text; new: the jsonb of that very text."""
    match phase:
        case Phase.EXPANDED:
            return CatalogueColumns(written=(_OLD,), read=_OLD)
        case Phase.DUAL_WRITE | Phase.BACKFILLED:
            return CatalogueColumns(written=(_OLD, _NEW), read=_OLD)
        case Phase.READING_NEW:
            return CatalogueColumns(written=(_OLD, _NEW), read=_NEW)
        case Phase.CONTRACTED:
            return CatalogueColumns(written=(_NEW,), read=_NEW)


def count_drift(pairs: Iterable[tuple[str, str | None]]) -> int:
    """Count the rows whose columns (old text, new jsonb as text) differ, by jsonb's own idea of equality.

    That is: order of keys and blanks do not matter, the last of repeated keys counts, 1.0 equals 1 but not true. Text
    that is no JSON, or nested too deeply to be read, differs from everything.
    """
    return sum(1 for old, new in pairs if new is None or not _same_json(old, new))


def _same_json(one: str, other: str) -> bool:
    try:
        left, right = (_parsed(text) for text in (one, other))
        return _equal(left, right)
    except (ValueError, RecursionError):
        return False


def _parsed(text: str) -> Any:  # noqa: ANN401 (any JSON value)
    return json.loads(text, parse_float=Decimal, parse_int=Decimal, parse_constant=_refuse_constant)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _equal(left: Any, right: Any) -> bool:  # noqa: ANN401 (any JSON value)
    """Compare values; Python alone would hold true for equal to 1."""
    if type(left) is not type(right):
        return False
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(_equal(value, right[key]) for key, value in left.items())
    if isinstance(left, list):
        return len(left) == len(right) and all(_equal(a, b) for a, b in zip(left, right, strict=True))
    return bool(left == right)


# ----------------------------------------------------------------------------------------------------------- heartbeats

LIVE_FOR_S: Final = 15
"""A worker whose last heartbeat is younger than this is alive. Workers beat every few seconds; longer than the longest
transaction (15 s), a silent worker has none open."""

_BEAT: Final = """
with forgotten as (delete from worker_heartbeats where seen_at < now() - interval '1 day')
insert into worker_heartbeats (worker, role, phases, p99_ms, keys, told)
values ($1, $2, $3::jsonb, $4::jsonb, $5::jsonb, $6::jsonb)
on conflict (worker) do update set role = excluded.role, phases = excluded.phases, p99_ms = excluded.p99_ms,
    keys = excluded.keys, told = excluded.told, seen_at = now()"""
_RETIRE: Final = "delete from worker_heartbeats where worker = $1"
_LIVE: Final = """
select worker, role, phases::text as phases, p99_ms::text as p99_ms,
       extract(epoch from now() - seen_at)::float8 as age_s
from worker_heartbeats
where seen_at > now() - make_interval(secs => $1)
order by worker"""


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """What a worker said of itself when it was last seen, `age_s` seconds ago by the database's clock."""

    worker: str
    role: str
    phases: Mapping[str, str]
    """The phase by which it acts, for each change that it knows."""
    p99_ms: Mapping[str, float]
    """Milliseconds in which 99 of 100 requests were answered lately, by kind of traffic."""
    age_s: float


async def beat(
    connection: Connection,
    worker: str,
    role: str,
    phases: Phases,
    p99_ms: Mapping[str, float] | None = None,
    keys: str | None = None,
    told: str | None = None,
) -> None:
    """Say that this worker lives, by which phases it acts, how its traffic fares, and which keys it has (as JSON).

    `told` (as JSON) is for whoever looks (`persistence.overview`). Rows of a day ago are dropped.
    """
    await connection.execute(_BEAT, worker, role, json.dumps(dict(phases)), json.dumps(dict(p99_ms or {})), keys, told)


async def retire(connection: Connection, worker: str) -> None:
    """Say that this worker has stopped: nobody needs to wait for it."""
    await connection.execute(_RETIRE, worker)


async def live_workers(connection: Connection, younger_than_s: float = LIVE_FOR_S) -> Sequence[Heartbeat]:
    """Return the workers seen within the last `younger_than_s` seconds, by name."""
    return [
        Heartbeat(row["worker"], row["role"], json.loads(row["phases"]), json.loads(row["p99_ms"]), row["age_s"])
        for row in await connection.fetch(_LIVE, float(younger_than_s))
    ]


# ---------------------------------------------------------------------------------------------------------------- steps


@dataclass(frozen=True, slots=True)
class StepPatience:
    """How long a step waits, in seconds that it sees: for live workers to be at the present phase, and for its lock."""

    workers_s: float = 20.0
    lock_s: float = 30.0


@dataclass(frozen=True, slots=True)
class _Standing:
    phase: Phase
    last_exclusive_at: datetime


EXCLUSIVE_LOCK_TIMEOUT: Final = "500ms"
"""Longest wait of a step in one go: while it waits, every new write transaction waits behind it."""
_LONGEST_PAUSE_S: Final = 2.0
_POLL_S: Final = 0.25
_GATE_TIMEOUT_S: Final = 3600.0
"""The gate reads the whole table, in one snapshot and without a lock."""

_STANDING: Final = "select phase, last_exclusive_at from schema_changes where change = $1"
_GATE: Final = "select schema_change_refusal($1, $2)"
_EXCLUSIVE_LOCK: Final = "select pg_advisory_xact_lock(lock_key) from schema_changes where change = $1"
_STEP: Final = """
with moved as (
    update schema_changes
    set phase = $3, changed_at = clock_timestamp(), changed_by = $4, last_exclusive_at = clock_timestamp()
    where change = $1 and phase = $2 and last_exclusive_at = $5
    returning change, changed_at)
insert into schema_change_log (change, from_phase, to_phase, changed_at, changed_by)
select change, $2, $3, changed_at, $4 from moved
returning 1"""


async def advance(
    engine: AsyncEngine, change: str, to: Phase, *, by: str, patience: StepPatience | None = None
) -> Phase:
    """Take a change one step on (or back) and return the phase it came from; `to` itself when it is there already.

    `by` says who asked, for the log of steps. In this order: the step must be legal; live workers must all act by the
    present phase; the gate must find the data in order (it reads, holds nothing, and its finding stays true, as every
    write keeps both columns alike until the phase changes); then the lock is taken and the phase changed, if it still
    is what it was. A crash leaves the change before or after the step, never between; to ask again is right.
    Never call it while holding `SHARED_LOCK`: it would wait for its own caller.

    Raises `PhaseRefusedError` with the reason, `UnknownPhaseError` for a change or phase that has no name here; the
    driver's errors pass through.
    """
    bounds = patience or StepPatience()
    before = await _standing(engine, change)
    if before.phase == to:
        return to
    if (before.phase, to) not in STEPS:
        raise PhaseRefusedError(_no_such_step(change, before.phase, to))
    await _workers_at(engine, change, before.phase, bounds.workers_s)
    await _pass_gate(engine, change, to)
    await _step(engine, change, before, to, by, bounds.lock_s)
    return before.phase


async def _standing(engine: AsyncEngine, change: str) -> _Standing:
    async with connected(engine) as connection:
        row = await connection.fetchrow(_STANDING, change)
    if row is None or row["phase"] not in _NAMES:
        raise UnknownPhaseError(f"there is no change {change}, or it is in a phase that this release does not know")
    return _Standing(Phase(row["phase"]), row["last_exclusive_at"])


def _no_such_step(change: str, phase: Phase, to: Phase) -> str:
    legal = " or ".join(next_phases(phase))
    return f"{change} is {phase}, from where it goes to {legal or 'nowhere any more'}, not to {to}"


async def _workers_at(engine: AsyncEngine, change: str, phase: Phase, workers_s: float) -> None:
    """Wait until every live worker acts by the phase: caches and prepared statements are never two steps off."""
    waited_s = ObservedClock()
    while True:
        async with connected(engine) as connection:
            behind = [one for one in await live_workers(connection) if one.phases.get(change) != phase]
        if not behind:
            return
        if waited_s() > workers_s:
            named = ", ".join(f"{one.worker} ({one.phases.get(change, 'knows nothing of it')})" for one in behind)
            raise PhaseRefusedError(f"{change} is {phase}, but not for these live workers: {named}")
        await asyncio.sleep(_POLL_S)


async def _pass_gate(engine: AsyncEngine, change: str, to: Phase) -> None:
    async with connected(engine) as connection:
        reason = await connection.fetchval(_GATE, change, to, timeout=_GATE_TIMEOUT_S)
    if reason is not None:
        raise PhaseRefusedError(f"{change} cannot go to {to}: {reason}")


async def _step(engine: AsyncEngine, change: str, before: _Standing, to: Phase, by: str, lock_s: float) -> None:
    waited_s = ObservedClock()
    pause_s = _POLL_S
    while True:
        try:
            async with transaction(engine, f"set local lock_timeout = '{EXCLUSIVE_LOCK_TIMEOUT}'") as connection:
                await connection.execute(_EXCLUSIVE_LOCK, change)
                moved = await connection.fetchval(_STEP, change, before.phase, to, by, before.last_exclusive_at)
                if moved is None:
                    if (await _standing(engine, change)).phase == to:
                        return
                    raise PhaseRefusedError(f"somebody else moved {change} meanwhile: look again")
                await connection.execute("commit")
            return
        except asyncpg.LockNotAvailableError as error:
            if waited_s() + pause_s > lock_s:
                reason = f"{change} stays {before.phase}: write transactions left no gap within {lock_s:.0f} s"
                raise PhaseRefusedError(reason) from error
        await asyncio.sleep(random.uniform(pause_s / 2, pause_s))  # noqa: S311 (jitter, no secret)
        pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
