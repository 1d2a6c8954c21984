"""Being woken: a connection that listens for notifications, opened again when it is lost."""

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, cast

from persistence.engine import Engine, connected

REOPEN_S: Final = 2.0
"""Longest pause before listening again; workers look by themselves meanwhile."""


async def listen(engine: Engine, channel: str, wake: Callable[[], None]) -> None:
    """Call `wake` for each notification, and whenever some may have been missed. Runs until cancelled."""
    while True:
        with suppress(Exception):  # whatever ended it, workers look by themselves and we listen again
            await _listen_once(engine, channel, wake)
        wake()
        await asyncio.sleep(random.uniform(REOPEN_S / 2, REOPEN_S))  # noqa: S311 (jitter, no secret)


async def _listen_once(engine: Engine, channel: str, wake: Callable[[], None]) -> None:
    gone = asyncio.Event()

    def notified(*_: object) -> None:
        wake()

    def terminated(_: object) -> None:
        gone.set()

    async with connected(engine) as connection:
        session = cast("Any", connection)  # listening is asyncpg's own
        session.add_termination_listener(terminated)
        try:
            await session.add_listener(channel, notified)
            wake()
            await gone.wait()
        finally:
            session.remove_termination_listener(terminated)
            if not session.is_closed():
                await session.remove_listener(channel, notified)
