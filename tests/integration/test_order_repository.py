"""Orders and their read models in Postgres agree with those in memory: the same envelopes, compared whole."""

from collections.abc import AsyncIterator, Sequence
from typing import Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from persistence import unit_of_work
from persistence.engine import Engine, PoolSettings, connected, create_engine
from persistence.identity_map import UndeclaredKeyError
from tests import databases
from tests.in_memory.unit_of_work import Answer, Asking, Catalogue, InMemoryCatalogue
from tests.integration.postgres_catalogue import PostgresCatalogue
from tests.read_models import differences

CUSTOMERS: Final = tuple(f"cccccccc-0000-7000-8000-00000000000{number}" for number in range(3))
ORDERS: Final = tuple(f"0000000{number}-0000-7000-8000-00000000000a" for number in range(5))
PRODUCTS: Final = ("BOOK", "SONG", "TOY", "THING")
CATEGORIES: Final = ("BOOKS", "MUSIC", "TOYS", None)


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[Engine]:
    """Connections to an empty database."""
    made = create_engine(database_url, PoolSettings(), "tests")
    yield made
    await made.dispose()


def customer(place: int) -> Asking:
    """Create a customer."""
    return "create_customer", {"name": "Ada", "email": f"{place}@example.com", "customer_id": CUSTOMERS[place]}


def product(place: int) -> Asking:
    """Create a product."""
    return "create_product", {"mnemonic": PRODUCTS[place], "overview": "", "category": CATEGORIES[place]}


OPENING: Final = (*map(customer, range(len(CUSTOMERS))), *map(product, range(len(PRODUCTS))))
QUESTIONS: Final[Sequence[Asking]] = (
    *(("get_order", {"order_id": order}) for order in ORDERS),
    *(("get_customer_summary", {"customer_id": one}) for one in CUSTOMERS),
    *(("get_customer_orders", {"customer_id": one, "page_size": 2}) for one in CUSTOMERS),
    *(("get_customer_orders", {"customer_id": one, "page_size": 2, "page": 2}) for one in CUSTOMERS),
    *(("get_customer_orders", {"customer_id": CUSTOMERS[0], "status": status}) for status in ("placed", "cancelled")),
    ("customer_analytics", {}),
)


async def everything(catalogue: Catalogue) -> list[Answer]:
    """Ask all there is to ask."""
    return [await catalogue.ask(kind, payload) for kind, payload in QUESTIONS]


places = st.integers(0, len(CUSTOMERS) - 1)
lines = st.lists(
    st.fixed_dictionaries(
        {
            "mnemonic": st.sampled_from(PRODUCTS),
            "quantity": st.integers(1, 3),
            "unit_price": st.sampled_from(("0", "0.1", "2.50", "9999999")),
        },
        optional={"attributes": st.sampled_from(({}, {"colour": "red"}, {"size": 1.5, "list": [1, None]}))},
    ),
    min_size=1,
    max_size=3,
)


def placing(customer: int, order: int, lines: list[dict[str, object]]) -> Asking:
    """Place an order."""
    return "place_order", {"customer_id": CUSTOMERS[customer], "order_id": ORDERS[order], "lines": lines}


def cancelling(customer: int, order: int) -> Asking:
    """Take an order back."""
    return "cancel_order", {"customer_id": CUSTOMERS[customer], "order_id": ORDERS[order]}


orders = st.integers(0, len(ORDERS) - 1)
commands = st.one_of(
    st.builds(placing, places, orders, lines),
    st.builds(placing, places, orders, lines),
    st.builds(cancelling, places, orders),
    st.builds(lambda place: ("delete_customer", {"customer_id": CUSTOMERS[place]}), places),
    st.builds(
        lambda place, active: ("update_customer", {"customer_id": CUSTOMERS[place], "is_active": active}),
        places,
        st.booleans(),
    ),
    st.builds(lambda mnemonic: ("delete_product", {"mnemonic": mnemonic}), st.sampled_from(PRODUCTS)),
    st.builds(product, st.integers(0, len(PRODUCTS) - 1)),
)
batches = st.lists(st.lists(commands, min_size=1, max_size=5), min_size=1, max_size=4)


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(history=batches)
async def test_the_same_history_has_the_same_answers(engine: Engine, history: list[list[Asking]]) -> None:
    """Random batches: every envelope, of commands and of all queries after them, is the same in Postgres."""
    async with connected(engine) as connection:
        await databases.empty(connection)
    one, other = InMemoryCatalogue(), PostgresCatalogue(engine)
    for batch in (OPENING, *history):
        assert await one.apply(*batch) == await other.apply(*batch)
        assert await everything(one) == await everything(other)
    async with connected(engine) as connection:
        assert await differences(connection) == []


