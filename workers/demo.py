"""`make run`: the whole system on this machine, a short scenario through Kafka, and a change under live traffic."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import uvloop
from rich.console import Console
from rich.text import Text

from workers.asking import Asking, Caller, Desk, asking_desk
from workers.checks import StartRefusedError
from workers.demo_change import Demonstration, DemonstrationError, prepare
from workers.deployment import engine_of
from workers.scenario import Seen, Step, problem, scenario
from workers.setting_up import create_topics, migrate
from workers.settings import Settings
from workers.stack.embedded import EmbeddedStack
from workers.stack.errors import StackError
from workers.stack.files import try_lock
from workers.stack.tied import tied
from workers.tables import print_table
from workers.telling import telling

READY_TIMEOUT_S: Final = 60.0
STOP_TIMEOUT_S: Final = 25.0
_LOOK_EVERY_S: Final = 0.5
ROLES: Final = ("commands", "queries", "backfill")
_CALLER: Final = Caller("demo", ("catalog_admin", "catalog_operator"))
_GIVE_UP_S: Final = 30.0
PRODUCTS: Final = 3_000
PRODUCTS_ONCE: Final = 1_000
"""How many the catalogue's change finds; `make run ONCE=1` is to be quick."""
LIVE_P99_MS: Final = "2000"
"""The budget of the live traffic on a machine that runs everything at once, and has only just begun."""

_console = Console(soft_wrap=True)


@dataclass
class _Process:
    role: str
    process: subprocess.Popen[bytes]
    url_file: Path
    log: Path
    log_start: int
    """Where this process' own lines begin."""

    def end(self) -> str | None:
        """Say that it has ended, how, and what it said last; None while it runs."""
        code = self.process.poll()
        if code is None:
            return None
        if -code in {signal.SIGKILL, signal.SIGTERM}:  # it had no say in it
            return f"the {self.role} worker was killed by {signal.Signals(-code).name} (log: {self.log})"
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        return f"the {self.role} worker {how}: {last_words(self.log, self.log_start)} (log: {self.log})"


