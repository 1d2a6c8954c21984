"""The cache on a real Redis: leases, clearing, outages, restarts; and that no read is older than an answer."""

import asyncio
import itertools
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest
from redis.asyncio import Redis

from contracts.envelope import MAX_REPLY_BYTES
from persistence.cache import BREAK_S, BYTES_AT_ONCE, NAMES_AT_ONCE, TTL_S, RedisCache, cache_key
from persistence.engine import Engine, PoolSettings, connected, create_engine
from persistence.redis_client import RedisClient, create_redis
from tests.integration.postgres_catalogue import PostgresCatalogue
from tests.redis_server import OwnRedis
from tests.servers import Servers

SPACE = "tests"
PATIENT = "socket_timeout=10&socket_connect_timeout=10"
"""Of a client that takes only an answer for an answer."""
TRIES = 5
"""Of what a machine that stands still may decide."""


class Counts:
    """Counts what the cache tells."""

    def __init__(self) -> None:
        self.hits = 0
        self.misses = 0
        self.delayed = 0

    def on_cache_read(self, hits: int, misses: int) -> None:
        self.hits += hits
        self.misses += misses

    def on_cache_delayed(self, keys: int) -> None:
        self.delayed += keys


class Source:
    """What is cached: a version by name, as the primary has it. `between` runs after a load has read."""

    def __init__(self, **versions: int) -> None:
        self.versions = versions
        self.loads: list[Sequence[str]] = []
        self.pause_s = 0.0
        self.between: Any = None

    async def load(self, names: Sequence[str]) -> Mapping[str, bytes]:
        self.loads.append(list(names))
        read = {name: orjson.dumps({"version": self.versions[name]}) for name in names if name in self.versions}
        await asyncio.sleep(self.pause_s)
        if self.between is not None:
            await self.between()
        return read

    @property
    def loaded(self) -> int:
        """How many times a name was loaded."""
        return sum(map(len, self.loads))


def versions(found: Mapping[str, bytes | None]) -> dict[str, int]:
    """Read what was found."""
    return {name: orjson.loads(value or b"null")["version"] for name, value in found.items()}


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[Engine]:
    """A pool on the test's database."""
    engine = create_engine(database_url, PoolSettings(), "tests")
    yield engine
    await engine.dispose()


@pytest.fixture
async def redis(stack: Servers) -> AsyncIterator[RedisClient]:
    """The stack's Redis; a machine that stands still for half a second is no outage here."""
    client = create_redis(f"{stack.env.redis_url}?{PATIENT}")
    yield client
    await client.aclose()


@pytest.fixture
def name() -> str:
    """A name that no other test uses."""
    return uuid.uuid4().hex


@pytest.fixture
def counts() -> Counts:
    """Counts of the test's own."""
    return Counts()


@pytest.fixture
def cache(redis: RedisClient, engine: Engine, counts: Counts) -> RedisCache:
    """A cache on the stack's Redis."""
    return RedisCache(redis, engine, counts)


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


async def keys_written_down(engine: Engine) -> list[str]:
    """Read the keys that could not be cleared."""
    async with connected(engine) as connection:
        return [row["key"] for row in await connection.fetch("select key from cache_invalidations order by key")]


# Values and leases ---------------------------------------------------------------------------------------------------
async def test_a_value_is_loaded_once(cache: RedisCache, redis: RedisClient, name: str, counts: Counts) -> None:
    """A miss is loaded and kept as JSON under its key for half an hour; then it is found."""
    source = Source(**{name: 1})
    for _ in range(3):
        assert versions(await cache.get_many(SPACE, [name], source.load)) == {name: 1}
    assert source.loaded == 1
    assert (counts.hits, counts.misses) == (2, 1)
    key = f"{SPACE}:{name}"
    kept = await redis.get(key)
    assert orjson.loads(kept or b"")["version"] == 1
    assert TTL_S - 5 < await redis.ttl(key) <= TTL_S
    assert await redis.exists(f"lease:{{{key}}}") == 0