async def test_the_preferred_category_of_equals(engine: Engine) -> None:
    """The commonest category, then the most recent, then the first by name: the same in both."""
    answers = []
    for catalogue in (InMemoryCatalogue(), PostgresCatalogue(engine)):
        await catalogue.apply(*OPENING)
        one = ("BOOK", "SONG", "TOY", "SONG", "BOOK", "TOY")
        found = []
        for place, mnemonic in enumerate(one):
            line = {"mnemonic": mnemonic, "quantity": 1, "unit_price": "1"}
            payload = {"customer_id": CUSTOMERS[0], "lines": [line]}
            if place < len(ORDERS):
                payload["order_id"] = ORDERS[place]
            await catalogue.apply(("place_order", payload))
            summary = await catalogue.ask("get_customer_summary", {"customer_id": CUSTOMERS[0]})
            found.append(summary["data"]["preferred_category"])
        await catalogue.apply(cancelling(0, 3))
        summary = await catalogue.ask("get_customer_summary", {"customer_id": CUSTOMERS[0]})
        answers.append([*found, summary["data"]["preferred_category"]])
    assert answers[0] == answers[1] == ["BOOKS", "MUSIC", "TOYS", "MUSIC", "BOOKS", "TOYS", "TOYS"]


async def test_rules_within_a_batch(engine: Engine) -> None:
    """Orders meet the rules as they are at that place of the batch, and as they were stored by an earlier one."""
    rule = {"name": "colour", "parameters": {"required": ["colour"]}, "start_date": "2020-01-01"}
    red: dict[str, object] = {"mnemonic": "BOOK", "quantity": 1, "unit_price": "1", "attributes": {"colour": "red"}}
    plain: dict[str, object] = {"mnemonic": "BOOK", "quantity": 1, "unit_price": "1"}
    setting = ("set_validation_rules", {"mnemonic": "BOOK", "rules": [rule]})
    lifting = ("set_validation_rules", {"mnemonic": "BOOK", "rules": []})
    answers = []
    for catalogue in (InMemoryCatalogue(), PostgresCatalogue(engine)):
        await catalogue.apply(*OPENING)
        answers.append(
            [
                *await catalogue.apply(placing(0, 0, [plain]), setting, placing(0, 1, [plain]), placing(0, 1, [red])),
                *await catalogue.apply(placing(0, 2, [red, plain]), lifting, placing(0, 2, [red, plain])),
                *await catalogue.apply(placing(0, 3, [plain])),
            ]
        )
    assert answers[0] == answers[1]
    assert [answer["statusCode"] for answer in answers[0]] == [201, 200, 400, 201, 400, 200, 201, 201]


async def test_many_are_found_at_once(engine: Engine) -> None:
    """Orders and summaries are found by many ids at once, repeated and unknown ones among them."""
    catalogue = PostgresCatalogue(engine)
    line: dict[str, object] = {"mnemonic": "BOOK", "quantity": 1, "unit_price": "1"}
    await catalogue.apply(*OPENING, *(placing(0, place, [line]) for place in range(3)))
    found = await catalogue.readers.orders.get_many([*ORDERS, *ORDERS])
    assert set(found) == set(ORDERS[:3])
    summaries = await catalogue.readers.summaries.get_many([*CUSTOMERS, CUSTOMERS[0], ORDERS[0]])
    assert {one: summary.placed_orders for one, summary in summaries.items()} == {
        CUSTOMERS[0]: 3,
        CUSTOMERS[1]: 0,
        CUSTOMERS[2]: 0,
    }


async def test_an_undeclared_order_is_a_defect(engine: Engine) -> None:
    """A use case that touches an order which its kind did not declare is found out."""
    catalogue = PostgresCatalogue(engine)
    await catalogue.apply(*OPENING)
    async with unit_of_work.begin(engine, catalogue.rule_book) as uow:
        with pytest.raises(UndeclaredKeyError):
            await uow.orders.find_by_id(ORDERS[0])
