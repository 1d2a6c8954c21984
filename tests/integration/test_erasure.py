"""What is erased with a customer, what stays because it speaks of ids alone, and that nothing brings it back."""

import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest

from persistence.engine import Engine, PoolSettings, connected, create_engine
from tests.direct import Direct
from tests.in_memory.unit_of_work import Asking

ADA, BOB = "aaaaaaaa-0000-7000-8000-000000000001", "bbbbbbbb-0000-7000-8000-000000000002"
NOBODY = "00000000-0000-7000-8000-0000000000ff"
ORDER, OTHER = "0197c0de-0000-7000-8000-00000000000a", "0197c0de-0000-7000-8000-00000000000b"
LINES = [{"mnemonic": "P", "quantity": 2, "unit_price": "1.50"}]


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[Engine]:
    """Connections to an empty database."""
    made = create_engine(database_url, PoolSettings(), "tests")
    yield made
    await made.dispose()


@pytest.fixture
async def direct(engine: Engine) -> Direct:
    """A pipeline; there are two customers and a product, and Ada has an order."""
    made = Direct(engine)
    for asking in (
        ("create_customer", {"name": "Ada", "email": "ada@example.com", "customer_id": ADA}),
        ("create_customer", {"name": "Bob", "email": "bob@example.com", "customer_id": BOB}),
        ("create_product", {"mnemonic": "P", "overview": "", "category": "C"}),
        ("place_order", {"customer_id": ADA, "order_id": ORDER, "lines": LINES}),
    ):
        assert (await decide(made, asking))[0] == 201
    return made


async def decide(direct: Direct, asking: Asking, message_id: str | None = None) -> tuple[int, bytes, bool]:
    """Decide one command as a batch; its statusCode, its envelope, and whether that was replayed."""
    version: dict[str, Any] = {"version": 2} if asking[0] == "create_product" else {}
    record = direct.record(*asking, message_id=message_id or uuid.uuid4().hex, **version)
    ((envelope, body, replayed),) = await direct.decide(record)
    return envelope["statusCode"], body, replayed


OF_IDS_ALONE: list[tuple[str, dict[str, Any], int]] = [
    ("update_customer", {"customer_id": ADA, "expected_version": 7}, 409),
    ("update_customer", {"customer_id": ADA, "is_active": True, "expected_version": 7}, 409),
    ("update_customer", {"customer_id": ADA, "preferences": None, "expected_version": 7}, 409),
    ("update_customer", {"customer_id": NOBODY, "name": "Ada"}, 404),
    ("update_customer", {"customer_id": NOBODY, "is_active": True}, 404),
    ("create_customer", {"name": "Cat", "email": "not an address", "customer_id": ADA}, 422),
    ("delete_customer", {"customer_id": NOBODY}, 404),
    ("place_order", {"customer_id": ADA, "order_id": ORDER, "lines": LINES}, 409),
    ("place_order", {"customer_id": ADA, "order_id": OTHER, "lines": [LINES[0] | {"mnemonic": "Q"}]}, 404),
    ("place_order", {"customer_id": ADA, "order_id": OTHER, "lines": LINES}, 201),
    ("cancel_order", {"customer_id": ADA, "order_id": ORDER}, 200),
    ("cancel_order", {"customer_id": ADA, "order_id": NOBODY}, 404),
]
OF_A_CUSTOMER: list[tuple[str, dict[str, Any], int]] = [
    ("update_customer", {"customer_id": ADA, "name": "A", "expected_version": 7}, 409),
    ("update_customer", {"customer_id": ADA, "email": "a@example.com", "expected_version": 7}, 409),
    ("update_customer", {"customer_id": ADA, "preferences": {"a": 1}, "expected_version": 7}, 409),
    ("update_customer", {"customer_id": ADA, "is_active": True}, 200),
    ("update_customer", {"customer_id": ADA, "preferences": {"a": 1}}, 200),
    ("update_customer", {"customer_id": ADA, "email": "bob@example.com"}, 409),
    ("update_customer", {"customer_id": BOB, "email": "Ada@Example.com"}, 409),
    ("update_customer", {"customer_id": NOBODY, "email": "ada@example.com"}, 404),
    ("create_customer", {"name": "Cat", "email": "ADA@example.com"}, 409),
    ("create_customer", {"name": "Cat", "email": "cat@example.com", "customer_id": ADA}, 409),
]


