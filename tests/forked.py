"""Processes that `tests.zygote` forks: to a test they are what it would have started itself by `python -m`."""

import asyncio
import atexit
import functools
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Final, Protocol

ROOT: Final = Path(__file__).parent.parent
PATIENCE_S: Final = 60.0
READ_ON_LOADING: Final = (
    "PYTHON", "LANG", "LC_", "LD_", "MALLOC_", "AIOKAFKA_", "CRAMJAM_", "FORCE_COLOR", "NO_COLOR", "PROMETHEUS_",
    "PYDANTIC_", "TYPER_",
)  # fmt: skip
"""What the interpreter and the libraries read from the environment when they are loaded: here once, by the zygote.
Our own modules read nothing then."""


class Process(Protocol):
    """What a test does with a process, however it was started; that of `asyncio.subprocess`."""

    @property
    def pid(self) -> int: ...
    @property
    def returncode(self) -> int | None: ...
    def send_signal(self, signal: int, /) -> None: ...
    def terminate(self) -> None: ...
    def kill(self) -> None: ...
    async def wait(self) -> int: ...


class Forked:
    """A process of the zygote's."""

    def __init__(self, pid: int, ended: "Future[int]") -> None:
        self.pid = pid
        self._ended = ended

    @property
    def returncode(self) -> int | None:
        return self._ended.result() if self._ended.done() else None

    def send_signal(self, number: int, /) -> None:
        if self._ended.done():
            raise ProcessLookupError(self.pid)
        os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    async def wait(self) -> int:
        return await asyncio.shield(asyncio.wrap_future(self._ended))


class Zygote:
    """The process that forks: one for these tests, which ends with them."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.zygote"], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )
        self._numbers = itertools.count()
        self._turn = threading.Lock()
        self._starting: dict[int, Future[Forked]] = {}
        self._running: dict[int, Future[int]] = {}
        threading.Thread(target=self._listen, name="zygote", daemon=True).start()

    def start(self, request: Mapping[str, object]) -> Forked:
        """Have a process forked; it is there on return."""
        number, started = next(self._numbers), Future[Forked]()
        self._starting[number] = started
        with self._turn:
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps({"number": number, **request}).encode() + b"\n")
        return started.result()  # or pytest says after its own time where it stands

    def end(self) -> None:
        """End it, and with it whatever it forked."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            answer: dict[str, Any] = json.loads(line)
            pid = answer["pid"]
            if "code" in answer:
                self._running.pop(pid).set_result(answer["code"])
            else:
                self._running[pid] = Future()
                self._starting.pop(answer["number"]).set_result(Forked(pid, self._running[pid]))
        gone = RuntimeError("the zygote has ended")
        for starting in self._starting.values():
            starting.set_exception(gone)
        for running in self._running.values():
            running.set_exception(gone)


@functools.cache
def zygote() -> Zygote:
    """Start it once."""
    started = Zygote()
    atexit.register(started.end)
    return started


def fork(module: str, *arguments: str, env: Mapping[str, str], out: Path, err: Path | None = None) -> Forked:
    """Run `python -m` in a process of its own, in the folder of this checkout; its output is appended to files."""
    for name in env.keys() | os.environ.keys():
        alike = env.get(name) == os.environ.get(name) or not name.startswith(READ_ON_LOADING)
        assert alike, f"{name} is read when a process loads its modules: execute it, instead of forking"
    files = {"out": str(out.absolute()), "err": str((err or out).absolute())}
    return zygote().start(
        {"module": module, "arguments": arguments, "environment": dict(env), "cwd": str(ROOT), **files}
    )
