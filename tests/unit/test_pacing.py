"""The laws of the backfill worker, without database or clock: pace, throttle, time left, time sheet."""

import math
import random
from dataclasses import dataclass, replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from persistence.backfill.accounts import SAMPLE_VALID_S, Budget, FinishedChunk, Spell, Spent
from persistence.backfill.chunks import LOOK_S
from persistence.backfill.signals import Reading, Signal
from workers.backfill.pacing import CUT_AT, GENTLE_TARGET_S, GROWTH, LEAST_TARGET_S, MOST_BESIDE_S, TARGET_S, Pace
from workers.backfill.progress import WIDTH, Progress, Walked, last_look_s, progress_of
from workers.backfill.throttle import LEAST, LIMITS, QUICK_PER_S, Throttle, allowed_share, stretch_s, target_s
from workers.backfill.timesheet import Timesheet
from workers.backfill.workplace import LONGEST_BACK_OFF_S, FailureLimits, back_off_s

# ----------------------------------------------------------------------------------------------------------------- pace


def test_a_steady_rate_brings_the_chunk_to_the_target() -> None:
    """At 100,000 rows/s the size grows step by step to what takes half a second, and stays."""
    pace = Pace(rows=1000, most_rows=250_000)
    sizes = []
    for _ in range(20):
        sizes.append(pace.rows)
        pace.measured(pace.rows, pace.rows / 100_000)
    assert all(after <= before * GROWTH for before, after in pairwise(sizes))
    assert sizes[-1] == pytest.approx(100_000 * TARGET_S, rel=0.01)
    assert sizes.index(max(sizes)) <= 11


def test_a_chunk_of_five_times_the_target_cuts_at_once() -> None:
    """One chunk that took 5 targets is enough: the next one is what its own measure allows."""
    pace = Pace(rows=50_000, most_rows=250_000, row_s=1e-5)
    pace.measured(50_000, CUT_AT * TARGET_S)
    assert pace.rows == 10_000


def test_a_slow_chunk_shrinks_the_next_by_half_of_the_difference() -> None:
    """Short of five targets the average decides, so one outlier does not."""
    pace = Pace(rows=50_000, most_rows=250_000, row_s=1e-5)
    pace.measured(50_000, 2 * TARGET_S)
    assert pace.rows == pytest.approx(50_000 / 1.5, rel=0.01)


def test_a_small_chunk_is_no_ground_for_a_larger_one() -> None:
    """The last chunk of a walk, or a half, says how fast a row is but not that more of them would do."""
    pace = Pace(rows=10_000, most_rows=250_000)
    pace.measured(10, 0.0001)
    assert pace.rows == 10_000
    pace.measured(0, 0.001)
    assert pace.rows == 10_000


def test_a_rate_and_a_gentle_target_bound_the_chunk() -> None:
    """Under a rate cap a chunk is half a second's worth; slowed down it is as short as asked."""
    pace = Pace(rows=50_000, most_rows=250_000, row_s=1e-5)
    assert pace.next_rows(TARGET_S, None) == 50_000
    assert pace.next_rows(TARGET_S, 2000) == 1000
    assert pace.next_rows(GENTLE_TARGET_S, None) == pytest.approx(2000, abs=1)
    assert pace.next_rows(TARGET_S, 0.5) == 1
    assert pace.expected_s(2000) == pytest.approx(GENTLE_TARGET_S)


def test_what_a_chunk_takes_beside_its_work_counts_and_does_not_shorten_it() -> None:
    """Lease and commit of 8 ms are part of what a chunk is expected to take; its size follows from its work alone."""
    pace = Pace(rows=50_000, most_rows=250_000, row_s=1e-5)
    for _ in range(20):
        pace.measured(400, 0.004, GENTLE_TARGET_S, 0.008)
    assert pace.expected_s(400) == pytest.approx(0.012, rel=0.01)
    assert pace.next_rows(GENTLE_TARGET_S, None) == pytest.approx(2000, abs=1)


def test_a_wait_beside_the_work_is_not_taken_for_work() -> None:
    """A worker that stood for 10 s before a commit does not stand back for 500 s after it."""
    pace = Pace(rows=50_000, most_rows=250_000, row_s=1e-5)
    pace.measured(400, 0.004, GENTLE_TARGET_S, 10.0)
    assert pace.expected_s(400) <= 0.004 + MOST_BESIDE_S


