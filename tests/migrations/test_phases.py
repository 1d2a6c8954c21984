"""Phases: the lock that decides, the heartbeats that inform, and the gate that looks at the data."""

import asyncio
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import asyncpg
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from persistence import phases
from persistence.engine import Connection, connected, transaction
from persistence.observed_time import ObservedClock
from persistence.phases import (
    PRODUCT_CATALOG,
    READ_PHASES,
    SHARED_LOCK,
    STEPS,
    Phase,
    PhaseRefusedError,
    StepPatience,
    UnknownPhaseError,
    advance,
    beat,
    known_phases,
    live_workers,
    read_phases,
    retire,
    shared_lock_and_phases,
)
from tests.migrations.conftest import Connect, Session
from tests.migrations.ledger import FILL, LATER, MIDDLE, put, record_run
from tests.migrations.test_safe_ddl import until

AT_ONCE = StepPatience(workers_s=0, lock_s=0)
FORWARD = tuple(Phase)

EXCLUSIVE = "select pg_advisory_xact_lock(lock_key) from schema_changes"
ADVISORY_WAIT = """
select count(*) from pg_stat_activity
where datname = current_database() and wait_event = 'advisory' and query like $1"""


# ------------------------------------------------------------------------------------------------------------ the lock


async def test_the_phase_is_read_after_the_lock_was_waited_for(engine: AsyncEngine, connect: Connect) -> None:
    """Who waits while a step is taken acts by the new phase; read in the lock's own statement, it is the old one."""
    step, watch = await connect(), await connect()
    await step.execute(f"begin; {EXCLUSIVE}; update schema_changes set phase = 'dual_write'")

    async def two_statements() -> Phase:
        async with transaction(engine) as connection:
            return (await shared_lock_and_phases(connection))[PRODUCT_CATALOG]

    async def one_statement() -> str:
        async with connected(engine) as connection:
            found: str = await connection.fetchval(
                "select phase from schema_changes, lateral (" + SHARED_LOCK + ") as lock"
            )
            return found

    right, wrong = asyncio.create_task(two_statements()), asyncio.create_task(one_statement())
    await until(
        lambda: watch.fetchval(f"select ({ADVISORY_WAIT}) = 2", "%pg_advisory_xact_lock_shared%"), "both waiting"
    )
    await step.execute("commit")

    assert await right == Phase.DUAL_WRITE
    assert await wrong == Phase.EXPANDED


async def test_the_lock_costs_no_round_trip_of_its_own_when_it_rides_with_begin(
    engine: AsyncEngine, session: Session
) -> None:
    """`SHARED_LOCK` needs no argument: sent with `begin`, it holds the phase until the commit."""
    async with transaction(engine, SHARED_LOCK) as connection:
        assert known_phases((row["change"], row["phase"]) for row in await connection.fetch(READ_PHASES)) == {
            PRODUCT_CATALOG: Phase.EXPANDED
        }
        with pytest.raises(PhaseRefusedError, match="write transactions left no gap within 0 s"):
            await advance(engine, PRODUCT_CATALOG, Phase.DUAL_WRITE, by="a test", patience=AT_ONCE)
    assert await session.fetchval("select phase from schema_changes") == "expanded"
    assert await advance(engine, PRODUCT_CATALOG, Phase.DUAL_WRITE, by="a test", patience=AT_ONCE) == Phase.EXPANDED


async def test_a_stopped_writer_delays_a_step_until_its_time_out_and_nobody_else(
    engine: AsyncEngine, connect: Connect, session: Session
) -> None:
    """Other writers go on between the step's tries; the server ends the stopped one, which cannot write any more."""
    stopped, watch = await connect(), await connect()
    await stopped.execute(f"begin; set local idle_in_transaction_session_timeout = '3s'; {SHARED_LOCK}")
    step = asyncio.create_task(advance(engine, PRODUCT_CATALOG, Phase.DUAL_WRITE, by="a test"))

    for _ in range(2):
        await until(lambda: watch.fetchval(ADVISORY_WAIT, "%pg_advisory_xact_lock(%"), "a step that waits")
        async with transaction(engine, SHARED_LOCK, "set local statement_timeout = '2s'") as writer:
            assert (await read_phases(writer))[PRODUCT_CATALOG] == Phase.EXPANDED
            await writer.execute("commit")
    assert await step == Phase.EXPANDED

    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)):
        await stopped.execute("update products set old_catalog_field = 'too late'; commit")
    assert await session.fetchval("select count(*) from products where old_catalog_field = 'too late'") == 0
    assert await session.fetchval("select phase from schema_changes") == "dual_write"


