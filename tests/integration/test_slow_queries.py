"""Queries that take long cost nobody else anything, on real servers.

A table is made slow by a view in its place that sleeps: deterministic, and seen by the server's own time-out. Whether
others are held up is told by the order of replies.
"""

import signal
from collections.abc import Sequence
from typing import Any

import asyncpg

from tests.system import System, WorkerProcess

NOBODY = "01900000-0000-7000-8000-000000000000"


async def a_worker(system: System, connections: int = 4) -> WorkerProcess:
    """Start one: half of its connections are for what may take long, one tells whether the database is slow."""
    return await system.start("queries", DB_POOL_SIZE=str(connections), DB_MAX_OVERFLOW="0")


async def slow_down(system: System, table: str, seconds: float) -> None:
    """Have every statement that reads a table sleep first."""
    await execute(
        system,
        f"alter table {table} rename to {table}_kept;"
        f"create view {table} as with slept as materialized (select pg_sleep({seconds}))"
        f" select kept.* from slept, {table}_kept kept",
    )


async def speed_up(system: System, table: str) -> None:
    """Take the view away."""
    await execute(system, f"drop view {table}; alter table {table}_kept rename to {table}")


async def execute(system: System, statements: str) -> None:
    """Change the database."""
    connection = await asyncpg.connect(system.database_url)
    try:
        await connection.execute(statements)
    finally:
        await connection.close()


async def made(system: System) -> dict[str, str]:
    """Make a customer with an order of a product that has a version and a rule; returns their names."""
    worker = await system.start()
    customer = (await system.command("create_customer", {"name": "Ada", "email": "ada@example.com"})).data["id"]
    await system.command("create_product", {"mnemonic": "P", "overview": "O"}, version=2, key="P")
    version = {"mnemonic": "P", "version_label": "1", "start_date": "2024-01-01", "items": []}
    assert (await system.command("add_product_version", version, key="P")).status == 201
    rules = [{"name": "r", "parameters": {"type": "object"}, "start_date": "2024-01-01"}]
    assert (await system.command("set_validation_rules", {"mnemonic": "P", "rules": rules}, key="P")).status == 200
    lines = [{"mnemonic": "P", "quantity": 1, "unit_price": "1.00"}]
    order = await system.command("place_order", {"customer_id": customer, "lines": lines}, message_id="placed")
    worker.send(signal.SIGTERM)
    await worker.ended()
    return {"customer_id": customer, "order_id": order.data["id"], "mnemonic": "P"}


async def ask(system: System, kind: str, payload: object, *, caller: str = "tester", partition: int = 0) -> str:
    """Send a query; returns its correlation id."""
    token = system.token(caller)
    return await system.send("queries", {"kind": kind, "payload": payload}, token=token, partition=partition)


def unanswered(system: System, asked: Sequence[str]) -> list[str]:
    """Those without a reply yet."""
    return [one for one in asked if one not in system.replies]


async def lag_is_gone(system: System, worker: WorkerProcess) -> None:
    """Wait until every offset is acknowledged."""

    async def is_gone() -> bool:
        waiting = [value for name, value in (await system.metrics(worker)).items() if "catalog_lag_messages" in name]
        return bool(waiting) and not any(waiting)

    await system.until(is_gone, 30, "offsets are not acknowledged")


async def test_what_is_too_expensive_is_told_so_and_holds_up_no_look_up(system: System) -> None:
    """Reads of more than a second get 422 one by one, whatever their kind; look-ups behind them are answered first."""
    names = await made(system)
    customer, order = {"customer_id": names["customer_id"]}, {"order_id": names["order_id"]}
    look_ups: list[tuple[str, dict[str, str], int]] = [
        ("get_customer", customer, 200),
        ("get_order", order, 200),
        ("get_product", {"mnemonic": "P"}, 200),
        ("get_outcome", {"message_id": "placed"}, 404),  # of another caller
        ("get_customer", {"customer_id": NOBODY}, 404),
    ]
    worker = await a_worker(system, connections=8)
    for kind, payload, _ in look_ups:  # and `get_product` is in the cache after that
        await system.query(kind, payload)
    for table in ("counter_deltas", "customer_summaries", "product_versions", "validation_instances"):
        await slow_down(system, table, 1.5)
    slow: list[tuple[str, dict[str, Any]]] = [
        ("search_customers", {}),
        ("list_products", {}),
        ("get_customer_orders", customer),
        ("get_customer_summary", customer),
        ("find_products_for_date_range", {"start_date": "2024-01-01", "end_date": "2024-12-31"}),
        ("validate_product_data", {"mnemonic": "P", "data": {}}),
    ]
    asked = [await ask(system, kind, payload) for kind, payload in slow]
    behind = [
        (await ask(system, kind, payload, caller="another", partition=partition), status)
        for partition in (0, 1)
        for kind, payload, status in look_ups * 3
    ]
    for one, status in behind:
        assert (await system.reply(one)).status == status
    assert len(unanswered(system, asked)) >= len(asked) // 2
    for (kind, _), one in zip(slow, asked, strict=True):
        reply = await system.reply(one, timeout_s=90)
        assert (reply.status, reply.code) == (422, "QUERY_TOO_EXPENSIVE"), kind
        assert reply.data["details"]["kind"] == kind
        assert reply.data["details"]["limit_ms"] == 1000
        assert reply.data["details"]["instead"]
    await lag_is_gone(system, worker)
    assert await system.dead_letters("queries") == []


