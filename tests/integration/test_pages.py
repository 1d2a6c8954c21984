"""Pages of every list, in memory and in Postgres: what a cursor leads to, how far a number does, how large they get."""

import random
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import pytest

from handlers.queries import QUERIES
from handlers.queries.asked import Asked
from handlers.result import Result
from persistence import page_rows
from persistence.engine import PoolSettings, connected, create_engine
from persistence.page_rows import MOST_BYTES
from persistence.phases import Phase, catalogue_columns
from persistence.product_queries import LIST
from tests.batches import NOW, context
from tests.in_memory.unit_of_work import Asking, Catalogue, InMemoryCatalogue, read, shown
from tests.integration.postgres_catalogue import PostgresCatalogue
from tests.integration.test_product_repository import add, create, statuses

BUYER: Final = "11111111-1111-7111-8111-111111111111"
OTHER: Final = "22222222-2222-7222-8222-222222222222"


@pytest.fixture(params=["memory", "postgres"])
async def catalogue(request: pytest.FixtureRequest, database_url: str) -> AsyncIterator[Catalogue]:
    """A catalogue with two customers, of both kinds in turn."""
    engine = create_engine(database_url, PoolSettings(), "tests")
    made: Catalogue = InMemoryCatalogue() if request.param == "memory" else PostgresCatalogue(engine)
    await made.apply(customer("Buyer", BUYER), customer("Other", OTHER), create("ORDERED"))
    yield made
    await engine.dispose()


def customer(name: str, customer_id: str | None = None, **more: object) -> Asking:
    """Make the command that creates a customer."""
    ids = {"customer_id": customer_id} if customer_id else {}
    return "create_customer", {"name": name, "email": f"{name}@example.com"} | ids | more


def order(number: int, **more: object) -> Asking:
    """Make the command that places an order."""
    line = {"mnemonic": "ORDERED", "quantity": 1, "unit_price": "1.00"} | more
    return "place_order", {"customer_id": BUYER, "order_id": order_id(number), "lines": [line]}


def order_id(number: int) -> str:
    """Name an order."""
    return f"{number:08x}-0000-4000-8000-000000000000"


@dataclass(frozen=True)
class Listing:
    """A list: how it is asked for, how its next member is made, and a filter that is not its own."""

    kind: str
    other: Mapping[str, object]
    asked: Mapping[str, object] = field(default_factory=dict)
    size: str = "page_size"
    counted: int = 0
    """How many members there are before any is made."""

    def make(self, number: int) -> list[Asking]:
        """Make the commands that make a member."""
        name = f"P{number}"
        match self.kind:
            case "search_customers":
                return [customer(f"Name{number}")]
            case "get_customer_orders":
                cancel = ("cancel_order", {"customer_id": BUYER, "order_id": order_id(number)})
                return [order(number), *([cancel] if self.asked.get("status") == "cancelled" else [])]
            case _:
                return [create(name, category="BOOKS"), add(name, "1", "2024-01-01", "2024-12-31")]


DAYS: Final = {"start_date": "2024-06-01", "end_date": "2024-06-30"}
LISTINGS: Final[Mapping[str, Listing]] = {
    "all products": Listing("list_products", {"category": "BOOKS"}, counted=1),
    "a category": Listing("list_products", {"category": "GAMES"}, {"category": "BOOKS"}),
    "days": Listing("find_products_for_date_range", DAYS | {"end_date": "2024-06-29"}, DAYS),
    "mnemonics": Listing("search_products", {"mnemonic_contains": "Q"}, {"mnemonic_contains": "P"}, "limit"),
    "every mnemonic": Listing("search_products", {"mnemonic_contains": "P"}, {}, "limit", counted=1),
    "names": Listing("search_customers", {"name_contains": "nam"}, {"name_contains": "name"}, "limit"),
    "every customer": Listing("search_customers", {"is_active": True}, {}, "limit", counted=2),
    "orders": Listing("get_customer_orders", {"customer_id": OTHER}, {"customer_id": BUYER}),
    "placed orders": Listing(
        "get_customer_orders", {"status": "cancelled"}, {"customer_id": BUYER, "status": "placed"}
    ),
    "cancelled orders": Listing(
        "get_customer_orders", {"status": "placed"}, {"customer_id": BUYER, "status": "cancelled"}
    ),
}


@pytest.mark.parametrize("named", LISTINGS)
async def test_a_cursor_leads_over_everything_once(catalogue: Catalogue, named: str) -> None:
    """Whatever is made meanwhile, what was there is met once, newest first; counts, has_more and cursors are right."""
    listing, chance = LISTINGS[named], random.Random(named)
    for made in range(1, 24):
        assert not {400, 422} & set(statuses(await catalogue.apply(*listing.make(made))))
    made = 23
    before = await every(catalogue, listing)
    assert len(before) == 23 + listing.counted

    seen: list[str] = []
    cursor = None
    while True:
        size = chance.choice([1, 3, 7])
        asked = {**listing.asked, listing.size: size} | ({"cursor": cursor} if cursor else {})
        data = (await catalogue.ask(listing.kind, asked))["data"]
        assert (data["page"], data["page_size"]) == (None if cursor else 1, size)
        assert data["total_count"] == made + listing.counted
        seen += [item["id"] for item in data["items"]]
        assert data["has_more"] == (data["next_cursor"] is not None) == (len(seen) < len(before))
        if not data["has_more"]:
            break
        assert len(data["items"]) == size
        cursor = data["next_cursor"]
        made += 1
        await catalogue.apply(*listing.make(made))
    assert seen == before


