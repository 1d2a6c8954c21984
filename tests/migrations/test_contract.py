"""Contracting: what the gate lets through, what it finishes itself, and that it can be taken back."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from migrations import runner
from migrations.runner import MigrationError, Patience
from persistence.engine import connected
from persistence.phases import PRODUCT_CATALOG, SHARED_LOCK, Phase, StepPatience, advance, beat
from tests.migrations.conftest import Connect, Session
from tests.migrations.ledger import FILL, LATER, MIDDLE, put, record_run
from tests.migrations.test_safe_ddl import WAITING, until

AT_ONCE = StepPatience(workers_s=0, lock_s=0)
FORWARD = tuple(Phase)
MAIN = [one.revision for one in runner.history() if one.branch == "main"]
NEW = "select mnemonic, new_catalog::text from products order by mnemonic"
CATALOGUES = [("FIRST", '{"a": [true, null], "b": 1.0}'), ("LAST", '{"n": 2}'), ("MIDDLE", "{}")]
OLD_COLUMN = "select count(*) from information_schema.columns where column_name = 'old_catalog_field'"
IMPATIENT = Patience(lock_s=0)


@asynccontextmanager
async def contracting_fails(migrated: str, reason: str, *, finish_inline: bool = False) -> AsyncIterator[None]:
    """Expect a contraction to be refused, and the old column to be there still."""
    with pytest.raises(MigrationError, match=reason) as refused:
        await runner.contract(migrated, finish_inline=finish_inline, patience=IMPATIENT)
    assert "\n" not in str(refused.value)
    assert await runner.current(migrated) == (MAIN[-1],)
    yield


async def test_migrating_never_contracts(migrated: str, session: Session) -> None:
    """`upgrade` stays at the head of the main branch, also when everything is ready, and refuses the other branch."""
    await session.execute(FILL)
    await put(session, Phase.READING_NEW)
    await record_run(session, verifies=await record_run(session))

    assert await runner.upgrade(migrated) == []
    for target in ("contract@head", "heads", "c001"):
        with pytest.raises(MigrationError, match="it has a command of its own"):
            await runner.upgrade(migrated, target)
    assert await session.fetchval(OLD_COLUMN) == 1


@pytest.mark.parametrize("phase", FORWARD[:3])
async def test_contracting_waits_for_the_switch_of_reads(migrated: str, session: Session, phase: Phase) -> None:
    """Before `reading_new` the gate is closed, with all evidence there."""
    await session.execute(FILL)
    await put(session, phase)
    await record_run(session, verifies=await record_run(session))
    reason = f"product_catalog cannot be contracted: it is {phase}, and goes to contracted from reading_new"
    async with contracting_fails(migrated, reason):
        assert await session.fetchval("select phase from schema_changes") == phase


async def test_contracting_is_refused_without_evidence(migrated: str, session: Session) -> None:
    """Each piece that is missing is named; with the last one there, the column goes and the new one is obligatory."""
    await put(session, Phase.READING_NEW)
    async with contracting_fails(migrated, "3 products have no new_catalog"):
        await session.execute(FILL)
    async with contracting_fails(migrated, "the backfill product_catalog was never run"):
        run = await record_run(session, (None, MIDDLE), (LATER, None))
    async with contracting_fails(migrated, "leave a gap or overlap at 80000000"):
        await session.execute("update backfill_chunks set low = $1 where low is not null", [MIDDLE])
    async with contracting_fails(migrated, "no verify of run 1 was begun after the last step"):
        await record_run(session, verifies=run)

    assert await runner.contract(migrated, patience=IMPATIENT) == ["c001"]
    assert await session.fetchval(OLD_COLUMN) == 0
    assert await session.fetch(NEW) == CATALOGUES
    with pytest.raises(asyncpg.NotNullViolationError):
        await session.execute("update products set new_catalog = null")
    assert await session.fetchval("select phase from schema_changes") == "contracted"
    assert await runner.contract(migrated) == []
    assert await runner.upgrade(migrated) == []


async def test_contracting_waits_for_live_workers(migrated: str, engine: AsyncEngine, session: Session) -> None:
    """The column is dropped once every live worker acts by `contracted`; until then only the phase has changed."""
    await session.execute(FILL)
    await put(session, Phase.READING_NEW)
    await record_run(session, verifies=await record_run(session))
    async with connected(engine) as connection:
        await beat(connection, "w1", "commands", {PRODUCT_CATALOG: Phase.READING_NEW})
    with pytest.raises(MigrationError, match="product_catalog is contracted, but not for these live workers: w1"):
        await runner.contract(migrated, patience=IMPATIENT)
    assert await session.fetchval(OLD_COLUMN) == 1

    # Meanwhile a worker at `contracted` writes the new column alone: the old one says nothing any more.
    await session.execute("""update products set new_catalog = '{"n": 3}' where mnemonic = 'LAST'""")
    going_on = asyncio.create_task(runner.contract(migrated))
    async with connected(engine) as connection:
        await beat(connection, "w1", "commands", {PRODUCT_CATALOG: Phase.CONTRACTED})
    assert await going_on == ["c001"]
    assert await session.fetchval("select new_catalog::text from products where mnemonic = 'LAST'") == '{"n": 3}'


async def test_contracting_finishes_inline_when_told_to(migrated: str, session: Session) -> None:
    """From `expanded` it takes every step, fills what is missing and differs, and stops at text that is no JSON."""
    await session.execute("update products set old_catalog_field = '{' where mnemonic = 'MIDDLE'")
    await session.execute("""update products set new_catalog = '"stale"' where mnemonic = 'FIRST'""")
    async with contracting_fails(migrated, "1 products have no new_catalog, and in 0 it differs", finish_inline=True):
        assert await session.fetchval("select phase from schema_changes") == "dual_write"
        await session.execute("update products set old_catalog_field = '{}' where mnemonic = 'MIDDLE'")

    assert await runner.contract(migrated, finish_inline=True) == ["c001"]
    assert await session.fetch(NEW) == CATALOGUES
    logged = await session.fetch("select to_phase from schema_change_log order by id")
    assert [row["to_phase"] for row in logged] == list(FORWARD[1:])


async def test_finishing_inline_fills_more_than_a_batch(migrated: str, session: Session) -> None:
    """Every row of a table larger than several batches is filled and proved."""
    await session.execute(
        "insert into products (id, mnemonic, overview, old_catalog_field) "
        "select gen_random_uuid(), 'P' || n, '', format('{\"n\": %s}', n) from generate_series(1, 4500) as n"
    )
    await runner.contract(migrated, finish_inline=True)
    assert (
        await session.fetchval("select count(*) from products where new_catalog ->> 'n' = substr(mnemonic, 2)") == 4500
    )


async def test_a_contraction_can_be_taken_back_with_its_data(
    migrated: str, engine: AsyncEngine, session: Session
) -> None:
    """The old column comes back filled from the new one, at `reading_new`: down, up and down loses nothing."""
    await runner.contract(migrated, finish_inline=True)
    await session.execute("""update products set new_catalog = '{"n": 4}' where mnemonic = 'LAST'""")

    assert await runner.downgrade(migrated, "contract@base") == ["c001"]
    assert await session.fetchval("select phase from schema_changes") == "reading_new"
    assert await session.fetch("select mnemonic, old_catalog_field from products order by mnemonic") == [
        CATALOGUES[0],
        ("LAST", '{"n": 4}'),
        CATALOGUES[2],
    ]
    assert await session.fetchval("select schema_change_unfinished('product_catalog')") is None
    await advance(engine, PRODUCT_CATALOG, Phase.BACKFILLED, by="a test", patience=AT_ONCE)
    assert await runner.contract(migrated, finish_inline=True) == ["c001"]
    assert sorted(await runner.downgrade(migrated, "base")) == sorted([*MAIN, "c001"])


async def test_the_expand_is_not_taken_back_while_only_the_new_column_is_true(migrated: str, session: Session) -> None:
    """Between `contracted` and the drop the old column is out of date: a downgrade would lose writes."""
    await put(session, Phase.CONTRACTED)
    with pytest.raises(MigrationError, match="old_catalog_field is out of date since the contraction"):
        await runner.downgrade(migrated, "005")
    assert await runner.current(migrated) == ("006",)


@pytest.mark.parametrize(
    ("phase", "write"),
    [
        (Phase.DUAL_WRITE, """old_catalog_field = '{"by": "worker"}', new_catalog = '{"by": "worker"}'"""),
        (Phase.CONTRACTED, """new_catalog = '{"by": "worker"}'"""),
    ],
)
async def test_a_live_write_wins_over_finishing_inline(
    migrated: str, connect: Connect, session: Session, phase: Phase, write: str
) -> None:
    """A row that a worker holds while the fill waits for it keeps what the worker wrote."""
    await put(session, phase)
    worker = await connect()
    await worker.execute(f"begin; {SHARED_LOCK}; update products set {write} where mnemonic = 'MIDDLE'")
    contraction = asyncio.create_task(runner.contract(migrated, finish_inline=True))
    await until(lambda: session.fetchval(f"{WAITING} and query like '%with chunk%'"), "a fill that waits for the row")
    await worker.execute("commit")

    assert await contraction == ["c001"]
    assert await session.fetchval("select new_catalog ->> 'by' from products where mnemonic = 'MIDDLE'") == "worker"
    assert await session.fetchval("select count(*) from products where new_catalog is not null") == 3
