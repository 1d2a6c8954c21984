"""The end of an outcome: after the retention it is deleted, and a message as old as that is never applied again.

Deleting an outcome alone would make its message new again. So the purge mark comes first, in a transaction of its own:
from its commit on, every look-up and every new transaction sees that what was stamped before the mark is too old. A
transaction that read the mark before may still be about to insert an outcome, trusting that the conflict with a stored
one would stop it. Nothing is deleted until all of these have ended.

Whoever dies in between leaves a mark without deletions: the next purge waits and deletes just the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy.ext.asyncio import AsyncEngine

from persistence.engine import Connection, connected

_MARK: Final = "select stamped_before, now() as now from outcome_mark"
# The database's clock bounds it: a broker whose clock is years ahead must not have everything forgotten.
_MOVE: Final = """
update outcome_mark set stamped_before = least($1, now() - $2::interval)
where stamped_before < least($1, now() - $2::interval)
returning stamped_before"""

# By its virtual id, which every transaction has from its first statement on, and as long as it lives. Ids of `xid8` and
# the snapshots made of them would miss whoever has read the mark and has not written yet. Sessions of other databases
# cannot write outcomes of this one, and what has no user (autovacuum, which may take hours) writes none.
_RUNNING: Final = """
select l.virtualxid as id
from pg_locks l join pg_stat_activity a on a.pid = l.pid
where l.locktype = 'virtualxid' and l.granted and l.pid <> pg_backend_pid() and l.virtualxid is not null
    and l.virtualtransaction = l.virtualxid
    and a.datid = (select oid from pg_database where datname = current_database()) and a.usesysid is not null"""
_STILL_RUNNING: Final = """
select l.pid, a.application_name
from pg_locks l left join pg_stat_activity a on a.pid = l.pid
where l.locktype = 'virtualxid' and l.granted and l.virtualxid = any($1::text[])
    and l.virtualtransaction = l.virtualxid"""

# SKIP LOCKED: an erasure has the row, which is the next round's then; a purge never waits, so it is in nobody's circle.
_DELETE: Final = """
with doomed as (
    select ctid from outcomes
    where stamped_at >= $1 and stamped_at < $2
    order by stamped_at
    limit $3
    for update skip locked),
gone as (
    delete from outcomes where ctid = any(array(select ctid from doomed)) returning stamped_at)
select count(*) as number, max(stamped_at) as reached from gone"""


@dataclass(frozen=True, slots=True)
class Mark:
    """What was stamped before `stamped_before` is forgotten; `now` is the database's clock."""

    stamped_before: datetime
    now: datetime


@dataclass(frozen=True, slots=True)
class Holder:
    """A session whose transaction began before the mark moved, and has not ended."""

    pid: int
    application: str


@dataclass(frozen=True, slots=True)
class Deleted:
    """How many outcomes one statement deleted, and the stamp of the newest of them."""

    number: int
    reached: datetime | None


async def oldest_stamp(connection: Connection) -> datetime | None:
    """Return when the oldest outcome that is kept was stamped; None where there is none."""
    oldest: datetime | None = await connection.fetchval("select min(stamped_at) from outcomes")
    return oldest


async def read_mark(connection: Connection) -> Mark:
    """Read the purge mark."""
    row = await connection.fetchrow(_MARK)
    return Mark(row["stamped_before"], row["now"])


async def move_mark(engine: AsyncEngine, to: datetime, kept: timedelta) -> datetime | None:
    """Forget what was stamped before `to`, but nothing that is younger than `kept` by the database's clock.

    Committed when it returns. Returns the new mark, or None where it stood there already: it never moves back.
    """
    async with connected(engine) as connection:
        moved: datetime | None = await connection.fetchval(_MOVE, to, kept)
        return moved


async def running_transactions(connection: Connection) -> Sequence[str]:
    """Return the virtual ids of all transactions of this database, but for the asking session's."""
    return [row["id"] for row in await connection.fetch(_RUNNING)]


async def still_running(connection: Connection, ids: Sequence[str]) -> Sequence[Holder]:
    """Return who of these transactions has not ended."""
    return [
        Holder(row["pid"], row["application_name"] or "") for row in await connection.fetch(_STILL_RUNNING, list(ids))
    ]


async def delete_parked(connection: Connection, mark: datetime, letters_kept: timedelta) -> None:
    """Forget what is parked and cannot be brought back: its outcome, or its dead letter, is kept no longer.

    Nobody waits for it any more: else its key would wait for ever.
    """
    await connection.execute(
        "delete from parked_commands where stamped_at < $1 or parked_at < clock_timestamp() - $2::interval",
        mark,
        letters_kept,
    )


async def delete_outcomes(connection: Connection, since: datetime, mark: datetime, at_most: int) -> Deleted:
    """Delete up to `at_most` of the oldest outcomes stamped from `since` to before the mark; one statement.

    Only after the transactions that were running when the mark was committed have ended.
    """
    row = await connection.fetchrow(_DELETE, since, mark, at_most)
    return Deleted(row["number"], row["reached"])
