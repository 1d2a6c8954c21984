"""The limits of the domain, as the database keeps them; and rows that were written before it did."""

import json
from typing import Any

import asyncpg
import pytest

from migrations import runner
from persistence.engine import PoolSettings, create_engine
from tests.migrations.conftest import Connect, Session
from workers.doctor.data import examine_data

BEFORE = runner.history()[[one.revision for one in runner.history()].index("011") - 1].revision
ROWS = """
insert into products (id, mnemonic, overview) values ('00000000-0000-0000-0000-000000000001', 'P', '');
insert into product_versions (id, product_id, version_label, start_date)
    select '00000000-0000-0000-0000-000000000002', id, '1', '2024-01-01' from products;
insert into product_version_items (version_id, ordinal, name, position)
    select id, 0, 'item', 0 from product_versions;
insert into validation_instances (product_id, ordinal, name, parameters, start_date)
    select id, 0, 'rule', '{}', '2024-01-01' from products;
insert into customers (id, name, name_key, email, email_key)
    values ('00000000-0000-0000-0000-000000000003', 'N', 'n', 'n@x.de', 'n@x.de');
insert into orders (id, customer_id, status, lines, total_amount)
    select '00000000-0000-0000-0000-000000000004', id, 'placed', '[{"quantity": 1}]', 1 from customers"""

KIB = 1024


def numbers(text: str, size: int, separator: str = ",") -> str:
    """Make a JSON object of an array of equal numbers; in canonical form, `1` a number, of so many bytes."""
    count = (size - len('{"":[]}') + 1) // 2
    return f'{{"": [{separator.join([text] * count)}]}}'


def lines(count: int, quantity: object = 1) -> str:
    """Make the lines of an order."""
    return json.dumps([{"quantity": quantity}] * count)


