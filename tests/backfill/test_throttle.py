"""The throttle on a real database: signals are read, explained, obeyed and accounted for."""

import asyncio
from dataclasses import replace

import asyncpg

from persistence.backfill import accounts
from persistence.backfill.signals import Reading, Signal, read_signals
from persistence.engine import connected
from tests.backfill.workshop import Workshop
from workers.backfill.throttle import LIMITS, Throttle

ROWS = "create table walked (id bigint primary key, target integer); insert into walked select generate_series(1, {})"
FILL = """
    TABLE = "walked"
    KEY = ("id",)
    TODO = "target is null"
    SET = {"target": "1"}
    ROW_LOCAL = True
    """
BEAT = """
insert into worker_heartbeats (worker, role, phases, p99_ms)
values ('live', 'commands', '{}', jsonb_build_object('all', $1::float8))
on conflict (worker) do update set p99_ms = excluded.p99_ms, seen_at = now()"""

CLAIMED = """
update backfill_budget set sampled_by = 'another', claimed_at = clock_timestamp() + interval '1 s'"""

GONE = """
select count(*) = 0 from pg_stat_activity
where application_name like 'catalog-backfill/%' and datname = current_database()"""

READ = """
select seq_tup_read + (select sum(idx_tup_read) from pg_stat_user_indexes i where i.relid = t.relid)
from pg_stat_user_tables t where relname = 'walked'"""


async def _readings(workshop: Workshop) -> dict[Signal, Reading]:
    async with connected(workshop.engine) as connection:
        readings = await read_signals(
            connection, list(Signal), tables=["walked"], cores=2, own_sessions="catalog-backfill%"
        )
    return {reading.signal: reading for reading in readings}


async def test_every_signal_can_be_read(workshop: Workshop) -> None:
    """On a quiet database each signal has a value, and none is near its limit."""
    await workshop.session.execute(ROWS.format(100))
    readings = await _readings(workshop)
    assert {signal for signal, reading in readings.items() if reading.value is None} == set()
    assert readings[Signal.LOCK_WAITS].value == 0


async def test_signals_see_what_they_are_for(workshop: Workshop) -> None:
    """Sessions that wait for a lock, dead rows and the live traffic's percentile show in their signals."""
    await workshop.session.execute(ROWS.format(20000))
    await workshop.session.execute("analyze walked; update walked set target = 2")
    first, second = await asyncpg.connect(workshop.url), await asyncpg.connect(workshop.url)
    await first.execute("begin; update walked set target = 3 where id = 1")
    waiting = asyncio.create_task(second.execute("update walked set target = 4 where id = 1"))
    await workshop.poll("select exists (select from pg_locks where not granted)")
    await workshop.session.execute(BEAT, 123.0)
    await workshop.poll("select n_dead_tup > 0 from pg_stat_user_tables where relname = 'walked'")
    readings = await _readings(workshop)
    assert readings[Signal.LOCK_WAITS].value == 1
    assert readings[Signal.LIVE_P99].value == 123.0
    assert (readings[Signal.DEAD_TUPLES].value or 0) > 0.3
    await first.execute("rollback")
    await waiting
    await first.close()
    await second.close()


async def test_what_cannot_be_read_says_why(own_workshop: Workshop) -> None:
    """A live worker that fell silent, or a table that is not there, is no reading, with its reason."""
    await own_workshop.session.execute(BEAT, 1.0)
    await own_workshop.session.execute("update worker_heartbeats set seen_at = now() - interval '30 s'")
    assert (await _readings(own_workshop))[Signal.LIVE_P99] == Reading(
        Signal.LIVE_P99, None, "a live worker has stopped beating"
    )
    await own_workshop.session.execute("alter table worker_heartbeats rename to elsewhere")
    reading = (await _readings(own_workshop))[Signal.LIVE_P99]
    assert reading.value is None
    assert reading.trouble.startswith("42P01")


async def test_a_percentile_over_its_budget_stops_and_is_accounted_for(workshop: Workshop) -> None:
    """While the live percentile exceeds its budget nothing runs; who holds it, and for how long, is shown."""
    await workshop.session.execute(ROWS.format(50))
    workshop.define("fill", FILL)
    await workshop.session.execute(BEAT, 80.0)
    throttle = Throttle(limits={**LIMITS, Signal.LIVE_P99: 50.0})
    async with workshop.workers(2, throttle=throttle):
        await workshop.wish(lambda control: control.start("fill"))
        await workshop.poll("select seconds > 0.3 from backfill_times where spent = 'held' and signal = 'live_p99'")
        held = await workshop.look("fill")
        assert held["rows_done"] == 0
        assert held["throttle"]["signal"] == "live_p99"
        assert held["throttle"]["level"] == 1.6
        assert {worker["signal"] for worker in held["workers"]} <= {"live_p99", "sample", ""}
        await workshop.session.execute(BEAT, 5.0)
        assert (await workshop.until("fill", "completed"))["rows_done"] == 50


