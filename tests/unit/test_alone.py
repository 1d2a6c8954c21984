"""Tests that run alone, however many processes run tests."""

import fcntl
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Final

import pytest

from tests.alone import ALONE, last, turn

PATIENCE_S: Final = 30.0


class Process:
    """A thread in the place of a process: locks belong to whoever opened the file."""

    def __init__(self, folder: Path, *, alone: bool, on_turn: Callable[[], None] = lambda: None) -> None:
        self.has_turn, self.go_on = threading.Event(), threading.Event()

        def run() -> None:
            with turn(folder, alone=alone):
                on_turn()
                self.has_turn.set()
                assert self.go_on.wait(PATIENCE_S)

        self.thread = threading.Thread(target=run, daemon=True)
        self.thread.start()

    def end(self) -> None:
        """Let it end, and wait until it has."""
        self.go_on.set()
        self.thread.join(PATIENCE_S)
        assert not self.thread.is_alive()


def test_others_run_side_by_side(tmp_path: Path) -> None:
    """Who need not be alone waits for nobody."""
    several = [Process(tmp_path, alone=False) for _ in range(3)]
    assert all(one.has_turn.wait(PATIENCE_S) for one in several)
    for one in several:
        one.end()


def test_who_is_alone_is_alone(tmp_path: Path) -> None:
    """It begins when all who were at it have ended; who comes after it, also while it waits, begins when it has."""
    order: list[str] = []
    first = [Process(tmp_path, alone=False) for _ in range(2)]
    assert all(one.has_turn.wait(PATIENCE_S) for one in first)
    lonely = Process(tmp_path, alone=True, on_turn=lambda: order.append("alone"))
    while not _is_held(tmp_path / "door.lock"):
        lonely.has_turn.wait(0.01)
    late = Process(tmp_path, alone=False, on_turn=lambda: order.append("late"))
    first[0].end()
    assert not lonely.has_turn.is_set()
    first[1].end()
    assert lonely.has_turn.wait(PATIENCE_S)
    assert not late.has_turn.is_set()
    lonely.end()
    assert late.has_turn.wait(PATIENCE_S)
    late.end()
    assert order == ["alone", "late"]


def _is_held(path: Path) -> bool:
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def test_they_come_last() -> None:
    """The order of all others is as it was."""
    items = [SimpleNamespace(name=name, get_closest_marker={ALONE: name.isupper() or None}.get) for name in "aBcDe"]
    last(items)  # type: ignore[arg-type]
    assert "".join(item.name for item in items) == "aceBD"


@pytest.mark.parametrize("alone", [False, True])
def test_a_test_that_fails_gives_its_turn_back(tmp_path: Path, *, alone: bool) -> None:
    """Whatever becomes of a test, the next one has its turn."""
    with pytest.raises(LookupError), turn(tmp_path, alone=alone):
        raise LookupError
    with turn(tmp_path, alone=True):
        pass
