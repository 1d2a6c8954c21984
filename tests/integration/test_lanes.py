"""Lanes: consumers of one worker that share nothing of a batch, as if each were a replica of its own."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import pytest

from tests.edge_place import PARTITIONS, Collector, Gate, Place, Seen, a_place, all_of, until
from tests.servers import Servers
from tests.system import System
from workers.liveness import stuck_because
from workers.ports import Progress, Record


@pytest.fixture
async def place(stack: Servers) -> AsyncIterator[Place]:
    """Topics of the test's own on the session's broker."""
    async with a_place(stack.env.kafka_bootstrap_servers) as made:
        yield made


@dataclass
class Meeting:
    """A handler of all lanes: a batch waits until another one is under way as well, and all go on together."""

    running: list[set[int]] = field(default_factory=list)
    most: int = 0
    overlapped: bool = False
    records: list[Record] = field(default_factory=list)

    async def __call__(self, records: Sequence[Record], _: Callable[[], bool]) -> Progress:
        mine = {record.partition for record in records}
        self.overlapped |= any(mine & other for other in self.running)
        self.running.append(mine)
        self.most = max(self.most, len(self.running))
        await until(lambda: self.most >= 2, what="another batch beside this one")
        self.running.remove(mine)
        self.records += records
        return Progress(all_of(records))


async def test_lanes_work_beside_each_other(place: Place) -> None:
    """Two lanes have all partitions between them, and a batch each under way at once, never of one partition."""
    meeting, seen = Meeting(), Seen()
    edge = await place.started(meeting, seen, lanes=2)

    def shares() -> list[set[tuple[str, int]]]:
        return [{one.position for one in lane.partitions()} for lane in edge.lanes]

    await until(lambda: [len(share) for share in shares()] == [PARTITIONS // 2] * 2, what="all partitions, shared out")
    assert len(set.union(*shares())) == PARTITIONS
    assert [one.position[1] for one in edge.health().partitions] == [*range(PARTITIONS)]

    for number in range(PARTITIONS):
        await place.send([b"%d" % at for at in range(20)], partition=number)
    await until(lambda: len(meeting.records) == 20 * PARTITIONS)

    assert meeting.most >= 2
    assert not meeting.overlapped


class Noted(asyncio.Event):
    """An event that tells whether anybody has come to wait for it."""

    is_awaited = False

    async def wait(self) -> Literal[True]:
        """Wait, and say so."""
        self.is_awaited = True
        return await super().wait()


async def test_no_lane_begins_before_all_have_joined(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lane that has joined first leaves the backlog alone until the last has: its batch would only be drained."""
    for number in range(PARTITIONS):
        await place.send([b"%d" % at for at in range(50)], partition=number)
    collector, begins, last_may_join = Collector(), Noted(), asyncio.Event()
    edge = place.edge(collector, lanes=2)
    first, last = edge.lanes
    first.flow.may_fetch = begins
    join = last.start

    async def join_late(topic_id: str) -> None:
        await last_may_join.wait()
        await join(topic_id)

    monkeypatch.setattr(last, "start", join_late)
    starting = asyncio.create_task(edge.start())
    await until(lambda: bool(collector.records) or begins.is_awaited, what="the first lane to have joined")
    assert not collector.records
    last_may_join.set()
    await asyncio.wait_for(starting, 30)
    await until(lambda: len(collector.records) == 50 * PARTITIONS)


async def test_one_lane_waits_while_the_other_goes_on(place: Place) -> None:
    """A batch that is held up holds up its own lane; a worker of which one lane is stuck is stuck."""
    gate, collector = Gate(), Collector()
    edge = place.edge(collector, lanes=2)
    edge.lanes[0].handler = gate
    await asyncio.wait_for(edge.start(), 30)
    for number in range(PARTITIONS):
        await place.send([b"%d" % number], partition=number)
    await gate.entered.wait()
    theirs = {one.position[1] for one in edge.lanes[1].partitions()}
    await until(lambda: {record.partition for record in collector.records} == theirs)

    health = edge.health()
    assert health.busy_s > 0
    assert stuck_because(health, None, 0.0) is not None
    gate.go_on.set()
    await until(lambda: edge.health().busy_s == 0)
    assert stuck_because(edge.health(), None, 0.0) is None


