"""What all workers share beside the chunks: who is there, where the time went, and the one budget of all backfills."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any, Final, NamedTuple

from persistence.engine import Connection

SEEN_FOR_S: Final = 20.0
"""A worker that has not been seen for this long does not count: they say something between two chunks, and a chunk
takes 15 s at most."""
SAMPLE_EVERY_S: Final = 1.0
"""How often the signals are read, by whichever worker comes first."""
SAMPLE_VALID_S: Final = 5.0
"""An older sample says nothing: the reading itself is in trouble then."""


class Spent(StrEnum):
    """What a worker's time goes into."""

    RUNNING = "running"
    """A chunk is planned, treated or written off."""
    HELD = "held"
    """A signal of the throttle stopped it or slows it down."""
    WAITING = "waiting"
    """For the rate cap, or after a failure."""
    IDLE = "idle"
    """There is nothing to do; of a run: but for the chunks that others have in hand."""


class FinishedChunk(NamedTuple):
    """How long ago a chunk was finished and how long it took, in seconds; its pass, and the keys it walked."""

    age_s: float
    pass_number: int
    rows_walked: int
    took_s: float


@dataclass(frozen=True, slots=True)
class Spell:
    """What a worker is doing, for which run; `signal` says what holds it."""

    spent: Spent
    run_id: int | None = None
    signal: str = ""


@dataclass(frozen=True, slots=True)
class Budget:
    """The last sample of the signals and what follows from it, for everybody.

    `share` is how much of their time workers may run (1: no limit, 0: stopped), `ceiling` what it may be at most by
    now, `trusted` from where it grows slowly.
    """

    level: float
    signal: str
    share: float
    ceiling: float
    trusted: float
    readings: Sequence[Mapping[str, Any]]
    age_s: float
    workers: int


_BUDGET: Final = f"""
select level, signal, share, ceiling, trusted, readings::text as readings,
       case when isfinite(sampled_at) then extract(epoch from clock_timestamp() - sampled_at)::float8
            else 'infinity'::float8 end as age_s,
       greatest(1, (select count(*) from backfill_workers
                    where seen_at > clock_timestamp() - make_interval(secs => {SEEN_FOR_S}))) as workers
from backfill_budget"""
_CLAIM_SAMPLE: Final = f"""
update backfill_budget set sampled_by = $1, claimed_at = clock_timestamp()
where claimed_at < clock_timestamp() - make_interval(secs => {SAMPLE_EVERY_S})
returning only_row"""
_STORE_SAMPLE: Final = """
update backfill_budget
set level = $1, signal = $2, share = $3::float8, ceiling = $4, trusted = $5, readings = $6::text::jsonb,
    sampled_at = clock_timestamp(),
    free_at = case when $3::float8 >= 1 then '-infinity' else free_at end"""
_RESERVE: Final = """
update backfill_budget
set free_at = greatest(free_at, clock_timestamp()) + make_interval(secs => $1)
where free_at <= clock_timestamp()
returning only_row"""
_FREE_IN: Final = """
select greatest(extract(epoch from free_at - clock_timestamp()), 0.001)::float8 from backfill_budget"""
_SEEN: Final = """
insert into backfill_workers (worker, run_id, spent, signal, definitions) values ($1, $2, $3, $4, $5::jsonb)
on conflict (worker) do update
set run_id = excluded.run_id, spent = excluded.spent, signal = excluded.signal, seen_at = clock_timestamp(),
    definitions = excluded.definitions"""
_SPENT: Final = """
insert into backfill_times (run_id, spent, signal, seconds)
select * from unnest($1::bigint[], $2::text[], $3::text[], $4::float8[]) as spell (run_id, spent, signal, seconds)
where exists (select from backfill_runs r where r.id = spell.run_id)
order by 1, 2, 3
on conflict (run_id, spent, signal) do update set seconds = backfill_times.seconds + excluded.seconds"""
_PRUNE: Final = """
with turn as (
    update backfill_budget set pruned_at = clock_timestamp()
    where pruned_at < clock_timestamp() - interval '1 hour' returning only_row),
workers as (delete from backfill_workers where seen_at < clock_timestamp() - interval '1 day'),
kept as (
    select max(id) as id from backfill_runs where kind = 'work' group by name
    union all
    select max(id) from backfill_runs
    where kind = 'work' and not dry_run and state in ('completed', 'completed_with_quarantine') group by name, reverse
    union all
    select max(id) from backfill_runs where kind = 'verify' group by verifies)
select r.id from backfill_runs r, turn
where r.finished_at < clock_timestamp() - $1::interval and r.id not in (select id from kept)
order by r.id"""


