"""The world of the clients is started once for all who look at it."""

from collections.abc import AsyncIterator

import pytest

from tests.clients.drivers import LANGUAGES
from tests.clients.world import World, world


@pytest.fixture(scope="session")
async def place(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """Start the world: a broker, workers, and callers in every language."""
    async with world(tmp_path_factory.mktemp("clients"), list(LANGUAGES)) as made:
        yield made
