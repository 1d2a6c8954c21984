"""An outage is not an error: requests wait, and go on by themselves."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from aiokafka.errors import KafkaError

from tests.system import System


@asynccontextmanager
async def flowing(system: System, sent: dict[str, str]) -> AsyncIterator[None]:
    """Publish creations all the time; `sent` maps e-mails to correlation ids."""
    stop = asyncio.Event()

    async def publish() -> None:
        while not stop.is_set():
            email = f"{uuid.uuid4().hex}@example.com"
            body = {"kind": "create_customer", "payload": {"name": "N", "email": email}}
            correlation_id = message_id = uuid.uuid4().hex
            while True:
                try:
                    await system.send(
                        "commands", body, key=email, correlation_id=correlation_id, message_id=message_id, confirm=True
                    )
                except KafkaError:
                    await asyncio.sleep(0.1)
                else:
                    break
            sent[email] = correlation_id
            await asyncio.sleep(0.02)

    task = asyncio.create_task(publish())
    try:
        yield
    finally:
        stop.set()
        await task


@pytest.mark.parametrize("how", ["clean", "kill"])
@pytest.mark.parametrize("part", ["postgres", "kafka"])
async def test_commands_wait_for_what_is_away(system: System, part: str, how: str) -> None:
    """While Postgres or Kafka is away, no command fails or is dead-lettered; afterwards all are applied."""
    worker = await system.start()
    query_worker = await system.start("queries")
    sent: dict[str, str] = {}
    parts = system.servers.parts
    async with flowing(system, sent):
        await answered(system, sent, 20)
        await asyncio.to_thread(parts.stop_part, part, how)
        before = len(sent)
        if part == "postgres":
            await system.until(at_least(lambda: len(sent), before + 50), 20, "commands do not flow")
        else:
            await asyncio.sleep(2)
        await asyncio.to_thread(parts.start_part, part)
        await answered(system, sent, before + 50)
    for correlation_id in sent.values():
        assert (await system.reply(correlation_id, timeout_s=60)).status == 201
    rows = await system.fetch("select email from customers")
    assert sorted(row["email"] for row in rows) == sorted(sent)
    assert await system.dead_letters() == []
    assert worker.process.returncode is None
    assert query_worker.process.returncode is None
    assert (await system.query("search_customers", {"limit": 1})).status == 200


@pytest.mark.parametrize("side", ["commands", "queries"])
async def test_a_deadline_is_judged_once_the_database_answers(system: System, side: str) -> None:
    """What is late already, and what becomes so while Postgres is away, is denied when it is back, and not before."""
    worker = await system.start(side)
    create = {"kind": "create_customer", "payload": {"name": "N", "email": "n@example.com"}}
    body = create if side == "commands" else {"kind": "search_customers", "payload": {}}
    soon, past = (str(int((time.time() + after_s) * 1000)) for after_s in (1, -1))
    await asyncio.to_thread(system.servers.parts.stop_part, "postgres", "kill")
    try:
        late = [await system.send(side, body, headers={"deadline": deadline}) for deadline in (past, soon)]

        async def has_waited() -> bool:
            waited = (await system.metrics(worker)).get('catalog_waiting_seconds_total{server="postgres"}', 0)
            return waited > 2

        await system.until(has_waited, 20, "nothing waits")
        assert system.replies == {}
    finally:
        await asyncio.to_thread(system.servers.parts.start_part, "postgres")
    for correlation_id in late:
        reply = await system.reply(correlation_id)
        assert (reply.status, reply.code) == (504, "DEADLINE_EXCEEDED")
    assert await system.fetch("select from customers") == []


async def test_redis_away(system: System) -> None:
    """Without Redis requests are answered all the same, and each process limits by itself."""
    await system.start(RATE_LIMIT_REQUESTS="5")
    await asyncio.to_thread(system.servers.parts.stop_part, "redis", "kill")
    try:
        sent = []
        for _ in range(8):
            body = {"kind": "create_customer", "payload": {"name": "N", "email": f"{uuid.uuid4().hex}@example.com"}}
            sent.append(await system.send("commands", body, key="same"))
        statuses = [(await system.reply(correlation_id)).status for correlation_id in sent]
        assert statuses == [201] * 5 + [429] * 3
    finally:
        await asyncio.to_thread(system.servers.parts.start_part, "redis")


async def answered(system: System, sent: dict[str, str], number: int) -> None:
    """Wait until so many commands have been answered."""
    answered_now = lambda: sum(correlation_id in system.replies for correlation_id in list(sent.values()))  # noqa: E731
    await system.until(at_least(answered_now, number), 60, f"fewer than {number} replies")


def at_least(count: Callable[[], int], number: int) -> Callable[[], "asyncio.Future[bool]"]:
    """Make a condition for `until`."""

    async def condition() -> bool:
        return count() >= number

    return condition  # type: ignore[return-value]
