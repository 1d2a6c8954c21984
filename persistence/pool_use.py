"""How much of a pool of connections is in use."""

from typing import cast

from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import QueuePool


def connections_in_use(engine: AsyncEngine) -> int:
    """Count the connections that are lent out right now."""
    return cast("QueuePool", engine.pool).checkedout()
