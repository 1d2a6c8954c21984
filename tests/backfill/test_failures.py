"""What fails: passing trouble is tried again, a row at fault is put aside, a definition at fault stops the run."""

import asyncpg
import pytest

from tests.backfill.workshop import Workshop
from workers.backfill.workplace import FailureLimits

ROWS = """
create table walked (id bigint primary key, source text not null, target integer);
insert into walked select i, i::text from generate_series(1, {}) i"""
CAST = """
    TABLE = "walked"
    KEY = ("id",)
    TODO = "target is null"
    SET = {"target": "source::integer"}
    ROW_LOCAL = True
    """
TRANSFORM = """
    TABLE = "walked"
    KEY = ("id",)
    TODO = "target is null"
    READS = ("source",)
    WRITES = ("target",)

    def transform(row):
        return {"target": str(int(row["source"]))}
    """
STATEMENT = """
    TABLE = "walked"
    KEY = ("id",)
    TODO = "target is null"
    SQL = '''
        with done as (update walked set target = source::integer where {chunk} returning 1) select count(*) from done'''
    EXPECTED = "source::integer"
    ACTUAL = "target"
    """


@pytest.mark.parametrize("definition", [CAST, TRANSFORM, STATEMENT], ids=["set", "transform", "sql"])
async def test_a_poisoned_row_is_put_aside_and_the_rest_goes_on(workshop: Workshop, definition: str) -> None:
    """Chunks are halved down to the two rows that fail; each has its reason, nothing else is missing.

    The chunks tile after the splits as well. Repaired, the rows are treated by a retry.
    """
    await workshop.session.execute(ROWS.format(3000))
    await workshop.session.execute("update walked set source = 'poison' where id in (777, 2999)")
    workshop.define("fill", definition)
    async with workshop.workers(2):
        run = await workshop.run("fill")
        assert run["state"] == "completed_with_quarantine"
        assert sorted(row["key"] for row in run["quarantine"]) == [["2999"], ["777"]]
        assert all("invalid" in row["reason"] and "poison" not in row["reason"] for row in run["quarantine"])
        assert run["chunks"]["split"] >= 10
        assert await workshop.session.fetchval("select count(*) from walked where target = id") == 2998
        verify = await workshop.verify("fill")
        assert verify["state"] == "completed", verify["result"]
        assert verify["result"]["rows_quarantined"] == 2
        await workshop.session.execute("update walked set source = id::text where source = 'poison'")
        await workshop.wish(lambda control: control.retry("fill"))
        assert (await workshop.until("fill", "completed"))["rows_quarantined"] == 0
        assert await workshop.session.fetchval("select count(*) from walked where target = id") == 3000
        assert (await workshop.verify("fill"))["state"] == "completed"


async def test_more_than_a_share_of_failures_stops_the_run(workshop: Workshop) -> None:
    """Where row after row fails, the run stops with the reason; repaired, a retry ends it."""
    await workshop.session.execute(ROWS.format(200))
    await workshop.session.execute("update walked set source = 'poison' where id > 100")
    workshop.define("fill", CAST)
    async with workshop.workers(failures=FailureLimits(floor=3, share=0.01)):
        run = await workshop.run("fill")
        assert run["state"] == "failed"
        assert run["rows_quarantined"] == 4
        assert run["reason"].startswith("4 rows were put aside, the last with: 22P02: invalid input syntax")
        await workshop.session.execute("update walked set source = id::text")
        await workshop.wish(lambda control: control.retry("fill"))
        assert (await workshop.until("fill", "completed"))["rows_quarantined"] == 0
        assert (await workshop.verify("fill"))["state"] == "completed"


async def test_a_chunk_that_fails_on_time_is_halved(own_workshop: Workshop) -> None:
    """A chunk ended by a time-out goes on in halves, and what fits is done."""
    await own_workshop.session.execute(ROWS.format(40))
    await own_workshop.session.execute(
        "alter database " + own_workshop.url.rpartition("/")[2] + " set statement_timeout = 200"
    )
    own_workshop.define("fill", CAST.replace("source::integer", "case when pg_sleep(0.01) is null then 0 else 1 end"))
    async with own_workshop.workers():
        run = await own_workshop.run("fill")
    assert run["state"] == "completed"
    assert run["chunks"]["split"] >= 1
    assert run["rows_done"] == 40


async def test_a_lock_that_others_hold_is_waited_for(workshop: Workshop) -> None:
    """A live transaction on a row of the chunk delays it; nothing fails, and the live value stands."""
    await workshop.session.execute(ROWS.format(10))
    workshop.define("fill", CAST)
    live = await asyncpg.connect(workshop.url)
    await live.execute("begin; update walked set source = '500', target = 500 where id = 5")
    async with workshop.workers():
        await workshop.wish(lambda control: control.start("fill"))
        await workshop.poll("select exists (select from pg_locks where not granted)")
        await live.execute("commit")
        await workshop.until("fill", "completed")
    await live.close()
    assert await workshop.session.fetchval("select target from walked where id = 5") == 500


