"""Summaries, analytics, counts and holds equal their recomputation, whatever happens to orders, and at any moment."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from persistence import counters, product_holds
from persistence.engine import Engine, PoolSettings, connected, create_engine
from tests import databases, read_models
from tests.batches import NOW, Batches
from tests.in_memory.unit_of_work import Asking

pytestmark = pytest.mark.model

CUSTOMERS: Final = 3
PRODUCTS: Final = 4
ORDERS: Final = 6
CATEGORIES: Final = ("BOOKS", "MUSIC", "TOYS", None)


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[Engine]:
    """Connections to a database that all examples of a test share."""
    made = create_engine(database_url, PoolSettings(size=10), "tests")
    yield made
    await made.dispose()


def new_ids(count: int) -> list[str]:
    """Make ids as callers may."""
    return [str(uuid.uuid4()) for _ in range(count)]


def new_mark() -> str:
    """Make what tells the names of one example from those of others."""
    return uuid.uuid4().hex[:12].upper()


@dataclass
class Cast:
    """Whom and what the commands of one example are about."""

    mark: str = field(default_factory=new_mark)
    customers: list[str] = field(default_factory=partial(new_ids, CUSTOMERS))
    orders: list[str] = field(default_factory=partial(new_ids, ORDERS))

    def email(self, customer: int) -> str:
        """Name a customer's e-mail."""
        return f"{self.mark}.{customer}@example.com"

    def mnemonic(self, product: int) -> str:
        """Name a product."""
        return f"M_{self.mark}_{product}"


@dataclass(frozen=True)
class Step:
    """One command, in places instead of names."""

    kind: str
    customer: int = 0
    product: int = 0
    order: int | None = 0
    lines: Sequence[tuple[int, int, str]] = ()
    category: str | None = None

    def of(self, cast: Cast) -> Asking:
        """Write the command about this cast."""
        customer, mnemonic = cast.customers[self.customer], cast.mnemonic(self.product)
        order = cast.orders[self.order] if self.order is not None else None
        payloads: dict[str, dict[str, object]] = {
            "create_customer": {"name": "N", "email": cast.email(self.customer), "customer_id": customer},
            "update_customer": {"customer_id": customer, "is_active": bool(self.product % 2)},
            "delete_customer": {"customer_id": customer},
            "create_product": {"mnemonic": mnemonic, "overview": "", "category": self.category},
            "update_product": {"mnemonic": mnemonic, "category": self.category},
            "delete_product": {"mnemonic": mnemonic},
            "archive_product": {"mnemonic": mnemonic},
            "restore_product": {"mnemonic": mnemonic},
            "cancel_order": {"customer_id": customer, "order_id": order},
            "place_order": {
                "customer_id": customer,
                "order_id": order,
                "lines": [
                    {"mnemonic": cast.mnemonic(product), "quantity": quantity, "unit_price": price}
                    for product, quantity, price in self.lines
                ],
            },
        }
        return self.kind, payloads[self.kind]


customers = st.integers(0, CUSTOMERS - 1)
products = st.integers(0, PRODUCTS - 1)
orders = st.integers(0, ORDERS - 1)
lines = st.lists(
    st.tuples(products, st.integers(1, 3), st.sampled_from(("0", "0.10", "19.99", "7.5", "1000000"))),
    min_size=1,
    max_size=3,
)
steps = st.one_of(
    st.builds(Step, st.just("place_order"), customers, order=st.none() | orders, lines=lines),
    st.builds(Step, st.just("place_order"), customers, order=orders, lines=lines),
    st.builds(Step, st.just("cancel_order"), customers, order=orders),
    st.builds(Step, st.just("cancel_order"), customers, order=orders),
    st.builds(
        Step,
        st.sampled_from(("create_customer", "update_customer", "delete_customer")),
        customers,
        products,
    ),
    st.builds(
        Step,
        st.sampled_from(("create_product", "update_product", "delete_product", "archive_product", "restore_product")),
        product=products,
        category=st.sampled_from(CATEGORIES),
    ),
)
histories = st.lists(st.lists(steps, min_size=1, max_size=6), min_size=1, max_size=5)
"""The batches of one worker."""

OPENING: Final = [
    *(Step("create_customer", customer) for customer in range(CUSTOMERS)),
    *(Step("create_product", product=place, category=CATEGORIES[place]) for place in range(PRODUCTS)),
]


async def empty(engine: Engine) -> None:
    """Forget the example before: a comparison must not take longer with each."""
    async with connected(engine) as connection:
        await databases.empty(connection)


async def work(batches: Batches, cast: Cast, history: Sequence[Sequence[Step]], hours: int) -> None:
    """Decide a worker's batches; the broker's clock goes on with each, but not for every worker alike."""
    for place, batch in enumerate(history):
        now = NOW + timedelta(hours=hours * place)
        await batches.decide(*(step.of(cast) for step in batch), now=now)


async def watch(engine: Engine, done: asyncio.Event) -> None:
    """Compare again and again while others work: each comparison is one statement, so of one moment."""
    async with connected(engine) as connection:
        while not done.is_set():
            assert await read_models.differences(connection) == []


async def fold(engine: Engine, done: asyncio.Event) -> None:
    """Fold as the workers do in the background."""
    async with connected(engine) as connection:
        seen = 0
        while not done.is_set():
            await counters.fold(connection)
            seen = await product_holds.fold(connection, seen)


async def compare(engine: Engine) -> list[tuple[Any, ...]]:
    """Compare at the end."""
    async with connected(engine) as connection:
        return await read_models.differences(connection)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(history=histories)
async def test_one_worker(engine: Engine, history: list[list[Step]]) -> None:
    """After each batch of a random history everything that is kept is what a recomputation finds."""
    await empty(engine)
    batches, cast = Batches(engine), Cast()
    for batch in (OPENING, *history):
        await batches.decide(*(step.of(cast) for step in batch))
        assert await compare(engine) == []


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(several=st.lists(histories, min_size=2, max_size=4))
async def test_several_workers(engine: Engine, several: list[list[list[Step]]]) -> None:
    """The same beside other workers and folders on the same rows, and at any moment in between."""
    await empty(engine)
    batches, cast = Batches(engine), Cast()
    await batches.decide(*(step.of(cast) for step in OPENING))
    done = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(watch(engine, done))
        tasks.create_task(fold(engine, done))
        await asyncio.gather(*(work(batches, cast, history, hours) for hours, history in enumerate(several)))
        done.set()
    assert await compare(engine) == []
