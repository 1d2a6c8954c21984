"""Runs `python -m` in forked processes: each a process of its own, none of which has to import everything again.

Importing takes most of a worker's start and of a short command. This process imports once and forks for each request.
Standard input has a line of JSON for each: its number, module, arguments, environment, folder, and the files for its
output. Standard output has one when the process is there (number, pid) and one when it has ended (pid, exit code).

It ends when its standard input does, so also when the tests are killed; and Linux kills its children then.
"""

import atexit
import contextlib
import ctypes
import gc
import importlib
import json
import os
import runpy
import select
import signal
import sys
import threading
from typing import Any, Final

LOADED: Final = (
    "workers.cli",
    "workers.backfill.commands",
    "workers.blocks.commands",
    "workers.change.commands",
    "workers.command_line.mendable",
    "workers.command_line.requests",
    "workers.command_line.running",
    "workers.command_line.setting_up",
    "workers.contract.commands",
    "workers.dlq.commands",
    "workers.doctor.commands",
    "workers.overview.commands",
    "workers.setting_up",
    "workers.stack.commands",
    "persistence.seed",
    "anyio._backends._asyncio",
    "rich._emoji_codes",
    "sqlalchemy.dialects.postgresql.asyncpg",
    "uvicorn.lifespan.off",
    "uvicorn.protocols.http.auto",
    "uvicorn.protocols.websockets.auto",
)
"""What a worker or a command loads, also later on. Not `__main__`, which each process runs anew."""

_PR_SET_PDEATHSIG: Final = 1  # as in `workers.stack.tied`
_REQUESTS: Final = 0
_ANSWERS: Final = 1


def serve() -> Any:  # noqa: ANN401 - a request is JSON
    """Fork for each request. Returns in a child, with its request, and when there are no more, with None."""
    waking, woken = os.pipe()
    for end in (waking, woken):
        os.set_blocking(end, False)
    on_interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the tests, and they end this
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(woken)
    received = b""
    while True:
        ready, _, _ = select.select([_REQUESTS, waking], [], [])
        if waking in ready:
            os.read(waking, 4096)
            _tell_ends()
        if _REQUESTS not in ready:
            continue
        if not (more := os.read(_REQUESTS, 1 << 16)):
            return None
        *lines, received = (received + more).split(b"\n")
        for line in lines:
            request, parent = json.loads(line), os.getpid()
            made, making = os.pipe()
            if not (child := os.fork()):
                _become(request, parent)
                signal.signal(signal.SIGINT, on_interrupt)  # ignored where whoever started the tests ignores it
                for end in (waking, woken, made, making):
                    os.close(end)
                return request
            os.close(making)
            os.read(made, 1)  # nothing comes: until the child has closed it
            os.close(made)
            _tell({"number": request["number"], "pid": child})


def _tell(answer: dict[str, int]) -> None:
    os.write(_ANSWERS, json.dumps(answer).encode() + b"\n")


def _tell_ends() -> None:
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            _tell({"pid": ended[0], "code": os.waitstatus_to_exitcode(ended[1])})


def _become(request: Any, parent: int) -> None:  # noqa: ANN401
    """Make of this child what its request says: a process that has nothing of its parent but the modules."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
    if os.getppid() != parent:
        sys.exit("the process that started this one has ended already")
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for stream, name in enumerate((os.devnull, request["out"], request["err"])):
        opened = os.open(name, (os.O_WRONLY | os.O_CREAT | os.O_APPEND) if stream else os.O_RDONLY, 0o600)
        os.dup2(opened, stream)
        os.close(opened)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv[1:] = request["arguments"]


def run(module: str) -> int:
    """Run a module as `python -m` does; returns the exit code."""
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if isinstance(end.code, str):
            sys.stderr.write(f"{end.code}\n")
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001 - as the interpreter does
        sys.excepthook(*sys.exc_info())
        return 1
    return 0


def main() -> None:
    """Serve; a child ends as any process does, but for the interpreter's own tidying, which takes 0.1 s."""
    gc.disable()  # nothing that is loaded is garbage
    for name in LOADED:
        importlib.import_module(name)
    importlib.import_module("contracts.schemas").schemas()  # what every worker makes of the same models
    gc.freeze()  # a collection in a child would touch, and so copy, what all of them share
    gc.enable()
    if (request := serve()) is None:
        return
    code = run(request["module"])
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
