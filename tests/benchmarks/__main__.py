"""`make bench`: each figure that is promised, both sides in one run; `make bench ARGS="create latency --rounds 3"`.

Rounds alternate, so that neither side has the quiet minutes for itself; the figures are medians, compared are their
ratios. The other side is a commit of this project (`--at`, a commit or a folder). On a shared machine the workers' own
processor time tells more than the rate.
"""

import argparse
import logging
import os
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import uvloop
from rich.console import Console
from rich.table import Table

from tests.benchmarks import backlog, latency, reads, standing
from tests.benchmarks.backlog import Measured
from tests.benchmarks.sides import BASE, Databases, Side, checkout
from tests.servers import Servers, start_servers

ROUNDS: Final = 5
OURS: Final = "this checkout"

T = TypeVar("T")


@dataclass(frozen=True)
class Bench:
    """One run: where, and against whom."""

    servers: Servers
    databases: Databases
    catalogues: reads.Catalogues
    base: Side
    ours: Side
    rounds: int
    console: Console

    async def alternate(self, sides: Sequence[T], measure: Callable[[T], Awaitable["Sample"]]) -> list[list["Sample"]]:
        """Measure each side once a round, first in every other one; what was measured of each."""
        measured: list[list[Sample]] = [[] for _ in sides]
        for number in range(self.rounds):
            order = range(len(sides)) if number % 2 == 0 else reversed(range(len(sides)))
            for at in order:
                measured[at].append(await measure(sides[at]))
        return measured

    def show(self, title: str, columns: Sequence[str], rows: Mapping[str, Sequence[Sequence[float]]]) -> None:
        """Print medians, and the rounds behind them."""
        table = Table("", *columns, title=f"{title}, medians of {self.rounds}")
        for name, figures in rows.items():
            table.add_row(name, *(_median_and_rounds(rounds) for rounds in figures))
        self.console.print(table)

    def say(self, what: str, ratio: float, bound: str) -> None:
        """Print a ratio beside what it is to be."""
        self.console.print(f"  {what}: {ratio:.3f}   ({bound})")


Sample = Sequence[float]


def _median_and_rounds(rounds: Sequence[float]) -> str:
    digits = 0 if statistics.median(rounds) >= 100 else 2
    return f"{statistics.median(rounds):,.{digits}f} ({', '.join(f'{one:,.{digits}f}' for one in rounds)})"


def _columns(samples: Sequence[Sample]) -> list[list[float]]:
    return [list(column) for column in zip(*samples, strict=True)]


def _medians(samples: Sequence[Sample]) -> list[float]:
    return [statistics.median(column) for column in _columns(samples)]


def _pair(measured: Measured) -> Sample:
    return measured.rate, measured.cpu_us


RATE_AND_CPU: Final = ("commands/s", "µs of CPU a command")


# The parts ----------------------------------------------------------------------------------------------------------
async def create(bench: Bench) -> None:
    """create_customer: beside the other commit, the bare loop on our tables, and the floor of two plain tables."""
    loop = Side("the bare loop on our tables", program=("tests.benchmarks.loop", "ours"))
    floor = Side("the floor of two plain tables", program=("tests.benchmarks.loop", "plain"))
    sides = [bench.base, bench.ours, loop, floor]

    async def measure(side: Side) -> Sample:
        return _pair(await backlog.measure_creations(bench.servers, bench.databases, side))

    measured = await bench.alternate(sides, measure)
    bench.show("create_customer", RATE_AND_CPU, {s.name: _columns(m) for s, m in zip(sides, measured, strict=True)})
    base, ours, bare, _ = map(_medians, measured)
    bench.say("rate of the other commit's", ours[0] / base[0], "at least 1.6")
    bench.say("rate of the bare loop's", ours[0] / bare[0], "at least 0.75, aim 1.0")
    bench.say("CPU of the other commit's", ours[1] / base[1], "at most 0.75, aim 0.6")


async def mix(bench: Bench) -> None:
    """40 % update_customer, 30 % place_order, 20 % create_customer, 10 % update_product."""

    async def measure(side: Side) -> Sample:
        return _pair(await backlog.measure_mix(bench.servers, bench.databases, side))

    sides = [bench.base, bench.ours]
    measured = await bench.alternate(sides, measure)
    bench.show("mix", RATE_AND_CPU, {s.name: _columns(m) for s, m in zip(sides, measured, strict=True)})
    base, ours = map(_medians, measured)
    bench.say("rate of the other commit's", ours[0] / base[0], "at least 1.5")
    bench.say("CPU of the other commit's", ours[1] / base[1], "at most 0.75")


