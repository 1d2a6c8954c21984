"""How much a batch of commands may load at once: each of its rows is bounded, and five hundred of them are 400 MB.

A batch that may be large is weighed before anything is locked, in one statement; one that is too large is halved, and a
lone message loads what it needs.
"""

from collections.abc import Collection, Sequence
from typing import Final

from persistence.engine import Connection
from persistence.faults import TooMuchAtOnceError
from persistence.phases import CatalogueColumns
from persistence.products import KNOWN_BYTES, DeclaredProducts

LOADED_AT_ONCE: Final = 16 * 1024 * 1024
"""Bytes of JSON; what is made of them takes up several times as much."""
LARGEST_ROW: Final = 256 * 1024
"""What one command may have written of what another one loads. A batch of so few that these fit is not weighed."""
_ITEM_BYTES: Final = 1024
"""What an item counts for: it has at most twice as much."""


def _weigh(columns: CatalogueColumns) -> str:
    return f"""
select
  (select coalesce(sum(octet_length(p.{columns.read}::text)), 0) from products p where p.mnemonic = any($1::text[]))
  + (select {_ITEM_BYTES} * count(i) from unnest($2::text[], $3::text[]) as k(mnemonic, label)
     join products p on p.mnemonic = k.mnemonic
     join product_versions v on v.product_id = p.id and v.version_label = k.label
     join product_version_items i on i.version_id = v.id)
  + (select {_ITEM_BYTES} * count(i) from products p
     join product_versions v on v.product_id = p.id
     join product_version_items i on i.version_id = v.id
     where p.mnemonic = any($4::text[]) and {KNOWN_BYTES} is null)
  + (select coalesce(sum(octet_length(p.old_validations)), 0) from products p where p.mnemonic = any($5::text[]))
  + (select coalesce(sum(octet_length(r.parameters::text)), 0) from products p
     join validation_instances r on r.product_id = p.id where p.mnemonic = any($5::text[]))
  + (select coalesce(sum(octet_length(o.lines::text)), 0) from orders o where o.id = any($6::uuid[]))"""


def is_to_weigh(products: DeclaredProducts, orders: Collection[str], at_most: int = LOADED_AT_ONCE) -> bool:
    """Say whether so many products and orders may be too much to be loaded at once."""
    rows = len(products.changed) + len(products.versions) + len(products.rules) + len(orders)
    return rows * LARGEST_ROW > at_most


async def weigh(
    connection: Connection,
    products: DeclaredProducts,
    orders: Collection[str],
    columns: CatalogueColumns,
    at_most: int = LOADED_AT_ONCE,
) -> None:
    """Raise `TooMuchAtOnceError` where products and orders that are declared would be too much to be loaded at once."""
    labels: Sequence[tuple[str, str]] = products.versions
    found: int = await connection.fetchval(
        _weigh(columns),
        products.changed,
        [mnemonic for mnemonic, _ in labels],
        [label for _, label in labels],
        list(products.sized),
        products.rules,
        list(orders),
    )
    if found > at_most:
        msg = f"a batch would load {found} bytes"
        raise TooMuchAtOnceError(msg)
