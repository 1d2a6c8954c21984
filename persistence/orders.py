"""Orders in Postgres, as a batch of commands sees them."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Final

import orjson

from contracts.orders import OrderStatus
from handlers.order import Order, OrderLine
from persistence.counters import CounterDeltas
from persistence.engine import Connection
from persistence.faults import StaleReadError
from persistence.identity_map import IdentityMap, Journal
from persistence.product_holds import ProductHolds
from persistence.rowset import RowSet, array_text
from persistence.summaries import SummaryDeltas
from persistence.table import Column, Table


def _lines(text: str) -> tuple[OrderLine, ...]:
    return tuple(
        OrderLine(
            line["product_id"],
            line["mnemonic"],
            line["quantity"],
            Decimal(line["unit_price"]),
            line["attributes"],
        )
        for line in orjson.loads(text)
    )


def _lines_text(lines: Sequence[OrderLine]) -> str:
    return orjson.dumps(
        [
            {
                "product_id": line.product_id,
                "mnemonic": line.mnemonic,
                "quantity": line.quantity,
                "unit_price": str(line.unit_price),
                "attributes": line.attributes,
            }
            for line in lines
        ]
    ).decode()


def _catalog_text(category: str | None) -> str:
    return orjson.dumps({"category": category}).decode()


ORDERS: Final = Table(
    "orders",
    Order,
    (
        Column("id", "uuid"),
        Column("customer_id", "uuid", changes=False),
        Column("status", "text", read=OrderStatus),
        Column("lines", "jsonb", changes=False, read=_lines, write=_lines_text),
        Column("total_amount", "numeric", changes=False),
        Column("category", "text", changes=False),
        Column("created_at", "timestamptz", changes=False),
        Column("cancelled_at", "timestamptz"),
    ),
    also_written=(Column("catalog", "jsonb", changes=False, field="category", write=_catalog_text),),
)
"""An order. See `contracts/ADDING.md`."""

_PEEK: Final = """
select o.id::text, array(select distinct line ->> 'mnemonic' from jsonb_array_elements(o.lines) as line) as mnemonics
from orders o where o.id = any($1::text::uuid[]) and o.status = 'placed'"""
_LOCK: Final = f"""
select {ORDERS.selected("o")} from orders o where o.id = any($1::text::uuid[]) order by o.id for no key update"""
_NEW: Final = RowSet("orders", ORDERS.inserted)
_CHANGED: Final = RowSet("orders", ORDERS.updated)


class OrderBatch:
    """Orders of one batch of commands: loaded once, locked; changed in memory; written set by set.

    Lines never change, so what an order holds can be read before its row is locked; and while it is placed, its
    products keep their mnemonics and ids.
    """

    def __init__(self, journal: Journal, holds: ProductHolds) -> None:
        self._orders: IdentityMap[str, Order] = IdentityMap(journal, "orders")
        self._holds = holds

    # What use cases call -------------------------------------------------------------------------------------------
    async def find_by_id(self, order_id: str) -> Order | None:
        """Find an order; its id must have been declared, or made in this batch."""
        return self._orders.get(order_id)

    async def save(self, order: Order) -> None:
        """Insert, or change the status; the products are held or released with it."""
        before = self._orders.get(order.id) if self._orders.knows(order.id) else None
        counted = before is not None and before.is_placed
        if order.is_placed != counted:
            for product_id in order.held_products:
                self._holds.add(product_id, 1 if order.is_placed else -1)
        self._orders.set(order.id, order)

    # What the unit of work calls -----------------------------------------------------------------------------------
    async def peek(self, connection: Connection, ids: Sequence[str]) -> Mapping[str, Sequence[str]]:
        """Read, before any lock, which products the declared orders hold: this batch may release them."""
        rows = await connection.fetch(_PEEK, array_text(ids)) if ids else ()
        return {row["id"]: row["mnemonics"] for row in rows}

    async def load(self, connection: Connection, ids: Sequence[str], peeked: Mapping[str, Sequence[str]]) -> None:
        """Lock and read the declared orders; customers and products are locked already.

        Raises `StaleReadError` when one of them was placed between peek and lock: its products are not locked.
        """
        rows = await connection.fetch(_LOCK, array_text(ids)) if ids else ()
        orders = [ORDERS.read(row) for row in rows]
        if any(order.is_placed and order.id not in peeked for order in orders):
            msg = "an order was placed before its row was locked"
            raise StaleReadError(msg)
        self._orders.load({order.id: order for order in orders}, ids)

    async def write(self, connection: Connection) -> None:
        """Insert new orders, by id, and the new status of others."""
        changes = list(self._orders.changes())
        new = [after for _, before, after in changes if before is None and after is not None]
        await _NEW.insert_columns(connection, ORDERS.to_insert(sorted(new, key=lambda one: one.id)))
        changed = [after for _, before, after in changes if before is not None and after is not None]
        await _CHANGED.update_columns(connection, ORDERS.to_update(changed))

    def count(self, summaries: SummaryDeltas, deltas: CounterDeltas) -> None:
        """Add this batch's differences to the customers' summaries and to the counters."""
        for _, before, after in self._orders.changes():
            if after is not None:
                summaries.add(before, after, deltas)
