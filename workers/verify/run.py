"""Moves actors and ledger: publish at a rate for a time, wait for the answers, clean up, account."""

import asyncio
import math
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Protocol

import orjson
import structlog

from workers.ports import BrokerAwayError
from workers.verify.actors import Actor, Delivery
from workers.verify.ledger import Deviation, Ledger

_log = structlog.get_logger(__name__)

RESEND_AFTER_S: Final = 0.5


class Publishing(Protocol):
    """How messages get out; raises `BrokerAwayError` when it is not known whether they did."""

    async def publish(self, side: str, key: str, body: bytes, headers: Sequence[tuple[str, bytes]]) -> None: ...


@dataclass(frozen=True, slots=True)
class Plan:
    """How much to send. `drain_s`: how long the last answers may take."""

    rate_per_s: float = 200.0
    seconds: float = 20.0
    actors: int = 40
    drain_s: float = 60.0
    seed: int = 1

    @property
    def callers(self) -> int:
        """So many callers that none comes near the default limit of 100 requests a minute."""
        return max(8, math.ceil(self.rate_per_s * 60 / 60))


@dataclass(frozen=True, slots=True)
class Account:
    """What a run came to."""

    messages: int
    deliveries: int
    repeats: int
    statuses: Mapping[tuple[str, int], int]
    latencies_s: Sequence[float]
    deviations: Sequence[Deviation]


class Verification:
    """One run against a deployment."""

    def __init__(self, publishing: Publishing, token: Callable[[str, tuple[str, ...]], str], plan: Plan) -> None:
        self.ledger = Ledger()
        self._publishing = publishing
        self._token = token
        self._plan = plan
        self._run = uuid.uuid4().hex[:8]
        self._products: list[str] = []
        self._stop = asyncio.Event()
        self.deliveries = 0

    def on_reply(self, headers: Mapping[str, str], body: bytes) -> None:
        """Note a reply."""
        self.ledger.reply(headers.get("in_reply_to", ""), body, time.monotonic())

    def stop(self) -> None:
        """Send nothing more; account for what was sent."""
        self._stop.set()

    async def __call__(self) -> Account:
        """Send, wait, clean up, account."""
        await self._make_products()
        actors = [
            Actor(self._run, n, self._plan.callers, self._products, self._plan.seed) for n in range(self._plan.actors)
        ]
        ends_at = time.monotonic() + self._plan.seconds
        await asyncio.gather(*(self._act(actor, n, ends_at) for n, actor in enumerate(actors)))
        await self._drain()
        for actor in actors:
            await self._publish(actor.farewell())
        await self._drain()
        return Account(
            len(self.ledger),
            self.deliveries,
            self.ledger.repeats(),
            self.ledger.statuses(),
            self.ledger.latencies_s(),
            list(self.ledger.deviations()),
        )

    async def _make_products(self) -> None:
        """Make two products to order; a deployment that refuses them is verified without orders."""
        maker = Actor(self._run, -1, self._plan.callers, [], self._plan.seed)
        made = []
        for n in range(2):
            mnemonic = f"VERIFY_{self._run.upper()}_{n}"
            delivery = maker.product(mnemonic)
            await self._publish(delivery)
            made.append((mnemonic, delivery.sent))
        await self._drain()
        self._products = [mnemonic for mnemonic, sent in made if sent.outcome and sent.outcome["statusCode"] == 201]  # noqa: PLR2004

    async def _act(self, actor: Actor, number: int, ends_at: float) -> None:
        """Send an actor's story at its share of the rate, evenly spread."""
        every_s = self._plan.actors / self._plan.rate_per_s
        next_at = time.monotonic() + every_s * number / self._plan.actors
        for delivery in actor.story():
            wait = next_at - time.monotonic()
            if wait > 0:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._stop.wait(), wait)
            if self._stop.is_set() or time.monotonic() > ends_at:
                return
            await self._publish(delivery)
            next_at += every_s

    async def _publish(self, delivery: Delivery) -> None:
        """Publish until the broker says that it has the message."""
        sent = delivery.sent
        if not sent.deliveries:
            sent.first_sent_at = time.monotonic()
            self.ledger.send(sent)
        token = self._token(sent.caller, delivery.roles)
        headers = [
            ("message_id", sent.message_id.encode()),
            ("correlation_id", sent.message_id.encode()),
            ("authorization", f"Bearer {token}".encode()),
            ("content-type", b"application/json"),
        ]
        while True:
            sent.deliveries += 1
            self.deliveries += 1
            try:
                await self._publishing.publish("commands", sent.key, orjson.dumps(delivery.body), headers)
            except BrokerAwayError:
                await asyncio.sleep(RESEND_AFTER_S)
            else:
                return

    async def _drain(self) -> None:
        """Wait until every message has an answer, or the time is up."""
        end = time.monotonic() + self._plan.drain_s
        while self.ledger.unanswered() and time.monotonic() < end:  # noqa: ASYNC110 - replies come from elsewhere
            await asyncio.sleep(0.1)
