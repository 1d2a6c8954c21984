"""Orders on the wire: their commands, queries and results.

Money is a text: at least 0, at most two decimals, at most 9,999,999,999.99, in the one currency of the deployment. It
is answered with both decimals.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Final

from pydantic import AfterValidator, Field, StringConstraints
from pydantic_core import PydanticCustomError

from contracts.envelope import Page
from contracts.fields import Attributes, Identifier, PageNumber, PageSize
from contracts.kinds import Keys, Kind, Payload, Role, Version
from contracts.products import Mnemonic

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
    Field(min_length=1, max_length=MAX_LINES),
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
    cursor: str | None = None
    status: OrderStatus | None = None


@dataclass(frozen=True, slots=True)
class OrderLineResult:
    """A line as it was ordered."""

    mnemonic: str
    quantity: int
    unit_price: str
    attributes: dict[str, object] | None


@dataclass(frozen=True, slots=True)
class OrderCatalog:
    """What the catalogue says of the order: the category of the line with the greatest amount (of equals the first)."""

    category: str | None


@dataclass(frozen=True, slots=True)
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


COMMANDS = (
    Kind(
        "place_order",
        "commands",
        Role.WRITER,
        RESOURCE,
        "place",
        (Version(1, PlaceOrder),),
        result=OrderResult,
        keys=_place_keys,
    ),
    Kind(
        "cancel_order",
        "commands",
        Role.WRITER,
        RESOURCE,
        "cancel",
        (Version(1, CancelOrder),),
        result=OrderResult,
        keys=lambda command: Keys(customers=(command.customer_id,), orders=(command.order_id,)),
    ),
)

QUERIES = (
    Kind("get_order", "queries", Role.READER, RESOURCE, "read", (Version(1, GetOrder),), result=OrderResult),
    Kind(
        "get_customer_orders",
        "queries",
        Role.READER,
        RESOURCE,
        "read",
        (Version(1, GetCustomerOrders),),
        result=Page,
    ),
)
