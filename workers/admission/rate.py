"""The step `rate`: how many requests a caller may send, shared by all replicas as long as Redis is there."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Final, NamedTuple, Protocol

from persistence.rate_limits import Charge, Limit, RedisAwayError
from workers.admission.rate_window import MAX_REMEMBERED, LocalWindows

__all__ = ["Charge", "RateLimit", "SharedWindows", "Verdict"]

_PROBE_EVERY_S: Final = 1.0


class Verdict(NamedTuple):
    """Whether a request may go on. Refused, it would pass `retry_after_ms` later, as far as can be said now.

    A caller without limit has `limit` 0.
    """

    allowed: bool
    retry_after_ms: int
    limit: int
    window_s: int


class SharedWindows(Protocol):
    """What all replicas share; `persistence.rate_limits.RedisWindows` is one. All of it raises `RedisAwayError`."""

    @property
    def failures(self) -> int:
        """How often a try failed so far: whoever answers after it may not know what was charged before."""
        ...

    async def judge(self, charges: Sequence[Charge], limits: Sequence[Limit]) -> Sequence[int]:
        """Charge what passes; return for each request after how many ms it would pass, 0 if it does."""
        ...

    async def ping(self) -> None:
        """Return when the server answers."""
        ...

    async def close(self) -> None:
        """Close the connections."""
        ...


class _Rule(NamedTuple):
    limit: Limit
    allowed: Verdict


class RateLimit:
    """Judges a batch's requests: by the shared windows, or by this process's own, with the full limit, without them.

    `overrides` are limits of single callers, named by `sub` or (which comes first) by `Identity.caller`; 0 means
    without limit, and such a caller costs no call. Redis is asked once a batch. When it fails, that batch is judged
    here, and so are the following ones, without waiting for it: it is probed beside them, at most once a second, and
    asked again once it answers. What Redis let pass before counts here; and for a window after a failure a request must
    pass both: what was let pass here is not known there, and what was charged there may be lost with its server.
    `on_fallback` is called for every batch judged here, `on_away` with the reason each time that Redis is lost.
    """

    def __init__(
        self,
        shared: SharedWindows | None,
        *,
        limit: int,
        window_s: int,
        overrides: Mapping[str, int],
        on_fallback: Callable[[], None],
        on_away: Callable[[str], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._shared = shared
        self._local = LocalWindows()
        self._passed = _Passed(window_s, clock)
        self._both_until = float("-inf")
        self._failures = 0
        self._rule = _rule(limit, window_s)
        self._overrides = {caller: _rule(requests, window_s) for caller, requests in overrides.items()}
        self._on_fallback = on_fallback
        self._on_away = on_away
        self._clock = clock
        self._probe_at: float | None = None
        """When Redis is away: the time of the next probe."""
        self._probe: asyncio.Task[None] | None = None

    async def admit(self, requests: Sequence[Charge]) -> Sequence[Verdict]:
        """Judge the requests in their order; what passes is charged. Raises nothing for Redis' sake."""
        rules = [self._rule_of(request.caller) for request in requests]
        verdicts = [rule.allowed for rule in rules]
        limited = [index for index, rule in enumerate(rules) if rule.limit.requests]
        if limited:
            charges, limits = [requests[index] for index in limited], [rules[index].limit for index in limited]
            for index, wait_ms in zip(limited, await self._judge(charges, limits), strict=True):
                if wait_ms:
                    verdicts[index] = verdicts[index]._replace(allowed=False, retry_after_ms=wait_ms)
        return verdicts

    async def close(self) -> None:
        """Stop probing and close the connections."""
        if self._probe is not None:
            self._probe.cancel()
            await asyncio.gather(self._probe, return_exceptions=True)
        if self._shared is not None:
            await self._shared.close()

    def _rule_of(self, caller: str) -> _Rule:
        if not self._overrides:
            return self._rule
        rule = self._overrides.get(caller)
        return rule or self._overrides.get(caller.partition("\n")[2], self._rule)

    async def _judge(self, charges: Sequence[Charge], limits: Sequence[Limit]) -> Sequence[int]:
        shared = self._shared
        if shared is not None and self._is_there(shared):
            try:
                waits = await shared.judge(charges, limits)
            except RedisAwayError as error:
                self._probe_at = self._clock() + _PROBE_EVERY_S
                if self._on_away is not None:
                    self._on_away(str(error))
            else:
                if shared.failures != self._failures:
                    self._doubt(shared.failures)
                return self._judge_both(charges, limits, waits)
        self._on_fallback()
        self._doubt(shared.failures if shared is not None else 0)
        return self._local.judge(charges, limits)

    def _judge_both(self, charges: Sequence[Charge], limits: Sequence[Limit], waits: Sequence[int]) -> Sequence[int]:
        """Remember what Redis let pass; soon after an outage judge that here as well."""
        passed = [(one, limit) for one, limit, wait in zip(charges, limits, waits, strict=True) if not wait]
        if self._clock() >= self._both_until:
            self._passed.note(passed)
            return waits
        own = iter(self._local.judge([one for one, _ in passed], [limit for _, limit in passed]))
        return [wait or next(own) for wait in waits]

    def _doubt(self, failures: int) -> None:
        """Let what Redis has let pass count here, for the length of a window from now."""
        self._failures = failures
        self._both_until = self._clock() + self._rule.allowed.window_s
        for charge, limit in self._passed.take():
            self._local.judge([charge], [limit])

    def _is_there(self, shared: SharedWindows) -> bool:
        """Tell whether Redis answered when it was asked last; see to it that it is asked again."""
        if self._probe_at is None:
            return True
        if self._clock() >= self._probe_at and (self._probe is None or self._probe.done()):
            self._probe = asyncio.create_task(self._try_again(shared))
        return False

    async def _try_again(self, shared: SharedWindows) -> None:
        try:
            await shared.ping()
        except RedisAwayError:
            self._probe_at = self._clock() + _PROBE_EVERY_S
        else:
            self._probe_at = None


class _Passed:
    """What Redis let pass within the length of a window, by this process's clock: kept as it came, a batch a step."""

    def __init__(self, window_s: float, clock: Callable[[], float]) -> None:
        self._window_s = window_s
        self._clock = clock
        self._batches: deque[tuple[float, Sequence[tuple[Charge, Limit]]]] = deque()
        self._count = 0

    def note(self, passed: Sequence[tuple[Charge, Limit]]) -> None:
        """Remember these, and forget what is older than a window, or too much."""
        now = self._clock()
        if passed := [one for one in passed if one[1].requests <= MAX_REMEMBERED]:  # no more are judged here either
            self._batches.append((now, passed))
            self._count += len(passed)
        while self._batches and (self._batches[0][0] < now - self._window_s or self._count > MAX_REMEMBERED):
            self._count -= len(self._batches.popleft()[1])

    def take(self) -> Iterator[tuple[Charge, Limit]]:
        """Give all of them out, and forget them."""
        batches, self._batches, self._count = self._batches, deque(), 0
        return chain.from_iterable(passed for _, passed in batches)


def _rule(requests: int, window_s: int) -> _Rule:
    allowed = Verdict(allowed=True, retry_after_ms=0, limit=requests, window_s=window_s)
    return _Rule(Limit(requests, window_s * 1000), allowed)
