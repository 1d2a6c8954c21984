"""The unit of work of a batch of commands: one transaction, a number of statements that does not depend on its size.

Its way: the phases of schema changes are held, and what the look-up read is made sure of; names are locked, then rows
by table, then children are read; use cases change what was loaded in memory, one message at a time; the flush releases
unique values, then writes net states; then come erasures, and at last counters and outcomes. Whoever dies before the
commit leaves nothing; after it, the stored outcome speaks for the message.
"""

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import chain
from typing import Any

from contracts.kinds import Keys
from contracts.text import fold_key
from handlers.backfill import BackfillSteering
from handlers.rules import RuleBook
from persistence import erasures, outcomes
from persistence.counters import CounterDeltas
from persistence.customers import EMAIL_SPACE, CustomerBatch
from persistence.engine import Connection, Engine, for_transaction
from persistence.identity_map import Journal
from persistence.load_bound import is_to_weigh, weigh
from persistence.name_locks import locking
from persistence.orders import OrderBatch
from persistence.outcomes import Outcome
from persistence.phase_wishes import PhaseWishes
from persistence.phases import PRODUCT_CATALOG, CatalogueColumns, catalogue_columns, known_phases
from persistence.product_holds import ProductHolds
from persistence.product_queries import DriftWatch
from persistence.products import MNEMONIC_SPACE, DeclaredProducts, ProductBatch
from persistence.standing import Standing, begin_standing
from persistence.summaries import SummaryDeltas

Steering = Callable[[Connection], BackfillSteering]
"""Makes what steers backfills within a transaction: they are carried out elsewhere, and know their own ledger."""