def test_a_time_out_starts_again_from_a_tenth() -> None:
    """A chunk that was ended by a time-out was not measured: size and average begin anew."""
    pace = Pace(rows=50_000, most_rows=250_000, row_s=1e-5)
    pace.failed_on_time()
    assert (pace.rows, pace.row_s) == (5000, None)


@given(st.lists(st.tuples(st.integers(0, 10**6), st.floats(0, 100)), max_size=30), st.integers(1, 250_000))
def test_whatever_is_measured_the_size_stays_within_bounds(chunks: list[tuple[int, float]], most: int) -> None:
    """No sequence of measurements brings the size to nothing, above its bound, or up by more than half at once."""
    pace = Pace(rows=min(1000, most), most_rows=most)
    for rows, took_s in chunks:
        before = pace.rows
        pace.measured(rows, took_s)
        assert 1 <= pace.rows <= most
        assert pace.rows <= max(before, rows) * GROWTH


# ------------------------------------------------------------------------------------------------------------- throttle

QUIET = Budget(level=0, signal="", share=1.0, ceiling=1.0, trusted=1.0, readings=(), age_s=1.0, workers=2)
LISTENING = replace(QUIET, readings=[{"signal": "live_p99"}])


def _lag(seconds: float | None) -> list[Reading]:
    return [
        Reading(Signal.WAL_RATE, 0.0),
        Reading(Signal.REPLICA_LAG, seconds, "" if seconds is not None else "hidden"),
    ]


@pytest.mark.parametrize(
    ("level", "share"), [(0.0, 1.0), (0.69, 1.0), (0.85, 0.5), (0.97, 0.1), (1.0, 0.0), (9.0, 0.0)]
)
def test_from_seven_tenths_of_a_limit_the_share_falls_to_nothing(level: float, share: float) -> None:
    """Below 0.7 nothing is felt, at the limit everything stops, in between it falls in a line."""
    decided = Throttle().decide(_lag(level * LIMITS[Signal.REPLICA_LAG]), QUIET)
    assert decided.share == pytest.approx(share, abs=0.001)
    assert decided.signal == ("replica_lag" if level >= 0.7 else "")


def test_a_signal_that_cannot_be_read_stops() -> None:
    """It may be the very trouble that it should warn of; the sample says why it could not be read."""
    decided = Throttle().decide(_lag(None), QUIET)
    assert (decided.share, decided.signal, decided.level) == (0.0, "replica_lag", math.inf)
    assert decided.readings[1]["trouble"] == "hidden"
    assert decided.readings[1]["level"] is None


def test_a_signal_switched_off_is_not_listened_to() -> None:
    """By name, and only that one."""
    assert Signal.LIVE_P99 not in Throttle(off=frozenset({Signal.LIVE_P99})).signals
    assert len(Throttle(off=frozenset({Signal.LIVE_P99})).signals) == len(Signal) - 1


def _live(p99_ms: float) -> list[Reading]:
    return [Reading(Signal.LIVE_P99, p99_ms)]


def _after(seconds: int, budget: Budget, readings: list[Reading]) -> Budget:
    for _ in range(seconds):
        budget = Throttle().decide(readings, replace(budget, age_s=1.0))
    return budget


def test_beside_live_traffic_it_begins_low_and_doubles_in_ten_seconds() -> None:
    """From a hundredth to all of the time in about 70 s while the traffic bears it; without traffic at once."""
    fresh = replace(QUIET, age_s=math.inf)
    assert Throttle().decide(_lag(0), fresh).share == 1.0
    begun = Throttle().decide(_live(10), fresh)
    assert (begun.share, begun.signal) == (LEAST, "live_p99")
    assert _after(10, begun, _live(10)).share == pytest.approx(2 * LEAST, rel=0.05)
    assert 0.8 < _after(66, begun, _live(10)).share < _after(70, begun, _live(10)).share == 1.0


def test_what_was_too_much_is_tried_again_after_a_minute_and_a_half() -> None:
    """A stop halves the ceiling; while stopped nothing grows; it is soon back at 0.7 of the old one, then lingers."""
    running = _after(40, Throttle().decide(_live(10), replace(QUIET, age_s=math.inf)), _live(10))
    stopped = _after(5, running, _live(300))
    assert (stopped.share, stopped.signal) == (0.0, "live_p99")
    assert stopped.ceiling == pytest.approx(running.share / 2)
    assert _after(7, stopped, _live(10)).share == pytest.approx(running.share * 0.7, rel=0.02)
    assert _after(90, stopped, _live(10)).share < running.share < _after(100, stopped, _live(10)).share
    passed = _after(145, stopped, _live(10))
    assert passed.share > running.share * 1.2
    assert _after(10, passed, _live(10)).share > passed.share * 1.8


