"""Redis fails over while connections to the old primary stay open: nothing old is shown, no limit is passed."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

import orjson
import pytest

from persistence.cache import BREAK_S, RedisCache, cache_key
from persistence.engine import Engine, PoolSettings, connected, create_engine
from persistence.rate_limits import Charge, RedisAwayError, RedisWindows
from persistence.redis_client import create_redis
from tests.chaos.proxy import Line, Proxy
from tests.redis_server import OwnRedis
from workers.admission.rate import RateLimit

SPACE = "failover"
NAME = "n"


class Source:
    """What the cache loads."""

    def __init__(self) -> None:
        self.version = 1

    async def load(self, names: Sequence[str]) -> Mapping[str, bytes]:
        """Load the version."""
        return {name: orjson.dumps({"version": self.version}) for name in names}


class Pair:
    """Two servers, one the replica of the other, and one address that leads new connections to the primary."""

    def __init__(self, folder: Path) -> None:
        for name in "ab":
            (folder / name).mkdir()
        settings = ("--save", "", "--repl-diskless-sync", "yes", "--repl-diskless-sync-delay", "0")
        self._servers = OwnRedis(folder / "a", *settings), OwnRedis(folder / "b", *settings)
        self._line = Line()
        self.address = Proxy(self._line)

    async def __aenter__(self) -> Self:
        for server in self._servers:
            await server.start()
        self.old, self.new = (create_redis(server.url) for server in self._servers)
        await self.new.execute_command("REPLICAOF", "127.0.0.1", self._servers[0].port)
        await until(self.linked, "the replica did not come up")
        self.address.start()
        self.address.lead_to("127.0.0.1", self._servers[0].port)
        self.url = f"redis://127.0.0.1:{self.address.port}/0"
        return self

    async def __aexit__(self, *_: object) -> None:
        for client in (self.old, self.new):
            await client.aclose()
        self.address.stop()
        self._line.close()
        for server in self._servers:
            server.kill()

    async def linked(self) -> bool:
        """Whether the replica has all that its primary has."""
        info = await self.new.info("replication")
        return bool(info.get("master_link_status") == "up") and not info.get("master_sync_in_progress")

    async def level(self) -> bool:
        """Whether the replica has heard all that its primary has said."""
        told = (await self.old.info("replication"))["master_repl_offset"]
        return bool((await self.new.info("replication"))["slave_repl_offset"] >= told)

    async def promote(self, *, told: bool) -> None:
        """Make the replica the primary, and lead new connections to it; the old one hears of it, or not yet."""
        await until(self.level, "the replica is behind")
        await self.new.execute_command("REPLICAOF", "NO", "ONE")
        self.address.lead_to("127.0.0.1", self._servers[1].port)
        if told:
            await self.demote()

    async def demote(self, *, reachable: bool = True) -> None:
        """Make the old primary the replica of the new one, which it may not reach; its connections stay open."""
        await self.old.execute_command("REPLICAOF", "127.0.0.1", self._servers[1].port if reachable else 1)


async def until(condition: Callable[[], Awaitable[bool]], what: str) -> None:
    """Ask until it is so."""
    for _ in range(1000):
        if await condition():
            return
        await asyncio.sleep(0.02)
    pytest.fail(what)


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    """Two servers of the test's own."""
    async with Pair(tmp_path) as made:
        yield made


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[Engine]:
    """A pool on the test's database."""
    made = create_engine(database_url, PoolSettings(), "tests")
    yield made
    await made.dispose()


