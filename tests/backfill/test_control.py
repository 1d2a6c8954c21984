"""What an operator may do, and how soon it is obeyed."""

import asyncio
import io
import re

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from rich.console import Console

from contracts.errors import BackfillNotFoundError, IllegalTransitionError
from persistence.backfill.states import ACTIVE, EDGES, Event, RunState, step
from tests.backfill.workshop import ENDED, Workshop
from workers.backfill.metrics import BackfillMetrics
from workers.backfill.picture import picture

SLOW = """
    TABLE = "walked"
    KEY = ("id",)
    TODO = "target is null"
    SET = {"target": "case when pg_sleep(0.01) is null then 0 else 1 end"}
    ROW_LOCAL = True
    """
QUICK = SLOW.replace("case when pg_sleep(0.01) is null then 0 else 1 end", "1")
ROWS = "create table walked (id bigint primary key, target integer); insert into walked select generate_series(1, {})"


def test_every_edge_says_what_makes_it_right() -> None:
    """The transitions are one table: no pair twice, a sentence each, every state reachable."""
    assert len({(edge.source, edge.event) for edge in EDGES}) == len(EDGES)
    assert all(edge.sentence.endswith(".") for edge in EDGES)
    assert {edge.target for edge in EDGES} | {RunState.PENDING} == set(RunState)


def test_an_illegal_transition_lists_the_legal_ones() -> None:
    """A run that has ended cannot be paused; the error says what it takes."""
    with pytest.raises(IllegalTransitionError) as refused:
        step(RunState.FAILED, Event.PAUSE)
    assert refused.value.details == {"state": "failed", "legal": ["cancel", "retry"]}


async def test_the_database_knows_the_same_states(workshop: Workshop) -> None:
    """The ledger's check and its index of active runs name exactly the states of the table of transitions."""
    check = await workshop.session.fetchval(
        "select pg_get_constraintdef(oid) from pg_constraint where conname = 'backfill_runs_state_known'"
    )
    index = await workshop.session.fetchval("select pg_get_indexdef('backfill_runs_one_active'::regclass)")
    for state in RunState:
        assert f"'{state}'" in check
        assert (f"'{state}'" in index) == (state in ACTIVE)


async def test_a_pause_is_obeyed_within_two_seconds(workshop: Workshop) -> None:
    """A chunk that would take 10 s is cancelled on the server and rolled back; resumed, the run can be cancelled."""
    await workshop.session.execute(ROWS.format(1000))
    workshop.define("fill", SLOW)
    async with workshop.workers():
        await workshop.wish(lambda control: control.start("fill"))
        obeyed = False
        for _ in range(3):  # a busy machine may be late now and then
            await workshop.poll(
                "select exists (select from pg_stat_activity where query like 'update walked%' and state = 'active')"
            )
            asked_at = await workshop.session.fetchval("select clock_timestamp()")
            await workshop.wish(lambda control: control.pause("fill"))
            await workshop.until("fill", "paused")
            within = "select state_since - $1 < interval '2 s' from backfill_runs"
            if obeyed := await workshop.session.fetchval(within, asked_at):
                break
            await workshop.wish(lambda control: control.resume("fill"))
        assert obeyed
        assert not await workshop.session.fetchval(
            "select exists (select from pg_stat_activity where query like 'update walked%' and state <> 'idle')"
        )
        assert await workshop.session.fetchval("select count(target) from walked") == 0
        await workshop.wish(lambda control: control.resume("fill"))
        await workshop.poll("select exists (select from backfill_chunks where state = 'leased')")
        await workshop.wish(lambda control: control.cancel("fill"))
        run = await workshop.until("fill", "cancelled")
    assert run["rows_done"] == 0


async def test_a_pause_lets_a_short_chunk_end(workshop: Workshop) -> None:
    """A chunk in flight that ends within 1.5 s is committed, and nothing begins after it until the run is resumed."""
    await workshop.session.execute(ROWS.format(3000))
    workshop.define("fill", SLOW.replace("0.01", "0.0005"))
    async with workshop.workers():
        await workshop.wish(lambda control: control.start("fill"))
        await workshop.poll("select exists (select from backfill_chunks where state = 'leased')")
        await workshop.wish(lambda control: control.pause("fill"))
        paused = await workshop.until("fill", "paused")
        assert paused["rows_done"] in {1000, 2500}
        await workshop.wish(lambda control: control.resume("fill"))
        assert (await workshop.until("fill", "completed"))["rows_done"] == 3000


