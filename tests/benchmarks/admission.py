"""`python -m tests.benchmarks.admission`: what checking tokens and limits costs of the command rate; at most 15 %.

1,000 callers, each with a token of its own, send ten commands each: one after the other, so that a batch of 500 holds
some 50 tokens, or (`spread`) in turns, so that it holds 500. Both sides apply the same creations; on one of them the
worker knows who holds which token without checking it, and limits nobody. The commands are in the topic before a worker
starts. Rounds alternate; the figures are medians. On a shared machine the worker's own processor time tells more than
the rate.
"""

import asyncio
import json
import os
import statistics
import sys
import tempfile
import uuid
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

import psutil
import uvloop
from rich.console import Console
from rich.table import Table

from tests.benchmarks.backlog import creation, rate_of
from tests.benchmarks.sides import Databases
from tests.forked import ROOT
from tests.servers import Servers, start_servers
from tests.system import System, WorkerProcess
from workers import bootstrap
from workers.admission.identity import Identity
from workers.admission.rate import Charge, RateLimit, Verdict
from workers.settings import Settings
from workers.stack.tied import tied

CALLERS: Final = 1_000
COMMANDS: Final = 10 * CALLERS
ROUNDS: Final = int(os.environ.get("BENCH_ROUNDS", "5"))
TOKENS_FILE: Final = "BENCH_TOKENS"
"""Environment variable of a worker without checks: a file that says who holds which token."""


class Trusting:
    """Believes a file instead of checking tokens."""

    def __init__(self, path: Path) -> None:
        roles = frozenset({"catalog_admin"})
        self._known = {
            header.encode(): Identity("", sub, roles, 2**53, 0) for header, sub in json.loads(path.read_text()).items()
        }

    def verify(self, authorization: bytes, _: int) -> Identity:
        """Look the token up."""
        return self._known[authorization]


class Unlimited(RateLimit):
    """Lets everything pass, and asks nobody."""

    _PASS = Verdict(allowed=True, retry_after_ms=0, limit=0, window_s=0)

    async def admit(self, requests: Sequence[Charge]) -> Sequence[Verdict]:
        """Let them pass."""
        return [self._PASS] * len(requests)


def unchecked_worker() -> None:
    """Run a command worker that differs in its admission alone."""
    trusting = Trusting(Path(os.environ[TOKENS_FILE]))
    bootstrap.verifier_of = lambda _settings: trusting  # type: ignore[assignment,attr-defined,return-value]
    bootstrap.RateLimit = Unlimited  # type: ignore[attr-defined]
    sys.exit(uvloop.run(bootstrap.run_command_worker(Settings.load())))


async def measure(
    servers: Servers, databases: Databases, tokens: list[str], *, checked: bool, spread: bool
) -> tuple[float, float]:
    """Publish commands, start one worker; replies a second, and its processor time in µs a command."""
    async with System(servers, await databases.new(), forks=False, judges=False) as system:
        senders = tokens * 10 if spread else [token for token in tokens for _ in range(10)]
        sent = [await system.send("commands", creation(), key=uuid.uuid4().hex, token=token) for token in senders]
        await system.flush()
        settings = {"LOG_LEVEL": "WARNING", "RATE_LIMIT_REQUESTS": "100", "RATE_LIMIT_WINDOW_S": "60"}
        if checked:
            worker = await system.start(ready=False, **settings)
        else:
            held = system.directory / "tokens.json"
            held.write_text(json.dumps({f"Bearer {token}": f"caller-{n}" for n, token in enumerate(tokens)}))
            worker = await start_unchecked(system, settings | {TOKENS_FILE: str(held)})
        await system.until(partial(has_replied, system), 120, "no reply")
        process = psutil.Process(worker.process.pid)
        begun = process.cpu_times()
        rate = rate_of([await system.reply(correlation_id, timeout_s=120) for correlation_id in sent])
        ended = process.cpu_times()
        spent_s = ended.user + ended.system - begun.user - begun.system
        return rate, spent_s / COMMANDS * 1e6


async def has_replied(system: System) -> bool:
    """Whether the first batch is through: a worker's start is not the commands' cost."""
    return bool(system.replies)


async def start_unchecked(system: System, settings: dict[str, str]) -> WorkerProcess:
    """Start this module as a worker."""
    log = system.directory / "unchecked.log"
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *tied([sys.executable, "-m", __spec__.name, "worker"]),
            env=system.environment() | settings, cwd=ROOT, stdout=output, stderr=output,
        )  # fmt: skip
    worker = WorkerProcess("unchecked", process, log)
    system.workers.append(worker)
    return worker


Measured = list[tuple[float, float]]


async def run(servers: Servers, *, spread: bool) -> tuple[Measured, Measured]:
    """Alternate rounds; what was measured with checks, and without."""
    databases = Databases(servers)
    tokens = [System.token(f"caller-{number}") for number in range(CALLERS)]
    checked, unchecked = [], []
    for _ in range(ROUNDS):
        unchecked.append(await measure(servers, databases, tokens, checked=False, spread=spread))
        checked.append(await measure(servers, databases, tokens, checked=True, spread=spread))
    return checked, unchecked


def main() -> None:
    """Print both sides, and what the difference is."""
    console = Console()
    with (
        tempfile.TemporaryDirectory() as state,
        start_servers(os.environ.get("TEST_STACK", "embedded"), Path(state)) as servers,
    ):
        checked, unchecked = asyncio.run(run(servers, spread="spread" in sys.argv))
    table = Table("", "commands/s, median", "µs of processor time a command, median", "rounds", title="create_customer")
    medians = {}
    for name, rounds in (("with tokens and limits", checked), ("without", unchecked)):
        rates, spent = zip(*rounds, strict=True)
        medians[name] = statistics.median(rates), statistics.median(spent)
        table.add_row(
            name, f"{medians[name][0]:,.0f}", f"{medians[name][1]:.1f}", ", ".join(f"{r:,.0f}" for r in rates)
        )
    console.print(table)
    (rate, spent_us), (free_rate, free_us) = medians.values()
    console.print(
        f"tokens and limits cost {1 - rate / free_rate:.1%} of the rate,"
        f" {spent_us - free_us:.1f} µs a command ({1 - free_us / spent_us:.1%} of the worker's time)"
    )


if __name__ == "__main__":
    if sys.argv[1:] == ["worker"]:
        unchecked_worker()
    else:
        main()