async def test_who_asks_once_does_not_wait_for_who_asks_often(system: System) -> None:
    """Behind forty searches of one caller, no two equal, another's search is answered before half of them are."""
    await a_worker(system)
    assert (await system.query("search_customers")).status == 200
    await slow_down(system, "counter_deltas", 0.3)
    many = [await ask(system, "search_customers", {"offset": one}, caller="many") for one in range(40)]
    single = [await ask(system, kind, {}, caller="single") for kind in ("search_customers", "list_products")]
    for one in single:
        assert (await system.reply(one)).status == 200
    assert len(unanswered(system, many)) > 20
    for one in many:
        assert (await system.reply(one, timeout_s=60)).status == 200


async def test_what_waits_for_a_lock_is_answered_when_it_is_free(system: System) -> None:
    """While a change of a table holds its lock, its queries wait, without an error; others are answered meanwhile."""
    names = await made(system)
    worker = await a_worker(system)
    customer = {"customer_id": names["customer_id"]}
    assert (await system.query("get_customer", customer)).status == 200
    connection = await asyncpg.connect(system.database_url)
    try:
        async with connection.transaction():
            await connection.execute("lock table orders in access exclusive mode")
            waiting = [await ask(system, "get_order", {"order_id": names["order_id"]}) for _ in range(5)]
            waiting += [await ask(system, "get_customer_orders", customer) for _ in range(5)]

            async def has_waited() -> bool:
                waited = (await system.metrics(worker)).get('catalog_waiting_seconds_total{server="postgres"}', 0)
                return waited > 3

            await system.until(has_waited, 30, "nothing waits for the lock")
            behind = [await ask(system, "get_customer", customer, partition=part) for part in (0, 1) for _ in range(5)]
            assert [(await system.reply(one)).status for one in behind] == [200] * 10
            assert unanswered(system, waiting) == waiting
    finally:
        await connection.close()
    assert [(await system.reply(one)).status for one in waiting] == [200] * 10
    assert await system.dead_letters("queries") == []


async def test_a_database_that_is_slow_for_everybody_is_waited_for(system: System) -> None:
    """While look-ups by key are slow as well, a read that is ended by the server again and again gets no 422."""
    names = await made(system)
    worker = await a_worker(system)
    customer = {"customer_id": names["customer_id"]}
    assert (await system.query("get_customer", customer)).status == 200
    for table in ("schema_changes", "counter_deltas", "customer_summaries"):
        await slow_down(system, table, 1.2 if table != "schema_changes" else 0.1)
    slow = [("search_customers", {}), ("list_products", {}), ("get_customer_orders", customer)]
    slow += [("get_customer_summary", customer), ("customer_analytics", {})]
    asked = [await ask(system, kind, payload) for kind, payload in slow]

    async def has_waited() -> bool:
        waited = (await system.metrics(worker)).get('catalog_waiting_seconds_total{server="postgres"}', 0)
        return waited > 8

    await system.until(has_waited, 60, "nothing waits for the database")
    assert unanswered(system, asked) == asked
    for table in ("counter_deltas", "customer_summaries", "schema_changes"):  # look-ups are the last to be quick again
        await speed_up(system, table)
    assert [(await system.reply(one)).status for one in asked] == [200] * len(asked)
    assert await system.dead_letters("queries") == []


async def test_what_a_killed_worker_leaves_is_answered_by_the_next(system: System) -> None:
    """Killed in the middle of slow and fast ones, answered in any order: the next worker answers all that is left."""
    names = await made(system)
    customer = {"customer_id": names["customer_id"]}
    first = await a_worker(system)
    assert (await system.query("search_customers")).status == 200
    await slow_down(system, "counter_deltas", 0.4)
    asked = []
    for number in range(20):
        asked.append(await ask(system, "search_customers", {}, caller=f"c{number % 3}", partition=number % 4))
        asked.append(await ask(system, "get_customer", customer, partition=number % 4))

    async def some_are_answered() -> bool:
        return len(unanswered(system, asked)) < 18

    await system.until(some_are_answered, 30, "too little is answered")
    first.send(signal.SIGKILL)
    await first.ended()
    left = unanswered(system, asked)
    assert left
    second = await a_worker(system)
    for one in asked:
        assert (await system.reply(one, timeout_s=60)).status == 200
    await lag_is_gone(system, second)


async def test_one_connection_is_enough(system: System) -> None:
    """A pool of one connection is made three for a query worker: what is slow leaves one for look-ups by key."""
    names = await made(system)
    await a_worker(system, connections=1)
    customer = {"customer_id": names["customer_id"]}
    assert (await system.query("get_customer", customer)).status == 200
    await slow_down(system, "counter_deltas", 1.5)
    # No two of one kind: those that come together would be one read
    slow = [await ask(system, kind, {}) for kind in ("search_customers", "list_products", "customer_analytics")]
    assert (await system.query("get_customer", customer)).status == 200
    assert len(unanswered(system, slow)) >= 2
    for one in slow:
        assert (await system.reply(one)).code == "QUERY_TOO_EXPENSIVE"
