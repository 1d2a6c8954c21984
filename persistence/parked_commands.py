"""Which commands wait behind one of their key that met a defect: a queue for each key, its head being that one.

A command's place is where and when it first arrived. Keys are kept as keyed hashes: a key may be an e-mail address.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple

from sqlalchemy.ext.asyncio import AsyncEngine

from persistence.engine import connected


class Arrival(NamedTuple):
    """When and where a command first arrived: the order of a queue."""

    stamped_at: datetime
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class Parked:
    """One command of a queue, and the incident that its key waits for."""

    arrival: Arrival
    incident: str


Queues = Mapping[bytes, Sequence[Parked]]
"""By key hash; the first is the one whose turn it is."""

_LOAD: Final = """
select key_hmac, stamped_at, log_partition, log_offset, incident from parked_commands
where log_topic = $1 and key_hmac = any($2::bytea[])
order by stamped_at, log_partition, log_offset"""
_SETTLE: Final = """
with gone as (
    delete from parked_commands p
    using unnest($6::bytea[], $7::timestamptz[], $8::integer[], $9::bigint[]) as r(key_hmac, stamped_at, part, off)
    where p.log_topic = $1 and p.key_hmac = r.key_hmac and p.stamped_at = r.stamped_at and p.log_partition = r.part
        and p.log_offset = r.off)
insert into parked_commands (log_topic, key_hmac, stamped_at, log_partition, log_offset, incident)
select $1, r.key_hmac, r.stamped_at, r.part, r.off, r.incident
from unnest($2::bytea[], $3::timestamptz[], $4::integer[], $5::bigint[], $10::text[])
    as r(key_hmac, stamped_at, part, off, incident)
on conflict do nothing"""
_LET_GO: Final = """
delete from parked_commands where log_topic = $1 and stamped_at = $2 and log_partition = $3 and log_offset = $4"""


async def load(engine: AsyncEngine, topic: str, keys: Collection[bytes]) -> Queues:
    """Return the queues of these keys; those without one are left out."""
    async with connected(engine) as connection:
        rows = await connection.fetch(_LOAD, topic, list(keys))
    queues: dict[bytes, list[Parked]] = defaultdict(list)
    for row in rows:
        arrival = Arrival(row["stamped_at"], row["log_partition"], row["log_offset"])
        queues[row["key_hmac"]].append(Parked(arrival, row["incident"]))
    return queues


async def settle(
    engine: AsyncEngine,
    topic: str,
    parked: Sequence[tuple[bytes, Parked]],
    released: Sequence[tuple[bytes, Arrival]],
) -> None:
    """Add to the queues and take out of them; one statement, which may be repeated."""
    entering = [(key, *one.arrival, one.incident) for key, one in parked]
    leaving = [(key, *arrival) for key, arrival in released]
    into = [[row[place] for row in entering] for place in range(5)]
    out = [[row[place] for row in leaving] for place in range(4)]
    async with connected(engine) as connection:
        await connection.execute(_SETTLE, topic, *into[:4], *out, into[4])


async def let_go(engine: AsyncEngine, topic: str, arrival: Arrival) -> None:
    """Take a command out of its queue, of which an operator says that nothing needs to be done about it."""
    async with connected(engine) as connection:
        await connection.execute(_LET_GO, topic, *arrival)
