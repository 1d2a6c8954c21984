"""A server process from the outside: started under a guardian, found again by its lock, stopped, paused.

Whether a part runs is asked of the kernel: its guardian holds a lock on `run/<name>.lock`, and the process ids in that
file count only while the lock is held. A stale file, or an id that has since gone to somebody else, means nothing.
"""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import psutil

from workers.stack import guardian
from workers.stack.accounts import Account
from workers.stack.errors import StackError
from workers.stack.files import try_lock

How = Literal["clean", "kill"]
StopPlan = Sequence[tuple[signal.Signals, float]]
"""Signals to try in turn, each with seconds of patience; SIGKILL follows."""

_POLL_S: Final = 0.01
_LOCK_S: Final = 2.0  # others look at the lock for microseconds; a guardian holds it
_KILL_S: Final = 10.0
_MAX_LOG_BYTES: Final = 16 * 1024 * 1024
_TELLING: Final = re.compile(r"\b(FATAL|PANIC|ERROR)\b|Error\b|Exception\b|^Caused by")


@dataclass(frozen=True, slots=True)
class Launch:
    """How to run a server, and how to end it."""

    command: Sequence[str]
    folder: Path
    """Its working directory and its alone: an orphan is recognised by it."""
    stop: StopPlan
    environment: Mapping[str, str]
    account: Account | None = None
    stale: Sequence[Path] = ()
    """Files that say "in use" after a crash; removed before the start, when nothing can be using them."""


@dataclass(frozen=True, slots=True)
class Holder:
    """What a guardian says of itself while it holds the lock; a guardian that has just begun says nothing yet."""

    guardian: int | None = None
    server: int | None = None
    owner: int | None = None
    stopping: bool = False

    @property
    def is_ending(self) -> bool:
        """Tell whether the server is about to end by itself: it is being stopped, or its owner has gone."""
        return self.stopping or (self.owner is not None and not psutil.pid_exists(self.owner))