async def test_a_step_waits_for_every_open_write_transaction(
    engine: AsyncEngine, connect: Connect, session: Session
) -> None:
    """What a writer of before writes is committed before the phase changes: nobody writes by a phase that is over."""
    writer = await connect()
    await writer.execute(f"begin; {SHARED_LOCK}")
    step = asyncio.create_task(advance(engine, PRODUCT_CATALOG, Phase.DUAL_WRITE, by="a test"))
    await until(lambda: session.fetchval(ADVISORY_WAIT, "%pg_advisory_xact_lock(%"), "a step that waits")
    await writer.execute("update products set overview = 'by the phase of before'")
    assert not step.done()
    await writer.execute("commit")
    assert await step == Phase.EXPANDED

    assert await session.fetchval("select count(*) from products where overview = 'by the phase of before'") == 3


async def test_of_two_steps_at_once_one_is_refused(engine: AsyncEngine, session: Session) -> None:
    """Both are legal and pass the gate; one is taken, logged once, and the other finds the phase moved."""
    await put(session, Phase.DUAL_WRITE)
    await session.execute(FILL)
    await record_run(session)
    ends = await asyncio.gather(
        advance(engine, PRODUCT_CATALOG, Phase.BACKFILLED, by="one"),
        advance(engine, PRODUCT_CATALOG, Phase.EXPANDED, by="another"),
        return_exceptions=True,
    )

    assert sorted(type(end).__name__ for end in ends) == ["Phase", "PhaseRefusedError"]
    assert await session.fetchval("select count(*) from schema_change_log where changed_by <> 'a test'") == 1


# ----------------------------------------------------------------------------------------------------------- the steps


async def test_every_step_but_the_last_can_be_taken_back(engine: AsyncEngine, session: Session) -> None:
    """All the way there and back, and there again to the end; each step is logged with who asked for it."""
    await session.execute(FILL)
    run = await record_run(session)
    way = [*FORWARD[1:4], *FORWARD[2::-1], *FORWARD[1:]]
    for to in way:
        await record_run(session, verifies=run)
        before = await advance(engine, PRODUCT_CATALOG, to, by=f"to {to}", patience=AT_ONCE)
        assert abs(FORWARD.index(before) - FORWARD.index(to)) == 1
        assert await advance(engine, PRODUCT_CATALOG, to, by="again", patience=AT_ONCE) == to  # there already

    logged = await session.fetch("select to_phase, changed_by from schema_change_log order by id")
    assert [tuple(row) for row in logged] == [(str(to), f"to {to}") for to in way]
    with pytest.raises(
        PhaseRefusedError, match="contracted, from where it goes to nowhere any more, not to reading_new"
    ):
        await advance(engine, PRODUCT_CATALOG, Phase.READING_NEW, by="a test", patience=AT_ONCE)


@pytest.mark.parametrize(("before", "to"), [pair for pair in itertools.permutations(Phase, 2) if pair not in STEPS])
async def test_what_the_table_of_steps_does_not_list_is_refused(
    engine: AsyncEngine, session: Session, before: Phase, to: Phase
) -> None:
    """A phase cannot be jumped, whatever the data look like."""
    await session.execute(FILL)
    await put(session, before)
    with pytest.raises(PhaseRefusedError, match=f"product_catalog is {before}, from where it goes to .*, not to {to}"):
        await advance(engine, PRODUCT_CATALOG, to, by="a test", patience=AT_ONCE)


def test_each_step_is_between_neighbours_and_has_a_sentence() -> None:
    """Forwards all four, backwards all but the last."""
    assert {pair for pair in STEPS if FORWARD.index(pair[1]) > FORWARD.index(pair[0])} == set(
        itertools.pairwise(FORWARD)
    )
    assert {(to, before) for before, to in itertools.pairwise(FORWARD[:-1])} == {
        pair for pair in STEPS if FORWARD.index(pair[1]) < FORWARD.index(pair[0])
    }
    assert all(sentence.endswith(".") for sentence in STEPS.values())


# ------------------------------------------------------------------------------------------------------------ the gate

Damage = Callable[[Session, int], Any]


