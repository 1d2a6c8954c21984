"""Who comes next: the event loop is shared with all else that a worker does, a batch is shared by its partitions."""

import asyncio
import heapq
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Final, Generic, TypeVar

from workers.ports import Position

PIECE_S: Final = 0.025
"""How long a step holds the event loop before it gives it back: with a last message that is dear, 50 ms. Meanwhile no
heartbeat goes out, no other lane works, and nobody is told that the worker lives."""
COST_UNIT_S: Final = 0.005
"""Costs of partitions that differ by less are equal, so that ordinary messages take turns one by one."""

T = TypeVar("T")


class LoopShare:
    """Gives the event loop back in time, within one step of a batch."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._since = clock()

    def is_due(self) -> bool:
        """Say whether this step has held the loop for its time; to be asked after each message."""
        return self._clock() - self._since >= PIECE_S

    async def give_back(self) -> None:
        """Let others run."""
        await asyncio.sleep(0)
        self._since = self._clock()


class FairShare(Generic[T]):
    """Goes through the messages of several partitions: the next one is of the partition that has cost least so far.

    Each partition's own order is kept. What is dear makes only its own partition wait, and those that cost the same
    take turns. Whoever goes through them says what each has cost.
    """

    def __init__(self, messages: Iterable[T], partition_of: Callable[[T], Position]) -> None:
        queues: dict[Position, deque[T]] = {}
        for message in messages:
            partition = partition_of(message)
            queue = queues.get(partition)
            if queue is None:
                queue = queues[partition] = deque()
            queue.append(message)
        self._queues = list(queues.values())
        self._cost_s = 0.0

    def __iter__(self) -> Iterator[T]:
        """Go through all of them: in rounds, until one has cost more than the others."""
        queues, taken, is_any_dear = self._queues, 0, False
        costs_s = [0.0] * len(queues)
        waiting = list(range(len(queues)))
        while len(waiting) > 1 and not is_any_dear:
            taken += 1
            for number in waiting:
                self._cost_s = costs_s[number]
                yield queues[number].popleft()
                costs_s[number] = self._cost_s
                if self._cost_s >= COST_UNIT_S:
                    is_any_dear = True
            waiting = [number for number in waiting if queues[number]]
        # Cost in units, messages taken, number of the queue, cost in seconds
        turns = [(int(costs_s[number] / COST_UNIT_S), taken, number, costs_s[number]) for number in waiting]
        heapq.heapify(turns)
        while len(turns) > 1:
            _, taken, number, self._cost_s = turns[0]
            queue = queues[number]
            yield queue.popleft()
            if queue:
                heapq.heapreplace(turns, (int(self._cost_s / COST_UNIT_S), taken + 1, number, self._cost_s))
            else:
                heapq.heappop(turns)
        for _, _, number, self._cost_s in turns:
            yield from queues[number]

    def costs(self, seconds: float) -> None:
        """Say what the message that was taken last has cost."""
        self._cost_s += seconds