class Clock:
    """A clock that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


async def shown(cache: RedisCache, source: Source) -> int:
    """Read the version, as a query does."""
    found = await cache.get_many(SPACE, [NAME], source.load)
    return int(orjson.loads(found[NAME] or b"null")["version"])


@pytest.mark.parametrize("reachable", [True, False])
async def test_no_value_of_the_old_primary_is_shown(pair: Pair, engine: Engine, reachable: bool) -> None:
    """A reader whose connection leads to the demoted server reads nothing from it, and finds the new primary."""
    clock, source = Clock(), Source()
    reader, writer = (RedisCache(create_redis(pair.url), engine, clock=clock) for _ in range(2))
    assert [await shown(reader, source), await shown(writer, source)] == [1, 1]
    await pair.promote(told=False)
    await pair.demote(reachable=reachable)
    source.version = 2
    await writer.clear([cache_key(SPACE, NAME)])  # over its old connection: owed
    async with connected(engine) as connection:
        assert await connection.fetchval("select count(*) from cache_invalidations") == 1
    assert [await shown(reader, source) for _ in range(20)] == [2] * 20
    clock.now += BREAK_S
    await writer.clear_recorded()
    async with connected(engine) as connection:
        assert await connection.fetchval("select count(*) from cache_invalidations") == 0
    for _ in range(3):
        clock.now += BREAK_S
        assert await shown(reader, source) == 2
    assert b'"version":2' in (await pair.new.get(cache_key(SPACE, NAME)) or b""), "the new primary is used"
    for cache in (reader, writer):
        await cache.close()


async def test_what_was_cleared_on_a_primary_that_was_one_no_more(pair: Pair, engine: Engine) -> None:
    """Cleared on a server that had not heard of the new primary: cleared there as well, once it is noticed."""
    clock, source = Clock(), Source()
    writer = RedisCache(create_redis(pair.url), engine, clock=clock)
    await writer.clear([cache_key(SPACE, "other")])  # connected
    await pair.promote(told=False)
    reader = RedisCache(create_redis(pair.url), engine, clock=clock)
    assert await shown(reader, source) == 1
    source.version = 2
    await writer.clear([cache_key(SPACE, NAME)])
    await pair.demote()
    await writer.clear([cache_key(SPACE, "other")])  # refused
    clock.now += BREAK_S
    await writer.clear_recorded()
    assert [await shown(reader, source) for _ in range(3)] == [2] * 3
    for cache in (reader, writer):
        await cache.close()


async def test_no_value_comes_back_with_the_old_primary(pair: Pair, engine: Engine) -> None:
    """What the old primary had cleared, and the new one had not heard of, is not shown when the old one leads again."""
    source = Source()
    cache = RedisCache(create_redis(pair.url), engine)
    assert await shown(cache, source) == 1
    value = await pair.old.get(cache_key(SPACE, NAME))
    source.version = 2
    await cache.clear([cache_key(SPACE, NAME)])
    await cache.close()
    await pair.promote(told=True)
    await pair.new.set(cache_key(SPACE, NAME), value or b"")  # as if it had not heard

    async def back() -> bool:
        return bool((await pair.old.info("replication"))["master_link_status"] == "up")

    await until(back, "the old primary does not follow")
    await pair.old.execute_command("REPLICAOF", "NO", "ONE")
    later = RedisCache(pair.old, engine)
    assert await pair.old.get(cache_key(SPACE, NAME)) == value
    assert await shown(later, source) == 2


async def admitted(limit: RateLimit, count: int, first: int) -> int:
    """Send requests of one caller within one minute; how many pass."""
    charges = [Charge("iss\nsub", 1_700_000_000_000 + number, "t", 0, number) for number in range(first, first + count)]
    return sum(verdict.allowed for verdict in await limit.admit(charges))


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("before", [0, 60, 100])
async def test_no_limit_is_passed(pair: Pair, before: int, told: bool) -> None:
    """Whatever was let pass before the fail-over counts after it: on the old server, by itself, and on the new one."""
    clock = Clock()
    windows = RedisWindows(pair.url, "failover")
    limit = RateLimit(windows, limit=100, window_s=60, overrides={}, on_fallback=lambda: None, clock=clock)
    await windows.ping()
    passed = await admitted(limit, before, 0)
    await pair.promote(told=told)
    passed += await admitted(limit, 30, 1000)
    if not told:
        await pair.demote()
    for step in range(5):
        passed += await admitted(limit, 30, 2000 + 100 * step)
        clock.now += 1
        await asyncio.sleep(0)
    assert passed == 100
    await limit.close()


async def judged(windows: RedisWindows) -> list[int]:
    """Have a message judged, again where a busy machine was slower than a server may be."""
    for left in reversed(range(10)):
        try:
            return list(await windows.judge([Charge("c", 1, "t", 0, 1)], [(1, 1000)]))  # type: ignore[list-item]
        except RedisAwayError:
            if not left:
                raise
    raise AssertionError


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("READONLY", ["REPLICAOF", "127.0.0.1", "1"], ["REPLICAOF", "NO", "ONE"]),
        ("MASTERDOWN", ["CONFIG", "SET", "replica-serve-stale-data", "no"], ["CONFIG", "SET", "requirepass", ""]),
        (
            "NOREPLICAS",
            ["CONFIG", "SET", "min-replicas-to-write", "5"],
            ["CONFIG", "SET", "min-replicas-to-write", "0"],
        ),
        ("OOM", ["CONFIG", "SET", "maxmemory", "1"], ["CONFIG", "SET", "maxmemory", "0"]),
        ("NOPERM", ["ACL", "SETUSER", "default", "-evalsha", "-eval"], ["ACL", "SETUSER", "default", "+@all"]),
        ("no answer", ["CLIENT", "PAUSE", "30000"], None),
    ],
)
async def test_whatever_a_server_refuses_another_is_asked(
    pair: Pair, engine: Engine, name: str, before: list[str], after: list[str] | None
) -> None:
    """READONLY, MASTERDOWN, NOREPLICAS, OOM, NOPERM …, plain or within a script's error: the connection is dropped."""
    clock, source = Clock(), Source()
    cache = RedisCache(create_redis(pair.url), engine, clock=clock)
    windows = RedisWindows(pair.url, "failover")
    await windows.ping()
    await cache.clear([cache_key(SPACE, NAME)])  # both are connected to the old one
    if name == "MASTERDOWN":
        await pair.old.execute_command("REPLICAOF", "127.0.0.1", "1")
    administrator = create_redis(pair.url.replace(str(pair.address.port), str(pair._servers[0].port)))
    await administrator.execute_command("PING")
    await administrator.execute_command(*before)
    await pair.new.execute_command("REPLICAOF", "NO", "ONE")
    pair.address.lead_to("127.0.0.1", pair._servers[1].port)
    await cache.clear([cache_key(SPACE, NAME)])
    assert await shown(cache, source) == 1
    clock.now += BREAK_S
    for _ in range(2):
        assert await shown(cache, source) == 1
    assert b'"version":1' in (await pair.new.get(cache_key(SPACE, NAME)) or b""), "the new primary is used"
    assert await judged(windows) == [0]
    assert await pair.new.keys("{failover:rate}:*")
    if after is not None:
        await administrator.execute_command(*after)
    await administrator.aclose()
    await cache.close()
    await windows.close()
