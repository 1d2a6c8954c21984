"""What an examination finds."""

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How bad it is: `failing` breaks a promise, or will; `warning` may be meant."""

    OK = "ok"
    WARNING = "warning"
    FAILING = "failing"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at, and what to do where it is not as it should be."""

    about: str
    level: Level
    text: str
    remedy: str = ""


def ok(about: str, text: str) -> Finding:
    """All is well."""
    return Finding(about, Level.OK, text)


def warning(about: str, text: str, remedy: str = "") -> Finding:
    """It may be meant."""
    return Finding(about, Level.WARNING, text, remedy)


def failing(about: str, text: str, remedy: str = "") -> Finding:
    """It must not stay so."""
    return Finding(about, Level.FAILING, text, remedy)