async def duplicates(bench: Bench) -> None:
    """A backlog of commands that were applied before."""

    async def measure(side: Side) -> Sample:
        new, again = await backlog.measure_duplicates(bench.servers, bench.databases, side)
        return (*_pair(new), *_pair(again))

    (measured,) = await bench.alternate([bench.ours], measure)
    columns = ("new commands/s", "µs of CPU", "duplicates/s", "µs of CPU")
    bench.show("duplicates", columns, {OURS: _columns(measured)})
    new, _, again, _ = _medians(measured)
    bench.say("rate of new ones'", again / new, "at least 0.95")


async def rules(bench: Bench) -> None:
    """Orders of one line, with a rule for it and without."""

    async def measure(prefix: str) -> Sample:
        return _pair(await backlog.measure_orders(bench.servers, bench.databases, bench.ours, prefix))

    plain, ruled = await bench.alternate(["P", "R"], measure)
    bench.show("place_order", RATE_AND_CPU, {"no rule": _columns(plain), "a rule a line": _columns(ruled)})
    bench.say("rate of orders without", _medians(ruled)[0] / _medians(plain)[0], "at least 0.8")


async def processes(bench: Bench) -> None:
    """Two processes beside one."""
    two = Side("two processes", bench.ours.root, workers=2)

    async def measure(side: Side) -> Sample:
        return _pair(await backlog.measure_creations(bench.servers, bench.databases, side, begin=0.25))

    measured = await bench.alternate([bench.ours, two], measure)
    bench.show("create_customer", RATE_AND_CPU, {"one process": _columns(measured[0]), two.name: _columns(measured[1])})
    one, both = map(_medians, measured)
    bench.say("rate of one's", both[0] / one[0], "at least 0.95")
    bench.say("CPU of one's", both[1] / one[1], "at most 1.1")


async def lanes(bench: Bench) -> None:
    """A command worker with one lane, with two and with three."""
    sides = [bench.ours.beside(f"{number} lanes", COMMAND_LANES=str(number)) for number in (1, 2, 3)]

    async def measure(side: Side) -> Sample:
        return _pair(await backlog.measure_creations(bench.servers, bench.databases, side))

    measured = await bench.alternate(sides, measure)
    bench.show("create_customer", RATE_AND_CPU, {s.name: _columns(m) for s, m in zip(sides, measured, strict=True)})
    one, two, _ = map(_medians, measured)
    bench.say("rate of two lanes, of one's", two[0] / one[0], "more than 1")


async def handler(bench: Bench) -> None:
    """The usual handler: one message, one session, one transaction."""
    rival = Side("the usual handler", program=("tests.benchmarks.rival",))

    async def measure(side: Side) -> Sample:
        number = 1_000 if side is rival else backlog.COMMANDS
        return _pair(await backlog.measure_creations(bench.servers, bench.databases, side, number=number))

    sides = [rival, bench.ours]
    measured = await bench.alternate(sides, measure)
    bench.show("create_customer", RATE_AND_CPU, {s.name: _columns(m) for s, m in zip(sides, measured, strict=True)})
    bench.say("rate of the usual handler's", _medians(measured[1])[0] / _medians(measured[0])[0], "at least 10")


async def stand(bench: Bench) -> None:
    """Idle processor time over a minute, memory after a minute of load."""

    async def measure(side: Side) -> Sample:
        found = await standing.measure_standing(bench.servers, bench.databases, side)
        return found.commands_idle, found.queries_idle, found.resident_mb

    sides = [bench.base, bench.ours]
    measured = await bench.alternate(sides, measure)
    columns = ("command worker idle, % of a core", "query worker idle, %", "command worker after load, MB")
    bench.show("standing", columns, {s.name: _columns(m) for s, m in zip(sides, measured, strict=True)})
    base, ours = map(_medians, measured)
    bench.say("idle command worker", ours[0] / base[0], "at most 0.5")
    bench.say("idle query worker", ours[1] / base[1], "at most 0.5")
    bench.say("memory", ours[2] / base[2], "at most 1.1")


