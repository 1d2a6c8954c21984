"""Dropping a test's database."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

import asyncpg

PATIENCE_S: Final = 60.0


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
