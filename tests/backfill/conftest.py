"""A workshop for each test: a migrated database of its own and a folder for definitions."""

from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from persistence.engine import PoolSettings, create_engine
from tests.backfill.workshop import Workshop


@pytest.fixture
async def workshop(database_url: str, tmp_path: Path) -> AsyncIterator[Workshop]:
    """A workshop without definitions."""
    engine = create_engine(database_url, PoolSettings(size=2, max_overflow=2), "tests")
    session = await asyncpg.connect(database_url)
    yield Workshop(database_url, engine, session, tmp_path)
    await session.close()
    await engine.dispose()