async def every(catalogue: Catalogue, listing: Listing) -> list[str]:
    """List all members by one page."""
    data = (await catalogue.ask(listing.kind, {**listing.asked, listing.size: 100}))["data"]
    return [item["id"] for item in data["items"]]


async def test_a_cursor_is_bound_to_its_list(catalogue: Catalogue) -> None:
    """With other filters, in another kind, or mangled it is refused, by its field; a page's size is free."""
    await catalogue.apply(*[command for number in (1, 2) for command in LISTINGS["days"].make(number)])
    await catalogue.apply(customer("Name1"), customer("Name2"))
    await catalogue.apply(*[order(number) for number in range(1, 5)])
    await catalogue.apply(*[LISTINGS["cancelled orders"].make(number)[1] for number in (1, 2)])
    for named, listing in LISTINGS.items():
        cursor = (await catalogue.ask(listing.kind, {**listing.asked, listing.size: 1}))["data"]["next_cursor"]
        answer = await catalogue.ask(listing.kind, {**listing.asked, listing.size: 9, "cursor": cursor})
        assert (answer["statusCode"], answer["data"]["has_more"]) == (200, False), named
        mangled = ("", "x", cursor[:-1], cursor + "A", "ü", "W10", "W251bGwsIm4iLCJkIl0")
        strangers = [
            *((one.kind, {**one.asked, "cursor": cursor}) for one in LISTINGS.values() if one is not listing),
            (listing.kind, {**listing.asked, **listing.other, "cursor": cursor}),
            *((listing.kind, {**listing.asked, "cursor": one}) for one in mangled),
        ]
        for kind, asked in strangers:
            answer = await catalogue.ask(kind, asked)
            assert answer["statusCode"] == 422, (named, kind, asked)
            assert [one["field"] for one in answer["data"]["details"]["validation_errors"]] == ["cursor"]


REACH: Final[list[tuple[str, dict[str, object], str | None]]] = [
    ("list_products", {"page": 1000, "page_size": 10}, None),
    ("list_products", {"page": 1001, "page_size": 10}, "page"),
    ("list_products", {"page": 101, "page_size": 100}, "page"),
    ("list_products", {"page": 10_000, "page_size": 1}, None),
    ("list_products", {"page": 10**12, "page_size": 1}, "page"),
    ("find_products_for_date_range", DAYS | {"page": 100, "page_size": 100}, None),
    ("find_products_for_date_range", DAYS | {"page": 1001}, "page"),
    ("search_products", {"offset": 10_000}, None),
    ("search_products", {"offset": 10_001}, "offset"),
    ("search_customers", {"offset": 10_000}, None),
    ("search_customers", {"offset": 10**9}, "offset"),
    ("get_customer_orders", {"customer_id": BUYER, "page": 10**7, "page_size": 100}, None),
]


async def test_how_far_a_number_leads(catalogue: Catalogue) -> None:
    """10,000 rows may be passed over; further on it is refused by field, with the limit and the remedy."""
    for kind, asked, field_name in REACH:
        answer = await catalogue.ask(kind, asked)
        assert answer["statusCode"] == (422 if field_name else 200), (kind, asked)
        for error in answer["data"].get("details", {}).get("validation_errors", ()):
            assert error["field"] == field_name
            assert "10000" in error["message"]
            assert "cursor" in error["message"]


LARGE: Final = "x" * 2_000
TOO_LARGE: Final[Mapping[str, tuple[str, Mapping[str, object], str]]] = {
    "products": ("list_products", {}, "page_size"),
    "a category": ("list_products", {"category": "LARGE"}, "page_size"),
    "days": ("find_products_for_date_range", DAYS, "page_size"),
    "mnemonics": ("search_products", {"mnemonic_contains": "P"}, "limit"),
    "customers": ("search_customers", {}, "limit"),
    "orders": ("get_customer_orders", {"customer_id": BUYER}, "page_size"),
}


