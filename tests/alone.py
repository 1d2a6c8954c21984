"""Tests that measure what they cost run beside no other test, in however many processes the session runs its tests."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ALONE = "alone"
"""The marker of such a test."""


def last(items: list[pytest.Item]) -> None:
    """Put the tests that run alone at the end: there hardly anybody has to wait for them."""
    items.sort(key=lambda item: item.get_closest_marker(ALONE) is not None)


@contextmanager
def turn(folder: Path, *, alone: bool) -> Iterator[None]:
    """Wait for a turn among the processes that share this folder; who ends in the middle of it holds nobody up.

    Who wants to be alone lets nobody begin any more, and begins when those who are at it have ended.
    """
    with (folder / "door.lock").open("a") as door, (folder / "room.lock").open("a") as room:
        fcntl.flock(door, fcntl.LOCK_EX)
        fcntl.flock(room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(door, fcntl.LOCK_UN)
        try:
            yield
        finally:
            fcntl.flock(room, fcntl.LOCK_UN)  # a process that was started meanwhile may have it open, too
