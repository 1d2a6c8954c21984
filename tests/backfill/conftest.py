"""A workshop for each test: a migrated database, emptied after use, and a folder for definitions.

Copying a database costs more than most of these tests, so they share one; those that change more than rows and tables
of their own ask for `own_workshop`.
"""

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final

import asyncpg
import pytest

from persistence.engine import PoolSettings, create_engine
from tests.backfill.workshop import Workshop
from tests.databases import creation, drop_database
from tests.servers import Servers

EMPTY: Final = """
drop table if exists walked, other, slowly;
drop function if exists slow_value, count_times, slowly_true, pass_over;
truncate backfill_runs, products, customers restart identity cascade;
truncate backfill_workers, worker_heartbeats, backfill_budget;
insert into backfill_budget default values;
update schema_changes set phase = 'expanded'"""


@asynccontextmanager
async def _opened(url: str, folder: Path) -> AsyncIterator[Workshop]:
    engine = create_engine(url, PoolSettings(size=2, max_overflow=2), "tests")
    session = await asyncpg.connect(url)
    try:
        yield Workshop(url, engine, session, folder)
    finally:
        await session.close()
        await engine.dispose()


@pytest.fixture(scope="session")
async def shared_database(stack: Servers, template_database: str) -> AsyncIterator[str]:
    """A migrated database for all tests that leave it as they found it."""
    name = f"backfill_{uuid.uuid4().hex[:12]}"
    await _on_the_server(stack, creation(name, template_database))
    yield stack.database(name)
    await drop_database(partial(_on_the_server, stack), name)


async def _on_the_server(stack: Servers, statement: str) -> None:
    server = await asyncpg.connect(stack.env.database_url)
    await server.execute(statement)
    await server.close()


@pytest.fixture
async def workshop(shared_database: str, tmp_path: Path) -> AsyncIterator[Workshop]:
    """A workshop without definitions; its database is emptied afterwards."""
    async with _opened(shared_database, tmp_path) as opened:
        yield opened
        await opened.session.execute(EMPTY)


@pytest.fixture
async def own_workshop(database_url: str, tmp_path: Path) -> AsyncIterator[Workshop]:
    """A workshop with a database of its own."""
    async with _opened(database_url, tmp_path) as opened:
        yield opened
