"""The unit of work, as use cases see it: repositories, and nothing of batches, locks or SQL."""

from typing import Protocol

from handlers.customer import CustomerRepository
from handlers.order import OrderRepository


class UnitOfWork(Protocol):
    """What a command may read and change. A `Failure` or an exception leaves no trace of its message in it."""

    @property
    def customers(self) -> CustomerRepository: ...
    @property
    def orders(self) -> OrderRepository: ...
