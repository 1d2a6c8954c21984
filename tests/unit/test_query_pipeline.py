"""What becomes of a query whose read fails: by what it failed, alone or among others, and by the look-ups beside it."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast

import asyncpg
import pytest

from contracts.envelope import retrieved
from contracts.errors import CatalogError, DeadlineExceededError
from contracts.kinds import Keys
from contracts.registry import KINDS
from handlers.context import Context
from handlers.queries.asked import Asked
from handlers.readers import Readers
from handlers.result import Result, Success
from persistence.faults import Fault, fault_of
from tests.unit.test_under_way import Handed
from workers.admission.identity import Identity
from workers.pipeline.delivery import Admitted, Delivery, Ended, Identified
from workers.pipeline.ends import Applied, Broken, Refused
from workers.pipeline.look_ups import LookUps
from workers.pipeline.patience import Patience
from workers.pipeline.places import Places
from workers.pipeline.queries import BLOCKED_FOR_S, QueryBatch, QueryPipeline, Source
from workers.ports import BrokerAwayError, Custody, Record

READ_S = 0.4
"""Of a read that takes too long: long enough for look-ups beside it."""

Script = Callable[[Sequence[int], int], Exception | None]
"""What a read of these does, the n-th of all."""


@dataclass
class Desk:
    """Everything that a pipeline asks of others."""

    script: Script
    now: float = 0.0
    look_up_s: float = 0.001
    reads: list[Sequence[int]] = field(default_factory=list)
    waits: int = 0
    late: set[int] = field(default_factory=set)
    away: int = 0
    broker_away: int = 0
    answers: Callable[[int], bool] = lambda _: True
    """Which of those that it is asked it answers at once, besides the first."""
    published: list[int] = field(default_factory=list)
    acked: list[int] = field(default_factory=list)
    takes_s: float = 0.0

    # The database
    async def read(self, asked: Sequence[Asked[Any]], _: Readers) -> Sequence[Result | None]:
        numbers = [one.query for one in asked]
        self.reads.append(numbers)
        error = self.script(numbers, len(self.reads))
        if error is not None:
            if fault_of(error) is Fault.TOO_SLOW and len(set(numbers)) == 1:
                await asyncio.sleep(READ_S)
                self.now += self.takes_s
            raise error
        now = {numbers[0], *filter(self.answers, numbers)}
        return [Success(retrieved("thing", number)) if number in now else None for number in numbers]

    async def look_up(self) -> float:
        return self.look_up_s

    async def database_answers(self) -> bool:
        self.away -= 1
        return self.away < 0

    # The caller, the broker
    def too_late(self, delivery: Delivery) -> CatalogError | None:
        return DeadlineExceededError("late") if delivery.record.offset in self.late else None

    async def answer(self, ended: Sequence[Ended]) -> int:
        self.broker_away -= 1
        if self.broker_away >= 0:
            raise BrokerAwayError("gone")
        self.published += [delivery.record.offset for delivery, _ in ended]
        return 0

    # The edge
    is_ours = True

    @contextmanager
    def waiting(self) -> Iterator[None]:
        yield

    def answered(self, records: Sequence[Record]) -> None:
        self.acked += [record.offset for record in records]

    # Who watches
    def decided(self, ended: Sequence[Ended]) -> None:
        assert all(delivery.end is not None for delivery, _ in ended)

    def step(self, _: str) -> object:
        return nullcontext()

    def retry(self, *_: str) -> None:
        """Count nothing."""

    def database(self, *_: object) -> None:
        """Count nothing."""

    def patience(self) -> Patience:
        desk = self

        class Quick(Patience):
            def _wait(self, _: object) -> float:
                desk.waits += 1
                desk.now += 3.0
                if desk.waits == 4:  # the database is well again
                    desk.look_up_s = 0.001
                return 0.0

        return Quick()

    async def run(self, kind: str, count: int, different: int | None = None) -> list[Delivery]:
        """Have so many queries answered, of which so many differ."""
        look_ups = LookUps(self.look_up, lambda: self.now)
        look_up_s, self.look_up_s = self.look_up_s, 0.001
        look_ups.keep_up()
        await asyncio.sleep(0.01)
        self.look_up_s = look_up_s

        async def source() -> Source:
            return Source(cast("Readers", None), look_ups)

        anything = cast("Any", self)
        pipeline = QueryPipeline(
            anything,
            anything,
            anything,
            source,
            self.database_answers,
            {kind: self.read},
            self.patience,
            anything,
            lambda: "incident",
            Places(2),
            asyncio.Semaphore(2),
            clock=lambda: self.now,
        )
        context = Context(datetime.now(UTC), lambda: "", "caller")
        deliveries = [Delivery(Handed(0, number)) for number in range(count)]
        admitted = []
        for number, delivery in enumerate(deliveries):
            delivery.kind = KINDS[kind]
            caller = Identity("", "caller", frozenset(), 0, 0)
            asking = Identified(delivery, cast("Any", None), caller, (caller.caller, ""))
            payload = cast("Any", number % (different or count))
            admitted.append(Admitted(delivery, asking.key, asking, KINDS[kind], payload, Keys(), context))
        await QueryBatch(pipeline, cast("Custody", self), anything).read(admitted)
        assert sorted(self.published) == sorted(self.acked) == list(range(count))
        assert pipeline.places._inside == 0
        assert not pipeline.look_up_places.locked()
        assert pipeline.room._held == 0
        return deliveries


def first(*errors: Exception | None) -> Script:
    """Fail so at first, then succeed."""
    return lambda _, read: errors[read - 1] if read <= len(errors) else None


TOO_SLOW = asyncpg.QueryCanceledError("canceling statement due to statement timeout")
LOCKED = asyncpg.LockNotAvailableError("canceling statement due to lock timeout")
LOST = ConnectionError("gone")
MOVED = asyncpg.UndefinedColumnError("no such column")
MEMORY = asyncpg.OutOfMemoryError("out of memory")


@pytest.mark.parametrize("kind", ["search_customers", "get_customer"])
@pytest.mark.parametrize(
    ("script", "more", "status"),
    [
        pytest.param(first(), {}, 200, id="nothing fails"),
        pytest.param(first(TOO_SLOW), {}, 200, id="ended once"),
        pytest.param(first(TOO_SLOW, TOO_SLOW), {}, 422, id="ended again, alone"),
        pytest.param(first(MEMORY, MEMORY), {}, 422, id="too much memory, again and alone"),
        pytest.param(first(TOO_SLOW, TimeoutError()), {}, 422, id="ended again, by the driver"),
        pytest.param(first(*[TOO_SLOW] * 4), {"look_up_s": 0.0051}, 200, id="slow for everybody"),
        pytest.param(first(TOO_SLOW, TOO_SLOW, TOO_SLOW), {"takes_s": 5.1}, 200, id="stood still"),
        pytest.param(first(TOO_SLOW, TOO_SLOW), {"takes_s": 4.9}, 422, id="did not stand still"),
        pytest.param(first(TOO_SLOW, LOST), {}, 200, id="lost when alone"),
        pytest.param(first(*[LOST] * 30), {}, 200, id="away"),
        pytest.param(first(*[MOVED] * 30), {}, 200, id="schema moved"),
        pytest.param(first(*[LOCKED] * int(BLOCKED_FOR_S / 3)), {}, 200, id="locked for a while"),
        pytest.param(first(*[LOCKED] * 30), {}, 422, id="locked for too long"),
        pytest.param(first(*[LOCKED, LOST] * 15), {}, 200, id="locked and away in turns"),
        pytest.param(first(ValueError()), {}, 500, id="defect"),
        pytest.param(first(TOO_SLOW, ValueError()), {}, 500, id="defect when alone"),
        pytest.param(first(), {"broker_away": 3}, 200, id="broker away"),
    ],
)
async def test_what_a_read_that_fails_comes_to(kind: str, script: Script, more: dict[str, Any], status: int) -> None:
    """Only what was ended again when it ran alone, beside usual look-ups, is too expensive; an outage is waited for."""
    desk = Desk(script, **{"takes_s": 0.001} | more)
    (delivery,) = await desk.run(kind, 1)
    match delivery.end:
        case Applied(status_code=seen):
            assert seen == status
        case Refused(error):
            assert (error.status_code, error.error_code, status) == (422, "QUERY_TOO_EXPENSIVE", 422)
            assert error.details["kind"] == kind
        case Broken():
            assert status == 500
        case other:
            pytest.fail(f"{other}")


async def test_equal_queries_are_too_expensive_together() -> None:
    """They are one read: it runs alone for all of them, and nobody halves what takes as long by halves."""
    desk = Desk(first(TOO_SLOW, TOO_SLOW))
    deliveries = await desk.run("search_customers", 5, different=1)
    assert [isinstance(one.end, Refused) and one.end.error.error_code for one in deliveries] == [
        "QUERY_TOO_EXPENSIVE"
    ] * 5
    assert desk.reads == [[0] * 5] * 2


async def test_what_is_left_out_comes_again() -> None:
    """A use case answers some, wherever they stand: these are answered once, and the others, alone, come again."""
    desk = Desk(lambda _, __: None, answers=lambda number: number % 3 == 0)
    deliveries = await desk.run("search_customers", 7)
    assert all(isinstance(one.end, Applied) for one in deliveries)
    assert desk.reads == [[0, 1, 2, 3, 4, 5, 6], [1, 2, 4, 5], [2, 4, 5], [4, 5], [5]]


async def test_among_others_equal_queries_are_found() -> None:
    """What is too expensive is told apart from its neighbours by halves, down to what is equal."""
    desk = Desk(lambda numbers, _: TOO_SLOW if 1 in numbers else None)
    deliveries = await desk.run("search_customers", 8, different=4)
    assert [isinstance(one.end, Refused) for one in deliveries] == [number % 4 == 1 for number in range(8)]


@pytest.mark.parametrize(
    ("error", "end"), [(ValueError(), Broken), (TOO_SLOW, Refused)], ids=["a defect", "too expensive"]
)
async def test_one_among_many_costs_itself(error: Exception, end: type) -> None:
    """Of two hundred look-ups that are answered together, one that fails is found by halving; only it fails."""
    desk = Desk(lambda numbers, _: error if 123 in numbers else None, takes_s=0.001)
    deliveries = await desk.run("get_customer", 200)
    assert [delivery.record.offset for delivery in deliveries if isinstance(delivery.end, end)] == [123]
    assert sum(isinstance(delivery.end, Applied) for delivery in deliveries) == 199
    assert len(desk.reads) < 2 * 9 + 2


async def test_an_outage_divides_nothing() -> None:
    """While look-ups are slow, those that are answered together stay together."""
    desk = Desk(first(*[TOO_SLOW] * 4), look_up_s=0.1)
    deliveries = await desk.run("get_customer", 200)
    assert all(isinstance(delivery.end, Applied) for delivery in deliveries)
    assert [len(read) for read in desk.reads] == [200] * 5


async def test_a_deadline_is_judged_before_each_read_when_the_database_answers() -> None:
    """Who has become late while others failed is denied, once the database answers, and is not read again."""

    def become_late(_: Sequence[int], read: int) -> Exception | None:
        desk.late |= {1, 2}
        return LOST if read < 3 else None

    desk = Desk(become_late, away=3)
    deliveries = await desk.run("get_customer", 4)
    codes = [one.end.error.error_code if isinstance(one.end, Refused) else "" for one in deliveries]
    assert codes == ["", "DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED", ""]
    assert desk.reads == [[0, 1, 2, 3], [0, 3], [0, 3]]
    assert desk.away < 0
