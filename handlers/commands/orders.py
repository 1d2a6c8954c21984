"""Place and cancel orders. Their outcomes speak of ids alone: they stay when a customer is erased."""

from decimal import Decimal

from contracts.envelope import created, unchanged, updated
from contracts.errors import BusinessRuleViolationError
from contracts.orders import RESOURCE, CancelOrder, PlaceOrder
from handlers.context import Context
from handlers.customer import customer_not_found
from handlers.order import (
    OrderLine,
    cancelled,
    new_order,
    order_id_taken,
    order_not_found,
    order_result,
)
from handlers.result import Failure, Result, Success
from handlers.unit_of_work import UnitOfWork


async def cancel_order(command: CancelOrder, uow: UnitOfWork, context: Context) -> Result:
    """200; 404 for no such customer, or no such order of this customer; neutral when it is cancelled already."""
    customer = await uow.customers.find_by_id(command.customer_id)
    if customer is None:
        return Failure(customer_not_found(command.customer_id))
    order = await uow.orders.find_by_id(command.order_id)
    if order is None or order.customer_id != customer.id:
        return Failure(order_not_found(command.order_id))
    if not order.is_placed:
        return Success(unchanged(RESOURCE, order.id, order_result(order)))
    order = cancelled(order, context.now)
    await uow.orders.save(order)
    return Success(updated(RESOURCE, order.id, order_result(order)))
