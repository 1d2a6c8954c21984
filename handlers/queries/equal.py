"""Equal queries that are answered together, read once: each still gets an answer of its own."""

from collections.abc import Callable, Sequence
from typing import Any

from handlers.queries.asked import Asked, QueryUseCase
from handlers.readers import Readers
from handlers.result import Result


def once(answer: QueryUseCase, circumstances: Callable[[Asked[Any]], object] = lambda _: None) -> QueryUseCase:
    """Have a use case meet each query once, and give its result to all that equal it.

    Equal are those of the same payload, value by value and type by type (1 is not 1.0), where `circumstances` says the
    same of both: whatever else of the context the use case reads.
    """

    async def answer_all(asked: Sequence[Asked[Any]], readers: Readers) -> Sequence[Result | None]:
        firsts: dict[object, int] = {}
        places: list[int] = []
        different: list[Asked[Any]] = []
        for one in asked:
            key = repr(one.query), circumstances(one)
            if key not in firsts:
                firsts[key] = len(different)
                different.append(one)
            places.append(firsts[key])
        results = await answer(different, readers)
        return [results[place] if place < len(results) else None for place in places]

    return answer_all
