"""Customers in memory."""

from collections.abc import AsyncIterator, Sequence

from handlers.customer import Customer, CustomerSearch
from handlers.page import Found
from tests.in_memory.declared import Declared, touch


class InMemoryCustomers:
    """Living customers by id, and the ids that are taken for ever."""

    def __init__(self) -> None:
        self.rows: dict[str, Customer] = {}
        self.taken_ids: set[str] = set()
        self.declared = Declared()

    async def find_by_id(self, customer_id: str) -> Customer | None:
        """Find a living customer."""
        touch(customer_id, self.declared.customers | self.taken_ids, "customers")
        return self.rows.get(customer_id)

    async def find_by_email(self, email_key: str) -> Customer | None:
        """Find who has this folded e-mail."""
        touch(email_key, self.declared.emails, "e-mails")
        return next((one for one in self.rows.values() if one.email_key == email_key), None)

    async def is_id_taken(self, customer_id: str) -> bool:
        """Tell whether the id belongs to a living or a deleted customer."""
        touch(customer_id, self.declared.customers, "customer ids")
        return customer_id in self.taken_ids

    async def save(self, customer: Customer) -> None:
        """Insert or change."""
        self.rows[customer.id] = customer
        self.taken_ids.add(customer.id)

    async def delete(self, customer: Customer) -> None:
        """Erase; the id stays taken."""
        del self.rows[customer.id]


class InMemoryCustomerReader:
    """Customers as queries see them."""

    def __init__(self, customers: InMemoryCustomers) -> None:
        self._customers = customers

    async def get_many(self, customer_ids: Sequence[str]) -> dict[str, Customer]:
        """Find living customers."""
        return {one: self._customers.rows[one] for one in customer_ids if one in self._customers.rows}

    async def search(self, searches: Sequence[CustomerSearch]) -> Sequence[Found[Customer]]:
        """Find pages, newest first, ties by id."""
        return [self._search(search) for search in searches]

    def _search(self, search: CustomerSearch) -> Found[Customer]:
        found = [
            one
            for one in self._customers.rows.values()
            if (search.name_contains or "") in one.name_key
            and (search.email_contains or "") in one.email_key
            and search.is_active in {None, one.is_active}
        ]
        found.sort(key=lambda one: (one.created_at, one.id), reverse=True)
        total = len(found)
        if search.after is not None:
            found = [one for one in found if (one.created_at, one.id) < search.after]
        page = found[search.offset : search.offset + search.limit]
        return Found(page, len(found) > search.offset + search.limit, total)

    async def count_active(self) -> int:
        """Count living, active customers."""
        return sum(one.is_active for one in self._customers.rows.values())

    async def list_all(self) -> AsyncIterator[Customer]:
        """Walk over all living customers by id."""
        for one in sorted(self._customers.rows.values(), key=lambda customer: customer.id):
            yield one
