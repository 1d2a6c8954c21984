"""How a command ends."""

from enum import IntEnum
from typing import Self


class Exit(IntEnum):
    """Every exit code of `catalog`, each with a sentence; help and guide are made from it."""

    meaning: str

    def __new__(cls, code: int, meaning: str) -> Self:
        """Make a member of its code and what it means."""
        member = int.__new__(cls, code)
        member._value_ = code
        member.meaning = meaning
        return member

    DONE = 0, "What was asked for was done, or found to be in order."
    FAILED = 1, "It could not be done, or something was found wanting; one line on standard error says what."
    USAGE = 2, "The arguments or the settings are wrong; nothing was done."
    WARNED = 3, "It was done, and the answer is a warning."
    INTERRUPTED = 130, "Ctrl-C ended it."
