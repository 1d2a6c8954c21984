"""Get orders, one or a customer's."""

from collections.abc import Sequence

from contracts.envelope import retrieved
from contracts.errors import ValidationFailedError
from contracts.orders import RESOURCE, GetCustomerOrders, GetOrder
from handlers.context import Context
from handlers.customer import customer_not_found
from handlers.order import CustomerOrders, order_not_found, order_result
from handlers.page import read_cursor, show_page
from handlers.queries.asked import Asked
from handlers.readers import Readers
from handlers.result import Failure, Result, Success


async def get_orders(asked: Sequence[Asked[GetOrder]], readers: Readers) -> Sequence[Result]:
    """200 the order; 404. One statement for all, or for the first ones where all would be too much at once."""
    found = await readers.orders.get_many([one.query.order_id for one in asked])
    answers: list[Result] = []
    for one in asked:
        order_id = one.query.order_id
        order = found.get(order_id)
        if order is None and order_id in found:
            break
        answers.append(
            Success(retrieved(RESOURCE, order_result(order))) if order else Failure(order_not_found(order_id))
        )
    return answers


async def get_customer_orders(query: GetCustomerOrders, readers: Readers, _: Context) -> Result:
    """200 a page of a living customer's orders, newest first; 404; 422 for a cursor that is not of this list."""
    filters = ["get_customer_orders", query.customer_id, query.status]
    try:
        after = read_cursor(query.cursor, filters) if query.cursor is not None else None
    except ValidationFailedError as error:
        return Failure(error)
    found = await readers.orders.of_customer(
        CustomerOrders(query.customer_id, query.page, query.page_size, query.status, after)
    )
    if found is None:
        return Failure(customer_not_found(query.customer_id))
    page = query.page if after is None else None
    return show_page(RESOURCE, found, order_result, filters, page_size=query.page_size, page=page)
