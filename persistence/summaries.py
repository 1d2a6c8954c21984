"""Customers' summaries in Postgres: kept in the transaction of the orders that they sum up, by relative changes only.

A summary's row is locked by the statement that changes it; what must be looked up (when the last order was placed,
after a cancellation) is looked up by a later statement, by index. Whoever changes a summary has locked its customer
before.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Final

from handlers.order import Order
from persistence import counters
from persistence.counters import CounterDeltas
from persistence.engine import Connection
from persistence.rowset import RowSet


def add_to_summaries(source: str) -> str:
    """Write the statement that adds `source` to summaries: the columns named here, in their order, a row a customer."""
    return f"""
insert into customer_summaries as s (customer_id, all_orders, placed_orders, total_spent, last_order_at)
select * from {source}
on conflict (customer_id) do update set
  all_orders = s.all_orders + excluded.all_orders,
  placed_orders = s.placed_orders + excluded.placed_orders,
  total_spent = s.total_spent + excluded.total_spent,
  last_order_at = greatest(s.last_order_at, excluded.last_order_at)"""


def add_to_categories(source: str) -> str:
    """Write the statement that adds rows of `source` to the customers' categories, one row for each of both."""
    return f"""
insert into customer_category_counts as c (customer_id, category, placed_orders, last_order_at)
select * from {source}
on conflict (customer_id, category) do update set
  placed_orders = c.placed_orders + excluded.placed_orders,
  last_order_at = greatest(c.last_order_at, excluded.last_order_at)"""


_ADDED: Final = RowSet(
    "customer_summaries",
    {
        "customer_id": "uuid",
        "all_orders": "bigint",
        "placed_orders": "bigint",
        "total_spent": "numeric",
        "last_order_at": "timestamptz",
    },
)
_ADDED_CATEGORIES: Final = RowSet(
    "customer_category_counts",
    {"customer_id": "uuid", "category": "text", "placed_orders": "bigint", "last_order_at": "timestamptz"},
)
_ADD: Final = add_to_summaries(_ADDED.source(1))
_ADD_CATEGORIES: Final = add_to_categories(_ADDED_CATEGORIES.source(1))
LOOK_UP_LAST: Final = """
update customer_summaries s set last_order_at = (
  select o.created_at from orders o where o.customer_id = s.customer_id and o.status = 'placed'
  order by o.created_at desc limit 1)
where s.customer_id = any($1::uuid[])"""
LOOK_UP_LAST_OF_CATEGORIES: Final = """
update customer_category_counts c set last_order_at = (
  select o.created_at from orders o
  where o.customer_id = c.customer_id and o.category = c.category and o.status = 'placed'
  order by o.created_at desc limit 1)
from unnest($1::uuid[], $2::text[]) as r(customer_id, category)
where c.customer_id = r.customer_id and c.category = r.category"""
_ERASE: Final = """
with categories as (delete from customer_category_counts where customer_id = any($1::uuid[]))
delete from customer_summaries where customer_id = any($1::uuid[])"""


@dataclass(slots=True)
class _Delta:
    """What one batch adds to a row; `cancelled` says that an order of before has gone, the last one perhaps."""

    all_orders: int = 0
    placed_orders: int = 0
    spent: Decimal = Decimal(0)
    last_order_at: datetime | None = None
    cancelled: bool = False

    def add(self, before: Order | None, after: Order) -> None:
        """Take in what became of an order."""
        placed = after.is_placed - (before is not None and before.is_placed)
        self.all_orders += before is None
        self.placed_orders += placed
        self.spent += placed * after.total_amount
        if placed > 0:
            self.last_order_at = max(self.last_order_at or after.created_at, after.created_at)
        self.cancelled |= placed < 0


class SummaryDeltas:
    """What one batch adds to the summaries of its customers."""

    def __init__(self) -> None:
        self._customers: dict[str, _Delta] = {}
        self._categories: dict[tuple[str, str], _Delta] = {}

    def add(self, before: Order | None, after: Order, deltas: CounterDeltas) -> None:
        """Take in what became of an order: in its customer's summary, and in the counters over all customers."""
        self._customers.setdefault(after.customer_id, _Delta()).add(before, after)
        placed = after.is_placed - (before is not None and before.is_placed)
        deltas.add(counters.PLACED_ORDERS, placed)
        deltas.add(counters.REVENUE, placed * after.total_amount)
        if after.category is not None and placed:
            self._categories.setdefault((after.customer_id, after.category), _Delta()).add(before, after)
            deltas.add(counters.CATEGORY_ORDERS, placed, after.category)
            deltas.add(counters.CATEGORY_REVENUE, placed * after.total_amount, after.category)

    async def flush(self, connection: Connection, deleted: Collection[str], gone: Collection[str]) -> None:
        """Write the differences; the summaries of customers that this batch deleted go. Orders are written.

        `gone` are all that no longer live: their orders can be cancelled, but what was erased never comes back.
        """
        if deleted:
            await connection.execute(_ERASE, list(deleted))
        await self._flush_customers(connection, gone)
        await self._flush_categories(connection, gone)

    async def _flush_customers(self, connection: Connection, gone: Collection[str]) -> None:
        living = sorted(item for item in self._customers.items() if item[0] not in gone)
        if living:
            added = [(key, one.all_orders, one.placed_orders, one.spent, one.last_order_at) for key, one in living]
            await connection.execute(_ADD, *_ADDED.arguments(added))
        await _execute(connection, LOOK_UP_LAST, ((key,) for key, one in living if one.cancelled))

    async def _flush_categories(self, connection: Connection, gone: Collection[str]) -> None:
        living = sorted(item for item in self._categories.items() if item[0][0] not in gone)
        if living:
            added = [(*key, one.placed_orders, one.last_order_at) for key, one in living]
            await connection.execute(_ADD_CATEGORIES, *_ADDED_CATEGORIES.arguments(added))
        await _execute(connection, LOOK_UP_LAST_OF_CATEGORIES, (key for key, one in living if one.cancelled))


async def _execute(connection: Connection, statement: str, rows: Iterable[tuple[object, ...]]) -> None:
    """Run a statement once for all rows, passed as arrays; not at all where there are none."""
    if columns := list(zip(*rows, strict=True)):
        await connection.execute(statement, *columns)
