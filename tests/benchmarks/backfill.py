"""`make bench-backfill`: backfilled rows a second beside one plain UPDATE, on one machine, in one run.

Every side changes the same 500,000 rows in the same way. Rounds alternate between the sides, so that none has the quiet
minutes for itself; the figures are medians. The clock of a backfill runs from the wish to the end of its closing walk.
Parts: `rate`, `verify` (with it), `memory`, `eta`, `live`; all of them, or those named. Options: `--rows`, `--rounds`,
`--state` (a folder for the servers' data: one in memory takes the stalls of a shared disk out of `live`).
"""

import argparse
import asyncio
import gc
import math
import os
import random
import statistics
import sys
import tempfile
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import asyncpg
import psutil
from rich.console import Console
from rich.table import Table

from migrations import runner
from persistence.backfill.accounts import FinishedChunk
from persistence.engine import PoolSettings, create_engine
from tests.backfill.workshop import ENDED, Session, Workshop
from tests.databases import drop_database
from tests.servers import Servers, start_servers
from workers.backfill.progress import Progress, Walked, last_look_s, progress_of

EXPRESSION: Final = """source || '{"checked": true}'"""


def definition_of(expression: str) -> str:
    """Write a row-local definition."""
    return f"""
        TABLE = "walked"
        KEY = ("id",)
        TODO = "target is null"
        SET = {{"target": {expression!r}}}
        ROW_LOCAL = True
        """


ROW_LOCAL: Final = definition_of(EXPRESSION)
LOCKED: Final = ROW_LOCAL.replace("ROW_LOCAL = True", "")
HEAVY_FILL: Final = definition_of(f"{EXPRESSION} || jsonb_build_object('h', sha512(repeat(source::text, 150)::bytea))")
"""Takes about 20 µs a row: so runs last long enough to be asked about."""
SLOW_FILL: Final = definition_of(f"{EXPRESSION} || jsonb_build_object('h', sha512(repeat(source::text, 900)::bytea))")
"""Takes about 120 µs a row: a table small enough to stay in PostgreSQL's memory lasts a minute. A larger one is written
away page by page meanwhile, and on a disk the system's own writing, every five seconds, then holds up the WAL."""
SINGLE: Final = f"update walked set target = {EXPRESSION} where target is null"
ROWS: Final = """
insert into walked (id, source)
select i, jsonb_build_object('name', 'product ' || i, 'price', i % 1000, 'tags', jsonb_build_array('a', 'b'))
from generate_series(1, $1::bigint) i"""
BATCH: Final = 1_000
"""Rows of a plain key batch, the usual way to write a backfill by hand."""


@dataclass(frozen=True)
class Options:
    """What was asked for."""

    rows: int
    rounds: int
    console: Console
    admin_url: str
    """Of a superuser, where the stack names one."""


def admin_url_of(servers: Servers) -> str:
    """Return the URL of the superuser; of the owner where the servers are somebody's own."""
    url: str = getattr(servers.env, "database_admin_url", servers.env.database_url)
    return url


@asynccontextmanager
async def workshop_of(servers: Servers) -> AsyncIterator[Workshop]:
    """A migrated database of its own with the table to walk, dropped afterwards."""
    name = f"bench_{uuid.uuid4().hex[:8]}"
    owner = await asyncpg.connect(servers.env.database_url)
    await owner.execute(f'create database "{name}"')
    await owner.close()
    url = servers.database(name)
    await runner.upgrade(url)
    engine = create_engine(url, PoolSettings(size=2, max_overflow=2), "bench")
    session: Session = await asyncpg.connect(url)
    # Vacuum is done between the rounds: one that begins within would slow down the engine (by its throttle) alone.
    await session.execute("""
        create table walked (id bigint primary key, source jsonb not null, target jsonb)
        with (autovacuum_enabled = off)""")
    try:
        with tempfile.TemporaryDirectory() as folder:
            opened = Workshop(url, engine, session, Path(folder))
            opened.define("row_local", ROW_LOCAL)
            opened.define("locked", LOCKED)
            yield opened
    finally:
        await session.close()
        await engine.dispose()
        admin = await asyncpg.connect(admin_url_of(servers))  # a vacuum within is not the owner's to end
        await drop_database(admin.execute, name)
        await admin.close()


