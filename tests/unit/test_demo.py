"""`make run` and the stack for the people in front of it: what they are told, and what is left alone."""

import asyncio
import io
import json
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from rich.console import Console

from workers import demo
from workers.demo import _Process, _the_only_one, _watch, _while_they_run, _WorkerEndedError, last_words
from workers.stack import embedded
from workers.stack.embedded import EmbeddedStack
from workers.stack.errors import StackError
from workers.telling import telling

HOLDER = """
import sys
from pathlib import Path
from workers.demo import _the_only_one
with _the_only_one(Path(sys.argv[1])):
    print("in", flush=True)
    sys.stdin.read()
"""


def test_a_second_one_in_a_folder_is_refused(tmp_path: Path) -> None:
    """With the first one's process id; once that has ended, even by SIGKILL, the folder is free."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "in\n"
        with pytest.raises(StackError, match=rf"\(pid {first.pid}\)"), _the_only_one(tmp_path):
            pass
        first.kill()
    with _the_only_one(tmp_path):
        pass


def worker(tmp_path: Path, code: str) -> _Process:
    """Start something in a worker's place."""
    log = tmp_path / "commands.log"
    log.write_text("error: of an earlier run\n")
    start = log.stat().st_size
    with log.open("ab") as output:
        process = subprocess.Popen([sys.executable, "-c", code], stdout=output, stderr=output)
    return _Process("commands", process, tmp_path / "url", log, start)


ENDS: dict[str, tuple[str, str]] = {
    "an error line": (
        "import sys; sys.exit('error: synchronous_commit is off')",
        "exit code 1: synchronous_commit is off",
    ),
    "killed": ("import os; os.kill(os.getpid(), 9)", "was killed by SIGKILL (log: "),
    "a line of its log": (
        "import json; print(json.dumps({'level': 'error', 'message': 'stuck', 'reason': 'no fetch'})); exit(3)",
        "exit code 3: stuck no fetch",
    ),
    "other words": ("print('Segmentation fault'); exit(139)", "exit code 139: Segmentation fault"),
    "in peace": ("pass", "exit code 0: it said nothing"),
}


@pytest.mark.parametrize(("code", "why"), ENDS.values(), ids=ENDS)
async def test_a_worker_that_ends_is_named(code: str, why: str, tmp_path: Path) -> None:
    """Which, how, and its last words, wherever the demonstration is; an earlier run's words are not its own."""
    one = worker(tmp_path, code)
    one.process.wait()

    async def for_ever() -> int:
        await asyncio.Event().wait()
        return 0

    with pytest.raises(_WorkerEndedError) as up:
        _watch([one])
    with pytest.raises(_WorkerEndedError) as during:
        await _while_they_run([one], for_ever())
    for told in (str(up.value), str(during.value)):
        assert told.startswith("the commands worker")
        assert why in told
        assert str(one.log) in told


def test_last_words_pass_over_what_is_no_error(tmp_path: Path) -> None:
    """The last error counts, not the last line."""
    log = tmp_path / "log"
    lines = [{"level": "error", "message": "producer_replaced"}, {"level": "info", "message": "stopped"}]
    log.write_text("\n".join(json.dumps(line) for line in lines))
    assert last_words(log, 0) == "producer_replaced"


def test_ctrl_c_says_what_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is stopped, in which order, and that a second time ends it at once."""
    out = io.StringIO()
    monkeypatch.setattr(demo, "_console", Console(file=out, soft_wrap=True))
    before = signal.getsignal(signal.SIGINT)
    try:
        with pytest.raises(KeyboardInterrupt):
            demo._interrupt(signal.SIGINT, None)
        assert signal.getsignal(signal.SIGINT) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGINT, before)
    assert out.getvalue().strip().startswith("SIGINT: stopping the workers, then the servers")


def test_progress_is_told_in_a_pipe() -> None:
    """Each step once, one with figures now and then; nothing is silent because it is no terminal."""
    out, at = io.StringIO(), [0.0]
    with telling(Console(file=out, width=20), "Starting Kafka, Postgres and Redis …", lambda: at[0]) as say:
        for megabytes in range(100):
            at[0] += 0.1
            say(f"fetching Kafka and PostgreSQL, once: {megabytes} of 60 MB")
        say("kafka: ready")
        say("kafka: ready")
    lines = out.getvalue().splitlines()
    assert lines[0] == "Starting Kafka, Postgres and Redis …"
    assert 4 <= len([line for line in lines if line.startswith("fetching")]) <= 6
    assert lines[-1] == "kafka: ready"
    assert lines.count("kafka: ready") == 1


class Node:
    """A server that ends in order, or only when it is killed."""

    def __init__(self, *, ends: bool) -> None:
        self.ended = threading.Event()
        self.killed = False
        self._ends = ends

    def stop(self, how: str, patience_s: float) -> None:
        self.killed = self.killed or how == "kill"
        if self._ends or self.killed:
            self.ended.set()
        assert self.ended.wait(30)


@pytest.mark.parametrize("last", range(3))
def test_the_last_of_three_brokers_is_not_waited_for(
    last: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once the others have ended there is no quorum that it could leave in order; whichever it is."""
    monkeypatch.setattr(embedded, "_WITHOUT_QUORUM_S", 0.05)
    names = ["kafka", "kafka-2", "kafka-3"]
    nodes = {name: Node(ends=number != last) for number, name in enumerate(names)} | {"postgres": Node(ends=True)}
    stack = EmbeddedStack(tmp_path)
    monkeypatch.setattr(stack, "_process", nodes.__getitem__)
    stack._stop(list(nodes))
    assert [name for name, node in nodes.items() if node.killed] == [names[last]]


def test_two_brokers_that_end_slowly_are_not_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While there is a quorum each node has its full time."""
    monkeypatch.setattr(embedded, "_WITHOUT_QUORUM_S", 0.05)
    nodes = {"kafka": Node(ends=True), "kafka-2": Node(ends=False), "kafka-3": Node(ends=False)}
    stack = EmbeddedStack(tmp_path)
    monkeypatch.setattr(stack, "_process", nodes.__getitem__)
    stopping = threading.Thread(target=stack._stop, args=[list(nodes)])
    stopping.start()
    stopping.join(0.3)
    assert not nodes["kafka-2"].killed
    nodes["kafka-2"].ended.set()
    stopping.join(30)
    assert (nodes["kafka-2"].killed, nodes["kafka-3"].killed) == (False, True)


WITHOUT = """
import sys
sys.modules["psutil"] = None
sys.argv = ["catalog", "demo"]
from workers.cli import main
main()
"""


def test_without_the_stack_demo_is_one_line(tmp_path: Path) -> None:
    """The wheel alone has no servers to start: it says what to install."""
    ended = subprocess.run(
        [sys.executable, "-c", WITHOUT], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
    )
    assert ended.returncode == 1
    assert ended.stderr.splitlines() == [
        "error: the embedded stack is not installed (psutil is missing): pip install 'catalog-workers[stack]'"
    ]
