"""The backfills of this release, on the real schema, there and back."""

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from contracts.text import fold_key
from persistence.legacy_rules import read_rules
from tests.backfill.workshop import Workshop

REAL = Path(__file__).parents[2] / "migrations" / "backfills"


@pytest.fixture(autouse=True)
def definitions(workshop: Workshop) -> None:
    """Use the real definitions."""
    for path in REAL.glob("*.py"):
        shutil.copy(path, workshop.folder)


async def test_validation_rules_move_and_move_back(workshop: Workshop) -> None:
    """Rules become rows with their order, and the text again; a product whose text is no JSON is put aside."""
    rules: list[dict[str, Any]] = [
        {"name": "first", "parameters": {"type": "object"}, "start_date": "2024-01-01", "end_date": None},
        {"name": "second", "parameters": {"b": 1, "a": [1, 2]}, "start_date": "2024-02-01", "end_date": "2024-03-01"},
    ]
    await workshop.session.execute(
        """
        insert into products (id, mnemonic, overview, old_validations)
        select uuidv7(), 'P' || i, '', case i % 3 when 0 then null when 1 then $1 else '[]' end
        from generate_series(1, 1200) i""",
        json.dumps(rules),
    )
    await workshop.session.execute("update products set old_validations = 'no JSON' where mnemonic = 'P7'")
    async with workshop.workers(2):
        run = await workshop.run("validation_rules")
        assert run["state"] == "completed_with_quarantine", run["reason"]
        assert (run["rows_done"], run["rows_quarantined"]) == (799, 1)
        verify = await workshop.verify("validation_rules")
        assert verify["state"] == "completed", verify["result"]
        rows = await workshop.session.fetch("""
            select name, parameters, start_date::text, end_date::text from validation_instances
            join products on products.id = product_id where mnemonic = 'P1' order by ordinal""")
        assert [row["name"] for row in rows] == ["first", "second"]
        assert json.loads(rows[1]["parameters"]) == rules[1]["parameters"]
        assert await workshop.session.fetchval("select count(*) from validation_instances") == 2 * 399

        await workshop.session.execute("update products set old_validations = null where mnemonic = 'P7'")
        run = await workshop.run("validation_rules", reverse=True)
        assert (run["state"], run["rows_done"]) == ("completed", 399)
        assert (await workshop.verify("validation_rules"))["state"] == "completed"
    text = await workshop.session.fetchval("select old_validations from products where mnemonic = 'P1'")
    assert json.loads(text) == rules
    assert await workshop.session.fetchval("select count(*) from validation_instances") == 0


async def test_rules_that_are_in_the_way_are_not_doubled(workshop: Workshop) -> None:
    """Where a product has rows already, its text stays and it is put aside."""
    await workshop.session.execute("""
        insert into products (id, mnemonic, overview, old_validations)
        values (uuidv7(), 'A', '', '[{"name": "old", "start_date": "2024-01-01"}]');
        insert into validation_instances select id, 0, 'new', '{}', '2024-01-01' from products""")
    async with workshop.workers():
        run = await workshop.run("validation_rules")
    assert run["state"] == "completed_with_quarantine"
    assert "validation_instances_pkey" in run["quarantine"][0]["reason"]
    assert await workshop.session.fetchval("select name from validation_instances") == "new"


async def test_the_catalogue_is_filled_verified_and_refilled(workshop: Workshop) -> None:
    """It waits for the dual write, fills, and puts right what a time without dual write left behind."""
    await workshop.session.execute("""
        insert into products (id, mnemonic, overview, old_catalog_field)
        select uuidv7(), 'P' || i, '', '{"n": ' || i || ', "b": 1, "a": 2}' from generate_series(1, 1500) i""")
    async with workshop.workers():
        await workshop.wish(lambda control: control.start("product_catalog"))
        await workshop.poll("select exists (select from backfill_chunks where error like '%is expanded%')")
        await workshop.session.execute("update schema_changes set phase = 'dual_write'")
        assert (await workshop.until("product_catalog", "completed"))["rows_done"] == 1500
        assert (await workshop.verify("product_catalog"))["state"] == "completed"
        await workshop.session.execute("update products set old_catalog_field = '{\"late\": 1}' where mnemonic = 'P3'")
        verify = await workshop.verify("product_catalog")
        assert verify["result"]["rows_differing"] == 1
        assert (await workshop.run("product_catalog"))["rows_done"] == 1
        assert (await workshop.verify("product_catalog"))["state"] == "completed"
        await workshop.session.execute("update schema_changes set phase = 'expanded'")
        assert (await workshop.run("product_catalog", reverse=True))["rows_done"] == 1500
        assert (await workshop.verify("product_catalog"))["state"] == "completed"
    assert await workshop.session.fetchval("select count(new_catalog) from products") == 0


