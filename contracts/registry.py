"""Every kind that is served: the table of contents of the contract."""

from collections.abc import Mapping

from contracts import customers, orders, outcomes, products
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
        outcomes.QUERIES,
    )
    for kind in area
}
