"""The sizes of products that nobody has measured since they changed: those of before, and those of an older release.

A size is measured from rows as they come, so that a product of any size takes up a few megabytes at a time.
"""

from collections.abc import Sequence
from typing import Final

from handlers.product import Product
from handlers.product_size import head_bytes, item_bytes, version_bytes
from persistence.engine import Connection
from persistence.product_tables import ITEMS, VERSIONS
from persistence.rowset import RowSet

ROWS_AT_ONCE: Final = 1_000
"""Of at most some 2 KiB each: a few milliseconds of the event loop."""

# In no order: a sort would write what does not fit into memory to the disk.
_PARTS: Final = f"""
select p.id::text as product_id, p.version, {VERSIONS.selected("v")}, {ITEMS.selected("i")}
from products p
join product_versions v on v.product_id = p.id
left join product_version_items i on i.version_id = v.id
where p.id = any($1::uuid[])"""
_KEPT: Final = RowSet("products", {"id": "uuid", "answer_bytes": "integer", "answer_bytes_version": "integer"})
# Never waits: whoever has the row is about to change it, and keeps the size itself.
_KEEP: Final = """
update products set answer_bytes = $3, answer_bytes_version = $2
where id = (select id from products where id = $1::uuid and version = $2 for no key update skip locked)"""


class ProductMovedError(Exception):
    """A product was changed while it was measured."""


async def measure(connection: Connection, products: Sequence[Product]) -> dict[str, int]:
    """Measure products by id, within a transaction; raises `ProductMovedError` for one that has another version now."""
    if not products:
        return {}
    sizes = {product.id: head_bytes(product) for product in products}
    moved = {product.id: product.version for product in products}
    versions: dict[str, int] = dict.fromkeys(sizes, 0)
    items: dict[str, int] = {}
    async for row in connection.cursor(_PARTS, list(sizes), prefetch=ROWS_AT_ONCE):
        product_id, version_id = row["product_id"], row["id"]
        if row["version"] != moved[product_id]:
            raise ProductMovedError
        if version_id not in items:
            items[version_id] = 0
            sizes[product_id] += version_bytes(VERSIONS.read(row), (), versions[product_id])
            versions[product_id] += 1
        if row["name"] is not None:
            sizes[product_id] += item_bytes(ITEMS.read(row)) + (items[version_id] > 0)
            items[version_id] += 1
    return sizes


async def keep_many(connection: Connection, rows: Sequence[tuple[str, int, int]]) -> None:
    """Keep sizes of products whose rows this transaction has locked: id, bytes, the version that was measured."""
    await _KEPT.update(connection, rows)


async def keep(connection: Connection, product: Product, size: int) -> None:
    """Keep the size of a product unless it was changed since; nothing happens where somebody has its row."""
    await connection.execute(_KEEP, product.id, product.version, size)
