"""Products held against deletion: how many placed orders refer to each, as deltas that many workers add at once.

A product's count is the sum of its rows. A batch adds one row a product; whoever would delete the product locks its row
first, then sums: an order's row refers to the product, so that none can be added meanwhile. A folder tidies up.
"""

from collections.abc import Collection, Sequence
from typing import Final

from persistence.engine import Connection
from persistence.identity_map import Journal
from persistence.rowset import RowSet

SUM: Final = """
select product_id::text, sum(amount)::bigint as amount
from product_holds where product_id = any($1::uuid[]) group by product_id"""
_DELTAS: Final = RowSet("product_holds", {"product_id": "uuid", "amount": "bigint"})


class ProductHolds:
    """The holds of one batch: those that were there, where somebody must know, and the differences it makes."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._stored: dict[str, int] = {}
        self._added: dict[str, int] = {}

    async def load(self, connection: Connection, product_ids: Sequence[str]) -> None:
        """Count the holds of products that may be deleted; their rows are locked, by an earlier statement."""
        rows = await connection.fetch(SUM, product_ids) if product_ids else ()
        self._stored = dict.fromkeys(product_ids, 0) | {row["product_id"]: row["amount"] for row in rows}

    def count(self, product_id: str) -> int:
        """Count the placed orders that refer to a product which was loaded, or made by this batch, as of now."""
        return self._stored.get(product_id, 0) + self._added.get(product_id, 0)

    def add(self, product_id: str, amount: int) -> None:
        """Hold (1) or release (-1) a product for one order; taken back with its message."""
        self._added[product_id] = self._added.get(product_id, 0) + amount
        self._journal.note(self._subtract, product_id, amount)

    def _subtract(self, product_id: str, amount: int) -> None:
        self._added[product_id] -= amount

    async def flush(self, connection: Connection, deleted: Collection[str]) -> None:
        """Write one row a product whose count changed; what this batch deleted took its rows with it."""
        rows = [(one, amount) for one, amount in sorted(self._added.items()) if amount and one not in deleted]
        await _DELTAS.insert(connection, rows)


# The product comes before its holds, as everywhere: a delete locks the product's row and then waits for its holds. A
# product that somebody is about to delete is left alone, and so are rows that another folder has.
_FOLD: Final = """
with recent as (
  select id, product_id from product_holds where id > $1 order by id limit $2),
many as (
  select product_id from product_holds where product_id in (select product_id from recent)
  group by product_id having count(*) > 1),
lasting as (
  select id from products where id in (select product_id from many) order by id for key share skip locked),
taken as (
  select h.id from product_holds h join lasting on lasting.id = h.product_id
  order by h.id limit $2 for update of h skip locked),
folded as (
  delete from product_holds where id in (select id from taken) returning product_id, amount),
summed as (
  insert into product_holds (product_id, amount)
  select product_id, sum(amount)::bigint from folded group by product_id having sum(amount) <> 0)
select coalesce(max(id), $1) from recent"""


async def fold(connection: Connection, seen: int = 0, at_most: int = 20_000) -> int:
    """Replace differences by their sums, in one statement: whoever counts meanwhile sees either the ones or the other.

    Looks at no more than `at_most` rows with ids above `seen`, so that it costs nothing where nothing is new, and
    returns what to pass as `seen` next time. Whoever dies in between has changed nothing; who forgets `seen` starts
    from 0.
    """
    return int(await connection.fetchval(_FOLD, seen, at_most))
