"""Queries on a large catalogue beside the same on a small one: `make bench-queries`, options `--asks N`, `--small`.

Database time, as the metric has it (`catalog_database_seconds`), of each hot query: asked in turn of 1,000 rows of each
table, and of 1,000,000 customers, 1,000,000 orders (100,000 of them one customer's) and 200,000 products; no cache.
"""

import argparse
import asyncio
import os
import random
import tempfile
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import asyncpg
from rich.console import Console
from rich.table import Table

from contracts.registry import KINDS
from handlers.context import Context
from handlers.queries import QUERIES
from handlers.queries.asked import Asked
from handlers.result import Success
from migrations import runner
from persistence.engine import Engine, PoolSettings, connected, create_engine, database_time
from persistence.readers import TableReaders
from persistence.seed import SeedSizes
from tests.servers import Servers, start_servers
from workers.seed import seed_with_progress

LARGE: Final = SeedSizes(customers=1_000_000, products=200_000, orders=1_000_000)
SMALL: Final = SeedSizes(customers=1_000, products=1_000, orders=1_000)
MOST: Final = 1.5
"""How much longer a query on the large catalogue may take; by the issue that asked for it."""
SEARCH_P99_MS: Final = 50.0
INFIXES: Final = ("jks", "ldw", "zeg", "vel")
"""Three letters each; fewer than one customer in a hundred has them."""


@dataclass(frozen=True)
class Catalogue:
    """A seeded database, and what can be asked for in it."""

    engine: Engine
    readers: TableReaders
    customers: Sequence[str]
    largest: str
    mnemonics: Sequence[str]

    async def ask(self, kind: str, payload: dict[str, Any]) -> float:
        """Ask as a query worker does; seconds in the database."""
        query = KINDS[kind].newest.model.model_validate(payload)
        context = Context(datetime.now(UTC), lambda: "", "", is_operator=False)
        with database_time() as spent:
            (result,) = await QUERIES[kind]([Asked(query, context)], self.readers)
        assert isinstance(result, Success), result
        return spent.seconds


Asks = Callable[[Catalogue, random.Random], dict[str, Any]]

HOT: Final[dict[str, Asks]] = {
    "get_customer_summary": lambda of, dice: {"customer_id": dice.choice((of.largest, dice.choice(of.customers)))},
    "get_product": lambda of, dice: {"mnemonic": dice.choice(of.mnemonics)},
    "list_products": lambda _, __: {},
    "get_customer_orders": lambda of, dice: {"customer_id": dice.choice((of.largest, dice.choice(of.customers)))},
    "customer_analytics": lambda _, __: {},
}


async def catalogue(servers: Servers, sizes: SeedSizes, console: Console) -> Catalogue:
    """Make and seed a database."""
    name = f"bench_{uuid.uuid4().hex[:8]}"
    admin = await asyncpg.connect(servers.env.database_url)
    await admin.execute(f'create database "{name}"')
    await admin.close()
    url = servers.database(name)
    await runner.upgrade(url)
    engine = create_engine(url, PoolSettings(), "bench")
    await seed_with_progress(engine, sizes, datetime.now(UTC), console)
    async with connected(engine) as connection:
        await connection.execute("vacuum analyze")
        customers = await connection.fetch("select id::text from customers order by md5(id::text) limit 1000")
        mnemonics = await connection.fetch("select mnemonic from products order by md5(mnemonic) limit 1000")
        largest = await connection.fetchval(
            "select customer_id::text from orders group by 1 order by count(*) desc limit 1"
        )
    return Catalogue(
        engine,
        TableReaders(engine, engine),
        [row["id"] for row in customers],
        largest,
        [row["mnemonic"] for row in mnemonics],
    )


def at(times: Sequence[float], share: float) -> float:
    """Return a percentile, in milliseconds."""
    return sorted(times)[min(len(times) - 1, int(len(times) * share))] * 1000


async def run(servers: Servers, sizes: SeedSizes, asks: int, console: Console) -> None:
    """Ask in turn, print both sides."""
    small, large = await catalogue(servers, SMALL, console), await catalogue(servers, sizes, console)
    dice = random.Random(1)
    table = Table("", "1,000 rows: p50, p99", "large: p50, p99", "ratio of p50, p99", title=f"ms, {asks} asks each")
    for kind, payload in HOT.items():
        times: dict[int, list[float]] = {id(small): [], id(large): []}
        for number in range(asks + asks // 10):
            for one in (small, large):
                spent = await one.ask(kind, payload(one, dice))
                if number >= asks // 10:  # the first ones connect, and warm caches
                    times[id(one)].append(spent)
        figures = [(at(times[id(one)], 0.5), at(times[id(one)], 0.99)) for one in (small, large)]
        table.add_row(
            kind,
            *(f"{p50:.2f}, {p99:.2f}" for p50, p99 in figures),
            ", ".join(f"{after / before:.2f}" for before, after in zip(*figures, strict=True)),
        )
    console.print(table)
    console.print(f"wanted: each ratio ≤ {MOST}")
    needles = [INFIXES[number % len(INFIXES)] for number in range(asks // 2)]
    searched = [await large.ask("search_customers", {"name_contains": needle}) for needle in needles]
    console.print(
        f"search_customers by three letters: p50 {at(searched, 0.5):.1f} ms, p99 {at(searched, 0.99):.1f} ms"
        f" (wanted: ≤ {SEARCH_P99_MS:.0f})"
    )
    for one in (small, large):
        await one.engine.dispose()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--asks", type=int, default=2_000)
    parser.add_argument("--small", action="store_true", help="a tenth of the large catalogue")
    asked = parser.parse_args()
    console = Console()
    sizes = SeedSizes(100_000, 20_000, 100_000) if asked.small else LARGE
    with (
        tempfile.TemporaryDirectory() as state,
        start_servers(os.environ.get("TEST_STACK", "embedded"), Path(state)) as servers,
    ):
        asyncio.run(run(servers, sizes, asked.asks, console))


if __name__ == "__main__":
    main()
