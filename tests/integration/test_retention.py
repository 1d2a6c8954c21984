"""Outcomes end after their retention, and nothing that was applied is ever applied again for it."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from persistence import retention, unit_of_work
from persistence.engine import Engine, PoolSettings, connected, create_engine
from persistence.faults import StaleReadError, UniqueConflictError
from persistence.outcomes import Outcome, look_up
from tests.system import System
from workers import outcome_purge
from workers.outcome_purge import OutcomePurge

KEPT = timedelta(days=30)
NOW = datetime.now(UTC)
OLD = NOW - timedelta(days=40)


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[Engine]:
    """The workers' pool on a database of the test's own."""
    pool = create_engine(database_url, PoolSettings(size=4, max_overflow=4), "tests")
    yield pool
    await pool.dispose()


def ms(at: datetime) -> int:
    """Return milliseconds since the epoch."""
    return int(at.timestamp() * 1000)


def outcome(message_id: str, stamped_at: datetime) -> Outcome:
    """Make an outcome."""
    return Outcome("\nada", message_id, "create_customer", b"h", b"{}", [], [], "t.commands", 0, 1, stamped_at)


async def store(engine: Engine, *outcomes: Outcome) -> None:
    """Commit outcomes as a batch does."""
    standing = (await look_up(engine, [])).standing
    async with unit_of_work.begin(engine) as uow:
        await uow.load([], standing)
        await uow.store(outcomes)
        await uow.commit()


async def kept(engine: Engine) -> list[str]:
    """Return the ids of the outcomes that are there."""
    async with connected(engine) as connection:
        return [row["message_id"] for row in await connection.fetch("select message_id from outcomes order by 1")]


def purge(engine: Engine, newest: datetime | None = NOW) -> OutcomePurge:
    """Make a purge whose process has seen a record of that time."""
    return OutcomePurge(engine, KEPT, lambda: ms(newest) if newest else None, lambda _: None, _soon)


async def _soon(seconds: float) -> None:
    await asyncio.sleep(min(seconds, 0.005))


async def test_the_purge_deletes_what_is_older_and_nothing_else(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batch by batch, everything stamped before the mark goes; what is younger stays; the next purge finds nothing."""
    monkeypatch.setattr(outcome_purge, "BATCH_ROWS", 10)
    await store(engine, *(outcome(f"old-{n}", OLD + timedelta(seconds=n // 3)) for n in range(95)))
    await store(engine, outcome("young", NOW - KEPT + timedelta(minutes=1)), outcome("new", NOW))

    assert await purge(engine).once() == 95
    assert await kept(engine) == ["new", "young"]
    assert await purge(engine).once() == 0


async def test_the_mark_moves_forward_only_and_not_beyond_the_retention(engine: Engine) -> None:
    """A broker's clock that is years ahead, or a backlog of last year, forgets nothing that must be kept."""
    await store(engine, outcome("kept", NOW - KEPT + timedelta(hours=5)))
    await purge(engine, NOW + timedelta(days=3650)).once()
    async with connected(engine) as connection:
        mark = await retention.read_mark(connection)
    assert mark.now - mark.stamped_before == pytest.approx(KEPT, abs=timedelta(minutes=1))
    await purge(engine, NOW - timedelta(days=365)).once()
    async with connected(engine) as connection:
        assert (await retention.read_mark(connection)).stamped_before == mark.stamped_before
    assert await kept(engine) == ["kept"]


async def test_a_purge_that_died_is_gone_on_with(engine: Engine) -> None:
    """A mark that was committed without its deletions is followed by them, also by a worker that has seen no record."""
    await store(engine, outcome("old", OLD))
    assert await purge(engine, None).once() == 0
    await retention.move_mark(engine, NOW - KEPT, KEPT)
    assert await purge(engine, None).once() == 1


async def test_who_read_the_old_mark_is_waited_for(engine: Engine, database_url: str) -> None:
    """A transaction that checked the mark before it moved meets the outcome it would repeat, however late it writes.

    It has no transaction id yet, as it has only read so far. Without the wait its insert would succeed: the message
    would be applied twice.
    """
    again = outcome("m", OLD)
    await store(engine, again)
    standing = (await look_up(engine, [])).standing
    async with unit_of_work.begin(engine) as uow:
        await uow.load([], standing)
        purging = asyncio.create_task(purge(engine).once())
        await _until_marked(engine)
        for _ in range(20):
            await asyncio.sleep(0.005)
            assert await kept(engine) == ["m"]
        with pytest.raises(UniqueConflictError):
            await uow.store([again])
    assert await purging == 1


async def test_who_comes_after_the_mark_is_not_waited_for(engine: Engine, database_url: str) -> None:
    """Transactions begun later, other databases' and the purge's own connection do not hold it up."""
    await store(engine, outcome("m", OLD))
    elsewhere = await asyncpg.connect(database_url.rsplit("/", 1)[0] + "/postgres")
    held = elsewhere.transaction()
    await held.start()
    await elsewhere.execute("select 1")
    try:
        assert await purge(engine).once() == 1
    finally:
        await elsewhere.close()


async def test_a_transaction_that_never_ends_puts_the_purge_off(
    engine: Engine, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a minute the purge gives up for this time, having deleted nothing; the next one does it."""
    monkeypatch.setattr(outcome_purge, "LONGEST_HOLD_S", 1.0)
    await store(engine, outcome("m", OLD))
    session = await asyncpg.connect(database_url)
    try:
        await session.execute("begin; select 1")
        assert await purge(engine).once() == 0
        assert await kept(engine) == ["m"]
    finally:
        await session.close()
    assert await purge(engine).once() == 1


async def test_a_batch_that_looked_before_the_mark_moved_looks_again(engine: Engine) -> None:
    """A transaction that begins by a mark that is not in force any more is refused, and its batch looks again."""
    standing = (await look_up(engine, [])).standing
    await retention.move_mark(engine, NOW - KEPT, KEPT)
    async with unit_of_work.begin(engine) as uow:
        with pytest.raises(StaleReadError):
            await uow.load([], standing)
    assert (await look_up(engine, [])).mark > standing.mark


async def test_an_erasure_that_holds_a_row_is_not_waited_for(engine: Engine, database_url: str) -> None:
    """The purge leaves out what somebody has locked, and takes it the next time: it can be in no circle."""
    await store(engine, outcome("a", OLD), outcome("b", OLD))
    await retention.move_mark(engine, NOW - KEPT, KEPT)
    session = await asyncpg.connect(database_url)
    try:
        await session.execute("begin; select from outcomes where message_id = 'a' for update")
        async with connected(engine) as connection:
            deleted = await retention.delete_outcomes(connection, OLD, NOW - KEPT, 10)
    finally:
        await session.close()
    assert deleted.number == 1
    assert await purge(engine).once() == 1


async def _until_marked(engine: Engine) -> None:
    for _ in range(1000):
        async with connected(engine) as connection:
            mark = await retention.read_mark(connection)
        if mark.stamped_before > OLD:
            return
        await asyncio.sleep(0.005)
    pytest.fail("the mark did not move")


async def test_a_message_older_than_the_mark_is_never_applied(system: System) -> None:
    """Applied before and purged, or never seen: 410 and a dead letter. What is stored still is answered as ever."""
    await system.start()
    email = f"{uuid.uuid4().hex}@example.com"
    created = await system.command("create_customer", {"name": "N", "email": email}, message_id="kept")
    assert created.status == 201
    await system.fetch("update outcome_mark set stamped_before = now() + interval '1 hour'")

    again = await system.command("create_customer", {"name": "N", "email": email}, message_id="kept")
    assert (again.raw, again.headers["replayed"]) == (created.raw, "true")
    await system.fetch("delete from outcomes")
    gone = await system.command("create_customer", {"name": "N", "email": email}, message_id="kept")
    assert (gone.status, gone.code) == (410, "OUTCOME_EXPIRED")

    async def put_aside() -> bool:
        return [headers["dlq.reason"] for _, headers in await system.dead_letters()] == ["OUTCOME_EXPIRED"]

    await system.until(put_aside, 10, "there is no dead letter")
    assert len(await system.fetch("select from customers")) == 1
    assert await system.fetch("select from outcomes") == []


async def test_a_retention_shorter_than_the_topics_is_refused(system: System) -> None:
    """A worker that would forget outcomes while their messages can still come again does not start, and says why."""
    worker = await system.start(ready=False, OUTCOME_RETENTION_DAYS="3")
    assert await worker.ended() != 0
    text = worker.log.read_text()
    assert "longer than outcomes are kept" in json.dumps(text)
    assert "Traceback" not in text