async def test_without_workers_a_wish_is_carried_out_at_once(workshop: Workshop) -> None:
    """With nothing in flight nobody is needed: pending, paused, pending again, cancelled."""
    await workshop.session.execute(ROWS.format(10))
    workshop.define("fill", QUICK)
    assert (await workshop.wish(lambda control: control.start("fill")))["state"] == "pending"
    assert (await workshop.wish(lambda control: control.pause("fill")))["state"] == "paused"
    assert (await workshop.wish(lambda control: control.resume("fill")))["state"] == "running"
    assert (await workshop.wish(lambda control: control.pause("fill")))["state"] == "paused"
    assert (await workshop.wish(lambda control: control.cancel("fill")))["state"] == "cancelled"


async def test_a_verify_of_a_run_that_was_given_up_says_what_is_left(workshop: Workshop) -> None:
    """It is asked for like that of any other that has ended, and never finds in order what was not walked."""
    await workshop.session.execute(ROWS.format(3000))
    workshop.define("fill", QUICK)
    await workshop.wish(lambda control: control.start("fill"))
    await workshop.wish(lambda control: control.cancel("fill"))
    view = await workshop.wish(lambda control: control.verify("fill"))
    assert (view["state"], view["verify"]["state"]) == ("cancelled", "pending")
    with pytest.raises(IllegalTransitionError, match="has to end first"):
        await workshop.wish(lambda control: control.verify("fill"))
    async with workshop.workers():
        left = await workshop.until("fill", "failed", verify=True)
        assert left["reason"] == "pass 1 has no chunk"
        assert "3000 rows are still to do" in " ".join(left["result"]["findings"])
        await workshop.session.execute("update walked set target = 1")
        assert (await workshop.verify("fill"))["reason"] == "pass 1 has no chunk"


async def test_what_makes_no_sense_is_refused(workshop: Workshop) -> None:
    """Two runs at once, a verify of nothing, a reverse that is not there, a name that nobody knows."""
    await workshop.session.execute(ROWS.format(10))
    workshop.define("fill", QUICK + '\n    IRREVERSIBLE = "nothing was lost"\n')
    with pytest.raises(IllegalTransitionError, match="no run of fill was ever started"):
        await workshop.wish(lambda control: control.verify("fill"))
    with pytest.raises(IllegalTransitionError, match="nothing was lost"):
        await workshop.wish(lambda control: control.start("fill", reverse=True))
    await workshop.wish(lambda control: control.start("fill"))
    with pytest.raises(IllegalTransitionError, match="a run of fill is pending: it has to end first"):
        await workshop.wish(lambda control: control.start("fill"))
    with pytest.raises(IllegalTransitionError, match="the last run of fill is pending"):
        await workshop.wish(lambda control: control.verify("fill"))
    with pytest.raises(BackfillNotFoundError):
        await workshop.wish(lambda control: control.start("empty"))


async def test_two_starts_at_the_same_moment_make_one_run(workshop: Workshop) -> None:
    """The ledger takes one active run of a backfill, also from transactions that do not see each other."""
    await workshop.session.execute(ROWS.format(10))
    workshop.define("fill", QUICK)
    both = await asyncio.gather(
        *(workshop.wish(lambda control: control.start("fill")) for _ in range(2)), return_exceptions=True
    )
    assert sorted(type(one).__name__ for one in both) == ["IllegalTransitionError", "dict"]
    assert await workshop.session.fetchval("select count(*) from backfill_runs") == 1


async def test_a_dry_run_says_what_would_happen_and_changes_nothing(workshop: Workshop) -> None:
    """The first chunk is carried out and rolled back; the run carries the estimate."""
    await workshop.session.execute(ROWS.format(5000))
    workshop.define("fill", QUICK)
    async with workshop.workers():
        run = await workshop.run("fill", dry_run=True)
        assert run["state"] == "completed"
        assert run["result"]["rows_estimated"] == 5000
        assert run["result"]["first_chunk"]["rows_treated"] == 1000
        assert run["result"]["seconds_estimated"] > 0
        assert await workshop.session.fetchval("select count(target) from walked") == 0
        with pytest.raises(IllegalTransitionError, match="no run of fill was ever started"):
            await workshop.wish(lambda control: control.verify("fill"))
        assert (await workshop.run("fill"))["rows_done"] == 5000
        await workshop.run("fill", dry_run=True)
        assert (await workshop.verify("fill"))["state"] == "completed"


