"""The preferred category: the commonest; of equals that of the most recent order by `created_at`, then by name."""

import uuid
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from handlers.order import Order
from persistence.backfill.definition import CHUNK, Statement, load_definitions
from persistence.customers import CustomerTable
from persistence.engine import Engine, PoolSettings, connected, create_engine
from persistence.order_queries import OrderTable
from tests.batches import NOW, Batches
from tests.in_memory.orders import summary_of

DEFINITIONS = Path(__file__).parents[2] / "migrations" / "backfills"

# Orders as they are decided: category, microseconds after the first; then those that are cancelled again, by place.
HISTORIES: list[tuple[str | None, list[tuple[str, int]], list[int]]] = [
    (None, [], []),
    ("B", [("A", 0), ("B", 1)], []),
    ("A", [("A", 1), ("B", 0)], []),  # decided last, sent first
    ("A", [("B", 5), ("A", 5)], []),
    ("a", [("b", 5), ("a", 5), ("C", 4)], []),
    ("Z", [("a", 5), ("Z", 5)], []),  # by code point, as names are compared everywhere
    ("B", [("A", 9), ("B", 1), ("B", 2)], []),
    ("A", [("A", 1), ("B", 2), ("B", 3)], [2, 1]),
    ("A", [("A", 3), ("B", 2), ("B", 9)], [2]),  # the most recent one was taken back
    ("B", [("A", 3), ("A", 7), ("B", 5)], [1]),
    ("\u00e9", [("z", 2), ("\u00e9", 3)], []),
    ("z", [("\u00e9", 3), ("z", 3)], []),
    (None, [("A", 1)], [0]),
]


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[Engine]:
    """Connections to an empty database."""
    made = create_engine(database_url, PoolSettings(), "tests")
    yield made
    await made.dispose()


async def test_ties(engine: Engine) -> None:
    """What is kept with each order, what is computed from all of them, and what a rebuild writes say the same."""
    batches = Batches(engine)
    names = sorted({category for _, orders, _ in HISTORIES for category, _ in orders})
    mnemonics = {name: f"P{place}" for place, name in enumerate(names)}
    for name, mnemonic in mnemonics.items():
        await batches.command("create_product", {"mnemonic": mnemonic, "overview": "", "category": name})
    expected = {}
    for place, (preferred, orders, cancelled) in enumerate(HISTORIES):
        customer, ids = str(uuid.uuid4()), [str(uuid.uuid4()) for _ in orders]
        expected[customer] = preferred
        await batches.command(
            "create_customer", {"name": "N", "email": f"c{place}@example.com", "customer_id": customer}
        )
        for order_id, (category, after) in zip(ids, orders, strict=True):
            lines = [{"mnemonic": mnemonics[category], "quantity": 1, "unit_price": "1"}]
            now = NOW + timedelta(microseconds=after)
            await batches.command("place_order", {"customer_id": customer, "order_id": order_id, "lines": lines}, now)
        for one in cancelled:
            await batches.command("cancel_order", {"customer_id": customer, "order_id": ids[one]})

    async def shown() -> dict[str, str | None]:
        found = {}
        for one in expected:
            answer = await batches.query("get_customer_summary", {"customer_id": one})
            found[one] = answer["data"]["preferred_category"]
        return found

    assert await shown() == expected
    customers = await CustomerTable(engine).get_many(list(expected))
    async with connected(engine) as connection:
        rows = await connection.fetch("select id::text, customer_id::text from orders where status = 'placed'")
    found = await OrderTable(engine).get_many([row["id"] for row in rows])
    placed: dict[str, Order] = {one: order for one, order in found.items() if order is not None}
    for customer, preferred in expected.items():
        own = [placed[row["id"]] for row in rows if row["customer_id"] == customer]
        assert summary_of(customers[customer], own).preferred_category == preferred

    work = load_definitions(DEFINITIONS)["customer_summaries"].work
    assert isinstance(work, Statement)
    async with connected(engine) as connection:
        await connection.execute("truncate customer_category_counts, customer_summaries")
        await connection.execute(work.sql.replace(CHUNK, "true"))
    assert await shown() == expected
