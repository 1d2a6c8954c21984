"""Hot queries over products use their indexes, whatever the size of the tables and the phase of the catalogue."""

import re
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime
from typing import Final

import pytest

from migrations import runner
from persistence import product_queries, products
from persistence.engine import Engine, PoolSettings, connected, create_engine
from persistence.phases import CatalogueColumns, Phase, catalogue_columns
from persistence.seed import SeedSizes, seed
from tests.conftest import drop_database
from tests.servers import Servers

AS_OF: Final = datetime(2026, 3, 31, 12, tzinfo=UTC)
SIZES: Final = SeedSizes(products=20_000)
LARGE: Final = ("products", "product_versions", "product_version_items", "validation_instances")
COLUMNS: Final = (catalogue_columns(Phase.EXPANDED), catalogue_columns(Phase.READING_NEW))


@pytest.fixture(scope="module")
async def seeded(stack: Servers) -> AsyncIterator[Engine]:
    """A database in which a scan of a table would cost more than its index."""
    name = f"plans_{uuid.uuid4().hex[:8]}"
    admin = create_engine(stack.env.database_url, PoolSettings(), "tests")
    async with connected(admin) as connection:
        await connection.execute(f'create database "{name}"')
    await runner.upgrade(stack.database(name))
    engine = create_engine(stack.database(name), PoolSettings(), "tests")
    await seed(engine, SIZES, AS_OF, lambda _, __: None)
    yield engine
    await engine.dispose()
    await admin.dispose()
    await drop_database(stack, name)


async def plan(engine: Engine, statement: str, *args: object) -> str:
    """Have the statement planned, with its arguments, and not run."""
    async with connected(engine) as connection:
        rows = await connection.fetch(f"explain {statement}", *args)
    return "\n".join(row[0] for row in rows)


def assert_by_index(shown: str, *indexes: str) -> None:
    """No large table is read as a whole, and these indexes are used."""
    for table in LARGE:
        assert not re.search(rf"Seq Scan on {table}\b", shown), shown
    for index in indexes:
        assert index in shown, shown


async def some(engine: Engine, column: str, number: int) -> list[str]:
    """Pick values of products, the newest."""
    newest = f"select {column}::text from products where {column} is not null order by created_at desc limit $1"
    async with connected(engine) as connection:
        return [row[0] for row in await connection.fetch(newest, number)]


@pytest.mark.parametrize("columns", COLUMNS)
@pytest.mark.parametrize("number", [1, 50])
async def test_products_with_versions(seeded: Engine, columns: CatalogueColumns, number: int) -> None:
    """Products, their versions and items are each found by an index."""
    by_name = await plan(seeded, product_queries.DETAILS_BY_MNEMONIC(columns), await some(seeded, "mnemonic", number))
    assert_by_index(by_name, "products_mnemonic_key", "product_versions", "product_version_items_pkey")
    by_id = await plan(seeded, product_queries.DETAILS_BY_ID(columns), await some(seeded, "id", number))
    assert_by_index(by_id, "products_pkey", "product_version_items_pkey")


@pytest.mark.parametrize("columns", COLUMNS)
async def test_pages(seeded: Engine, columns: CatalogueColumns) -> None:
    """A page is read in the order of an index, without sorting what is not on it."""
    assert_by_index(
        await plan(seeded, product_queries.LIST.by_number(columns), [11], [0], 11), "products_newest", "products_pkey"
    )
    category = (await some(seeded, "category", 1))[0]
    shown = await plan(seeded, product_queries.LIST_OF_CATEGORY.by_number(columns), [11, 21], [0, 40], 1001, category)
    assert_by_index(shown, "products_category_newest")
    shown = await plan(seeded, product_queries.LIST.after(columns), 11, AS_OF.isoformat(), str(uuid.uuid4()))
    assert_by_index(shown, "products_newest")
    shown = await plan(
        seeded, product_queries.LIST_OF_CATEGORY.after(columns), 11, AS_OF.isoformat(), str(uuid.uuid4()), category
    )
    assert_by_index(shown, "products_category_newest")


@pytest.mark.parametrize("columns", COLUMNS)
@pytest.mark.parametrize(("archived", "index"), [(True, "products_archived"), (False, "products_unarchived")])
async def test_pages_by_archive(seeded: Engine, columns: CatalogueColumns, archived: bool, index: str) -> None:
    """Archived products are found without wading through the others, and the others without wading through them."""
    category = (await some(seeded, "category", 1))[0]
    after = AS_OF.isoformat(), str(uuid.uuid4())
    of_all, of_category = product_queries.LISTS[False, archived], product_queries.LISTS[True, archived]
    for shown, name in (
        (await plan(seeded, of_all.by_number(columns), [11, 21], [0, 40], 1001), f"{index}_newest"),
        (await plan(seeded, of_all.after(columns), 11, *after), f"{index}_newest"),
        (await plan(seeded, of_category.by_number(columns), [11], [0], 1001, category), f"{index}_category_newest"),
        (await plan(seeded, of_category.after(columns), 11, *after, category), f"{index}_category_newest"),
    ):
        assert_by_index(shown, name)
        assert "archived_at IS" not in shown, shown


async def test_search(seeded: Engine) -> None:
    """A part of a mnemonic that few have is found by its trigrams."""
    mnemonic = (await some(seeded, "mnemonic", 1))[0]
    shown = await plan(seeded, product_queries.SEARCH.by_number(COLUMNS[0]), [11], [0], 1001, f"%{mnemonic[-6:]}%")
    assert_by_index(shown, "products_mnemonic_trgm")


@pytest.mark.parametrize(
    ("first", "last", "index"),
    [
        (date(1900, 1, 1), date(1900, 1, 1), "product_versions_range"),
        (date(1, 1, 1), date(9999, 12, 31), "products_newest"),
    ],
)
async def test_products_in_force(seeded: Engine, first: date, last: date, index: str) -> None:
    """Few versions are found by the index of their ranges; where many fit, products are walked through by age."""
    shown = await plan(seeded, product_queries.LIST_IN_FORCE.by_number(COLUMNS[0]), [11], [0], 1001, first, last)
    assert index in shown, shown
    assert "product_versions_" in shown, shown


async def test_rules(seeded: Engine) -> None:
    """Rules are found by their product."""
    names = await some(seeded, "mnemonic", 5)
    statement = f"{products.READ_RULES} where p.mnemonic = any($1::text[]) {products.RULES_ORDER}"
    assert_by_index(await plan(seeded, statement, names), "products_mnemonic_key", "validation_instances_pkey")


@pytest.mark.parametrize("mode", ["for update", "for no key update", "for key share"])
async def test_what_a_batch_reads(seeded: Engine, mode: products.LockMode) -> None:
    """A batch locks its products by their mnemonics, and reads what belongs to them by their ids."""
    names, ids = await some(seeded, "mnemonic", 50), await some(seeded, "id", 50)
    shown = await plan(seeded, products._lock(mode, COLUMNS[1]), names, names[:5])
    assert_by_index(shown, "products_mnemonic_key")
    assert shown.index("LockRows") < shown.index("Sort"), "rows are not locked in the order of their ids"
    assert_by_index(await plan(seeded, products._VERSIONS, ids))
    assert_by_index(await plan(seeded, products._ITEMS, ids, ["1"] * 50))
