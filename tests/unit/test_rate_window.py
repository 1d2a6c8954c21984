"""The rate limit's law in this process, and the policy around it: whose limit, whose windows, a Redis that is away."""

import asyncio
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from persistence.rate_limits import KEEP_MS, Charge, Limit, RedisAwayError
from workers.admission.rate import RateLimit, Verdict
from workers.admission.rate_window import LocalWindows, SlidingWindow

NOW_MS = 1_800_000_000_000


def fullest(times: Sequence[int], t: int, window_ms: int) -> int:
    """Count, by the definition: how many of the times does the fullest half-open window that contains t hold?"""
    starts = [start for start in (*times, t) if start <= t < start + window_ms]
    return max((sum(start <= time < start + window_ms for time in times) for start in starts), default=0)


@given(
    st.integers(1, 4),
    st.integers(1, 20),
    st.lists(st.integers(0, 60), max_size=40),
)
def test_decides_by_the_definition(limit: int, window_ms: int, times: list[int]) -> None:
    """In whatever order requests come, one passes exactly if no window around it overflows; else its wait is exact."""
    window = SlidingWindow()
    accepted: list[int] = []
    for offset, t in enumerate(times):
        wait_ms = window.charge(t, ("t", 0, offset), Limit(limit, window_ms))
        first_free = next(later for later in range(t, 200) if fullest([*accepted, later], later, window_ms) <= limit)
        assert wait_ms == first_free - t
        if not wait_ms:
            accepted.append(t)
    assert len(window) == len(accepted)


def test_two_requests_a_window_apart_never_share_one() -> None:
    """A request exactly one window after the first of a full window passes; a millisecond earlier it waits."""
    window, limit = SlidingWindow(), Limit(2, 1000)
    assert [window.charge(t, ("t", 0, t), limit) for t in (0, 10, 999, 1000)] == [0, 0, 1, 0]


def test_what_came_later_counts() -> None:
    """A lagging partition's request is refused for a full window that begins with it, and told when that has passed."""
    window, limit = SlidingWindow(), Limit(2, 1000)
    assert [window.charge(t, ("t", 0, t), limit) for t in (5000, 5400)] == [0, 0]
    assert window.charge(4401, ("t", 1, 0), limit) == 6000 - 4401
    assert window.charge(4400, ("t", 1, 1), limit) == 0


def test_a_redelivery_passes_again() -> None:
    """A log position that was charged passes as often as it comes, charged once, also when the window is full."""
    window, limit = SlidingWindow(), Limit(1, 1000)
    assert window.charge(0, ("t", 0, 0), limit) == 0
    assert window.charge(0, ("t", 0, 0), limit) == 0
    assert window.charge(0, ("t", 0, 1), limit) == 1000
    assert window.charge(0, ("t", 0, 1), limit) == 1000
    assert len(window) == 1


def test_a_position_used_again_is_another_request() -> None:
    """A topic made anew begins at the offsets of the one before: its requests are charged, and refused, like any."""
    window, limit = SlidingWindow(), Limit(2, 1000)
    assert [window.charge(t, ("t", 0, n), limit) for n, t in enumerate((0, 10))] == [0, 0]
    assert [window.charge(t, ("t", 0, n), limit) for n, t in enumerate((20, 30))] == [980, 970]
    assert [window.charge(t, ("t", 0, n), limit) for n, t in enumerate((1000, 1010, 1011))] == [0, 0, 989]
    assert [window.charge(t, ("t", 0, n), limit) for n, t in enumerate((0, 10))] == [0, 0]
    assert len(window) == 4


def test_an_hour_is_remembered() -> None:
    """What is more than an hour (and a window) older than the newest is forgotten; what comes from there passes."""
    window, limit = SlidingWindow(), Limit(1, 1000)
    assert window.charge(NOW_MS, ("t", 0, 0), limit) == 0
    assert window.charge(NOW_MS + KEEP_MS, ("t", 0, 1), limit) == 0
    assert window.charge(NOW_MS + 1, ("t", 1, 0), limit) == 999
    assert window.charge(NOW_MS + KEEP_MS + 1000, ("t", 0, 2), limit) == 0
    assert len(window) == 2
    assert [window.charge(NOW_MS, ("t", 1, n), limit) for n in range(3)] == [0, 0, 0]
    assert len(window) == 2


