"""Probes tell the truth: stuck is not live, without a database not ready, and a broker that is away is neither."""

import asyncio
import time
import uuid
from pathlib import Path

import asyncpg

from tests.servers import Servers
from tests.system import System, WorkerProcess

STUCK_AFTER_S = 5
"""The shortest that the settings allow."""


async def publish(system: System, number: int = 3) -> list[str]:
    """Send creations; returns their correlation ids."""
    sent = []
    for _ in range(number):
        body = {"kind": "create_customer", "payload": {"name": "N", "email": f"{uuid.uuid4().hex}@example.com"}}
        sent.append(await system.send("commands", body))
    await system.flush()
    return sent


async def probes(worker: WorkerProcess) -> tuple[int, int]:
    """Ask whether a worker is live, and ready."""
    live, ready = await asyncio.gather(
        System.http_status(worker.metrics_url + "/live"), System.http_status(worker.metrics_url + "/ready")
    )
    return live, ready


async def until(worker: WorkerProcess, wanted: tuple[int, int], timeout_s: float) -> None:
    """Wait for an answer of both probes."""

    async def is_so() -> bool:
        return await probes(worker) == wanted

    await System.until(is_so, timeout_s, f"{wanted} never comes")


async def stays(worker: WorkerProcess, wanted: tuple[int, int], for_s: float) -> None:
    """See to it that both probes answer the same all the time."""
    end = time.monotonic() + for_s
    while time.monotonic() < end:
        assert await probes(worker) == wanted
        await asyncio.sleep(0.2)


async def test_a_database_that_is_away(system: System) -> None:
    """Not ready, but live for as long as it lasts, though commands wait; then ready again, and all is applied."""
    worker = await system.start(HEALTH_STUCK_AFTER_S=str(STUCK_AFTER_S))
    assert await probes(worker) == (200, 200)
    await asyncio.to_thread(system.servers.parts.stop_part, "postgres", "kill")
    try:
        sent = await publish(system)
        await until(worker, (200, 503), 10)
        await stays(worker, (200, 503), STUCK_AFTER_S * 2 + 2)
    finally:
        await asyncio.to_thread(system.servers.parts.start_part, "postgres")
    await until(worker, (200, 200), 20)
    for correlation_id in sent:
        assert (await system.reply(correlation_id)).status == 201
    metrics = await system.metrics(worker)
    assert metrics['catalog_waiting_seconds_total{server="postgres"}'] > STUCK_AFTER_S
    assert metrics["catalog_redeliveries_total"] >= len(sent)


async def test_a_broker_that_is_away(system: System) -> None:
    """Live and ready for as long as it lasts: no restart could help."""
    worker = await system.start(HEALTH_STUCK_AFTER_S=str(STUCK_AFTER_S))
    await publish(system)
    await asyncio.to_thread(system.servers.parts.stop_part, "kafka", "kill")
    try:
        await stays(worker, (200, 200), STUCK_AFTER_S * 2 + 2)
    finally:
        await asyncio.to_thread(system.servers.parts.start_part, "kafka")
    assert (await system.command("delete_customer", {"customer_id": str(uuid.uuid4())})).status == 404


async def test_a_worker_that_gets_nowhere(system: System) -> None:
    """Commands wait and none is decided: not live, and if nobody replaces it, it ends by itself."""
    worker = await system.start(HEALTH_STUCK_AFTER_S=str(STUCK_AFTER_S))
    session = await asyncpg.connect(system.database_url)
    await session.execute("begin; lock table customers in access exclusive mode")
    try:
        sent = await publish(system)
        await until(worker, (503, 200), STUCK_AFTER_S * 4)
        assert await worker.ended(60) == 1
        (line,) = [line for line in worker.lines() if line["operation"] == "worker_broken"]
        assert "under way" in line["reason"] or "none was decided" in line["reason"]
    finally:
        await session.close()
    await system.start()
    for correlation_id in sent:
        assert (await system.reply(correlation_id)).status == 201


async def test_a_replica_without_a_partition_is_ready(stack: Servers, database_url: str, tmp_path: Path) -> None:
    """More workers than partitions: those that have none have joined, and stand by."""
    async with System(stack, database_url, partitions=1, logs=tmp_path) as system:
        workers = [await system.start(), await system.start()]
        for worker in workers:
            await until(worker, (200, 200), 20)
        assigned = [(await system.metrics(worker))["catalog_assigned_partitions"] for worker in workers]
        assert sorted(assigned) == [0, 1]


async def test_figures_of_an_ordinary_day(system: System) -> None:
    """Lag, pool, acks and steps are there without any trouble, and tell of none."""
    system.forks = False
    worker = await system.start()
    for correlation_id in await publish(system):
        await system.reply(correlation_id)

    async def caught_up() -> bool:
        metrics = await system.metrics(worker)
        behind = [value for name, value in metrics.items() if name.startswith("catalog_lag_messages{")]
        acked = metrics.get('catalog_acks_total{ok="true"}', 0)
        # Each lane tells of its partitions by itself, and acks now and then.
        return acked > 0 and len(behind) == system.partitions and sum(behind) == 0

    await system.until(caught_up, 10, "there is lag")
    metrics = await system.metrics(worker)
    assert sum(value for name, value in metrics.items() if name.startswith("catalog_lag_seconds{")) == 0
    assert len([name for name in metrics if name.startswith("catalog_lag_seconds{")]) == system.partitions
    assert metrics['catalog_database_connections_in_use{pool="primary"}'] == 0
    assert metrics['catalog_database_connections_limit{pool="primary"}'] == 10
    assert metrics["catalog_redeliveries_total"] == 0
    assert metrics['catalog_step_seconds_count{step="rate"}'] > 0
    assert not [name for name in metrics if name.startswith("catalog_dead_letters_total")]