class GuardedProcess:
    """One part's process, whoever started it."""

    def __init__(self, name: str, state: Path) -> None:
        self.name = name
        self.log = state / "log" / f"{name}.log"
        self._lock = state / "run" / f"{name}.lock"
        self._guardian: subprocess.Popen[bytes] | None = None  # ours, if this object started it
        self._log_start = 0

    def holder(self) -> Holder | None:
        """Return who guards the part now; None when it does not run."""
        try:
            descriptor = os.open(self._lock, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            if try_lock(descriptor, shared=True):
                self._reap()
                return None
            record = os.pread(descriptor, guardian.RECORD_BYTES, 0)
        finally:
            os.close(descriptor)
        try:
            return Holder(**json.loads(record))
        except ValueError:
            return Holder()

    def processes(self) -> list[psutil.Process]:
        """Return the server and everything it started; empty when it does not run."""
        holder = self.holder()
        if holder is None or holder.server is None:
            return []
        try:
            server = psutil.Process(holder.server)
            # The guardian has not reaped it, or it would not be its child: the id is the server's.
            return [server, *server.children(recursive=True)] if server.ppid() == holder.guardian else []
        except psutil.NoSuchProcess:
            return []

    def start(self, launch: Launch, owner: int | None) -> None:
        """Start the server under a guardian; the part must not run. Does not wait until the server is ready.

        `owner` is the reading end of a pipe: the server ends when the other end is closed. None detaches it.

        Raises:
            StackError: somebody else has just started it.
        """
        for folder in (self._lock.parent, self.log.parent):
            folder.mkdir(parents=True, exist_ok=True)
        self._reap()
        lock = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            deadline = time.monotonic() + _LOCK_S
            while not try_lock(lock):
                if time.monotonic() > deadline:
                    raise StackError(f"{self.name} is already being started by another process")
                time.sleep(_POLL_S)
            os.ftruncate(lock, 0)
            _end_orphans(launch)
            for path in launch.stale:
                path.unlink(missing_ok=True)
            self._spawn(launch, lock, owner)
        finally:
            os.close(lock)  # the guardian holds it by now

    def stop(self, how: How, patience_s: float) -> None:
        """End the server and everything it started; returns when nothing of it is left.

        `clean` asks it to end in order, and kills what has not ended after `patience_s`; `kill` is `kill -9`.

        Raises:
            StackError: it is still there, which the kernel should not allow.
        """
        if how == "clean":
            told: set[int] = set()

            def tell() -> None:
                holder = self.holder()
                if holder is not None and holder.guardian is not None and holder.guardian not in told:
                    told.add(holder.guardian)
                    _signal(holder.guardian, signal.SIGTERM)

            if self.wait_until_ended(patience_s, tell):
                return
        if not self.wait_until_ended(_KILL_S, self._kill):
            raise StackError(f"{self.name} does not end, even though it was killed; see {self.log}")

    def wait_until_ended(self, seconds: float, doing: Callable[[], None] = lambda: None) -> bool:
        """Wait until nothing of the part is left, `doing` something before each look; False when something still is."""
        deadline = time.monotonic() + seconds
        while self.holder() is not None:
            if time.monotonic() > deadline:
                return False
            doing()
            time.sleep(_POLL_S)
        return True

    def pause(self) -> None:
        """Stop the server and everything it started in their tracks (SIGSTOP): connections stay open, nothing answers.

        Raises:
            StackError: it does not run.
        """
        if not self.processes():
            raise StackError(f"{self.name} does not run, so it cannot be paused")
        # The server first, then its children until there is no new one: it could have been starting one.
        stopped: set[int] = set()
        while new := [process.pid for process in self.processes() if process.pid not in stopped]:
            for process in new:
                _signal(process, signal.SIGSTOP)
            stopped.update(new)

    def resume(self) -> None:
        """Let a paused server go on; nothing happens to one that is not paused."""
        for process in self.processes():
            _signal(process.pid, signal.SIGCONT)

    def last_words(self) -> str:
        """Return what most likely says why the server ended, of this start's log, in one line; and where the log is."""
        with self.log.open("rb") as file:
            file.seek(self._log_start)
            lines = file.read().decode(errors="replace").splitlines()
        said = [line.strip() for line in lines if line.strip() and not line.startswith(("guardian:", "\t"))]
        telling = [line for line in said if _TELLING.search(line)]
        return f"{telling[-1] if telling else ' '.join(said[-3:]) or 'it said nothing'} (log: {self.log})"

    def _kill(self) -> None:
        for process in self.processes():
            _signal(process.pid, signal.SIGKILL)

    def _spawn(self, launch: Launch, lock: int, owner: int | None) -> None:
        if self.log.exists() and self.log.stat().st_size > _MAX_LOG_BYTES:
            self.log.replace(self.log.with_suffix(".log.1"))
        account = launch.account
        order = {
            "name": self.name,
            "lock": lock,
            "owner": owner,
            "owner_pid": None if owner is None else os.getpid(),
            "command": list(launch.command),
            "folder": str(launch.folder),
            "environment": dict(launch.environment),
            "account": None if account is None else [account.uid, account.gid],
            "stop": [[int(number), seconds] for number, seconds in launch.stop],
        }
        with self.log.open("ab") as log:
            self._log_start = log.tell()
            process = subprocess.Popen(
                [sys.executable, "-I", str(Path(guardian.__file__).resolve()), self.name],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd="/",
                pass_fds=(lock,) if owner is None else (lock, owner),
                start_new_session=True,  # Ctrl-C is for the owner, who stops the servers in order
            )
        if process.stdin is None:
            raise StackError("a pipe was asked for and not given")
        with process.stdin as pipe:
            pipe.write(json.dumps(order).encode())
        if owner is None:
            process.wait()  # it has detached itself
        else:
            self._guardian = process

    def _reap(self) -> None:
        """Take note of our guardian's end: without its lock, or with its state folder removed, it ends by itself."""
        if self._guardian is not None:
            self._guardian.wait()
            self._guardian = None


def _end_orphans(launch: Launch) -> None:
    """Kill what a killed guardian left behind: our program in this part's own folder, which nobody guards.

    Recognised by program and working directory, never by an id from a file. A killed Kafka, PostgreSQL or Redis
    recovers by itself.
    """
    program, folder = os.path.realpath(launch.command[0]), str(launch.folder.resolve())
    orphans = []
    for process in psutil.process_iter():
        try:
            if process.cwd() == folder and process.exe() == program:
                process.kill()
                orphans.append(process)
        except psutil.Error:  # ended meanwhile, or not ours to look at
            continue
    psutil.wait_procs(orphans, timeout=_KILL_S)


def _signal(process: int | None, number: signal.Signals) -> None:
    if process is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, number)