async def test_what_a_release_before_kept_is_no_answer(cache: RedisCache, name: str, counts: Counts) -> None:
    """A value that lacks a field is loaded instead, and what is kept next has it; the values beside it are found."""
    old, new = f"{name} old", f"{name} new"
    source = Source(**{old: 1, new: 1})

    async def load_whole(names: Sequence[str]) -> Mapping[str, bytes]:
        return {one: body[:-1] + b',"colour":"red"}' for one, body in (await source.load(names)).items()}

    def is_whole(body: bytes) -> bool:
        return b'"colour":' in body

    await cache.get_many(SPACE, [old], source.load)
    await cache.get_many(SPACE, [new], load_whole)
    source.versions[old] = 2
    for _ in range(3):
        found = await cache.get_many(SPACE, [old, new], load_whole, is_whole)
        assert {one: orjson.loads(body or b"")["colour"] for one, body in found.items()} == {old: "red", new: "red"}
        assert versions(found) == {old: 2, new: 1}
    assert source.loads[2:] == [[old], [old]]
    assert (counts.hits, counts.misses) == (1 + 1 + 2, 2 + 2)


async def test_a_batch_is_one_look_and_one_load(cache: RedisCache, name: str) -> None:
    """What is there is found, what is missing is loaded at once, what does not exist is in no answer."""
    source = Source(**{f"{name}{n}": n for n in range(5)})
    await cache.get_many(SPACE, [f"{name}1", f"{name}3"], source.load)
    found = await cache.get_many(SPACE, [f"{name}{n}" for n in range(7)], source.load)
    assert versions(found) == {f"{name}{n}": n for n in range(5)}
    assert [len(names) for names in source.loads] == [2, 5]


async def test_what_does_not_exist_is_not_kept(cache: RedisCache, redis: RedisClient, name: str) -> None:
    """A name that nothing has is looked up each time, and its lease is given back at once."""
    source = Source()
    for _ in range(2):
        assert await cache.get_many(SPACE, [name], source.load) == {}
    assert source.loaded == 2
    assert await redis.exists(f"{SPACE}:{name}", f"lease:{{{SPACE}:{name}}}") == 0
    source.versions[name] = 1
    assert versions(await cache.get_many(SPACE, [name], source.load)) == {name: 1}


async def test_clearing(cache: RedisCache, engine: Engine, name: str) -> None:
    """What was cleared is loaded again; nothing is written down."""
    source = Source(**{name: 1})
    await cache.get_many(SPACE, [name], source.load)
    source.versions[name] = 2
    await cache.clear([cache_key(SPACE, name)])
    assert versions(await cache.get_many(SPACE, [name], source.load)) == {name: 2}
    assert await keys_written_down(engine) == []


async def test_an_old_value_is_never_put_back(cache: RedisCache, name: str) -> None:
    """A reader that loaded before a change and fills after the clearing fills nothing: its lease is gone."""
    source = Source(**{name: 1})

    async def change() -> None:
        source.between = None
        source.versions[name] = 2
        await cache.clear([cache_key(SPACE, name)])

    source.between = change
    assert versions(await cache.get_many(SPACE, [name], source.load)) == {name: 1}
    assert versions(await cache.get_many(SPACE, [name], source.load)) == {name: 2}
    assert source.loaded == 2


async def test_a_fill_needs_its_own_lease(cache: RedisCache, redis: RedisClient, name: str) -> None:
    """A reader whose lease ran out, and was taken by another, fills nothing and leaves the other's lease alone."""
    source = Source(**{name: 1})
    lease = f"lease:{{{SPACE}:{name}}}"

    async def taken() -> None:
        assert 0 < await redis.pttl(lease) <= 5_000
        await redis.set(lease, "somebody else's", px=5_000)

    source.between = taken
    await cache.get_many(SPACE, [name], source.load)
    assert await redis.get(lease) == b"somebody else's"
    assert await redis.exists(f"{SPACE}:{name}") == 0


async def test_no_stampede(redis: RedisClient, engine: Engine, name: str) -> None:
    """Many readers of a missing value, in several processes, load it once; the others wait for it.

    They wait no longer than a load takes by far: a machine that stands still for so long has another try.
    """

    async def loads(one: str) -> int:
        source = Source(**{one: 1})
        source.pause_s = 0.02
        caches = [RedisCache(redis, engine) for _ in range(3)]
        found = await asyncio.gather(
            *(cache.get_many(SPACE, [one], source.load) for cache, _ in itertools.product(caches, range(10)))
        )
        assert [versions(one) for one in found] == [{one: 1}] * 30
        return source.loaded

    assert any([await loads(f"{name}{n}") == 1 for n in range(TRIES)])


