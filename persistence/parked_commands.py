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
    """Where in the log a command first arrived, as the operator's list goes; when: it may be of another topic."""

    partition: int
    offset: int
    stamped_at: datetime


@dataclass(frozen=True, slots=True)
class Parked:
    """One command of a queue, and the incident that its key waits for.

    `may_return`: what stood before it has had its turn, so that it need not wait for an operator.
    """

    arrival: Arrival
    incident: str
    may_return: bool = False


class Entering(NamedTuple):
    """What enters a queue: its key's hash, its place, and the message as the outcomes know it (caller, id)."""

    key_hmac: bytes
    parked: Parked
    message: tuple[str, str]


Queues = Mapping[bytes, Sequence[Parked]]
"""By key hash; the first is the one whose turn it is."""

# Of each queue as many as the batch could go through, and whatever in it is of the batch itself: a key that nobody
# looked after for weeks costs a batch no more than any other.
_LOAD: Final = """
with own as (select * from unnest($4::integer[], $5::bigint[], $6::timestamptz[]) as o(part, off, stamped_at)),
found as (
    select p.* from unnest($2::bytea[]) as k(key_hmac) cross join lateral (
        select key_hmac, stamped_at, log_partition, log_offset, incident, may_return from parked_commands p
        where p.log_topic = $1 and p.key_hmac = k.key_hmac
        order by log_partition, log_offset, stamped_at limit $3) p
    union
    select p.key_hmac, p.stamped_at, p.log_partition, p.log_offset, p.incident, p.may_return
    from unnest($2::bytea[]) as k(key_hmac) cross join own o join parked_commands p
        on p.log_topic = $1 and p.key_hmac = k.key_hmac and p.stamped_at = o.stamped_at
        and p.log_partition = o.part and p.log_offset = o.off)
select key_hmac, stamped_at, log_partition, log_offset, incident, may_return from found
order by log_partition, log_offset, stamped_at"""
# A worker that was overtaken (stopped, and woken after its partition went to another) may hold as broken what was
# applied meanwhile: what has an outcome enters no queue. Who is put aside again has a new dead letter.
_SETTLE: Final = """
with gone as (
    delete from parked_commands p
    using unnest($6::bytea[], $7::integer[], $8::bigint[], $9::timestamptz[]) as r(key_hmac, part, off, stamped_at)
    where p.log_topic = $1 and p.key_hmac = r.key_hmac and p.stamped_at = r.stamped_at and p.log_partition = r.part
        and p.log_offset = r.off)
insert into parked_commands (log_topic, key_hmac, stamped_at, log_partition, log_offset, incident)
select $1, r.key_hmac, r.stamped_at, r.part, r.off, r.incident
from unnest($2::bytea[], $3::integer[], $4::bigint[], $5::timestamptz[], $10::text[], $11::text[], $12::text[])
    as r(key_hmac, part, off, stamped_at, incident, caller, message_id)
where not exists (select from outcomes o where o.caller = r.caller and o.message_id = r.message_id)
order by r.key_hmac, r.part, r.off, r.stamped_at
on conflict (log_topic, key_hmac, stamped_at, log_partition, log_offset)
do update set parked_at = clock_timestamp(), incident = excluded.incident, may_return = false"""
# Where somebody leaves a queue, its front need not wait for an operator any more.
_FRONT: Final = """
select q.log_partition, q.log_offset, q.stamped_at from parked_commands q
where q.log_topic = $1 and q.key_hmac = k.key_hmac
order by q.log_partition, q.log_offset, q.stamped_at limit"""
_NEXT: Final = f"""
update parked_commands p set may_return = true
from unnest($2::bytea[]) as k(key_hmac) cross join lateral ({_FRONT} 1) as front
where p.log_topic = $1 and p.key_hmac = k.key_hmac and p.log_partition = front.log_partition
    and p.log_offset = front.log_offset and p.stamped_at = front.stamped_at and not p.may_return"""
_ALL_OF_FRONT: Final = f"""
select distinct front.* from unnest($2::bytea[]) as k(key_hmac) cross join lateral ({_FRONT} $3) as front
order by 1, 2, 3 limit $3"""
_STAY: Final = """
update parked_commands set may_return = false where log_topic = $1 and key_hmac = any($2::bytea[]) and may_return"""
_LET_GO: Final = """
delete from parked_commands where log_topic = $1 and log_partition = $2 and log_offset = $3 and stamped_at = $4"""


async def load(engine: AsyncEngine, topic: str, keys: Collection[bytes], own: Collection[Arrival]) -> Queues:
    """Return the queues of these keys, the front of each and what of them is `own`; keys without one are left out."""
    columns = [list(column) for column in zip(*own, strict=True)] or [[], [], []]
    async with connected(engine) as connection:
        rows = await connection.fetch(_LOAD, topic, list(keys), len(own) + 1, *columns)
    queues: dict[bytes, list[Parked]] = defaultdict(list)
    for row in rows:
        arrival = Arrival(row["log_partition"], row["log_offset"], row["stamped_at"])
        queues[row["key_hmac"]].append(Parked(arrival, row["incident"], row["may_return"]))
    return queues


async def settle(
    engine: AsyncEngine, topic: str, entering: Sequence[Entering], leaving: Sequence[tuple[bytes, Arrival]]
) -> None:
    """Add to the queues what has no outcome, and take out of them; one statement, which may be repeated.

    Then the fronts of queues that somebody left are noted; dying before that, they wait for an operator as before.
    """
    rows = [(one.key_hmac, *one.parked.arrival, one.parked.incident, *one.message) for one in entering]
    into = [[row[place] for row in rows] for place in range(7)]
    out = [[(key, *arrival)[place] for key, arrival in leaving] for place in range(4)]
    async with connected(engine) as connection:
        await connection.execute(_SETTLE, topic, *into[:4], *out, *into[4:])
        if left := sorted({key for key, _ in leaving} - {one.key_hmac for one in entering}):
            await connection.execute(_NEXT, topic, left)


async def front(engine: AsyncEngine, topic: str, keys: Sequence[bytes], most: int) -> Sequence[Arrival]:
    """Return where the first of a queue arrived, in their order; `keys` are the hashes of the one key."""
    async with connected(engine) as connection:
        rows = await connection.fetch(_ALL_OF_FRONT, topic, keys, most)
    return [Arrival(*row) for row in rows]


async def stay(engine: AsyncEngine, topic: str, keys: Sequence[bytes]) -> None:
    """Have a queue wait for an operator: the log has its front no longer."""
    async with connected(engine) as connection:
        await connection.execute(_STAY, topic, keys)


async def let_go(engine: AsyncEngine, topic: str, arrival: Arrival) -> None:
    """Take a command out of its queue, of which an operator says that nothing needs to be done about it."""
    async with connected(engine) as connection:
        await connection.execute(_LET_GO, topic, *arrival)
