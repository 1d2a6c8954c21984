"""Get and search customers."""

from collections.abc import Sequence

from contracts.customers import RESOURCE, GetCustomer, SearchCustomers
from contracts.envelope import retrieved
from contracts.text import fold_key
from handlers.customer import Customer, CustomerSearch, customer_not_found, customer_result
from handlers.page import Found, TooMuch, answer_pages, read_cursor, show_page
from handlers.queries.asked import Asked
from handlers.readers import Readers
from handlers.result import Failure, Result, Success


async def get_customers(asked: Sequence[Asked[GetCustomer]], readers: Readers) -> Sequence[Result]:
    """200 the customer; 404. One statement for all."""
    found = await readers.customers.get_many([one.query.customer_id for one in asked])
    return [
        Success(retrieved(RESOURCE, customer_result(customer)))
        if (customer := found.get(one.query.customer_id))
        else Failure(customer_not_found(one.query.customer_id))
        for one in asked
    ]


async def search_customers(asked: Sequence[Asked[SearchCustomers]], readers: Readers) -> Sequence[Result | None]:
    """200 a page of living customers, newest first; 422 for a cursor that is not of this search."""
    return await answer_pages([one.query for one in asked], _search_of, readers.customers.search, _show)


def _filters(query: SearchCustomers) -> tuple[str, str | None, str | None, bool | None]:
    name = fold_key(query.name_contains) if query.name_contains is not None else None
    email = fold_key(query.email_contains) if query.email_contains is not None else None
    return "customers", name, email, query.is_active


def _search_of(query: SearchCustomers) -> CustomerSearch:
    _, name, email, is_active = filters = _filters(query)
    after = read_cursor(query.cursor, filters) if query.cursor is not None else None
    return CustomerSearch(name, email, is_active, query.limit, 0 if after else query.offset, after)


def _show(query: SearchCustomers, found: Found[Customer] | TooMuch) -> Result:
    page = query.offset // query.limit + 1 if query.cursor is None else None
    return show_page(RESOURCE, found, customer_result, _filters(query), page_size=query.limit, page=page)