async def test_nobody_waits_for_a_reader_that_died(cache: RedisCache, redis: RedisClient, name: str) -> None:
    """A lease whose owner never fills costs others a little wait each; they load for themselves and keep nothing."""
    source = Source(**{name: 1})
    await redis.set(f"lease:{{{SPACE}:{name}}}", "dead", px=60_000)
    started = time.monotonic()
    assert versions(await cache.get_many(SPACE, [name], source.load)) == {name: 1}
    assert time.monotonic() - started < 30
    assert await redis.exists(f"{SPACE}:{name}") == 0


async def test_a_load_that_fails_gives_its_lease_back(cache: RedisCache, redis: RedisClient, name: str) -> None:
    """The error is the caller's; the next reader need not wait."""

    async def fail(_: Sequence[str]) -> Mapping[str, bytes]:
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await cache.get_many(SPACE, [name], fail)
    assert await redis.exists(f"lease:{{{SPACE}:{name}}}") == 0


async def test_what_no_reply_could_carry_is_not_kept(cache: RedisCache, redis: RedisClient, name: str) -> None:
    """A value larger than any reply would only take memory."""

    async def load(_: Sequence[str]) -> Mapping[str, bytes]:
        return {name: orjson.dumps({"version": "x" * MAX_REPLY_BYTES})}

    assert len(await cache.get_many(SPACE, [name], load)) == 1
    assert await redis.exists(f"{SPACE}:{name}") == 0


@pytest.mark.parametrize("foreign", [b"", b"nonsense", b"{}", b'{"version": 7}', b'{"version": 7,"redis_run":"0000"}'])
async def test_a_foreign_value_does_not_count(cache: RedisCache, redis: RedisClient, name: str, foreign: bytes) -> None:
    """What was not filled in this server by a lease is as good as absent, and replaced."""
    await redis.set(f"{SPACE}:{name}", foreign)
    source = Source(**{name: 1})
    for _ in range(2):
        assert versions(await cache.get_many(SPACE, [name], source.load)) == {name: 1}
    assert source.loaded == 1


async def test_many_keys_are_cleared_at_once(cache: RedisCache, redis: RedisClient, name: str) -> None:
    """An import touches more keys than a call has room for arguments on its stack."""
    await redis.set(f"{SPACE}:{name}", b"{}")
    await cache.clear([f"{SPACE}:{name}", *(f"{SPACE}:{name}{n}" for n in range(20_000))])
    assert await redis.exists(f"{SPACE}:{name}") == 0


# Outages -------------------------------------------------------------------------------------------------------------
async def test_without_redis(engine: Engine, name: str, counts: Counts) -> None:
    """Everything is loaded, and there is nothing to clear."""
    cache = RedisCache(None, engine, counts)
    source = Source(**{name: 1})
    for _ in range(2):
        assert versions(await cache.get_many(SPACE, [name], source.load)) == {name: 1}
    await cache.clear([cache_key(SPACE, name)])
    assert source.loaded == 2
    assert await keys_written_down(engine) == []
    assert counts.delayed == 0


def counted_calls(client: Redis) -> list[None]:
    """Return a list that grows with each call of a client."""
    calls: list[None] = []
    pool: Any = client.connection_pool
    connection = pool.get_connection

    async def noted(*arguments: Any, **named: Any) -> Any:  # noqa: ANN401 - handed on as it is
        calls.append(None)
        return await connection(*arguments, **named)

    pool.get_connection = noted
    return calls