async def read_budget(connection: Connection) -> Budget:
    """Return the budget that holds for everybody now."""
    row = await connection.fetchrow(_BUDGET)
    return Budget(
        level=row["level"],
        signal=row["signal"],
        share=row["share"],
        ceiling=row["ceiling"],
        trusted=row["trusted"],
        readings=json.loads(row["readings"]),
        age_s=row["age_s"],
        workers=row["workers"],
    )


async def claim_sample(connection: Connection, worker: str) -> bool:
    """Say whether it is this worker's turn to read the signals: once a second, one worker of all."""
    return await connection.fetchval(_CLAIM_SAMPLE, worker) is not None


async def store_sample(connection: Connection, budget: Budget) -> None:
    """Let the result of a sample hold for everybody."""
    await connection.execute(
        _STORE_SAMPLE,
        budget.level,
        budget.signal,
        budget.share,
        budget.ceiling,
        budget.trusted,
        json.dumps(list(budget.readings)),
    )


async def reserve_run(connection: Connection, seconds: float) -> float:
    """Take the next stretch of the budget, `seconds` long; returns 0, or how long to wait before asking again."""
    if await connection.fetchval(_RESERVE, seconds) is not None:
        return 0.0
    wait_s: float = await connection.fetchval(_FREE_IN)
    return wait_s


async def say(connection: Connection, worker: str, spell: Spell, definitions: Mapping[str, str]) -> None:
    """Say what a worker is doing, and which definitions it knows: their names, and the digests of their files."""
    await connection.execute(_SEEN, worker, spell.run_id, spell.spent, spell.signal, json.dumps(dict(definitions)))


async def leave(connection: Connection, worker: str) -> None:
    """Say that a worker has stopped."""
    await connection.execute("delete from backfill_workers where worker = $1", worker)


async def workers_seen(connection: Connection) -> Sequence[Mapping[str, Any]]:
    """Return the workers seen lately, by name; `definitions` are None where a worker does not say which it knows."""
    rows = await connection.fetch(
        """
        select worker, run_id, spent, signal, definitions::text as definitions from backfill_workers
        where seen_at > clock_timestamp() - make_interval(secs => $1) order by worker""",
        SEEN_FOR_S,
    )
    return [
        {**row, "definitions": json.loads(row["definitions"]) if row["definitions"] is not None else None}
        for row in rows
    ]


async def book(connection: Connection, spells: Mapping[Spell, float]) -> None:
    """Add seconds to the accounts of runs; what belongs to no run, or to one that is gone, is dropped."""
    booked = [(spell.run_id, spell.spent, spell.signal, seconds) for spell, seconds in spells.items() if spell.run_id]
    if booked:
        await connection.execute(_SPENT, *(list(column) for column in zip(*booked, strict=True)))


async def times_of(connection: Connection, run_id: int) -> Sequence[tuple[str, str, float]]:
    """Return where the workers' time of a run went: what for, by which signal, seconds."""
    rows = await connection.fetch(
        "select spent, signal, seconds from backfill_times where run_id = $1 order by spent, signal", run_id
    )
    return [(row["spent"], row["signal"], row["seconds"]) for row in rows]


async def finished_chunks(connection: Connection, run_id: int, newest: int) -> Sequence[FinishedChunk]:
    """Return the newest finished chunks of a run, the oldest first."""
    rows = await connection.fetch(
        """
        select extract(epoch from clock_timestamp() - finished_at)::float8 as age_s, pass, rows_walked,
            coalesce(seconds, 0) as took_s
        from backfill_chunks where run_id = $1 and state in ('done', 'quarantined')
        order by finished_at desc limit $2""",
        run_id,
        newest,
    )
    return [FinishedChunk(row["age_s"], row["pass"], row["rows_walked"], row["took_s"]) for row in reversed(rows)]


async def runs_to_prune(connection: Connection, keep_days: float) -> Sequence[int]:
    """Return ended runs whose ledger is older than is kept, once an hour for all workers together.

    The newest run of each backfill, the newest that was completed, and their newest verifies stay: a gate may ask.
    """
    return [row["id"] for row in await connection.fetch(_PRUNE, timedelta(days=keep_days))]


async def prune(connection: Connection, run_id: int) -> None:
    """Forget a run with its chunks; what verified it goes along."""
    await connection.execute("delete from backfill_runs where id = $1", run_id)
