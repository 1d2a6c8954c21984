"""The use cases of queries: which function serves which kind.

A query's use case gets several queries of its kind, so that one statement can answer them; what cannot be shared is
wrapped by `each`. Answers come in the order of the questions.
"""

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from handlers.context import Context
from handlers.queries import backfills, customers, orders, outcomes, products, summaries
from handlers.queries.asked import Asked, QueryUseCase
from handlers.queries.equal import once
from handlers.readers import Readers
from handlers.result import Result

EACH_FOR_S: Final = 0.2
EACH_AT_ONCE: Final = 8
"""How long queries are answered one after the other, and how many, before others have their turn."""


def each(answer: Callable[[Any, Readers, Context], Awaitable[Result]]) -> QueryUseCase:
    """Serve a kind one query at a time: the first ones, as far as that does not take long."""

    async def answer_first(asked: Sequence[Asked[Any]], readers: Readers) -> Sequence[Result]:
        began_at = time.monotonic()
        answers: list[Result] = []
        for one in asked[:EACH_AT_ONCE]:
            try:
                answers.append(await answer(one.query, readers, one.context))
            except Exception:
                if not answers:
                    raise
                break  # it meets the same when it is the first one
            if time.monotonic() - began_at > EACH_FOR_S:
                break
        return answers

    return answer_first


QUERIES: Mapping[str, QueryUseCase] = {
    "get_customer": customers.get_customers,
    "search_customers": once(customers.search_customers),
    "get_customer_orders": once(each(orders.get_customer_orders)),
    "get_customer_summary": summaries.get_customer_summaries,
    "customer_analytics": summaries.get_customer_analytics,
    "get_order": orders.get_orders,
    "get_product": products.get_products,
    "list_products": once(products.list_products),
    "search_products": once(products.search_products),
    "find_products_for_date_range": once(products.find_products_for_date_range),
    "validate_product_data": once(products.validate_product_data, products.day_of),
    "get_backfill": once(each(backfills.get_backfill)),
    "list_backfills": once(each(backfills.list_backfills)),
    "get_outcome": outcomes.get_outcomes,
}

LOOK_UPS: Final = frozenset(
    {"get_customer", "get_customer_summary", "get_order", "get_product", "get_backfill", "get_outcome"}
)
"""Look-ups by key: they never wait for the other kinds, which may take long."""

AT_ONCE: Final[Mapping[str, int]] = {
    "get_customer": 250,
    "get_customer_summary": 500,
    "get_order": 250,
    "get_product": 32,
    "get_outcome": 32,
    "customer_analytics": 500,
    "search_customers": 250,
    "list_products": 250,
    "search_products": 250,
    "find_products_for_date_range": 250,
    "get_customer_orders": 32,
    "validate_product_data": 32,
    "get_backfill": 32,
    "list_backfills": 250,
}
"""How many queries of a kind are handed to its use case together, 1 where not named. Where it is few, the largest
answers of so many are some 30 MiB; what is loaded of the others is bounded by their bytes besides, or by the time that
it takes: then the first ones are answered."""

_SMALLER_PAGE: Final = "a smaller page, or the next page by its next_cursor"
INSTEAD: Final[Mapping[str, str]] = {
    "search_customers": "three or more letters in a row, one filter less, or get_customer by its id",
    "search_products": "three or more characters in a row, or get_product by its mnemonic",
    "list_products": _SMALLER_PAGE,
    "find_products_for_date_range": f"a shorter range, {_SMALLER_PAGE}",
    "get_customer_orders": f"{_SMALLER_PAGE}, or get_order by its id",
    "validate_product_data": "less data at a time",
}
"""What to ask for instead of a query that takes too long."""
ELSE_LATER: Final = "the same again later"