async def test_a_dry_run_reports_the_error_of_its_chunk(workshop: Workshop) -> None:
    """What would fail says so, without a row put aside."""
    await workshop.session.execute(ROWS.format(5))
    workshop.define("fill", QUICK.replace('"1"', '"1 / (id - 3)"'))
    async with workshop.workers():
        run = await workshop.run("fill", dry_run=True)
    assert run["state"] == "failed"
    assert run["reason"].startswith("22012: division by zero")
    assert run["rows_quarantined"] == 0


async def test_the_rate_is_kept_by_all_workers_together(workshop: Workshop) -> None:
    """3,000 rows at 2,000 rows/s take their time with two workers, too, and the waiting is accounted for."""
    await workshop.session.execute(ROWS.format(3000))
    workshop.define("fill", QUICK)
    async with workshop.workers(2):
        run = await workshop.run("fill", rate_rows_per_s=2000)
    assert run["seconds"] > 3000 / 2000 - 0.6  # the first chunk need not wait
    waited = sum(one["seconds"] for one in run["time"] if one["spent"] == "waiting")
    assert waited > 0.5


async def test_a_plan_shows_what_a_run_would_do(workshop: Workshop) -> None:
    """Key, lock and statement, without asking for a run."""
    await workshop.session.execute(ROWS.format(5))
    workshop.define("fill", QUICK.replace("ROW_LOCAL = True", ""))
    plan = await workshop.wish(lambda control: control.plan("fill"))
    assert plan["key"] == [{"column": "id", "type": "bigint"}]
    assert plan["statement"] == "update walked set target = 1 where true and (target is null)"
    assert "for no key update" in plan["locks"]
    assert (await workshop.look("fill"))["state"] is None
    listed = await workshop.wish(lambda control: control.list_all())
    assert [one["name"] for one in listed] == ["fill"]


async def test_the_metrics_carry_the_same_figures(workshop: Workshop) -> None:
    """Rows, chunks, time and the figures of the active run, from a worker's own registry."""
    await workshop.session.execute(ROWS.format(3000))
    workshop.define("fill", QUICK)
    metrics = BackfillMetrics(CollectorRegistry())
    async with workshop.workers(metrics=metrics):
        run = await workshop.run("fill")
        await workshop.verify("fill")
    text = generate_latest(metrics.registry).decode()
    assert f'catalog_backfill_rows_total{{kind="work",name="fill"}} {run["rows_done"]}.0' in text
    assert 'catalog_backfill_verifies_total{name="fill",ok="yes"} 1.0' in text
    assert 'catalog_backfill_chunks_total{end="done",name="fill"}' in text
    assert 'catalog_backfill_signal_level{signal="live_p99"} 0.0' in text
    assert 'catalog_backfill_spent_seconds_total{signal="",spent="running"}' in text
    metrics.shown([await workshop.look("fill")])
    text = generate_latest(metrics.registry).decode()
    assert 'catalog_backfill_run{figure="rows_walked",kind="work",name="fill"} 3000.0' in text


async def test_reverse_undoes_with_the_same_machinery(workshop: Workshop) -> None:
    """A backfill that names its reverse runs both ways, each verified."""
    await workshop.session.execute(ROWS.format(1500))
    workshop.define("fill", QUICK + '\n    REVERSE = "empty"\n')
    workshop.define("empty", QUICK.replace("is null", "is not null").replace('"1"', '"null::integer"'))
    async with workshop.workers():
        assert (await workshop.run("fill"))["rows_done"] == 1500
        run = await workshop.run("fill", reverse=True)
        assert (run["state"], run["definition"], run["rows_done"]) == ("completed", "empty", 1500)
        assert await workshop.session.fetchval("select count(target) from walked") == 0
        assert (await workshop.verify("fill"))["state"] == "completed"


