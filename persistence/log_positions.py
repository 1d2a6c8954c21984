"""Where in the log the stored outcomes stand: by it a database is compared with a topic, and a group is set back.

Decisions of a partition are stored in its order, so an outcome at an offset says that everything before it was decided.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from sqlalchemy.ext.asyncio import AsyncEngine

from persistence.engine import connected


@dataclass(frozen=True, slots=True)
class StoredAt:
    """The outcome of a partition that was stamped last: one of an earlier topic of its name stands behind it."""

    partition: int
    offset: int
    message_id: str
    decided_at: datetime


@dataclass(frozen=True, slots=True)
class Rewind:
    """A partition's offsets, before and after somebody set its group back."""

    partition: int
    from_offset: int
    to_offset: int


@dataclass(frozen=True, slots=True)
class DecidedBefore:
    """What stood before this offset, and was stamped before this time, had been decided before a rewind."""

    offset: int
    stamped_before: datetime


_NEWEST: Final = """
select distinct on (log_partition) log_partition, log_offset, message_id, decided_at
from (select log_partition, log_offset, message_id, decided_at, stamped_at from outcomes
    where log_topic = $1 order by stamped_at desc limit $2) newest
order by log_partition, stamped_at desc, log_offset desc"""
_PAGE: Final = """
with page as (
    select log_partition, log_offset, stamped_at from outcomes
    where log_topic = $1 and stamped_at < $2 order by stamped_at desc limit 20000)
select distinct on (log_partition) log_partition, log_offset as last, (select min(stamped_at) from page) as reached
from page order by log_partition, stamped_at desc, log_offset desc"""
_REWIND: Final = """
insert into offset_rewinds (log_topic, log_partition, from_offset, to_offset, operator)
select $1, r.partition, r.from_offset, r.to_offset, $5
from unnest($2::integer[], $3::bigint[], $4::bigint[]) as r(partition, from_offset, to_offset)"""
_REWINDS: Final = """
select log_topic, log_partition, max(from_offset) as decided, max(rewound_at) as at
from offset_rewinds group by log_topic, log_partition"""


async def newest_stored(engine: AsyncEngine, topic: str, among: int = 20_000) -> Sequence[StoredAt]:
    """Return, by partition, the last outcome among the newest ones; cheap on any table."""
    async with connected(engine) as connection:
        rows = await connection.fetch(_NEWEST, topic, among)
    return [StoredAt(row["log_partition"], row["log_offset"], row["message_id"], row["decided_at"]) for row in rows]


async def stored_ends(engine: AsyncEngine, topic: str, partitions: Iterable[int]) -> dict[int, int]:
    """Return, by partition, the offset after a stored outcome that is its last one, or close to it.

    Pages back through the outcomes until every partition was met; one without an outcome is left out, which takes a
    look at all of them.
    """
    ends: dict[int, int] = {}
    missing = set(partitions)
    before = datetime.max.replace(tzinfo=UTC)
    while missing:
        async with connected(engine) as connection:
            rows = await connection.fetch(_PAGE, topic, before)
        if not rows:
            break
        for row in rows:
            ends.setdefault(row["log_partition"], row["last"] + 1)
        missing -= ends.keys()
        before = rows[0]["reached"]
    return ends


async def note_rewinds(engine: AsyncEngine, topic: str, rewinds: Sequence[Rewind], operator: str) -> None:
    """Write down that a group is about to be set back: what it had decided is decided again, whatever its deadline."""
    async with connected(engine) as connection:
        columns = [[getattr(one, name) for one in rewinds] for name in ("partition", "from_offset", "to_offset")]
        await connection.execute(_REWIND, topic, *columns, operator)


async def rewinds(engine: AsyncEngine) -> Mapping[tuple[str, int], DecidedBefore]:
    """Return, by topic and partition, what had been decided before it was set back."""
    async with connected(engine) as connection:
        rows = await connection.fetch(_REWINDS)
    return {(row["log_topic"], row["log_partition"]): DecidedBefore(row["decided"], row["at"]) for row in rows}
