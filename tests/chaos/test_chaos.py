"""Nothing is lost, doubled or out of order, whatever happens to workers, servers and connections.

`make chaos` goes on until the campaign's goals are reached. Its ledger is `.local/chaos/ledger.json`; one that is
interrupted goes on with the next `make chaos`. CHAOS_SEED repeats the faults of one run. `make smoke` has each fault
once.
"""

import asyncio
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest
from rich.console import Console, RenderableType

from tests.chaos import faults
from tests.chaos.arena import Arena, an_arena
from tests.chaos.campaign import Campaign, Run
from tests.chaos.faults import IN_SHORT, SHARES, TOGETHER, USUAL_WORKERS, Recovery, Stage
from tests.chaos.inspection import Inspector
from tests.chaos.traffic import Traffic
from tests.forked import ROOT
from workers.verify.run import Plan

SIZE: Final = os.environ.get("SUITE_SIZE", "short")
LEDGERS: Final = ROOT / ".local" / "chaos"
PLACES: Final = {"short": [1], "long": [1, 3]}[SIZE]
"""On how many brokers."""
RATE_PER_S: Final = {"short": 100.0, "long": 200.0}[SIZE]
ACTORS: Final = 64
"""Customers, each with its key: enough that every partition is written to."""
FAULTS_A_RUN: Final = 15
AT_ONCE_SHARE: Final = 0.15
"""Of a long run's faults: how many come together."""
UNTIL_STOPPED_S: Final = 3600.0
DRAIN_S: Final = 60.0


Say = Callable[[RenderableType], None]
"""Prints figures, past pytest's capturing."""


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Say:
    """Print at once, on lines as long as they need to be."""

    def print_now(what: RenderableType) -> None:
        with capsys.disabled():
            Console(width=160).print(what, highlight=False)

    return print_now


@pytest.mark.chaos
@pytest.mark.parametrize("brokers", PLACES)
async def test_chaos(brokers: int, tmp_path: Path, say: Say) -> None:
    """Under random faults every command takes effect once, in order, and is answered; each recovery is in time."""
    seed = os.environ.get("CHAOS_SEED") or ("1" if SIZE == "short" else None)
    campaign = Campaign((LEDGERS if seed is None else tmp_path) / "ledger.json")
    async with an_arena(tmp_path, brokers, USUAL_WORKERS) as arena:
        if seed is not None:
            await one_run(arena, campaign, int(seed), say, hurry=SIZE == "short")
            say(campaign.picture())
        while seed is None and campaign.missing(brokers):
            await one_run(arena, campaign, random.SystemRandom().randrange(1 << 32), say, hurry=False)
            say(campaign.picture())
    if seed is None and brokers == PLACES[-1]:  # else the next place would begin another campaign
        campaign.close_if_complete()


async def one_run(arena: Arena, campaign: Campaign, seed: int, say: Say, *, hurry: bool) -> None:
    """Let traffic flow, let faults happen, account for all of it."""
    brokers = len(arena.parts.brokers)
    say(f"\nseed {seed}, {brokers} broker(s), logs in {arena.system.directory}")
    plan = Plan(RATE_PER_S, UNTIL_STOPPED_S, ACTORS, DRAIN_S, seed)
    async with Traffic(arena.system, plan, Inspector(arena.system), brokers) as traffic:
        stage = Stage(arena, traffic, seed, hurry)
        running = asyncio.create_task(traffic.run(), name="traffic")
        striking = asyncio.create_task(strikes(stage, say), name="faults")
        try:
            await asyncio.wait({running, striking}, return_when=asyncio.FIRST_COMPLETED)
            traffic.stop()
            account = await running
            recoveries = await striking
        finally:
            striking.cancel()
        run = Run(seed, brokers, account.messages, account.deliveries, len(traffic.undelivered), recoveries)
        run.longest_answer_s = max(account.latencies_s, default=0.0)
        run.deviations += [f"{one.kind} {one.message_id}: {one.detail}" for one in account.deviations]
        run.deviations += [f"{one.kind} {one.message_id}: {one.detail}" for one in traffic.inspected]
        run.deviations += [f"dead-lettered {one.message_id}: {one.reason}, {one.detail}" for one in traffic.letters]
        run.deviations += [f"too late after {one.what}: {one.all_s:.1f} s" for one in recoveries if not one.in_time]
        run.deviations += arena.ended_by_themselves()
        campaign.add(run)
    assert not run.deviations, f"seed {seed}: {len(run.deviations)} deviations: {run.deviations[:20]}"


async def strikes(stage: Stage, say: Say) -> list[Recovery]:
    """Let a run's faults happen: each kind once in a short run, else as the dice fall."""
    await stage.traffic.recovered(stage.traffic.watch(), faults.PATIENCE_S)
    recoveries = []
    for number, together in enumerate(chosen(stage.seed, hurry=stage.hurry)):
        stage.dice = random.Random(f"{stage.seed}-{number}")  # how a fault goes does not depend on those before it
        if len(together) == 1:
            found = await faults.strike(stage, together[0])
        else:
            found = await faults.strike_together(stage, together)
        for one in found:
            say(
                f"  {one.what}: first reply after {one.first_s:.2f} s, all partitions after {one.all_s:.2f} s"
                f" (bound {one.bound_s:.0f} s), longest silence {one.silence_s:.2f} s"
            )
        recoveries += found
    return recoveries


def chosen(seed: int, *, hurry: bool) -> Iterator[list[str]]:
    """Choose what happens, and what of it at once."""
    dice = random.Random(seed)
    if hurry:
        yield from ([fault] for fault in dice.sample(IN_SHORT, len(IN_SHORT)))
        return
    for _ in range(FAULTS_A_RUN):
        if dice.random() < AT_ONCE_SHARE:
            yield dice.sample(TOGETHER, 2)
        else:
            yield dice.choices(list(SHARES), list(SHARES.values()))
