"""Places in turns, room for answers, and look-ups that tell a slow query from a slow database."""

import asyncio
from collections import Counter
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.pipeline.look_ups import EVERY_S, KEPT, LookUps
from workers.pipeline.places import Places, Room


@dataclass
class Hall:
    """Reads that take as long as the test says, on a clock of its own."""

    places: Places
    now: float = 0.0
    order: list[str] = field(default_factory=list)
    inside: dict[str, asyncio.Event] = field(default_factory=dict)
    most: int = 0

    async def read(self, caller: str, name: str, *, alone: bool = False) -> None:
        place = await self.places.enter(caller, alone=alone)
        try:
            self.order.append(name)
            self.inside[name] = asyncio.Event()
            self.most = max(self.most, len(self.inside))
            if alone:
                assert len(self.inside) == 1
            await self.inside[name].wait()
        finally:
            del self.inside[name]
            self.places.leave(place)

    async def end(self, name: str, after_s: float) -> None:
        self.now += after_s
        self.inside[name].set()
        await settle()


def hall(at_once: int) -> Hall:
    """Make so many places."""
    made = Hall(Places(at_once))
    made.places = Places(at_once, lambda: made.now)
    return made


async def settle() -> None:
    """Let everything that can go on do so."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_one_caller_s_many_do_not_come_before_another_s_one() -> None:
    """Two hundred reads of one caller wait; another one's, asked for after all of them, is the next."""
    one = hall(2)
    tasks = [asyncio.create_task(one.read("many", f"many-{number}")) for number in range(200)]
    await settle()
    tasks.append(asyncio.create_task(one.read("single", "single")))
    await settle()
    assert one.order == ["many-0", "many-1"]
    await one.end("many-0", 0.3)
    assert one.order[2:] == ["single"]
    while one.inside:
        await one.end(next(iter(one.inside)), 0.3)
    assert one.order[3:] == [f"many-{number}" for number in range(2, 200)]
    assert one.most == 2
    await asyncio.gather(*tasks)


async def test_turns_are_by_time_and_not_by_number() -> None:
    """Beside reads of a second, another caller's of 10 ms have as much time: about a hundred for each."""
    one = hall(1)
    tasks = [asyncio.create_task(one.read("dear", f"dear-{number}")) for number in range(10)]
    tasks += [asyncio.create_task(one.read("cheap", f"cheap-{number}")) for number in range(500)]
    await settle()
    while len(one.order) < 400:
        (name,) = one.inside
        await one.end(name, 1.0 if name.startswith("dear") else 0.01)
    assert 3 <= Counter(name.split("-")[0] for name in one.order)["dear"] <= 6
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_alone_is_alone_and_comes_next() -> None:
    """Who has to be alone waits for those inside and holds up those who come later, and is then the only one."""
    one = hall(3)
    tasks = [asyncio.create_task(one.read("a", name)) for name in ("a-0", "a-1", "a-2", "a-3")]
    await settle()
    tasks.append(asyncio.create_task(one.read("a", "a-alone", alone=True)))
    await settle()
    await one.end("a-0", 0.1)
    assert one.order == ["a-0", "a-1", "a-2"]
    await one.end("a-1", 0.1)
    await one.end("a-2", 0.1)
    assert list(one.inside) == ["a-alone"]
    tasks.append(asyncio.create_task(one.read("b", "b-0")))
    await settle()
    assert list(one.inside) == ["a-alone"]
    await one.end("a-alone", 1.0)
    assert one.order[-2:] == ["b-0", "a-3"]
    for name in ("b-0", "a-3"):
        await one.end(name, 0.1)
    await asyncio.gather(*tasks)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans(), st.integers(0, 3)), min_size=1, max_size=30))
def test_no_place_is_lost(steps: list[tuple[str, bool, int]]) -> None:
    """Whoever is cancelled, waiting or just let in, takes no place with it: all others come in, and all leave."""

    async def run() -> None:
        one = hall(2)
        tasks: list[asyncio.Task[None]] = []
        for number, (caller, alone, what) in enumerate(steps):
            tasks.append(asyncio.create_task(one.read(caller, f"{number}", alone=alone)))
            if what > 0:
                await settle()
            if what == 2 and one.inside:
                next(iter(one.inside.values())).set()  # and no time to notice, before:
            if what >= 2:
                tasks[number // 2].cancel()
        for _ in range(len(steps) + 1):
            await settle()
            for event in list(one.inside.values()):
                event.set()
        await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 10)
        last = asyncio.create_task(one.read("d", "last", alone=True))
        await settle()
        await one.end("last", 0.1)
        await last

    asyncio.run(run())


