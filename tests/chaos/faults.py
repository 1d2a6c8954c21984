"""What is done to a deployment while commands flow. Each strike does harm, mends it, and says from when it counts."""

import asyncio
import random
import signal
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from tests.chaos.arena import Arena
from tests.chaos.traffic import Traffic, Watch
from workers.stack.guarded import How

RECOVERY_S: Final = 10.0
"""Longest time from a part's return to the first reply of every partition."""
AFTER_SESSION_S: Final = 5.0
"""Longest time from the end of a killed worker's session to the first reply of its partitions."""
PATIENCE_S: Final = 60.0
"""After it, a partition that gives no reply is given up."""
CALM_WITHIN_S: Final = 20.0
"""What an earlier fault left over has so long to be worked off before the next one."""
BEYOND_TIME_OUTS_S: Final = 16.0
"""A database as slow as that has every transaction time out."""
USUAL_WORKERS: Final = 2
MOST_WORKERS: Final = 4


@dataclass
class Stage:
    """Where faults happen: the deployment, its traffic, and the dice.

    `hurry` keeps every outage at its shortest; so many of the eldest workers are `spared`: never killed.
    """

    arena: Arena
    traffic: Traffic
    seed: int
    hurry: bool
    spared: int = 0
    dice: random.Random = field(default_factory=random.Random)

    async def wait(self, shortest_s: float, longest_s: float) -> None:
        """Let the harm last for a while."""
        await asyncio.sleep(shortest_s if self.hurry else self.dice.uniform(shortest_s, longest_s))


@dataclass(frozen=True)
class Struck:
    """What was harmed and how, and by when each partition must reply: so many seconds after `at` (monotonic)."""

    what: str
    at: float
    bound_s: float = RECOVERY_S


@dataclass(frozen=True)
class Recovery:
    """How a fault went. Times in seconds."""

    fault: str
    what: str
    first_s: float
    """From the moment that counts to the first reply to a message that was sent since the fault began."""
    all_s: float
    """To the last partition's first such reply."""
    silence_s: float
    """The longest time in which a partition gave no reply, the outage itself included."""
    bound_s: float
    """For `all_s`."""

    @property
    def in_time(self) -> bool:
        """Whether it kept its bound."""
        return self.all_s <= self.bound_s


Strike = Callable[[Stage], Awaitable[Struck]]


async def recover(stage: Stage, fault: str, struck: Struck, watch: Watch) -> Recovery:
    """Wait until every partition replies again."""
    await stage.traffic.recovered(watch, PATIENCE_S)
    times = [max(0.0, at - struck.at) for at in watch.first.values()]
    if not times or stage.traffic.silent(watch):
        times.append(PATIENCE_S)
    return Recovery(fault, struck.what, min(times), max(times), watch.silence_s, struck.bound_s)


# Workers -------------------------------------------------------------------------------------------------------------
async def kill_worker(stage: Stage) -> Struck:
    """SIGKILL; another worker is started in its place, as a supervisor would."""
    arena = stage.arena
    victim = stage.dice.choice(arena.living[stage.spared :])
    at = time.monotonic()
    arena.kill(victim)
    await arena.start_workers(1, ready=False)
    return Struck(f"{victim.log.stem} killed", at, arena.session_timeout_s + AFTER_SESSION_S)


async def stop_worker(stage: Stage) -> Struck:
    """SIGSTOP, for less or more than its session, then SIGCONT: a worker that does not know that it was replaced."""
    victim = stage.dice.choice(stage.arena.living)
    victim.send(signal.SIGSTOP)
    try:
        await stage.wait(3.0, 7.0) if stage.dice.random() < 0.7 else await stage.wait(0.3, 1.5)
    finally:
        with suppress(ProcessLookupError):  # killed meanwhile, by another fault
            victim.send(signal.SIGCONT)
    return Struck(f"{victim.log.stem} stopped", time.monotonic())


def scale(number: int) -> Strike:
    """Start workers, or tell some to end (SIGTERM), until there are so many."""

    async def strike(stage: Stage) -> Struck:
        arena = stage.arena
        at, before = time.monotonic(), len(arena.living)
        if number > before:
            await arena.start_workers(number - before)
        else:
            await arena.end_workers(stage.dice.sample(arena.living, before - number))
        return Struck(f"{before} to {number} workers", at)

    return strike


# Servers -------------------------------------------------------------------------------------------------------------
async def stop_broker(stage: Stage) -> Struck:
    """Stop a broker in order, and start it again."""
    return await _outage(stage, stage.dice.choice(stage.arena.parts.brokers), "clean", 5.0)


async def kill_broker(stage: Stage) -> Struck:
    """Kill a broker, and start it again."""
    return await _outage(stage, stage.dice.choice(stage.arena.parts.brokers), "kill", 5.0)


async def stop_database(stage: Stage) -> Struck:
    """Stop Postgres in order, and start it again."""
    return await _outage(stage, "postgres", "clean", 8.0)


async def kill_database(stage: Stage) -> Struck:
    """Kill Postgres, and start it again."""
    return await _outage(stage, "postgres", "kill", 8.0)


async def kill_redis(stage: Stage) -> Struck:
    """Kill Redis, and start it again."""
    return await _outage(stage, "redis", "kill", 8.0)


async def slow_database(stage: Stage) -> Struck:
    """Have each transaction wait in the database, now and then until every time-out strikes."""
    very = not stage.hurry and stage.dice.random() < 0.15
    seconds = BEYOND_TIME_OUTS_S if very else stage.dice.uniform(0.2, 1.0)
    await stage.arena.slow_down(seconds)
    await stage.wait(2.0, 8.0)
    await stage.arena.slow_down(0)
    await stage.arena.until_awake()
    return Struck(f"database slow by {seconds:.1f} s", time.monotonic())


