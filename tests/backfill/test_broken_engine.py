"""An engine broken on purpose: whatever it gets wrong, a verify names it."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

import asyncpg
import pytest

from persistence.backfill import chunk_rows, chunks, proof
from persistence.backfill.chunk_rows import Lease
from persistence.backfill.keys import Bounds, Key
from persistence.backfill.runs import Run
from persistence.backfill.walk import Query, Walk
from persistence.engine import Connection, connected
from tests.backfill.workshop import Workshop

ROWS = """
create table walked (id bigint primary key, source integer not null, target integer);
insert into walked select i * 10, i from generate_series(1, 5000) i"""
FILL = """
    TABLE = "walked"
    KEY = ("id",)
    TODO = "target is null"
    SQL = '''
        with done as (
            update walked set target = asked.value
            from (select walked.id, source + 1 as value from walked where {chunk}) as asked
            where walked.id = asked.id returning 1)
        select count(*) from done'''
    EXPECTED = "source + 1"
    ACTUAL = "target"
    """

Plan = Callable[..., Awaitable[Lease | None]]


async def _findings(workshop: Workshop) -> Sequence[str]:
    await workshop.session.execute(ROWS)
    workshop.define("fill", FILL)
    async with workshop.workers():
        assert (await workshop.run("fill"))["state"] == "completed"
        verify = await workshop.verify("fill")
    findings: Sequence[str] = verify["result"]["findings"]
    assert (verify["state"] == "failed") == bool(findings)
    assert verify["reason"] == (findings[0] if findings else None)
    return findings


async def test_the_engine_as_it_is(workshop: Workshop) -> None:
    """The same rows, definition and verify without a fault: there is nothing to find."""
    assert await _findings(workshop) == []


async def test_a_dropped_chunk(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A range that was planned and got lost leaves a gap, though a later walk found its rows."""
    plan: Plan = chunk_rows.plan

    async def forgetful(connection: Connection, run: Run, *rest: object) -> Lease | None:
        lease = await plan(connection, run, *rest)
        if lease is not None and run.kind == "work" and run.pass_number == 1 and lease.bounds.low == ["10010"]:
            await connection.execute("delete from backfill_chunks where id = $1", lease.chunk_id)
            return None
        return lease

    monkeypatch.setattr(chunk_rows, "plan", forgetful)
    assert await _findings(workshop) == ["gap in pass 1: no chunk covers the keys from {10010} to {25010}"]


async def test_overlapping_chunks(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A chunk that begins before the one before it ended is an overlap."""
    plan: Plan = chunk_rows.plan

    async def greedy(connection: Connection, run: Run, *rest: object) -> Lease | None:
        lease = await plan(connection, run, *rest)
        if lease is not None and run.kind == "work" and run.pass_number == 1 and lease.bounds.low == ["10010"]:
            await connection.execute("update backfill_chunks set low = '{9000}' where id = $1", lease.chunk_id)
            return replace(lease, bounds=Bounds(["9000"], lease.bounds.high))
        return lease

    monkeypatch.setattr(chunk_rows, "plan", greedy)
    assert await _findings(workshop) == ["overlap in pass 1: chunks 1 and 2"]


async def test_a_chunk_applied_twice(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A chunk that is carried out and written off a second time shows it in the ledger."""
    monkeypatch.setattr(
        chunk_rows, "FINISH", chunk_rows.FINISH.replace("c.state = 'leased'", "c.state in ('leased', 'done')")
    )
    carry_out: Callable[..., Awaitable[object]] = chunks.carry_out

    async def twice(*arguments: object, **options: object) -> object:
        await carry_out(*arguments, **options)
        return await carry_out(*arguments, **options)

    monkeypatch.setattr(chunks, "carry_out", twice)
    assert "chunk 1 of pass 1 was applied 2 times" in await _findings(workshop)


async def test_rows_written_meanwhile_are_ignored(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that walks once only misses the row that came in behind it."""

    async def once(*_: object) -> chunk_rows.Totals:
        return chunk_rows.Totals(0, 0, 0)

    plan: Plan = chunk_rows.plan

    async def meanwhile(connection: Connection, run: Run, *rest: object) -> Lease | None:
        if run.walked_to is not None and run.kind == "work":
            await connection.execute("insert into walked values (5, 1) on conflict do nothing")
        return await plan(connection, run, *rest)

    monkeypatch.setattr(chunk_rows, "plan", meanwhile)
    monkeypatch.setattr(chunk_rows, "totals", once)
    findings = await _findings(workshop)
    assert "1 rows are still to do, for example ['5']" in findings


async def test_without_the_check_of_the_epoch(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A holder who lost its lease and commits all the same is found in the ledger."""
    monkeypatch.setattr(
        chunk_rows,
        "FINISH",
        chunk_rows.FINISH.replace("c.epoch = $2 and c.state = 'leased'", "$2::bigint is not null"),
    )
    await workshop.session.execute(ROWS)
    workshop.define("fill", FILL)
    await workshop.wish(lambda control: control.start("fill"))
    await workshop.session.execute("update backfill_runs set state = 'running'")
    walk = await workshop.walk("fill")
    async with connected(workshop.engine) as connection:
        late = await chunk_rows.plan(connection, await workshop.newest("fill"), "late", None, 5000, 5000)
        await workshop.session.execute("update backfill_chunks set lease_until = now() - interval '1 s'")
        rescuer = await chunk_rows.claim(connection, await workshop.newest("fill"), "rescuer")
        assert late is not None
        assert rescuer is not None
        await chunks.carry_out(workshop.engine, walk, rescuer, ())
        await chunks.carry_out(workshop.engine, walk, late, ())
        flaws = await proof.flaws(connection, await workshop.newest("fill"), walk.shape)
    assert flaws == ["chunk 1 of pass 1 was applied 2 times"]


def _without_lock(walk: Walk, bounds: Bounds, spared: Sequence[Key]) -> Query:
    condition, arguments = walk._to_do(bounds, spared)
    return f"select count(*) from {walk.shape.table} where {condition}", arguments


@pytest.mark.parametrize("broken", [False, True])
async def test_reading_before_the_lock(workshop: Workshop, monkeypatch: pytest.MonkeyPatch, broken: bool) -> None:
    """A live write that a chunk waits for stays; without the lock ahead it is overwritten, and verify says so."""
    if broken:
        monkeypatch.setattr(Walk, "lock", _without_lock)
    await workshop.session.execute(ROWS)
    workshop.define("fill", FILL)
    live = await asyncpg.connect(workshop.url)
    await live.execute("begin; update walked set source = 77, target = 78 where id = 500")
    async with workshop.workers():
        started = asyncio.create_task(workshop.run("fill"))
        await workshop.poll("select exists (select from pg_locks where not granted)")
        await live.execute("commit")
        await started
        verify = await workshop.verify("fill")
    await live.close()
    assert await workshop.session.fetchval("select target from walked where id = 500") == (51 if broken else 78)
    assert verify["result"]["findings"] == (["1 rows differ from their source, for example ['500']"] if broken else [])
