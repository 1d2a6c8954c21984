"""What a batch with orders costs, and what two workers make of the same customers, products and orders."""

import asyncio
import re
import uuid
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import chain
from typing import Any, Final

import pytest

from persistence import unit_of_work
from persistence.engine import Connection, Engine, PoolSettings, connected, create_engine, for_transaction
from persistence.orders import OrderBatch
from tests.batches import Batches
from tests.in_memory.unit_of_work import Answer, Asking
from tests.read_models import differences

PATIENCE_S: Final = 10.0


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[Engine]:
    """Connections to an empty database."""
    made = create_engine(database_url, PoolSettings(size=10), "tests")
    yield made
    await made.dispose()


@pytest.fixture
async def batches(engine: Engine) -> Batches:
    """Give commands to use cases."""
    return Batches(engine)


def new_id() -> str:
    """Make an id as a caller may."""
    return str(uuid.uuid4())


def customer(customer_id: str) -> Asking:
    """Create a customer."""
    return "create_customer", {"name": "N", "email": f"{customer_id}@example.com", "customer_id": customer_id}


def product(mnemonic: str) -> Asking:
    """Create a product."""
    return "create_product", {"mnemonic": mnemonic, "overview": "", "category": mnemonic}


def order(customer_id: str, order_id: str, *mnemonics: str) -> Asking:
    """Order one of each product."""
    lines = [{"mnemonic": mnemonic, "quantity": 1, "unit_price": "2.50"} for mnemonic in mnemonics]
    return "place_order", {"customer_id": customer_id, "order_id": order_id, "lines": lines}


def cancel(customer_id: str, order_id: str) -> Asking:
    """Take an order back."""
    return "cancel_order", {"customer_id": customer_id, "order_id": order_id}


def codes(answers: list[Answer]) -> list[int]:
    """Take the statusCodes of envelopes."""
    return [answer["statusCode"] for answer in answers]


