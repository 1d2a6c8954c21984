"""Everything that a query may read, in one place."""

from sqlalchemy.ext.asyncio import AsyncEngine

from persistence.customers import CustomerTable
from persistence.order_queries import OrderTable, SummaryTable
from persistence.outcomes import OutcomeTable


class TableReaders:
    """Readers on the primary, or on a replica that is known to have replayed enough."""

    def __init__(self, primary: AsyncEngine, reading: AsyncEngine) -> None:
        self.customers = CustomerTable(reading)
        self.orders = OrderTable(reading)
        self.summaries = SummaryTable(reading)
        self.outcomes = OutcomeTable(primary)
