"""The `catalog` command as an operator runs it, against a deployment under test."""

import asyncio
import atexit
import functools
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.system import ROOT, SECRET, System

OPERATOR_KEY = "operator-" + SECRET


@dataclass(frozen=True)
class Finished:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[dict[str, Any]]:
        """Read standard output, one JSON object a line."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def audit(self) -> list[dict[str, Any]]:
        """Read the audit lines of standard error."""
        found = [json.loads(line) for line in self.err.splitlines() if line.startswith("{")]
        return [line for line in found if line["operation"].startswith("dead_letter_")]


class CommandServer:
    """The process that forks for each command (see `tests.command_server`)."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.command_server"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._turn = threading.Lock()

    def run(self, request: Mapping[str, object]) -> int:
        """Run one command; returns its exit code."""
        asking, answering = self._process.stdin, self._process.stdout
        assert asking is not None
        assert answering is not None
        with self._turn:
            asking.write(json.dumps(request) + "\n")
            asking.flush()
            return int(answering.readline())

    def end(self) -> None:
        """End it; its pipes close."""
        self._process.communicate()


@functools.cache
def _server() -> CommandServer:
    """Start the server once for the session."""
    server = CommandServer()
    atexit.register(server.end)
    return server


async def catalog(system: System, *arguments: str, code: int | None = 0, **settings: str) -> Finished:
    """Run `catalog` with the deployment's settings; fails unless it ends with this code (None: any)."""
    env = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("KAFKA_", "JWT_", "DLQ_"))},
        "ENVIRONMENT": "development",
        "KAFKA_BOOTSTRAP_SERVERS": system.servers.env.kafka_bootstrap_servers,
        "DATABASE_URL": system.database_url,
        "REDIS_URL": system.servers.env.redis_url,
        "TOPIC_PREFIX": system.prefix,
        "JWT_SECRET": SECRET,
        "OUTCOME_HMAC_KEY": "outcomes-" + SECRET,
        "DLQ_SIGNING_KEY": "dead-letters-" + SECRET,
        "DLQ_OPERATOR_KEY": OPERATOR_KEY,
        "CATALOG_OPERATOR": "olga",
        "COLUMNS": "300",
        "LOG_LEVEL": "INFO",
        **settings,
    }
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder) / "out", Path(folder) / "err"
        request = {"arguments": arguments, "environment": env, "out": str(out), "err": str(err)}
        ended = await asyncio.wait_for(asyncio.to_thread(_server().run, request), 60)
        finished = Finished(ended, out.read_text(), err.read_text())
    assert code is None or finished.code == code, (arguments, finished)
    assert "Traceback" not in finished.err, finished.err
    return finished
