"""A worker that dies or stands still loses its chunk to another, and cannot apply it late."""

import asyncio
import signal
import time

import pytest

from persistence.backfill import chunk_rows, chunks
from persistence.backfill.failures import LeaseLostError
from persistence.engine import connected
from tests.backfill.workshop import Workshop

COUNTED = """
create table walked (id bigint primary key, target integer, times integer not null default 0);
insert into walked select generate_series(1, 2500);
create table slowly (seconds float8);
insert into slowly values (0.004);
create function slow_value() returns integer language plpgsql as $$
begin
    perform pg_sleep(seconds) from slowly;
    return 1;
end $$;
create function count_times() returns trigger language plpgsql as $$
begin
    new.times := old.times + 1;
    return new;
end $$;
create trigger counted before update on walked for each row when (new.target is not null)
    execute function count_times()"""
SLOWLY = """
    TABLE = "walked"
    KEY = ("id",)
    TODO = "target is null"
    SET = {"target": "slow_value()"}
    """


async def test_the_chunks_of_a_killed_and_of_a_stopped_worker_are_taken_over(workshop: Workshop) -> None:
    """One worker is killed and one stopped, each in a chunk: both chunks are leased by a third within 30 s.

    The one that stood still wakes later; no row is treated twice and none is missed, by count of a trigger.
    """
    await workshop.session.execute(COUNTED)
    workshop.define("fill", SLOWLY)
    killed, stopped = await workshop.process("killed"), await workshop.process("stopped")
    try:
        await workshop.wish(lambda control: control.start("fill"))
        await workshop.poll("select count(distinct worker) = 2 from backfill_chunks where state = 'leased'")
        at = time.monotonic()
        killed.kill()
        stopped.send_signal(signal.SIGSTOP)
        await workshop.session.execute("delete from slowly")
        async with workshop.workers():
            await workshop.poll("""
                select not exists (select from backfill_chunks
                                   where state = 'leased' and (worker like 'killed%' or worker like 'stopped%'))""")
            assert time.monotonic() - at < 30
            stopped.send_signal(signal.SIGCONT)
            run = await workshop.until("fill", "completed")
            verify = await workshop.verify("fill")
        assert run["rows_done"] == 2500
        assert verify["state"] == "completed", verify["result"]
        assert await workshop.session.fetchval("select count(*) from walked where times = 1 and target = 1") == 2500
    finally:
        for process in (killed, stopped):
            if process.returncode is None:
                process.send_signal(signal.SIGCONT)
                process.terminate()
            await process.wait()


async def test_whoever_lost_the_lease_cannot_commit(workshop: Workshop) -> None:
    """A chunk taken over while its first holder is in the middle of it is applied by the second alone."""
    await workshop.session.execute(COUNTED)
    await workshop.session.execute("delete from slowly")
    workshop.define("fill", SLOWLY)
    await workshop.wish(lambda control: control.start("fill"))
    await workshop.session.execute("update backfill_runs set state = 'running'")
    walk = await workshop.walk("fill")
    async with connected(workshop.engine) as connection:
        first = await chunk_rows.plan(connection, await workshop.newest("fill"), "first", None, 2500, 2500)
        assert first is not None
        await workshop.session.execute("update backfill_chunks set lease_until = now() - interval '1 s'")
        second = await chunk_rows.claim(connection, await workshop.newest("fill"), "second")
        assert second is not None
        assert not await chunk_rows.renew(connection, first)
    with pytest.raises(LeaseLostError):
        await chunks.carry_out(workshop.engine, walk, first, ())
    assert await workshop.session.fetchval("select count(target) from walked") == 0
    assert (await chunks.carry_out(workshop.engine, walk, second, ())).rows == 2500


async def test_a_paused_run_takes_no_late_commit(workshop: Workshop) -> None:
    """A worker that stood still over a pause finds its chunk refused, though nobody else took it."""
    await workshop.session.execute(COUNTED)
    await workshop.session.execute("delete from slowly")
    workshop.define("fill", SLOWLY)
    await workshop.wish(lambda control: control.start("fill"))
    await workshop.session.execute("update backfill_runs set state = 'running'")
    async with connected(workshop.engine) as connection:
        lease = await chunk_rows.plan(connection, await workshop.newest("fill"), "still", None, 2500, 2500)
    assert lease is not None
    assert (await workshop.wish(lambda control: control.pause("fill")))["state"] == "pausing"
    await workshop.session.execute("update backfill_runs set state_since = state_since - interval '1.95 s'")
    with pytest.raises(LeaseLostError):
        await chunks.carry_out(workshop.engine, await workshop.walk("fill"), lease, ())
    assert await workshop.session.fetchval("select count(target) from walked") == 0


async def test_workers_come_and_go_while_a_run_goes_on(workshop: Workshop) -> None:
    """Workers that are told to stop give their chunk back at once; others go on with it."""
    await workshop.session.execute(COUNTED)
    await workshop.session.execute("update slowly set seconds = 0.001")
    workshop.define("fill", SLOWLY + "\n    MAX_ROWS = 200\n")
    await workshop.wish(lambda control: control.start("fill"))
    for part in (1, 2):
        async with workshop.workers(2):
            await workshop.poll("select sum(rows_done) >= $1 from backfill_chunks", part * 400)
        assert not await workshop.session.fetchval("select exists (select from backfill_chunks where state = 'leased')")
    await workshop.session.execute("delete from slowly")
    async with workshop.workers():
        await asyncio.wait_for(workshop.until("fill", "completed"), 20)
    assert await workshop.session.fetchval("select count(*) from walked where times = 1") == 2500