async def _nothing(session: Session, run: int) -> None:
    """A backfill that was done; no verify."""


async def _row_missing(session: Session, run: int) -> None:
    await session.execute("update products set new_catalog = null where mnemonic = 'LAST'")


async def _row_different(session: Session, run: int) -> None:
    await session.execute("""update products set new_catalog = '{"n": 1}' where mnemonic = 'LAST'""")


async def _no_json(session: Session, run: int) -> None:
    await session.execute("update products set old_catalog_field = '{' where mnemonic = 'LAST'")


async def _gap(session: Session, run: int) -> None:
    await session.execute("update backfill_chunks set low = $1 where low is not null", [LATER])


async def _overlap(session: Session, run: int) -> None:
    await session.execute("update backfill_chunks set high = $1 where low is null", [LATER])


async def _no_end(session: Session, run: int) -> None:
    await session.execute("update backfill_chunks set high = $1 where high is null", [LATER])


async def _no_start(session: Session, run: int) -> None:
    await session.execute("delete from backfill_chunks where low is null")


async def _undone(session: Session, run: int) -> None:
    await session.execute("update backfill_chunks set state = 'leased' where low is null")


async def _not_one_chunk(session: Session, run: int) -> None:
    await session.execute("delete from backfill_chunks")


async def _never_run(session: Session, run: int) -> None:
    await session.execute("delete from backfill_runs")


async def _dry_run(session: Session, run: int) -> None:
    await session.execute("update backfill_runs set dry_run = true")


async def _cancelled(session: Session, run: int) -> None:
    await session.execute("update backfill_runs set state = 'cancelled'")


MISSING_EVIDENCE = [
    (_row_missing, "1 products have no new_catalog, and in 0 it differs from old_catalog_field .*ffffffff-ffff-ffff"),
    (_row_different, "0 products have no new_catalog, and in 1 it differs"),
    (_no_json, "0 products have no new_catalog, and in 1 it differs"),
    (_gap, f"the chunks of run 1 leave a gap or overlap at {LATER}"),
    (_overlap, f"the chunks of run 1 leave a gap or overlap at {MIDDLE}"),
    (_no_end, f"the chunks of run 1 leave a gap or overlap at {MIDDLE}"),
    (_no_start, f"the chunks of run 1 leave a gap or overlap at {MIDDLE}"),
    (_undone, f"the chunks of run 1 leave a gap or overlap at {MIDDLE}"),
    (_not_one_chunk, "run 1 has not done a chunk yet"),
    (_never_run, "the backfill product_catalog was never run"),
    (_dry_run, "the backfill product_catalog was never run"),
    (_cancelled, "the backfill product_catalog was never run"),
]


@pytest.mark.parametrize(("before", "to"), list(itertools.pairwise(FORWARD[1:])))
@pytest.mark.parametrize(("damage", "reason"), MISSING_EVIDENCE)
async def test_the_gate_is_closed_without_a_complete_backfill(
    engine: AsyncEngine, session: Session, before: Phase, to: Phase, damage: Damage, reason: str
) -> None:
    """A row that is missing or differs, a gap in the chunks, no run at all: each is named, whatever a status says."""
    await session.execute(FILL)
    run = await record_run(session)
    await put(session, before)
    await record_run(session, verifies=run)
    await damage(session, run)

    with pytest.raises(PhaseRefusedError, match=f"product_catalog cannot go to {to}: {reason}"):
        await advance(engine, PRODUCT_CATALOG, to, by="a test", patience=AT_ONCE)
    assert await session.fetchval("select phase from schema_changes") == before


@pytest.mark.parametrize(("before", "to"), list(itertools.pairwise(FORWARD[2:])))
@pytest.mark.parametrize(
    ("finding", "reason"),
    [
        (None, "no verify of run 1 was begun after the last step"),
        (
            "update backfill_runs set started_at = '2020-01-01' where id = 2",
            "no verify of run 1 was begun after the last",
        ),
        ("update backfill_runs set state = 'running' where id = 2", "no verify of run 1 was begun after the last step"),
        (
            "update backfill_chunks set rows_left = 1 where run_id = 2",
            "run 2, a verify, found rows that are missing or",
        ),
        ("update backfill_chunks set rows_differing = 1 where run_id = 2", "run 2, a verify, found rows that"),
        ("update backfill_chunks set actual_digest = 8 where run_id = 2", "run 2, a verify, found rows that"),
        (
            "delete from backfill_chunks where run_id = 2 and low is null",
            "the chunks of run 2 leave a gap or overlap at",
        ),
    ],
)
async def test_the_gate_is_closed_without_a_verify_begun_after_the_last_step(
    engine: AsyncEngine, session: Session, before: Phase, to: Phase, finding: str | None, reason: str
) -> None:
    """Switching reads and contracting need a proof from under the present phase: complete, and with nothing found."""
    await session.execute(FILL)
    run = await record_run(session)
    await put(session, before)
    if finding is not None:
        await record_run(session, verifies=run)
        await session.execute(finding)

    with pytest.raises(PhaseRefusedError, match=f"product_catalog cannot go to {to}: {reason}"):
        await advance(engine, PRODUCT_CATALOG, to, by="a test", patience=AT_ONCE)


