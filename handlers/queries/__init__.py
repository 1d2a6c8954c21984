"""The use cases of queries: which function serves which kind.

A query's use case gets all queries of its kind in the batch, so that one statement can answer them; what cannot be
shared is wrapped by `each`. Answers come in the order of the questions.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from handlers.context import Context
from handlers.queries import backfills, customers, orders, outcomes, products, summaries
from handlers.queries.asked import Asked, QueryUseCase
from handlers.readers import Readers
from handlers.result import Result

CONCURRENT: Final = 8
"""How many queries of one kind a batch runs at once: below the size of any sensible pool."""


def each(answer: Callable[[Any, Readers, Context], Awaitable[Result]]) -> QueryUseCase:
    """Serve a kind one query at a time, several at once; one that raises does not harm the others."""

    async def answer_all(asked: Sequence[Asked[Any]], readers: Readers) -> Sequence[Result | Exception]:
        places = asyncio.Semaphore(CONCURRENT)

        async def answer_one(one: Asked[Any]) -> Result:
            async with places:
                return await answer(one.query, readers, one.context)

        results = await asyncio.gather(*map(answer_one, asked), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException) and not isinstance(result, Exception):
                raise result
        return [result for result in results if not isinstance(result, BaseException) or isinstance(result, Exception)]

    return answer_all


QUERIES: Mapping[str, QueryUseCase] = {
    "get_customer": customers.get_customers,
    "search_customers": each(customers.search_customers),
    "get_customer_orders": each(orders.get_customer_orders),
    "get_customer_summary": summaries.get_customer_summaries,
    "customer_analytics": summaries.get_customer_analytics,
    "get_order": orders.get_orders,
    "get_product": products.get_products,
    "list_products": each(products.list_products),
    "search_products": each(products.search_products),
    "find_products_for_date_range": each(products.find_products_for_date_range),
    "validate_product_data": products.validate_product_data,
    "get_backfill": each(backfills.get_backfill),
    "list_backfills": each(backfills.list_backfills),
    "get_outcome": outcomes.get_outcomes,
}