async def test_stop_drains_every_lane(place: Place) -> None:
    """Stopping lets the running batch of each lane end and be acknowledged."""
    gates, seen = [Gate(), Gate()], Seen()
    edge = place.edge(Collector(), seen, lanes=2)
    for lane, gate in zip(edge.lanes, gates, strict=True):
        lane.handler = gate
    await asyncio.wait_for(edge.start(), 30)
    for number in range(PARTITIONS):
        await place.send([b"1"], partition=number)
    await asyncio.gather(*(gate.entered.wait() for gate in gates))
    stopping = asyncio.create_task(edge.stop())
    await until(lambda: not any(lane.is_joined for lane in edge.lanes))
    for gate in gates:
        gate.go_on.set()
    await stopping

    assert [gate.cancelled for gate in gates] == [0, 0]
    decided = {record.partition for gate in gates for record in gate.records}
    assert {number for number in range(PARTITIONS) if await place.acked(number) == 1} == decided != set()


async def test_only_the_lane_that_is_dead_is_replaced(place: Place) -> None:
    """The other one's consumer goes on; both have partitions again in the end."""
    seen, collector = Seen(), Collector()
    edge = await place.started(collector, seen, lanes=2)
    dead, alive = (lane._subscriber for lane in edge.lanes)
    before, kept = dead.consumer, alive.consumer
    assert before is not None
    before._fetcher._fetch_task.cancel()
    await until(lambda: "consumer" in seen.errors)
    await until(lambda: all(lane.partitions() for lane in edge.lanes))
    for number in range(PARTITIONS):
        await place.send([b"%d" % number], partition=number)
    await until(lambda: len(collector.records) == PARTITIONS)

    assert dead.consumer is not before
    assert alive.consumer is kept
    assert seen.errors == ["consumer"]


@pytest.mark.parametrize(
    ("lanes", "names"), [(1, ["blue"]), (2, ["blue-1", "blue-2"]), (3, ["blue-1", "blue-2", "blue-3"])]
)
async def test_static_members_have_names_of_their_own(place: Place, lanes: int, names: list[str]) -> None:
    """With KAFKA_GROUP_INSTANCE_ID each lane of several is a member by its own name, and all of them join."""
    edge = await place.started(Collector(), lanes=lanes, group_instance_id="blue")
    joined = [lane._subscriber.consumer._coordinator._group_instance_id for lane in edge.lanes]  # type: ignore[union-attr]
    assert joined == names
    assert edge.health().joined
    assert len(edge.health().partitions) == PARTITIONS


async def test_more_lanes_than_partitions(place: Place) -> None:
    """A lane without partitions waits as a spare, and takes over when the others go."""
    collector = Collector()
    edge = await place.started(collector, lanes=PARTITIONS + 1)
    assert edge.health().joined
    assert sorted(len(lane.partitions()) for lane in edge.lanes) == [0, *([1] * PARTITIONS)]
    assert edge.health().stuck_s == 0
    await place.send([b"1"], partition=0)
    await until(lambda: collector.values() == [b"1"])


@pytest.mark.parametrize(("lanes", "size", "overflow"), [("2", "1", "0"), ("5", "2", "2"), ("11", "5", "5")])
async def test_a_pool_too_small_for_the_lanes_refuses_to_start(
    system: System, lanes: str, size: str, overflow: str
) -> None:
    """One line names both, before anything is waited for."""
    settings = {"COMMAND_LANES": lanes, "DB_POOL_SIZE": size, "DB_MAX_OVERFLOW": overflow}
    worker = await system.start(ready=False, **settings)
    assert await worker.ended() == 1
    (line,) = [one for one in worker.log.read_text().splitlines() if "COMMAND_LANES" in one]
    assert f"COMMAND_LANES is {lanes}" in line
    assert "DB_POOL_SIZE" in line
    assert "Traceback" not in worker.log.read_text()


async def test_as_many_connections_as_lanes_are_enough(system: System) -> None:
    """Two lanes on a pool of two start, and apply what both of them are sent."""
    worker = await system.start(DB_POOL_SIZE="2", DB_MAX_OVERFLOW="0")
    replies = [
        await system.command("create_customer", {"name": "Ada", "email": f"a{number}@example.com"}, key=f"k{number}")
        for number in range(2 * system.partitions)
    ]
    assert {reply.status for reply in replies} == {201}
    metrics = await system.metrics(worker)
    assert metrics["catalog_assigned_partitions"] == system.partitions
