"""What a command does while a server does not answer."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import pytest

from workers import attendance
from workers.attendance import Server, ServerAwayError, attended


@dataclass
class Scene:
    """A server that answers or not, a clock that moves a second with each look, and what was said."""

    answers: Callable[[int], bool]
    looks: int = 0
    said: list[str] = field(default_factory=list)
    done: list[str] = field(default_factory=list)

    def clock(self) -> float:
        return float(self.looks)

    async def why_away(self) -> str | None:
        self.looks += 1
        return None if self.answers(self.looks) else "nothing listens there"

    async def attend(self, work: Callable[[], Awaitable[str]], give_up_s: float | None = 60) -> str:
        """Do some work beside the server."""

        async def tracked() -> str:
            self.done.append("begun")
            result = await work()
            self.done.append("ended")
            return result

        server = Server("Kafka at k:9092", self.why_away)
        return await attended([server], tracked, give_up_s, self.said.append, self.clock)


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attendance, "LOOK_EVERY_S", 0.001)


async def quick() -> str:
    """Work that takes no time."""
    return "result"


async def for_ever() -> str:
    """Work that gets nowhere."""
    await asyncio.Event().wait()
    return "never"


async def test_nothing_is_said_while_all_answer() -> None:
    """The work begins after one look, and its result is returned."""
    scene = Scene(lambda _: True)
    assert await scene.attend(quick) == "result"
    assert (scene.said, scene.looks) == ([], 1)


async def test_a_server_that_comes_back_is_waited_for() -> None:
    """It is said once for what; the work begins when it answers, and not before."""
    scene = Scene(lambda look: look > 20)
    assert await scene.attend(quick) == "result"
    assert scene.said == [
        "waiting for Kafka at k:9092: nothing listens there; giving up after 60 s",
        "Kafka at k:9092 answers",
    ]


async def test_a_server_that_stays_away_is_given_up_on() -> None:
    """After the time, and the work never begins."""
    scene = Scene(lambda _: False)
    with pytest.raises(ServerAwayError, match=r"Kafka at k:9092 did not answer for 60 s \(WAIT_TIMEOUT_S\): nothing"):
        await scene.attend(quick)
    assert (scene.done, len(scene.said)) == ([], 1)
    assert 60 <= scene.looks <= 63


async def test_one_that_goes_away_meanwhile_ends_the_work() -> None:
    """Work that would wait for ever is cancelled, after the server has been away for the whole time at a stretch."""
    scene = Scene(lambda look: look < 5 or look == 30)
    with pytest.raises(ServerAwayError):
        await scene.attend(for_ever)
    assert scene.looks >= 90
    assert (scene.done, len(scene.said)) == (["begun"], 3)


async def test_work_that_makes_progress_goes_on() -> None:
    """However long it takes, while the servers answer."""
    scene = Scene(lambda _: True)

    async def long() -> str:
        while scene.looks < 200:  # noqa: ASYNC110 - a count of looks is what is waited for
            await asyncio.sleep(0)
        return "result"

    assert await scene.attend(long) == "result"
    assert scene.said == []


async def test_work_that_finds_out_by_itself_begins_at_once() -> None:
    """The doctor is not kept from its work: what is away is told, and nothing is given up."""
    scene = Scene(lambda _: False)

    async def long() -> str:
        while scene.looks < 100:  # noqa: ASYNC110
            await asyncio.sleep(0)
        return "result"

    assert await scene.attend(long, None) == "result"
    assert scene.said == ["waiting for Kafka at k:9092: nothing listens there"]


async def test_what_the_work_raises_is_raised() -> None:
    """Its own errors are told as they are."""

    async def broken() -> str:
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        await Scene(lambda _: True).attend(broken)


async def test_a_server_that_hangs_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its connection stands and no answer comes: a look has an end of its own."""
    monkeypatch.setattr(attendance, "LOOK_TIMEOUT_S", 0.01)
    said: list[str] = []

    async def silent() -> str | None:
        await asyncio.Event().wait()
        return None

    with pytest.raises(ServerAwayError):
        await attended([Server("PostgreSQL at p:5432", silent)], quick, 0.05, said.append)
    assert said[0].startswith("waiting for PostgreSQL at p:5432: no answer within")