def test_a_stop_at_the_least_teaches_nothing() -> None:
    """A hundredth of the time is nothing that a 99th percentile could show: something else was the trouble."""
    begun = Throttle().decide(_live(10), replace(QUIET, age_s=math.inf))
    stopped = _after(5, begun, _live(300))
    assert (stopped.share, stopped.ceiling, stopped.trusted) == (0.0, LEAST, 1.0)
    assert _after(11, stopped, _live(10)).share == pytest.approx(2 * LEAST, rel=0.05)


def test_what_slows_down_lets_nothing_grow() -> None:
    """From 0.7 of a limit the share is a part of the ceiling, and the ceiling stays."""
    running = replace(LISTENING, share=0.2, ceiling=0.2)
    slowed = _after(30, running, _live(0.85 * LIMITS[Signal.LIVE_P99]))
    assert slowed.ceiling == 0.2
    assert slowed.share == pytest.approx(0.1)


def test_a_ceiling_that_was_not_reached_does_not_grow() -> None:
    """What ran until now was less: nothing was proved about more."""
    slowed = replace(LISTENING, share=0.3, ceiling=0.4)
    assert Throttle().decide(_live(10), slowed).ceiling == 0.4


def test_the_nearer_to_the_limit_the_slower_it_grows() -> None:
    """Full speed up to half of where it slows down, half of it in the middle between, nothing from there on."""
    running = replace(LISTENING, share=0.1, ceiling=0.1)
    ten_s = [
        _after(10, running, _live(level * LIMITS[Signal.LIVE_P99])).ceiling / 0.1 for level in (0.05, 0.34, 0.525, 0.69)
    ]
    assert ten_s == pytest.approx([QUICK_PER_S**10, QUICK_PER_S**10, QUICK_PER_S**5, 1.0], rel=0.03)


def test_a_pause_lets_it_grow_by_no_more_than_a_sample_holds() -> None:
    """While nothing ran nothing was proved: after 50 s it goes on as after the 5 s for which a sample holds."""
    running = replace(LISTENING, share=0.1, ceiling=0.1)
    resumed = Throttle().decide(_live(10), replace(running, age_s=50.0))
    assert resumed.share == pytest.approx(0.1 * QUICK_PER_S**SAMPLE_VALID_S)


def test_the_ceiling_never_closes() -> None:
    """However often it is stopped, it tries again with a little."""
    budget = QUIET
    for _ in range(40):
        budget = _after(1, _after(1, budget, _lag(20)), _lag(0))
    assert LEAST <= budget.share < 0.05


def test_the_less_may_run_the_shorter_the_chunks() -> None:
    """Slowed down, chunks get shorter and take up more of the budget that all workers share."""
    assert target_s(QUIET) == TARGET_S
    assert target_s(replace(QUIET, share=0.5)) == TARGET_S / 2
    assert target_s(replace(QUIET, share=0.001)) == GENTLE_TARGET_S
    assert stretch_s(0.25, 0.5, 1) == 0.5
    assert stretch_s(0.25, 0.5, 2) == 0.25
    assert allowed_share(0.7) == pytest.approx(1.0)


def test_a_chunk_takes_at_most_half_of_the_live_budget() -> None:
    """Whoever meets one stays within the budget; without live traffic, or a word of it, the budget does not matter."""
    fresh = replace(QUIET, age_s=math.inf)

    def target(limit_ms: float, p99_ms: float | None, share: float = 1.0) -> float:
        throttle = Throttle({**LIMITS, Signal.LIVE_P99: limit_ms})
        decided = throttle.decide([Reading(Signal.LIVE_P99, p99_ms)], fresh)
        return target_s(replace(decided, share=share))

    assert target(250, 10) == pytest.approx(0.125)
    assert target(7, 2) == pytest.approx(0.0035)
    assert target(7, 2, share=0.05) == pytest.approx(0.0035)
    assert target(1000, 2, share=0.001) == GENTLE_TARGET_S
    assert target(0.1, 0.01) == LEAST_TARGET_S
    assert target(7, 0) == TARGET_S
    assert target(7, None) == TARGET_S