# Table, column, what is taken, what is refused: just within and just beyond each limit.
LIMITS: list[tuple[str, str, Any, Any]] = [
    ("customers", "name", "ä" * 200, "ä" * 201),
    ("customers", "name", "a", ""),
    ("customers", "email", "a" * 249 + "@x.de", "a" * 250 + "@x.de"),
    ("customers", "email_key", "é" * 249 + "@x.de", "é" * 250 + "@x.de"),
    ("customers", "preferences", numbers("1", 16 * KIB), numbers("1", 16 * KIB + 2)),
    ("customers", "preferences", numbers("1.0", 16 * KIB), numbers("1.5", 16 * KIB)),
    ("customers", "preferences", numbers("1e40", 16 * KIB // 3), '"text"'),
    ("customers", "preferences", json.dumps({"a": "x, y: " * 2728}), json.dumps({"a": "x" * 16 * KIB})),
    ("customers", "preferences", "{}", "[]"),
    ("customers", "version", 1, 0),
    ("products", "mnemonic", "P" * 50, "P" * 51),
    ("products", "overview", "x" * 1000, "x" * 1001),
    ("products", "category", "c" * 100, "c" * 101),
    ("products", "tags", json.dumps(["t"] * 20), json.dumps(["t"] * 21)),
    ("products", "tags", json.dumps(["t\n" + "😀" * 48]), json.dumps(["😀" * 51])),
    ("products", "tags", "[]", '[""]'),
    ("products", "tags", '["a"]', "[1]"),
    ("products", "tags", '["b"]', '{"a": 1}'),
    ("products", "new_catalog", numbers("1", 64 * KIB), numbers("1", 64 * KIB + 2)),
    ("products", "new_catalog", None, json.dumps(["x" * 70 * KIB])),
    ("products", "version", 2, -1),
    ("product_versions", "version_label", "v" * 50, "v" * 51),
    ("product_versions", "start_date", "0001-01-01", "0001-12-31 BC"),
    ("product_versions", "start_date", "2024-01-01", "10000-01-01"),
    ("product_versions", "end_date", "9999-12-31", "10000-01-01"),
    ("product_versions", "end_date", "2024-01-01", "2023-12-31"),
    ("product_version_items", "ordinal", 199, 200),
    ("product_version_items", "name", "n" * 100, "n" * 101),
    ("product_version_items", "attributes", numbers("1", 2 * KIB), numbers("1", 2 * KIB + 2)),
    ("validation_instances", "ordinal", 49, 50),
    ("validation_instances", "ordinal", 0, -1),
    ("validation_instances", "name", "n" * 100, ""),
    ("validation_instances", "start_date", "0001-01-01", "0044-03-15 BC"),
    ("validation_instances", "end_date", "9999-12-31", "10000-01-01"),
    ("orders", "lines", lines(100), lines(101)),
    ("orders", "lines", lines(1), "[]"),
    ("orders", "lines", lines(2, 1_000_000), lines(1, 1_000_001)),
    ("orders", "lines", lines(3), lines(1, 0)),
    ("orders", "status", "cancelled", "shipped"),
    ("orders", "total_amount", "9999999999.99", "10000000000.00"),
    ("orders", "total_amount", "0", "-0.01"),
    ("orders", "category", "c" * 100, "c" * 101),
    ("orders", "catalog", "{}", "[]"),
]


async def write(session: Session, table: str, column: str, value: object) -> None:
    """Write a value into a column of the only row."""
    kind = await session.fetchval(
        "select format_type(atttypid, atttypmod) from pg_attribute where attrelid = $1::regclass and attname = $2",
        table,
        column,
    )
    written = None if value is None else str(value)
    await session.execute(f"update {table} set {column} = $1::text::{kind}", written)


async def is_refused(session: Session, table: str, column: str, value: object) -> bool:
    """Say whether a value is beyond a limit."""
    try:
        await write(session, table, column, value)
    except (asyncpg.CheckViolationError, asyncpg.NumericValueOutOfRangeError):
        return True
    return False


async def test_each_limit_is_kept_by_the_database_too(migrated: str, connect: Connect) -> None:
    """What is just within a limit is taken, what is just beyond it is refused."""
    session = await connect()
    await session.execute(ROWS)
    for table, column, taken, refused in LIMITS:
        await write(session, table, column, taken)
        assert await is_refused(session, table, column, refused), f"taken: {table}.{column} = {refused!r:.80}"
    assert await session.fetchval("select count(*) from pg_constraint where not convalidated") == 0


BROKEN = [
    ("customers", "name", "x" * 201),
    ("customers", "email", "x" * 300),
    ("customers", "preferences", json.dumps({"a": "x" * 17 * KIB})),
    ("products", "tags", json.dumps(["t"] * 21)),
    ("product_versions", "end_date", "12345-01-01"),
    ("product_version_items", "name", ""),
    ("validation_instances", "ordinal", 99),
    ("orders", "lines", "[]"),
]


async def test_old_rows_that_break_a_limit_do_not_stop_the_migration(database: str, connect: Connect) -> None:
    """Their constraints stay NOT VALID and bind new rows; the others are validated. Mended, all can be validated."""
    await runner.upgrade(database, BEFORE)
    session = await connect()
    await session.execute(ROWS)
    for table, column, value in BROKEN:
        await write(session, table, column, value)
    await runner.upgrade(database, "011")
    open_ones = await session.fetch("select conname from pg_constraint where not convalidated")
    assert {row["conname"] for row in open_ones} == {
        "customers_name_length",
        "customers_email_length",
        "customers_preferences_bound",
        "products_tags_bound",
        "product_versions_calendar",
        "product_version_items_name_length",
        "validation_instances_place",
        "orders_lines_bound",
    }
    for table, column, value in BROKEN:
        with pytest.raises(asyncpg.CheckViolationError):
            await write(session, table, column, value)
    engine = create_engine(database, PoolSettings(), "tests")
    told = [one.text async for one in examine_data(engine)]
    await engine.dispose()
    for row in open_ones:
        assert any(f"break {row['conname']}: they are read and deleted, but not changed (" in text for text in told)
    assert any("customers_name_length" in text and "00000000-0000-0000-0000-000000000003" in text for text in told)
    await session.execute(
        "update customers set name = null, name_key = null, email = null, email_key = null,"
        " preferences = '{}', deleted_at = now()"
    )  # it can always be erased
    await session.execute(
        "alter table customers validate constraint customers_name_length,"
        " validate constraint customers_email_length, validate constraint customers_preferences_bound"
    )


INFINITE = [
    ("-infinity", "infinity", "0001-01-01", "9999-12-31"),
    ("2024-01-01", "infinity", "2024-01-01", "9999-12-31"),
    ("-infinity", None, "0001-01-01", None),
    ("infinity", None, "9999-12-31", None),
    ("infinity", "infinity", "9999-12-31", "9999-12-31"),
    ("-infinity", "-infinity", "0001-01-01", "0001-01-01"),
    ("2024-01-01", "2024-02-01", "2024-01-01", "2024-02-01"),
]
STORE = """
with product as (
    insert into products (id, mnemonic, overview, old_validations)
    values (gen_random_uuid(), 'P' || $1::text, '', jsonb_build_array(
        'no rule',
        jsonb_build_object('name', '"start_date": "infinity"', 'start_date', $2::text, 'end_date', $3::text))::text)
    returning id),
version as (
    insert into product_versions (id, product_id, version_label, start_date, end_date)
    select gen_random_uuid(), id, '1', $2::text::date, $3::text::date from product)
insert into validation_instances (product_id, ordinal, name, parameters, start_date, end_date)
select id, 0, 'r', '{}', $2::text::date, $3::text::date from product"""


@pytest.mark.parametrize("written", ["before", "by the release before"])
async def test_infinite_dates_become_dates(database: str, connect: Connect, written: str) -> None:
    """Rows of before are repaired, and so is what a worker of the release before writes afterwards; others stay."""
    await runner.upgrade(database, BEFORE if written == "before" else "011")
    session = await connect()
    for place, (start, end, *_) in enumerate(INFINITE):
        await session.execute(STORE, str(place), start, end)
    await session.execute(
        "insert into products (id, mnemonic, overview, old_validations)"
        " values (gen_random_uuid(), 'BAD', '', '\"start_date\": \"infinity\"')"
    )
    if written == "before":
        await runner.upgrade(database, "011")
        texts = await session.fetch("select old_validations from products where mnemonic <> 'BAD' order by mnemonic")
        rules = [json.loads(row[0])[1] for row in texts]
        assert [(one["start_date"], one["end_date"]) for one in rules] == [tuple(one[2:]) for one in INFINITE]
        assert {one["name"] for one in rules} == {'"start_date": "infinity"'}
    for table in ("product_versions", "validation_instances"):
        dates = await session.fetch(
            f"select start_date::text, end_date::text from {table}"
            " join products p on p.id = product_id order by mnemonic"
        )
        assert [tuple(row) for row in dates] == [tuple(one[2:]) for one in INFINITE]
