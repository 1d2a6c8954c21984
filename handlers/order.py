"""The order: what it is, the rules of its making, how it is kept, how it is shown."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, Protocol

from contracts import messages
from contracts.errors import OrderAlreadyExistsError, OrderNotFoundError
from contracts.orders import RESOURCE, OrderCatalog, OrderLineResult, OrderResult, OrderStatus, total_of
from contracts.values import value
from handlers.fields import shown_as
from handlers.page import After, Found, TooMuch

_CENT: Final = Decimal("0.01")


@value(frozen=True, slots=True)
class OrderLine:
    """So much of a product at that price apiece. The product's id tells it from a later one of the same mnemonic."""

    product_id: str
    mnemonic: str
    quantity: int
    unit_price: Decimal
    attributes: dict[str, object] | None

    @property
    def amount(self) -> Decimal:
        """What the line adds to the total."""
        return self.quantity * self.unit_price


@value(frozen=True, slots=True)
class Order:
    """An order, for ever of the customer and the lines that it was placed with; only its status changes."""

    id: str
    customer_id: str
    status: OrderStatus
    lines: tuple[OrderLine, ...]
    total_amount: Decimal
    category: str | None
    created_at: datetime
    cancelled_at: datetime | None = None

    @property
    def is_placed(self) -> bool:
        """Tell whether the order counts: in summaries, in analytics, against the deletion of its products."""
        return self.status is OrderStatus.PLACED

    @property
    def held_products(self) -> frozenset[str]:
        """The ids of the products that may not be deleted while the order is placed."""
        return frozenset(line.product_id for line in self.lines)


def new_order(
    order_id: str,
    given: Mapping[str, Any],
    lines: Sequence[OrderLine],
    categories: Mapping[str, str | None],
    now: datetime,
) -> Order:
    """Place an order with the fields `given`; `categories` are those of the lines' products, by product id."""
    made = {
        "id": order_id,
        "status": OrderStatus.PLACED,
        "lines": tuple(lines),
        "total_amount": total_of((line.quantity, line.unit_price) for line in lines),
        "category": categories[leading_line(lines).product_id],
        "created_at": now,
    }
    return Order(**{**given, **made})


def leading_line(lines: Sequence[OrderLine]) -> OrderLine:
    """Find the line with the greatest amount; of equals the first. Its product's category is the order's."""
    return max(lines, key=lambda line: line.amount)


def cancelled(order: Order, now: datetime) -> Order:
    """Take a placed order back."""
    return replace(order, status=OrderStatus.CANCELLED, cancelled_at=now)


class OrderRepository(Protocol):
    """Orders as a command sees them. What is saved is seen by the messages after it in the batch."""

    async def find_by_id(self, order_id: str) -> Order | None:
        """Find an order, placed or cancelled."""
        ...

    async def save(self, order: Order) -> None:
        """Insert, or change the status. Summaries, figures and the holds of its products follow."""
        ...


@value(frozen=True, slots=True)
class CustomerOrders:
    """Which page of a customer's orders: with `after`, what was placed before it; else by its number, from 1."""

    customer_id: str
    page: int
    page_size: int
    status: OrderStatus | None = None
    after: After | None = None

    @property
    def offset(self) -> int:
        """How many others are passed over."""
        return 0 if self.after is not None else (self.page - 1) * self.page_size


class OrderReader(Protocol):
    """Orders as a query sees them."""

    async def get_many(self, order_ids: Sequence[str]) -> dict[str, Order | None]:
        """Find orders; one statement, however many are asked for.

        None: others before it are as much as is loaded at once, ask again.
        """
        ...

    async def of_customer(self, wanted: CustomerOrders) -> Found[Order] | TooMuch | None:
        """Find a page of a living customer's orders, newest first, ties by id; None where no such customer lives."""
        ...


def money(amount: Decimal) -> str:
    """Show an amount as the contract does: with both decimals."""
    return str(amount.quantize(_CENT))


_line_result: Final = shown_as(OrderLineResult, unit_price=lambda line: money(line.unit_price))
order_result: Final = shown_as(
    OrderResult,
    lines=lambda order: [_line_result(line) for line in order.lines],
    total_amount=lambda order: money(order.total_amount),
    catalog=lambda order: OrderCatalog(order.category),
)
"""Show an order as envelopes do."""


def order_not_found(order_id: str) -> OrderNotFoundError:
    """Say that there is no such order, or none of this customer: which of both is nobody else's business."""
    return OrderNotFoundError(messages.not_found(RESOURCE, "id", order_id), {"order_id": order_id})


def order_id_taken(order_id: str) -> OrderAlreadyExistsError:
    """Say that an order has this id already."""
    return OrderAlreadyExistsError(messages.already_exists(RESOURCE, "id", order_id), {"order_id": order_id})
