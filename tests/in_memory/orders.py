"""Orders in memory: what a batch sees, and read models that are computed whenever they are asked for."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

from handlers.customer import Customer
from handlers.order import CustomerOrders, Order
from handlers.page import Found
from handlers.summary import LISTED, NEW_WITHIN_DAYS, Analytics, CustomerSummary, Figures
from tests.in_memory.declared import Declared, touch

_LATEST = datetime.max.replace(tzinfo=UTC)

Living = Callable[[], Mapping[str, Customer]]
"""Gives the living customers by id."""


class InMemoryOrders:
    """Orders by id; whoever wants to take changes back copies `rows`."""

    def __init__(self) -> None:
        self.rows: dict[str, Order] = {}
        self.declared = Declared()

    async def find_by_id(self, order_id: str) -> Order | None:
        """Find an order, placed or cancelled."""
        touch(order_id, self.declared.orders, "orders")
        return self.rows.get(order_id)

    async def save(self, order: Order) -> None:
        """Insert, or change the status."""
        self.rows[order.id] = order

    def holds(self, product_id: str) -> int:
        """Count the placed orders that refer to a product."""
        return sum(1 for order in self.rows.values() if order.is_placed and product_id in order.held_products)


class InMemoryOrderReader:
    """Orders as queries see them."""

    def __init__(self, orders: InMemoryOrders, living: Living) -> None:
        self._orders = orders
        self._living = living

    async def get_many(self, order_ids: Sequence[str]) -> dict[str, Order | None]:
        """Find orders."""
        return {one: self._orders.rows[one] for one in order_ids if one in self._orders.rows}

    async def of_customer(self, wanted: CustomerOrders) -> Found[Order] | None:
        """Find a page of a living customer's orders, newest first, ties by id."""
        if wanted.customer_id not in self._living():
            return None
        orders = [
            order
            for order in self._orders.rows.values()
            if order.customer_id == wanted.customer_id and wanted.status in {None, order.status}
        ]
        orders.sort(key=lambda order: (order.created_at, order.id), reverse=True)
        after = wanted.after
        left = [order for order in orders if after is None or (order.created_at, order.id) < after]
        items = left[wanted.offset : wanted.offset + wanted.page_size]
        return Found(items, len(left) > wanted.offset + wanted.page_size, len(orders))


class InMemorySummaries:
    """Read models, recomputed at every look: what the kept ones must equal."""

    def __init__(self, orders: InMemoryOrders, living: Living) -> None:
        self._orders = orders
        self._living = living

    async def get_many(self, customer_ids: Sequence[str]) -> dict[str, CustomerSummary]:
        """Sum up the placed orders of living customers."""
        living = self._living()
        placed: dict[str, list[Order]] = defaultdict(list)
        for order in self._placed():
            placed[order.customer_id].append(order)
        return {one: summary_of(living[one], placed[one]) for one in customer_ids if one in living}

    async def analytics(self, today: date) -> Analytics:
        """Add up the figures."""
        living = self._living()
        placed = self._placed()
        categories = _figures((order.category, order) for order in placed)
        spenders = _figures((order.customer_id, order) for order in placed if order.customer_id in living)
        first_day = today - timedelta(days=NEW_WITHIN_DAYS - 1)
        return Analytics(
            len(living),
            sum(customer.is_active for customer in living.values()),
            sum(first_day <= one.created_at.astimezone(UTC).date() <= today for one in living.values()),
            len(placed),
            _total(placed),
            categories,
            spenders,
        )

    def _placed(self) -> list[Order]:
        return [order for order in self._orders.rows.values() if order.is_placed]


def summary_of(customer: Customer, placed: Sequence[Order]) -> CustomerSummary:
    """Sum up the placed orders of a customer."""
    counts = Counter(order.category for order in placed if order.category is not None)
    last = {category: max(order.created_at for order in placed if order.category == category) for category in counts}
    # The commonest; of equals the most recent; of those that are equally recent the first by name.
    ranked = sorted(counts, key=lambda category: (-counts[category], _LATEST - last[category], category))
    return CustomerSummary(
        customer.id,
        customer.name,
        customer.email,
        customer.is_active,
        len(placed),
        _total(placed),
        max((order.created_at for order in placed), default=None),
        ranked[0] if ranked else None,
    )


def _total(orders: Iterable[Order]) -> Decimal:
    return sum((order.total_amount for order in orders), Decimal(0))


def _figures(pairs: Iterable[tuple[str | None, Order]]) -> list[Figures]:
    orders: dict[str, list[Order]] = defaultdict(list)
    for name, order in pairs:
        if name is not None:
            orders[name].append(order)
    figures = [Figures(name, len(found), _total(found)) for name, found in orders.items()]
    return sorted(figures, key=lambda one: (-one.amount, one.of))[:LISTED]
