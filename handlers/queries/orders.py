"""Get orders, one or a customer's."""

from collections.abc import Sequence

from contracts.envelope import Page, listed, retrieved
from contracts.orders import RESOURCE, GetCustomerOrders, GetOrder
from handlers.context import Context
from handlers.customer import customer_not_found
from handlers.order import CustomerOrders, order_not_found, order_result
from handlers.queries.asked import Asked
from handlers.readers import Readers
from handlers.result import Failure, Result, Success


async def get_orders(asked: Sequence[Asked[GetOrder]], readers: Readers) -> Sequence[Result]:
    """200 the order; 404. One statement for all."""
    found = await readers.orders.get_many([one.query.order_id for one in asked])
    return [
        Success(retrieved(RESOURCE, order_result(order)))
        if (order := found.get(one.query.order_id))
        else Failure(order_not_found(one.query.order_id))
        for one in asked
    ]


async def get_customer_orders(query: GetCustomerOrders, readers: Readers, _: Context) -> Result:
    """200 a page of a living customer's orders, newest first; 404. Pages are numbered: there are no cursors."""
    found = await readers.orders.of_customer(
        CustomerOrders(query.customer_id, query.page, query.page_size, query.status)
    )
    if found is None:
        return Failure(customer_not_found(query.customer_id))
    page = Page(
        [order_result(order) for order in found.items],
        found.total_count,
        query.page,
        query.page_size,
        found.has_more,
        None,
    )
    return Success(listed(RESOURCE, page))
