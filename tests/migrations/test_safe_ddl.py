"""Schema changes under live traffic: nobody is held up for long, and an interrupted step is simply taken again."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection

from migrations import runner, safe_ddl
from migrations.runner import MigrationError, Patience
from migrations.safe_ddl import (
    add_check,
    add_foreign_key,
    create_index_concurrently,
    drop_index_concurrently,
    validate,
)
from tests.migrations.conftest import Connect, Session

INDEXES = "select indisvalid from pg_index where indexrelid = to_regclass('stock_label')"
WAITING = """
select count(*) from pg_stat_activity
where datname = current_database() and application_name = 'catalog-migrations' and wait_event_type = 'Lock'"""

Revise = Callable[..., Any]


@pytest.fixture
async def stock(connect: Connect) -> Session:
    """A session that made a table in use: 2,000 rows."""
    session = await connect()
    await session.execute("create table stock (id bigint primary key, label text, parent bigint)")
    await session.execute("insert into stock select n, 'label ' || n, 1 from generate_series(1, 2000) as n")
    return session


@pytest.fixture
async def revise(database: str) -> Revise:
    """Runs steps as a revision would, with the runner's patience."""

    async def run(*steps: Callable[[], None], patience: Patience | None = None) -> None:
        def revision(connection: Connection) -> None:
            context = MigrationContext.configure(connection, opts={"transaction_per_migration": True})
            with Operations.context(context), context.begin_transaction(_per_migration=True):
                for step in steps:
                    step()

        bounds = patience or Patience(lock_s=20)
        async with runner._alembic_connection(database, bounds) as connection:
            await runner._patiently(connection, revision, bounds.lock_s)

    return run


async def until(true: Callable[[], Any], what: str) -> None:
    """Wait until something is true, at most 20 s."""
    for _ in range(400):
        if await true():
            return
        await asyncio.sleep(0.05)
    pytest.fail(f"never seen: {what}")


async def test_a_held_lock_delays_the_migration_and_nobody_else(database: str, connect: Connect) -> None:
    """While a long reader keeps ALTER TABLE from its lock, writers get in between its tries, and it ends after them."""
    await runner.upgrade(database, "005")
    reader, writer, watch = await connect(), await connect(), await connect()
    await reader.execute("begin; select from products")
    migration = asyncio.create_task(runner.upgrade(database, "006"))

    for mnemonic in ("A", "B"):
        await until(lambda: watch.fetchval(WAITING), "a migration that waits for the lock")
        # Queued behind the waiting ALTER TABLE; free once its lock_timeout has struck.
        await writer.execute(
            "insert into products (id, mnemonic, overview) values (gen_random_uuid(), $1, '')", mnemonic, timeout=30
        )
        assert await watch.fetchval("select to_regclass('schema_changes')") is None  # rolled back, not left half done
    assert not migration.done()
    await reader.execute("commit")

    assert await migration == ["006"]
    assert await watch.fetchval("select count(*) from products where new_catalog is null") == 2


async def test_a_lock_that_never_comes_free_ends_in_one_line(database: str, connect: Connect) -> None:
    """When the patience is over, the operator reads which statement did not get its lock; nothing has changed."""
    await runner.upgrade(database, "005")
    await (await connect()).execute("begin; select from products")

    with pytest.raises(MigrationError, match="lock timeout, in: alter table products add column new_catalog"):
        await runner.upgrade(database, "006", patience=Patience(lock_s=0))
    assert await runner.current(database) == ("005",)