async def test_redis_away_and_back(engine: Engine, tmp_path: Path, name: str, counts: Counts) -> None:
    """While Redis is away reads load, and keys are written down; they are cleared once it answers again."""
    async with OwnRedis(tmp_path) as server:
        clock = Clock()
        client = create_redis(f"{server.url}?{PATIENT}")
        assert isinstance(client, Redis)
        cache = RedisCache(client, engine, counts, clock=clock)
        source = Source(**{name: 1})
        key = cache_key(SPACE, name)
        await cache.get_many(SPACE, [name], source.load)
        server.kill()
        calls = counted_calls(client)
        for _ in range(20):
            await cache.get_many(SPACE, [name], source.load)
            await cache.clear([key])
        assert len(calls) <= 2, "an outage costs a call a second, not one a batch"
        assert source.loaded == 21
        assert counts.delayed == 20
        assert await keys_written_down(engine) == [key]
        assert await cache.clear_recorded() == 0
        await server.start()
        clock.now += BREAK_S
        assert await cache.clear_recorded() == 1
        assert await keys_written_down(engine) == []
        for _ in range(2):
            await cache.get_many(SPACE, [name], source.load)
        assert source.loaded == 22
        await cache.close()


async def test_a_redis_that_does_not_answer(engine: Engine, name: str) -> None:
    """A server that accepts connections and says nothing holds nobody up for longer than half a second."""

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    cache = RedisCache(create_redis(f"redis://127.0.0.1:{port}/0"), engine)
    source = Source(**{name: 1})
    started = time.monotonic()
    assert versions(await cache.get_many(SPACE, [name], source.load)) == {name: 1}
    await cache.clear([cache_key(SPACE, name)])
    assert time.monotonic() - started < 10
    assert await keys_written_down(engine) == [cache_key(SPACE, name)]
    await cache.close()
    server.close()


async def test_what_could_not_be_cleared(redis: RedisClient, engine: Engine, name: str) -> None:
    """A reader that reaches Redis when the writer did not may see the old value, unless it is strict."""
    writer = RedisCache(create_redis("redis://127.0.0.1:1/0"), engine)
    relaxed, strict = RedisCache(redis, engine), RedisCache(redis, engine, strict=True)
    source = Source(**{name: 1})
    await relaxed.get_many(SPACE, [name], source.load)
    assert versions(await strict.get_many(SPACE, [name], source.load)) == {name: 1}
    assert source.loaded == 1
    source.versions[name] = 2
    await writer.clear([cache_key(SPACE, name)])
    assert versions(await relaxed.get_many(SPACE, [name], source.load)) == {name: 1}
    assert versions(await strict.get_many(SPACE, [name], source.load)) == {name: 2}
    assert await relaxed.clear_recorded() == 1
    for cache in (relaxed, strict):
        assert versions(await cache.get_many(SPACE, [name], source.load)) == {name: 2}


async def test_a_key_asked_for_again_stays(redis: RedisClient, engine: Engine, name: str) -> None:
    """A key that is written down again while it is being cleared is cleared once more."""
    writer = RedisCache(create_redis("redis://127.0.0.1:1/0"), engine)
    cleaner = RedisCache(redis, engine)
    key = cache_key(SPACE, name)
    await writer.clear([key])
    clear = cleaner._clear

    async def meanwhile(keys: Sequence[str]) -> None:
        await clear(keys)
        await writer.clear([key])

    cleaner._clear = meanwhile  # type: ignore[method-assign]
    await cleaner.clear_recorded()
    assert await keys_written_down(engine) == [key]


async def test_a_restart_from_disk_brings_no_old_value_back(engine: Engine, tmp_path: Path, name: str) -> None:
    """A server that comes back with what it had saved before a clearing is not believed."""
    async with OwnRedis(tmp_path, "--save", "3600 1000000") as server:
        client = create_redis(f"{server.url}?{PATIENT}")
        cache = RedisCache(client, engine)
        source = Source(**{name: 1})
        await cache.get_many(SPACE, [name], source.load)
        await client.execute_command("SAVE")
        source.versions[name] = 2
        await cache.clear([cache_key(SPACE, name)])
        server.kill()
        await client.aclose()  # it would ask once, over a connection that is dead
        await server.start()
        assert orjson.loads(await client.get(f"{SPACE}:{name}") or b"")["version"] == 1, "nothing came back"
        assert versions(await cache.get_many(SPACE, [name], source.load)) == {name: 2}
        await cache.close()


