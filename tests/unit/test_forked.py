"""A forked process is to itself and to others what an executed one is."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import textwrap
from functools import partial
from pathlib import Path

import psutil
import pytest

from tests.forked import ROOT, fork
from tests.system import System, read_if_there

LOOKS = textwrap.dedent("""
    import asyncio, json, os, signal, sys, threading
    handlers = {one.name: str(signal.getsignal(one)).split(" at ")[0] for one in signal.Signals}
    parent = next(line for line in open("/proc/self/status") if line.startswith("SigBlk"))
    print(json.dumps({
        "arguments": sys.argv[2:-1], "environment": dict(os.environ), "folder": os.getcwd(), "path": sys.path,
        "handlers": handlers, "blocked": parent, "threads": len(os.listdir("/proc/self/task")),
        "opened": sorted(os.listdir("/proc/self/fd")), "input": sys.stdin.read(), "umask": os.umask(0),
        "buffering": [sys.stdout.line_buffering, sys.stdout.encoding, sys.stderr.errors], "flags": str(sys.flags),
    }))
""")
"""Run by `timeit`, which executes what it is given."""
WAITS = "import time; print('here', flush=True); time.sleep(600)"
STARTER = f"""
import signal
from pathlib import Path
from tests.forked import fork
import os, sys
for name in ("running", "stopped"):
    print(fork("timeit", "-n1", "-r1", {WAITS!r}, env=os.environ, out=Path(sys.argv[1]) / name).pid, flush=True)
signal.pause()
"""


def executed(*command: str, env: dict[str, str]) -> tuple[int, str, str]:
    """Execute `python -m` as an operator does; exit code, output, errors."""
    ended = subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        check=False, timeout=60,
    )  # fmt: skip
    return ended.returncode, ended.stdout, ended.stderr


async def forked(folder: Path, *command: str, env: dict[str, str]) -> tuple[int, str, str]:
    """Fork the same."""
    out, err = folder / "out", folder / "err"
    out.unlink(missing_ok=True)
    err.unlink(missing_ok=True)
    code = await asyncio.wait_for(fork(*command, env=env, out=out, err=err).wait(), 60)
    return code, out.read_text(), err.read_text()


@pytest.mark.parametrize(
    "arguments",
    [
        ("settings",),
        ("worker", "commands"),
        ("worker", "nobody"),
        ("send", "create_customer", "no JSON"),
    ],
)
async def test_the_command_line_is_the_same(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """What a command says, where it says it and its exit code are those of `python -m workers`, also when it fails."""
    env = os.environ | {"COLUMNS": "100", "DB_POOL_SIZE": "many" if arguments[0] == "worker" else "7"}
    assert await forked(tmp_path, "workers", *arguments, env=env) == executed("workers", *arguments, env=env)


async def test_it_has_nothing_of_its_parent(tmp_path: Path) -> None:
    """Arguments, environment, files, signals, threads and streams are those of a process that was executed."""
    env = dict(os.environ) | {"TOPIC_PREFIX": "of_this_process_alone"}
    command = ("timeit", "-n1", "-r1", LOOKS)
    (_, mine, _), (code, theirs, _) = executed(*command, env=env), await forked(tmp_path, *command, env=env)
    assert code == 0
    seen = json.loads(theirs.splitlines()[0])
    assert seen == json.loads(mine.splitlines()[0])
    assert seen["environment"]["TOPIC_PREFIX"] == "of_this_process_alone"
    assert seen["threads"] == 1


async def test_each_draws_numbers_of_its_own(tmp_path: Path) -> None:
    """No two have the same random state: not Python's, nor that of the ids that workers make."""
    draws = (
        "import random; from workers.deployment import new_id; print(random.random(), new_id()[-12:], new_id()[-12:])"
    )
    told = [(await forked(tmp_path, "timeit", "-n1", "-r1", draws, env=dict(os.environ)))[1] for _ in range(5)]
    drawn = [number for text in told for number in text.splitlines()[0].split()]
    assert len(drawn) == 15
    assert len(set(drawn)) == 15


async def test_signals_and_ends(tmp_path: Path) -> None:
    """It is stopped, goes on and ends by signals, and its exit code tells so; who has ended gets no signal more."""
    one, other = (fork("timeit", WAITS, env=os.environ, out=tmp_path / name) for name in ("one", "other"))
    assert len({os.getpid(), one.pid, other.pid}) == 3
    for log in (tmp_path / "one", tmp_path / "other"):
        await System.until(partial(_told, log), 30, "it says nothing")
    one.send_signal(signal.SIGSTOP)
    assert [process.returncode for process in (one, other)] == [None, None]
    await System.until(partial(_stopped, one.pid), 30, "it is not stopped")
    one.kill()
    other.terminate()
    codes = [await asyncio.wait_for(process.wait(), 30) for process in (one, other)]
    assert codes == [-signal.SIGKILL, -signal.SIGTERM]
    assert [process.returncode for process in (one, other)] == codes
    with pytest.raises(ProcessLookupError):
        one.kill()


async def _told(log: Path) -> bool:
    return bool(read_if_there(log))


async def _stopped(pid: int) -> bool:
    return bool(psutil.Process(pid).status() == psutil.STATUS_STOPPED)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux kills a process with its parent")
def test_they_do_not_outlive_the_tests(tmp_path: Path) -> None:
    """Tests that are killed take what they forked along, also one that is stopped."""
    with subprocess.Popen([sys.executable, "-c", STARTER, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE) as starter:
        assert starter.stdout is not None
        left = [psutil.Process(int(starter.stdout.readline())) for _ in range(2)]
        left.append(left[0].parent() or left[0])
        left[1].suspend()
        starter.kill()
    assert psutil.wait_procs(left, timeout=20)[1] == []


def test_what_is_read_on_loading_is_refused(tmp_path: Path) -> None:
    """A variable that the modules read when they are loaded cannot be given to a fork."""
    with pytest.raises(AssertionError, match="AIOKAFKA_NO_EXTENSIONS is read when"):
        fork("workers", "settings", env=os.environ | {"AIOKAFKA_NO_EXTENSIONS": "1"}, out=tmp_path / "out")
