"""What the messages of a batch declared: touching anything else is an error, as in the real unit of work."""

from collections.abc import Iterable

from contracts.kinds import Keys
from persistence.identity_map import UndeclaredKeyError


class Declared:
    """Names and ids that may be touched; what a batch makes itself it may touch as well."""

    def __init__(self) -> None:
        self.customers: set[str] = set()
        self.emails: set[str] = set()
        self.products: set[str] = set()
        self.changed_products: set[str] = set()
        self.deleted_products: set[str] = set()
        self.sized_products: set[str] = set()
        self.versions: set[tuple[str, str]] = set()
        self.rules: set[str] = set()
        self.orders: set[str] = set()

    def add(self, keys: Keys) -> None:
        """Take in what one message declares."""
        self.customers.update(keys.customers)
        self.emails.update(keys.emails)
        self.products.update(keys.products, keys.products_held)
        self.changed_products.update(keys.products)
        self.deleted_products.update(keys.products_deleted)
        self.sized_products.update(keys.products_sized)
        self.versions.update(keys.product_versions)
        self.rules.update(keys.product_rules, keys.products_held)
        self.orders.update(keys.orders)


def touch(key: object, declared: Iterable[object], what: str) -> None:
    """Raise `UndeclaredKeyError` for a key that was not declared."""
    if key not in declared:
        msg = f"{what}: a key was touched that the kind did not declare"
        raise UndeclaredKeyError(msg)
