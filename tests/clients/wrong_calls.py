"""Calls that a type checker must refuse: mypy (in `make lint`) and pyright report an ignored error that is none.

Nothing here is ever run.
"""

from collections.abc import Mapping

from catalog_client import CatalogClient, OrderLine, Reply, SyncCatalogClient, results


async def wrong(catalog: CatalogClient, line: OrderLine, number: int) -> None:
    """A field that is missing, misspelt, of another type or another kind's; results that are none; frozen objects."""
    await catalog.create_customer(name="Ada")  # type: ignore[call-arg]
    await catalog.create_customer(name="Ada", email="a@b.c", e_mail="a@b.c")  # type: ignore[call-arg]
    await catalog.create_customer("Ada", "a@b.c")  # type: ignore[call-arg]
    await catalog.create_customer(name=number, email="a@b.c")  # type: ignore[arg-type]
    await catalog.create_customer(name=None, email="a@b.c")  # type: ignore[arg-type]
    await catalog.create_customer(name="Ada", email="a@b.c", timeout="10 s")  # type: ignore[arg-type]
    await catalog.get_customer(customer_id="c", message_id="m")  # type: ignore[call-arg]
    await catalog.update_customer(customer_id="c", name=None)  # type: ignore[arg-type]
    await catalog.update_customer(customer_id="c", preferences=["dark"])  # type: ignore[arg-type]
    await catalog.place_order(customer_id="c", lines=[{"mnemonic": "A"}])  # type: ignore[list-item]
    await catalog.place_order(customer_id="c", lines=line)  # type: ignore[arg-type]
    await catalog.get_customer_orders(customer_id="c", status="lost")  # type: ignore[arg-type]
    await catalog.create_product_v1(mnemonic="A", overview="B", category="C")  # type: ignore[call-arg]
    await catalog.create_shoe(size=42)  # type: ignore[attr-defined]
    await catalog.send.get_customer(customer_id="c")  # type: ignore[attr-defined]
    catalog.record.search_customers()  # type: ignore[attr-defined]
    catalog.iterate.get_customer(customer_id="c")  # type: ignore[attr-defined]
    OrderLine(mnemonic="A", quantity="1", unit_price="1.00")  # type: ignore[arg-type]
    customer = await catalog.get_customer(customer_id="c")
    customer.name = "Eve"  # type: ignore[misc]
    _: int = customer.created_at  # type: ignore[assignment]
    _deleted: Mapping[str, str] = await catalog.delete_customer(customer_id="c")  # type: ignore[func-returns-value, assignment]
    _raw: Reply[results.OrderResult] = await catalog.with_raw_response.get_customer(customer_id="c")  # type: ignore[assignment]


def wrong_without_a_loop(catalog: SyncCatalogClient) -> None:
    """The same for the sync twin."""
    catalog.create_customer(name="Ada")  # type: ignore[call-arg]
    _ = catalog.create_customer(name="Ada", email="a@b.c").nickname  # type: ignore[attr-defined]
    _ = catalog.send.create_customer(name="Ada", email="a@b.c").upper().name  # type: ignore[attr-defined]


async def right(catalog: CatalogClient, status: str) -> None:
    """What they must take: unknown values of answers are text, and what is optional may be left out."""
    order = await catalog.get_order(order_id="o")
    if order.status in {"placed", status}:
        text: str = order.status
        assert text
    page = await catalog.search_customers()
    names: list[str] = [one.name for one in page.items]
    assert names
    async for one in catalog.iterate.search_customers(name_contains="a"):
        assert one.preferences.get("theme")
    outcome = await catalog.outcome("m")
    assert outcome is None or outcome.status_code
