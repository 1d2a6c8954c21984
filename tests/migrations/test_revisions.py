"""Every revision goes up, down and up again under data, whoever else is migrating, and passes the linter."""

import asyncio

import asyncpg
import pytest

from migrations import lint, runner
from migrations.roles import PRIVILEGES, grant_worker
from migrations.runner import MigrationError, Patience
from tests.databases import drop_database
from tests.migrations.conftest import Connect, Session

MAIN = [one.revision for one in runner.history() if one.branch == "main"]

SHAPE = """
select 'column' as what, table_name || '.' || column_name as name,
       concat_ws(' ', data_type, is_nullable, column_default, numeric_precision, is_identity) as is
from information_schema.columns where table_schema = 'public'
union all
select 'constraint', conrelid::regclass || '.' || conname, pg_get_constraintdef(oid) || convalidated
from pg_constraint where connamespace = 'public'::regnamespace
union all
select 'index', indexname, indexdef from pg_indexes where schemaname = 'public'
union all
select 'function', p.proname, md5(p.prosrc) from pg_proc p
where p.pronamespace = 'public'::regnamespace and p.proname like 'schema_change%'
order by 1, 2"""

PRODUCTS = """
insert into products (id, mnemonic, overview, tags, old_catalog_field, old_validations)
select gen_random_uuid(), 'P' || n, 'n° ' || n, '["a"]', format('{"n": %s, "name": "n° %s"}', n, n), '[]'
from generate_series(1, 50) as n"""


async def shape(session: Session) -> list[tuple[str, ...]]:
    """Everything that makes the schema, but the order of columns."""
    return [tuple(row) for row in await session.fetch(SHAPE)]


@pytest.mark.parametrize("revision", MAIN)
async def test_a_revision_goes_up_and_down_and_up_again_with_data(
    database: str, connect: Connect, revision: str
) -> None:
    """A revision taken back leaves schema and rows as they were before it, and can be applied once more."""
    first = revision == MAIN[0]
    previous = "base" if first else MAIN[MAIN.index(revision) - 1]
    await runner.upgrade(database, MAIN[0])
    await (await connect()).execute(PRODUCTS)
    await (runner.downgrade if first else runner.upgrade)(database, previous)
    session = await connect()
    before, rows = await shape(session), await _products(session)

    assert await runner.upgrade(database, revision) == [revision]
    after = await shape(session)
    assert await runner.downgrade(database, previous) == [revision]
    assert (await shape(session), await _products(session)) == (before, rows)
    assert await runner.upgrade(database, revision) == [revision]
    assert (await shape(session), await _products(session)) == (after, rows)
    assert after != before


async def test_all_of_it_goes_down_to_nothing_and_up_again(database: str, connect: Connect) -> None:
    """With rows in tables and their children, `base` leaves no table, and the second way up equals the first."""
    await runner.upgrade(database)
    session = await connect()
    await session.execute(PRODUCTS)
    await session.execute("""
        insert into product_versions (id, product_id, version_label, start_date)
            select gen_random_uuid(), id, '1', '2024-01-01' from products;
        insert into product_version_items (version_id, ordinal, name, position)
            select id, 1, 'item', 1 from product_versions;
        insert into validation_instances select id, 1, 'rule', '{}', '2024-01-01', null from products;
        insert into customers (id, name, name_key, email, email_key)
            values (gen_random_uuid(), 'N', 'n', 'E@x', 'e@x');
        insert into orders (id, customer_id, status, lines, total_amount)
            select gen_random_uuid(), id, 'placed', '[{"quantity": 1}]', 1 from customers;
        insert into product_holds (product_id, amount) select id, 1 from products;
        insert into customer_summaries (customer_id) select id from customers;
        insert into customer_category_counts select id, 'c', 1 from customers;
        insert into schema_change_log (change, from_phase, to_phase, changed_at, changed_by)
            values ('product_catalog', 'expanded', 'dual_write', now(), 'a test')""")
    first = await shape(session)

    assert await runner.downgrade(database, "base") == MAIN[::-1]
    assert await session.fetchval("select count(*) from pg_tables where schemaname = 'public'") == 1  # Alembic's own
    assert await runner.upgrade(database) == MAIN
    assert await shape(session) == first


