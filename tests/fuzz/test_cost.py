"""Costly messages of some senders cost others nothing: their requests are answered as if nobody else were there."""

import asyncio
import os
import statistics
from typing import Final

import pytest

from tests.fuzz.costly import CUSTOMERS
from tests.fuzz.probing import PROBED, Memory, Probe, send_costly
from tests.fuzz.stock import lay_in
from tests.system import System

SIZE: Final = os.environ.get("SUITE_SIZE", "short")
INPUTS: Final = {"short": 80, "long": 2_000}
PROBES: Final = {"short": 120, "long": 1_000}
SLACK_S: Final = 1.0
LATE_SHARE: Final = 0.01
WORKER_BYTES: Final = 400_000_000


@pytest.mark.fuzz
@pytest.mark.alone
async def test_costly_messages_cost_their_neighbours_nothing(system: System) -> None:
    """Of the probes beside them at most one in a hundred takes longer than the p99 without them and a second.

    No worker grows beyond its bound, nothing stays unanswered, and no worker ends.
    """
    system.forks = False
    workers = [await system.start(side, LOG_LEVEL="ERROR") for side in ("commands", "queries")]
    stock = await lay_in(system, CUSTOMERS[SIZE])
    assert (await system.command("create_product", {"mnemonic": PROBED, "overview": "o"}, version=2)).status == 201
    probe, memory = Probe(system), Memory(workers)
    alone = await probe.seconds(PROBES[SIZE])
    seed = int(os.environ.get("FUZZ_SEED", "20240601"))
    watching = asyncio.create_task(memory.watch())
    sending = asyncio.create_task(send_costly(system, seed, INPUTS[SIZE], stock.customer))
    beside = await probe.seconds(PROBES[SIZE], until=sending)
    result = await sending
    watching.cancel()
    bound_s = _p99(alone) + SLACK_S
    late = [seconds for seconds in beside if seconds > bound_s]
    told = (
        f"seed {seed}: {len(late)} of {len(beside)} probes over {bound_s:.2f} s (p99 {_p99(alone):.3f} s alone,"
        f" {_p99(beside):.3f} s beside, worst {max(beside):.2f} s); peaks {memory.peaks}; {result}"
    )
    print(told)  # noqa: T201 - the figures, where somebody looks at them
    assert result["unanswered"] == [], told
    assert max(memory.peaks.values()) < WORKER_BYTES, told
    assert len(late) <= LATE_SHARE * len(beside), told
    assert all(worker.process.returncode is None for worker in workers)


def _p99(seconds: list[float]) -> float:
    return statistics.quantiles(seconds, n=100)[98]
