"""A worker that dies between any two steps loses nothing and doubles nothing."""

import asyncio
import signal
import uuid

import pytest

from tests.system import System, WorkerProcess

POINTS = [
    "after_decode",
    "after_look_up",
    "after_dispatch",
    "after_flush",
    "before_commit",
    "after_commit",
    "between_replies",
    "before_ack",
    "after_ack",
]
COMMANDS = 12


async def publish(system: System, number: int = COMMANDS) -> dict[str, str]:
    """Send creations; returns correlation ids by e-mail."""
    sent = {}
    for _ in range(number):
        email = f"{uuid.uuid4().hex}@example.com"
        body = {"kind": "create_customer", "payload": {"name": "N", "email": email}}
        sent[email] = await system.send("commands", body, key="same")
    await system.flush()
    return sent


async def assert_each_once(system: System, sent: dict[str, str]) -> None:
    """Every command answered 201, always with the same bytes; one row and one outcome for each."""
    for correlation_id in sent.values():
        assert (await system.reply(correlation_id)).status == 201
    rows = await system.fetch("select email from customers")
    assert sorted(row["email"] for row in rows) == sorted(sent)
    assert (await system.fetch("select count(*) from outcomes"))[0][0] == len(sent)
    for correlation_id in sent.values():
        assert len({reply.raw for reply in system.replies[correlation_id]}) == 1
    assert await system.dead_letters() == []


@pytest.mark.parametrize("point", POINTS)
async def test_killed_at_a_step(system: System, point: str) -> None:
    """Killed by SIGKILL at this step, the worker's successor answers everything, and each effect exists once."""
    first: WorkerProcess = await system.start(FAULT_POINT=point)
    sent = await publish(system)
    assert await first.ended() == -signal.SIGKILL
    await system.start()
    await assert_each_once(system, sent)


async def test_stopped_inside_its_transaction(system: System) -> None:
    """A worker stopped by SIGSTOP before its commit holds nobody up beyond the time-outs, and does no harm awake."""
    first = await system.start(FAULT_POINT="before_commit:1:stop")
    sent = await publish(system)
    await system.until(lambda: is_stopped(first), 20, "the worker did not stop itself")
    second = await system.start(ready=False)
    await system.until(lambda: has_started(second), 60, "the second worker did not start")
    started = asyncio.get_running_loop().time()
    for correlation_id in sent.values():
        await system.reply(correlation_id, timeout_s=40)
    waited = asyncio.get_running_loop().time() - started
    bound_s = system.servers.session_timeout_ms / 1000 + 15 + 5
    assert waited < bound_s, f"others waited {waited:.1f} s, more than session and transaction time-out together"
    first.send(signal.SIGCONT)
    more = await publish(system)
    await assert_each_once(system, sent | more)


async def has_started(worker: WorkerProcess) -> bool:
    """Tell whether a worker takes messages, as far as it is let."""
    return "worker_started" in worker.log.read_text()


async def is_stopped(worker: WorkerProcess) -> bool:
    """Tell whether a process is stopped."""
    import psutil  # noqa: PLC0415

    return bool(psutil.Process(worker.process.pid).status() == psutil.STATUS_STOPPED)