async def test_room_is_bounded_and_given_in_turn() -> None:
    """Answers beyond the bound wait, the first first; one larger than all of it fits alone; a cancelled one is gone."""
    room, order = Room(100), list[int]()

    async def take(size: int) -> None:
        await room.take(size)
        order.append(size)

    tasks = [asyncio.create_task(take(size)) for size in (60, 50, 500, 40)]
    await settle()
    assert order == [60]
    room.give(60)
    await settle()
    assert order == [60, 50]
    tasks[2].cancel()
    await settle()
    assert order == [60, 50, 40]
    tasks.append(asyncio.create_task(take(500)))
    room.give(50)
    room.give(40)
    await settle()
    assert order == [60, 50, 40, 500]
    await asyncio.gather(*tasks, return_exceptions=True)


# Look-ups -------------------------------------------------------------------------------------------------------------


@dataclass
class Database:
    """Look-ups that take what the test says; None: they fail."""

    look_up_s: float | None = 0.001
    now: float = 0.0
    looked_up: int = 0

    async def look_up(self) -> float:
        self.looked_up += 1
        await asyncio.sleep(0)
        if self.look_up_s is None:
            raise ConnectionError
        return self.look_up_s

    def look_ups(self) -> LookUps:
        return LookUps(self.look_up, lambda: self.now)


async def measured(database: Database, seconds: int) -> LookUps:
    """So many seconds of traffic went by."""
    look_ups = database.look_ups()
    await keep_up(look_ups, database, seconds)
    return look_ups


async def keep_up(look_ups: LookUps, database: Database, seconds: int) -> None:
    """Let so many seconds of traffic go by."""
    for _ in range(seconds):
        for _ in range(3):
            look_ups.keep_up()
        await settle()
        database.now += EVERY_S


async def fails() -> None:
    """A read that takes a while, then is ended by the server."""
    await asyncio.sleep(0.5)
    raise TimeoutError


@pytest.mark.parametrize(
    ("now_s", "usual"),
    [(0.001, True), (0.005, True), (0.0051, False), (0.01, False), (2.0, False), (None, False)],
)
async def test_five_times_the_median_is_usual(now_s: float | None, *, usual: bool) -> None:
    """Beside a read that failed, look-ups at most five times their median are usual; slower, or failing, not."""
    database = Database()
    look_ups = await measured(database, 10)
    database.look_up_s = now_s
    error, are_usual = await look_ups.beside(fails())
    assert isinstance(error, TimeoutError)
    assert are_usual is usual
    assert await look_ups.are_usual() is usual


async def test_a_database_that_recovers_meanwhile_blames_nobody() -> None:
    """Look-ups that were slow in one half of a read, at its begin or at its end, are not usual."""
    for first_s, then_s in ((0.1, 0.001), (0.001, 0.1)):
        database = Database()
        look_ups = await measured(database, 10)
        database.look_up_s = first_s

        async def changes(database: Database = database, then_s: float = then_s) -> None:
            await asyncio.sleep(0.3)
            database.look_up_s = then_s
            await asyncio.sleep(0.3)
            raise TimeoutError

        _, are_usual = await look_ups.beside(changes())
        assert not are_usual


async def test_a_database_that_becomes_slow_was_not_always_so() -> None:
    """A minute of slow look-ups, twenty seconds after the start, changes nothing; more than five minutes do."""
    database = Database()
    look_ups = await measured(database, 20)
    database.look_up_s = 0.01
    await keep_up(look_ups, database, 60)
    assert not await look_ups.are_usual()
    await keep_up(look_ups, database, KEPT // 2)
    assert await look_ups.are_usual()


async def test_look_ups_cost_one_a_second() -> None:
    """However many queries come, one is looked up a second (five the first time)."""
    database = Database()
    await measured(database, 30)
    assert database.looked_up == 5 + 29


async def test_nothing_is_usual_before_anything_was_measured() -> None:
    """Without a median nobody is blamed."""
    assert not await Database().look_ups().are_usual()


async def test_a_read_that_succeeds_is_not_held_up_by_a_look_up() -> None:
    """What comes of a read is returned as soon as it is there, though a look-up beside it never ends."""

    async def never() -> float:
        await asyncio.Event().wait()
        return 0.0

    async def read() -> str:
        await asyncio.sleep(0.2)
        return "rows"

    assert await asyncio.wait_for(LookUps(never).beside(read()), 10) == ("rows", True)


async def test_a_read_that_is_given_up_ends() -> None:
    """Cancelling the wait cancels the read, which has ended by then."""
    ended = asyncio.Event()

    async def read() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    waiting: Coroutine[Any, Any, object] = Database().look_ups().beside(read())
    task = asyncio.create_task(waiting)
    await settle()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert ended.is_set()
