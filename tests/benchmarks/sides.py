"""What is compared: this checkout, another commit of it, and processes that are no workers of ours."""

import asyncio
import os
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import asyncpg
import psutil

from tests.forked import ROOT
from tests.servers import Servers
from tests.system import SECRET, System, WorkerProcess
from workers.stack.tied import tied

PARTITIONS: Final = 12
BASE: Final = "3822229"
"""The commit that this checkout is compared with."""


@dataclass(frozen=True)
class Side:
    """One of those that are compared. A `program` is a module that serves the same topics, with one argument."""

    name: str
    root: Path = ROOT
    workers: int = 1
    settings: Mapping[str, str] = field(default_factory=dict)
    program: tuple[str, ...] = ()

    def beside(self, name: str, **settings: str) -> "Side":
        """The same checkout with other settings."""
        return Side(name, self.root, self.workers, {**self.settings, **settings}, self.program)

    async def start(self, system: System, role: str = "commands", *, ready: bool = False) -> list[WorkerProcess]:
        """Start all of its processes."""
        if self.program:
            return [await start_program(system, *self.program)]
        settings = {"LOG_LEVEL": "WARNING", **self.settings}
        return [await system.start(role, ready=ready, **settings) for _ in range(self.workers)]


async def start_program(system: System, module: str, *arguments: str) -> WorkerProcess:
    """Start a module as a process that is told of the deployment by its environment."""
    env = os.environ | {
        "DATABASE_URL": system.database_url,
        "KAFKA_BOOTSTRAP_SERVERS": system.servers.env.kafka_bootstrap_servers,
        "TOPIC_PREFIX": system.prefix,
        "JWT_SECRET": SECRET,
    }
    log = system.directory / f"{module.rpartition('.')[2]}.log"
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *tied([sys.executable, "-m", module, *arguments]), env=env, cwd=ROOT, stdout=output, stderr=output
        )
    worker = WorkerProcess(module, process, log)
    system.workers.append(worker)
    return worker


class Databases:
    """Empty databases, each of a checkout's own schema."""

    def __init__(self, servers: Servers) -> None:
        self._servers = servers
        self._templates: dict[Path, str] = {}

    async def new(self, root: Path = ROOT) -> str:
        """Make one; its URL."""
        if root not in self._templates:
            self._templates[root] = await self._template(root)
        return await self._create(f'template "{self._templates[root]}"')

    async def _template(self, root: Path) -> str:
        url = await self._create()
        await run_cli(System(self._servers, url, root=root), "migrate")
        return url.rpartition("/")[2]

    async def _create(self, how: str = "") -> str:
        name = f"bench_{uuid.uuid4().hex[:8]}"
        admin = await asyncpg.connect(self._servers.env.database_url)
        try:
            await admin.execute(f'create database "{name}" {how}')
        finally:
            await admin.close()
        return self._servers.database(name)


async def run_cli(system: System, *arguments: str) -> None:
    """Run a checkout's own command line to its end."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "workers", *arguments,
        env=system.environment(), cwd=system.root, stdout=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    assert await process.wait() == 0, arguments


@contextmanager
def checkout(at: str) -> Iterator[Path]:
    """Give a folder with that commit in it, or the folder itself where `at` is one."""
    if Path(at).is_dir():
        yield Path(at).resolve()
        return
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / "base"
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "--quiet", "--detach", str(folder), at], check=True)
        try:
            yield folder
        finally:
            subprocess.run([*git, "remove", "--force", str(folder)], check=True)


def _family(worker: WorkerProcess) -> list[psutil.Process]:
    process = psutil.Process(worker.process.pid)
    return [process, *process.children(recursive=True)]


def spent_s(workers: list[WorkerProcess]) -> float:
    """Processor time of processes and their children so far."""
    times = [one.cpu_times() for worker in workers for one in _family(worker)]
    return sum(one.user + one.system for one in times)


def resident_bytes(workers: list[WorkerProcess]) -> int:
    """Memory of processes and their children now (VmRSS)."""
    return sum(one.memory_info().rss for worker in workers for one in _family(worker))