async def test_each_pass_of_a_run_must_tile_the_table(engine: AsyncEngine, session: Session) -> None:
    """A second time through the table is judged by itself: whole, it opens the gate; with a gap, it does not."""
    await session.execute(FILL)
    await put(session, Phase.DUAL_WRITE)
    await record_run(session)
    await session.execute(
        "insert into backfill_chunks (run_id, pass, low, high, state, rows_walked) "
        "select run_id, 2, low, high, 'done', 0 from backfill_chunks where low is not null"
    )
    with pytest.raises(PhaseRefusedError, match=f"the chunks of run 1 leave a gap or overlap at {MIDDLE}"):
        await advance(engine, PRODUCT_CATALOG, Phase.BACKFILLED, by="a test", patience=AT_ONCE)

    await session.execute("update backfill_chunks set low = null where pass = 2")
    await advance(engine, PRODUCT_CATALOG, Phase.BACKFILLED, by="a test", patience=AT_ONCE)


async def test_the_gate_does_not_count_a_verify_of_the_phase_before(engine: AsyncEngine, session: Session) -> None:
    """The verify that opened `reading_new` does not open `contracted`."""
    await session.execute(FILL)
    await put(session, Phase.BACKFILLED)
    await record_run(session, verifies=await record_run(session))
    await advance(engine, PRODUCT_CATALOG, Phase.READING_NEW, by="a test", patience=AT_ONCE)

    with pytest.raises(PhaseRefusedError, match="no verify of run 1 was begun after the last step"):
        await advance(engine, PRODUCT_CATALOG, Phase.CONTRACTED, by="a test", patience=AT_ONCE)


# ---------------------------------------------------------------------------------------------------------- heartbeats


async def test_a_step_waits_for_live_workers_to_follow(engine: AsyncEngine, session: Session) -> None:
    """A worker that still acts by another phase, or knows nothing of the change, holds the step up and is named."""
    async with connected(engine) as connection:
        await beat(connection, "w1", "commands", {PRODUCT_CATALOG: Phase.DUAL_WRITE}, {"commands": 12.5})
        await beat(connection, "w2", "queries", {})
        await beat(connection, "w3", "queries", {PRODUCT_CATALOG: Phase.EXPANDED})
    with pytest.raises(
        PhaseRefusedError,
        match=r"is expanded, but not for these live workers: w1 \(dual_write\), w2 \(knows nothing of it\)$",
    ):
        await advance(engine, PRODUCT_CATALOG, Phase.DUAL_WRITE, by="a test", patience=AT_ONCE)

    step = asyncio.create_task(advance(engine, PRODUCT_CATALOG, Phase.DUAL_WRITE, by="a test"))
    async with connected(engine) as connection:
        await beat(connection, "w1", "commands", {PRODUCT_CATALOG: Phase.EXPANDED})
        await retire(connection, "w2")
    assert await step == Phase.EXPANDED


async def test_a_worker_unseen_for_15_seconds_holds_nobody_up(engine: AsyncEngine, session: Session) -> None:
    """By the database's clock. What it would write after waking, the lock decides."""
    async with connected(engine) as connection:
        await beat(connection, "w1", "commands", {})
    await session.execute("update worker_heartbeats set seen_at = now() - interval '16 seconds'")
    await advance(engine, PRODUCT_CATALOG, Phase.DUAL_WRITE, by="a test", patience=AT_ONCE)


