"""Read models over orders: a customer's summary, and the figures over all customers."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import Final, Protocol

from contracts.customers import (
    CategoryFigures,
    CustomerAnalyticsResult,
    CustomerFigures,
    CustomerSummaryResult,
)
from handlers.order import money

LISTED: Final = 10
"""How many categories, and customers, the figures name."""
NEW_WITHIN_DAYS: Final = 30
"""How many UTC days a customer counts as new, the day of creation included."""
_CENT: Final = Decimal("0.01")


@dataclass(frozen=True, slots=True)
class CustomerSummary:
    """A living customer's placed orders in figures. `preferred_category`: the commonest, of equals the most recent."""

    customer_id: str
    name: str
    email: str
    is_active: bool
    placed_orders: int
    total_spent: Decimal
    last_order_at: datetime | None
    preferred_category: str | None


@dataclass(frozen=True, slots=True)
class Figures:
    """Placed orders, and what they amount to, of one category (its name) or one living customer (its id)."""

    of: str
    placed_orders: int
    amount: Decimal


@dataclass(frozen=True, slots=True)
class Analytics:
    """The figures over all customers, of one moment. Orders of deleted customers count; no list names these customers.

    `top_categories` and `top_customers` come with the greatest amounts first, of equals by name or id.
    """

    customers: int
    active_customers: int
    new_customers: int
    placed_orders: int
    revenue: Decimal
    top_categories: Sequence[Figures]
    top_customers: Sequence[Figures]


class SummaryReader(Protocol):
    """The read models; what they cost does not depend on how many orders there are."""

    async def get_many(self, customer_ids: Sequence[str]) -> dict[str, CustomerSummary]:
        """Find summaries of living customers; one statement, however many are asked for."""
        ...

    async def analytics(self, today: date) -> Analytics:
        """Add up the figures in one snapshot; `today` is the last of the UTC days in which customers count as new."""
        ...


def average(revenue: Decimal, placed_orders: int) -> Decimal:
    """Divide, rounding half a cent up; 0 where there are no orders."""
    return (revenue / placed_orders).quantize(_CENT, ROUND_HALF_UP) if placed_orders else Decimal(0)


def summary_result(summary: CustomerSummary) -> CustomerSummaryResult:
    """Show a summary as envelopes do."""
    return CustomerSummaryResult(
        summary.customer_id,
        summary.name,
        summary.email,
        summary.placed_orders,
        money(summary.total_spent),
        summary.last_order_at,
        summary.is_active,
        summary.preferred_category,
    )


def analytics_result(figures: Analytics, today: date) -> CustomerAnalyticsResult:
    """Show the figures as envelopes do."""
    return CustomerAnalyticsResult(
        figures.customers,
        figures.active_customers,
        figures.new_customers,
        figures.placed_orders,
        money(figures.revenue),
        money(average(figures.revenue, figures.placed_orders)),
        [CategoryFigures(one.of, one.placed_orders, money(one.amount)) for one in figures.top_categories],
        [CustomerFigures(one.of, one.placed_orders, money(one.amount)) for one in figures.top_customers],
        today,
    )
