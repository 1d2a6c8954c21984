"""Tables on standard output, in which no id and no name is ever cut or broken: the next command needs them whole.

On a terminal texts are wrapped between words, as far as that makes the table fit; what is still wider, the terminal
wraps by itself. In a pipe or a file nothing is wrapped.
"""

from collections.abc import Sequence
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

_PADDING: Final = 2  # of a column, both sides


def print_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[str | Text]],
    *,
    title: str | None = None,
    caption: str | None = None,
    console: Console | None = None,
) -> None:
    """Print rows under their columns' names. A cell is a text as it is, without markup."""
    console = console or Console(highlight=False)
    cells = [[one if isinstance(one, Text) else Text(one) for one in row] for row in rows]
    widths = [
        _Width(name, [row[number] for row in cells]).between(console.is_terminal) for number, name in enumerate(columns)
    ]
    fitted = _fitted(widths, console.width - _PADDING * len(columns))
    table = Table(title=title, caption=caption, box=None, title_justify="left", caption_justify="left")
    for name, width in zip(columns, fitted, strict=True):
        table.add_column(name, width=width)
    for row in cells:
        table.add_row(*row)
    before = console.width
    console.width = max(before, sum(fitted) + _PADDING * len(columns), len(title or ""), len(caption or ""))
    try:
        console.print(table)
    finally:
        console.width = before


class _Width:
    """How wide a column may be: at least its longest word, at most its longest text."""

    def __init__(self, name: str, cells: Sequence[Text]) -> None:
        texts = [Text(name), *cells]
        self._longest = max(text.cell_len for text in texts)
        self._longest_word = max((Text(word).cell_len for text in texts for word in text.plain.split()), default=1)

    def between(self, may_wrap: bool) -> tuple[int, int]:  # noqa: FBT001
        """Return both bounds."""
        return (self._longest_word if may_wrap else self._longest), self._longest


def _fitted(widths: Sequence[tuple[int, int]], room: int) -> list[int]:
    """Take from the widest columns what is too much, none below its least."""
    fitted = [most for _, most in widths]
    while (excess := sum(fitted) - room) > 0:
        shrinkable = [number for number, (least, _) in enumerate(widths) if fitted[number] > least]
        if not shrinkable:
            break
        widest = max(shrinkable, key=lambda number: fitted[number])
        others = max((fitted[number] for number in shrinkable if number != widest), default=0)
        least = max(widths[widest][0], min(others, fitted[widest] - 1))
        fitted[widest] = max(least, fitted[widest] - excess)
    return fitted