def test_what_a_signal_taught_goes_when_it_is_switched_off() -> None:
    """A ceiling that live traffic brought down holds nobody who is told not to listen to it, nor any other."""
    stopped = _after(1, replace(LISTENING, share=0.2, ceiling=0.2), _live(300))
    assert Throttle().decide(_live(10), replace(stopped, age_s=1.0)).share == pytest.approx(0.1, rel=0.1)
    for off in ({Signal.LIVE_P99}, set(Signal)):
        assert Throttle(off=frozenset(off)).decide([], replace(stopped, age_s=1.0)).share == 1.0


def test_a_signal_that_is_listened_to_again_begins_low() -> None:
    """What ran while nobody listened to the live traffic says nothing of what it bears."""
    deaf = Throttle(off=frozenset({Signal.LIVE_P99})).decide(_lag(0)[:1], replace(QUIET, age_s=math.inf))
    assert deaf.share == 1.0
    assert Throttle().decide([*_lag(0)[:1], *_live(10)], replace(deaf, age_s=1.0)).share == LEAST


# -------------------------------------------------------------------------------------------------------- the time left


@dataclass
class Simulated:
    """A run of the engine on simulated hardware; times in seconds."""

    rows: int
    ends: list[tuple[float, int, int, float]]
    idle_row_s: float

    @property
    def seconds(self) -> float:
        return self.ends[-1][0]

    def asked_at(self, part: float) -> tuple[Progress, float]:
        now = self.seconds * part
        done = [FinishedChunk(now - at, number, rows, took_s) for at, number, rows, took_s in self.ends if at <= now]
        number = done[-1].pass_number if done else 1
        walked = Walked(
            rows_estimated=self.rows,
            pass_number=number,
            rows_walked=sum(chunk.rows_walked for chunk in done if chunk.pass_number == number),
            age_s=now,
            last_look_s=self.idle_row_s * self.rows if number == 1 else 0.0,
        )
        return progress_of(walked, done[-256:]), self.seconds - now


def _simulate(seed: int) -> Simulated:
    """Walk with one to three workers whose chunks take a random time, drift, and are held up now and then."""
    dice = random.Random(seed)
    rows = dice.randrange(1_000_000, 6_000_000)
    row_s = dice.uniform(5e-6, 2e-5)
    idle_row_s = row_s * dice.uniform(0.02, 0.06)
    clocks = [0.0] * dice.randrange(1, 4)
    ends: list[tuple[float, int, int, float]] = []
    for number, cost_s in ((1, row_s), (2, idle_row_s)):
        left = rows
        paces = [Pace(rows=1000 if number == 1 else 50_000, most_rows=250_000) for _ in clocks]
        while left:
            worker = clocks.index(min(clocks))
            size = min(paces[worker].rows, left)
            left -= size
            took_s = 0.004 + size * cost_s * dice.lognormvariate(0, 0.2) * len(clocks) ** 0.5
            if dice.random() < 0.02:
                took_s += dice.uniform(0, 1)
            clocks[worker] += took_s
            paces[worker].measured(size, took_s)
            ends.append((clocks[worker], number, size, took_s))
        clocks = [max(clocks)] * len(clocks)
    return Simulated(rows, sorted(ends), idle_row_s)


def test_the_interval_contains_the_time_left() -> None:
    """Asked at 25, 50 and 75 % of 20 seeded runs: in 90 % it contains the truth, never wider than half of that."""
    contained = narrow = 0
    for seed in range(20):
        run = _simulate(seed)
        for part in (0.25, 0.5, 0.75):
            progress, left_s = run.asked_at(part)
            assert progress.low_s is not None
            assert progress.high_s is not None
            contained += progress.low_s <= left_s <= progress.high_s
            narrow += progress.high_s - progress.low_s <= left_s / 2
    assert contained >= 54
    assert narrow >= 54


def test_the_last_look_is_short_unless_the_predicate_is_dear() -> None:
    """Along a table it takes a part of what it does along the key; a predicate that takes long makes it a walk."""
    assert last_look_s(500_000, 1e-6) == pytest.approx(0.3)
    assert last_look_s(100_000, 13e-6) == pytest.approx(1.0)
    assert last_look_s(100_000_000, 13e-6) == pytest.approx(1310.0)
    assert last_look_s(1000, None) == 0.0