ORDER = """
insert into orders (id, customer_id, status, lines, total_amount, category, created_at)
select uuidv7(), id, $1, '[{"quantity": 1}]', $2, $3, clock_timestamp() from customers where name = $4"""
ADD = """
insert into customer_summaries as s (customer_id, all_orders, placed_orders, total_spent, last_order_at)
select customer_id, 1, 1, total_amount, created_at from orders where id = (select max(id::text)::uuid from orders)
on conflict (customer_id) do update set all_orders = s.all_orders + 1, placed_orders = s.placed_orders + 1,
    total_spent = s.total_spent + excluded.total_spent, last_order_at = excluded.last_order_at"""


async def test_summaries_are_rebuilt_beside_live_orders(workshop: Workshop) -> None:
    """Wrong, missing and superfluous summaries are put right; an order that is being placed is not counted twice."""
    session = workshop.session
    await session.execute("""
        insert into customers (id, name, name_key, email, email_key)
        select uuidv7(), 'c' || i, 'c' || i, 'c' || i, 'c' || i from generate_series(1, 300) i""")
    for name, status, amount, category in [
        ("c1", "placed", 10, "books"),
        ("c1", "placed", 5, "books"),
        ("c1", "cancelled", 7, "music"),
        ("c2", "placed", 3, None),
        ("c9", "cancelled", 3, "books"),
    ]:
        await session.execute(ORDER, status, amount, category, name)
    await session.execute("""
        insert into customer_summaries (customer_id, all_orders)
        select id, 99 from customers where name in ('c1', 'c5');
        insert into customer_category_counts select id, 'music', 4 from customers where name = 'c1';
        insert into customers (id, deleted_at) values (uuidv7(), now())""")
    live = await asyncpg.connect(workshop.url)
    await live.execute("begin")
    await live.execute("select from customers where name = 'c2' for key share")
    await live.execute(ORDER, "placed", 4, None, "c2")
    async with workshop.workers():
        started = asyncio.create_task(workshop.run("customer_summaries"))
        await workshop.poll("select exists (select from pg_locks where not granted)")
        await live.execute(ADD)
        await live.execute("commit")
        run = await started
        assert run["state"] == "completed", run["reason"]
        verify = await workshop.verify("customer_summaries")
        assert verify["state"] == "completed", verify["result"]
    await live.close()
    rows = await session.fetch("""
        select name, all_orders, placed_orders, total_spent::float8 as spent
        from customer_summaries join customers on id = customer_id where all_orders > 0 order by name""")
    assert [tuple(row) for row in rows] == [("c1", 3, 2, 15.0), ("c2", 2, 2, 7.0), ("c9", 1, 0, 0.0)]
    counts = await session.fetch("""
        select name, category, placed_orders from customer_category_counts join customers on id = customer_id""")
    assert [tuple(row) for row in counts] == [("c1", "books", 2)]


async def test_no_backfill_brings_a_deleted_customer_back(workshop: Workshop) -> None:
    """A deleted customer's orders are passed over; rows that came back are found by verify and taken away by a run."""
    session = workshop.session
    names = ["alive", "placed", "cancelled", "no orders", "no category", "summary back", "category back", "both back"]
    for name in names:
        await session.execute(
            "insert into customers (id, name, name_key, email, email_key) values (uuidv7(), $1, $1, $1, $1)", name
        )
        if name != "no orders":
            status = "cancelled" if name == "cancelled" else "placed"
            await session.execute(ORDER, status, 5, None if name == "no category" else "books", name)
    ids = {row["name"]: row["id"] for row in await session.fetch("select id, name from customers")}
    await session.execute("""
        update customers set name = null, name_key = null, email = null, email_key = null, deleted_at = now()
        where name <> 'alive'""")

    async def back() -> list[str]:
        rows = await session.fetch("""
            select customer_id from customer_summaries union select customer_id from customer_category_counts""")
        return sorted(name for name, one in ids.items() if one in {row["customer_id"] for row in rows})

    async with workshop.workers(2):
        for _ in range(2):
            run = await workshop.run("customer_summaries")
            assert (run["state"], await back()) == ("completed", ["alive"]), run["reason"]
            verify = await workshop.verify("customer_summaries")
            assert verify["state"] == "completed", verify["result"]
            for name in ("summary back", "both back"):
                await session.execute("insert into customer_summaries (customer_id) values ($1)", ids[name])
            for name in ("category back", "both back"):
                await session.execute("insert into customer_category_counts values ($1, 'books', 0)", ids[name])
            verify = await workshop.verify("customer_summaries")
            assert (verify["result"]["rows_differing"], verify["result"]["rows_left"]) == (3, 3)
        assert (await workshop.run("customer_summaries"))["rows_done"] == 3
        assert await back() == ["alive"]


