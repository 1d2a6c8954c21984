"""The throttle's signals: what PostgreSQL and the live workers say of the load, read one by one.

Each reading stands alone: what cannot be read says so, and why, and does not keep the others from being read. What they
mean is not decided here.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from persistence.backfill.failures import in_one_line
from persistence.engine import Connection
from persistence.observed_time import ObservedClock

READ_TIMEOUT_S: Final = 2.0
"""A signal that takes longer than this to read counts as unreadable: the database is in no state to be worked."""
OVERSLEPT_S: Final = 1.0
"""A time-out that strikes later than this after its time struck a process that was stopped."""
STALE_HEARTBEAT_S: Final = 15.0
"""Live workers beat every few seconds: one that is silent for longer says nothing of the traffic now."""
GONE_HEARTBEAT_S: Final = 60.0
"""… and one that is silent for this long has gone; workers that stop in order take their row away."""


class Signal(StrEnum):
    """What is listened to."""

    REPLICA_LAG = "replica_lag"
    """Seconds that the slowest replica is behind in replaying."""
    SLOT_WAL = "slot_wal"
    """Bytes of WAL kept back for the slowest replication slot."""
    WAL_RATE = "wal_rate"
    """Bytes of WAL a second, everybody's, since the reading before."""
    LOCK_WAITS = "lock_waits"
    """Sessions, other than backfills, that wait for a lock while they use a backfill's table."""
    ACTIVE_SESSIONS = "active_sessions"
    """Sessions at work for each core of the database, backfills included."""
    AUTOVACUUM = "autovacuum"
    """1 while a vacuum of a backfill's table runs, 2 while one that guards against wraparound does."""
    DEAD_TUPLES = "dead_tuples"
    """Dead rows for each live one, of the worst table; one of fewer than 10,000 rows counts as if it had as many."""
    LIVE_P99 = "live_p99"
    """Milliseconds: the worst 99th percentile that a live worker measured of its own traffic."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A signal's value; None: it could not be read, and `trouble` says why."""

    signal: Signal
    value: float | None
    trouble: str = ""


_REPLICA_LAG: Final = """
select max(coalesce(extract(epoch from replay_lag), 0))::float8 as value,
       bool_or(backend_start is null) as hidden
from pg_stat_replication"""
_SLOT_WAL: Final = """
select max(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn))::float8 as value, false as hidden
from pg_replication_slots where restart_lsn is not null"""
_WAL_RATE: Final = """
with before as (select wal_lsn, sampled_at from backfill_budget),
now_at as (update backfill_budget set wal_lsn = pg_current_wal_lsn() returning wal_lsn)
select coalesce(pg_wal_lsn_diff(now_at.wal_lsn, before.wal_lsn)
                / greatest(extract(epoch from clock_timestamp() - before.sampled_at), 0.1), 0)::float8 as value,
       false as hidden
from before, now_at where before.sampled_at > clock_timestamp() - interval '10 s'"""
_LOCK_WAITS: Final = """
select count(distinct waiting.pid)::float8 as value, false as hidden
from pg_locks waiting
join pg_locks held on held.pid = waiting.pid
join pg_stat_activity session on session.pid = waiting.pid
where not waiting.granted
  and held.relation = any(select to_regclass(name) from unnest($1::text[]) as name)
  and session.application_name not like $2"""
_ACTIVE_SESSIONS: Final = """
select count(*) filter (where state = 'active')::float8 / $1::float8 as value,
       bool_or(state is null and usesysid is not null) as hidden
from pg_stat_activity
where datname = current_database() and backend_type = 'client backend' and pid <> pg_backend_pid()"""
_AUTOVACUUM: Final = """
select max(case when session.query like '%to prevent wraparound%' then 2 else 1 end)::float8 as value, false as hidden
from pg_stat_progress_vacuum progress
left join pg_stat_activity session on session.pid = progress.pid
where progress.relid = any(select to_regclass(name) from unnest($1::text[]) as name)"""
_DEAD_TUPLES: Final = """
select max(n_dead_tup / greatest(n_live_tup, c.reltuples, 10000)::float8)::float8 as value, false as hidden
from pg_stat_user_tables s join pg_class c on c.oid = s.relid  -- a crash forgets the statistics, not the catalogue
where relid = any(select to_regclass(name) from unnest($1::text[]) as name)"""
_LIVE_P99: Final = f"""
select max(p99.ms::float8) filter (where seen_at > clock_timestamp() - make_interval(secs => {STALE_HEARTBEAT_S}))
           as value,
       bool_or(seen_at <= clock_timestamp() - make_interval(secs => {STALE_HEARTBEAT_S})) as hidden
from worker_heartbeats left join lateral jsonb_each_text(p99_ms) as p99 (traffic, ms) on true
where role <> 'backfill' and seen_at > clock_timestamp() - make_interval(secs => {GONE_HEARTBEAT_S})"""

_HIDDEN: Final[Mapping[Signal, str]] = {
    Signal.REPLICA_LAG: "the role may not see it: grant it pg_monitor",
    Signal.ACTIVE_SESSIONS: "the role may not see other roles' sessions: grant it pg_monitor",
    Signal.LIVE_P99: "a live worker has stopped beating",
}


async def read_signals(
    connection: Connection, signals: Sequence[Signal], *, tables: Sequence[str], cores: int, own_sessions: str
) -> Sequence[Reading]:
    """Read the signals asked for. `own_sessions` is the pattern of the application names of backfill workers.

    Raises only what means that the connection is gone.
    """
    arguments: Mapping[Signal, tuple[str, tuple[object, ...]]] = {
        Signal.REPLICA_LAG: (_REPLICA_LAG, ()),
        Signal.SLOT_WAL: (_SLOT_WAL, ()),
        Signal.WAL_RATE: (_WAL_RATE, ()),
        Signal.LOCK_WAITS: (_LOCK_WAITS, (list(tables), own_sessions)),
        Signal.ACTIVE_SESSIONS: (_ACTIVE_SESSIONS, (float(cores),)),
        Signal.AUTOVACUUM: (_AUTOVACUUM, (list(tables),)),
        Signal.DEAD_TUPLES: (_DEAD_TUPLES, (list(tables),)),
        Signal.LIVE_P99: (_LIVE_P99, ()),
    }
    return [await _read(connection, signal, *arguments[signal]) for signal in signals]


async def _read(connection: Connection, signal: Signal, query: str, arguments: tuple[object, ...]) -> Reading:
    while True:
        waited_s = ObservedClock(most_s=READ_TIMEOUT_S + OVERSLEPT_S)
        try:
            async with asyncio.timeout(READ_TIMEOUT_S):
                row = await connection.fetchrow(query, *arguments)
        except TimeoutError:
            waited_s()
            if waited_s.missed_s > 0:
                continue  # this process was stopped: the answer has been there for long, perhaps
            return Reading(signal, None, f"not read within {READ_TIMEOUT_S:.0f} s")
        except Exception as error:
            if getattr(error, "sqlstate", None) is None:
                raise  # no answer of the server: the connection is gone
            return Reading(signal, None, in_one_line(error))
        if row is not None and row["hidden"]:
            return Reading(signal, None, _HIDDEN[signal])
        return Reading(signal, 0.0 if row is None or row["value"] is None else row["value"])