async def alone(bench: Bench) -> None:
    """Latency at 50 requests a second in all, an echo in between."""
    kinds = latency.KINDS

    async def measure(side: Side) -> Sample:
        found = await latency.measure_latency(bench.servers, bench.databases, side)
        return [ms for kind in kinds for ms in latency.percentiles(found[kind])]

    (measured,) = await bench.alternate([bench.ours], measure)
    columns = _columns(measured)
    rows = {kind: columns[3 * at : 3 * at + 3] for at, kind in enumerate(kinds)}
    bench.show("latency at 50/s", ("p50, ms", "p90", "p99"), rows)
    p50 = {kind: statistics.median(figures[0]) for kind, figures in rows.items()}
    bench.say("create_customer's p50 of the echo's", p50["create_customer"] / p50["echo"], "at most 2.8")
    for kind in ("get_customer", "get_product"):
        bench.say(f"{kind}'s p50 of the echo's", p50[kind] / p50["echo"], "at most 2")


async def queries(bench: Bench) -> None:
    """Searches and lists on 200,000 customers and 20,000 products, no two equal; and equal ones."""
    sides = [bench.base, bench.ours]
    for name in reads.BACKLOGS:

        async def measure(side: Side, name: str = name) -> Sample:
            return _pair(await reads.measure_reads(bench.servers, bench.catalogues, side, name))

        measured = await bench.alternate(sides, measure)
        columns = ("queries/s", "µs of CPU a query")
        bench.show(name, columns, {s.name: _columns(m) for s, m in zip(sides, measured, strict=True)})
        base, ours = map(_medians, measured)
        least = 5 if name.startswith("equal") else 2.5
        bench.say("rate of the other commit's", ours[0] / base[0], f"at least {least}")


async def beside(bench: Bench) -> None:
    """get_product beside 200 searches by one rare letter."""

    async def measure(side: Side) -> Sample:
        alone_ms, beside_ms = await reads.measure_beside(bench.servers, bench.catalogues, side)
        return (*latency.percentiles(alone_ms), *latency.percentiles(beside_ms))

    (measured,) = await bench.alternate([bench.ours], measure)
    columns = _columns(measured)
    rows = {"alone": columns[:3], "beside rare searches": columns[3:]}
    bench.show("get_product", ("p50, ms", "p90", "p99"), rows)
    medians = _medians(measured)
    bench.say("p90 beside of p90 alone", medians[4] / medians[1], "at most 5")
    bench.say("p99 beside, s", medians[5] / 1000, "at most 1")


PARTS: Final[Mapping[str, Callable[[Bench], Awaitable[None]]]] = {
    "create": create,
    "mix": mix,
    "duplicates": duplicates,
    "rules": rules,
    "processes": processes,
    "lanes": lanes,
    "handler": handler,
    "stand": stand,
    "alone": alone,
    "queries": queries,
    "beside": beside,
}


def arguments() -> argparse.ArgumentParser:
    """Make the parser of the command line."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__, allow_abbrev=False)
    told = "; ".join(f"{name}: {(part.__doc__ or '').strip()}" for name, part in PARTS.items())
    parser.add_argument("parts", nargs="*", metavar="part", help=f"all of them where none is named. {told}")
    parser.add_argument("--at", default=BASE, help=f"the commit, or folder, that it is compared with; {BASE}")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"{ROUNDS}")
    return parser


async def run(asked: argparse.Namespace, servers: Servers, base: Path) -> None:
    """Measure one part after the other."""
    databases = Databases(servers)
    catalogues = reads.Catalogues(servers, databases)
    sides = Side(f"commit {asked.at}", base), Side(OURS)
    bench = Bench(servers, databases, catalogues, *sides, asked.rounds, Console(width=160, soft_wrap=True))
    bench.console.print(f"one process each, {os.cpu_count()} cores shared with broker, database and client")
    for name in asked.parts or PARTS:
        began_at = time.monotonic()
        await PARTS[name](bench)
        bench.console.print(f"  {name}: {time.monotonic() - began_at:.0f} s\n")


def main() -> None:
    """Print the figures."""
    parser = arguments()
    asked = parser.parse_args()
    if unknown := [name for name in asked.parts if name not in PARTS]:
        parser.error(f"there is no part {unknown[0]}: choose from {', '.join(PARTS)}")
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # the client's, while a topic is being made
    kind = os.environ.get("TEST_STACK", "embedded")
    with (
        checkout(asked.at) as base,
        tempfile.TemporaryDirectory() as state,
        start_servers(kind, Path(state)) as servers,
    ):
        uvloop.run(run(asked, servers, base))


if __name__ == "__main__":
    main()
