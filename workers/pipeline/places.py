"""Places for reads that may take long: so many at once, in turns among callers by the time that each has cost.

A caller that asks for two hundred searches is served one after the other, as places are free; who asks for one comes
next, not after them. Who has cost the others least is next: many cheap searches have as much as a few dear ones.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final


@dataclass(slots=True, eq=False)
class _Waiter:
    admitted: asyncio.Future[None]
    alone: bool


@dataclass(slots=True)
class _Caller:
    used_s: float
    queue: deque[_Waiter] = field(default_factory=deque)
    inside: int = 0


@dataclass(slots=True)
class Place:
    """A place that somebody has; to be given back by `Places.leave`."""

    caller: str
    alone: bool
    since: float


class Places:
    """At most `at_once` are inside, or one that has to be alone."""

    def __init__(self, at_once: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.at_once: Final = at_once
        self._clock = clock
        self._callers: dict[str, _Caller] = {}
        self._inside = 0
        self._one_is_alone = False
        self._begun_s = 0.0  # what the caller had used who was let in last: who comes new begins there

    async def enter(self, caller: str, *, alone: bool = False) -> Place:
        """Wait for a place; `alone`, ahead of the caller's others, for all of them."""
        one = self._callers.setdefault(caller, _Caller(self._begun_s))
        waiter = _Waiter(asyncio.get_running_loop().create_future(), alone)
        one.queue.insert(0 if alone else len(one.queue), waiter)
        self._admit()
        try:
            await waiter.admitted
        except asyncio.CancelledError:
            if waiter.admitted.cancelled():
                one.queue.remove(waiter)
                self._forget(caller)
                self._admit()
            else:
                self.leave(Place(caller, alone, self._clock()))
            raise
        return Place(caller, alone, self._clock())

    def leave(self, place: Place) -> None:
        """Give a place back."""
        share = self.at_once if place.alone else 1
        one = self._callers[place.caller]
        one.used_s += (self._clock() - place.since) * share
        one.inside -= 1
        self._inside -= 1
        if place.alone:
            self._one_is_alone = False
        self._forget(place.caller)
        self._admit()

    def _admit(self) -> None:
        while self._inside < self.at_once and not self._one_is_alone:
            waiting = [one for one in self._callers.values() if one.queue]
            if not waiting:
                return
            one = min(waiting, key=lambda one: (one.used_s, one.inside))
            waiter = one.queue[0]
            if waiter.admitted.done():  # cancelled: it takes itself out, and the next one is let in then
                return
            if waiter.alone and self._inside:
                return  # whoever comes later waits, too: it would never be alone
            one.queue.popleft()
            one.inside += 1
            self._inside += 1
            self._one_is_alone = waiter.alone
            self._begun_s = max(self._begun_s, one.used_s)
            waiter.admitted.set_result(None)

    def _forget(self, caller: str) -> None:
        one = self._callers[caller]
        if not one.queue and not one.inside:
            del self._callers[caller]


class Room:
    """Bytes of answers that are under way: whoever has one waits until there is room for it."""

    def __init__(self, at_most: int) -> None:
        self._at_most = at_most
        self._held = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def take(self, size: int) -> None:
        """Wait until so many bytes fit; what is larger than all of it fits when nothing else is there."""
        if not self._waiting and self._fits(size):
            self._held += size
            return
        admitted = asyncio.get_running_loop().create_future()
        self._waiting.append((size, admitted))
        try:
            await admitted
        except asyncio.CancelledError:
            if admitted.cancelled():
                self._waiting.remove((size, admitted))
                self._admit()
            else:
                self.give(size)
            raise

    def give(self, size: int) -> None:
        """Give so many bytes back."""
        self._held -= size
        self._admit()

    def _fits(self, size: int) -> bool:
        return not self._held or self._held + size <= self._at_most

    def _admit(self) -> None:
        while self._waiting and self._fits(self._waiting[0][0]):
            size, admitted = self._waiting[0]
            if admitted.done():  # cancelled: as above
                return
            self._waiting.popleft()
            self._held += size
            admitted.set_result(None)
