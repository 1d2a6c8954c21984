"""A Redis server of a test's own: to be killed, restarted from its disk, or run as a cluster of one."""

import asyncio
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from workers.stack.free_ports import free_port
from workers.stack.redis_server import RedisServer
from workers.stack.tied import tied


class OwnRedis:
    """The stack's Redis, with other settings; ended after use."""

    def __init__(self, folder: Path, *settings: str) -> None:
        self.port = free_port(())
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._folder = folder
        self._settings: Sequence[str] = settings or ("--save", "")
        self._process: subprocess.Popen[bytes] | None = None

    async def __aenter__(self) -> Self:
        await self.start()
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
            while not RedisServer.answers(self.port):  # noqa: ASYNC110 - only the server knows it
                await asyncio.sleep(0.02)

    def kill(self) -> None:
        """Kill it at once."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
