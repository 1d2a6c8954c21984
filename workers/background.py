"""What a worker does beside its messages: small, periodic, and safe to do in several workers at once."""

import asyncio
from typing import Final

from persistence import counters
from persistence.engine import Engine, connected

FOLD_EVERY_S: Final = 5.0


async def fold_counters(engine: Engine) -> None:
    """Fold counter differences into sums, for ever."""
    while True:
        await asyncio.sleep(FOLD_EVERY_S)
        async with connected(engine) as connection:
            await counters.fold(connection)
