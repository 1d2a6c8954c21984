"""A backlog: messages that are in the topic before a worker starts; how fast it is answered, at what cost.

The clock runs from the first reply to the last, or, where more than one process starts, from the moment at which a
quarter is answered. The processor time is that of the workers alone.
"""

import random
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from tests.benchmarks.sides import PARTITIONS, Databases, Side, spent_s
from tests.servers import Servers
from tests.system import Reply, System, WorkerProcess

COMMANDS: Final = 10_000
STOCK: Final = 2_000
PRODUCTS: Final = 50
RULE: Final = {
    "name": "size",
    "parameters": {"required": ["size"], "properties": {"size": {"type": "integer", "minimum": 1, "maximum": 9}}},
    "start_date": "2020-01-01",
}
TIMEOUT_S: Final = 300.0


@dataclass(frozen=True)
class Measured:
    """Commands a second, and the workers' processor time in µs a command."""

    rate: float
    cpu_us: float


Body = tuple[str, dict[str, Any]]
"""Key and body of a command."""


def creations(number: int) -> list[Body]:
    """Make creations of customers."""
    return [(uuid.uuid4().hex, creation()) for _ in range(number)]


def creation() -> dict[str, Any]:
    """Make a creation."""
    payload = {"name": "Ada Lovelace", "email": f"{uuid.uuid4().hex}@gmail.com", "preferences": {"theme": "dark"}}
    return {"kind": "create_customer", "payload": payload}


def mix(number: int, customers: Sequence[str]) -> list[Body]:
    """40 % update_customer, 30 % place_order, 20 % create_customer, 10 % update_product."""
    chance, found = random.Random(1), []
    for n in range(number):
        key = customer = chance.choice(customers)
        share = n % 10
        if share < 4:
            body = {"kind": "update_customer", "payload": {"customer_id": customer, "name": f"Name {n}"}}
        elif share < 7:
            body = order(customer, f"P_{chance.randrange(PRODUCTS)}")
        elif share < 9:
            key, body = uuid.uuid4().hex, creation()
        else:
            key = f"P_{chance.randrange(PRODUCTS)}"
            body = {"kind": "update_product", "payload": {"mnemonic": key, "overview": f"O {n}"}}
        found.append((key, body))
    return found


def orders(number: int, customers: Sequence[str], prefix: str = "P") -> list[Body]:
    """Make orders of one line; a product whose name begins with R has a rule for each of its lines."""
    chance = random.Random(2)
    return [
        (customer, order(customer, f"{prefix}_{chance.randrange(PRODUCTS)}"))
        for customer in (chance.choice(customers) for _ in range(number))
    ]


def order(customer: str, mnemonic: str) -> dict[str, Any]:
    """Make an order."""
    line = {"mnemonic": mnemonic, "quantity": 1, "unit_price": "9.99", "attributes": {"size": 5}}
    return {"kind": "place_order", "payload": {"customer_id": customer, "lines": [line]}}


async def send_all(system: System, bodies: Sequence[Body]) -> list[tuple[str, str]]:
    """Publish commands by one caller; the correlation id and the message id of each."""
    token, sent = system.token(), []
    for key, body in bodies:
        message_id = uuid.uuid4().hex
        sent.append((await system.send("commands", body, key=key, token=token, message_id=message_id), message_id))
    await system.flush()
    return sent


async def lay_in(system: System, side: Side) -> list[str]:
    """Have customers and products made; the customers' ids."""
    workers = await side.start(system, ready=True)
    bodies: list[Body] = []
    for prefix in "PR":
        for n in range(PRODUCTS):
            made = {"mnemonic": f"{prefix}_{n}", "overview": "O"}
            bodies.append((f"{prefix}_{n}", {"kind": "create_product", "version": 2, "payload": made}))
    for n in range(PRODUCTS):
        ruled = {"mnemonic": f"R_{n}", "rules": [RULE]}
        bodies.append((f"R_{n}", {"kind": "set_validation_rules", "payload": ruled}))
    sent = await send_all(system, [*bodies, *creations(STOCK)])
    replies = [await system.reply(correlation_id, timeout_s=TIMEOUT_S) for correlation_id, _ in sent]
    refused = [reply.envelope for reply in replies if reply.status not in {200, 201}]
    assert not refused, f"{len(refused)} refused: {refused[:3]}"
    await end(workers)
    return [reply.data["id"] for reply in replies[len(bodies) :]]


