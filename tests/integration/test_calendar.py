"""Both ends of the calendar: every date and moment is stored, found and answered as that very date and moment."""

from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta

import pytest

from persistence.engine import Engine, PoolSettings, connected, create_engine
from tests.integration.postgres_catalogue import PostgresCatalogue

FIRST, LAST = date.min.isoformat(), date.max.isoformat()
ENDS = [
    ("NO_END", "2024-01-01", LAST),
    ("ALWAYS", FIRST, LAST),
    ("FIRST_DAY", FIRST, FIRST),
    ("LAST_DAY", LAST, LAST),
    ("LAST_FOR_EVER", LAST, None),
    ("BUT_ONE", "0001-01-02", "9999-12-30"),
    ("OPEN", FIRST, None),
]
MOMENTS = [
    datetime.max.replace(tzinfo=UTC),
    datetime.max.replace(tzinfo=UTC) - timedelta(microseconds=1),
    datetime(2026, 3, 31, 12, 0, 0, 1, tzinfo=UTC),
    datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
    datetime.min.replace(tzinfo=UTC) + timedelta(microseconds=1),
    datetime.min.replace(tzinfo=UTC),
]


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[Engine]:
    """Connections to an empty database."""
    made = create_engine(database_url, PoolSettings(), "tests")
    yield made
    await made.dispose()


async def test_every_version_and_rule_is_in_force_on_its_first_and_last_day(engine: Engine) -> None:
    """A product is read, searched, judged and re-opened whatever its versions' and rules' first and last days are."""
    catalogue = PostgresCatalogue(engine)
    rules = [{"name": "r", "parameters": {"required": ["x"]}}]
    for mnemonic, start, end in ENDS:
        days = {"start_date": start, "end_date": end}
        answers = await catalogue.apply(
            ("create_product", {"mnemonic": mnemonic, "overview": ""}),
            ("add_product_version", {"mnemonic": mnemonic, "version_label": "1", **days, "items": []}),
            ("set_validation_rules", {"mnemonic": mnemonic, "rules": [rule | days for rule in rules]}),
        )
        assert [answer["statusCode"] for answer in answers] == [201, 201, 200]
        (again,) = await catalogue.apply(
            ("end_product_version", {"mnemonic": mnemonic, "version_label": "1", "end_date": end})
        )
        assert (again["data"]["start_date"], again["data"]["end_date"]) == (start, end)
        shown = (await catalogue.ask("get_product", {"mnemonic": mnemonic}))["data"]["versions"]
        assert [(one["start_date"], one["end_date"]) for one in shown] == [(start, end)]
        for day in {start, end or LAST}:
            asked = {"mnemonic": mnemonic, "data": {}, "on_date": day}
            verdicts = (await catalogue.ask("validate_product_data", asked))["data"]["rules"]
            assert [(one["name"], one["holds"]) for one in verdicts] == [("r", False)]
            found = await catalogue.ask("find_products_for_date_range", {"start_date": day, "end_date": day})
            assert mnemonic in [one["mnemonic"] for one in found["data"]["items"]]
    found = await catalogue.ask("find_products_for_date_range", {"start_date": FIRST, "end_date": LAST})
    assert found["data"]["total_count"] == len(ENDS)
    async with connected(engine) as connection:
        for table in ("product_versions", "validation_instances"):
            kept = await connection.fetch(f"select start_date::text, end_date::text from {table}")
            assert sorted(map(tuple, kept), key=str) == sorted([end[1:] for end in ENDS], key=str)


async def test_an_infinite_date_is_read_as_the_end_of_the_calendar(engine: Engine) -> None:
    """What somebody wrote beyond Python's calendar is its last or first day to whoever reads it, never an error."""
    async with connected(engine) as connection:
        row = await connection.fetchrow(
            "select date 'infinity', date '-infinity', date '10000-01-01', date '0001-12-31 BC', array[date 'infinity']"
        )
        assert tuple(row) == (date.max, date.min, date.max, date.min, [date.max])
        sent = [date.max, date.min, date(2000, 1, 1), date(1999, 12, 31), None]
        kept = await connection.fetchval(
            "select array_agg(d::text order by n) from unnest($1::date[]) with ordinality as r(d, n)", sent
        )
        assert kept == [LAST, FIRST, "2000-01-01", "1999-12-31", None]
        span = await connection.fetchval("select daterange($1, $2, '[]')::text", date.min, date.max)
        assert span == "[0001-01-01,10000-01-01)"


A_CUSTOMER = """
insert into customers (id, name, name_key, email, email_key, created_at)
select uuidv7(), 'n', 'n', $1, $1, $2::text::timestamptz"""
A_PRODUCT = """
insert into products (id, mnemonic, overview, created_at) values (uuidv7(), 'P' || $1, '', $2::text::timestamptz)"""


OWNER = "00000000-0000-7000-8000-000000000001"
AN_ORDER = f"""
with owner as (
    insert into customers (id, name, name_key, email, email_key) values ('{OWNER}', 'n', 'n', 'n', 'n')
    on conflict do nothing)
insert into orders (id, customer_id, status, lines, total_amount, created_at)
select uuidv7(), '{OWNER}', 'placed',
    '[{{"product_id": "p", "mnemonic": "P", "quantity": 1, "unit_price": "1", "attributes": null}}]', length($1::text),
    $2::text::timestamptz"""


@pytest.mark.parametrize(
    ("kind", "filters", "insert"),
    [
        ("search_customers", {}, A_CUSTOMER),
        ("search_customers", {"name_contains": "n"}, A_CUSTOMER),
        ("search_products", {}, A_PRODUCT),
        ("search_products", {"mnemonic_contains": "P"}, A_PRODUCT),
        ("list_products", {}, A_PRODUCT),
        ("get_customer_orders", {"customer_id": OWNER}, AN_ORDER),
    ],
)
async def test_a_cursor_leads_on_from_any_moment(
    engine: Engine, kind: str, filters: dict[str, object], insert: str
) -> None:
    """What we issue we take: pages of one row, two of each moment of the calendar, show each row once, in order."""
    async with connected(engine) as connection:
        for place, moment in enumerate([*MOMENTS, *MOMENTS]):
            await connection.execute(insert, str(place), moment.isoformat())
    catalogue = PostgresCatalogue(engine)
    seen, cursor = [], None
    while True:
        size = "limit" if kind.startswith("search") else "page_size"
        page = (await catalogue.ask(kind, filters | {size: 1, "cursor": cursor}))["data"]
        seen += [(datetime.fromisoformat(one["created_at"]), one["id"]) for one in page["items"]]
        if not page["has_more"]:
            break
        cursor = page["next_cursor"]
    assert len(set(seen)) == len(seen) == 2 * len(MOMENTS)
    assert seen == sorted(seen, reverse=True)