async def test_a_signal_that_cannot_be_read_stops_unless_switched_off(own_workshop: Workshop) -> None:
    """Without the heartbeats' table nothing runs; with that signal switched off it does."""
    await own_workshop.session.execute(ROWS.format(10))
    await own_workshop.session.execute("alter table worker_heartbeats rename to elsewhere")
    own_workshop.define("fill", FILL)
    async with own_workshop.workers():
        await own_workshop.wish(lambda control: control.start("fill"))
        await own_workshop.poll("select exists (select from backfill_times where signal = 'live_p99')")
        assert (await own_workshop.look("fill"))["rows_done"] == 0
    async with own_workshop.workers(throttle=Throttle(off=frozenset({Signal.LIVE_P99}))):
        await own_workshop.until("fill", "completed")


async def test_all_workers_and_backfills_share_one_budget(workshop: Workshop) -> None:
    """At 0.91 of a limit two workers on two backfills run 0.3 of their time, all together, in short chunks."""
    await workshop.session.execute(ROWS.format(4000) + "; create table other (like walked including all)")
    await workshop.session.execute("insert into other select * from walked; update backfill_budget set share = 0.3")
    slow = FILL.replace('"1"', '"case when pg_sleep(0.001) is null then 0 else 1 end"')
    workshop.define("fill", slow)
    workshop.define("fill_other", slow.replace("walked", "other"))
    await workshop.session.execute(BEAT, 91.0)
    throttle = Throttle(limits={**LIMITS, Signal.LIVE_P99: 100.0})
    async with workshop.workers(2, throttle=throttle):
        await workshop.wish(lambda control: control.start("fill"))
        await workshop.wish(lambda control: control.start("fill_other"))
        await workshop.poll("select coalesce(sum(seconds), 0) > 6 from backfill_times")
        spent = await workshop.session.fetchrow("""
            select sum(seconds) filter (where spent = 'running') / sum(seconds) as running,
                   sum(seconds) filter (where spent = 'held' and signal = 'live_p99') as held
            from backfill_times""")
        for name in ("fill", "fill_other"):
            await workshop.wish(lambda control, name=name: control.cancel(name))  # type: ignore[misc]
            await workshop.until(name, "cancelled")
    assert spent["running"] < 0.55  # the first chunk of each was begun before anything was measured
    assert spent["held"] > 1.5


async def test_the_share_of_time_holds_for_lease_and_commit_too(workshop: Workshop) -> None:
    """At a share of 0.05 chunks of 4 ms come less often than every 80 ms: what they take beside their work counts."""
    await workshop.session.execute(ROWS.format(100_000))
    workshop.define("fill", FILL.replace('"1"', '"case when pg_sleep(0.001) is null then 0 else 1 end"'))
    await workshop.session.execute(BEAT, 5.52)
    throttle = Throttle(limits={**LIMITS, Signal.LIVE_P99: 8.0})
    async with workshop.workers(1, throttle=throttle):
        await workshop.wish(lambda control: control.start("fill"))
        await workshop.poll("select count(*) > 0 from backfill_chunks where state = 'done'")
        await workshop.session.execute("update backfill_budget set share = 0.05, ceiling = 0.05, free_at = now()")
        await workshop.poll("select count(*) > 5 from backfill_chunks where state = 'done'")
        paces = await workshop.session.fetch("""
            select extract(epoch from finished_at - lag(finished_at) over (order by finished_at))::float8 as apart_s
            from backfill_chunks where state = 'done' order by finished_at desc limit 4""")
        await workshop.wish(lambda control: control.cancel("fill"))
        await workshop.until("fill", "cancelled")
    assert min(pace["apart_s"] for pace in paces) > 0.1


async def test_a_run_that_begins_beside_live_traffic_counts_no_rows(workshop: Workshop) -> None:
    """The planner says how many rows there are: counting them would take a core, whatever the throttle allows."""
    await workshop.session.execute(ROWS.format(50_000) + "; analyze walked")
    workshop.define("fill", FILL)
    await workshop.session.execute(BEAT, 1.0)
    async with workshop.workers(1):
        await workshop.wish(lambda control: control.start("fill"))
        await workshop.poll("select count(*) > 0 from backfill_chunks where state = 'done'")
        await workshop.wish(lambda control: control.cancel("fill"))
        assert (await workshop.until("fill", "cancelled"))["rows_estimated"] == 50_000
    await workshop.poll(GONE)  # a session that ends tells all that it has read
    assert await workshop.poll(READ) < 25_000


async def test_a_run_begins_when_live_traffic_is_known(workshop: Workshop) -> None:
    """While another worker reads the signals nobody takes their absence for traffic: without any, rows are counted."""
    await workshop.session.execute(ROWS.format(5000))
    workshop.define("fill", FILL)
    await workshop.session.execute(CLAIMED)
    async with workshop.workers(1):
        await workshop.wish(lambda control: control.start("fill"))
        await workshop.until("fill", "completed")
    assert await workshop.session.fetchval("select rows_estimated from backfill_runs") == 5000


async def test_a_budget_is_reserved_by_one_at_a_time(workshop: Workshop) -> None:
    """While somebody's stretch of the budget lasts, others are told how long to wait."""
    async with connected(workshop.engine) as connection:
        budget = await accounts.read_budget(connection)
        await accounts.store_sample(connection, replace(budget, share=0.5))
        assert await accounts.reserve_run(connection, 60.0) == 0.0
        assert 40.0 < await accounts.reserve_run(connection, 60.0) <= 60.0
