"""Counters that many workers raise at once: each batch adds a row of differences, a reader sums, a folder tidies up.

So no counter is ever a row that every batch must lock.
"""

from collections import defaultdict
from collections.abc import Sequence
from decimal import Decimal
from typing import Final

from persistence.engine import Connection
from persistence.rowset import RowSet

CUSTOMERS: Final = "customers"
ACTIVE_CUSTOMERS: Final = "active_customers"
NEW_CUSTOMERS: Final = "new_customers"
"""Labelled by the UTC day of creation."""
PRODUCTS: Final = "products"
PLACED_ORDERS: Final = "placed_orders"
REVENUE: Final = "revenue"
"""Of placed orders, those of deleted customers included."""
CATEGORY_ORDERS: Final = "category_orders"
"""Placed orders, labelled by category."""
CATEGORY_REVENUE: Final = "category_revenue"
"""Labelled by category."""

DELTAS: Final = RowSet("counter_deltas", {"counter": "text", "label": "text", "amount": "numeric"})


class CounterDeltas:
    """The differences that one batch adds."""

    def __init__(self) -> None:
        self._amounts: dict[tuple[str, str], Decimal] = defaultdict(Decimal)

    def add(self, counter: str, amount: Decimal | int, label: str = "") -> None:
        """Raise (or lower) a counter."""
        self._amounts[counter, label] += amount

    def rows(self) -> Sequence[tuple[str, str, Decimal]]:
        """List the rows of `DELTAS`, one a counter that changed."""
        return [(counter, label, amount) for (counter, label), amount in sorted(self._amounts.items()) if amount]


async def total(connection: Connection, counter: str) -> Decimal:
    """Sum a counter over all its labels."""
    return Decimal(
        await connection.fetchval("select coalesce(sum(amount), 0) from counter_deltas where counter = $1", counter)
    )


_FOLD: Final = """
with many as (
  select counter, label from counter_deltas group by counter, label having count(*) > 1),
taken as (
  select d.id from counter_deltas d join many on many.counter = d.counter and many.label = d.label
  order by d.id limit $1 for update of d skip locked),
folded as (
  delete from counter_deltas where id in (select id from taken) returning counter, label, amount)
insert into counter_deltas (counter, label, amount)
select counter, label, sum(amount) from folded group by counter, label having sum(amount) <> 0"""


async def fold(connection: Connection, at_most: int = 50_000) -> None:
    """Replace up to `at_most` differences by their sums, in one statement: a reader sees either the ones or the other.

    Rows that another folder has are left to it; a counter that is one row already is not touched. Whoever dies in
    between has changed nothing.
    """
    await connection.execute(_FOLD, at_most)
