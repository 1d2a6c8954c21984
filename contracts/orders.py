"""Orders on the wire: their commands, queries and results.

Money is a text: at least 0, at most two decimals, at most 9,999,999,999.99, in the one currency of the deployment. It
is answered with both decimals.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Final

from pydantic import AfterValidator, Field, StringConstraints
from pydantic_core import PydanticCustomError

from contracts.customers import ADA_ID
from contracts.envelope import Page, created, listed, retrieved, updated
from contracts.errors import (
    BusinessRuleError,
    BusinessRuleViolationError,
    CustomerNotFoundError,
    InvalidProductCodeError,
    OrderAlreadyExistsError,
    OrderNotFoundError,
    ProductNotFoundError,
)
from contracts.fields import Attributes, Cursor, Identifier, PageNumber, PageSize
from contracts.kinds import CREATED, DONE, UNCHANGED, Keys, Kind, Payload, Role, Version
from contracts.products import MNEMONIC, Mnemonic
from contracts.values import value

RESOURCE: Final = "Order"

MAX_MONEY: Final = Decimal("9999999999.99")
"""The greatest price, and the greatest total of an order."""
MAX_LINES: Final = 100
MAX_QUANTITY: Final = 1_000_000

Money = Annotated[
    str,
    StringConstraints(pattern=r"^(?:0|[1-9][0-9]{0,9})(?:\.[0-9]{1,2})?$"),
    Field(description="An amount of the deployment's one currency (CURRENCY), with at most two decimals"),
]
"""0 to 9,999,999,999.99, as text: JSON's numbers are no decimals."""


class OrderStatus(StrEnum):
    """What has become of an order."""

    PLACED = "placed"
    CANCELLED = "cancelled"


class OrderLine(Payload):
    """So much of a product, at that price apiece; the product's rules judge the attributes, {} where there are none."""

    mnemonic: Mnemonic
    quantity: Annotated[int, Field(ge=1, le=MAX_QUANTITY)]
    unit_price: Money
    attributes: Attributes | None = None


def total_of(lines: Iterable[tuple[int, Decimal]]) -> Decimal:
    """Add up lines, each a quantity and a price apiece; exact."""
    return sum((quantity * unit_price for quantity, unit_price in lines), Decimal("0.00"))


def _within_money(lines: Sequence[OrderLine]) -> Sequence[OrderLine]:
    if total_of((line.quantity, Decimal(line.unit_price)) for line in lines) > MAX_MONEY:
        context = {"max_total": str(MAX_MONEY)}
        raise PydanticCustomError("money_total", "The lines should add up to at most {max_total}", context)
    return lines


OrderLines = Annotated[
    list[OrderLine],
    Field(min_length=1, max_length=MAX_LINES, description=f"They add up to at most {MAX_MONEY:,}"),
    AfterValidator(_within_money),
]


class PlaceOrder(Payload):
    """Order products for a customer; without an `order_id` the workers choose one. The total is never the caller's."""

    customer_id: Identifier
    lines: OrderLines
    order_id: Identifier | None = None


class CancelOrder(Payload):
    """Take a customer's order back."""

    customer_id: Identifier
    order_id: Identifier


class GetOrder(Payload):
    """Ask for one order."""

    order_id: Identifier


class GetCustomerOrders(Payload):
    """Ask for a customer's orders, newest first, cancelled ones too unless one status is asked for."""

    customer_id: Identifier
    page: PageNumber = 1
    page_size: PageSize = 10
    cursor: Cursor | None = None
    status: Annotated[OrderStatus, Field(strict=False)] | None = None


@value(frozen=True)
class OrderLineResult:
    """A line as it was ordered."""

    mnemonic: str
    quantity: int
    unit_price: str
    attributes: dict[str, object] | None


@value(frozen=True)
class OrderCatalog:
    """What the catalogue says of the order: the category of the line with the greatest amount (of equals the first)."""

    category: str | None


@value(frozen=True)
class OrderResult:
    """An order as every envelope shows it."""

    id: str
    customer_id: str
    status: OrderStatus
    lines: list[OrderLineResult]
    total_amount: str
    catalog: OrderCatalog
    created_at: datetime


def _place_keys(command: PlaceOrder) -> Keys:
    return Keys(
        customers=(command.customer_id,),
        products_held=tuple({line.mnemonic for line in command.lines}),
        orders=(command.order_id,) if command.order_id else (),
    )


_ORDER_ID: Final = "0198c7a5-3c00-7000-8000-000000000de0"
_PLACED: Final = OrderResult(
    _ORDER_ID,
    ADA_ID,
    OrderStatus.PLACED,
    [OrderLineResult(MNEMONIC, 5, "49.90", {"seats": 5})],
    "249.50",
    OrderCatalog("FINANCE"),
    datetime(2026, 1, 31, 9, 30, tzinfo=UTC),
)

COMMANDS = (
    Kind(
        name="place_order",
        description="Order products for an active customer; each line must meet its product's rules of the day",
        topic="commands",
        role=Role.WRITER,
        resource=RESOURCE,
        action="place",
        versions=(
            Version(
                1,
                PlaceOrder,
                examples=(
                    {
                        "order_id": _ORDER_ID,
                        "customer_id": ADA_ID,
                        "lines": [
                            {"mnemonic": MNEMONIC, "quantity": 5, "unit_price": "49.90", "attributes": {"seats": 5}}
                        ],
                    },
                ),
            ),
        ),
        key=("customer_id",),
        result=OrderResult,
        answers=(CREATED,),
        reply=created(RESOURCE, _ORDER_ID, _PLACED),
        errors=(
            InvalidProductCodeError,
            CustomerNotFoundError,
            ProductNotFoundError,
            OrderAlreadyExistsError,
            BusinessRuleViolationError,
            BusinessRuleError,
        ),
        needs=("create_customer", "create_product"),
        keys=_place_keys,
    ),
    Kind(
        name="cancel_order",
        description="Take a customer's order back; works for a deleted customer's order, too",
        topic="commands",
        role=Role.WRITER,
        resource=RESOURCE,
        action="cancel",
        versions=(Version(1, CancelOrder, examples=({"customer_id": ADA_ID, "order_id": _ORDER_ID},)),),
        key=("customer_id",),
        result=OrderResult,
        answers=(DONE, UNCHANGED),
        reply=updated(RESOURCE, _ORDER_ID, replace(_PLACED, status=OrderStatus.CANCELLED)),
        errors=(CustomerNotFoundError, OrderNotFoundError),
        needs=("place_order",),
        keys=lambda command: Keys(customers=(command.customer_id,), orders=(command.order_id,)),
    ),
)

QUERIES = (
    Kind(
        name="get_order",
        description="One order",
        topic="queries",
        role=Role.READER,
        resource=RESOURCE,
        action="read",
        versions=(Version(1, GetOrder, examples=({"order_id": _ORDER_ID},)),),
        key=(),
        result=OrderResult,
        reply=retrieved(RESOURCE, _PLACED),
        errors=(OrderNotFoundError,),
        needs=("place_order",),
    ),
    Kind(
        name="get_customer_orders",
        description="A page of a living customer's orders, newest first",
        topic="queries",
        role=Role.READER,
        resource=RESOURCE,
        action="read",
        versions=(Version(1, GetCustomerOrders, examples=({"customer_id": ADA_ID, "page_size": 10},)),),
        key=(),
        result=Page[OrderResult],
        reply=listed(RESOURCE, Page([_PLACED], 1, 1, 10, has_more=False, next_cursor=None)),
        errors=(CustomerNotFoundError,),
        needs=("create_customer",),
    ),
)
