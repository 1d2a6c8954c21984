"""Callers that outlive their topics: each message is sent again, under its id, until it is answered.

An order without an `order_id` is a new one whenever it is applied: so the database tells what was applied twice.
"""

import asyncio
import json
import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final, Self

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from tests.system import Reply, System

CUSTOMERS: Final = 48
UNDER_WAY: Final = 400
"""Deliveries that may wait for the broker at once."""
_MNEMONIC: Final = "BOOK"
_GIVE_UP_MS: Final = 3000
"""A delivery that the broker did not take by then is sent again, later."""


@dataclass(frozen=True)
class Place:
    """Where the broker put one delivery, and when, by its clock (ms)."""

    topic: str
    partition: int
    offset: int
    stamped_ms: int


@dataclass
class Asked:
    """One message, with all its deliveries."""

    side: str
    message_id: str
    """Its key as well: every partition is written to."""
    body: dict[str, Any]
    places: list[Place] = field(default_factory=list)
    under_way: int = 0
    """Deliveries of which the broker has not said whether it took them."""


class Callers:
    """The load of a deployment: orders and look-ups, at a rate. An async context manager; it needs workers."""

    def __init__(self, system: System, orders_per_s: float, queries_per_s: float) -> None:
        self.system = system
        self.asked: dict[str, Asked] = {}
        self.aborted: set[str] = set()
        """Ids of what was sent in transactions that were aborted."""
        self.customers: list[str] = []
        self._rates = {"commands": orders_per_s, "queries": queries_per_s}
        self._token = system.token()
        self._under_way: set[asyncio.Task[None]] = set()
        self._numbers = 0

    async def __aenter__(self) -> Self:
        self._producer = AIOKafkaProducer(
            bootstrap_servers=self.system.servers.env.kafka_bootstrap_servers,
            acks="all",
            request_timeout_ms=_GIVE_UP_MS,
            metadata_max_age_ms=500,
        )
        await self._producer.start()
        await self.system.command("create_product", {"mnemonic": _MNEMONIC, "overview": "x"}, version=2)
        emails = [f"{uuid.uuid4().hex}@example.com" for _ in range(CUSTOMERS)]
        made = await asyncio.gather(
            *(self.system.command("create_customer", {"name": "Ada", "email": email}) for email in emails)
        )
        self.customers = [reply.data["id"] for reply in made]
        self._sending = [asyncio.create_task(self._send(side)) for side in self._rates]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()
        await self._producer.stop()

    async def stop(self) -> None:
        """Send nothing new; returns when no delivery is under way."""
        for sending in self._sending:
            sending.cancel()
        await asyncio.gather(*self._sending, return_exceptions=True)
        await self.delivered()

    async def delivered(self) -> None:
        """Return when what is under way by now was taken by the broker, or given up."""
        if self._under_way:
            await asyncio.wait(set(self._under_way))

    def new(self, side: str) -> Asked:
        """Make a message that was not sent yet."""
        self._numbers += 1
        customer = self.customers[self._numbers % CUSTOMERS]
        kind, payload = "get_customer", {"customer_id": customer}
        if side == "commands":
            lines = [{"mnemonic": _MNEMONIC, "quantity": 1, "unit_price": "1.50"}]
            kind, payload = "place_order", {"customer_id": customer, "lines": lines}  # type: ignore[dict-item]
        return Asked(side, f"{side}-{self._numbers}", {"kind": kind, "payload": payload})

    def note(self, asked: Asked) -> None:
        """Hold a message to account from now on."""
        self.asked[asked.message_id] = asked

    def headers(self, asked: Asked, *, keyless: bool = False) -> list[tuple[str, bytes]]:
        """Make a message's headers; where `keyless`, its reply has no key."""
        fields = {"message_id": asked.message_id, "reply_to": self.system.reply_to} | (
            {} if keyless else {"correlation_id": asked.message_id, "authorization": f"Bearer {self._token}"}
        )
        return [(name, value.encode()) for name, value in fields.items()]

    def deliver(self, asked: Iterable[Asked]) -> None:
        """Send messages, or send them again."""
        for one in asked:
            delivery = asyncio.create_task(self._deliver(one))
            self._under_way.add(delivery)
            delivery.add_done_callback(self._under_way.discard)

    async def publish(self, topic: str, value: bytes, headers: list[tuple[str, bytes]]) -> None:
        """Publish what is none of the messages held to account."""
        await self._producer.send_and_wait(topic, value, headers=headers)

    def replies(self, asked: Asked) -> list[Reply]:
        """All replies to a message so far."""
        return self.system.replies.get(asked.message_id, [])

    def unanswered(self) -> list[Asked]:
        """The messages without any reply."""
        return [one for one in self.asked.values() if not self.replies(one)]

    # -------------------------------------------------------------------------------------------------------------- own
    async def _send(self, side: str) -> None:
        due_at = time.monotonic()
        while True:
            due_at += 1 / self._rates[side]
            await asyncio.sleep(max(0.0, due_at - time.monotonic()))
            if len(self._under_way) < UNDER_WAY:
                asked = self.new(side)
                self.note(asked)
                self.deliver([asked])

    async def _deliver(self, asked: Asked) -> None:
        asked.under_way += 1
        try:
            sent = await self._producer.send_and_wait(
                f"{self.system.prefix}.{asked.side}",
                json.dumps(asked.body).encode(),
                key=asked.message_id.encode(),
                headers=self.headers(asked),
            )
        except (KafkaError, TimeoutError):
            return  # nobody knows whether it arrived: it is sent again if it is not answered
        finally:
            asked.under_way -= 1
        asked.places.append(Place(sent.topic, sent.partition, sent.offset, sent.timestamp))
