"""Customers whose keys a release before folded: found by every look-up, changed and erased as ever."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from persistence.customers import CustomerTable
from persistence.engine import Engine, PoolSettings, connected, create_engine
from persistence.stale_keys import ANY_EMAIL
from tests.integration.postgres_catalogue import PostgresCatalogue
from workers.doctor.data import examine_data

# The e-mail as written, the key of before, and another spelling of the same.
SPELLINGS = [
    ("\u0390@x.gr", "\u03b9\u0308\u0301@x.gr", "\u03aa\u0301@X.gr"),
    ("\u03ab\u0301@x.gr", "\u03cb\u0301@x.gr", "\u03b0@x.gr"),
    ("\u01f0@x.de", "j\u030c@x.de", "J\u030c@x.de"),
    ("a\ufe0fda@x.de", "a\ufe0fda@x.de", "ADA@x.de"),
    ("\u1e96@x.de", "h\u0331@x.de", "H\u0331@x.de"),
    ("\u1fb7@x.gr", "\u03b1\u0342\u03b9@x.gr", "\u0391\u0342\u0399@x.gr"),
    ("plain@x.de", "plain@x.de", "PLAIN@x.de"),
]


def number(place: int) -> str:
    """Make a customer's id."""
    return f"00000000-0000-7000-8000-{place:012x}"


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[Engine]:
    """Connections to a database with a customer for each spelling."""
    made = create_engine(database_url, PoolSettings(), "tests")
    for place, (email, key, _) in enumerate(SPELLINGS):
        await insert(made, place, email, key)
    yield made
    await made.dispose()


async def insert(engine: Engine, place: int, email: str, key: str) -> None:
    """Write a customer as a worker of the release before would; its name is its e-mail."""
    async with connected(engine) as connection:
        await connection.execute(
            "insert into customers (id, name, name_key, email, email_key) values ($1, $2, $3, $2, $3)",
            number(place),
            email,
            key,
        )


async def keys(engine: Engine) -> list[Any]:
    """Read the keys, by id."""
    async with connected(engine) as connection:
        return [row["email_key"] for row in await connection.fetch("select email_key from customers order by id")]


async def test_an_e_mail_is_taken_however_its_key_was_folded(engine: Engine) -> None:
    """Nobody gets an e-mail that differs in case alone, neither by creating nor by updating, also within one batch."""
    catalogue = PostgresCatalogue(engine)
    for place, (email, _, other) in enumerate(SPELLINGS):
        answers = await catalogue.apply(
            ("create_customer", {"name": "N", "email": other}),
            ("update_customer", {"customer_id": number((place + 1) % len(SPELLINGS)), "email": other}),
            ("create_customer", {"name": "N", "email": email}),
        )
        assert [(place, one["statusCode"]) for one in answers] == [(place, 409)] * 3


async def test_a_customer_of_before_is_changed_and_erased(engine: Engine) -> None:
    """A change keeps the key, another spelling too; another e-mail gets a key of today; what is let go is free."""
    catalogue = PostgresCatalogue(engine)
    before = await keys(engine)
    for place, (_, _, other) in enumerate(SPELLINGS):
        answers = await catalogue.apply(
            ("update_customer", {"customer_id": number(place), "preferences": {"a": 1}}),
            ("update_customer", {"customer_id": number(place), "email": other}),
        )
        assert [(place, one["statusCode"]) for one in answers] == [(place, 200)] * 2
    assert await keys(engine) == before
    for place, (email, _, other) in enumerate(SPELLINGS):
        answers = await catalogue.apply(
            ("update_customer", {"customer_id": number(place), "email": f"free{place}@x.de"}),
            ("create_customer", {"name": "N", "email": email, "customer_id": number(100 + place)}),
            ("create_customer", {"name": "N", "email": other}),
            ("delete_customer", {"customer_id": number(place)}),
        )
        assert [(place, one["statusCode"]) for one in answers] == [(place, code) for code in (200, 201, 409, 200)]


async def test_a_search_finds_a_name_of_before(engine: Engine) -> None:
    """Name and e-mail are found by a part of any spelling, and only what contains it."""
    reader = CustomerTable(engine)
    catalogue = PostgresCatalogue(engine)
    for place, (email, _, other) in enumerate(SPELLINGS):
        for field in ("name_contains", "email_contains"):
            for needle in (email, other, other.split("@", maxsplit=1)[0]):
                found = (await catalogue.ask("search_customers", {field: needle}))["data"]
                assert [one["id"] for one in found["items"]] == [number(place)], (field, needle)
                assert found["total_count"] == 1
    assert await reader.count_active() == 0  # written by hand: not counted


async def test_two_who_meet_in_one_key_both_stay(engine: Engine) -> None:
    """Both are read, changed and deleted, doctor names them, and nobody else gets their e-mail while one has it."""
    email, _, other = SPELLINGS[0]
    await insert(engine, 50, other, "\u0390@x.gr")  # by a worker of today, while one of before wrote the other
    catalogue = PostgresCatalogue(engine)
    findings = [one.text async for one in examine_data(engine)]
    assert any(f"{number(0)} and {number(50)}" in text for text in findings), findings
    assert any("the keys of 5 rows are folded as before" in text for text in findings), findings
    for place in (0, 50):
        answers = await catalogue.apply(
            ("update_customer", {"customer_id": number(place), "name": "New"}),
            ("update_customer", {"customer_id": number(place), "email": email, "name": "Newer"}),
            ("create_customer", {"name": "N", "email": email}),
        )
        assert [one["statusCode"] for one in answers] == [200, 200, 409]
    both = [("update_customer", {"customer_id": number(place), "preferences": {"n": place}}) for place in (0, 50)]
    assert [one["statusCode"] for one in await catalogue.apply(*both)] == [200, 200]
    for place, code in ((50, 409), (0, 201)):
        (deleted,) = await catalogue.apply(("delete_customer", {"customer_id": number(place)}))
        (answer,) = await catalogue.apply(("create_customer", {"name": "N", "email": other}))
        assert (deleted["statusCode"], answer["statusCode"]) == (200, code)


async def test_a_database_without_old_keys_is_asked_nothing_more(database_url: str) -> None:
    """Where no key was ever folded as before, the look-ups of both ways are not made; the first such key has them."""
    made = create_engine(database_url, PoolSettings(), "tests")
    try:
        flags: list[bool] = []
        for email, key in (("a@x.de", "a@x.de"), ("\u00e9@x.de", "\u00e9@x.de"), SPELLINGS[0][:2]):
            await insert(made, len(flags), email, key)
            async with connected(made) as connection:
                flags.append(await connection.fetchval(f"select {ANY_EMAIL}"))
        assert flags == [False, False, True]
    finally:
        await made.dispose()
