"""What a worker does beside its messages: small, periodic, and safe to do in several workers at once."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from persistence import counters, phases, product_holds
from persistence.cache import RedisCache
from persistence.engine import Engine, connected
from persistence.key_fingerprints import KeyPair, as_heartbeat, exchange
from persistence.phase_wishes import carry_out_wishes

_log = structlog.get_logger(__name__)

FOLD_EVERY_S: Final = 5.0
BEAT_EVERY_S: Final = 1.0
"""A step of a schema change waits until every worker has said that it follows the one before."""
CLEAR_EVERY_S: Final = 1.0
GRANT_EVERY_S: Final = 1.0


async def fold_differences(engine: Engine) -> None:
    """Fold the differences of counters and holds into sums, for ever."""
    seen = 0
    while True:
        await asyncio.sleep(FOLD_EVERY_S)
        async with connected(engine) as connection:
            await counters.fold(connection)
            seen = await product_holds.fold(connection, seen)


async def beat(
    engine: Engine, worker: str, role: str, p99_ms: Callable[[], float | None], keys: Sequence[KeyPair]
) -> None:
    """Say every few seconds that this worker lives, by which phases it acts, how its traffic fares, with which keys."""
    said = as_heartbeat(keys)
    while True:
        async with connected(engine) as connection:
            known = await phases.read_phases(connection)
            latest = p99_ms()
            await phases.beat(connection, worker, role, known, {role: latest} if latest is not None else None, said)
            for name in await exchange(connection, keys):
                _log.info("key_exchanged", key=name)
        await asyncio.sleep(BEAT_EVERY_S)


async def clear_cache_later(cache: RedisCache) -> None:
    """Clear the cache keys that were written down while Redis was away, as soon as it is back."""
    while True:
        await asyncio.sleep(CLEAR_EVERY_S)
        await cache.clear_recorded()


async def grant_wishes(engine: Engine) -> None:
    """Take the steps of schema changes that were asked for by command; one worker of all does it."""
    while True:
        for granted in await carry_out_wishes(engine):
            if granted.refusal is None:
                _log.info("phase_advanced", change=granted.change, to=granted.to)
            else:
                _log.warning("phase_refused", change=granted.change, to=granted.to, reason=granted.refusal)
        await asyncio.sleep(GRANT_EVERY_S)