async def settle(options: Options) -> None:
    """Have everything written away, by the database and by the system, and segments of WAL left to be used again.

    Making a new one stops everybody for 15 ms, and a system that writes away a new table for longer.
    """
    admin: Session = await asyncpg.connect(options.admin_url)
    for _ in range(SEGMENTS):
        await admin.execute("select pg_logical_emit_message(false, 'bench', ''), pg_switch_wal()")
    await admin.execute("checkpoint", timeout=600)
    await admin.close()
    os.sync()


async def fill(workshop: Workshop, rows: int) -> None:
    """Put the table where every round begins: full, vacuumed, nothing done."""
    await workshop.session.execute("truncate walked")
    await workshop.session.execute(ROWS, rows, timeout=600)
    await workshop.session.execute("vacuum analyze walked")


@asynccontextmanager
async def processes(workshop: Workshop, count: int, *throttle: str) -> AsyncIterator[Sequence[psutil.Process]]:
    """Run workers as an operator does, each in a process; ready when they have looked around."""
    workers = [await workshop.process(f"bench{number}", *throttle, forks=False) for number in range(count)]
    await workshop.poll("select count(*) = $1 from backfill_workers where seen_at > now() - interval '5 s'", count)
    try:
        yield [psutil.Process(worker.pid) for worker in workers]
    finally:
        for worker in workers:
            worker.terminate()
        await asyncio.gather(*(worker.wait() for worker in workers))
        await workshop.session.execute("delete from backfill_workers")


# ------------------------------------------------------------------------------------------------------ rate and verify


async def single(workshop: Workshop, rows: int) -> float:
    """Change all rows by one UPDATE; rows a second."""
    began = time.perf_counter()
    await workshop.session.execute(SINGLE, timeout=600)
    return rows / (time.perf_counter() - began)


async def batches(workshop: Workshop, rows: int) -> float:
    """Change all rows in plain key batches; rows a second."""
    began = time.perf_counter()
    for low in range(1, rows + 1, BATCH):
        await workshop.session.execute(f"{SINGLE} and id >= $1 and id < $2", low, low + BATCH)
    return rows / (time.perf_counter() - began)


async def engine(workshop: Workshop, rows: int, name: str, workers: int) -> tuple[float, float]:
    """Change all rows by the engine, then verify; rows a second of both."""
    async with processes(workshop, workers):
        began = time.perf_counter()
        await workshop.wish(lambda control: control.start(name))
        run = await workshop.until(name, *ENDED)
        rate = rows / (time.perf_counter() - began)
        assert (run["state"], run["rows_done"]) == ("completed", rows), run
        began = time.perf_counter()
        await workshop.wish(lambda control: control.verify(name))
        verify = await workshop.until(name, *ENDED, verify=True)
        assert verify["state"] == "completed", verify
        return rate, rows / (time.perf_counter() - began)


async def rates(workshop: Workshop, options: Options) -> None:
    """Alternate the sides and print their medians side by side."""
    sides: dict[str, list[float]] = {}

    def note(side: str, rate: float) -> None:
        sides.setdefault(side, []).append(rate)

    for _ in range(options.rounds):
        await fill(workshop, options.rows)
        note("one UPDATE", await single(workshop, options.rows))
        await fill(workshop, options.rows)
        note(f"key batches of {BATCH:,}", await batches(workshop, options.rows))
        for name, workers in (("row_local", 1), ("row_local", 2), ("locked", 1)):
            await fill(workshop, options.rows)
            rate, verify = await engine(workshop, options.rows, name, workers)
            note(f"engine, {name}, {workers} worker{'s' * (workers > 1)}", rate)
            if (name, workers) == ("row_local", 1):
                note("verify, 1 worker", verify)
    base = statistics.median(sides["one UPDATE"])
    one = statistics.median(sides["engine, row_local, 1 worker"])
    table = Table(
        "", "rows/s, median", "of one UPDATE", "rounds", title=f"{options.rows:,} rows, {os.cpu_count()} cores"
    )
    for side, seen in sides.items():
        median = statistics.median(seen)
        table.add_row(side, f"{median:,.0f}", f"{median / base:.2f}", ", ".join(f"{rate:,.0f}" for rate in seen))
    options.console.print(table)
    two = statistics.median(sides["engine, row_local, 2 workers"])
    options.console.print(f"one worker {one / base:.2f} of one UPDATE (≥ 0.8), two {two / one:.2f} of one (≥ 0.95)")
    options.console.print(
        f"verify takes {one / statistics.median(sides['verify, 1 worker']):.0%} of the backfill's time (≤ 50 %)"
    )


# --------------------------------------------------------------------------------------------------------------- memory


