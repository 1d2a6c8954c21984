"""What tests of backfills need: definitions in a folder of their own, workers, wishes, and looks into the ledger."""

import asyncio
import os
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from persistence.backfill import runs
from persistence.backfill.chunks import commit
from persistence.backfill.definition import Definition, load_definitions
from persistence.backfill.runs import Run
from persistence.backfill.walk import Walk, read_walk
from persistence.engine import Connection, Engine, connected
from tests.forked import ROOT, Process, fork
from workers.backfill.control import BackfillControl, RunView
from workers.backfill.worker import run_backfill_worker
from workers.backfill.workplace import BackfillWorkerConfig
from workers.stack.tied import tied

T = TypeVar("T")
Session = Any
"""An asyncpg connection, which has no types."""

ENDED = frozenset({"completed", "completed_with_quarantine", "failed", "cancelled"})
PATIENCE_S = 40.0


class Workshop:
    """A database with its definitions; workers run in this process, or in processes of their own."""

    def __init__(self, url: str, engine: Engine, session: Session, folder: Path) -> None:
        self.url = url
        self.engine = engine
        self.session = session
        self.folder = folder
        self.config = BackfillWorkerConfig(database_url=url, worker="test", definitions=folder)

    def define(self, name: str, text: str) -> None:
        """Write a definition."""
        self.folder.joinpath(f"{name}.py").write_text(textwrap.dedent(text))

    def definition(self, name: str) -> Definition:
        """Load a definition."""
        return load_definitions(self.folder)[name]

    async def wish(self, act: Callable[[BackfillControl], Awaitable[T]]) -> T:
        """Do what an operator does, in a transaction of its own."""
        definitions = load_definitions(self.folder)

        async def work(connection: Connection) -> T:
            return await act(BackfillControl(connection, definitions))

        return await commit(self.engine, work)

    async def look(self, name: str) -> RunView:
        """Return the last run as an operator sees it."""
        return await self.wish(lambda control: control.get(name))

    async def until(self, name: str, *states: str, verify: bool = False) -> RunView:
        """Wait until the last run (or its verify) is in one of the states."""
        give_up_at = time.monotonic() + PATIENCE_S
        while True:
            seen = await self.look(name)
            one = seen["verify"] if verify else seen
            if one is not None and one["state"] in states:
                return one
            if time.monotonic() > give_up_at:
                raise AssertionError(f"{name} did not come to {states}: {one}")
            await asyncio.sleep(0.02)

    async def run(self, name: str, **options: Any) -> RunView:  # noqa: ANN401 (those of `start`)
        """Start a backfill and wait for its end."""
        await self.wish(lambda control: control.start(name, **options))
        return await self.until(name, *ENDED)

    async def verify(self, name: str) -> RunView:
        """Verify the last run and return what came of it."""
        await self.wish(lambda control: control.verify(name))
        return await self.until(name, *ENDED, verify=True)

    @asynccontextmanager
    async def workers(self, count: int = 1, **changes: Any) -> AsyncIterator[None]:  # noqa: ANN401 (of the config)
        """Run workers in this process."""
        stop = asyncio.Event()
        config = replace(self.config, **changes)
        tasks = [
            asyncio.create_task(run_backfill_worker(replace(config, worker=f"test{number}"), stop))
            for number in range(count)
        ]
        try:
            yield
        finally:
            stop.set()
            await asyncio.gather(*tasks)

    async def process(self, name: str, *throttle: str, forks: bool = True) -> Process:
        """Start a worker in a process of its own, which a test may kill or stop; executed if it is to be measured."""
        module, arguments = "tests.backfill.worker_process", (self.url, name, str(self.folder), *throttle)
        log = self.folder / f"{name}.log"
        if forks:
            return fork(module, *arguments, env=os.environ, out=log)
        with log.open("wb") as output:
            command = tied([sys.executable, "-m", module, *arguments])
            return await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=output, stderr=output)

    async def walk(self, name: str) -> Walk:
        """Return the SQL of a definition."""
        async with connected(self.engine) as connection:
            return await read_walk(connection, self.definition(name))

    async def newest(self, name: str) -> Run:
        """Return the last run of work as the ledger has it."""
        async with connected(self.engine) as connection:
            run = await runs.newest_run(connection, name)
        assert run is not None
        return run

    async def poll(self, query: str, *arguments: object) -> Any:  # noqa: ANN401 (a value of the driver)
        """Ask until the answer is true; returns it."""
        give_up_at = time.monotonic() + PATIENCE_S
        while not (answer := await self.session.fetchval(query, *arguments)):
            if time.monotonic() > give_up_at:
                raise AssertionError(f"never true: {query}")
            await asyncio.sleep(0.02)
        return answer