STALE = [
    # a number for the name, the e-mail, the key that a release before gave it
    ("1", "\u0390@x.gr", "\u03b9\u0308\u0301@x.gr"),
    ("2", "\u03aa\u0301@x.gr", "\u03ca\u0301@x.gr"),  # the same, but for case
    ("3", "\u01f0@x.de", "j\u030c@x.de"),
    ("4", "a\ufe0fda@x.de", "a\ufe0fda@x.de"),
    ("5", "h\u0331@x.de", "h\u0331@x.de"),
    ("6", "\u1fb7@x.gr", "\u03b1\u0342\u03b9@x.gr"),
    ("7", "ok@x.de", "ok@x.de"),
    ("8", "stra\u00dfe@x.de", "strasse@x.de"),
]


async def test_keys_are_folded_anew(workshop: Workshop) -> None:
    """Each key becomes what Python folds today; of two that meet one is put aside; the erased stay erased."""
    session = workshop.session
    for number, email, key in STALE:
        await session.execute(
            "insert into customers (id, name, name_key, email, email_key) values (uuidv7(), $1, $2, $3, $4)",
            f"{number} {email}",
            f"{number} {key}",
            email,
            key,
        )
    await session.execute("insert into customers (id, deleted_at) values (uuidv7(), now())")
    async with workshop.workers(2):
        run = await workshop.run("customer_keys")
        assert (run["state"], run["rows_quarantined"]) == ("completed_with_quarantine", 1)
        verify = await workshop.verify("customer_keys")
        assert verify["state"] == "completed", verify["result"]
    rows = await session.fetch("select name, name_key, email, email_key from customers where name is not null")
    wrong = [row["name"][0] for row in rows if row["email_key"] != fold_key(row["email"])]
    assert wrong in (["1"], ["2"])
    assert {row["name"] for row in rows if row["name_key"] != fold_key(row["name"])} <= {"1 ΐ@x.gr", "2 Ϊ́@x.gr"}
    assert await session.fetchval("select count(*) from customers where name is null and email_key is null") == 1


async def test_rules_of_the_ends_of_the_calendar_move_there_and_back(workshop: Workshop) -> None:
    """Rows and text say the same dates, those that a release before would have written as infinite, too."""
    dates = [
        ("0001-01-01", "9999-12-31"),
        ("0001-01-01", None),
        ("9999-12-31", None),
        ("2024-01-01", "9999-12-31"),
        ("0001-01-01", "0001-01-01"),
        ("9999-12-31", "9999-12-31"),
    ]
    for place, (start, end) in enumerate(dates):
        await workshop.session.execute(
            """
            with product as (
                insert into products (id, mnemonic, overview) values (uuidv7(), $1, '') returning id)
            insert into validation_instances
            select id, 0, 'r', '{}', $2::text::date, replace($3, '9999-12-31', 'infinity')::date from product""",
            f"P{place}",
            start,
            end,
        )
    async with workshop.workers():
        for reverse in (True, False, True):
            run = await workshop.run("validation_rules", reverse=reverse)
            assert (run["state"], run["rows_done"]) == ("completed", len(dates)), run["reason"]
            assert (await workshop.verify("validation_rules"))["state"] == "completed"
            if not reverse:
                rows = await workshop.session.fetch("""
                    select start_date::text, end_date::text from validation_instances
                    join products on id = product_id order by mnemonic""")
                assert [tuple(row) for row in rows] == dates
    texts = await workshop.session.fetch("select old_validations from products order by mnemonic")
    rules = [read_rules(row["old_validations"])[0] for row in texts]
    shown = [(one.start_date.isoformat(), one.end_date.isoformat() if one.end_date else None) for one in rules]
    assert shown == dates
