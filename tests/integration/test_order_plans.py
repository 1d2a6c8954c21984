"""Hot queries over orders use their indexes, whatever the size of the tables."""

import re
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime
from typing import Final

import pytest

from contracts.orders import OrderStatus
from handlers.order import CustomerOrders, Order
from handlers.page import Found
from migrations import runner
from persistence import order_queries, product_holds, summaries
from persistence.engine import Connection, Engine, PoolSettings, connected, create_engine
from persistence.order_queries import OrderTable, SummaryTable
from persistence.seed import SeedSizes, seed
from tests.conftest import drop_database
from tests.servers import Servers

AS_OF: Final = datetime(2026, 3, 31, 12, tzinfo=UTC)
SIZES: Final = SeedSizes(customers=10_000, products=1_000, orders=10_000)
LARGE: Final = ("customers", "products", "orders", "customer_summaries", "customer_category_counts", "product_holds")


@pytest.fixture(scope="module")
async def seeded(stack: Servers) -> AsyncIterator[Engine]:
    """A database in which a scan of a table would cost more than its index."""
    name = f"plans_{uuid.uuid4().hex[:8]}"
    admin = create_engine(stack.env.database_url, PoolSettings(), "tests")
    async with connected(admin) as connection:
        await connection.execute(f'create database "{name}"')
    await runner.upgrade(stack.database(name))
    engine = create_engine(stack.database(name), PoolSettings(), "tests")
    await seed(engine, SIZES, AS_OF, lambda _, __: None)
    yield engine
    await engine.dispose()
    await admin.dispose()
    await drop_database(stack, name)


async def plan(engine: Engine, statement: str, *args: object) -> str:
    """Have the statement planned, with its arguments, and not run."""
    async with connected(engine) as connection:
        rows = await connection.fetch(f"explain {statement}", *args)
    return "\n".join(row[0] for row in rows)


def assert_by_index(plan: str, *indexes: str) -> None:
    """No large table is read as a whole, and these indexes are used."""
    for table in LARGE:
        assert not re.search(rf"Seq Scan on {table}\b", plan), plan
    for index in indexes:
        assert index in plan, plan


async def largest(connection: Connection) -> str:
    """Find the customer with the most orders."""
    found = "select customer_id::text from customer_summaries order by all_orders desc limit 1"
    return str(await connection.fetchval(found))


@pytest.mark.parametrize(
    ("status", "index"),
    [
        (None, "orders_customer_newest"),
        (OrderStatus.PLACED, "orders_customer_status_newest"),
        (OrderStatus.CANCELLED, "orders_customer_status_newest"),
    ],
)
@pytest.mark.parametrize("offset", [0, 500])
async def test_a_page_of_orders(seeded: Engine, status: OrderStatus | None, index: str, offset: int) -> None:
    """A page is read in the order of an index, of a customer with many orders as well, without sorting them."""
    async with connected(seeded) as connection:
        customer = await largest(connection)
    shown = await plan(seeded, order_queries.PAGES[status], customer, 11, offset)
    assert_by_index(shown, index, "customer_summaries_pkey", "orders_pkey")
    shown = await plan(seeded, order_queries.PAGES_AFTER[status], customer, 11, 0, AS_OF.isoformat(), str(uuid.uuid4()))
    assert_by_index(shown, index, "customer_summaries_pkey", "orders_pkey")


async def test_summaries(seeded: Engine) -> None:
    """Summaries are found by key; a customer's categories, not its orders, are looked through."""
    async with connected(seeded) as connection:
        ids = [row[0] for row in await connection.fetch("select id::text from customers limit 5")]
    shown = await plan(seeded, order_queries.SUMMARIES, ids)
    assert_by_index(shown, "customers_pkey", "customer_summaries_pkey", "customer_category_counts_pkey")
    assert "orders" not in re.findall(r"on (\w+)", shown)


async def test_analytics(seeded: Engine) -> None:
    """The greatest customers come from an index; neither customers nor orders are read."""
    shown = await plan(seeded, order_queries.ANALYTICS, *order_queries.analytics_arguments(date(2026, 3, 31)))
    assert_by_index(shown, "customer_summaries_spent")
    assert {"customers", "orders"}.isdisjoint(re.findall(r"on (\w+)", shown))


async def test_orders_by_id(seeded: Engine) -> None:
    """Orders are found by key."""
    ids = [str(uuid.uuid4()) for _ in range(20)]
    assert_by_index(await plan(seeded, order_queries.GET, ids), "orders_pkey")


async def test_the_last_order_after_a_cancellation(seeded: Engine) -> None:
    """What a summary's last order is now, is one step in an index."""
    async with connected(seeded) as connection:
        customer = await largest(connection)
    assert_by_index(await plan(seeded, summaries.LOOK_UP_LAST, [customer]), "orders_customer_status_newest")
    shown = await plan(seeded, summaries.LOOK_UP_LAST_OF_CATEGORIES, [customer], ["BOOKS"])
    assert_by_index(shown, "orders_customer_category_newest", "customer_category_counts_pkey")


async def test_holds_of_a_product(seeded: Engine) -> None:
    """Whether a product may be deleted is summed up from its own rows alone."""
    async with connected(seeded) as connection:
        ids = [row[0] for row in await connection.fetch("select id::text from products limit 5")]
    assert_by_index(await plan(seeded, product_holds.SUM, ids), "product_holds_product")


async def test_pages_of_a_customer_with_many_orders_are_complete(seeded: Engine) -> None:
    """Walking all pages meets every order once, newest first, and the count is right on each."""
    table = OrderTable(seeded)
    async with connected(seeded) as connection:
        customer = await largest(connection)
        expected = await connection.fetchval("select count(*) from orders where customer_id = $1::uuid", customer)
    assert expected >= SIZES.orders * SIZES.one_customer_percent / 100
    summary = (await SummaryTable(seeded).get_many([customer]))[customer]
    seen: list[Order] = []
    for page in range(1, 100):
        found = await table.of_customer(CustomerOrders(customer, page, 100))
        assert isinstance(found, Found)
        assert found.total_count == expected
        seen += found.items
        if not found.has_more:
            break
    assert len({order.id for order in seen}) == len(seen) == expected
    assert seen == sorted(seen, key=lambda order: (order.created_at, order.id), reverse=True)
    assert sum(order.is_placed for order in seen) == summary.placed_orders
    assert sum(order.total_amount for order in seen if order.is_placed) == summary.total_spent