async def test_a_cluster(engine: Engine, tmp_path: Path, name: str) -> None:
    """In a cluster, where no call may touch keys of two slots, everything works as well."""
    async with OwnRedis(tmp_path, "--save", "", "--cluster-enabled", "yes") as server:
        node = create_redis(f"{server.url}?{PATIENT}")
        await node.execute_command("CLUSTER", "ADDSLOTS", *range(16_384))
        async with asyncio.timeout(20):
            info = "CLUSTER", "INFO"
            while b"cluster_state:ok" not in await node.execute_command(*info):  # noqa: ASYNC110 - only it knows
                await asyncio.sleep(0.02)
        await node.aclose()
        url = server.url.replace("redis://", "redis+cluster://")
        cache = RedisCache(create_redis(f"{url}?{PATIENT}"), engine)
        source = Source(**{f"{name}{n}": n for n in range(30)})
        names = [f"{name}{n}" for n in range(31)]
        for _ in range(2):
            assert len(await cache.get_many(SPACE, names, source.load)) == 30
        assert source.loaded == 32
        source.versions = dict.fromkeys(source.versions, 100)
        await cache.clear([cache_key(SPACE, one) for one in names])
        assert set(versions(await cache.get_many(SPACE, names, source.load)).values()) == {100}
        assert await keys_written_down(engine) == []
        await large_values_are_read_a_few_at_a_time(cache, name)
        await cache.close()


async def large_values_are_read_a_few_at_a_time(cache: RedisCache, name: str) -> None:
    """Fill a cache with more than may be read at once, and read it."""
    names = [f"{name} large {n}" for n in range(40)]
    body = orjson.dumps({"version": 1, "x": "a" * 700_000})

    async def load(asked: Sequence[str]) -> Mapping[str, bytes]:
        return dict.fromkeys(asked, body)

    for one in names:
        await cache.get_many(SPACE, [one], load)
    left, rounds = names, 0
    while left:
        found = await cache.get_many(SPACE, left, unused)
        assert found[left[0]] == body
        read = [one for one in left if found[one] is not None]
        assert len(read) * len(body) <= BYTES_AT_ONCE + NAMES_AT_ONCE * len(body)
        left = [one for one in left if found[one] is None]
        rounds += 1
    assert rounds > 1


async def unused(names: Sequence[str]) -> Mapping[str, bytes]:
    """Load nothing: all is there."""
    raise AssertionError(names)


async def test_large_values_are_read_a_few_at_a_time(cache: RedisCache, name: str) -> None:
    """Products at their limit do not come in one piece: the first always comes, the others are asked for again."""
    await large_values_are_read_a_few_at_a_time(cache, name)


# Readers and writers -------------------------------------------------------------------------------------------------
async def until(condition: Callable[[], bool]) -> None:
    """Return when a condition holds; gives up after 30 s."""
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - several tasks change what it asks for
            await asyncio.sleep(0.01)


class Traffic:
    """A writer and readers of product A, each a process of its own with its own cache on one Redis."""

    def __init__(self, engine: Engine, url: str, *, strict: bool) -> None:
        self.caches = [RedisCache(create_redis(url), engine, strict=strict) for _ in range(4)]
        self._workers = [PostgresCatalogue(engine, cache) for cache in self.caches]
        self.answered = 0
        self.reads = 0
        self.done = False

    async def write(self) -> None:
        """Change the product again and again; an answer counts once the cache was cleared for it.

        Every third time the writer dies after its commit: another clears, and answers from the store, a while later.
        """
        writer = self._workers[0]
        await writer.apply(("create_product", {"mnemonic": "A", "overview": "0"}))
        for turn in itertools.count(1):
            (answer,) = await writer.apply(("update_product", {"mnemonic": "A", "overview": str(turn)}))
            cache = self.caches[0]
            if turn % 3 == 0:
                await writer.ask("list_products", {})
                cache = self.caches[1]
            await cache.clear(writer.cache_keys)
            self.answered = answer["data"]["version"]
            if self.done:
                return

    async def read(self, number: int) -> None:
        """Read the product again and again; never anything older than what was answered before the question."""
        while not self.done:
            answered = self.answered
            answer = await self._workers[number].ask("get_product", {"mnemonic": "A"})
            if answered:
                assert answer["data"]["version"] >= answered
            self.reads += 1

    async def until_more(self, reads: int, answers: int = 0) -> None:
        """Return when there were so many more reads and answers."""
        wanted_reads, wanted_answers = self.reads + reads, self.answered + answers
        await until(lambda: self.reads >= wanted_reads and self.answered >= wanted_answers)


