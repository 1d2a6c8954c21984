"""A query together with the circumstances in which it was asked."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from handlers.context import Context
from handlers.readers import Readers
from handlers.result import Result

Q = TypeVar("Q")


@dataclass(frozen=True, slots=True)
class Asked(Generic[Q]):
    """One delivery of a query."""

    query: Q
    context: Context


QueryUseCase = Callable[[Sequence[Asked[Any]], Readers], Awaitable[Sequence[Result | None]]]
"""Answers queries of one kind, in order: all of them, or some, at least one, where the rest would take long.

Those, which have None or come after the last answer, will be asked again.
"""