async def test_an_index_is_built_while_a_busy_table_is_written(
    stock: Session, connect: Connect, revise: Revise, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer's open transaction makes the build give up; what it left INVALID is replaced later; writes go on."""
    monkeypatch.setattr(safe_ddl, "CONCURRENT_LOCK_TIMEOUT", "300ms")
    holder, writer = await connect(), await connect()
    await holder.execute("begin; update stock set label = 'held' where id = 1")
    build = asyncio.create_task(revise(lambda: create_index_concurrently("stock_label", "stock (label)")))

    for statement in ("create index", "drop index", "drop index"):  # the first try, and those that clear up after it
        await until(lambda: stock.fetchval(f"{WAITING} and query like '{statement}%'"), statement)  # noqa: B023
        await writer.execute("update stock set label = $1 where id = 2", statement, timeout=30)
        await until(lambda: stock.fetchval(f"select ({WAITING}) = 0"), "a pause between two tries")
        assert await stock.fetch(INDEXES) == [(False,)]
    assert not build.done()
    await holder.execute("commit")
    await build

    assert await stock.fetch(INDEXES) == [(True,)]


async def test_an_invalid_index_of_an_earlier_try_is_replaced(stock: Session, revise: Revise) -> None:
    """A unique build that met duplicates leaves an INVALID index; once they are gone, the same step makes it valid."""
    await stock.execute("update stock set label = 'twice' where id in (1, 2)")
    build = lambda: create_index_concurrently("stock_label", "stock (label)", unique=True)  # noqa: E731

    with pytest.raises(MigrationError, match="could not create unique index"):
        await revise(build)
    assert await stock.fetch(INDEXES) == [(False,)]

    await stock.execute("update stock set label = 'once' where id = 1")
    await revise(build)
    first = await stock.fetchval("select to_regclass('stock_label')::oid")
    await revise(build)
    assert await stock.fetch(INDEXES) == [(True,)]
    assert await stock.fetchval("select to_regclass('stock_label')::oid") == first  # a valid one is left alone


async def test_an_index_is_dropped_beside_a_writer(stock: Session, revise: Revise) -> None:
    """Dropping names what is gone already without an error."""
    await revise(lambda: create_index_concurrently("stock_label", "stock (label)"))
    for _ in range(2):
        await revise(lambda: drop_index_concurrently("stock_label"))
    assert await stock.fetchval("select to_regclass('stock_label')") is None


async def test_a_check_binds_new_rows_first_and_old_ones_when_validated(stock: Session, revise: Revise) -> None:
    """An old row that breaks a check ends `validate` in one line and stays; mended, the same steps end valid."""
    await stock.execute("update stock set label = '' where id = 7")
    steps = (
        lambda: add_check("stock", "stock_label_given", "label <> ''"),
        lambda: validate("stock", "stock_label_given"),
    )

    with pytest.raises(MigrationError, match='"stock_label_given" of relation "stock" is violated by some row'):
        await revise(*steps)
    with pytest.raises(Exception, match="stock_label_given"):
        await stock.execute("insert into stock values (0, '')")
    await stock.execute("update stock set label = 'mended' where id = 7")
    await revise(*steps)
    await revise(*steps)
    assert await stock.fetch("select convalidated from pg_constraint where conname = 'stock_label_given'") == [(True,)]


async def test_a_foreign_key_is_added_without_stopping_writers(
    stock: Session, connect: Connect, revise: Revise
) -> None:
    """Adding it scans nothing, so a writer waits at most for the moment of adding; validating lets writers go on."""
    await revise(lambda: add_foreign_key("stock", "stock_parent_fkey", "parent", "stock (id)"))
    writer = await connect()
    await writer.execute("begin; update stock set label = 'x' where id = 3")
    await revise(lambda: validate("stock", "stock_parent_fkey"), patience=Patience(lock_s=0))
    await writer.execute("commit")
    assert await stock.fetch("select convalidated from pg_constraint where conname = 'stock_parent_fkey'") == [(True,)]


async def test_a_revision_is_undone_whole_when_a_lock_is_missing(
    stock: Session, connect: Connect, revise: Revise
) -> None:
    """What came before the statement that waited is rolled back with it, and its own locks are free meanwhile."""
    holder = await connect()
    await stock.execute("create table other (id bigint)")
    await holder.execute("begin; select from other")
    work = asyncio.create_task(
        revise(lambda: safe_ddl.run("alter table stock add column more text", "alter table other add column more text"))
    )
    await until(lambda: stock.fetchval(WAITING), "a revision that waits")
    assert (
        await stock.fetchval("select count(*) from stock", timeout=30) == 2000
    )  # waits for the roll-back, not for holder
    assert not work.done()
    await holder.execute("commit")
    await work
    assert await stock.fetchval("select count(more) from stock") == 0


async def test_a_lost_connection_ends_in_one_line_and_is_taken_up_again(database: str, connect: Connect) -> None:
    """When the server ends a migrator, its revision is undone and its turn is free: the next one goes on."""
    await runner.upgrade(database, "005")
    reader, watch = await connect(), await connect()
    await reader.execute("begin; select from products")
    migration = asyncio.create_task(runner.upgrade(database, "006"))
    await until(lambda: watch.fetchval(WAITING), "a migration that waits for the lock")
    await watch.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity "
        "where application_name = 'catalog-migrations' and datname = current_database()"
    )

    with pytest.raises(MigrationError, match=r"terminating connection|connection (was|is) closed") as ended:
        await migration
    assert "\n" not in str(ended.value)
    await reader.execute("commit")
    assert await runner.upgrade(database, "006") == ["006"]
