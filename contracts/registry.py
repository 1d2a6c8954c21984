"""Every kind that is served: the table of contents of the contract."""

from collections.abc import Mapping

from contracts import customers, outcomes, products
from contracts.kinds import Kind

KINDS: Mapping[str, Kind] = {
    kind.name: kind for area in (customers.COMMANDS, customers.QUERIES, outcomes.QUERIES) for kind in area
}
