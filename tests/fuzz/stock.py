"""What the costly messages are about: many customers, a large product, hard rules, one customer with many orders."""

import asyncio
import os
import sys
from dataclasses import dataclass
from typing import Final

from tests.fuzz.costly import ORDERED, PRODUCT, RULED
from tests.system import System

_DAY: Final = "{:04d}-01-01"


@dataclass(frozen=True)
class Stock:
    """What was made. `customer`: who has the orders."""

    customer: str
    rules: int
    """So many of the hard rules were accepted."""


async def lay_in(system: System, customers: int) -> Stock:
    """Make all of it; a command worker and a query worker run."""
    await seed(system, customers)
    for mnemonic in (PRODUCT, RULED, *(f"R_{n}" for n in range(20))):
        catalog = {"x": "y" * 60_000} if mnemonic == PRODUCT else {}
        reply = await system.command(
            "create_product", {"mnemonic": mnemonic, "overview": "o", "catalog": catalog}, version=2
        )
        assert reply.status == 201, reply.envelope
    items = [{"name": f"i{n}", "position": n, "attributes": {"a": "x" * 300}} for n in range(200)]
    for year in range(2000, 2007):
        payload = {
            "mnemonic": PRODUCT, "version_label": f"v{year}", "start_date": _DAY.format(year),
            "end_date": _DAY.format(year), "items": items,
        }  # fmt: skip
        reply = await system.command("add_product_version", payload)
        assert reply.status == 201, reply.envelope
    reply = await system.command("create_customer", {"name": "Ada", "email": "ada@example.com"})
    customer = str(reply.data["id"])
    line = {"mnemonic": PRODUCT, "quantity": 1, "unit_price": "1.00", "attributes": {"a": "x" * 1_000}}
    for _ in range(ORDERED):
        reply = await system.command("place_order", {"customer_id": customer, "lines": [line] * 5})
        assert reply.status == 201, reply.envelope
    return Stock(customer, await hardest_rules(system))


async def hardest_rules(system: System) -> int:
    """Set as many rules as one product may have: each asks three things of each item."""
    parameters = {"properties": {"x": {"items": {"type": "number", "minimum": 0, "maximum": 9}}}}
    for number in (50, 20, 10, 6, 5, 4, 3, 2, 1):
        rules = [{"name": f"r{n}", "parameters": parameters, "start_date": "2020-01-01"} for n in range(number)]
        reply = await system.command("set_validation_rules", {"mnemonic": RULED, "rules": rules})
        if reply.status == 200:
            return number
    raise AssertionError(reply.envelope)


async def seed(system: System, customers: int) -> None:
    """Have the project's own command make customers."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "workers", "seed", "--customers", str(customers), "--products", "1000", "--orders", "0",
        env=os.environ | system.environment(), cwd=system.root, stdout=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    assert await process.wait() == 0
