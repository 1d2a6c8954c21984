"""Backfill workers under fire: `python -m tests.chaos.backfill_chaos [short|long]`.

Three worker processes share a backfill while they are killed, stopped and woken, added and taken away, and Postgres is
killed once in between; live updates and inserts go on. At the end: each row was transformed at most once (counted by a
trigger in the database), none was missed, no live value was overwritten by a stale one, and verify is clean.
"""

import asyncio
import os
import random
import signal
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import asyncpg
from rich.console import Console

from migrations import runner
from persistence.engine import PoolSettings, create_engine
from persistence.faults import Fault, fault_of
from tests.backfill.workshop import ENDED, Session, Workshop
from tests.databases import drop_database
from tests.forked import Process
from tests.servers import Servers, start_servers

WORKERS: Final = 3
MOST_WORKERS: Final = 5
PATIENCE_S: Final = 3600.0
"""For each fault's turn, and for the end: the long form takes minutes on an idle machine, and longer on a busy one."""
LIVE_CLIENTS: Final = 2

TABLE: Final = """
create table walked (
    id bigint primary key, source bigint not null, target bigint, times integer not null default 0);
create function count_times() returns trigger language plpgsql as $$
begin
    new.times := old.times + 1;
    return new;
end $$;
create trigger counted before update on walked for each row
    when (current_setting('application_name') like 'catalog-backfill%') execute function count_times()"""
FILL: Final = """
    TABLE = "walked"
    KEY = ("id",)
    TODO = "walked.target is null"
    SQL = '''
        with slowed as materialized (select pg_sleep({pause_s})),
        done as (
            update walked set target = asked.value
            from (select walked.id, walked.source * 2 + 1 as value from walked where {{chunk}}) as asked
            where walked.id = asked.id returning 1)
        select count(*) from done, slowed'''
    EXPECTED = "walked.source * 2 + 1"
    ACTUAL = "walked.target"
    MAX_ROWS = {chunk_rows}
    """
# What live traffic does: a dual write, a write from before it (the old value alone, where there is no new one yet), and
# new rows of both kinds, behind and ahead of the walk.
LIVE: Final = (
    "update walked set source = $2, target = $2::bigint * 2 + 1 where id = $1",
    "update walked set source = $2, target = case when target is not null then $2::bigint * 2 + 1 end where id = $1",
    "insert into walked (id, source, target) values ($1, $2, $2::bigint * 2 + 1) on conflict do nothing",
    "insert into walked (id, source) values ($1, $2) on conflict do nothing",
)


@contextmanager
def _outages_borne() -> Iterator[None]:
    """Go on after an error that a restart of Postgres explains; any other is the test's own."""
    try:
        yield
    except Exception as error:
        if fault_of(error) is Fault.DEFECT:
            raise


@dataclass(frozen=True)
class Plan:
    """How much: rows, faults, the rows of a chunk and how long it lasts at least, the longest stop of a worker."""

    rows: int
    faults: int
    chunk_rows: int
    pause_s: float
    longest_stop_s: float
    seed: int = 1


SHORT: Final = Plan(rows=40_000, faults=14, chunk_rows=400, pause_s=0.1, longest_stop_s=4.0)
LONG: Final = Plan(rows=2_000_000, faults=110, chunk_rows=2_000, pause_s=0.25, longest_stop_s=20.0)


@dataclass
class Account:
    """What happened, and what is wrong with it: `deviations` must be empty."""

    faults: Counter[str] = field(default_factory=Counter)
    live_writes: int = 0
    taken_over: int = 0
    seconds: float = 0.0
    rows: int = 0
    deviations: list[str] = field(default_factory=list)


async def chaos(servers: Servers, plan: Plan, folder: Path, say: Callable[[str], None]) -> Account:
    """Run the whole of it on a database of its own; returns the account."""
    name = f"chaos_{uuid.uuid4().hex[:8]}"
    await _on_the_server(servers, f'create database "{name}"')
    url = servers.database(name)
    await runner.upgrade(url)
    engine = create_engine(url, PoolSettings(size=2, max_overflow=2), "chaos")
    try:
        return await _Chaos(servers, plan, Workshop(url, engine, None, folder), say).run()
    finally:
        await engine.dispose()
        await drop_database(partial(_on_the_server, servers), name)


