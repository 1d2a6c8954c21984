"""A Redis server of a test's own: to be killed, restarted from its disk, or run as a cluster of one."""

import asyncio
import random
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Self

from workers.stack.free_ports import free_port, is_free
from workers.stack.redis_server import RedisServer
from workers.stack.tied import tied

CLUSTER_PORTS: Final = range(20_000, 22_768)
"""A node of a cluster listens 10,000 above its port as well; Linux gives outgoing connections ports from 32768 on."""


def free_port_of_a_cluster() -> int:
    """Choose a free port at random whose partner, 10,000 above it, is free, too."""
    free = (port for port in random.sample(CLUSTER_PORTS, len(CLUSTER_PORTS)) if is_free(port))
    return next(port for port in free if is_free(port + 10_000))


class OwnRedis:
    """The stack's Redis, with other settings; ended after use."""

    def __init__(self, folder: Path, *settings: str) -> None:
        self.port = free_port_of_a_cluster() if "--cluster-enabled" in settings else free_port(())
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._folder = folder
        self._settings: Sequence[str] = settings or ("--save", "")
        self._process: subprocess.Popen[bytes] | None = None

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            self.kill()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        self.kill()

    async def start(self) -> None:
        """Start it, and return when it answers; what it saved is loaded."""
        executable = RedisServer(self._folder, self.port).launch().command[0]
        place = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._folder)]
        with (self._folder / "redis.log").open("ab") as log:
            command = [executable, *place, *self._settings]
            self._process = subprocess.Popen(tied(command), stdout=log)  # noqa: ASYNC220 - a fork is all it waits for
        async with asyncio.timeout(20):
            while not RedisServer.answers(self.port):
                assert self._process.poll() is None, (self._folder / "redis.log").read_text()
                await asyncio.sleep(0.02)

    def kill(self) -> None:
        """Kill it at once."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