def last_words(log: Path, start: int) -> str:
    """Return what most likely says why a process ended, of the lines that it logged, in one line."""
    with log.open("rb") as file:
        file.seek(start)
        lines = [line for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    for line in reversed(lines):
        if line.startswith("error: "):
            return line.removeprefix("error: ")
        with contextlib.suppress(ValueError):
            said = json.loads(line)
            if isinstance(said, dict) and said.get("level") in {"error", "critical"}:
                return " ".join(str(said[name]) for name in ("message", "reason", "exception") if name in said)
    return lines[-1].strip() if lines else "it said nothing"


class _WorkerEndedError(Exception):
    """A worker ended by itself; the text says which, and why."""


def run_demo(state: Path, *, once: bool) -> int:
    """Bring everything up, run the scenario, stay until Ctrl-C (or end, with `once`). Returns the exit code.

    Servers that run already (`catalog stack up`) are used, and are left running.

    Raises:
        StackError: another one lives in the same folder; the text has its process id.
    """
    for number in (signal.SIGINT, signal.SIGTERM):  # SIGINT, too: a shell's background jobs start with it ignored
        signal.signal(number, _interrupt)
    with _the_only_one(state):
        return _run(state, once=once)


def _run(state: Path, *, once: bool) -> int:
    stack = EmbeddedStack(state)
    try:
        with telling(_console, "Starting Kafka, Postgres and Redis …") as say:
            env = stack.up(on_progress=say)
        for notice in stack.notices:
            _console.print(notice, highlight=False)
        os.environ.update({name: value for name, value in env.as_env().items() if name not in os.environ})
        settings = Settings.load()
        with telling(_console, "Creating topics, migrating the database, making products …"):
            can_change = uvloop.run(_set_up(settings, PRODUCTS_ONCE if once else PRODUCTS))
        with _workers(state) as processes:
            with telling(_console, "Starting the workers …"):
                urls = _wait_until_ready(processes)
            stack.update_env(urls)
            failed = uvloop.run(_while_they_run(processes, _play(settings)))
            if can_change:
                failed += uvloop.run(_while_they_run(processes, _change(settings)))
            if once:
                return 1 if failed else 0
            _say_how(state, urls)
            _watch(processes)
            return 1
    except _WorkerEndedError as error:
        _console.print(f"error: {error}", style="red", highlight=False, markup=False)
        return 1
    except KeyboardInterrupt:
        return 0
    finally:
        with telling(_console, "Stopping what was started here; the data stay …"):
            left = stack.stop_started()
        if left:
            _console.print(f"Left running: {', '.join(left)} (catalog stack down --state {state})", highlight=False)
        _console.print("Stopped.")


def _interrupt(number: int, _: object) -> None:
    signal.signal(number, signal.SIG_DFL)  # the second time ends this process at once, and with it what is tied to it
    _console.print(
        f"\n{signal.Signals(number).name}: stopping the workers, then the servers; once more ends them at once",
        highlight=False,
    )
    raise KeyboardInterrupt


@contextlib.contextmanager
def _the_only_one(state: Path) -> Iterator[None]:
    """Keep a second one out of the folder: it would share the servers, and stop them when it ends."""
    path = state / "run" / "demo.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if not try_lock(descriptor):
            pid = os.pread(descriptor, 20, 0).decode(errors="replace").strip()
            raise StackError(
                f"another one runs in {state} (pid {pid}): use it from another terminal, end it by Ctrl-C there, "
                "or give this one a folder of its own: `catalog demo --state FOLDER`"
            )
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
        yield
    finally:
        os.close(descriptor)


async def _set_up(settings: Settings, products: int) -> bool:
    """Make everything that is needed; says whether the catalogue's change can be shown."""
    await asyncio.gather(create_topics(settings), migrate(settings))
    engine = engine_of(settings, "catalog-demo")
    try:
        return await prepare(engine, products)
    finally:
        await engine.dispose()


@contextlib.contextmanager
def _workers(state: Path) -> Iterator[list[_Process]]:
    started: list[_Process] = []
    try:
        for role in ROLES:
            url_file = state / f"{role}.url"
            url_file.unlink(missing_ok=True)
            log = state / f"{role}.log"
            with log.open("ab") as output:
                log_start = output.tell()
                process = subprocess.Popen(
                    tied([sys.executable, "-m", "workers", "worker", role]),
                    env={
                        "BACKFILL_LIVE_P99_MS": LIVE_P99_MS,
                        **os.environ,
                        "METRICS_URL_FILE": str(url_file),
                        "WORKER_NAME": f"{role}-1",
                    },
                    stdout=output,
                    stderr=output,
                    start_new_session=True,  # Ctrl-C is ours: the workers are stopped in order
                )
            started.append(_Process(role, process, url_file, log, log_start))
        yield started
    finally:
        for one in started:
            one.process.terminate()
        for one in started:
            try:
                one.process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                one.process.kill()


def _wait_until_ready(processes: list[_Process]) -> dict[str, str]:
    end = time.monotonic() + READY_TIMEOUT_S
    urls = {}
    for one in processes:
        while not (one.url_file.exists() and _is_ready(one.url_file.read_text().strip())):
            if why := one.end():
                raise _WorkerEndedError(why)
            if time.monotonic() > end:
                msg = f"the {one.role} worker was not ready after {READY_TIMEOUT_S:.0f} s; its log is {one.log}"
                raise StartRefusedError(msg)
            time.sleep(0.05)
        urls[f"METRICS_URL_{one.role.upper()}"] = one.url_file.read_text().strip() + "/metrics"
    return urls


async def _while_they_run(processes: list[_Process], work: Coroutine[Any, Any, int]) -> int:
    """Do something that needs the workers; raises `_WorkerEndedError` as soon as one has ended."""
    running = asyncio.create_task(work)
    try:
        while not running.done():
            await asyncio.wait({running}, timeout=_LOOK_EVERY_S)
            _look(processes)
        return running.result()
    finally:
        running.cancel()
        await asyncio.wait({running})


def _look(processes: list[_Process]) -> None:
    for one in processes:
        if why := one.end():
            raise _WorkerEndedError(why)


async def _play(settings: Settings) -> int:
    """Send the scenario, print each request with its envelope; returns how many were not as expected."""
    seen: Seen = {}
    rows: list[list[str | Text]] = []
    failed = 0
    async with asking_desk(settings) as desk:
        for step in scenario(uuid.uuid4().hex[:8]):
            envelope, headers = await _ask(desk, step, seen)
            seen[step.name] = dict(envelope)
            wrong = problem(step, envelope, headers)
            failed += wrong is not None
            replayed = " (replayed)" if headers.get("replayed") == "true" else ""
            rows.append(
                [
                    step.name,
                    step.kind,
                    str(envelope["statusCode"]),
                    str(envelope["type"]) + replayed,
                    str(envelope["message"]),
                    Text(wrong, "red") if wrong else Text("ok", "green"),
                ]
            )
    print_scenario(rows)
    return failed


def print_scenario(rows: Sequence[Sequence[str | Text]]) -> None:
    """Print each request of the scenario with what it was answered."""
    print_table(["request", "kind", "status", "type", "message", ""], rows, title="The scenario", console=_console)


async def _change(settings: Settings) -> int:
    """Move the catalogue to its new column while requests go on; returns 1 where that went wrong."""
    try:
        async with asking_desk(settings) as desk:
            await Demonstration(desk, _console, uuid.uuid4().hex[:8])()
    except DemonstrationError as error:
        _console.print(f"[red]The change of the catalogue went wrong:[/red] {error}", highlight=False)
        return 1
    return 0


async def _ask(desk: Desk, step: Step, seen: Seen) -> tuple[Mapping[str, object], Mapping[str, str]]:
    asking = Asking(
        step.side, step.kind, step.payload(seen), _CALLER, version=step.version or 1, message_id=step.message_id
    )
    envelope = await desk.ask(asking, _GIVE_UP_S)
    return envelope.body, envelope.headers


def _say_how(state: Path, urls: Mapping[str, str]) -> None:
    _console.print("Send your own, from another terminal:")
    _console.print(
        "  .venv/bin/catalog send create_customer "
        """'{"name": "Grace Hopper", "email": "grace@example.com"}'""",
        markup=False,
        highlight=False,
    )
    _console.print("  .venv/bin/catalog ask search_customers '{\"limit\": 5}'", markup=False, highlight=False)
    _console.print("  .venv/bin/catalog backfill list", highlight=False)
    _console.print("  .venv/bin/catalog change show", highlight=False)
    _console.print(f"Addresses for other clients: {state / 'stack.env'}", highlight=False)
    for name, url in urls.items():
        _console.print(f"{name}: {url}", highlight=False)
    _console.print(
        "Everything is up. Press Ctrl-C to stop the workers and the servers that were started here; the data stay."
    )


def _watch(processes: list[_Process]) -> None:
    """Stay until Ctrl-C; raises `_WorkerEndedError` when a worker ends."""
    while True:
        _look(processes)
        time.sleep(_LOOK_EVERY_S)


def _is_ready(url: str) -> bool:
    """Ask a worker's health server whether it is ready."""
    try:
        with urllib.request.urlopen(f"{url}/ready", timeout=2) as answer:  # noqa: S310 - our own address
            return bool(answer.status == 200)  # noqa: PLR2004
    except (urllib.error.URLError, OSError):
        return False
