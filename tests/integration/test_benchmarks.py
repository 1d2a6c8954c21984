"""The benchmarks' plumbing: each side answers what it is sent. The figures are of no account here."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Final

import pytest

from tests.benchmarks import backlog, latency, reads, standing
from tests.benchmarks.backlog import Measured
from tests.benchmarks.sides import Databases, Side
from tests.servers import Servers

OURS: Final = Side("ours")
RIVAL: Final = Side("rival", program=("tests.benchmarks.rival",))
FLOOR: Final = Side("floor", program=("tests.benchmarks.loop", "plain"))
LOOP: Final = Side("loop", program=("tests.benchmarks.loop", "ours"))
A_FEW: Final = 60

Measure = Callable[[Servers, Databases], Awaitable[Sequence[float]]]


def _rates(*measured: Measured) -> Sequence[float]:
    return [figure for one in measured for figure in (one.rate, one.cpu_us)]


async def _creations(servers: Servers, databases: Databases, side: Side) -> Sequence[float]:
    return _rates(await backlog.measure_creations(servers, databases, side, number=A_FEW))


async def _latency(servers: Servers, databases: Databases) -> Sequence[float]:
    found = await latency.measure_latency(servers, databases, OURS, samples=5)
    return [ms for kind in latency.KINDS for ms in latency.percentiles(found[kind])]


async def _standing(servers: Servers, databases: Databases) -> Sequence[float]:
    found = await standing.measure_standing(servers, databases, OURS, lasting_s=1)
    return found.commands_idle, found.queries_idle, found.resident_mb


async def _beside(servers: Servers, databases: Databases) -> Sequence[float]:
    alone, beside = await reads.measure_beside(servers, reads.Catalogues(servers, databases), OURS, samples=5)
    return [*alone, *beside]


async def _reads(servers: Servers, databases: Databases, name: str) -> Sequence[float]:
    return _rates(await reads.measure_reads(servers, reads.Catalogues(servers, databases), OURS, name))


PARTS: Final[Mapping[str, Measure]] = {
    "create": lambda servers, databases: _creations(servers, databases, OURS),
    "two processes": lambda servers, databases: _creations(servers, databases, Side("two", workers=2)),
    "bare loop": lambda servers, databases: _creations(servers, databases, LOOP),
    "floor": lambda servers, databases: _creations(servers, databases, FLOOR),
    "usual handler": lambda servers, databases: _creations(servers, databases, RIVAL),
    "mix": lambda servers, databases: _one(backlog.measure_mix(servers, databases, OURS)),
    "rules": lambda servers, databases: _one(backlog.measure_orders(servers, databases, OURS, "R")),
    "duplicates": lambda servers, databases: _two(backlog.measure_duplicates(servers, databases, OURS)),
    "alone": _latency,
    "stand": _standing,
    "beside": _beside,
} | {name: partial(_reads, name=name) for name in reads.BACKLOGS}


async def _one(measuring: Awaitable[Measured]) -> Sequence[float]:
    return _rates(await measuring)


async def _two(measuring: Awaitable[tuple[Measured, Measured]]) -> Sequence[float]:
    return _rates(*await measuring)


@pytest.fixture(scope="module")
def databases(stack: Servers) -> Databases:
    """One template for all."""
    return Databases(stack)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes that prove nothing, and take no time."""
    for module, sizes in (
        (backlog, {"COMMANDS": A_FEW, "STOCK": 20, "PRODUCTS": 3}),
        (reads, {"ASKED": A_FEW, "CUSTOMERS": 200, "PRODUCTS": 100, "RARE": 3}),
        (standing, {"SETTLED_S": 0.1, "OFFERED": 50}),
    ):
        for name, size in sizes.items():
            monkeypatch.setattr(module, name, size)


@pytest.mark.bench
@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("part", PARTS)
async def test_every_side_answers(stack: Servers, databases: Databases, part: str) -> None:
    """All that is sent is answered with success, and figures come of it."""
    figures = await PARTS[part](stack, databases)
    assert figures
    assert all(figure >= 0 for figure in figures)