async def test_a_page_that_is_too_large_is_not_loaded(catalogue: Catalogue) -> None:
    """413 says how large a page may be; asked for so, and by its cursors, everything is answered."""
    await catalogue.apply(
        *[create(f"P{number}", category="LARGE", catalog={"x": "a" * 64_000}) for number in range(40)],
        *[add(f"P{number}", "1", "2024-01-01", "2024-12-31") for number in range(40)],
        *[customer(f"N{number}", preferences={"x": "a" * 16_000}) for number in range(99)],
    )
    lines = [
        {"mnemonic": "ORDERED", "quantity": 1, "unit_price": "1.00", "attributes": {"x": LARGE}} for _ in range(100)
    ]
    await catalogue.apply(
        *[("place_order", {"customer_id": BUYER, "order_id": order_id(n), "lines": lines}) for n in range(12)]
    )
    for named, (kind, asked, size) in TOO_LARGE.items():
        answer = await catalogue.ask(kind, {**asked, size: 100})
        assert (answer["statusCode"], answer["data"]["error_code"]) == (413, "RESPONSE_TOO_LARGE"), named
        details = answer["data"]["details"]
        assert details["response_bytes"] > details["limit_bytes"] == 900 * 1024
        fitting = int(details["remedy"].rsplit(" ", 1)[1])
        cursor, found = None, 0
        while True:
            query = {**asked, size: fitting} | ({"cursor": cursor} if cursor else {})
            answer = await catalogue.ask(kind, query)
            assert answer["statusCode"] == 200, (named, answer["data"])
            found += len(answer["data"]["items"])
            cursor = answer["data"]["next_cursor"]
            if cursor is None:
                break
        assert found == {"search_customers": 101, "get_customer_orders": 12}.get(kind, found)
        assert found >= 12


async def test_a_page_is_loaded_as_far_as_it_may_fit(database_url: str) -> None:
    """The first row always comes; from the others no more than twice a reply leaves the database."""
    engine = create_engine(database_url, PoolSettings(), "tests")
    try:
        catalogue = PostgresCatalogue(engine)
        await catalogue.apply(*[create(f"P{number}", catalog={"x": "a" * 60_000}) for number in range(100)])
        async with connected(engine) as connection:
            rows = await connection.fetch(LIST.by_number(catalogue_columns(Phase.EXPANDED)), [100], [0], 100)
        loaded = [len(row["catalog"]) for row in rows if row["catalog"] is not None]
        assert rows[0]["catalog"] is not None
        assert sum(loaded) <= MOST_BYTES + 60_100
        assert rows[-1]["running_bytes"] > 6_000_000
    finally:
        await engine.dispose()


async def test_no_page_is_found_for_nothing(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lists that take long are answered one after the other, each page of a list that was found, wherever it stands."""
    monkeypatch.setattr(page_rows, "PAGES_FOR_S", -1.0)
    engine = create_engine(database_url, PoolSettings(), "tests")
    try:
        readers = PostgresCatalogue(engine).readers
        payloads = [{"name_contains": needle, "offset": offset} for offset in range(3) for needle in "abc"]
        asked = [Asked(read(("search_customers", payload)).payload, context(NOW)) for payload in payloads]
        results = await QUERIES["search_customers"](asked, readers)
        assert [place for place, result in enumerate(results) if result is not None] == [0, 3, 6]
    finally:
        await engine.dispose()


FILTERS: Final[Mapping[str, Sequence[Mapping[str, object]]]] = {
    "list_products": [{}, {"category": "BOOKS"}, {"category": "NONE"}],
    "search_products": [{}, {"mnemonic_contains": "1"}, {"mnemonic_contains": "%"}],
    "find_products_for_date_range": [DAYS, {"start_date": "1999-01-01", "end_date": "1999-01-02"}],
    "search_customers": [{}, {"name_contains": "name1"}, {"email_contains": "2", "is_active": True}],
}


@pytest.mark.parametrize(
    "kind", ["list_products", "search_products", "find_products_for_date_range", "search_customers"]
)
async def test_pages_asked_for_at_once(catalogue: Catalogue, kind: str) -> None:
    """Pages of several lists, near and far, equal ones, and after a row: each is what it is when asked for alone."""
    for number in range(25):
        name = f"P{number}"
        listed = create(name, category=("BOOKS", "GAMES")[number % 2]), add(name, "1", "2024-01-01", "2024-12-31")
        await catalogue.apply(*listed, customer(f"Name{number}"))
    filters = FILTERS[kind]
    by_page = kind in {"list_products", "find_products_for_date_range"}
    size = "page_size" if by_page else "limit"
    places: list[dict[str, object]] = [{"page": one} if by_page else {"offset": one} for one in (1, 2, 11, 400)]
    payloads = [{**one, size: many, **place} for place in places for one in filters for many in (3, 7)]
    alone = [await catalogue.ask(kind, payload) for payload in payloads]
    cursors = [answer["data"]["next_cursor"] for answer in alone]
    after = [
        {name: value for name, value in payload.items() if name not in {"page", "offset"}} | {"cursor": cursor}
        for payload, cursor in zip(payloads, cursors, strict=True)
        if cursor is not None
    ]
    alone += [await catalogue.ask(kind, payload) for payload in after]
    asked = [Asked(read((kind, payload)).payload, context(NOW)) for payload in [*payloads, *after]] * 2
    results: dict[int, Result] = {}
    while left := [place for place in range(len(asked)) if place not in results]:
        more = await QUERIES[kind]([asked[place] for place in left], catalogue.readers)
        found = {place: result for place, result in zip(left, more, strict=False) if result is not None}
        assert found
        results |= found
    assert [shown(results[place]) for place in range(len(asked))] == alone * 2
    assert any(answer["data"]["items"] for answer in alone)
