"""The erasing of outcomes with the customer they speak of: at once as far as one transaction goes, the rest in chunks.

What is left of a customer's outcomes when it is deleted is written down in the same transaction. From its commit on
whoever looks an outcome up (`persistence.outcomes`) finds it erased, be it so already or not; any worker takes chunk by
chunk until none is left. No outcome is added to them: who speaks of a living customer holds a lock that the deletion
waits for.

Whoever dies in a chunk has erased nothing of it; the customer stays written down.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy.ext.asyncio import AsyncEngine

from persistence.engine import Connection, connected

ERASED_AT_ONCE: Final = 2_000
"""Some 20 to 50 ms of a server's time; of a busy one a second."""

_UNERASED: Final = """
(select caller, message_id from outcomes
 where envelope is not null and subjects[1] is not null and subjects[1] = any({of}) limit {most})
union all
(select caller, message_id from outcomes
 where envelope is not null and subjects[2] is not null and subjects[2] = any({of}) limit {most})"""
# Locked in the order of their keys, as outcomes always are.
_ERASE: Final = f"""
with picked as materialized ({_UNERASED.format(of="$1::uuid[]", most="$2::bigint")}),
locked as (
  select o.caller, o.message_id from outcomes o join picked s on s.caller = o.caller and s.message_id = o.message_id
  order by o.caller, o.message_id for update of o),
erased as (
  update outcomes o set envelope = null, content_hmac = null from locked l
  where o.caller = l.caller and o.message_id = l.message_id)
select count(*) from picked"""
_WRITE_DOWN: Final = """
insert into outcome_erasures (customer_id) select id from unnest($1::uuid[]) as r(id)
where exists (select from outcomes where envelope is not null and subjects[1] = id)
  or exists (select from outcomes where envelope is not null and subjects[2] = id)
order by id
on conflict do nothing"""
# One customer, which no other worker is at. Rows that somebody has locked are the next time's: what waits for nobody is
# in nobody's circle.
_ERASE_SOME: Final = f"""
with waiting as materialized (
  select customer_id from outcome_erasures order by asked_at, customer_id limit 1 for update skip locked),
picked as materialized ({_UNERASED.format(of="array(select customer_id from waiting)", most="$1::bigint")}),
locked as (
  select o.caller, o.message_id from outcomes o join picked s on s.caller = o.caller and s.message_id = o.message_id
  order by o.caller, o.message_id for update of o skip locked),
erased as (
  update outcomes o set envelope = null, content_hmac = null from locked l
  where o.caller = l.caller and o.message_id = l.message_id returning 1),
done as (
  delete from outcome_erasures e using waiting
  where e.customer_id = waiting.customer_id and not exists (select from picked) returning 1)
select (select count(*) from waiting) as taken, (select count(*) from erased) as erased,
  (select count(*) from done) as done"""


@dataclass(frozen=True, slots=True)
class Chunk:
    """What one step did: how many outcomes it erased, and whether there is more to be done now."""

    erased: int
    more: bool


async def erase(connection: Connection, customers: Sequence[str], at_most: int = ERASED_AT_ONCE) -> None:
    """Erase envelope and content hash of the outcomes that hold data of these customers, within their deletion.

    Of more than `at_most` the rest is written down: nobody shows it from the commit on.
    """
    found = await connection.fetchval(_ERASE, customers, at_most)
    if found >= at_most:
        await connection.execute(_WRITE_DOWN, customers)


async def erase_some(engine: AsyncEngine, at_most: int = ERASED_AT_ONCE) -> Chunk:
    """Erase a chunk of what is written down; one statement, committed when it returns."""
    async with connected(engine) as connection:
        row = await connection.fetchrow(_ERASE_SOME, at_most)
    return Chunk(row["erased"], more=row["erased"] > 0 or row["done"] > 0)