async def test_two_migrators_may_start_at_once(database: str, connect: Connect) -> None:
    """Each revision is applied once, and both migrators return with the database at the head."""
    applied = await asyncio.gather(*(runner.upgrade(database) for _ in range(3)))

    assert sorted(applied, key=len) == [[], [], MAIN]
    assert await runner.current(database) == (MAIN[-1],)
    assert await (await connect()).fetch("select version_num from alembic_version") == [(MAIN[-1],)]


async def test_a_migrator_does_not_wait_for_its_turn_for_ever(database: str, connect: Connect) -> None:
    """While another migrator holds the lock, the patience ends in one readable line, and nothing is applied."""
    await (await connect()).execute(f"select pg_advisory_lock({runner._MIGRATORS_LOCK})")

    with pytest.raises(MigrationError, match="another migrator has been at work on this database for 0 s"):
        await runner.upgrade(database, patience=Patience(turn_s=0))
    assert await runner.current(database) == ()


async def test_an_absent_database_is_waited_for(database: str, connect: Connect) -> None:
    """A migrator that starts before the database exists goes on as soon as it does."""
    session = await connect()
    url = f"{database}_later"
    name = url.rsplit("/", 1)[1]
    waiting = asyncio.create_task(runner.upgrade(url))
    try:
        with pytest.raises(MigrationError, match=f'no database within 0 s: database "{name}" does not exist'):
            await runner.upgrade(url, patience=Patience(database_s=0))
        await session.execute(f"create database {name}")
        assert await waiting == MAIN
    finally:
        waiting.cancel()
        await drop_database(session.execute, name)


@pytest.mark.parametrize(
    ("url", "line"),
    [
        ("postgresql://nobody:secret@{place}", "the database cannot be used: "),
        ("mysql://x/y", "the database cannot be used: "),
    ],
)
async def test_a_database_that_refuses_is_not_waited_for(database: str, url: str, line: str) -> None:
    """A wrong role or URL is one line at once, and no line holds the password."""
    with pytest.raises(MigrationError, match=line) as refused:
        await runner.upgrade(url.format(place=database.split("@")[1]))
    assert "\n" not in str(refused.value)
    assert "secret" not in str(refused.value)


async def test_a_database_of_a_later_release_is_left_alone(migrated: str, connect: Connect) -> None:
    """A revision without a name here ends in a readable line that names it."""
    await (await connect()).execute("update alembic_version set version_num = '999'")

    with pytest.raises(MigrationError, match="999"):
        await runner.upgrade(migrated)


async def test_a_failing_statement_leaves_the_revision_before(database: str, connect: Connect) -> None:
    """The error names the statement in one line; the revisions before it stay, its own traces do not."""
    await runner.upgrade(database, "003")
    session = await connect()
    await session.execute("create table customer_summaries (in_the_way boolean)")

    with pytest.raises(MigrationError, match=r'"customer_summaries" already exists, in: create table customer_summ'):
        await runner.upgrade(database)
    assert await runner.current(database) == ("003",)
    assert await session.fetchval("select to_regclass('orders')") is None


async def test_statements_of_the_release_before_work_on_the_expanded_schema(migrated: str, connect: Connect) -> None:
    """A worker that does not know the new column inserts, updates and reads as ever."""
    session = await connect()
    await session.execute(PRODUCTS)
    await session.execute("update products set old_catalog_field = '{}', version = version + 1 where mnemonic = 'P1'")

    assert await session.fetch(
        "select old_catalog_field, new_catalog, version from products where mnemonic = 'P1'"
    ) == [("{}", None, 2)]


def test_the_sql_of_every_revision_passes_the_linter(capfd: pytest.CaptureFixture[str]) -> None:
    """Squawk has nothing to say about any revision, up or down, beyond the exceptions that are explained in place."""
    assert lint.main() == 0
    assert f"squawk read {2 * len(runner.history())} files: no findings" in capfd.readouterr().out


