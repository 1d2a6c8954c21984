"""The look along the whole table with which a run ends: by one worker, for as long as nobody needs the time."""

import time

import pytest

from persistence.backfill.signals import Signal
from tests.backfill.workshop import Workshop
from workers.backfill.throttle import LIMITS, Throttle

ROWS = 100
QUICK_BUT_FOR_THE_LOOK = """
create function slowly_true() returns boolean language plpgsql as $$
begin
    if current_query() like 'select exists%' then perform pg_sleep(0.04); end if;
    return true;
end $$"""
"""The look takes 4 s; a chunk, or another walk, next to nothing."""
LOOKS = (
    "select count(*) from pg_stat_activity where datname = current_database() and query like 'select exists%walked%'"
)


@pytest.fixture
async def slow(workshop: Workshop) -> Workshop:
    """A backfill whose last look takes 4 s."""
    await workshop.session.execute("create table walked (id bigint primary key, target integer)")
    await workshop.session.execute("insert into walked select generate_series(1, $1::bigint)", ROWS)
    await workshop.session.execute(QUICK_BUT_FOR_THE_LOOK)
    workshop.define(
        "fill",
        """
        TABLE = "walked"
        KEY = ("id",)
        TODO = "target is null or not slowly_true()"
        SET = {"target": "1"}
        ROW_LOCAL = True
        """,
    )
    return workshop


async def test_a_pause_does_not_wait_for_it(slow: Workshop) -> None:
    """It is broken off at once, on the server, too, and made again after the pause; no row is walked twice for it."""
    await slow.session.execute(QUICK_BUT_FOR_THE_LOOK.replace("create", "create or replace").replace("0.04", "0.4"))
    async with slow.workers():
        await slow.wish(lambda control: control.start("fill"))
        await slow.poll(f"{LOOKS} and state = 'active'")
        asked_at = time.monotonic()
        await slow.wish(lambda control: control.pause("fill"))
        await slow.until("fill", "paused")
        await slow.poll(f"select ({LOOKS} and state = 'active') = 0")
        assert time.monotonic() - asked_at < 20  # of 40
        await slow.session.execute(QUICK_BUT_FOR_THE_LOOK.replace("create", "create or replace").replace("0.04", "0"))
        await slow.wish(lambda control: control.resume("fill"))
        run = await slow.until("fill", "completed")
    assert (run["pass"], run["rows_done"]) == (1, ROWS)


async def test_one_worker_looks_for_all(slow: Workshop) -> None:
    """Three workers that come to the end together do not look along the table three times."""
    seen = set()
    async with slow.workers(3):
        await slow.wish(lambda control: control.start("fill"))
        while (run := await slow.look("fill"))["state"] != "completed":
            seen.add(await slow.session.fetchval(f"{LOOKS} and state = 'active'"))
    assert seen == {0, 1}
    assert run["pass"] == 1


async def test_beside_live_traffic_another_walk_takes_its_place(slow: Workshop) -> None:
    """While the throttle holds, a look that takes more than half a second is given up: chunks are paced, it is not."""
    await slow.session.execute(
        "insert into worker_heartbeats (worker, role, phases, p99_ms) values ('live', 'commands', '{}', '{\"w\": 85}')"
    )
    async with slow.workers(throttle=Throttle({**LIMITS, Signal.LIVE_P99: 100.0})):
        run = await slow.run("fill")
    assert (run["state"], run["pass"], run["rows_done"]) == ("completed", 2, ROWS)
