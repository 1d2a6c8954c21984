"""The purge of outcomes older than the retention: small, periodic, and safe to do in several workers at once."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog

from persistence import retention
from persistence.engine import Engine, connected
from workers.kafka.topics import DEAD_LETTERS_KEPT

PURGE_EVERY: Final = timedelta(minutes=10)
"""How often, and in which steps, the mark moves. Each move has the batches that are being decided look again, once."""
BATCH_ROWS: Final = 5_000
"""About 50 ms of a server's time, and one short lock on rows that nobody else wants."""
PAUSE_S: Final = 0.1
"""Between two batches: 30,000 rows a second at most, more than can be added in that time."""
LONGEST_HOLD_S: Final = 60.0
"""How long transactions that began before the mark moved are waited for; the workers' own end after 15 s."""
PARKED_KEPT: Final = DEAD_LETTERS_KEPT + timedelta(days=1)
"""What is parked can be dealt with while there is its dead letter; a topic's last segment may outlive its time."""
_POLL_S: Final = 0.25

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class OutcomePurge:
    """Forgets outcomes.

    `newest_ms` is the broker's time, as the newest record that this process has seen tells it (ms since the epoch; None
    before the first): a backlog is judged by its own time, not by a clock that has run on. `on_purged` is told how many
    outcomes were deleted.
    """

    engine: Engine
    kept: timedelta
    newest_ms: Callable[[], int | None]
    on_purged: Callable[[int], None]
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    async def forever(self) -> None:
        """Purge every ten minutes or so, not in step with other workers."""
        while True:
            await self.sleep(PURGE_EVERY.total_seconds() * random.uniform(0.8, 1.2))  # noqa: S311 - jitter is no secret
            await self.once()

    async def once(self) -> int:
        """Move the mark, wait until nobody acts by the old one, delete below it; returns how many were deleted.

        Dying anywhere leaves something that the next purge of any worker goes on from.
        """
        newest_ms = self.newest_ms()
        if newest_ms is not None:
            moved = await retention.move_mark(self.engine, _mark_for(newest_ms, self.kept), self.kept)
            if moved is not None:
                _log.info("outcome_mark_moved", stamped_before=moved.isoformat())
        async with connected(self.engine) as connection:
            mark = (await retention.read_mark(connection)).stamped_before
            await retention.delete_parked(connection, mark, PARKED_KEPT)
            oldest = await retention.oldest_stamp(connection)
            if oldest is None or oldest >= mark:
                return 0
            running = await retention.running_transactions(connection)
        if not await self._have_ended(running):
            return 0
        return await self._delete(mark)

    async def _have_ended(self, running: Sequence[str]) -> bool:
        """Wait for transactions to end, a minute at most: somebody's long one only puts the purge off."""
        waited_s = 0.0
        while True:
            async with connected(self.engine) as connection:
                left = await retention.still_running(connection, running)
            if not left:
                return True
            if waited_s >= LONGEST_HOLD_S:
                _log.warning(
                    "purge_put_off",
                    reason="transactions that began before the mark moved are still open",
                    sessions=[f"{holder.application or 'unnamed'} (pid {holder.pid})" for holder in left[:10]],
                )
                return False
            await self.sleep(_POLL_S)
            waited_s += _POLL_S

    async def _delete(self, mark: datetime) -> int:
        deleted, since = 0, datetime.min.replace(tzinfo=UTC)
        while True:
            async with connected(self.engine) as connection:
                batch = await retention.delete_outcomes(connection, since, mark, BATCH_ROWS)
            deleted += batch.number
            self.on_purged(batch.number)
            if batch.number < BATCH_ROWS or batch.reached is None:
                break
            since = batch.reached  # what lies before it is index entries of deleted rows
            await self.sleep(PAUSE_S)
        _log.info("outcomes_purged", number=deleted, stamped_before=mark.isoformat())
        return deleted


def _mark_for(newest_ms: int, kept: timedelta) -> datetime:
    """Return the mark that the broker's time asks for, in whole steps: several workers ask for the same one."""
    step_s = int(PURGE_EVERY.total_seconds())
    seconds = newest_ms // 1000 - int(kept.total_seconds())
    return datetime.fromtimestamp(seconds - seconds % step_s, UTC)
