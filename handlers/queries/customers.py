"""Get and search customers."""

from collections.abc import Sequence

from contracts.customers import RESOURCE, GetCustomer, SearchCustomers
from contracts.envelope import retrieved
from contracts.errors import ValidationFailedError
from contracts.text import fold_key
from handlers.context import Context
from handlers.customer import CustomerSearch, customer_not_found, customer_result
from handlers.page import read_cursor, show_page
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


async def search_customers(query: SearchCustomers, readers: Readers, _: Context) -> Result:
    """200 a page of living customers, newest first; 422 for a cursor that is not of this search."""
    name = fold_key(query.name_contains) if query.name_contains is not None else None
    email = fold_key(query.email_contains) if query.email_contains is not None else None
    filters = ["customers", name, email, query.is_active]
    try:
        after = read_cursor(query.cursor, filters) if query.cursor is not None else None
    except ValidationFailedError as error:
        return Failure(error)
    found = await readers.customers.search(
        CustomerSearch(name, email, query.is_active, query.limit, 0 if after else query.offset, after)
    )
    page = None if after else query.offset // query.limit + 1
    return show_page(RESOURCE, found, customer_result, filters, page_size=query.limit, page=page)