async def test_a_backfill_and_its_reverse_do_not_run_at_once(workshop: Workshop) -> None:
    """Under whatever name they are asked for: they would undo each other's rows for ever."""
    await workshop.session.execute(ROWS.format(10))
    workshop.define("fill", QUICK + '\n    REVERSE = "empty"\n')
    workshop.define("empty", QUICK.replace("is null", "is not null") + '\n    REVERSE = "fill"\n')
    await workshop.wish(lambda control: control.start("fill", reverse=True))
    with pytest.raises(IllegalTransitionError, match="fill is pending, and empty would work against it"):
        await workshop.wish(lambda control: control.start("empty"))


async def test_old_ledgers_are_forgotten_but_the_last(workshop: Workshop) -> None:
    """Runs that ended long ago go with their chunks; the newest of each backfill stays, for a gate may ask."""
    await workshop.session.execute(ROWS.format(10))
    workshop.define("fill", QUICK)
    async with workshop.workers():
        first = await workshop.run("fill")
        await workshop.verify("fill")
        await workshop.session.execute("update walked set target = null")
        last = await workshop.run("fill")
        await workshop.session.execute("""
            update backfill_runs set finished_at = finished_at - interval '40 days';
            update backfill_budget set pruned_at = '-infinity';
            notify catalog_backfill""")
        await workshop.poll("select not exists (select from backfill_runs where id = $1)", first["run_id"])
    kept = await workshop.session.fetch("select distinct run_id from backfill_chunks")
    assert [row["run_id"] for row in kept] == [last["run_id"]]


async def test_who_knows_a_backfill_is_told(workshop: Workshop) -> None:
    """A run that no running worker can take up says so, in list, start and watch; it is at 0 %, not at 100."""
    await workshop.session.execute(ROWS.format(10))

    async def waits(name: str = "fill") -> str | None:
        view = await workshop.look(name)
        (listed,) = [one for one in await workshop.wish(lambda control: control.list_all()) if one["name"] == name]
        assert listed["waits_because"] == view["waits_because"]
        assert bool(listed["known_by"]) == any(one["knows"] for one in view["workers"])
        return str(view["waits_because"]) if view["waits_because"] is not None else None

    workshop.define("other", QUICK)
    async with workshop.workers():
        await workshop.poll("select exists (select from backfill_workers)")
        workshop.define("fill", QUICK)
        started = await workshop.wish(lambda control: control.start("fill"))
        assert (started["fraction"], started["state"]) == (0.0, "pending")
        assert "no running worker knows fill (test0-" in str(started["waits_because"])
        assert "no running worker knows fill" in str(await waits())
        console = Console(file=io.StringIO(), width=200)
        console.print(picture(await workshop.look("fill")))
        assert "(does not know it)" in console.file.getvalue()  # type: ignore[attr-defined]
    assert "no backfill worker runs" in str(await waits())
    await workshop.wish(lambda control: control.cancel("fill"))
    async with workshop.workers():
        await workshop.poll("select exists (select from backfill_workers)")
        workshop.define("fill", QUICK + "\n    # another version\n")
        await workshop.wish(lambda control: control.start("fill"))
        assert "has another version of fill" in str(await waits())
    async with workshop.workers():
        await workshop.poll("select exists (select from backfill_workers)")
        assert await waits() is None
        assert (await workshop.until("fill", *ENDED))["state"] == "completed"
    await workshop.session.execute(
        "insert into backfill_workers (worker, spent) values ('of the release before', 'idle')"
    )
    workshop.define("third", QUICK)
    await workshop.wish(lambda control: control.start("third"))
    assert await waits("third") is None


async def test_a_dry_run_shows_its_estimate(workshop: Workshop) -> None:
    """How long the whole would take, from the first chunk, which was rolled back: drawn as well as in JSON."""
    await workshop.session.execute(ROWS.format(1500))
    workshop.define("fill", QUICK)
    async with workshop.workers():
        await workshop.run("fill", dry_run=True)
    console = Console(file=io.StringIO(), width=200)
    console.print(picture(await workshop.look("fill")))
    drawn = console.file.getvalue()  # type: ignore[attr-defined]
    assert re.search(r"estimate +1,[45]\d\d rows in about 0:00:\d\d by one worker without throttle", drawn)
    assert "was rolled back" in drawn
    assert await workshop.session.fetchval("select count(target) from walked") == 0
