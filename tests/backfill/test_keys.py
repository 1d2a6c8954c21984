"""Every kind of key is walked to its end, once; and the walk's chunks tile it."""

import pytest

from tests.backfill.workshop import Workshop

GAP = 10**9

TABLES = {
    "integer": ("id bigint primary key", "id", "i"),
    "integer_with_gaps": ("id bigint primary key", "id", f"i * {GAP}::bigint - {GAP}"),
    "negative": ("id integer primary key", "id", "-i"),
    "uuid": ("id uuid primary key", "id", "md5(i::text)::uuid"),
    "text": ("id text primary key", "id", "'key ' || i || ' äÖ,\"{}'"),
    "text_of_another_collation": ('id text collate "C" primary key', "id", "chr(65 + i % 40) || i"),
    "timestamp": ("id timestamptz primary key", "id", "timestamptz '2024-01-01' + i * interval '1 us'"),
    "composite": (
        "shop integer not null, code text not null, at uuid not null, unique (shop, code, at)",
        "shop, code, at",
        "i / 700, 'c' || i % 7, md5(i::text)::uuid",
    ),
}


@pytest.mark.parametrize("kind", TABLES)
async def test_every_kind_of_key_is_walked_and_tiled(workshop: Workshop, kind: str) -> None:
    """2,500 rows under any kind of key are all treated, exactly once each, by two workers, and verify is clean."""
    columns, names, values = TABLES[kind]
    await workshop.session.execute(f"""
        create table walked ({columns}, source integer not null, target integer);
        insert into walked ({names}, source) select {values}, i from generate_series(1, 2500) i""")
    key = tuple(names.split(", "))
    workshop.define(
        "fill",
        f"""
        TABLE = "walked"
        KEY = {key!r}
        TODO = "target is null"
        SET = {{"target": "source + 1"}}
        ROW_LOCAL = True
        """,
    )
    async with workshop.workers(2):
        run = await workshop.run("fill")
        assert run["state"] == "completed"
        assert run["rows_done"] == 2500
        assert await workshop.session.fetchval("select count(*) from walked where target = source + 1") == 2500
        verify = await workshop.verify("fill")
    assert verify["state"] == "completed", verify["result"]
    assert verify["result"]["rows"] == 2500
    assert await workshop.session.fetchval("select count(*) from backfill_chunks where run_id = $1", run["run_id"]) >= 2


@pytest.mark.parametrize("rows", [0, 1])
async def test_an_empty_table_and_a_single_row(workshop: Workshop, rows: int) -> None:
    """Nothing to walk is completed, and so is one row."""
    await workshop.session.execute("create table walked (id bigint primary key, target integer)")
    await workshop.session.execute("insert into walked select i from generate_series(1, $1::int) i", rows)
    workshop.define("fill", SIMPLE)
    async with workshop.workers():
        run = await workshop.run("fill")
        assert (run["state"], run["rows_done"]) == ("completed", rows)
        assert (await workshop.verify("fill"))["state"] == "completed"


SIMPLE = """
    TABLE = "walked"
    KEY = ("id",)
    TODO = "target is null"
    SET = {"target": "1"}
    ROW_LOCAL = True
    """


async def test_a_key_without_a_unique_index_is_refused(workshop: Workshop) -> None:
    """A key that cannot be walked stops the run at once, with the reason."""
    await workshop.session.execute("create table walked (id bigint not null, target integer)")
    workshop.define("fill", SIMPLE)
    async with workshop.workers():
        run = await workshop.run("fill")
    assert run["state"] == "failed"
    assert run["reason"] == "fill: walked has no unique index on (id)"


async def test_rows_that_come_in_behind_and_ahead_of_the_walk_are_treated(workshop: Workshop) -> None:
    """Rows inserted below and above the keys walked so far, while a run goes on, are treated before it ends."""
    await workshop.session.execute("""
        create table walked (id bigint primary key, target integer);
        insert into walked select i * 10 from generate_series(1, 4000) i""")
    workshop.define("fill", SIMPLE)
    async with workshop.workers():
        await workshop.wish(lambda control: control.start("fill", rate_rows_per_s=1000))
        await workshop.poll("select exists (select from backfill_chunks where state = 'done')")
        walked_to = int((await workshop.session.fetchval("select walked_to[1] from backfill_runs")) or 0)
        await workshop.session.execute(
            "insert into walked values (-5), (5), ($1::bigint - 3), ($1::bigint + 1003), (100000)", walked_to
        )
        await workshop.wish(lambda control: control.set_rate("fill", None))
        run = await workshop.until("fill", "completed")
        assert run["pass"] >= 2
        assert await workshop.session.fetchval("select count(*) from walked where target is null") == 0
        assert (await workshop.verify("fill"))["state"] == "completed"
