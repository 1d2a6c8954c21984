"""A small process beside each server: the server ends when its owner does, however the owner ends.

Started by `guarded.py` as a script of its own (standard library only, so it is up within 50 ms). It holds the part's
lock file for as long as it lives, which is what says that the part runs: the kernel gives the lock back on any death,
and no process id is ever believed without it. It stops the server when

- it is told to (SIGTERM),
- its owner's end of a pipe closes: the owner has ended, by SIGKILL or otherwise (a detached server has no owner),
- the state folder is removed beneath it.

Should the guardian itself be killed, Linux kills the server with it (PR_SET_PDEATHSIG); elsewhere the next start finds
and ends the orphan.
"""

import contextlib
import ctypes
import json
import os
import resource
import select
import signal
import subprocess
import sys
import time
from types import FrameType
from typing import Any, Final

# linux/prctl.h
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_CHILD_SUBREAPER: Final = 36

RECORD_BYTES: Final = 256  # one write of a fixed size: a reader sees the old record or the new one
_LOOK_S: Final = 2.0  # how often the lock file's existence is checked
_OWNERLESS_S: Final = 5.0  # each signal's patience, at most, once the owner has died: nobody is there to wait for more
_LEFTOVERS_S: Final = 2.0  # how long the server's own children may take to notice that it has gone
_MAX_FILES: Final = 65_536  # Kafka keeps three files open for each partition


class Guardian:
    """Runs one server and stops it when it must.

    `order` comes from `guarded.py`: what to run, as whom, and how to stop it (signals, each with seconds of patience).
    """

    def __init__(self, order: dict[str, Any]) -> None:
        self._order = order
        self._lock: int = order["lock"]
        self._owner: int | None = order["owner"]
        self._record: dict[str, Any] = {
            "guardian": None,
            "owner": order["owner_pid"],
            "server": None,
            "stopping": False,
        }
        self._told_to_stop = False
        self._woken, wake = os.pipe()
        os.set_blocking(wake, False)
        os.set_blocking(self._woken, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)

    def run(self) -> None:
        """Stay until the server has ended, and everything that it started."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._note_stop)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # a handler, so that it wakes `_wait`
        self._note(guardian=os.getpid())
        server = self._start()
        self._note(server=server.pid)
        while server.poll() is None:
            if self._must_stop():
                self._note(stopping=True)
                self._stop(server)
            else:
                self._wait(_LOOK_S)
        self._note(stopping=True)
        self._reap_leftovers()
        sys.stderr.write(f"guardian: {self._order['name']} ended with {_exit_name(server.returncode)}\n")

    def _start(self) -> "subprocess.Popen[bytes]":
        guardian = os.getpid()
        libc = ctypes.CDLL(None) if sys.platform == "linux" else None
        if libc is not None:
            libc.prctl(_PR_SET_CHILD_SUBREAPER, 1)  # what the server leaves behind becomes ours to end

        def tie_to_guardian() -> None:
            if libc is not None:
                libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
                if os.getppid() != guardian:  # gone before the tie was made
                    os._exit(1)

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = _MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, _MAX_FILES)
        if libc is not None and soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        account = self._order["account"]
        return subprocess.Popen(
            self._order["command"],
            cwd=self._order["folder"],
            env=self._order["environment"],
            stdin=subprocess.DEVNULL,
            preexec_fn=tie_to_guardian,  # noqa: PLW1509 - this process has one thread
            **({} if account is None else {"user": account[0], "group": account[1], "extra_groups": []}),
        )

    def _must_stop(self) -> bool:
        if self._told_to_stop or os.fstat(self._lock).st_nlink == 0:
            return True
        return self._owner is not None and bool(select.select([self._owner], [], [], 0)[0])  # it never writes: its end

    def _stop(self, server: "subprocess.Popen[bytes]") -> None:
        for number, planned_s in self._order["stop"]:
            patience_s = planned_s if self._told_to_stop else min(planned_s, _OWNERLESS_S)
            for process in self._tree():
                _signal(process, signal.SIGCONT)  # a paused process would not notice
            _signal(server.pid, number)
            deadline = time.monotonic() + patience_s
            while server.poll() is None and (left_s := deadline - time.monotonic()) > 0:
                self._wait(left_s, owner_too=False)
            if server.poll() is not None:
                return
        for process in self._tree():
            _signal(process, signal.SIGKILL)
        server.wait()

    def _reap_leftovers(self) -> None:
        """See the last of the server's children off: PostgreSQL's outlive it for a moment, or for good if paused."""
        deadline = time.monotonic() + _LEFTOVERS_S
        while True:
            try:
                ended, _ = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if ended == 0:
                if time.monotonic() > deadline:
                    for process in self._tree():
                        _signal(process, signal.SIGKILL)
                self._wait(0.05, owner_too=False)

    def _tree(self) -> list[int]:
        """Every process below this one."""
        import psutil  # noqa: PLC0415 - only an end needs it, and a start should not wait for it

        return [process.pid for process in psutil.Process().children(recursive=True)]

    def _wait(self, seconds: float, *, owner_too: bool = True) -> None:
        """Wait for a signal (an ended child is one) or, with `owner_too`, for the owner's end."""
        watched = [self._woken, *([self._owner] if owner_too and self._owner is not None else [])]
        if self._woken in select.select(watched, [], [], seconds)[0]:
            os.read(self._woken, 4096)

    def _note_stop(self, _number: int, _frame: FrameType | None) -> None:
        self._told_to_stop = True

    def _note(self, **changed: object) -> None:
        self._record.update(changed)
        os.pwrite(self._lock, json.dumps(self._record).encode().ljust(RECORD_BYTES), 0)


def _signal(process: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, number)


def _exit_name(code: int) -> str:
    return f"exit code {code}" if code >= 0 else signal.Signals(-code).name


def main() -> None:
    """Read the order from standard input and carry it out."""
    order = json.load(sys.stdin)
    if order["owner"] is None and os.fork():
        os._exit(0)  # detached: nobody waits for this process, so nobody's child it must be
    Guardian(order).run()


if __name__ == "__main__":
    main()
