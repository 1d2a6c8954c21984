"""How long a look-up by key takes: what tells a slow query from a slow database."""

import time
from typing import Final

from persistence.engine import Engine, connected
from persistence.phases import PRODUCT_CATALOG

_LOOK_UP: Final = "select phase from schema_changes where change = $1"
"""By primary key, in a table that every release has and nobody changes the form of."""


async def look_up_s(engine: Engine) -> float:
    """Look up one row by its key; the seconds from the statement to its answer, the wait for a connection not counted.

    Raises what the driver raises.
    """
    async with connected(engine) as connection:
        began_at = time.perf_counter()
        await connection.fetchval(_LOOK_UP, PRODUCT_CATALOG)
        return time.perf_counter() - began_at