async def _on_the_server(servers: Servers, statement: str) -> None:
    admin = await asyncpg.connect(servers.env.database_url)
    await admin.execute(statement)
    await admin.close()


class _Chaos:
    def __init__(self, servers: Servers, plan: Plan, workshop: Workshop, say: Callable[[str], None]) -> None:
        self._servers = servers
        self._plan = plan
        self._workshop = workshop
        self._say = say
        self._dice = random.Random(plan.seed)
        self._workers: list[Process] = []
        self._processes: list[Process] = []
        self._stopped: set[asyncio.Task[None]] = set()
        self._account = Account()
        self._dual_write = False

    async def run(self) -> Account:
        began = time.monotonic()
        await self._prepare()
        live = [asyncio.create_task(self._live(seed)) for seed in range(LIVE_CLIENTS)]
        try:
            for _ in range(WORKERS):
                await self._add()
            await self._workshop.wish(lambda control: control.start("fill"))
            await self._faults()
            self._say("faults are over; the dual write is on for good")
            self._dual_write = True
            run = await self._until_ended()
            verify = await self._verified()
        finally:
            for task in live:
                task.cancel()
            ends = await asyncio.gather(*live, return_exceptions=True)
            await self._end_workers()
        self._account.deviations += [
            f"live traffic ended by {end!r}" for end in ends if not isinstance(end, asyncio.CancelledError)
        ]
        await self._judge(run, verify)
        self._account.seconds = time.monotonic() - began
        return self._account

    async def _prepare(self) -> None:
        self._workshop.define("fill", FILL.format(chunk_rows=self._plan.chunk_rows, pause_s=self._plan.pause_s))
        session = await asyncpg.connect(self._workshop.url)
        await session.execute(TABLE)
        await session.execute(
            "insert into walked (id, source) select i * 13, i from generate_series(1, $1::bigint) i", self._plan.rows
        )
        await session.execute("analyze walked")
        await session.close()

    # ---------------------------------------------------------------------------------------------------------- live

    async def _live(self, seed: int) -> None:
        """Write as live traffic does, through restarts."""
        dice = random.Random(f"{self._plan.seed} {seed}")
        while True:
            with _outages_borne():
                session = await asyncpg.connect(self._workshop.url)
                try:
                    while True:
                        key = dice.randrange(self._plan.rows * 13)
                        statement = dice.choices(LIVE, (10, 0, 1, 0) if self._dual_write else (10, 10, 1, 1))[0]
                        key = key - key % 13 if statement.startswith("update") else key
                        await session.execute(statement, key, dice.randrange(10**6))
                        self._account.live_writes += 1
                        await asyncio.sleep(0.002)  # a client's own pace
                finally:
                    session.terminate()
            await asyncio.sleep(0.2)

    # --------------------------------------------------------------------------------------------------------- faults

    async def _faults(self) -> None:
        """Inflict faults spread over the whole of the rows: each when the walk has come so far."""
        restart_at = self._plan.faults // 2
        for number in range(self._plan.faults):
            await self._progressed(number / (self._plan.faults + 2))
            if number == restart_at:
                await self._restart_postgres()
            kind = self._dice.choices(("kill", "stop", "add", "take away"), (5, 4, 2, 1))[0]
            await self._inflict(kind)

    async def _inflict(self, kind: str) -> None:
        if kind == "add" and len(self._workers) >= MOST_WORKERS:
            kind = "take away"
        if kind == "take away" and len(self._workers) < WORKERS:
            kind = "add"
        self._account.faults[kind] += 1
        if kind == "add":
            await self._add()
            return
        worker = self._workers.pop(self._dice.randrange(len(self._workers)))
        if kind == "stop":
            worker.send_signal(signal.SIGSTOP)
            after_s = self._dice.uniform(0.1, self._plan.longest_stop_s)
            self._stopped.add(asyncio.create_task(self._wake_later(worker, after_s)))
            await self._add()
            return
        worker.send_signal(signal.SIGKILL if kind == "kill" else signal.SIGTERM)
        await worker.wait()
        if kind == "kill":
            await self._add()

    async def _wake_later(self, worker: Process, after_s: float) -> None:
        """Let a worker that stood still go on, as a zombie of its former self, until there are too many."""
        await asyncio.sleep(after_s)
        worker.send_signal(signal.SIGCONT)
        if len(self._workers) < MOST_WORKERS:
            self._workers.append(worker)
        else:
            worker.terminate()
            await worker.wait()

    async def _add(self) -> None:
        worker = await self._workshop.process(f"chaos{self._account.faults.total()}")
        self._processes.append(worker)
        self._workers.append(worker)

    async def _restart_postgres(self) -> None:
        """Kill Postgres and start it again; on a server that is not ours, end every session of the database."""
        self._account.faults["postgres"] += 1
        parts = self._servers.parts
        if parts is None:
            session = await asyncpg.connect(self._servers.env.database_url)
            await session.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname like 'chaos%'")
            await session.close()
            return
        await asyncio.to_thread(parts.stop_part, "postgres", "kill")
        await asyncio.to_thread(parts.start_part, "postgres")

    # ----------------------------------------------------------------------------------------------------- observing

    async def _progressed(self, share: float) -> None:
        """Wait until that share of the rows is done, or the run has ended."""

        async def far_enough() -> bool:
            view = await self._workshop.look("fill")
            return view["state"] in ENDED or view["rows_done"] >= share * self._plan.rows

        await self._eventually(far_enough, PATIENCE_S)

    async def _eventually(self, condition: Callable[[], Awaitable[bool]], patience_s: float) -> None:
        give_up_at = time.monotonic() + patience_s
        while time.monotonic() < give_up_at:
            with _outages_borne():
                if await condition():
                    return
            await asyncio.sleep(0.05)
        raise AssertionError(f"not within {patience_s:.0f} s")

    async def _until_ended(self) -> Any:  # noqa: ANN401 (a run's view)
        async def ended() -> bool:
            return (await self._workshop.look("fill"))["state"] in ENDED

        await self._eventually(ended, PATIENCE_S)
        return await self._workshop.look("fill")

    async def _verified(self) -> Any:  # noqa: ANN401
        await self._workshop.wish(lambda control: control.verify("fill"))

        async def ended() -> bool:
            return (await self._workshop.look("fill"))["verify"]["state"] in ENDED

        await self._eventually(ended, 300.0)
        return (await self._workshop.look("fill"))["verify"]

    async def _end_workers(self) -> None:
        """End every process, those that stand still as well."""
        for task in self._stopped:
            task.cancel()
        await asyncio.gather(*self._stopped, return_exceptions=True)
        for worker in self._processes:
            with suppress(ProcessLookupError):
                worker.kill()
        await asyncio.gather(*(worker.wait() for worker in self._processes))

    async def _judge(self, run: Any, verify: Any) -> None:  # noqa: ANN401 (views of runs)
        session: Session = await asyncpg.connect(self._workshop.url)
        account = self._account
        counts = await session.fetchrow("""
            select count(*) as rows, count(*) filter (where times > 1) as twice,
                   count(*) filter (where target is null) as missed,
                   count(*) filter (where target <> source * 2 + 1) as stale, sum(times) as transformed
            from walked""")
        account.rows = counts["rows"]
        account.taken_over = await session.fetchval("select count(*) from backfill_chunks where attempts > 1")
        flaws = await session.fetchval("select count(*) from backfill_chunks where state = 'done' and applied <> 1")
        await session.close()
        account.deviations += [
            f"{counts[what]} rows {words}"
            for what, words in (
                ("twice", "were transformed twice"),
                ("missed", "were missed"),
                ("stale", "hold a stale value"),
            )
            if counts[what]
        ]
        if run["state"] != "completed":
            account.deviations.append(f"the run ended {run['state']}: {run['reason']}")
        account.deviations += verify["result"]["findings"] if verify["result"] else ["no verify"]
        if flaws:
            account.deviations.append(f"{flaws} chunks were applied more or less than once")
        if counts["transformed"] != run["rows_done"]:
            account.deviations.append(f"the ledger counts {run['rows_done']} rows, the trigger {counts['transformed']}")


def main() -> None:
    """Run the form asked for and print the account; exit code 1 on any deviation."""
    console = Console()
    plan = LONG if "long" in sys.argv[1:] else SHORT
    with (
        tempfile.TemporaryDirectory() as state,
        tempfile.TemporaryDirectory() as folder,
        start_servers(os.environ.get("TEST_STACK", "embedded"), Path(state)) as servers,
    ):
        account = asyncio.run(chaos(servers, plan, Path(folder), console.print))
    console.print(account)
    sys.exit(1 if account.deviations else 0)


if __name__ == "__main__":
    main()