async def test_a_definition_that_would_never_end_is_stopped(workshop: Workshop) -> None:
    """Rows that still meet the predicate after they were treated stop the run after its first chunk."""
    await workshop.session.execute(ROWS.format(50))
    workshop.define("fill", CAST.replace('"target is null"', '"target is null or target >= 0"'))
    async with workshop.workers():
        run = await workshop.run("fill")
    assert run["state"] == "failed"
    assert run["reason"] == "50 rows still meet the predicate after they were treated: fill would never end"


async def test_a_statement_that_passes_over_rows_is_found_out(workshop: Workshop) -> None:
    """A statement must treat every row of its chunk that meets the predicate; the one it leaves out is put aside."""
    await workshop.session.execute(ROWS.format(8))
    workshop.define("fill", STATEMENT.replace("where {chunk}", "where {chunk} and id <> 3"))
    async with workshop.workers():
        run = await workshop.run("fill")
    assert run["state"] == "completed_with_quarantine"
    assert run["quarantine"] == [{"key": ["3"], "reason": "RowFault: only 0 of 1 rows were treated"}]


async def test_a_definition_with_wrong_sql_stops_the_run(workshop: Workshop) -> None:
    """What no row is to blame for is not halved."""
    await workshop.session.execute(ROWS.format(8))
    workshop.define("fill", CAST.replace("source::integer", "no_such_function(source)"))
    async with workshop.workers():
        run = await workshop.run("fill")
    assert run["state"] == "failed"
    assert "no_such_function" in run["reason"]
    assert "split" not in run["chunks"]


async def test_a_column_that_is_not_there_is_waited_for(workshop: Workshop) -> None:
    """A release may be on its way: the chunk waits, says why, and goes on when the column appears."""
    await workshop.session.execute(ROWS.format(8))
    workshop.define("fill", CAST.replace("source::integer", "better::integer"))
    async with workshop.workers():
        await workshop.wish(lambda control: control.start("fill"))
        await workshop.poll("select exists (select from backfill_chunks where error like '42703%')")
        assert "better" in (await workshop.look("fill"))["trouble"]
        await workshop.session.execute("alter table walked add column better text not null default '7'")
        assert (await workshop.until("fill", "completed"))["rows_done"] == 8


async def test_a_table_that_is_gone_for_a_while_holds_up_nobody_else(workshop: Workshop) -> None:
    """A run whose table is not there waits and says why, while another one is carried out; then it goes on."""
    await workshop.session.execute(ROWS.format(8) + "; create table other (like walked including all)")
    workshop.define("fill", CAST + "\n    MAX_ROWS = 2\n")
    workshop.define("fill_other", CAST.replace("walked", "other"))
    await workshop.wish(lambda control: control.start("fill"))
    await workshop.session.execute("update backfill_runs set state = 'running'; alter table walked rename to elsewhere")
    async with workshop.workers():
        assert (await workshop.run("fill_other"))["state"] == "completed"
        await workshop.poll("select exists (select from backfill_runs where reason = 'fill: there is no walked.id')")
        await workshop.session.execute("alter table elsewhere rename to walked")
        assert (await workshop.until("fill", "completed"))["rows_done"] == 8


async def test_a_backfill_waits_for_the_phase_that_it_belongs_to(workshop: Workshop) -> None:
    """While the change is at another phase no chunk is treated; when it comes, the run goes on."""
    await workshop.session.execute(ROWS.format(8))
    workshop.define("fill", CAST + "\n    PHASES = {'product_catalog': ('dual_write',)}\n")
    async with workshop.workers():
        await workshop.wish(lambda control: control.start("fill"))
        await workshop.poll(
            "select exists (select from backfill_chunks where error like '%product_catalog is expanded%')"
        )
        assert await workshop.session.fetchval("select count(target) from walked") == 0
        await workshop.session.execute("update schema_changes set phase = 'dual_write'")
        await workshop.until("fill", "completed")


async def test_an_outage_is_waited_out(workshop: Workshop) -> None:
    """Every connection of the workers is cut again and again while they work; nothing is missed or done twice."""
    await workshop.session.execute(ROWS.format(20000))
    await workshop.session.execute("alter table walked add column times integer not null default 0")
    workshop.define(
        "fill",
        CAST.replace('"source::integer"}', '"source::integer", "times": "times + 1"}').replace(
            "ROW_LOCAL = True", "ROW_LOCAL = True\n    MAX_ROWS = 400"
        ),
    )
    async with workshop.workers(2):
        await workshop.wish(lambda control: control.start("fill", rate_rows_per_s=30000))
        for part in range(8):
            await workshop.poll("select sum(rows_done) >= $1 from backfill_chunks", part * 2000)
            await workshop.session.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity "
                "where datname = current_database() and application_name like 'catalog-backfill%'"
            )
        await workshop.wish(lambda control: control.set_rate("fill", None))
        await workshop.until("fill", "completed")
    assert await workshop.session.fetchval("select count(*) from walked where times = 1 and target = id") == 20000
