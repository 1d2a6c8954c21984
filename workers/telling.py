"""What a long step is doing: a line that changes on a terminal, lines one after the other in a pipe or a file."""

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from rich.console import Console

SAME_EVERY_S: Final = 2.0
"""In a pipe: how often a text is told again of which only the figures have changed."""

_FIGURES: Final = re.compile(r"\d+")

Say = Callable[[str], None]


@contextmanager
def telling(console: Console, text: str, clock: Callable[[], float] = time.monotonic) -> Iterator[Say]:
    """Say what is being done, and give what says what it is by now; several threads may use it."""
    if console.is_terminal:
        with console.status(text) as status:
            yield status.update
    else:
        lines = _Lines(console, clock)
        lines.say(text)
        yield lines.say


class _Lines:
    """Prints each text once, and one that is the same but for its figures now and then."""

    def __init__(self, console: Console, clock: Callable[[], float]) -> None:
        self._console = console
        self._clock = clock
        self._told_at: dict[str, float] = {}
        self._lock = threading.Lock()

    def say(self, text: str) -> None:
        with self._lock:
            now, form = self._clock(), _FIGURES.sub("0", text)
            if now - self._told_at.get(form, -SAME_EVERY_S) < SAME_EVERY_S:
                return
            self._told_at[form] = now
            self._console.print(text, highlight=False, markup=False, soft_wrap=True)
