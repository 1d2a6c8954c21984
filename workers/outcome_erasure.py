"""The erasing of what a deletion left written down: periodic, and safe to do in several workers at once."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import structlog

from persistence import erasures
from persistence.engine import Engine

LOOK_EVERY_S: Final = 5.0
PAUSE_S: Final = 0.05
"""Between two chunks: a million outcomes take a minute, and the database is left to others half of the time."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class OutcomeErasure:
    """Erases outcomes of customers that were deleted."""

    engine: Engine
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    async def forever(self) -> None:
        """Look for something to erase every few seconds; what waits for it is shown to nobody meanwhile."""
        while True:
            await self.sleep(LOOK_EVERY_S)
            await self.once()

    async def once(self) -> int:
        """Erase what is written down and no other worker is at, chunk by chunk; returns how many outcomes that were.

        Dying anywhere leaves the rest written down for any worker.
        """
        erased = 0
        while True:
            chunk = await erasures.erase_some(self.engine)
            erased += chunk.erased
            if not chunk.more:
                break
            await self.sleep(PAUSE_S)
        if erased:
            _log.info("outcomes_erased", number=erased)
        return erased
