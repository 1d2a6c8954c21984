"""A test's database: made, emptied for the next example, and dropped."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

import asyncpg

PATIENCE_S: Final = 60.0
CATALOGUE: Final = (
    "cache_invalidations",
    "counter_deltas",
    "outcomes",
    "customer_category_counts",
    "customer_summaries",
    "product_holds",
    "orders",
    "validation_instances",
    "product_version_items",
    "product_versions",
    "products",
    "customers",
)
"""What commands write; a table stands before those that it refers to."""
_MOST_BYTES: Final = 1 << 20
"""Of a table that was often emptied row by row, with what is left of its rows."""


def creation(name: str, template: str = "template1") -> str:
    """Write the statement that makes a database: it copies files, instead of each page through the log.

    Where the server need not wait for the disk, as that of the tests, that is a tenth of the work.
    """
    return f'create database "{name}" template "{template}" strategy file_copy'


async def drop_database(execute: Callable[[str], Awaitable[Any]], name: str) -> None:
    """Drop a database, if it is there, by something that runs a statement on the server.

    Autovacuum, which may be at work in it, cannot be ended by the database's owner, and is waited for.
    """
    end = time.monotonic() + PATIENCE_S
    while True:
        try:
            await execute(f'drop database if exists "{name}" with (force)')
        except (asyncpg.InsufficientPrivilegeError, asyncpg.ObjectInUseError):
            assert time.monotonic() < end, f"database {name} cannot be dropped"
            await asyncio.sleep(0.2)
        else:
            return


async def empty(connection: Any) -> None:  # noqa: ANN401 - a driver's, or ours
    """Delete all that commands have written: row by row, which takes a thirtieth of the time of making files anew."""
    largest = "select max(pg_total_relation_size(name::regclass)) from unnest($1::text[]) as name"
    if await connection.fetchval(largest, CATALOGUE) > _MOST_BYTES:
        await connection.execute(f"truncate {', '.join(CATALOGUE)}")
        return
    for table in CATALOGUE:
        await connection.execute(f"delete from {table}")
