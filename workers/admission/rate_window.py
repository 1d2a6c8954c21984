"""The sliding window in this process: what limits callers while Redis is away.

It decides by the same law as `persistence.rate_limits`, where the law is written down.
"""

from bisect import bisect_left, bisect_right, insort
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from persistence.rate_limits import KEEP_MS, Charge, Limit

Position = tuple[str, int, int]
"""Topic, partition, offset."""

MAX_REMEMBERED: Final = 200_000
"""Requests remembered in all, some 50 MB; the callers asked least recently are forgotten first."""


class SlidingWindow:
    """The accepted requests of one caller. `limit` must not change between calls."""

    def __init__(self) -> None:
        self._accepted: list[tuple[int, Position]] = []
        self._times: list[int] = []
        self._charged: set[tuple[int, Position]] = set()
        self._blocked = (0, 0)
        """From a refused request's time until it would pass; known until something is accepted."""

    def __len__(self) -> int:
        """Tell how many requests are remembered."""
        return len(self._times)

    def charge(self, stamped_at_ms: int, position: Position, limit: Limit) -> int:
        """Charge a request if it passes; return after how many ms it would pass, 0 if it does."""
        newest = self._times[-1] if self._times else stamped_at_ms
        request = (stamped_at_ms, position)
        if stamped_at_ms < newest - KEEP_MS or request in self._charged:
            return 0
        passes_at = self._passes_at(stamped_at_ms, limit)
        if passes_at > stamped_at_ms:
            self._blocked = (stamped_at_ms, passes_at)
            return passes_at - stamped_at_ms
        self._blocked = (0, 0)
        insort(self._times, stamped_at_ms)
        insort(self._accepted, request)
        self._charged.add(request)
        self.forget(bisect_right(self._times, self._times[-1] - KEEP_MS - limit.window_ms))
        return 0

    def forget(self, oldest: int) -> None:
        """Forget so many of the oldest requests."""
        if oldest:
            self._charged.difference_update(self._accepted[:oldest])
            del self._accepted[:oldest]
            del self._times[:oldest]

    def _passes_at(self, stamped_at_ms: int, limit: Limit) -> int:
        """Tell when a request of that time would pass: that time, if it passes now."""
        times, window_ms = self._times, limit.window_ms
        blocked_from, blocked_until = self._blocked
        at = stamped_at_ms
        while not blocked_from <= at < blocked_until:
            first = bisect_right(times, at - window_ms)
            last = bisect_left(times, at + window_ms) - limit.requests
            for index in range(last, first - 1, -1):
                if times[index + limit.requests - 1] - times[index] < window_ms:
                    at = times[index] + window_ms
                    break
            else:
                return at
        return blocked_until


class LocalWindows:
    """The windows of all callers that this process limits by itself."""

    def __init__(self, max_remembered: int = MAX_REMEMBERED) -> None:
        self._windows: OrderedDict[str, SlidingWindow] = OrderedDict()
        self._max_remembered = max_remembered
        self._remembered = 0

    def judge(self, charges: Sequence[Charge], limits: Sequence[Limit]) -> Sequence[int]:
        """Charge what passes; return for each request after how many ms it would pass, 0 if it does."""
        return [self._charge(charge, limit) for charge, limit in zip(charges, limits, strict=True)]

    def _charge(self, charge: Charge, limit: Limit) -> int:
        window = self._windows.get(charge.caller)
        if window is None:
            window = self._windows[charge.caller] = SlidingWindow()
        self._windows.move_to_end(charge.caller)
        before = len(window)
        wait_ms = window.charge(charge.stamped_at_ms, (charge.topic, charge.partition, charge.offset), limit)
        self._remembered += len(window) - before
        while self._remembered > self._max_remembered:
            self._forget_some()
        return wait_ms

    def _forget_some(self) -> None:
        """Forget the caller asked least recently, or the older half of the only one."""
        if len(self._windows) > 1:
            _, forgotten = self._windows.popitem(last=False)
            self._remembered -= len(forgotten)
        else:
            (window,) = self._windows.values()
            half = (len(window) + 1) // 2
            window.forget(half)
            self._remembered -= half
