"""Databases of their own for tests of the schema, and what they need to look into one."""

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from persistence.engine import PoolSettings, create_engine
from tests.databases import creation, drop_database
from tests.servers import Servers

Session = Any
"""An asyncpg connection, which has no types."""
Connect = Callable[[], Awaitable[Session]]
"""Opens one more session on the test's database; closed when the test ends."""


@pytest.fixture
async def database(request: pytest.FixtureRequest, stack: Servers, template_database: str) -> AsyncIterator[str]:
    """The URL of a new database: empty, or migrated where the test asks for that; dropped afterwards."""
    template = template_database if "migrated" in request.fixturenames else "template1"
    name = f"migrations_{uuid.uuid4().hex[:12]}"
    server = await asyncpg.connect(stack.env.database_url)
    await server.execute(creation(name, template))
    yield stack.database(name)
    await drop_database(server.execute, name)
    await server.close()


@pytest.fixture
def migrated(database: str) -> str:
    """The URL of the test's database, which is at the head of the main branch."""
    return database


@pytest.fixture
def migrated_as_superuser(stack: Servers, migrated: str) -> str:
    """The same for a superuser; servers that were given have one user for everything."""
    admin: str = getattr(stack.env, "database_admin_url", stack.env.database_url)
    return urlunsplit(urlsplit(admin)._replace(path=urlsplit(migrated).path))


@pytest.fixture
async def connect(database: str) -> AsyncIterator[Connect]:
    """A way to open sessions on the test's database."""
    async with AsyncExitStack() as sessions:

        async def open_one() -> Session:
            session: Session = await asyncpg.connect(database)
            sessions.callback(session.terminate)
            return session

        yield open_one


@pytest.fixture
async def engine(migrated: str) -> AsyncIterator[AsyncEngine]:
    """The workers' pool on a migrated database."""
    pool = create_engine(migrated, PoolSettings(size=2, max_overflow=4), "tests")
    yield pool
    await pool.dispose()


@pytest.fixture
async def session(engine: AsyncEngine, connect: Connect) -> Session:
    """A session on a migrated database with three products."""
    opened = await connect()
    await opened.execute("""
        insert into products (id, mnemonic, overview, old_catalog_field) values
            ('00000000-0000-0000-0000-000000000000', 'FIRST', '', '{"b": 1.0, "a": [true, null]}'),
            ('70000000-0000-0000-0000-000000000000', 'MIDDLE', '', '{}'),
            ('ffffffff-ffff-ffff-ffff-ffffffffffff', 'LAST', '', '{"n": 1e3, "n": 2}')""")
    return opened
