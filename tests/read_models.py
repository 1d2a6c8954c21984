"""What the database keeps beside the rows it follows from, compared with its recomputation."""

from typing import Any, Final

from persistence.engine import Connection

SUMMARIES: Final = """
select 'summary of ' || coalesce(kept.customer_id, fresh.customer_id), kept::text, fresh::text
from (select * from customer_summaries where all_orders <> 0) as kept
full join (
  select o.customer_id, count(*) as all_orders, count(*) filter (where status = 'placed') as placed_orders,
    coalesce(sum(total_amount) filter (where status = 'placed'), 0)::numeric(20, 2) as total_spent,
    max(o.created_at) filter (where status = 'placed') as last_order_at
  from orders o join customers c on c.id = o.customer_id where c.deleted_at is null group by o.customer_id) as fresh
on kept.customer_id = fresh.customer_id
where (kept.all_orders, kept.placed_orders, kept.total_spent, kept.last_order_at)
  is distinct from (fresh.all_orders, fresh.placed_orders, fresh.total_spent, fresh.last_order_at)"""

CATEGORIES: Final = """
select format('%s of %s', coalesce(kept.category, fresh.category), coalesce(kept.customer_id, fresh.customer_id)),
  kept::text, fresh::text
from (select * from customer_category_counts where placed_orders <> 0) as kept
full join (
  select o.customer_id, o.category, count(*) as placed_orders, max(o.created_at) as last_order_at
  from orders o join customers c on c.id = o.customer_id
  where c.deleted_at is null and o.status = 'placed' and o.category is not null
  group by o.customer_id, o.category) as fresh
on kept.customer_id = fresh.customer_id and kept.category = fresh.category
where (kept.placed_orders, kept.last_order_at) is distinct from (fresh.placed_orders, fresh.last_order_at)"""

LEFTOVERS: Final = """
select 'left of deleted customer ' || c.id, 'a summary', 'none' from customers c
where c.deleted_at is not null and (exists (select from customer_summaries s where s.customer_id = c.id)
  or exists (select from customer_category_counts k where k.customer_id = c.id))"""

COUNTERS: Final = """
with living as (select * from customers where deleted_at is null),
placed as (select * from orders where status = 'placed')
select format('counter %s %s', coalesce(kept.counter, fresh.counter), coalesce(kept.label, fresh.label)),
  kept.amount::text, fresh.amount::text
from (
  select counter, label, sum(amount) as amount from counter_deltas where counter not like 'seeded%'
  group by counter, label having sum(amount) <> 0) as kept
full join (
  select * from (
    select 'customers' as counter, '' as label, count(*)::numeric as amount from living
    union all select 'active_customers', '', count(*) from living where is_active
    union all
    select 'new_customers', to_char(created_at at time zone 'UTC', 'YYYY-MM-DD'), count(*) from living group by 2
    union all select 'products', '', count(*) from products
    union all select 'placed_orders', '', count(*) from placed
    union all select 'revenue', '', sum(total_amount) from placed
    union all select 'category_orders', category, count(*) from placed where category is not null group by 2
    union all select 'category_revenue', category, sum(total_amount) from placed where category is not null group by 2
  ) as counted where amount <> 0) as fresh
on kept.counter = fresh.counter and kept.label = fresh.label
where kept.amount is distinct from fresh.amount"""

HOLDS: Final = """
select 'holds of ' || coalesce(kept.product_id, fresh.product_id), kept.amount::text, fresh.amount::text
from (select product_id, sum(amount) as amount from product_holds group by product_id having sum(amount) <> 0) as kept
full join (
  select (line ->> 'product_id')::uuid as product_id, count(distinct o.id) as amount
  from orders o, jsonb_array_elements(o.lines) as line where o.status = 'placed' group by 1) as fresh
on kept.product_id = fresh.product_id
where kept.amount is distinct from fresh.amount"""

TOTALS: Final = """
select 'total of order ' || o.id, o.total_amount::text, lines.total::text
from orders o, lateral (
  select sum((line ->> 'quantity')::numeric * (line ->> 'unit_price')::numeric) as total
  from jsonb_array_elements(o.lines) as line) as lines
where o.total_amount is distinct from lines.total"""


async def differences(connection: Connection) -> list[tuple[Any, ...]]:
    """Name everything that is kept and is not what a recomputation finds: what, as it is kept, as it is."""
    found = []
    for statement in (SUMMARIES, CATEGORIES, LEFTOVERS, COUNTERS, HOLDS, TOTALS):
        found += [tuple(row) for row in await connection.fetch(statement)]
    return found
