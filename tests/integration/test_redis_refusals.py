"""Whatever Redis says instead of doing what it is asked, and while it says it: nothing is old, lost or passed."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Final

import orjson
import pytest

from persistence.cache import BREAK_S, RedisCache, cache_key
from persistence.engine import Engine, PoolSettings, connected, create_engine
from persistence.rate_limits import RedisWindows
from persistence.redis_client import create_redis
from tests.refusing_redis import SCRIPTS, RefusingRedis
from tests.servers import Servers
from workers.admission.rate import Charge, RateLimit

EVERYTHING: Final = SCRIPTS | {b"PING", b"SCRIPT"}
_IN_SCRIPT: Final = "ERR Error running script (call to f_6b1b): @user_script:7: @user_script: 7: -"
WORDS: Final = {
    "loading": ("LOADING Redis is loading the dataset in memory", EVERYTHING),
    "no disk": ("MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist", SCRIPTS),
    "no disk, in a script of Redis 6": (_IN_SCRIPT + "MISCONF Errors writing to the AOF file", SCRIPTS),
    "a password": ("NOAUTH Authentication required.", EVERYTHING),
    "another password": ("WRONGPASS invalid username-password pair or user is disabled.", EVERYTHING),
    "a cluster without a slot": ("CLUSTERDOWN Hash slot not served", SCRIPTS),
    "a cluster that is down": ("CLUSTERDOWN The cluster is down", SCRIPTS),
    "a slot that moves": ("TRYAGAIN Multiple keys request during rehashing of slot", SCRIPTS),
    "a slot elsewhere": ("MOVED 3999 127.0.0.1:6381", SCRIPTS),
    "a replica": ("READONLY You can't write against a read only replica. script: 6b1b, on @user_script:7.", SCRIPTS),
    "a replica, in a script of Redis 6": (
        _IN_SCRIPT + "READONLY You can't write against a read only replica.",
        SCRIPTS,
    ),
    "a replica alone": ("MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.", SCRIPTS),
    "busy": ("BUSY Redis is busy running a script. You can only call SCRIPT KILL", EVERYTHING),
    "full of clients": ("ERR max number of clients reached", EVERYTHING),
}


class Clock:
    """A clock that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class Source:
    """What the cache loads."""

    def __init__(self) -> None:
        self.version = 1

    async def load(self, names: Sequence[str]) -> Mapping[str, bytes]:
        """Load the version."""
        return {name: orjson.dumps({"version": self.version}) for name in names}


@pytest.fixture
async def redis(stack: Servers) -> AsyncIterator[RefusingRedis]:
    """A way to the session's Redis."""
    async with RefusingRedis(stack.env.redis_url) as way:
        yield way


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[Engine]:
    """A pool on the test's database."""
    made = create_engine(database_url, PoolSettings(), "tests")
    yield made
    await made.dispose()


async def owed(engine: Engine) -> int:
    """Count what is still to be cleared."""
    async with connected(engine) as connection:
        return int(await connection.fetchval("select count(*) from cache_invalidations"))


@pytest.mark.parametrize("case", WORDS)
async def test_what_could_not_be_cleared_is_owed_until_it_is(redis: RefusingRedis, engine: Engine, case: str) -> None:
    """The connection is dropped, nothing old is shown, and what is owed is cleared once the server does it."""
    clock, source, space = Clock(), Source(), uuid.uuid4().hex
    cache = RedisCache(create_redis(redis.url), engine, strict=True, clock=clock)

    async def shown() -> int:
        found = await cache.get_many(space, ["n"], source.load)
        return int(orjson.loads(found["n"] or b"null")["version"])

    assert [await shown(), await shown()] == [1, 1]
    connections = redis.connections
    redis.words, redis.commands = WORDS[case]
    source.version = 2
    await cache.clear([cache_key(space, "n")])
    assert redis.refused
    assert await owed(engine) == 1
    for _ in range(3):
        assert await shown() == 2
        clock.now += BREAK_S
        assert await cache.clear_recorded() == 0
        assert await owed(engine) == 1, "not done, so still owed"
    assert redis.connections > connections, "the next call connects anew"
    redis.words = ""
    assert await shown() == 2, "still owed: not even the server that answers again shows it"
    clock.now += BREAK_S
    assert await cache.clear_recorded() == 1
    assert await owed(engine) == 0
    source.version = 3
    assert [await shown(), await shown()] == [3, 3]
    source.version = 4
    assert await shown() == 3, "the cache is used again"
    await cache.close()


@pytest.mark.parametrize("case", WORDS)
async def test_a_limit_holds_while_redis_refuses_and_after(redis: RefusingRedis, case: str) -> None:
    """Requests are judged here meanwhile, with what had passed there; then by the server again: never one too many."""
    clock, caller, fallbacks, away = Clock(), f"iss\n{uuid.uuid4()}", 0, list[str]()

    def fell_back() -> None:
        nonlocal fallbacks
        fallbacks += 1

    windows = RedisWindows(redis.url, uuid.uuid4().hex)
    limit = RateLimit(
        windows, limit=100, window_s=60, overrides={}, on_fallback=fell_back, on_away=away.append, clock=clock
    )

    async def admitted(count: int, first: int) -> int:
        charges = [Charge(caller, 1_700_000_000_000 + number, "t", 0, number) for number in range(first, first + count)]
        return sum(verdict.allowed for verdict in await limit.admit(charges))

    passed = await admitted(60, 0)
    assert (passed, fallbacks) == (60, 0)
    connections = redis.connections
    redis.words, redis.commands = WORDS[case]
    passed += await admitted(30, 1_000)
    assert (passed, fallbacks, len(away)) == (90, 1, 1)
    for step in range(3):
        clock.now += 1
        passed += await admitted(5, 2_000 + 100 * step)
        await asyncio.sleep(0)
    assert passed == 100
    redis.words = ""

    async def judged_there() -> bool:
        clock.now += 1
        before = fallbacks
        assert await admitted(1, 5_000 + int(clock.now)) == 0
        return fallbacks == before

    await until(judged_there, "Redis is not asked again")
    assert redis.connections > connections, "the next call connects anew"
    await limit.close()


async def until(condition: Callable[[], Awaitable[bool]], what: str) -> None:
    """Ask until it is so."""
    for _ in range(50):
        if await condition():
            return
        await asyncio.sleep(0.02)
    pytest.fail(what)
