"""`make run`: the whole system on this machine, a short scenario through Kafka, and a change under live traffic."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import uvloop
from rich.console import Console
from rich.text import Text

from workers import bootstrap
from workers.checks import StartRefusedError
from workers.demo_change import Demonstration, DemonstrationError, prepare
from workers.scenario import Seen, Step, problem, scenario
from workers.settings import Settings
from workers.stack.embedded import EmbeddedStack
from workers.stack.tied import tied
from workers.tables import print_table

READY_TIMEOUT_S: Final = 60.0
STOP_TIMEOUT_S: Final = 25.0
ROLES: Final = ("commands", "queries", "backfill")
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


def run_demo(state: Path, *, once: bool) -> int:
    """Bring everything up, run the scenario, stay until Ctrl-C (or end, with `once`). Returns the exit code."""
    for number in (signal.SIGINT, signal.SIGTERM):  # SIGINT, too: a shell's background jobs start with it ignored
        signal.signal(number, _interrupt)
    stack = EmbeddedStack(state)
    try:
        with _console.status("Starting Kafka, Postgres and Redis …") as status:
            env = stack.up(on_progress=status.update)
        for notice in stack.notices:
            _console.print(notice, highlight=False)
        os.environ.update({name: value for name, value in env.as_env().items() if name not in os.environ})
        settings = Settings.load()
        with _console.status("Creating topics, migrating the database, making products …"):
            can_change = uvloop.run(_set_up(settings, PRODUCTS_ONCE if once else PRODUCTS))
        with _workers(state) as processes:
            with _console.status("Starting the workers …"):
                urls = _wait_until_ready(processes)
            stack.update_env(urls)
            failed = uvloop.run(_play(settings)) + (uvloop.run(_change(settings)) if can_change else 0)
            if once:
                return 1 if failed else 0
            _say_how(state, urls)
            _watch(processes)
            return 1
    except KeyboardInterrupt:
        return 0
    finally:
        with _console.status("Stopping …"):
            stack.down()


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


async def _set_up(settings: Settings, products: int) -> bool:
    """Make everything that is needed; says whether the catalogue's change can be shown."""
    await asyncio.gather(bootstrap.create_topics(settings), bootstrap.migrate(settings))
    engine = bootstrap.engine_of(settings, "catalog-demo")
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
            started.append(_Process(role, process, url_file, log))
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
        while not (one.url_file.exists() and bootstrap.is_ready(one.url_file.read_text().strip())):
            if one.process.poll() is not None or time.monotonic() > end:
                msg = f"the {one.role} worker did not start; its log is {one.log}"
                raise StartRefusedError(msg)
            time.sleep(0.05)
        urls[f"METRICS_URL_{one.role.upper()}"] = one.url_file.read_text().strip() + "/metrics"
    return urls


async def _play(settings: Settings) -> int:
    """Send the scenario, print each request with its envelope; returns how many were not as expected."""
    seen: Seen = {}
    rows: list[list[str | Text]] = []
    failed = 0
    caller = bootstrap.Caller("demo", ("catalog_admin", "catalog_operator"), None)
    async with bootstrap.asking(settings) as client:
        for step in scenario(uuid.uuid4().hex[:8]):
            envelope, headers = await _ask(client, step, seen, caller)
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
        async with bootstrap.asking(settings) as client:
            await Demonstration(client, _console, uuid.uuid4().hex[:8])()
    except DemonstrationError as error:
        _console.print(f"[red]The change of the catalogue went wrong:[/red] {error}", highlight=False)
        return 1
    return 0


async def _ask(
    client: bootstrap.Client, step: Step, seen: Seen, caller: bootstrap.Caller
) -> tuple[Mapping[str, object], Mapping[str, str]]:
    body: dict[str, object] = {"kind": step.kind, "payload": step.payload(seen)}
    if step.version is not None:
        body["version"] = step.version
    headers, value = await client.ask(bootstrap.Asking(step.side, body, None, step.message_id, caller), 30)
    return json.loads(value), headers


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
    _console.print("Everything is up. Press Ctrl-C to stop.")


def _watch(processes: list[_Process]) -> None:
    """Stay until Ctrl-C, or until a worker ends."""
    while True:
        for one in processes:
            if one.process.poll() is not None:
                _console.print(f"[red]The {one.role} worker ended; its log is {one.log}[/red]")
                return
        time.sleep(0.5)