def test_a_last_look_that_may_be_quick_enough_or_not_counts_as_both() -> None:
    """Where it is as likely done in time as not (a walk follows then), it counts as the middle; no row makes a leap."""
    rows = int(LOOK_S / 0.6e-6)
    assert last_look_s(rows, 1e-6) == pytest.approx(LOOK_S + 0.5 * rows * 1e-6, rel=0.001)
    around = [last_look_s(int(rows * part), 1e-6) for part in (0.8, 0.9, 1.0, 1.1, 1.2)]
    assert all(before < after < before * 1.35 for before, after in pairwise(around))


def test_nothing_is_said_before_there_is_something_to_say() -> None:
    """With fewer than four chunks done there is no rate, and no interval."""
    walked = Walked(rows_estimated=10_000, pass_number=1, rows_walked=3000, age_s=1.0, last_look_s=0.0)
    progress = progress_of(walked, [FinishedChunk(age_s, 1, 1000, 0.4) for age_s in (0.9, 0.5, 0.1)])
    assert (progress.rows_per_s, progress.low_s, progress.high_s) == (None, None, None)
    assert progress.fraction == 0.3


@pytest.mark.parametrize("workers", [1, 2, 3, 8])
def test_workers_that_end_together_are_not_counted_twice(workers: int) -> None:
    """Chunks that end in step tell the same rate as one after the other, at any moment between their ends."""
    chunks = [FinishedChunk(0.5 * age, 1, 1000, 0.5) for age in range(8, 0, -1) for _ in range(workers)]
    for later_s in (0.0, 0.2, 0.4):
        seen = [FinishedChunk(one.age_s - 0.5 + later_s, *one[1:]) for one in chunks]
        progress = progress_of(Walked(100_000 * workers, 1, 8000 * workers, 4.0 + later_s, 0.0), seen)
        assert progress.rows_per_s == pytest.approx(2000 * workers)
        assert progress.low_s == pytest.approx((46.0 - later_s) * (1 - WIDTH))


def test_a_hold_counts_as_time_that_rows_take() -> None:
    """When nothing has come for long, the time left grows instead of running out."""
    chunks = [FinishedChunk(10.0 + 4 - at, 1, 1000, 1.0) for at in range(5)]
    walked = Walked(rows_estimated=10_000, pass_number=1, rows_walked=5000, age_s=15.0, last_look_s=0.0)
    progress = progress_of(walked, chunks)
    assert progress.low_s == pytest.approx(5000 / (3000 / 13) * (1 - WIDTH))


def test_an_estimate_that_was_too_low_is_left_behind() -> None:
    """More rows than expected: the fraction stays at one, and nothing is divided by zero."""
    progress = progress_of(Walked(0, 1, 500, 1.0, 0.0), [])
    assert progress.fraction == 1.0


# ----------------------------------------------------------------------------------------------------------- small laws


def test_time_is_booked_once_and_to_what_it_was_spent_on() -> None:
    """Spells add up by run and signal; what could not be booked is kept."""
    now = [0.0]
    sheet = Timesheet(lambda: now[0])
    sheet.turn_to(Spell(Spent.RUNNING, 7))
    now[0] = 2.0
    sheet.turn_to(Spell(Spent.HELD, 7, "live_p99"))
    now[0] = 5.0
    taken = sheet.take()
    assert taken[Spell(Spent.RUNNING, 7)] == 2.0
    assert taken[Spell(Spent.HELD, 7, "live_p99")] == 3.0
    sheet.put_back(taken)
    now[0] = 6.0
    assert sheet.take()[Spell(Spent.HELD, 7, "live_p99")] == 4.0
    assert sheet.spell.signal == "live_p99"


def test_back_off_grows_and_ends() -> None:
    """Pauses double up to five seconds, random in their upper half."""
    for failures in range(1, 60):
        assert 0.05 <= back_off_s(failures) <= LONGEST_BACK_OFF_S


def test_a_few_failures_are_borne_and_many_are_not() -> None:
    """Twenty rows in any table, one in a thousand in a large one."""
    limits = FailureLimits()
    assert not limits.too_many(20, 100)
    assert limits.too_many(21, 100)
    assert not limits.too_many(1000, 10**6)
    assert limits.too_many(1001, 10**6)