class Listening:
    """A connection that notes the statements sent by it."""

    def __init__(self, connection: Connection, heard: list[str]) -> None:
        self._connection = connection
        self._heard = heard

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - of any method
        method = getattr(self._connection, name)
        if name not in {"execute", "fetch", "fetchrow", "fetchval"}:
            return method

        def note(query: str, *args: object) -> Awaitable[object]:
            self._heard.append(" ".join(query.split()))
            result: Awaitable[object] = method(query, *args)
            return result

        return note


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Note the statements of every unit of work."""
    statements: list[str] = []

    @asynccontextmanager
    async def listening(engine: Engine) -> AsyncIterator[Any]:
        async with for_transaction(engine) as connection:
            yield Listening(connection, statements)

    monkeypatch.setattr(unit_of_work, "for_transaction", listening)
    return statements


async def test_a_batch_costs_a_constant_number_of_statements(batches: Batches, heard: list[str]) -> None:
    """Placing and cancelling two orders or sixty, of few customers or many, takes the same statements.

    But for one that weighs what may be large, before anything is loaded.
    """
    mnemonics = [f"P_{place}" for place in range(8)]
    customers = [new_id() for _ in range(20)]
    await batches.decide(*map(customer, customers), *map(product, mnemonics))
    costs = []
    for many in (2, 60):
        heard.clear()
        old, new = [new_id() for _ in range(many)], [new_id() for _ in range(many)]
        owner = {one: customers[place % 20] for place, one in enumerate([*old, *new])}
        placing = [order(owner[one], one, mnemonics[place % 8], mnemonics[place % 3]) for place, one in enumerate(old)]
        await batches.decide(*placing)
        later = [order(owner[one], one, mnemonics[(place + 3) % 8]) for place, one in enumerate(new)]
        answers = await batches.decide(*later, *(cancel(owner[one], one) for one in old))
        assert set(codes(answers)) == {201, 200}
        costs.append([text for text in heard if "octet_length" not in text])
        assert len(heard) - len(costs[-1]) <= 2  # one for each of the two batches
    few, many_of_them = ([re.sub("'{.*?}'", "names", text)[:60] for text in one] for one in costs)
    assert few == many_of_them
    async with connected(batches.engine) as connection:
        assert await differences(connection) == []


async def test_locks_are_taken_table_by_table(batches: Batches, heard: list[str]) -> None:
    """Customers, then products (those of cancelled orders, too), then orders; writes follow in the same order."""
    one, placed = new_id(), new_id()
    await batches.decide(customer(one), product("P"), product("Q"), order(one, placed, "P"))
    heard.clear()
    await batches.decide(cancel(one, placed), order(one, new_id(), "Q"))
    locks = [text.split(" from ")[1].split()[0] for text in heard if text.endswith(("key update", "key share"))]
    assert locks == ["customers", "products", "orders"]
    writes = [re.findall(r"(?:^|as \(|\) )(?:insert into|update|delete from) (\w+)", text) for text in heard]
    assert list(chain.from_iterable(writes)) == [
        "orders",
        "orders",
        "product_holds",
        "customer_summaries",
        "customer_summaries",
        "customer_category_counts",
        "customer_category_counts",
        "counter_deltas",
        "outcomes",
    ]


async def test_one_of_two_orders_gets_the_id(batches: Batches) -> None:
    """Two workers place an order with the same id: one is created, the other is told that it exists."""
    ones = [new_id() for _ in range(2)]
    await batches.decide(*map(customer, ones), product("P"))
    for _ in range(10):
        taken = new_id()
        answers = await asyncio.gather(*(batches.command(*order(one, taken, "P")) for one in ones))
        assert sorted(codes(list(answers))) == [201, 409]
        lost = next(answer for answer in answers if answer["statusCode"] == 409)
        assert lost["data"] == {"error_code": "ORDER_ALREADY_EXISTS", "details": {"order_id": taken}}


async def test_an_order_is_cancelled_once(batches: Batches) -> None:
    """Of workers that cancel the same order one does it, the others find it done; it is counted once."""
    one, placed = new_id(), new_id()
    await batches.decide(customer(one), product("P"), order(one, placed, "P"))
    answers = await asyncio.gather(*(batches.command(*cancel(one, placed)) for _ in range(4)))
    assert sorted(answer["type"] for answer in answers) == ["neutral"] * 3 + ["success"]
    async with connected(batches.engine) as connection:
        assert await differences(connection) == []


async def test_an_order_placed_between_look_and_lock(batches: Batches, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where an order turns up after its products were looked up, the batch is decided again, with them locked."""
    one, placed = new_id(), new_id()
    await batches.decide(customer(one), product("P"))
    peek = OrderBatch.peek
    races = 0

    async def too_early(self: OrderBatch, connection: Connection, ids: Sequence[str]) -> Mapping[str, Sequence[str]]:
        nonlocal races
        found = await peek(self, connection, ids)
        races += 1
        if races == 1:
            assert (await Batches(batches.engine).command(*order(one, placed, "P")))["statusCode"] == 201
        return found

    monkeypatch.setattr(OrderBatch, "peek", too_early)
    assert (await batches.command(*cancel(one, placed)))["statusCode"] == 200
    assert batches.conflicts == 1


async def second_waits_for_first(batches: Batches, first: Asking, second: Asking) -> Answer:
    """Have the second command wait for a lock of the first, whose transaction then commits; return its envelope."""
    async with connected(batches.engine) as connection, batches.prepared(first) as (uow, answers):
        assert answers[0]["type"] == "success", answers
        waiting = asyncio.create_task(batches.command(*second))
        async with asyncio.timeout(PATIENCE_S):
            while not await connection.fetchval("select count(*) from pg_locks where not granted"):
                assert not waiting.done(), waiting
        await uow.commit()
    return await waiting


async def test_no_order_for_a_customer_who_is_being_deleted(batches: Batches) -> None:
    """Whoever places an order while its customer is deleted waits, and is told that there is none."""
    one = new_id()
    await batches.decide(customer(one), product("P"))
    delete = ("delete_customer", {"customer_id": one})
    answer = await second_waits_for_first(batches, delete, order(one, new_id(), "P"))
    assert answer["data"]["error_code"] == "CUSTOMER_NOT_FOUND"