async def _outage(stage: Stage, part: str, how: How, longest_s: float) -> Struck:
    parts = stage.arena.parts
    await asyncio.to_thread(parts.stop, part, how)
    await stage.wait(0.2, longest_s)
    await asyncio.to_thread(parts.start, part)
    return Struck(f"{part} {'killed' if how == 'kill' else 'stopped'}", time.monotonic())


# Connections ---------------------------------------------------------------------------------------------------------
async def cut_connections(stage: Stage) -> Struck:
    """End all connections to a server, several times, and refuse new ones for a while."""
    name, proxy = stage.dice.choice(list(stage.arena.parts.proxies.items()))
    for _ in range(stage.dice.randint(1, 4)):
        proxy.cut()
        await stage.wait(0.1, 0.7)
    proxy.refusing = True
    await stage.wait(0.3, 3.0)
    proxy.heal()
    return Struck(f"connections to {name} cut", time.monotonic())


async def delay_connections(stage: Stage) -> Struck:
    """Let everything to and from a server arrive late."""
    name, proxy = stage.dice.choice(list(stage.arena.parts.proxies.items()))
    proxy.delay_s = stage.dice.uniform(0.02, 0.3)
    delayed = f"{name} delayed by {proxy.delay_s * 1000:.0f} ms"
    await stage.wait(2.0, 6.0)
    proxy.heal()
    return Struck(delayed, time.monotonic())


async def swallow_connections(stage: Stage) -> Struck:
    """Let nothing pass to and from a server, while all connections stay open; then all of it at once."""
    name, proxy = stage.dice.choice(list(stage.arena.parts.proxies.items()))
    proxy.swallow()
    await stage.wait(1.5, 7.0)
    proxy.heal()
    return Struck(f"{name} silent", time.monotonic())


# Replies -------------------------------------------------------------------------------------------------------------
async def refuse_replies(stage: Stage) -> Struck:
    """Ask for some replies on a topic that takes none: the others' replies wait for it once, and not for long.

    It does not exist, or where there are three brokers, the only one that has it is stopped meanwhile.
    """
    *others, last = stage.arena.parts.brokers
    if others:
        await asyncio.to_thread(stage.arena.parts.stop, last, "clean")
        await stage.wait(2.0, 4.0)
    at = time.monotonic()
    stage.traffic.ask_deaf = True
    await stage.wait(2.0, 8.0)
    stage.traffic.ask_deaf = False
    if others:
        await asyncio.to_thread(stage.arena.parts.start, last)
    return Struck("some replies refused", at)


FAULTS: Final[Mapping[str, Sequence[Strike]]] = {
    "worker killed": (kill_worker,),
    "worker stopped": (stop_worker,),
    "scaled": (scale(1), scale(MOST_WORKERS), scale(1), scale(USUAL_WORKERS)),
    "broker stopped": (stop_broker,),
    "broker killed": (kill_broker,),
    "database stopped": (stop_database,),
    "database killed": (kill_database,),
    "database slow": (slow_database,),
    "redis killed": (kill_redis,),
    "connections cut": (cut_connections,),
    "connections delayed": (delay_connections,),
    "connections silent": (swallow_connections,),
    "replies refused": (refuse_replies,),
}
"""By name; each of its strikes counts as one."""

IN_SHORT: Final = (
    "worker killed",
    "worker stopped",
    "scaled",
    "broker stopped",
    "database killed",
    "database slow",
    "redis killed",
    "connections cut",
    "connections silent",
    "replies refused",
)
"""What a short run has, once each."""

SHARES: Final[Mapping[str, float]] = {
    "worker killed": 8,
    "worker stopped": 8,
    "scaled": 1,
    "broker stopped": 1.2,
    "broker killed": 1.2,
    "database stopped": 0.7,
    "database killed": 0.7,
    "database slow": 0.7,
    "redis killed": 1,
    "connections cut": 0.7,
    "connections delayed": 0.7,
    "connections silent": 0.7,
    "replies refused": 0.4,
}
"""How often each is chosen."""

TOGETHER: Final = (
    "worker killed",
    "worker stopped",
    "database killed",
    "broker stopped",
    "connections cut",
    "redis killed",
)
"""Faults that may strike at the same time."""


async def strike(stage: Stage, fault: str) -> list[Recovery]:
    """Let one fault happen, and wait after each of its strikes until the deployment has recovered."""
    recoveries = []
    for one in FAULTS[fault]:
        await stage.traffic.calm(CALM_WITHIN_S)
        watch = stage.traffic.watch()
        struck = await one(stage)
        recoveries.append(await recover(stage, fault, struck, watch))
        await stage.arena.until_ready()
    return recoveries


async def strike_together(stage: Stage, faults: Sequence[str]) -> list[Recovery]:
    """Let several faults happen at once; all must be recovered from once the last part is back."""
    await stage.traffic.calm(CALM_WITHIN_S)
    watch = stage.traffic.watch()
    struck = await asyncio.gather(*(one(stage) for fault in faults for one in FAULTS[fault]))
    last = max(struck, key=lambda one: one.at + one.bound_s)
    everything = Struck(" and ".join(one.what for one in struck), time.monotonic(), last.bound_s)
    recovery = await recover(stage, faults[0], everything, watch)
    await stage.arena.until_ready()
    return [Recovery(fault, recovery.what, *_times(recovery)) for fault in faults]


def _times(recovery: Recovery) -> tuple[float, float, float, float]:
    return recovery.first_s, recovery.all_s, recovery.silence_s, recovery.bound_s
