"""A batch is shared by its partitions, and the event loop by all: what is dear makes only its own partition wait."""

import asyncio
from dataclasses import dataclass

import pytest

from workers.pipeline.fair_share import COST_UNIT_S, PIECE_S, FairShare, LoopShare

ROWS: dict[str, tuple[str, dict[str, float], str]] = {
    # The partitions of each message, what each partition's messages cost, the order that follows
    "equal ones take turns": ("aaabbb", {}, "ababab"),
    "the longer one goes on alone": ("aaaab", {}, "abaaa"),
    "a dear one waits until the other has had as much": ("aabbbb", {"a": 4 * COST_UNIT_S, "b": COST_UNIT_S}, "abbbba"),
    "cheap ones are all gone through first": ("aaabbbbbb", {"a": 1.0}, "abbbbbbaa"),
    "three, one of them dear": ("aabbcc", {"b": 1.0}, "abcacb"),
    "a single partition keeps its order": ("aaa", {"a": 9.0}, "aaa"),
    "less than a unit is nothing": ("aabb", {"a": COST_UNIT_S / 10}, "abab"),
}


@pytest.mark.parametrize(("partitions", "costs", "order"), ROWS.values(), ids=ROWS)
def test_who_comes_next(partitions: str, costs: dict[str, float], order: str) -> None:
    """The next message is of the partition that cost least so far, each partition in its own order."""
    messages = [(partition, number) for number, partition in enumerate(partitions)]
    share = FairShare(messages, lambda message: (message[0], 0))
    taken = []
    for message in share:
        taken.append(message)
        share.costs(costs.get(message[0], 0.0))
    assert "".join(partition for partition, _ in taken) == order
    assert sorted(taken, key=lambda message: message[1]) == messages
    for partition in set(partitions):
        own = [number for name, number in taken if name == partition]
        assert own == sorted(own)


@dataclass
class Clock:
    """A clock that a test moves."""

    now: float = 0.0

    def __call__(self) -> float:
        """Tell the time."""
        return self.now


@pytest.mark.parametrize(
    ("pieces_s", "turns"),
    [
        ([PIECE_S * 0.4] * 2, [0, 0]),
        ([PIECE_S * 1.1], [1]),
        ([PIECE_S * 0.6] * 4, [0, 1, 1, 2]),
        ([PIECE_S * 40, 0.0, PIECE_S * 1.1], [1, 1, 2]),
        ([0.0] * 3, [0, 0, 0]),
    ],
)
async def test_the_loop_is_given_back_in_time(pieces_s: list[float], turns: list[int]) -> None:
    """Others run once a step has held the loop for its time, and not before."""
    clock, others, ran = Clock(), 0, []

    def other() -> None:
        nonlocal others
        others += 1
        next_turn.append(asyncio.get_running_loop().call_soon(other))

    next_turn = [asyncio.get_running_loop().call_soon(other)]
    loop = LoopShare(clock)
    for seconds in pieces_s:
        clock.now += seconds
        if loop.is_due():
            await loop.give_back()
        ran.append(others)
    next_turn.pop().cancel()  # or the session's loop would never sleep again
    assert ran == turns
