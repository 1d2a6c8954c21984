"""The customer: what it is, how it is kept, how it is shown."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Protocol

from contracts import messages
from contracts.customers import RESOURCE, CustomerResult
from contracts.errors import CustomerAlreadyExistsError, CustomerNotFoundError
from contracts.text import fold_key
from contracts.values import value
from handlers.fields import shown_as
from handlers.page import After, Found, TooMuch


@value(frozen=True, slots=True)
class Customer:
    """A living customer. `email_key` and `name_key` are what searches and uniqueness go by.

    What has a default has it where a command gives null.
    """

    id: str
    name: str
    email: str
    is_active: bool
    version: int
    created_at: datetime
    updated_at: datetime
    preferences: dict[str, object] = field(default_factory=dict)

    @property
    def email_key(self) -> str:
        """The e-mail without regard to case: unique among living customers."""
        return fold_key(self.email)

    @property
    def name_key(self) -> str:
        """The name without regard to case."""
        return fold_key(self.name)


class CustomerRepository(Protocol):
    """Customers as a command sees them. What is saved is seen by the messages after it in the batch."""

    async def find_by_id(self, customer_id: str) -> Customer | None:
        """Find a living customer."""
        ...

    async def find_by_email(self, email_key: str) -> Customer | None:
        """Find the living customer who has this folded e-mail."""
        ...

    async def is_id_taken(self, customer_id: str) -> bool:
        """Tell whether the id belongs to a living or a deleted customer."""
        ...

    async def save(self, customer: Customer) -> None:
        """Insert or change."""
        ...

    async def delete(self, customer: Customer) -> None:
        """Erase the customer's personal data everywhere; the id stays taken."""
        ...


@dataclass(frozen=True, slots=True)
class CustomerSearch:
    """What to look for; folded needles. After a `cursor` come those created before it (ties: smaller ids)."""

    name_contains: str | None = None
    email_contains: str | None = None
    is_active: bool | None = None
    limit: int = 50
    offset: int = 0
    after: After | None = None

    @property
    def filters(self) -> tuple[str | None, str | None, bool | None]:
        """Name the list that this is a page of."""
        return self.name_contains, self.email_contains, self.is_active

    @property
    def is_filtered(self) -> bool:
        """Tell whether anything narrows the list."""
        return self.has_text or self.is_active is not None

    @property
    def has_text(self) -> bool:
        """Tell whether a text is looked for."""
        return self.name_contains is not None or self.email_contains is not None


class CustomerReader(Protocol):
    """Customers as a query sees them: many at once, of one moment."""

    async def get_many(self, customer_ids: Sequence[str]) -> dict[str, Customer]:
        """Find living customers; one statement, however many are asked for."""
        ...

    async def search(self, searches: Sequence[CustomerSearch]) -> Sequence[Found[Customer] | TooMuch | None]:
        """Find pages of living customers, newest first, ties by id; None for some where all would take long."""
        ...

    async def count_active(self) -> int:
        """Count living customers that are active."""
        ...

    def list_all(self) -> AsyncIterator[Customer]:
        """Walk over all living customers by id, in constant memory."""
        ...


customer_result: Final = shown_as(CustomerResult)
"""Show a customer as envelopes do."""


def customer_not_found(customer_id: str) -> CustomerNotFoundError:
    """Say that no living customer has this id."""
    return CustomerNotFoundError(messages.not_found(RESOURCE, "id", customer_id), {"customer_id": customer_id})


def email_taken() -> CustomerAlreadyExistsError:
    """Say that the e-mail is taken, without repeating it."""
    return CustomerAlreadyExistsError(messages.already_exists(RESOURCE, "email", messages.HIDDEN), {"field": "email"})


def customer_id_taken(customer_id: str) -> CustomerAlreadyExistsError:
    """Say that the id is taken, by a living customer or a deleted one."""
    return CustomerAlreadyExistsError(
        messages.already_exists(RESOURCE, "id", customer_id), {"field": "customer_id", "customer_id": customer_id}
    )
