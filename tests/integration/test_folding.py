"""Differences are folded into sums beside writers, readers and deletes, and no sum is ever wrong."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Final

import pytest

from persistence import counters, product_holds
from persistence.counters import DELTAS, CounterDeltas
from persistence.engine import Connection, Engine, PoolSettings, connected, create_engine, transaction
from persistence.identity_map import Journal
from persistence.product_holds import ProductHolds

BATCHES: Final = 60


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[Engine]:
    """Connections to an empty database."""
    made = create_engine(database_url, PoolSettings(size=10), "tests")
    yield made
    await made.dispose()


async def products(engine: Engine, count: int) -> list[str]:
    """Insert products; return their ids."""
    ids = [str(uuid.uuid4()) for _ in range(count)]
    async with connected(engine) as connection:
        await connection.execute(
            "insert into products (id, mnemonic, overview) select id::uuid, 'P_' || n, '' "
            "from unnest($1::text[]) with ordinality as r(id, n)",
            ids,
        )
    return ids


async def add(engine: Engine, *amounts: tuple[str, str, int]) -> None:
    """Commit differences as a batch does."""
    deltas = CounterDeltas()
    for counter, label, amount in amounts:
        deltas.add(counter, amount, label)
    async with transaction(engine) as connection:
        await DELTAS.insert(connection, deltas.rows())
        await connection.execute("commit")


async def hold(engine: Engine, amounts: dict[str, int]) -> None:
    """Commit holds as a batch does: products are locked by id, then holds are added."""
    holds = ProductHolds(Journal())
    for product_id, amount in amounts.items():
        holds.add(product_id, amount)
    async with transaction(engine) as connection:
        lock = "select id from products where id = any($1::uuid[]) order by id for key share"
        await connection.fetch(lock, list(amounts))
        await holds.flush(connection, ())
        await connection.execute("commit")


async def rows(connection: Connection, table: str) -> list[tuple[object, ...]]:
    """Read a table of differences, but for its ids."""
    columns = {"counter_deltas": "counter, label, amount::int", "product_holds": "product_id::text, amount"}[table]
    return sorted(tuple(row) for row in await connection.fetch(f"select {columns} from {table}"))


async def test_a_counter_becomes_one_row(engine: Engine) -> None:
    """Each counter and label is folded by itself; one whose differences cancel out has no row any more."""
    await add(engine, ("a", "", 5), ("b", "x", 1), ("b", "y", 7), ("gone", "", 3))
    await add(engine, ("a", "", -2), ("b", "x", 1), ("gone", "", -3))
    async with connected(engine) as connection:
        await counters.fold(connection)
        assert await rows(connection, "counter_deltas") == [("a", "", 3), ("b", "x", 2), ("b", "y", 7)]
        assert await counters.total(connection, "b") == 9


async def test_what_is_folded_is_left_alone(engine: Engine) -> None:
    """Folding again writes nothing: an idle system does not churn."""
    await add(engine, ("a", "", 5), ("b", "", 1))
    await add(engine, ("a", "", 5))
    async with connected(engine) as connection:
        await counters.fold(connection)
        before = await connection.fetch("select id, xmin::text from counter_deltas order by id")
        await counters.fold(connection)
        assert await connection.fetch("select id, xmin::text from counter_deltas order by id") == before


async def test_a_fold_takes_a_bounded_number_of_rows(engine: Engine) -> None:
    """A long backlog is folded step by step, each step right."""
    for _ in range(10):
        await add(engine, ("a", "", 1), ("b", "", 1))
    async with connected(engine) as connection:
        for _ in range(30):
            await counters.fold(connection, at_most=4)
            assert await counters.total(connection, "a") == 10
        assert await rows(connection, "counter_deltas") == [("a", "", 10), ("b", "", 10)]


async def test_sums_are_right_at_every_moment(engine: Engine) -> None:
    """Writers move amounts between counters while two folders work: every look finds what adds up to nothing."""
    done = asyncio.Event()
    looks = 0

    async def write(worker: int) -> None:
        for step in range(BATCHES):
            await add(engine, ("from", str(step % 3), -step), ("to", str(worker), step), ("moves", "", 1))

    async def read() -> None:
        nonlocal looks
        statement = "select coalesce(sum(amount), 0) from counter_deltas where counter in ('from', 'to')"
        async with connected(engine) as connection:
            while not done.is_set():
                assert await connection.fetchval(statement) == 0
                looks += 1

    async def fold() -> None:
        async with connected(engine) as connection:
            while not done.is_set():
                await counters.fold(connection, at_most=50)

    async with asyncio.TaskGroup() as tasks:
        for task in (read, fold, fold):
            tasks.create_task(task())
        await asyncio.gather(*(write(worker) for worker in range(3)))
        done.set()
    assert looks
    async with connected(engine) as connection:
        await counters.fold(connection)
        assert await counters.total(connection, "moves") == 3 * BATCHES
        assert await counters.total(connection, "to") == 3 * sum(range(BATCHES))
        assert len(await rows(connection, "counter_deltas")) == 3 + 3 + 1


async def test_a_hold_becomes_one_row(engine: Engine) -> None:
    """Holds are folded by product; a product that nothing holds has no row any more."""
    one, two, three = await products(engine, 3)
    for amounts in ({one: 2, two: 1, three: 5}, {one: 1, two: -1}, {one: 1}):
        await hold(engine, amounts)
    async with connected(engine) as connection:
        seen = await product_holds.fold(connection)
        assert await rows(connection, "product_holds") == sorted([(one, 4), (three, 5)])
        seen = await product_holds.fold(connection, seen)
        assert await product_holds.fold(connection, seen) == seen


async def test_a_folder_of_holds_catches_up_in_steps(engine: Engine) -> None:
    """With a small step it goes on where it was, and ends with one row a product."""
    ids = await products(engine, 5)
    for _ in range(8):
        await hold(engine, dict.fromkeys(ids, 1))
    async with connected(engine) as connection:
        seen, before = 0, -1
        while seen != before:
            before, seen = seen, await product_holds.fold(connection, seen, at_most=7)
        assert await rows(connection, "product_holds") == sorted((one, 8) for one in ids)


async def test_a_product_about_to_be_deleted_is_left_alone(engine: Engine) -> None:
    """The folder waits for nobody: it folds the other products, and later what it left."""
    one, two = await products(engine, 2)
    for _ in range(2):
        await hold(engine, {one: 1, two: 1})
    async with connected(engine) as folder:
        async with transaction(engine) as deleting:
            await deleting.fetch("select id from products where id = $1::uuid for update", one)
            await product_holds.fold(folder)
            assert await rows(folder, "product_holds") == sorted([(one, 1), (one, 1), (two, 2)])
        await product_holds.fold(folder)
        assert await rows(folder, "product_holds") == sorted([(one, 2), (two, 2)])


async def test_holds_are_right_beside_folders_and_deletes(engine: Engine) -> None:
    """Whoever locks a product counts what committed orders hold, folders or not; deletes and folders never deadlock."""
    ids = await products(engine, 6)
    expected = dict.fromkeys(ids, 0)
    done = asyncio.Event()

    async def work(worker: int) -> None:
        for step in range(BATCHES):
            product = ids[(worker + step) % 5]
            await hold(engine, {product: 1})
            expected[product] += 1

    async def fold() -> None:
        async with connected(engine) as connection:
            seen = 0
            while not done.is_set():
                seen = await product_holds.fold(connection, seen, at_most=20)

    async def delete() -> None:
        """Hold and release the last product, then delete it; again and again."""
        for _ in range(BATCHES // 3):
            await hold(engine, {ids[5]: 2})
            await hold(engine, {ids[5]: -1})
            await hold(engine, {ids[5]: -1})
            async with transaction(engine) as connection:
                await connection.fetch("select id from products where id = $1::uuid for update", ids[5])
                holds = ProductHolds(Journal())
                await holds.load(connection, [ids[5]])
                assert holds.count(ids[5]) == 0
                await connection.execute("delete from products where id = $1::uuid", ids[5])
                await connection.execute("commit")
            async with connected(engine) as connection:
                await connection.execute("insert into products (id, mnemonic, overview) values ($1, 'P_6', '')", ids[5])

    async with asyncio.TaskGroup() as tasks:
        for _ in range(2):
            tasks.create_task(fold())
        await asyncio.gather(*(work(worker) for worker in range(3)), delete())
        done.set()
    async with transaction(engine) as connection:
        holds = ProductHolds(Journal())
        await holds.load(connection, ids)
        assert {one: holds.count(one) for one in ids} == expected