def test_a_flood_costs_little() -> None:
    """Refused requests are not remembered, and a hundred thousand of them are judged in a moment."""
    window, limit = SlidingWindow(), Limit(100, 60_000)
    waits = [window.charge(NOW_MS + n // 100, ("t", 0, n), limit) for n in range(100_000)]
    assert waits.count(0) == len(window) == 100
    assert waits[-1] == 60_000 - 999


def test_memory_is_bounded() -> None:
    """The callers asked least recently are forgotten first; a single one forgets its older half."""
    windows, limit = LocalWindows(max_remembered=10), Limit(100, 60_000)

    def ask(caller: str, offset: int) -> None:
        assert windows.judge([Charge(caller, NOW_MS + offset, "t", 0, offset)], [limit]) == [0]

    for offset in range(4):
        for caller in "ab":
            ask(caller, offset)
    ask("a", 4)
    ask("c", 0)
    assert list(windows._windows) == ["b", "a", "c"]
    ask("c", 1)
    assert {caller: len(window) for caller, window in windows._windows.items()} == {"a": 5, "c": 2}
    for offset in range(2, 40):
        ask("c", offset)
    assert list(windows._windows) == ["c"]
    assert windows._remembered == len(windows._windows["c"]) <= 10


class Shared:
    """Shared windows that answer, or do not, as the test says."""

    def __init__(self) -> None:
        self.is_there = True
        self.asked: list[list[str]] = []
        self.pings = 0
        self.failures = 0
        self.closed = False
        self.waits: dict[str, int] = {}

    async def judge(self, charges: Sequence[Charge], limits: Sequence[Limit]) -> Sequence[int]:
        """Answer what the test wants."""
        self.asked.append([charge.caller for charge in charges])
        if not self.is_there:
            raise RedisAwayError("gone")
        return [self.waits.get(charge.caller, 0) for charge in charges]

    async def ping(self) -> None:
        """Answer if it is there."""
        self.pings += 1
        if not self.is_there:
            raise RedisAwayError("gone")

    async def close(self) -> None:
        """Note it."""
        self.closed = True


class Policy:
    """A rate limit with all that it touches in the test's hands."""

    def __init__(self, shared: Shared | None, overrides: dict[str, int] | None = None, limit: int = 2) -> None:
        self.now = 0.0
        self.fallbacks = 0
        self.reasons: list[str] = []
        self.offset = 0
        self.limit = RateLimit(
            shared,
            limit=limit,
            window_s=60,
            overrides=overrides or {},
            on_fallback=self.count,
            on_away=self.reasons.append,
            clock=lambda: self.now,
        )

    def count(self) -> None:
        """Count a batch judged without Redis."""
        self.fallbacks += 1

    async def ask(self, *callers: str) -> list[bool]:
        """Send a batch of one request for each name; tell which were allowed."""
        return [verdict.allowed for verdict in await self.verdicts(*callers)]

    async def verdicts(self, *callers: str) -> Sequence[Verdict]:
        """Send a batch of one request for each name."""
        self.offset += 1
        return await self.limit.admit(
            [Charge(f"https://id\n{name}", NOW_MS, "t", n, self.offset) for n, name in enumerate(callers)]
        )


async def until(condition: Callable[[], bool]) -> None:
    """Let other tasks run until something holds, at most a thousand turns."""
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0)
    pytest.fail("it never came true")


async def test_verdicts_say_limit_and_wait() -> None:
    """Each verdict carries the caller's limit and window, and a refusal after how long it would pass."""
    shared = Shared()
    shared.waits["https://id\nbob"] = 1500
    policy = Policy(shared, {"carol": 7})
    assert await policy.verdicts("alice", "bob", "carol") == [
        Verdict(allowed=True, retry_after_ms=0, limit=2, window_s=60),
        Verdict(allowed=False, retry_after_ms=1500, limit=2, window_s=60),
        Verdict(allowed=True, retry_after_ms=0, limit=7, window_s=60),
    ]


async def test_unlimited_callers_cost_nothing() -> None:
    """A caller without limit is not sent to Redis; a batch of such callers alone sends nothing at all."""
    shared = Shared()
    policy = Policy(shared, {"free": 0, "https://id\nbob": 0, "bob": 1})
    assert await policy.ask("free", "alice", "free", "bob") == [True] * 4
    assert shared.asked == [["https://id\nalice"]]
    assert (await policy.verdicts("free"))[0].limit == 0
    assert await policy.ask() == []
    assert len(shared.asked) == 1


async def test_without_redis_the_full_limit_is_applied_here() -> None:
    """Where no Redis is set, or it is away, this process limits each caller by itself, and says so for each batch."""
    for policy in (Policy(None), Policy(shared := Shared())):
        shared.is_there = False
        assert await policy.ask("alice", "alice", "alice", "bob") == [True, True, False, True]
        assert await policy.ask("alice", "bob", "bob") == [False, True, False]
        assert policy.fallbacks == 2


async def test_a_dead_redis_holds_up_one_batch() -> None:
    """After a failure no batch waits for Redis: it is probed beside them once a second, and used once it answers."""
    shared = Shared()
    policy = Policy(shared, limit=100)
    shared.is_there = False
    for _ in range(3):
        await policy.ask("alice")
    assert (len(shared.asked), shared.pings, policy.reasons) == (1, 0, ["gone"])
    policy.now += 1
    for _ in range(3):
        await policy.ask("alice")
    await until(lambda: shared.pings == 1)
    assert len(shared.asked) == 1
    shared.is_there = True
    await policy.ask("alice")
    assert shared.pings == 1
    policy.now += 1
    await policy.ask("alice")
    await until(lambda: shared.pings == 2)
    assert policy.fallbacks == 8
    await policy.ask("alice")
    assert len(shared.asked) == 2
    assert policy.fallbacks == 8
    await policy.limit.close()
    assert shared.closed


async def test_closing_ends_the_probe() -> None:
    """A probe that hangs when the worker ends is ended with it."""
    shared = Shared()
    policy = Policy(shared)
    shared.is_there = False
    await policy.ask("alice")
    policy.now += 1
    hanging = asyncio.Event()

    async def ping() -> None:
        hanging.set()
        await asyncio.Event().wait()

    shared.ping = ping  # type: ignore[method-assign]  # this once it neither answers nor fails
    await policy.ask("alice")
    await asyncio.wait_for(hanging.wait(), 5)
    await asyncio.wait_for(policy.limit.close(), 5)
    assert shared.closed