@pytest.mark.parametrize("strict", [False, True])
async def test_no_read_is_older_than_an_answer(engine: Engine, tmp_path: Path, *, strict: bool) -> None:
    """Whoever asks after an answer sees what that answer told, or later, though writers die before they clear.

    A strict cache keeps the promise while Redis is killed and restarted, too.
    """
    async with OwnRedis(tmp_path) as server:
        traffic = Traffic(engine, server.url, strict=strict)

        async def trouble() -> None:
            await traffic.until_more(100, 20)
            for _ in range(2 if strict else 0):
                server.kill()
                await traffic.until_more(20, 5)
                await server.start()
                await traffic.until_more(100, 20)
                await traffic.caches[1].clear_recorded()
                await traffic.until_more(100, 20)
            traffic.done = True

        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(traffic.write())
                for number in range(1, 4):
                    group.create_task(traffic.read(number))
                group.create_task(trouble())
        finally:
            for cache in traffic.caches:
                await cache.close()


async def test_a_product_that_the_release_before_put_there(
    engine: Engine, redis: RedisClient, cache: RedisCache
) -> None:
    """It may be younger than the archiving, of which it says nothing: it is not shown, and goes at the next read."""
    mnemonic = f"P_{uuid.uuid4().hex[:20].upper()}"
    asked, key = {"mnemonic": mnemonic}, f"product:mnemonic:{mnemonic}"
    catalogue = PostgresCatalogue(engine, cache)
    await catalogue.apply(("create_product", asked | {"overview": "x", "catalog": {"archived_at": None}}))
    await catalogue.apply(("archive_product", asked))
    first = await catalogue.ask("get_product", asked)
    ours = await redis.get(key)
    assert isinstance(ours, bytes)
    archived = b'"archived_at":' + orjson.dumps(first["data"]["archived_at"]) + b","
    theirs = ours.replace(archived, b"", 1)
    assert len(theirs) == len(ours) - len(archived)
    await redis.set(key, theirs)
    for _ in range(2):  # it is kept again by whoever misses it next
        assert await catalogue.ask("get_product", asked) == first
    assert await redis.get(key) == ours


async def test_a_product_in_the_cache(engine: Engine, redis: RedisClient, cache: RedisCache) -> None:
    """`get_product` by mnemonic is cached as its own data; every kind of change is seen by the next read."""
    mnemonic = f"P_{uuid.uuid4().hex[:20].upper()}"
    catalogue = PostgresCatalogue(engine, cache)
    await catalogue.apply(("create_product", {"mnemonic": mnemonic, "overview": "x", "catalog": {"n": 1}}))
    first = await catalogue.ask("get_product", {"mnemonic": mnemonic})
    kept = orjson.loads(await redis.get(f"product:mnemonic:{mnemonic}") or b"")
    del kept["redis_run"]
    assert kept == first["data"]
    assert await catalogue.ask("get_product", {"mnemonic": mnemonic}) == first
    version: dict[str, object] = {"mnemonic": mnemonic, "version_label": "1"}
    changes: list[tuple[str, dict[str, object]]] = [
        ("update_product", {"mnemonic": mnemonic, "overview": "y"}),
        ("add_product_version", version | {"start_date": "2025-01-01", "items": []}),
        ("end_product_version", version | {"end_date": "2025-02-01"}),
        ("archive_product", {"mnemonic": mnemonic}),
        ("restore_product", {"mnemonic": mnemonic}),
        (
            "set_validation_rules",
            {"mnemonic": mnemonic, "rules": [{"name": "r", "parameters": {}, "start_date": "2025-01-01"}]},
        ),
    ]
    for number, change in enumerate(changes, 2):
        await catalogue.apply(change)
        await cache.clear(catalogue.cache_keys)
        assert (await catalogue.ask("get_product", {"mnemonic": mnemonic}))["data"]["version"] == number
    await catalogue.apply(("delete_product", {"mnemonic": mnemonic}))
    await cache.clear(catalogue.cache_keys)
    assert (await catalogue.ask("get_product", {"mnemonic": mnemonic}))["statusCode"] == 404
