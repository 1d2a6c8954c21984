"""Every kind that is served: the table of contents of the contract."""

from collections.abc import Mapping

from contracts import backfills, customers, orders, outcomes, products
from contracts.kinds import Kind

KINDS: Mapping[str, Kind] = {
    kind.name: kind
    for area in (
        customers.COMMANDS,
        customers.QUERIES,
        products.COMMANDS,
        products.QUERIES,
        orders.COMMANDS,
        orders.QUERIES,
        backfills.COMMANDS,
        backfills.QUERIES,
        outcomes.QUERIES,
    )
    for kind in area
}
