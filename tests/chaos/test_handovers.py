"""Partitions change hands under load: nothing is done twice, nothing overtakes, and nobody waits for long."""

import asyncio
import signal
from typing import Final, Self

import pytest
from rich.console import Console

from tests.chaos.traffic import Traffic, Watch
from tests.system import System, WorkerProcess
from workers.verify.run import Account, Plan

RATE_PER_S: Final = 80.0
ACTORS: Final = 24
UNTIL_STOPPED_S: Final = 600.0
DRAIN_S: Final = 30.0
LATEST_REPLY_S: Final = 3.0
"""No reply may come later in a rolling restart."""
SETTLE_S: Final = 20.0


class Handovers:
    """Traffic around hand-overs, and what each of them cost."""

    def __init__(self, system: System, seed: int) -> None:
        self.system = system
        self.traffic = Traffic(system, Plan(RATE_PER_S, UNTIL_STOPPED_S, ACTORS, DRAIN_S, seed))
        self.costs: dict[str, float] = {}
        """What was done, and the longest time in which a partition gave no reply meanwhile, in seconds."""

    async def __aenter__(self) -> Self:
        await self.traffic.__aenter__()
        self._running = asyncio.create_task(self.traffic.run(), name="traffic")
        await self.traffic.recovered(self.traffic.watch(), SETTLE_S)
        return self

    async def __aexit__(self, *error: object) -> None:
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)
        await self.traffic.__aexit__(*error)

    async def account(self) -> Account:
        """Send nothing more; return the account of what was sent, when each delivery has its reply."""
        self.traffic.stop()
        account = await self._running
        await self.system.until(self._all_answered, SETTLE_S, "deliveries without a reply")
        return account

    async def _all_answered(self) -> bool:
        ledger = self.traffic.ledger
        return len(ledger) + ledger.repeats() >= self.traffic.verification.deliveries

    async def start(self, name: str) -> WorkerProcess:
        """Start a worker, and wait until every partition replies again."""
        watch = self.traffic.watch()
        worker = await self.system.start()
        await self._over(name, watch)
        return worker

    async def end(self, worker: WorkerProcess, name: str) -> None:
        """Have a worker end, and wait until every partition replies again."""
        watch = self.traffic.watch()
        worker.send(signal.SIGTERM)
        assert await worker.ended() == 0
        await self._over(name, watch)

    async def _over(self, name: str, watch: Watch) -> None:
        await self.traffic.recovered(watch, SETTLE_S)
        assert not self.traffic.silent(watch), f"{name}: partitions without a reply"
        self.costs[name] = watch.silence_s

    def told(self, what: str, account: Account) -> str:
        """Say what it cost."""
        times = account.latencies_s
        return (
            f"\n{what}: {account.messages} commands, median {times[len(times) // 2] * 1000:.0f} ms,"
            f" latest reply after {times[-1]:.2f} s; longest silence of a partition: "
            + ", ".join(f"{name} {seconds:.2f} s" for name, seconds in self.costs.items())
        )


def assert_each_delivery_was_decided_once(handovers: Handovers, account: Account) -> None:
    """No deviation, and exactly one reply to each delivery: none was decided or sent a second time."""
    assert account.deviations == []
    ledger = handovers.traffic.ledger
    assert len(ledger) + ledger.repeats() == handovers.traffic.verification.deliveries
    assert handovers.traffic.letters == []


async def test_rolling_restart(system: System, capsys: pytest.CaptureFixture[str]) -> None:
    """Three workers are replaced one by one under load: no record is delivered twice, and no reply comes late."""
    workers = await asyncio.gather(*(system.start() for _ in range(3)))
    async with Handovers(system, seed=11) as handovers:
        for number, worker in enumerate(workers, 1):
            await handovers.end(worker, f"{number} ends")
            await handovers.start(f"{number} starts")
        account = await handovers.account()
        with capsys.disabled():
            Console(width=200).print(handovers.told("rolling restart of three workers", account), highlight=False)
        assert_each_delivery_was_decided_once(handovers, account)
        assert account.latencies_s[-1] <= LATEST_REPLY_S


async def test_scaling_out_and_in(system: System, capsys: pytest.CaptureFixture[str]) -> None:
    """One worker, two, one again, twice under load: no effect twice, order kept; what it costs is measured."""
    await system.start()
    async with Handovers(system, seed=12) as handovers:
        for number in (1, 2):
            second = await handovers.start(f"1 to 2 ({number})")
            await handovers.end(second, f"2 to 1 ({number})")
        account = await handovers.account()
        with capsys.disabled():
            Console(width=200).print(handovers.told("scaling 1 to 2 to 1, twice", account), highlight=False)
        assert_each_delivery_was_decided_once(handovers, account)