async def test_outcomes_of_ids_alone_stay_when_their_customer_is_deleted(direct: Direct) -> None:
    """Whatever neither request nor envelope of which held more than ids is answered as before, byte for byte.

    A 422 of the payload is not stored: it is decided anew, and is the same.
    """
    stored = []
    for place, (kind, payload, code) in enumerate(OF_IDS_ALONE):
        status, body, _ = await decide(direct, (kind, payload), f"m{place}")
        assert (status, kind, payload) == (code, kind, payload)
        stored.append(body)
    assert (await decide(direct, ("delete_customer", {"customer_id": ADA}), "delete"))[0] == 200
    for place, (kind, payload, code) in enumerate(OF_IDS_ALONE):
        assert await decide(direct, (kind, payload), f"m{place}") == (code, stored[place], code != 422)
    assert (await decide(direct, ("delete_customer", {"customer_id": ADA}), "delete"))[::2] == (200, True)


async def test_outcomes_that_held_data_of_a_customer_are_erased_with_it(direct: Direct, engine: Engine) -> None:
    """Whatever the request or the envelope of which said more of the customer than its id is 410 from then on."""
    for place, (kind, payload, code) in enumerate(OF_A_CUSTOMER):
        assert ((await decide(direct, (kind, payload), f"m{place}"))[0], payload) == (code, payload)
    await decide(direct, ("delete_customer", {"customer_id": ADA}))
    for place, (kind, payload, _) in enumerate(OF_A_CUSTOMER):
        assert ((await decide(direct, (kind, payload), f"m{place}"))[0], payload) == (410, payload)
    async with connected(engine) as connection:
        kept = await connection.fetch("select from outcomes where envelope is not null and message_id ~ '^m[0-9]'")
    assert not kept


async def test_a_deleted_customers_order_is_cancelled_and_its_product_deleted(direct: Direct, engine: Engine) -> None:
    """Counters and holds follow, an order of somebody else is no order of hers, and no summary comes back."""
    await decide(direct, ("place_order", {"customer_id": ADA, "order_id": OTHER, "lines": LINES}))
    await decide(direct, ("place_order", {"customer_id": BOB, "order_id": NOBODY, "lines": LINES}))
    await decide(direct, ("delete_customer", {"customer_id": ADA}))
    delete_product: Asking = ("delete_product", {"mnemonic": "P"})
    expected: list[tuple[Asking, int]] = [
        (delete_product, 400),
        (("cancel_order", {"customer_id": BOB, "order_id": ORDER}), 404),
        (("cancel_order", {"customer_id": ADA, "order_id": NOBODY}), 404),
        (("cancel_order", {"customer_id": ADA, "order_id": ORDER}), 200),
        (("cancel_order", {"customer_id": ADA, "order_id": ORDER}), 200),
        (("cancel_order", {"customer_id": ADA, "order_id": OTHER}), 200),
        (("place_order", {"customer_id": ADA, "lines": LINES}), 404),
        (delete_product, 400),
        (("cancel_order", {"customer_id": BOB, "order_id": NOBODY}), 200),
        (delete_product, 200),
    ]
    for asking, code in expected:
        assert (asking, (await decide(direct, asking))[0]) == (asking, code)
    async with connected(engine) as connection:
        for table in ("customer_summaries", "customer_category_counts"):
            found = await connection.fetch(f"select customer_id::text from {table}")
            assert {row["customer_id"] for row in found} == {BOB}
        sums = await connection.fetch(
            "select counter, sum(amount)::float8 as amount from counter_deltas where counter ~ 'order|revenue'"
            " group by counter"
        )
        assert {row["amount"] for row in sums} == {0}
        assert await connection.fetchval("select coalesce(sum(amount), 0)::bigint from product_holds") == 0


async def test_deleted_and_cancelled_in_one_batch(direct: Direct, engine: Engine) -> None:
    """An order is cancelled after its customer was deleted by the same batch: no summary is left."""
    answers = await direct.decide(
        direct.record("delete_customer", {"customer_id": ADA}, message_id="d"),
        direct.record("cancel_order", {"customer_id": ADA, "order_id": ORDER}, message_id="c"),
        direct.record("cancel_order", {"customer_id": ADA, "order_id": ORDER}, message_id="again"),
        direct.record("delete_product", {"mnemonic": "P"}, message_id="p"),
    )
    assert [(one["statusCode"], one["type"]) for one, _, _ in answers] == [
        (200, "success"),
        (200, "success"),
        (200, "neutral"),
        (200, "success"),
    ]
    async with connected(engine) as connection:
        assert await connection.fetchval("select count(*) from customer_summaries where customer_id = $1", ADA) == 0