async def test_a_customer_is_deleted_after_the_order_that_is_being_placed(batches: Batches) -> None:
    """The delete waits for the order; then the summary goes, the order and its revenue stay."""
    one, placed = new_id(), new_id()
    await batches.decide(customer(one), product("P"))
    answer = await second_waits_for_first(batches, order(one, placed, "P"), ("delete_customer", {"customer_id": one}))
    assert answer["statusCode"] == 200
    assert (await batches.query("get_order", {"order_id": placed}))["data"]["customer_id"] == one
    assert (await batches.query("get_customer_orders", {"customer_id": one}))["statusCode"] == 404
    figures = (await batches.query("customer_analytics", {}))["data"]
    assert (figures["total_orders"], figures["total_revenue"], figures["top_customers"]) == (1, "2.50", [])
    async with connected(batches.engine) as connection:
        assert await differences(connection) == []


async def test_no_order_for_a_product_that_is_being_deleted(batches: Batches) -> None:
    """Whoever orders a product while it is deleted waits, and is told that there is none."""
    one = new_id()
    await batches.decide(customer(one), product("P"))
    answer = await second_waits_for_first(batches, ("delete_product", {"mnemonic": "P"}), order(one, new_id(), "P"))
    assert answer["data"] == {"error_code": "PRODUCT_NOT_FOUND", "details": {"mnemonic": "P"}}


async def test_a_product_is_held_by_the_order_that_is_being_placed(batches: Batches) -> None:
    """The delete of a product waits for an order that is being placed, and then counts it."""
    one = new_id()
    await batches.decide(customer(one), product("P"))
    answer = await second_waits_for_first(batches, order(one, new_id(), "P"), ("delete_product", {"mnemonic": "P"}))
    assert answer["data"]["details"] == {"mnemonic": "P", "placed_orders": 1}


async def test_orders_of_one_product_do_not_wait_for_each_other(batches: Batches) -> None:
    """A product that everybody orders is held by many at once, also while its description is changed."""
    ones = [new_id() for _ in range(2)]
    await batches.decide(*map(customer, ones), product("P"))
    async with batches.prepared(order(ones[0], new_id(), "P")) as (uow, _), asyncio.timeout(PATIENCE_S):
        assert (await batches.command(*order(ones[1], new_id(), "P")))["statusCode"] == 201
        update = ("update_product", {"mnemonic": "P", "overview": "another"})
        assert (await batches.command(*update))["statusCode"] == 200
        await uow.commit()


async def test_a_product_deleted_and_made_again_in_one_batch(batches: Batches) -> None:
    """Holds follow the product's id: those of the one that went are gone, the new one has its own."""
    one, placed = new_id(), new_id()
    await batches.decide(customer(one), product("P"), order(one, placed, "P"))
    answers = await batches.decide(
        cancel(one, placed),
        ("delete_product", {"mnemonic": "P"}),
        product("P"),
        order(one, new_id(), "P"),
        ("delete_product", {"mnemonic": "P"}),
    )
    assert codes(answers) == [200, 200, 201, 201, 400]
    async with connected(batches.engine) as connection:
        assert await differences(connection) == []


async def test_everything_within_one_batch(batches: Batches) -> None:
    """A customer made, ordering, cancelling and deleted in one batch leaves the orders, and sound figures.

    What the deleted one placed can be cancelled afterwards.
    """
    one, kept, later = new_id(), new_id(), new_id()
    taken_back = new_id()
    answers = await batches.decide(
        product("P"),
        customer(one),
        order(one, kept, "P"),
        order(one, taken_back, "P"),
        order(one, kept, "P"),
        order(one, later, "P"),
        cancel(one, taken_back),
        ("delete_customer", {"customer_id": one}),
        order(one, new_id(), "P"),
        cancel(one, later),
    )
    assert codes(answers) == [201, 201, 201, 201, 409, 201, 200, 200, 404, 200]
    async with connected(batches.engine) as connection:
        assert await differences(connection) == []
    assert (await batches.query("get_order", {"order_id": kept}))["data"]["status"] == "placed"