class BatchUnitOfWork:
    """What the use cases of one batch share; made by `begin`, never reused."""

    def __init__(
        self, connection: Connection, rule_book: RuleBook, drift_watch: DriftWatch | None, steering: Steering | None
    ) -> None:
        self._connection = connection
        self._steering = steering
        self._drift_watch = drift_watch
        self._catalogue: CatalogueColumns | None = None
        self._deltas = CounterDeltas()
        self.rule_book = rule_book
        self._journal = Journal()
        self._cache_keys: list[str] = []
        self.customers = CustomerBatch(self._journal)
        self.holds = ProductHolds(self._journal)
        # Not its own method: what holds itself is gone only when the collector comes, with all that the batch loaded
        self.products = ProductBatch(self._journal, self.holds, self._cache_keys.append)
        self.orders = OrderBatch(self._journal, self.holds)

    @property
    def backfills(self) -> BackfillSteering:
        """What steers backfills: writes at once, so it is for commands that run alone."""
        assert self._steering is not None, "nothing to steer backfills with was given"
        return self._steering(self._connection)

    @property
    def changes(self) -> PhaseWishes:
        """Wishes for steps of changes: written at once, too."""
        return PhaseWishes(self._connection)

    async def load(self, declared: Iterable[Keys], standing: Standing) -> None:
        """Begin, then lock and load everything that the batch's messages declared, in the one order of locks.

        `standing` is what the look-up read. Raises `StaleReadError` when that moved since: an outcome may have been
        purged between; `UnknownPhaseError` when the database is in a phase that this release does not know;
        `TooMuchAtOnceError` when several messages together would load too much.
        """
        keys = list(declared)
        self._catalogue = columns = catalogue_columns(known_phases(standing.phases.items())[PRODUCT_CATALOG])
        named = _named(keys)
        customers, emails, orders = sorted(named["customers"]), sorted(named["emails"]), sorted(named["orders"])
        held, ordered = await self._peek(customers, orders, standing)
        products = DeclaredProducts(
            changed=sorted(named["products"]),
            sized=frozenset(named["products_sized"]),
            deleted=frozenset(named["products_deleted"]),
            held=sorted(named["products_held"].union(*ordered.values())),
            versions=sorted(named["product_versions"]),
            rules=sorted(named["product_rules"] | named["products_held"]),
        )
        if len(keys) > 1 and is_to_weigh(products, orders):
            await self._begin(standing)
            await weigh(self._connection, products, orders, columns)
        names = [
            *((EMAIL_SPACE, name) for name in {*emails, *held.values(), *map(fold_key, held.values())}),
            *((MNEMONIC_SPACE, name) for name in products.changed),
        ]
        await self._begin(standing, *locking(names))
        await self.customers.load(self._connection, customers, emails, held, any_stale=standing.any_stale)
        await self.products.load(self._connection, products, columns)
        await self.orders.load(self._connection, orders, ordered)

    async def _peek(
        self, customers: Sequence[str], orders: Sequence[str], standing: Standing
    ) -> tuple[Mapping[str, str], Mapping[str, Sequence[str]]]:
        """Read, before any name is locked, which names the declared rows hold; no rows, no trip."""
        if not customers and not orders:
            return {}, {}
        await self._begin(standing)
        return await self.customers.peek(self._connection, customers), await self.orders.peek(self._connection, orders)

    async def _begin(self, standing: Standing, *also: str) -> None:
        """Run statements without arguments, the first time with the transaction's beginning; one trip at most."""
        if not self._connection.is_in_transaction():
            await begin_standing(self._connection, standing, *also)
        elif also:
            await self._connection.execute(";\n".join(also))

    def touches_cache(self, key: str) -> None:
        """Note that the current message's effect outdates a cached value."""
        self._cache_keys.append(key)

    def keep(self) -> Sequence[str]:
        """The current message succeeded; returns the cache keys that it touched."""
        self._journal.keep()
        if not self._cache_keys:
            return ()
        touched = tuple(self._cache_keys)
        self._cache_keys.clear()
        return touched

    def take_back(self) -> None:
        """The current message failed: it leaves no trace."""
        self._journal.take_back()
        self._cache_keys.clear()

    async def flush(self) -> None:
        """Write what the messages changed: release, then net states; the counters go with the outcomes."""
        assert self._catalogue is not None
        await self.customers.release(self._connection)
        await self.products.release(self._connection)
        await self.customers.write(self._connection)
        await self.products.write(self._connection, self._catalogue)
        await self.orders.write(self._connection)
        await self.holds.flush(self._connection, self.products.deleted())
        deltas, summaries = self._deltas, SummaryDeltas()
        self.customers.count(deltas)
        self.products.count(deltas)
        self.orders.count(summaries, deltas)
        await summaries.flush(self._connection, self.customers.deleted(), self.customers.gone())

    async def store(self, stored: Sequence[Outcome]) -> None:
        """Write counters and outcomes, last of all: erasures first, then the new ones.

        What this batch erases is stored erased from the start, also where the same batch made it.
        """
        deleted = self.customers.deleted()
        if deleted:
            await erasures.erase(self._connection, deleted)
        await outcomes.store(self._connection, self.as_stored(stored), self._deltas)

    def as_stored(self, decided: Sequence[Outcome]) -> Sequence[Outcome]:
        """Show outcomes as they would be stored now: erased where they speak of a customer deleted since."""
        gone = set(self.customers.deleted())
        if not gone:
            return decided
        return [
            one._replace(envelope=None, content_hmac=None) if gone.intersection(one.subjects) else one
            for one in decided
        ]

    async def commit(self) -> None:
        """Make it true. The one commit for messages."""
        await self._connection.execute("commit")
        if self._drift_watch is not None:
            self._drift_watch.on_catalogue_compared(*self.products.drift())


def _named(keys: Sequence[Keys]) -> Mapping[str, set[Any]]:
    """Gather, field by field, what a batch's messages declared."""
    columns = zip(*(keys or (Keys(),)), strict=True)
    return {
        name: set(chain.from_iterable(column))
        for name, column in zip(Keys._fields, columns, strict=True)
        if name != "alone"
    }


@asynccontextmanager
async def begin(
    engine: Engine,
    rule_book: RuleBook | None = None,
    drift_watch: DriftWatch | None = None,
    steering: Steering | None = None,
) -> AsyncIterator[BatchUnitOfWork]:
    """Have a batch's transaction, which `load` begins. It is rolled back unless `commit` was called.

    Every schema change is held in its phase from the first statement on; the next one makes sure of the phases.
    """
    async with for_transaction(engine) as connection:
        yield BatchUnitOfWork(connection, rule_book or RuleBook(caching=False), drift_watch, steering)
