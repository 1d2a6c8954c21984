"""Everything that a query may read, in one place."""

from handlers.readers import Cache
from handlers.rules import RuleBook
from persistence.backfill_views import BackfillViews, Viewing
from persistence.cache import RedisCache
from persistence.customers import CustomerTable
from persistence.engine import Engine
from persistence.order_queries import OrderTable, SummaryTable
from persistence.outcomes import OutcomeTable
from persistence.phase_wishes import ChangeTable
from persistence.product_queries import CatalogueReads, ProductTable


class TableReaders:
    """Readers on the primary, or on a replica that is known to have replayed enough.

    Cache, rule book and what is remembered of the catalogue's phase are the process's: made once, given to all.
    """

    def __init__(
        self,
        primary: Engine,
        reading: Engine,
        cache: Cache | None = None,
        rule_book: RuleBook | None = None,
        catalogue: CatalogueReads | None = None,
        viewing: Viewing | None = None,
    ) -> None:
        catalogue = catalogue or CatalogueReads()
        self.customers = CustomerTable(reading)
        self.products = ProductTable(reading, catalogue, primary)
        self.primary_products = ProductTable(primary, catalogue, primary)
        self.orders = OrderTable(reading)
        self.summaries = SummaryTable(reading)
        self.outcomes = OutcomeTable(primary)
        self.backfills = BackfillViews(primary, viewing)
        self.changes = ChangeTable(primary)
        self.cache = cache or RedisCache(None, primary)
        self.rule_book = rule_book or RuleBook(caching=False)