async def test_heartbeats_are_read_as_they_were_written(engine: AsyncEngine, session: Session) -> None:
    """One row a worker, its age by the database's clock; rows of a day ago are dropped by whoever beats next."""
    async with connected(engine) as connection:
        await beat(connection, "gone", "commands", {})
        await session.execute("update worker_heartbeats set seen_at = now() - interval '25 hours'")
        for p99 in (10.0, 12.5):
            await beat(connection, "w1", "commands", {PRODUCT_CATALOG: Phase.EXPANDED}, {"commands": p99})
        found = await live_workers(connection)

    assert [(one.worker, one.role, one.phases, one.p99_ms) for one in found] == [
        ("w1", "commands", {PRODUCT_CATALOG: "expanded"}, {"commands": 12.5})
    ]
    assert 0 <= found[0].age_s < 15
    assert await session.fetchval("select count(*) from worker_heartbeats") == 1


# ---------------------------------------------------------------------------------------------------- what is not known


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([(PRODUCT_CATALOG, "half_way")], "does not know the phase half_way of the change product_catalog"),
        (
            [(PRODUCT_CATALOG, "expanded"), ("prices", "dual_write")],
            "does not know the phase dual_write of the change prices",
        ),
        ([], "the database does not have the change product_catalog yet: migrate it first"),
    ],
)
def test_a_phase_without_a_name_here_is_detected(rows: list[tuple[str, str]], reason: str) -> None:
    """A worker must not act by a phase that only another release knows."""
    with pytest.raises(UnknownPhaseError, match=reason):
        known_phases(rows)


def test_a_later_releases_change_that_is_only_expanded_is_no_obstacle() -> None:
    """In `expanded` nothing is different for a worker that does not know the change."""
    phases = known_phases([(PRODUCT_CATALOG, "reading_new"), ("prices", "expanded")])
    assert phases == {PRODUCT_CATALOG: Phase.READING_NEW}


async def test_a_step_of_an_unknown_change_is_refused(engine: AsyncEngine, session: Session) -> None:
    """There is nothing to advance."""
    with pytest.raises(UnknownPhaseError, match="there is no change prices"):
        await advance(engine, "prices", Phase.DUAL_WRITE, by="a test", patience=AT_ONCE)


class Sight:
    """A clock that goes on by so much at each look."""

    def __init__(self, *steps_s: float) -> None:
        self._steps = [0.0, *steps_s]
        self._now_s = 0.0

    def __call__(self) -> float:
        """Look: the last step is repeated."""
        self._now_s += self._steps.pop(0) if len(self._steps) > 1 else self._steps[0]
        return self._now_s


@pytest.mark.parametrize(
    ("steps_s", "taken"),
    [
        ((0.3,), True),
        ((30.0, 0.3), True),
        ((3600.0, 0.3), True),
        ((0.3, 0.3, 86_400.0, 0.3), True),
        ((60.0, 60.0, 60.0, 0.3), True),
        ((4.0,), False),
        ((30.0,), False),
    ],
)
async def test_a_stop_of_who_takes_the_step_refuses_nothing(
    engine: AsyncEngine, session: Session, monkeypatch: pytest.MonkeyPatch, steps_s: tuple[float, ...], taken: bool
) -> None:
    """A worker that stood still has not seen the others keep it waiting; 20 s that it saw are the end."""
    await session.execute(
        "insert into worker_heartbeats (worker, role, phases, p99_ms)"
        " values ('behind', 'commands', '{\"product_catalog\": \"contracted\"}', '{}')"
    )
    looks = 0

    async def look(connection: Connection, younger_than_s: float = phases.LIVE_FOR_S) -> Sequence[phases.Heartbeat]:
        nonlocal looks
        looks += 1
        if looks == 7:
            await connection.execute('update worker_heartbeats set phases = \'{"product_catalog": "expanded"}\'')
        await connection.execute("update worker_heartbeats set seen_at = clock_timestamp()")
        return await live_workers(connection, younger_than_s)

    live_workers = phases.live_workers
    monkeypatch.setattr(phases, "live_workers", look)
    monkeypatch.setattr(phases, "_POLL_S", 0.001)
    monkeypatch.setattr(phases, "ObservedClock", lambda: ObservedClock(Sight(*steps_s)))
    if taken:
        await phases.advance(engine, "product_catalog", Phase.DUAL_WRITE, by="a test")
    else:
        with pytest.raises(PhaseRefusedError, match="not for these live workers: behind"):
            await phases.advance(engine, "product_catalog", Phase.DUAL_WRITE, by="a test")