async def end(workers: Sequence[WorkerProcess]) -> None:
    """Stop workers as an operator does."""
    for worker in workers:
        worker.process.terminate()
    for worker in workers:
        await worker.ended()


async def answered(
    system: System, side: Side, sent: Sequence[tuple[str, str]], *, nth: int = 1, begin: float = 0.0
) -> Measured:
    """Start a side's processes, and measure until all of these are answered; `begin`: from which share on."""
    ids = [correlation_id for correlation_id, _ in sent]
    workers = await side.start(system)

    def done() -> int:
        return sum(len(system.replies.get(one, ())) >= nth for one in ids)

    async def has_begun() -> bool:
        return done() > begin * len(ids)

    await system.until(has_begun, TIMEOUT_S, f"{side.name} does not answer")
    before, begun_s = done(), spent_s(workers)
    replies = [await system.reply(one, nth=nth, timeout_s=TIMEOUT_S) for one in ids]
    cpu_s = spent_s(workers) - begun_s
    await end(workers)
    return Measured(rate_of(replies, int(begin * len(ids))), cpu_s / max(1, len(ids) - before) * 1e6)


def rate_of(replies: Sequence[Reply], skipped: int = 0) -> float:
    """Replies a second after so many of them; all must be good ones."""
    refused = [reply.envelope for reply in replies if reply.status not in {200, 201}]
    assert not refused, f"{len(refused)} refused: {refused[:3]}"
    times = sorted(reply.at for reply in replies)[skipped:]
    return (len(times) - 1) / (times[-1] - times[0])


# What is measured, each in a deployment of its own ------------------------------------------------------------------
async def measure_creations(
    servers: Servers, databases: Databases, side: Side, *, number: int = COMMANDS, begin: float = 0.0
) -> Measured:
    """Create customers."""
    async with System(
        servers, await databases.new(side.root), PARTITIONS, side.root, forks=False, judges=False
    ) as system:
        return await answered(system, side, await send_all(system, creations(number)), begin=begin)


async def measure_mix(servers: Servers, databases: Databases, side: Side) -> Measured:
    """Do a bit of everything."""
    async with System(
        servers, await databases.new(side.root), PARTITIONS, side.root, forks=False, judges=False
    ) as system:
        customers = await lay_in(system, side)
        return await answered(system, side, await send_all(system, mix(COMMANDS, customers)))


async def measure_orders(servers: Servers, databases: Databases, side: Side, prefix: str) -> Measured:
    """Place orders."""
    async with System(
        servers, await databases.new(side.root), PARTITIONS, side.root, forks=False, judges=False
    ) as system:
        customers = await lay_in(system, side)
        return await answered(system, side, await send_all(system, orders(COMMANDS, customers, prefix)))


async def measure_duplicates(servers: Servers, databases: Databases, side: Side) -> tuple[Measured, Measured]:
    """Create customers, then send all of it again: of the new ones, and of the duplicates."""
    async with System(
        servers, await databases.new(side.root), PARTITIONS, side.root, forks=False, judges=False
    ) as system:
        bodies, token = creations(COMMANDS), system.token()
        sent = await send_all(system, bodies)
        new = await answered(system, side, sent)
        for (key, body), (correlation_id, message_id) in zip(bodies, sent, strict=True):
            await system.send(
                "commands", body, key=key, token=token, message_id=message_id, correlation_id=correlation_id
            )
        await system.flush()
        again = await answered(system, side, sent, nth=2)
        assert all(system.replies[one][1].headers.get("replayed") == "true" for one, _ in sent)
        return new, again
