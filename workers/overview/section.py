"""A part of a picture that is read by itself: with its own time, and its own reason where it could not be read."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Generic, TypeVar

from workers.attendance import mended_by_operator

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Section(Generic[T]):
    """What was read, when, and where it could not be read, why: then `value` is None."""

    taken_at: datetime
    value: T | None
    missing: str | None = None

    def age_s(self, now: datetime) -> float:
        """Return how many seconds ago it was read."""
        return max(0.0, (now - self.taken_at).total_seconds())


async def read_section(work: Callable[[], Awaitable[T]], *, within_s: float) -> Section[T]:
    """Read a section; a server that does not answer, or refuses, is its reason. Raises what is a defect of ours."""
    try:
        async with asyncio.timeout(within_s):
            value = await work()
    except TimeoutError:
        return Section(_now(), None, f"no answer within {within_s:g} s")
    except Exception as error:
        told = mended_by_operator(error)
        if told is None:
            raise
        return Section(_now(), None, str(told))
    return Section(_now(), value)


def _now() -> datetime:
    return datetime.now(UTC)
