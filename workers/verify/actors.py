"""What is sent: each actor owns a customer and its key, and sends one message after the other.

An actor sends the next message only when the broker has the one before: so the order of its key's log is the order of
its places. A send whose fate is unknown (the broker went away) is repeated with the same id, which is what an upstream
system would do.
"""

import random
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from workers.verify.ledger import Sent

ALWAYS: Final = frozenset({429, 504})
"""A caller may be limited or late whatever it asks."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One thing to publish."""

    sent: Sent
    body: dict[str, Any]
    roles: tuple[str, ...] = ("catalog_admin",)


class Actor:
    """One customer's story: created, changed, ordered for, and now and then something bad or repeated.

    `seed` decides what is sent, `run` the ids: those of another run are others, whatever the seed.
    """

    def __init__(self, run: str, number: int, callers: int, products: list[str], seed: int) -> None:
        """Speak for `callers` callers in turn, so that none of them is limited."""
        self.customer_id = str(uuid.uuid5(uuid.NAMESPACE_OID, f"{run}-{number}"))
        self._callers = callers
        self._run = run
        self._number = number
        self._products = products
        self._random = random.Random(f"{seed}-{number}")  # noqa: S311 - reproducible, not secret
        self._place = 0
        self._past: list[Delivery] = []
        self._orders: list[str] = []

    def story(self) -> Iterator[Delivery]:
        """Make messages without end."""
        email = f"verify-{self._run}-{self._number}@example.com"
        yield self._new("create_customer", {"name": "Verify", "email": email, "customer_id": self.customer_id}, {201})
        while True:
            yield self._next()

    def farewell(self) -> Delivery:
        """Make the message that deletes the customer."""
        return self._new("delete_customer", {"customer_id": self.customer_id}, {200})

    def product(self, mnemonic: str) -> Delivery:
        """Make the message that creates a product to order."""
        delivery = self._new("create_product", {"mnemonic": mnemonic, "overview": "verify"}, {201, 400})
        delivery.body["version"] = 2
        return delivery

    def _next(self) -> Delivery:
        chance = self._random.random()
        if chance < 0.08 and self._past:  # noqa: PLR2004 - shares of the mix, named by what follows
            return self._random.choice(self._past[-50:])
        if chance < 0.10:  # noqa: PLR2004
            return self._new("update_customer", {"customer_id": self.customer_id, "name": ""}, {422})
        if chance < 0.12:  # noqa: PLR2004
            return self._new("update_customer", {"customer_id": str(uuid.uuid4()), "name": "X"}, {404})
        if chance < 0.14:  # noqa: PLR2004
            return self._new(
                "update_customer", {"customer_id": self.customer_id, "name": "X"}, {403}, roles=("catalog_reader",)
            )
        if chance < 0.16:  # noqa: PLR2004
            payload = {"customer_id": self.customer_id, "name": "X", "expected_version": 1_000_000}
            return self._new("update_customer", payload, {409})
        if chance < 0.35 and self._products:  # noqa: PLR2004
            return self._place_order()
        if chance < 0.42 and self._orders:  # noqa: PLR2004
            order = self._random.choice(self._orders)
            return self._new("cancel_order", {"customer_id": self.customer_id, "order_id": order}, {200})
        return self._new("update_customer", {"customer_id": self.customer_id, "name": f"Verify {self._place}"}, {200})

    def _place_order(self) -> Delivery:
        order = str(uuid.uuid5(uuid.NAMESPACE_OID, f"{self._run}-{self._number}-order-{self._place}"))
        self._orders.append(order)
        line = {"mnemonic": self._random.choice(self._products), "quantity": 1, "unit_price": "1.50"}
        payload = {"customer_id": self.customer_id, "order_id": order, "lines": [line]}
        return self._new("place_order", payload, {201})

    def _new(
        self, kind: str, payload: dict[str, Any], expected: set[int], roles: tuple[str, ...] = ("catalog_admin",)
    ) -> Delivery:
        self._place += 1
        message_id = f"v-{self._run}-{self._number}-{self._place}"
        caller = f"verify-{self._run}-{(self._number + self._place) % self._callers}"
        sent = Sent(message_id, caller, self.customer_id, self._place, kind, frozenset(expected) | ALWAYS)
        delivery = Delivery(sent, {"kind": kind, "payload": payload}, roles)
        self._past.append(delivery)
        return delivery
