"""Place and cancel orders. Their outcomes speak of ids alone: they stay when a customer is erased."""

from datetime import UTC
from decimal import Decimal
from typing import Final

from contracts.envelope import created, unchanged, updated
from contracts.errors import BusinessRuleError, BusinessRuleViolationError, CatalogError
from contracts.orders import RESOURCE, CancelOrder, PlaceOrder
from handlers.context import Context
from handlers.customer import Customer, customer_not_found
from handlers.fields import GivenFields
from handlers.order import (
    Order,
    OrderLine,
    cancelled,
    new_order,
    order_id_taken,
    order_not_found,
    order_result,
)
from handlers.product import Product, product_not_found
from handlers.result import Failure, Result, Success
from handlers.rules import Spending, TooExpensiveError, Verdict
from handlers.unit_of_work import UnitOfWork

_FIELDS: Final = GivenFields(Order)


async def place_order(command: PlaceOrder, uow: UnitOfWork, context: Context) -> Result:
    """201 the order; 404 customer or product; 400 for an inactive customer, an archived product, or a broken rule.

    422 for a rule that cannot be evaluated, or not in time, which is not stored: another delivery may pass; 409 for a
    given id that is taken. The order is judged by the UTC day of the
    broker's timestamp, so a message that waited meets the rules of the day on which it was sent, as they are now.
    """
    customer = await uow.customers.find_by_id(command.customer_id)
    if customer is None:
        return Failure(customer_not_found(command.customer_id))
    products: dict[str, Product] = {}
    for line in command.lines:
        product = await uow.products.find(line.mnemonic)
        if product is None:
            return Failure(product_not_found(line.mnemonic))
        products[line.mnemonic] = product
    if not customer.is_active:
        return Failure(_inactive(customer))
    archived = next((product for product in products.values() if product.archived_at is not None), None)
    if archived is not None:
        return Failure(_archived(archived))
    try:
        broken = await _first_broken_rule(command, products, uow, context)
    except TooExpensiveError as error:
        return Failure(_too_expensive(error), stored=False)
    if broken is not None:
        return Failure(broken)
    if command.order_id is not None and await uow.orders.find_by_id(command.order_id) is not None:
        return Failure(order_id_taken(command.order_id))
    order = new_order(
        command.order_id or context.new_id(),
        _FIELDS.all(command),
        [
            OrderLine(
                products[line.mnemonic].id, line.mnemonic, line.quantity, Decimal(line.unit_price), line.attributes
            )
            for line in command.lines
        ],
        {product.id: product.category for product in products.values()},
        context.now,
    )
    await uow.orders.save(order)
    return Success(created(RESOURCE, order.id, order_result(order)))


async def _first_broken_rule(
    command: PlaceOrder, products: dict[str, Product], uow: UnitOfWork, context: Context
) -> CatalogError | None:
    """Have the rules of each line's product judge its attributes; the first rule that does not hold is told."""
    today = context.now.astimezone(UTC).date()
    spending = Spending()
    for place, line in enumerate(command.lines):
        rules = await uow.products.rules_of(products[line.mnemonic])
        verdicts = await uow.rule_book.check(rules, line.attributes or {}, today, spending, all_rules=False)
        if verdicts and not verdicts[-1].holds:
            return _broken(verdicts[-1], line.mnemonic, f"lines.{place}.attributes")
    return None


def _broken(verdict: Verdict, mnemonic: str, field: str) -> CatalogError:
    about: dict[str, object] = {"mnemonic": mnemonic, "rule": verdict.rule}
    if verdict.problem is not None:
        return BusinessRuleError(
            f"Rule '{verdict.rule}' of product '{mnemonic}' cannot be evaluated: {verdict.problem}",
            {**about, "path": field, "reason": verdict.problem},
        )
    violations = [
        {"path": f"{field}.{one.path}" if one.path else field, "reason": one.reason} for one in verdict.violations
    ]
    first = violations[0]
    return BusinessRuleViolationError(
        f"Rule '{verdict.rule}' of product '{mnemonic}' is broken at {first['path']}: {first['reason']}",
        {**about, **first, "violations": violations},
    )


def _too_expensive(error: TooExpensiveError) -> BusinessRuleError:
    return BusinessRuleError(
        f"Rule '{error.rule}' could not be evaluated in time: {error.reason}; send it again, or with fewer lines",
        {"rule": error.rule, "reason": error.reason},
    )


def _inactive(customer: Customer) -> BusinessRuleViolationError:
    return BusinessRuleViolationError(
        f"Customer '{customer.id}' is not active and places no orders", {"customer_id": customer.id}
    )


def _archived(product: Product) -> BusinessRuleViolationError:
    return BusinessRuleViolationError(
        f"Product '{product.mnemonic}' is archived: no orders of it are placed", {"mnemonic": product.mnemonic}
    )


async def cancel_order(command: CancelOrder, uow: UnitOfWork, context: Context) -> Result:
    """200; 404 for no such customer, or no such order of this customer; neutral when it is cancelled already.

    A deleted customer's order is known by the customer's bare id: else what it holds could never be deleted.
    """
    order = await uow.orders.find_by_id(command.order_id)
    if order is None or order.customer_id != command.customer_id:
        customer = await uow.customers.find_by_id(command.customer_id)
        return Failure(
            customer_not_found(command.customer_id) if customer is None else order_not_found(command.order_id)
        )
    if not order.is_placed:
        return Success(unchanged(RESOURCE, order.id, order_result(order)))
    order = cancelled(order, context.now)
    await uow.orders.save(order)
    return Success(updated(RESOURCE, order.id, order_result(order)))
