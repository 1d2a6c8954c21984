"""Orders, summaries and analytics as queries see them: each answered by one statement, hence of one moment.

None of them costs more because a customer has more orders; a page far behind the first one costs an index entry for
each order that it passes over.
"""

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from decimal import Decimal
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncEngine

from contracts.orders import OrderStatus
from handlers.order import CustomerOrders, Order
from handlers.page import Found, TooMuch
from handlers.summary import LISTED, NEW_WITHIN_DAYS, Analytics, CustomerSummary, Figures
from persistence import counters
from persistence.engine import connected
from persistence.orders import ORDERS
from persistence.page_rows import after_arguments, bounded, found, older

BYTES_AT_ONCE: Final = 8 * 1024 * 1024
"""How many bytes of lines one statement loads, the first order apart."""

GET: Final = f"""
select s.fits, {ORDERS.selected("o", lines="case when s.fits then o.lines::text end")}
from (
  select a.place, o.id,
    coalesce(sum(octet_length(o.lines::text)) over (
      order by a.place rows between unbounded preceding and 1 preceding), 0) <= {BYTES_AT_ONCE} as fits
  from unnest($1::uuid[]) with ordinality as a(id, place) join orders o on o.id = a.id) as s
join orders o on o.id = s.id
order by s.place"""
"""Orders by id, in that order; `fits` is false for those that have to be asked for again: they come without lines."""

_HEAD: Final = ("total_count", *(name for name in ORDERS.names if name != "lines"))


def _page(total: str, condition: str, after: str = "") -> str:
    """Write the statement of a page; what is passed over is counted in an index alone, rows are read for the page."""
    rows = f"""
select {total} as total_count, {ORDERS.selected("o")}
from customers c
left join customer_summaries s on s.customer_id = c.id
left join lateral (
  select p.id from orders p where p.customer_id = c.id and {condition} {after}
  order by p.created_at desc, p.id desc limit $2 offset $3) page on true
left join orders o on o.id = page.id
where c.id = $1::uuid and c.deleted_at is null"""
    return bounded(rows, _HEAD, "lines")


def _pages(after: str = "") -> Mapping[OrderStatus | None, str]:
    return {
        None: _page("coalesce(s.all_orders, 0)", "true", after),
        OrderStatus.PLACED: _page("coalesce(s.placed_orders, 0)", "p.status = 'placed'", after),
        OrderStatus.CANCELLED: _page("coalesce(s.all_orders - s.placed_orders, 0)", "p.status = 'cancelled'", after),
    }


PAGES: Final = _pages()
"""A page of a customer's orders: of all, or of one status. No row: no such customer lives."""
PAGES_AFTER: Final = _pages(f"and {older('p.created_at, p.id', 4)}")
"""The same after an order, by when it was placed and its id."""


class OrderTable:
    """Orders as queries see them."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def get_many(self, order_ids: Sequence[str]) -> dict[str, Order | None]:
        """Find orders, in their order; one statement. None: as much as is loaded at once stands before it."""
        async with connected(self._engine) as connection:
            rows = await connection.fetch(GET, list(dict.fromkeys(order_ids)))
        return {row["id"]: ORDERS.read(row) if row["fits"] else None for row in rows}

    async def of_customer(self, wanted: CustomerOrders) -> Found[Order] | TooMuch | None:
        """Find a page of a living customer's orders, newest first; the count is that of the customer's summary."""
        statements = PAGES if wanted.after is None else PAGES_AFTER
        async with connected(self._engine) as connection:
            rows = await connection.fetch(
                statements[wanted.status],
                wanted.customer_id,
                wanted.page_size + 1,
                wanted.offset,
                *after_arguments(wanted.after),
            )
        return found(rows, wanted.page_size, rows[0]["total_count"], ORDERS.read) if rows else None


SUMMARIES: Final = """
select c.id::text, c.name, c.email, c.is_active, coalesce(s.placed_orders, 0) as placed_orders,
  coalesce(s.total_spent, 0) as total_spent, s.last_order_at, preferred.category
from customers c
left join customer_summaries s on s.customer_id = c.id
left join lateral (
  select k.category from customer_category_counts k where k.customer_id = c.id and k.placed_orders > 0
  order by k.placed_orders desc, k.last_order_at desc nulls last, k.category collate "C" limit 1) preferred on true
where c.id = any($1::uuid[]) and c.deleted_at is null"""

ANALYTICS: Final = """
with sums as materialized (
  select counter, label, sum(amount) as amount from counter_deltas where counter = any($1::text[])
  group by counter, label
  union all
  select counter, '', sum(amount) from counter_deltas where counter = $2 and label between $3 and $4
  group by counter),
categories as (
  select o.label, o.amount as orders, coalesce(r.amount, 0) as amount
  from sums o left join sums r on r.counter = $6 and r.label = o.label
  where o.counter = $5 and o.amount > 0
  order by coalesce(r.amount, 0) desc, o.label collate "C" limit $7),
spenders as (
  select s.customer_id::text, s.placed_orders::numeric, s.total_spent
  from customer_summaries s where s.placed_orders > 0 order by s.total_spent desc, s.customer_id limit $7)
select * from (
  select 'total' as list, counter as label, null as orders, amount from sums where counter <> $5 and counter <> $6
  union all select 'category', * from categories
  union all select 'customer', * from spenders) as lists
order by list, amount desc, label collate "C\""""


class SummaryTable:
    """Read models as queries see them."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def get_many(self, customer_ids: Sequence[str]) -> dict[str, CustomerSummary]:
        """Find summaries of living customers; one statement."""
        async with connected(self._engine) as connection:
            rows = await connection.fetch(SUMMARIES, list(set(customer_ids)))
        return {
            row["id"]: CustomerSummary(
                row["id"],
                row["name"],
                row["email"],
                row["is_active"],
                row["placed_orders"],
                row["total_spent"],
                row["last_order_at"],
                row["category"],
            )
            for row in rows
        }

    async def analytics(self, today: date) -> Analytics:
        """Add up the figures; one statement, so one snapshot: counters, categories and customers belong together."""
        async with connected(self._engine) as connection:
            rows = await connection.fetch(ANALYTICS, *analytics_arguments(today))
        totals = {row["label"]: Decimal(row["amount"]) for row in rows if row["list"] == "total"}

        def count(counter: str) -> int:
            return int(totals.get(counter, 0))

        def listed(name: str) -> list[Figures]:
            return [Figures(row["label"], int(row["orders"]), row["amount"]) for row in rows if row["list"] == name]

        return Analytics(
            count(counters.CUSTOMERS),
            count(counters.ACTIVE_CUSTOMERS),
            count(counters.NEW_CUSTOMERS),
            count(counters.PLACED_ORDERS),
            totals.get(counters.REVENUE, Decimal(0)),
            listed("category"),
            listed("customer"),
        )


def analytics_arguments(today: date) -> tuple[Any, ...]:
    """List the arguments of `ANALYTICS`: the counters to sum, the days that are new, how long the lists are."""
    return (
        [
            counters.CUSTOMERS,
            counters.ACTIVE_CUSTOMERS,
            counters.PLACED_ORDERS,
            counters.REVENUE,
            counters.CATEGORY_ORDERS,
            counters.CATEGORY_REVENUE,
        ],
        counters.NEW_CUSTOMERS,
        (today - timedelta(days=NEW_WITHIN_DAYS - 1)).isoformat(),
        today.isoformat(),
        counters.CATEGORY_ORDERS,
        counters.CATEGORY_REVENUE,
        LISTED,
    )
