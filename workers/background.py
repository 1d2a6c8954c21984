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
IDLE_FOLD_EVERY_S: Final = 30.0
IDLE_BEAT_EVERY_S: Final = 3.0
"""While a worker has had nothing to do lately: it sleeps for longer, and is back as soon as there is."""
CLEAR_EVERY_S: Final = 1.0
GRANT_EVERY_S: Final = 1.0


Latency = Callable[[], float | None]
"""The 99th percentile of the last seconds' latencies, in milliseconds; None where there was no message."""


async def sleep_while_idle(latency: Latency, every_s: float, idle_every_s: float) -> None:
    """Sleep until it is time again: earlier where messages came lately."""
    for _ in range(int(idle_every_s // every_s)):
        await asyncio.sleep(every_s)
        if latency() is not None:
            return


async def fold_differences(engine: Engine, latency: Latency) -> None:
    """Fold the differences of counters and holds into sums, for ever."""
    seen = 0
    while True:
        await sleep_while_idle(latency, FOLD_EVERY_S, IDLE_FOLD_EVERY_S)
        async with connected(engine) as connection:
            await counters.fold(connection)
            seen = await product_holds.fold(connection, seen)


async def beat(
    engine: Engine, worker: str, role: str, p99_ms: Latency, keys: Sequence[KeyPair], told: Callable[[], str]
) -> None:
    """Say every few seconds that this worker lives, by which phases it acts, how its traffic fares, with which keys.

    `told` is asked once a beat for what else there is to tell, as JSON.
    """
    said = as_heartbeat(keys)
    while True:
        async with connected(engine) as connection:
            known = await phases.read_phases(connection)
            latest = p99_ms()
            traffic = {role: latest} if latest is not None else None
            await phases.beat(connection, worker, role, known, traffic, said, told())
            for name in await exchange(connection, keys):
                _log.info("key_exchanged", key=name)
        await sleep_while_idle(p99_ms, BEAT_EVERY_S, IDLE_BEAT_EVERY_S)


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
