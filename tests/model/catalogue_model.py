"""A catalogue in plain Python: what each command must be answered, one after the other, and what then is so."""

import copy
import json
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

Answer = tuple[int, str, str | None]
"""statusCode, type, error_code."""

CREATED: Answer = (201, "success", None)
DONE: Answer = (200, "success", None)
NEUTRAL: Answer = (200, "neutral", None)


def no(status: int, code: str) -> Answer:
    """Make a refusal."""
    return status, "error", code


@dataclass
class Model:
    """The state, and the outcomes that were stored."""

    customers: dict[str, dict[str, Any]] = field(default_factory=dict)
    dead: set[str] = field(default_factory=set)
    products: dict[str, dict[str, Any]] = field(default_factory=dict)
    orders: dict[str, dict[str, Any]] = field(default_factory=dict)
    outcomes: dict[tuple[str, str], tuple[str, list[str], int]] = field(default_factory=dict)
    erased: set[tuple[str, str]] = field(default_factory=set)

    def deliver(self, caller: str, message_id: str, kind: str, payload: dict[str, Any]) -> tuple[Answer, int | None]:
        """Answer a delivery; the second value is the number of the delivery whose bytes it must repeat."""
        content = json.dumps([kind, payload], sort_keys=True)
        key = caller, message_id
        if key in self.erased:
            return no(410, "OUTCOME_ERASED"), None
        if key in self.outcomes:
            known, _, number = self.outcomes[key]
            return (DONE, number) if known == content else (no(409, "MESSAGE_ID_REUSED"), None)
        answer, subjects = getattr(self, kind)(**copy.deepcopy(payload))
        self.outcomes[key] = content, subjects, self._number
        if kind == "delete_customer" and answer == DONE:
            gone = payload["customer_id"]
            self.erased |= {other for other, (_, speaks_of, _) in self.outcomes.items() if gone in speaks_of}
        return answer, None

    _number: int = 0

    def at(self, number: int) -> "Model":
        """Number the next delivery."""
        self._number = number
        return self

    # Customers -------------------------------------------------------------------------------------------------------
    def holder(self, email: str) -> str | None:
        """Find who has an e-mail."""
        return next((one for one, it in self.customers.items() if it["email"].lower() == email.lower()), None)

    def create_customer(self, customer_id: str, name: str, email: str) -> tuple[Answer, list[str]]:
        """Create."""
        holder = self.holder(email)
        if customer_id in self.customers or customer_id in self.dead or holder:
            return no(409, "CUSTOMER_ALREADY_EXISTS"), self._spoken_of(customer_id, holder)
        self.customers[customer_id] = {"name": name, "email": email, "version": 1, "is_active": True}
        return CREATED, [customer_id]

    def update_customer(
        self,
        customer_id: str,
        expected_version: int | None = None,
        **fields: Any,  # noqa: ANN401
    ) -> tuple[Answer, list[str]]:
        """Change."""
        customer = self.customers.get(customer_id)
        holder = self.holder(fields["email"]) if "email" in fields else None
        spoken_of = self._spoken_of(customer_id, holder)
        if customer is None:
            return no(404, "CUSTOMER_NOT_FOUND"), spoken_of
        if expected_version is not None and expected_version != customer["version"]:
            return no(409, "VERSION_CONFLICT"), spoken_of if fields.keys() & {"name", "email"} else []
        if all(customer[name] == value for name, value in fields.items()):
            return NEUTRAL, [customer_id]
        if holder not in {None, customer_id}:
            return no(409, "CUSTOMER_ALREADY_EXISTS"), spoken_of
        customer.update(fields, version=customer["version"] + 1)
        return DONE, [customer_id]

    def _spoken_of(self, customer_id: str, holder: str | None) -> list[str]:
        """Whose data a request may hold: that of the living customer it names, and of the one who has its e-mail."""
        named = [customer_id] if customer_id in self.customers else []
        return named if holder in {None, customer_id} else [*named, str(holder)]

    def delete_customer(self, customer_id: str) -> tuple[Answer, list[str]]:
        """Erase."""
        if customer_id not in self.customers:
            return no(404, "CUSTOMER_NOT_FOUND"), []
        del self.customers[customer_id]
        self.dead.add(customer_id)
        return DONE, []

    # Products --------------------------------------------------------------------------------------------------------
    def create_product(self, mnemonic: str, overview: str, category: str | None = None) -> tuple[Answer, list[str]]:
        """Create."""
        if mnemonic in self.products:
            return no(409, "PRODUCT_ALREADY_EXISTS"), []
        self.products[mnemonic] = {
            "overview": overview,
            "category": category,
            "version": 1,
            "archived": False,
            "versions": {},
            "rule": None,
        }
        return CREATED, []

    def update_product(
        self,
        mnemonic: str,
        expected_version: int | None = None,
        **fields: Any,  # noqa: ANN401
    ) -> tuple[Answer, list[str]]:
        """Change."""
        product = self.products.get(mnemonic)
        if product is None:
            return no(404, "PRODUCT_NOT_FOUND"), []
        if expected_version is not None and expected_version != product["version"]:
            return no(409, "VERSION_CONFLICT"), []
        if all(product[name] == value for name, value in fields.items()):
            return NEUTRAL, []
        product.update(fields, version=product["version"] + 1)
        return DONE, []

    def delete_product(self, mnemonic: str) -> tuple[Answer, list[str]]:
        """Delete, unless a placed order holds it."""
        product = self.products.get(mnemonic)
        if product is None:
            return no(404, "PRODUCT_NOT_FOUND"), []
        placed = [one for one in self.orders.values() if one["status"] == "placed"]
        if any(held is product for one in placed for held in one["products"]):  # two products may look the same
            return no(400, "BUSINESS_RULE_VIOLATION"), []
        del self.products[mnemonic]
        return DONE, []

    def archive_product(self, mnemonic: str, expected_version: int | None = None) -> tuple[Answer, list[str]]:
        """Take off sale."""
        return self.update_product(mnemonic, expected_version, archived=True)

    def restore_product(self, mnemonic: str, expected_version: int | None = None) -> tuple[Answer, list[str]]:
        """Put on sale again."""
        return self.update_product(mnemonic, expected_version, archived=False)

    def add_product_version(
        self, mnemonic: str, version_label: str, start_date: str, end_date: str | None, items: list[Any]
    ) -> tuple[Answer, list[str]]:
        """Add a version."""
        product = self.products.get(mnemonic)
        if product is None:
            return no(404, "PRODUCT_NOT_FOUND"), []
        if version_label in product["versions"]:
            return no(409, "PRODUCT_VERSION_ALREADY_EXISTS"), []
        if self._overlaps(product, version_label, start_date, end_date):
            return no(409, "OVERLAPPING_DATE_RANGE"), []
        product["versions"][version_label] = (start_date, end_date, len(items))
        product["version"] += 1
        return CREATED, []

    def end_product_version(self, mnemonic: str, version_label: str, end_date: str | None) -> tuple[Answer, list[str]]:
        """End, or open again."""
        product = self.products.get(mnemonic)
        if product is None:
            return no(404, "PRODUCT_NOT_FOUND"), []
        if version_label not in product["versions"]:
            return no(404, "PRODUCT_VERSION_NOT_FOUND"), []
        start, end, items = product["versions"][version_label]
        if end == end_date:
            return NEUTRAL, []
        if end_date is not None and end_date < start:
            return no(422, "VALIDATION_FAILED"), []
        if self._overlaps(product, version_label, start, end_date):
            return no(409, "OVERLAPPING_DATE_RANGE"), []
        product["versions"][version_label] = (start, end_date, items)
        product["version"] += 1
        return DONE, []

    @staticmethod
    def _overlaps(product: dict[str, Any], label: str, start: str, end: str | None) -> bool:
        last = "9999-12-31"
        return any(
            start <= (other_end or last) and other_start <= (end or last)
            for other, (other_start, other_end, _) in product["versions"].items()
            if other != label
        )

    # Orders ----------------------------------------------------------------------------------------------------------
    def place_order(self, customer_id: str, order_id: str, lines: list[dict[str, Any]]) -> tuple[Answer, list[str]]:
        """Place."""
        customer = self.customers.get(customer_id)
        if customer is None:
            return no(404, "CUSTOMER_NOT_FOUND"), []
        if any(line["mnemonic"] not in self.products for line in lines):
            return no(404, "PRODUCT_NOT_FOUND"), []
        if not customer["is_active"] or any(self.products[line["mnemonic"]]["archived"] for line in lines):
            return no(400, "BUSINESS_RULE_VIOLATION"), []
        if order_id in self.orders:
            return no(409, "ORDER_ALREADY_EXISTS"), []
        total = sum((line["quantity"] * Decimal(line["unit_price"]) for line in lines), Decimal(0))
        self.orders[order_id] = {
            "customer": customer_id,
            "status": "placed",
            "total": total,
            "products": [self.products[line["mnemonic"]] for line in lines],
        }
        return CREATED, []

    def cancel_order(self, customer_id: str, order_id: str) -> tuple[Answer, list[str]]:
        """Cancel."""
        order = self.orders.get(order_id)
        if order is None or order["customer"] != customer_id:
            return no(404, "ORDER_NOT_FOUND" if customer_id in self.customers else "CUSTOMER_NOT_FOUND"), []
        if order["status"] == "cancelled":
            return NEUTRAL, []
        order["status"] = "cancelled"
        return DONE, []
