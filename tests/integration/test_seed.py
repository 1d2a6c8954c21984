"""`catalog seed`: the data set is believable, sound, the same every time, and grows."""

import io
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any, Final

import orjson
import pytest
from rich.console import Console

from contracts.customers import CreateCustomer
from contracts.orders import PlaceOrder
from contracts.text import fold_key
from persistence.engine import Engine, PoolSettings, connected, create_engine
from persistence.phases import Phase
from persistence.seed import SeedError, SeedSizes, seed
from tests.batches import Batches
from tests.read_models import differences
from workers.seed import seed_with_progress

AS_OF: Final = datetime(2026, 3, 31, 12, tzinfo=UTC)
SIZES: Final = SeedSizes(customers=500, products=200, orders=600)


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[Engine]:
    """Connections to an empty database."""
    made = create_engine(database_url, PoolSettings(), "tests")
    yield made
    await made.dispose()


def silent(_: str, __: int) -> None:
    """Take no notice of progress."""


async def fetch(engine: Engine, statement: str) -> list[Any]:
    """Run a statement."""
    async with connected(engine) as connection:
        return list(await connection.fetch(statement))


async def count(engine: Engine, table: str) -> int:
    """Count a table's rows."""
    return int((await fetch(engine, f"select count(*) from {table}"))[0][0])


async def test_everything_that_follows_is_there(engine: Engine) -> None:
    """As many rows as were asked for; summaries, counters, holds follow from the orders; a second seed adds to it."""
    for times in (1, 2):
        await seed(engine, SIZES, AS_OF, silent)
        assert await count(engine, "customers") == times * SIZES.customers
        assert await count(engine, "products") == times * SIZES.products
        assert await count(engine, "orders") == times * SIZES.orders
        async with connected(engine) as connection:
            assert await differences(connection) == []


async def test_it_is_the_same_every_time(engine: Engine) -> None:
    """The same sizes and day give the same rows, ids included."""
    digests = []
    for _ in range(2):
        await seed(engine, SIZES, AS_OF, silent)
        tables = ("customers", "products", "product_versions", "validation_instances", "orders", "customer_summaries")
        digests.append(
            [
                await fetch(engine, f"select md5(string_agg(t::text, '' order by t::text)), count(*) from {table} t")
                for table in tables
            ]
        )
        async with connected(engine) as connection:
            await connection.execute("truncate customers, products, counter_deltas cascade")
    assert digests[0] == digests[1]


async def test_it_is_what_the_contract_allows(engine: Engine) -> None:
    """Names, addresses, lines and prices pass the models of the commands; keys are those that Python computes."""
    await seed(engine, SIZES, AS_OF, silent)
    for row in await fetch(engine, "select name, name_key, email, email_key, preferences from customers"):
        customer = CreateCustomer(name=row["name"], email=row["email"], preferences=row["preferences"])
        assert (customer.name, customer.email) == (row["name"], row["email"])
        assert (fold_key(row["name"]), fold_key(row["email"])) == (row["name_key"], row["email_key"])
    for row in await fetch(engine, "select id::text, customer_id::text, lines::text from orders"):
        lines = orjson.loads(row["lines"])
        for line in lines:
            uuid.UUID(line.pop("product_id"))
        PlaceOrder(customer_id=row["customer_id"], lines=lines, order_id=row["id"])
    odd = """
        select from orders o join customers c on c.id = o.customer_id
        where o.created_at > '2026-03-31 12:00Z' or o.created_at < c.created_at
        union all select from customers where created_at > '2026-03-31 12:00Z'"""
    assert await fetch(engine, odd) == []


async def test_it_has_something_of_everything(engine: Engine) -> None:
    """Cancelled orders, inactive customers, versions with items, rules in both places, a customer with many orders."""
    await seed(engine, SIZES, AS_OF, silent)
    for condition in (
        "orders where status = 'cancelled'",
        "customers where not is_active",
        "customers where created_at > '2026-03-10'",
        "product_versions where end_date is null",
        "product_version_items",
        "validation_instances",
        "products where jsonb_array_length(old_validations::jsonb) > 0",
        "products where old_catalog_field::jsonb ? 'sku'",
        "products where category is null",
    ):
        assert await count(engine, condition), condition
    largest = await fetch(engine, "select max(all_orders) from customer_summaries")
    assert SIZES.orders * 0.1 <= largest[0][0] <= SIZES.orders * 0.12


@pytest.mark.parametrize("phase", Phase)
async def test_the_catalogue_goes_where_the_phase_says(engine: Engine, phase: Phase) -> None:
    """Products are written as every worker writes them in that phase."""
    async with connected(engine) as connection:
        await connection.execute("update schema_changes set phase = $1", phase.value)
    await seed(engine, SeedSizes(products=20), AS_OF, silent)
    old = await count(engine, "products where old_catalog_field <> '{}'")
    new = await count(engine, "products where new_catalog ? 'sku'")
    assert (old, new) == {Phase.EXPANDED: (20, 0), Phase.CONTRACTED: (0, 20)}.get(phase, (20, 20))


@pytest.mark.parametrize(
    "place", ["old_validations is not null", "id in (select product_id from validation_instances)"]
)
async def test_rules_judge_new_orders(engine: Engine, place: str) -> None:
    """Rules of a seed, wherever they stand, are in force; commands go on where the seed ended."""
    await seed(engine, SIZES, AS_OF, silent)
    batches = Batches(engine)
    mnemonic = (await fetch(engine, f"select mnemonic from products where {place} limit 1"))[0][0]
    customer = (await fetch(engine, "select id::text from customers where is_active limit 1"))[0][0]
    for colour, status in (("red", 201), (7, 400)):
        line = {"mnemonic": mnemonic, "quantity": 1, "unit_price": "1", "attributes": {"colour": colour}}
        answer = await batches.command("place_order", {"customer_id": customer, "lines": [line]})
        assert answer["statusCode"] == status
    async with connected(engine) as connection:
        assert await differences(connection) == []


async def test_orders_need_somebody_who_orders(engine: Engine) -> None:
    """Without customers and products of a seed there is nothing to order; what was made until then stays."""
    with pytest.raises(SeedError, match="orders need customers and products"):
        await seed(engine, SeedSizes(customers=10, orders=10), AS_OF, silent)
    assert await count(engine, "customers") == 10


async def test_progress_is_drawn(engine: Engine) -> None:
    """The bar names what is made and how much of it."""
    screen = io.StringIO()
    await seed_with_progress(engine, SIZES, AS_OF, Console(file=screen, force_terminal=True, width=100))
    for shown in ("customers", "products", "orders", "500/500", "200/200", "600/600"):
        assert shown in screen.getvalue()