def test_the_linter_reports_what_it_finds(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """A statement that blocks writers ends the linter with status 1 and its rule's name."""
    blocking = "set lock_timeout = '1s'; set statement_timeout = '1s'; create index products_x on products (category);"
    monkeypatch.setattr(lint, "write_sql", lambda _one, **_direction: blocking)

    assert lint.main() == 1
    assert "require-concurrent-index-creation" in capfd.readouterr().out


async def test_a_worker_role_may_do_its_work_and_nothing_else(migrated_as_superuser: str) -> None:
    """The role writes rows and takes locks, but neither alters nor drops a table, nor deletes what must stay."""
    session = await asyncpg.connect(migrated_as_superuser)
    role = f"worker_of_{migrated_as_superuser.rsplit('/', 1)[1]}"
    await session.execute(f"create role {role}")
    try:
        for _ in range(2):
            await grant_worker(migrated_as_superuser, role)
        await session.execute(f"set role {role}")
        await session.execute(PRODUCTS)
        await session.execute("insert into counter_deltas (counter, amount) values ('c', 1)")
        await session.execute("select from products for update")
        await session.execute("select pg_advisory_xact_lock_shared(lock_key) from schema_changes")
        assert await session.fetchval("select schema_change_refusal('product_catalog', 'backfilled')") is not None
        for statement in (
            "drop table products",
            "alter table products add column x text",
            "create table x ()",
            "delete from customers",
            "delete from schema_change_log",
            "update alembic_version set version_num = '001'",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await session.execute(statement)
    finally:
        await session.execute(f"reset role; drop owned by {role}; drop role {role}")
        await session.close()


async def test_a_worker_role_that_does_not_exist_is_one_line(migrated: str) -> None:
    """Granting to nobody says so."""
    with pytest.raises(MigrationError, match='the role nobody_here cannot be made a worker\'s: role "nobody_here" do'):
        await grant_worker(migrated, "nobody_here")


async def test_the_privileges_cover_every_table(migrated: str, connect: Connect) -> None:
    """A revision that adds a table has to say what a worker may do with it."""
    tables = await (await connect()).fetch("select tablename from pg_tables where schemaname = 'public'")
    assert {row["tablename"] for row in tables} == set(PRIVILEGES)


async def _products(session: Session) -> list[tuple[object, ...]]:
    if await session.fetchval("select to_regclass('products')") is None:
        return []
    return [
        tuple(row)
        for row in await session.fetch(
            "select id, mnemonic, overview, tags, old_catalog_field, old_validations, version, created_at "
            "from products order by id"
        )
    ]


async def test_a_worker_of_the_release_before_makes_a_size_unknown(migrated: str, connect: Connect) -> None:
    """It raises the version and knows nothing of the size, which then is of another version: also with one it made."""
    session = await connect()
    await session.execute("""
        insert into products (id, mnemonic, overview, answer_bytes, answer_bytes_version)
            values (gen_random_uuid(), 'SIZED', '', 100, 1);
        insert into products (id, mnemonic, overview) values (gen_random_uuid(), 'MADE', '')""")
    known = "select mnemonic from products where answer_bytes_version = version"
    assert [row[0] for row in await session.fetch(known)] == ["SIZED"]
    await session.execute("update products set overview = 'x', version = version + 1")
    assert await session.fetch(known) == []


async def test_archived_products_keep_the_revision(migrated: str, connect: Connect) -> None:
    """The release before would sell them: since when they are archived is not dropped before they are restored."""
    session = await connect()
    await session.execute(f"{PRODUCTS}; update products set archived_at = now() where mnemonic = 'P7'")
    with pytest.raises(MigrationError, match="products are archived"):
        await runner.downgrade(migrated, "013")
    await session.execute("update products set archived_at = null")
    await runner.downgrade(migrated, "013")
    await runner.upgrade(migrated)


async def test_outcomes_that_are_still_being_erased_keep_the_revision(migrated: str, connect: Connect) -> None:
    """The release before would show them: the table that hides them is not dropped before they are gone."""
    session = await connect()
    await session.execute("insert into outcome_erasures (customer_id) values (gen_random_uuid())")
    with pytest.raises(MigrationError, match="still being erased"):
        await runner.downgrade(migrated, "009")
    await session.execute("delete from outcome_erasures")
    await runner.downgrade(migrated, "009")
    await runner.upgrade(migrated)
