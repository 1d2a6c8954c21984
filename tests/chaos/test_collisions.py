"""Batches that meet at the same names and rows wait for each other, and never in a circle."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import asyncpg
import pytest

from persistence.customers import EMAIL_SPACE
from persistence.engine import Engine, PoolSettings, connected, create_engine
from persistence.name_locks import _number
from tests.batches import Batches
from tests.in_memory.unit_of_work import Asking

CUSTOMERS: Final = 8
AT_ONCE_S: Final = 10.0
"""A batch that collides with itself for ever has not ended by then."""


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[Engine]:
    """Connections to an empty database."""
    made = create_engine(database_url, PoolSettings(size=4), "tests")
    yield made
    await made.dispose()


@pytest.fixture
def batches(engine: Engine) -> Batches:
    """Decides batches, each in a transaction of its own, again after a conflict; counts those."""
    return Batches(engine)


@asynccontextmanager
async def somebody_else(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """Another session in a transaction, which is committed."""
    connection = await asyncpg.connect(database_url)
    try:
        async with connection.transaction():
            yield connection
    finally:
        await connection.close()


async def until_somebody_waits(connection: asyncpg.Connection) -> None:
    """Wait until another session waits for a lock."""
    waiting = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
    async with asyncio.timeout(AT_ONCE_S):
        while not await connection.fetchval(waiting):
            await asyncio.sleep(0.02)
            await connection.execute("select pg_stat_clear_snapshot()")  # else a transaction sees the first one only


def creation(name: str) -> Asking:
    """Make a command; the id and the e-mail follow from the name."""
    customer_id = str(uuid.uuid5(uuid.NAMESPACE_OID, name))
    return "create_customer", {"name": name, "email": f"{name}@example.com", "customer_id": customer_id}


def change(of: str, **changes: object) -> Asking:
    """Change the customer of that name."""
    return "update_customer", {"customer_id": str(uuid.uuid5(uuid.NAMESPACE_OID, of)), **changes}


async def test_one_name_for_many_batches(batches: Batches) -> None:
    """Who comes second waits at the name, sees who has it, and answers so: no insert ever meets another's row."""
    for n in range(10):
        batch = ("create_customer", {"name": "N", "email": f"{n}@example.com"})
        answers = await asyncio.gather(*(batches.command(*batch) for _ in range(3)))
        assert sorted(answer["statusCode"] for answer in answers) == [201, 409, 409]
    assert batches.conflicts == 0


async def test_names_are_locked_in_one_order(batches: Batches, database_url: str) -> None:
    """Somebody who locks the same names in the order of their numbers is never met half-way."""
    names = [f"n{n}" for n in range(CUSTOMERS)]
    numbers = sorted(_number(EMAIL_SPACE, f"{name}@example.com") for name in names)
    async with asyncio.TaskGroup() as group, somebody_else(database_url) as other:
        await other.execute("select pg_advisory_xact_lock($1)", numbers[0])
        deciding = group.create_task(batches.decide(*(creation(name) for name in names)))
        await until_somebody_waits(other)
        for number in numbers[1:]:
            await other.execute("select pg_advisory_xact_lock($1)", number)
    assert {answer["statusCode"] for answer in deciding.result()} == {201}
    assert batches.conflicts == 0


async def test_rows_are_locked_in_one_order(batches: Batches, database_url: str) -> None:
    """Somebody who locks the same customers by id, as a backfill does, is never met half-way."""
    names = [f"n{n}" for n in range(CUSTOMERS)]
    await batches.decide(*(creation(name) for name in names))
    async with asyncio.TaskGroup() as group, somebody_else(database_url) as other:
        rows = await other.fetch("select id from customers order by id")
        await other.execute("select from customers where id = $1 for update", rows[0]["id"])
        deciding = group.create_task(batches.decide(*(change(name, name="New") for name in names)))
        await until_somebody_waits(other)
        for row in rows[1:]:
            await other.execute("select from customers where id = $1 for update", row["id"])
    assert {answer["statusCode"] for answer in deciding.result()} == {200}
    assert batches.conflicts == 0


async def test_names_change_hands_in_one_batch(batches: Batches) -> None:
    """Two stored customers trade their e-mails, one is deleted for a new one: written at once, without a conflict."""
    await batches.decide(creation("one"), creation("two"), creation("three"))
    async with asyncio.timeout(AT_ONCE_S):
        answers = await batches.decide(
            change("one", email="between@example.com"),
            change("two", email="one@example.com"),
            change("one", email="two@example.com"),
            ("delete_customer", {"customer_id": creation("three")[1]["customer_id"]}),
            ("create_customer", {"name": "Four", "email": "three@example.com"}),
        )
    assert [answer["statusCode"] for answer in answers] == [200, 200, 200, 200, 201]
    assert batches.conflicts == 0


async def test_no_step_of_a_change_under_a_batch(batches: Batches, database_url: str) -> None:
    """While a batch is under way, no schema change can be taken a step further; afterwards it can."""
    lock = "select bool_and(pg_try_advisory_xact_lock(lock_key)) from schema_changes"
    connection = await asyncpg.connect(database_url)
    try:
        async with batches.prepared(creation("one")) as (uow, _):
            assert await connection.fetchval(lock) is False
            await uow.commit()
        assert await connection.fetchval(lock) is True
    finally:
        await connection.close()


async def test_a_batch_that_waited_for_a_step_is_decided_again(batches: Batches, database_url: str) -> None:
    """A batch that begins while a step is taken acts by the phase of after: it looked before, and looks again."""
    async with somebody_else(database_url) as step:
        await step.execute("select pg_advisory_xact_lock(lock_key) from schema_changes")
        deciding = asyncio.create_task(batches.decide(("create_product", {"mnemonic": "A", "overview": ""})))
        await until_somebody_waits(step)
        await step.execute("update schema_changes set phase = 'dual_write' where change = 'product_catalog'")
    await deciding
    assert batches.conflicts == 1
    async with connected(batches.engine) as connection:
        assert await connection.fetchval("select new_catalog is not null from products")


async def test_a_begin_that_waits_too_long_leaves_its_connection_well(batches: Batches, database_url: str) -> None:
    """Whoever cannot begin since names are locked elsewhere goes back, and begins again on the same connection."""
    number = _number(EMAIL_SPACE, "one@example.com")
    command = ("create_customer", {"name": "one", "email": "one@example.com"})
    async with somebody_else(database_url) as other:
        await other.execute("select pg_advisory_xact_lock($1)", number)
        pid = await other.fetchval("select pg_backend_pid()")
        deciding = asyncio.create_task(batches.decide(command))
        await until_somebody_waits(other)
        ended = "select pg_cancel_backend(pid) from pg_stat_activity where wait_event_type = 'Lock' and pid <> $1"
        assert await other.fetchval(ended, pid)
    with pytest.raises(asyncpg.QueryCanceledError):
        await deciding
    assert (await batches.decide(command))[0]["statusCode"] == 201