async def memory(workshop: Workshop, options: Options) -> None:
    """Print the worker's memory after tables of growing size."""
    table = Table("rows", "worker's resident memory, MB", title="memory")
    for rows in (options.rows // 5, options.rows, options.rows * 20):
        await fill(workshop, rows)
        async with processes(workshop, 1) as (worker,):
            await workshop.wish(lambda control: control.start("row_local"))
            run = await _until(workshop, "row_local", 900)
            assert run["state"] == "completed", run
            table.add_row(f"{rows:,}", f"{worker.memory_info().rss / 1e6:.1f}")
    options.console.print(table)


async def _until(workshop: Workshop, name: str, patience_s: float) -> Any:  # noqa: ANN401 (a run's view)
    give_up_at = time.monotonic() + patience_s
    while (view := await workshop.look(name))["state"] not in ENDED:
        assert time.monotonic() < give_up_at
        await asyncio.sleep(0.1)
    return view


# -------------------------------------------------------------------------------------------------------- the time left


async def eta(workshop: Workshop, options: Options, runs: int = 20) -> None:
    """Replay what was known at 25, 50 and 75 % of real runs of random size, rate and number of workers."""
    contained = narrow = 0
    workshop.define("heavy_fill", HEAVY_FILL)
    for seed in range(runs):
        dice = random.Random(seed)
        rows = dice.randrange(options.rows * 2, options.rows * 4)
        await fill(workshop, rows)
        await settle(options)
        async with processes(workshop, dice.choice((1, 2))):
            await workshop.wish(lambda control: control.start("heavy_fill"))
            run = await _until(workshop, "heavy_fill", 300)
        for part in (0.25, 0.5, 0.75):
            progress, left_s = await _as_of(workshop, run, part)
            if progress.low_s is not None and progress.high_s is not None:
                contained += progress.low_s <= left_s <= progress.high_s
                narrow += progress.high_s - progress.low_s <= left_s / 2
    asked = runs * 3
    options.console.print(
        f"time left, asked {asked} times: contains the truth {contained / asked:.0%},"
        f" no wider than half of it {narrow / asked:.0%} (≥ 90 % each)"
    )


async def _as_of(workshop: Workshop, run: Any, part: float) -> tuple[Progress, float]:  # noqa: ANN401
    """Return what would have been said when so much of a run's time was over, and how much was truly left."""
    now_s = run["seconds"] * part
    chunks = [
        FinishedChunk(now_s - row["at"], row["pass"], row["rows_walked"], row["took_s"])
        for row in await workshop.session.fetch(
            """
            select extract(epoch from c.finished_at - r.started_at)::float8 as at, c.pass, c.rows_walked,
                coalesce(c.seconds, 0) as took_s
            from backfill_chunks c join backfill_runs r on r.id = c.run_id where r.id = $1 order by c.finished_at""",
            run["run_id"],
        )
        if row["at"] <= now_s
    ]
    idle_row_s = await workshop.session.fetchval("select idle_row_s from backfill_runs where id = $1", run["run_id"])
    number = chunks[-1].pass_number if chunks else 1
    walked = Walked(
        rows_estimated=run["rows_estimated"],
        pass_number=number,
        rows_walked=sum(chunk.rows_walked for chunk in chunks if chunk.pass_number == number),
        age_s=now_s,
        last_look_s=last_look_s(run["rows_estimated"], idle_row_s) if number == 1 else 0.0,
    )
    return progress_of(walked, chunks), run["seconds"] - now_s


# --------------------------------------------------------------------------------------------------------- live traffic

CLIENTS: Final = 4
SEGMENTS: Final = 64
"""A gigabyte of WAL: at 2 MB/s, after the page images that follow a checkpoint, more than a run needs."""
WINDOW_S: Final = 10
PUBLISHED_EVERY_S: Final = 1.0
PUBLISHED_OVER_S: Final = 5
BLOCKS: Final = 5
BLOCK: Final = 2
"""Windows alone and with the throttle take turns, two of each five times: what others do to the machine meets both
alike, and a disk or a host that stalls without a backfill, too, shows it."""
FIRST_WINDOWS: Final = 5
"""Alone, before any backfill: their median is the baseline."""
UNTHROTTLED_WINDOWS: Final = 3
CAPACITY_PROBES: Final = 3
STEP: Final = 0.02
POINT_WRITE: Final = "update walked set source = source || jsonb_build_object('seen', $2::bigint) where id = $1"


class Window(NamedTuple):
    """The live percentile of ten seconds, and how much of a core the host gave to other machines meanwhile."""

    p99_ms: float
    stolen: float


class Latencies:
    """How long requests took, counted by second and by steps of 2 %.

    Keeping each one and sorting them took up to 100 ms of every second, for which the clients stood still.
    """

    def __init__(self) -> None:
        self._seconds: dict[int, Counter[int]] = defaultdict(Counter)

    def note(self, at: float, took_s: float) -> None:
        """Count one that ended at a time."""
        self._seconds[int(at)][round(math.log(max(took_s, 1e-6)) / STEP)] += 1

    def p99_ms(self, until: float, over_s: int) -> float:
        """Return the 99th percentile of those that ended in the whole seconds before a time, in milliseconds."""
        counts: Counter[int] = Counter()
        for second in range(int(until - over_s), int(until)):
            counts.update(self._seconds.get(second, {}))
        above = counts.total() / 100
        for step in sorted(counts, reverse=True):
            above -= counts[step]
            if above < 0:
                return math.exp(step * STEP) * 1000
        return 0.0


class LiveTraffic:
    """Clients that change single rows at a steady rate and publish their own 99th percentile, as workers do.

    A request's time counts from when it was due, so that one that waits for its turn is slow, too.
    """

    def __init__(self, workshop: Workshop, rows: int) -> None:
        self._workshop = workshop
        self._rows = rows
        self._latencies = Latencies()
        self._dice = random.Random(1)

    async def capacity(self, seconds: float) -> float:
        """Return requests a second of clients that never pause."""
        began = time.perf_counter()
        counts = await asyncio.gather(*(self._press(began + seconds) for _ in range(CLIENTS)))
        return sum(counts) / seconds

    async def _press(self, until: float) -> int:
        session: Session = await asyncpg.connect(self._workshop.url)
        count = 0
        while time.perf_counter() < until:
            await session.execute(POINT_WRITE, self._dice.randint(1, self._rows), count)
            count += 1
        await session.close()
        return count

    @asynccontextmanager
    async def at(self, rate: float) -> AsyncIterator[None]:
        """Go on at a rate, shared by the clients."""
        tasks = [asyncio.create_task(self._client(CLIENTS / rate, number / rate)) for number in range(CLIENTS)]
        tasks.append(asyncio.create_task(self._publish()))
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _client(self, every_s: float, offset_s: float) -> None:
        session: Session = await asyncpg.connect(self._workshop.url)
        due = time.perf_counter() + offset_s
        while True:
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            await session.execute(POINT_WRITE, self._dice.randint(1, self._rows), 1)
            now = time.perf_counter()
            self._latencies.note(now, now - due)
            due += every_s

    async def _publish(self) -> None:
        session: Session = await asyncpg.connect(self._workshop.url)
        while True:
            await asyncio.sleep(PUBLISHED_EVERY_S)
            await session.execute(
                """
                insert into worker_heartbeats (worker, role, phases, p99_ms)
                values ('live', 'commands', '{}', jsonb_build_object('writes', $1::float8))
                on conflict (worker) do update set p99_ms = excluded.p99_ms, seen_at = now()""",
                self._latencies.p99_ms(time.perf_counter(), PUBLISHED_OVER_S),
            )

    async def windows(self, number: int) -> list[Window]:
        """Go on for so many windows; returns what was seen in each."""
        found = []
        for _ in range(number):
            before = _stolen_s()
            await asyncio.sleep(WINDOW_S)
            p99_ms = self._latencies.p99_ms(time.perf_counter(), WINDOW_S)
            found.append(Window(p99_ms, (_stolen_s() - before) / WINDOW_S))
        return found


def _stolen_s() -> float:
    """Return the seconds of our cores that the host has given to other machines, where the system tells."""
    return float(getattr(psutil.cpu_times(), "steal", 0.0))


async def live(workshop: Workshop, options: Options) -> None:
    """Print the live percentile at half of capacity: with the throttle and alone in turns, then without it."""
    workshop.define("slow_fill", SLOW_FILL)
    for number in range(1, 4):
        await fill(workshop, options.rows)
        await settle(options)
        gc.collect()
        gc.freeze()  # a look through all that is loaded would stop the clients for 30 ms
        traffic = LiveTraffic(workshop, options.rows)
        probes = [await traffic.capacity(WINDOW_S / 2) for _ in range(CAPACITY_PROBES)]
        rate = statistics.median(probes) / 2
        async with traffic.at(rate):
            await traffic.windows(1)
            before = await traffic.windows(FIRST_WINDOWS)
            baseline = statistics.median(window.p99_ms for window in before)
            budget = max(1.2 * baseline, baseline + 5)
            throttled, alone, rows_on = await _in_turns(workshop, traffic, budget)
            unthrottled, rows_off = await _unthrottled(workshop, traffic)
        kept_alone, kept = (sum(one.p99_ms <= budget for one in found) / len(found) for found in (alone, throttled))
        over, over_off = (statistics.mean(one.p99_ms for one in found) - baseline for found in (throttled, unthrottled))
        options.console.print(
            f"run {number}: {rate:,.0f} writes/s, p99 (and how much of a core other machines took) before"
            f" {_listed(before)}; budget {budget:.1f} ms; in turns, with the throttle {_listed(throttled)} at"
            f" {rows_on:,.0f} rows/s, and alone {_listed(alone)}; without throttle {_listed(unthrottled)} at"
            f" {rows_off:,.0f} rows/s: {kept:.0%} of windows within the budget (≥ 90 %; alone {kept_alone:.0%}),"
            f" {over / max(over_off, 1e-9):.0%} of the excess (≤ 50 %)"
        )


async def _in_turns(
    workshop: Workshop, traffic: LiveTraffic, budget_ms: float
) -> tuple[list[Window], list[Window], float]:
    """Run a backfill with the throttle, paused every other block; returns windows with it, alone, and rows a second."""
    throttled: list[Window] = []
    alone: list[Window] = []
    async with processes(workshop, 1, f"{budget_ms:.2f}"):
        await traffic.windows(1)  # the start of a process takes a core for a second
        await workshop.wish(lambda control: control.start("slow_fill"))
        for block in range(BLOCKS):
            if block:
                await workshop.wish(lambda control: control.resume("slow_fill"))
            throttled += await traffic.windows(BLOCK)
            await workshop.wish(lambda control: control.pause("slow_fill"))
            alone += await traffic.windows(BLOCK)
        return throttled, alone, await _cancelled(workshop) / (len(throttled) * WINDOW_S)


async def _unthrottled(workshop: Workshop, traffic: LiveTraffic) -> tuple[list[Window], float]:
    """Run a backfill that listens to nothing; returns its windows, and rows a second."""
    async with processes(workshop, 1, "off"):
        await traffic.windows(1)
        await workshop.wish(lambda control: control.start("slow_fill"))
        found = await traffic.windows(UNTHROTTLED_WINDOWS)
        return found, await _cancelled(workshop) / (len(found) * WINDOW_S)


async def _cancelled(workshop: Workshop) -> int:
    """End the backfill; returns how many rows it did."""
    done: int = (await workshop.wish(lambda control: control.cancel("slow_fill")))["rows_done"]
    await workshop.until("slow_fill", "cancelled")
    return done


def _listed(windows: Sequence[Window]) -> str:
    return ", ".join(f"{window.p99_ms:.1f} ({window.stolen:.0%})" for window in windows)


# ----------------------------------------------------------------------------------------------------------------- main

PARTS: Final = {"rate": rates, "memory": memory, "eta": eta, "live": live}


async def run(servers: Servers, parts: Sequence[str], options: Options) -> None:
    """Measure the parts asked for, each on a database of its own."""
    for part in parts:
        async with workshop_of(servers) as workshop:
            await PARTS[part](workshop, options)


def asked_for(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line; no part named means all of them."""
    parser = argparse.ArgumentParser()
    # Not as `choices`: Python 3.11 would look for the whole default among them
    parser.add_argument("parts", nargs="*", type=part, default=list(PARTS), metavar="|".join(PARTS))
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--state", type=Path)
    return parser.parse_args(arguments)


def part(name: str) -> str:
    """Read the name of a part. Raise ArgumentTypeError for any other."""
    if name not in PARTS:
        raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(PARTS)}")
    return name


def _entered_by_all(folder: Path) -> Path:
    folder.chmod(0o711)  # PostgreSQL's account may be another, and would keep its data elsewhere
    return folder


def main() -> None:
    """Measure and print."""
    asked = asked_for(sys.argv[1:])
    console = Console()
    with (
        tempfile.TemporaryDirectory(dir=asked.state) as folder,
        start_servers(os.environ.get("TEST_STACK", "embedded"), _entered_by_all(Path(folder))) as servers,
    ):
        asyncio.run(run(servers, asked.parts, Options(asked.rows, asked.rounds, console, admin_url_of(servers))))


if __name__ == "__main__":
    main()
