"""Customer summaries: rebuilt from the orders wherever they say something else.

A customer without orders needs no row, nor does a category without placed orders. A deleted customer has neither,
whatever its orders say: rows that came back are taken away. The customer's row is locked for as long: whoever places or
cancels an order, or deletes the customer, locks it first.
"""

TABLE = "customers"
KEY = ("id",)

EXPECTED = """
select case when customers.deleted_at is null then jsonb_build_array(
    count(*), count(*) filter (where placed), coalesce(sum(total_amount) filter (where placed), 0),
    max(created_at) filter (where placed),
    (select coalesce(jsonb_object_agg(category, jsonb_build_array(orders_placed, last_order_at)), '{}')
     from (select category, count(*) as orders_placed, max(created_at) as last_order_at
           from orders
           where customer_id = customers.id and status = 'placed' and category is not null
           group by category) as counted)) end
from (select total_amount, created_at, status = 'placed' as placed from orders where customer_id = customers.id) as own
"""
# Of a deleted customer: null where there is no row of it.
ACTUAL = """
select case when customers.deleted_at is null
        or count(*) > 0 or exists (select from customer_category_counts where customer_id = customers.id)
    then jsonb_build_array(
        coalesce(max(all_orders), 0), coalesce(max(placed_orders), 0), coalesce(max(total_spent), 0),
        max(last_order_at),
        (select coalesce(jsonb_object_agg(category, jsonb_build_array(placed_orders, last_order_at)), '{}')
         from customer_category_counts
         where customer_id = customers.id and placed_orders <> 0)) end
from customer_summaries
where customer_id = customers.id
"""
TODO = f"({EXPECTED}) is distinct from ({ACTUAL})"

SQL = """
with treated as materialized (select customers.id, deleted_at is null as living from customers where {chunk}),
chunk as materialized (select id from treated where living),
erased as (delete from customer_summaries where customer_id in (select id from treated where not living)),
summaries as (
    insert into customer_summaries (customer_id, all_orders, placed_orders, total_spent, last_order_at)
    select chunk.id, count(orders.id), count(orders.id) filter (where status = 'placed'),
           coalesce(sum(total_amount) filter (where status = 'placed'), 0),
           max(orders.created_at) filter (where status = 'placed')
    from chunk left join orders on orders.customer_id = chunk.id
    group by chunk.id
    on conflict (customer_id) do update
    set all_orders = excluded.all_orders, placed_orders = excluded.placed_orders,
        total_spent = excluded.total_spent, last_order_at = excluded.last_order_at),
placed as materialized (
    select customer_id, category, count(*) as placed_orders, max(created_at) as last_order_at
    from orders
    where customer_id in (select id from chunk) and status = 'placed' and category is not null
    group by customer_id, category),
gone as (
    delete from customer_category_counts as counted
    where customer_id in (select id from treated)
      and not exists (select from placed
                      where placed.customer_id = counted.customer_id and placed.category = counted.category)),
counted as (
    insert into customer_category_counts (customer_id, category, placed_orders, last_order_at)
    select customer_id, category, placed_orders, last_order_at from placed
    on conflict (customer_id, category) do update
    set placed_orders = excluded.placed_orders, last_order_at = excluded.last_order_at)
select count(*) from treated
"""

ALSO_LOCK = {"customer_summaries": ("customer_id",)}
IRREVERSIBLE = "a summary says nothing but what the orders say, and those are not touched"
