"""Queries on 200,000 customers and 20,000 products: a backlog of searches and lists, and look-ups beside dear searches.

Each side reads a database that its own `catalog seed` has made; no two queries of a backlog are equal, or all are.
"""

import asyncio
import itertools
import random
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from tests.benchmarks.backlog import TIMEOUT_S, Measured, end, rate_of
from tests.benchmarks.sides import PARTITIONS, Databases, Side, run_cli, spent_s
from tests.servers import Servers
from tests.system import System

CUSTOMERS: Final = 200_000
PRODUCTS: Final = 20_000
ASKED: Final = 2_000
RARE: Final = 200
LOOKED_UP: Final = 1_000
LOOK_UPS_A_SECOND: Final = 20
_SYLLABLES: Final = ("ada", "ber", "cur", "dij", "eul", "fer", "gau", "ham", "ing", "jan", "kov", "lov", "mar", "noe")

Query = dict[str, Any]


class Catalogues:
    """A seeded database of each checkout, made once."""

    def __init__(self, servers: Servers, databases: Databases) -> None:
        self._servers, self._databases = servers, databases
        self._urls: dict[Any, str] = {}

    async def of(self, side: Side) -> str:
        """Its URL."""
        if side.root not in self._urls:
            url = await self._databases.new(side.root)
            system = System(self._servers, url, root=side.root)
            sizes = ("--customers", str(CUSTOMERS), "--products", str(PRODUCTS), "--orders", "0")
            await run_cli(system, "seed", *sizes)
            self._urls[side.root] = url
        return self._urls[side.root]


def searches() -> Iterator[Query]:
    """Searches of customers, no two equal: by a part of the name, a part of the address, or both, page by page."""
    for offset in itertools.count():
        for part, other in itertools.product(_SYLLABLES, ("e", "a", "o")):
            yield _query("search_customers", name_contains=part, offset=offset)
            yield _query("search_customers", email_contains=other + part[0], limit=20, offset=offset)


def lists() -> Iterator[Query]:
    """Pages of products, no two equal, and none so far on that it takes a cursor."""
    for page in itertools.count(1):
        for size in range(1, 101):
            yield _query("list_products", page=page, page_size=size)


def equal_searches() -> Iterator[Query]:
    """The same search."""
    return itertools.repeat(_query("search_customers", name_contains="ada"))


def equal_lists() -> Iterator[Query]:
    """The same page."""
    return itertools.repeat(_query("list_products", page=1))


BACKLOGS: Final[Mapping[str, Callable[[], Iterator[Query]]]] = {
    "search_customers": searches,
    "list_products": lists,
    "equal search_customers": equal_searches,
    "equal list_products": equal_lists,
}


def _query(kind: str, **payload: object) -> Query:
    return {"kind": kind, "payload": payload}


async def measure_reads(servers: Servers, catalogues: Catalogues, side: Side, name: str) -> Measured:
    """Have a backlog answered by one process: queries a second, from the first reply to the last, and their CPU."""
    async with System(servers, await catalogues.of(side), PARTITIONS, side.root, forks=False, judges=False) as system:
        token = system.token()
        bodies = itertools.islice(BACKLOGS[name](), ASKED)
        ids = [await system.send("queries", body, key=uuid.uuid4().hex, token=token) for body in bodies]
        await system.flush()
        workers = await side.start(system, "queries")
        await _any_of(system, ids)
        before, begun_s = len(system.replies), spent_s(workers)
        rate = rate_of([await system.reply(one, timeout_s=TIMEOUT_S) for one in ids])
        cpu_s = spent_s(workers) - begun_s
        await end(workers)
        return Measured(rate, cpu_s / max(1, len(ids) - before) * 1e6)


async def _any_of(system: System, ids: Sequence[str]) -> None:
    async def has_begun() -> bool:
        return bool(system.replies)

    await system.until(has_begun, TIMEOUT_S, f"none of {len(ids)} queries is answered")


async def measure_beside(
    servers: Servers, catalogues: Catalogues, side: Side, samples: int = LOOKED_UP
) -> tuple[Sequence[float], Sequence[float]]:
    """Milliseconds of get_product alone, and beside 200 searches by one rare letter that are under way all the time."""
    async with System(servers, await catalogues.of(side), PARTITIONS, side.root, forks=False, judges=False) as system:
        await side.start(system, "queries", ready=True)
        rows = await system.fetch("select mnemonic from products order by md5(mnemonic) limit 1000")
        mnemonics = [row["mnemonic"] for row in rows]
        alone = await _look_up(system, mnemonics, samples)
        searching = asyncio.create_task(_keep_searching(system))
        try:
            return alone, await _look_up(system, mnemonics, samples)
        finally:
            searching.cancel()


async def _look_up(system: System, mnemonics: Sequence[str], samples: int) -> Sequence[float]:
    token, chance, sent = system.token(), random.Random(3), []
    begin = time.monotonic()
    for number in range(samples):
        await asyncio.sleep(max(0.0, begin + number / LOOK_UPS_A_SECOND - time.monotonic()))
        body = _query("get_product", mnemonic=chance.choice(mnemonics))
        at = time.time()
        sent.append((await system.send("queries", body, key=uuid.uuid4().hex, token=token), at))
    return sorted([((await system.reply(one, timeout_s=TIMEOUT_S)).at - at) * 1000 for one, at in sent])


async def _keep_searching(system: System) -> None:
    """Have so many searches under way, each by one letter that hardly anybody has: it reads the whole table."""
    token, number, letters = system.token("searcher"), itertools.count(), itertools.cycle("qxøź")

    async def search_on() -> None:
        while True:
            body = _query("search_customers", name_contains=next(letters), offset=next(number) % 900)
            sent = await system.send("queries", body, key=uuid.uuid4().hex, token=token)
            await system.reply(sent, timeout_s=TIMEOUT_S)

    async with asyncio.TaskGroup() as group:
        for _ in range(RARE):
            group.create_task(search_on())
