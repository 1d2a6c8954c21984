"""Equal queries of a batch are read once; what only looks equal is not."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from contracts.envelope import retrieved
from contracts.products import ListProducts, ValidateProductData
from handlers.context import Context
from handlers.queries.asked import Asked
from handlers.queries.equal import once
from handlers.queries.products import day_of
from handlers.readers import Readers
from handlers.result import Result, Success

READERS = cast("Readers", None)


def asked(query: object, day: int = 1, caller: str = "ada") -> Asked[Any]:
    """Make a query, as it was asked on a day of January."""
    return Asked(query, Context(datetime(2026, 1, day, tzinfo=UTC), lambda: "", caller))


class Reading:
    """Answers what it is asked, at most so many at once, and notes that."""

    def __init__(self, at_most: int = 100) -> None:
        self.at_most = at_most
        self.met: list[Sequence[object]] = []

    async def __call__(self, asked: Sequence[Asked[Any]], _: Readers) -> Sequence[Result]:
        """Answer."""
        self.met.append([one.query for one in asked])
        return [Success(retrieved("it", one.query)) for one in asked[: self.at_most]]


def data(value: object, on_date: str | None = None) -> ValidateProductData:
    """Make a query for a check of data."""
    day = {"on_date": on_date} if on_date else {}
    return ValidateProductData.model_validate({"mnemonic": "A", "data": {"a": value}} | day, strict=False)


async def test_equal_ones_are_read_once() -> None:
    """Whoever asked, and however often: each has the same result, in its place."""
    reading = Reading()
    one, two = ListProducts(page=1), ListProducts(page=2)
    results = await once(reading)([asked(one), asked(two, caller="eve"), asked(ListProducts(page=1), 2)], READERS)
    assert reading.met == [[one, two]]
    assert results[0] is results[2]
    assert [result.value.data for result in results if isinstance(result, Success)] == [one, two, one]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (ListProducts(page=1), ListProducts(page=2)),
        (ListProducts(), ListProducts(category="None")),
        (data(1), data(True)),
        (data(1), data(1.0)),
        (data(0.1), data(0.10000000000000002)),
        (data("1"), data(1)),
        (data([]), data({})),
    ],
)
async def test_what_only_looks_equal(one: object, other: object) -> None:
    """Values of other types, or written otherwise, are another query."""
    reading = Reading()
    await once(reading)([asked(one), asked(other)], READERS)
    assert reading.met == [[one, other]]


async def test_the_context_counts_where_it_is_read() -> None:
    """Data are checked on the day of the question, unless it names one."""
    reading = Reading()
    check = once(reading, day_of)
    await check([asked(data(1), 1), asked(data(1), 2), asked(data(1), 1)], READERS)
    await check([asked(data(1, "2026-01-01"), 1), asked(data(1, "2026-01-01"), 2)], READERS)
    assert list(map(len, reading.met)) == [2, 1]


@pytest.mark.parametrize("at_most", [1, 2, 3])
async def test_all_that_equal_what_was_read_are_answered(at_most: int) -> None:
    """Where only the first ones are read, whatever equals them is answered, wherever it stands, and nothing else."""
    pages = (1, 1, 2, 1, 2, 3)
    queries = [ListProducts(page=page) for page in pages]
    results = await once(Reading(at_most))([asked(one) for one in queries], READERS)
    answered = [result.value.data if isinstance(result, Success) else None for result in results]
    assert answered == [query if query.page <= at_most else None for query in queries]
