"""The unit of work, as use cases see it: repositories, and nothing of batches, locks or SQL."""

from typing import Protocol

from handlers.backfill import BackfillSteering, ChangeSteering
from handlers.customer import CustomerRepository
from handlers.order import OrderRepository
from handlers.product import ProductRepository
from handlers.rules import RuleBook


class UnitOfWork(Protocol):
    """What a command may read and change. A `Failure` or an exception leaves no trace of its message in it."""

    @property
    def customers(self) -> CustomerRepository: ...
    @property
    def products(self) -> ProductRepository: ...
    @property
    def orders(self) -> OrderRepository: ...
    @property
    def backfills(self) -> BackfillSteering: ...
    @property
    def changes(self) -> ChangeSteering: ...
    @property
    def rule_book(self) -> RuleBook:
        """Checks data against the rules of products."""
        ...
