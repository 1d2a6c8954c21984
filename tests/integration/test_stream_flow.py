"""Answers in any order, offsets in the order of the log: the edge of a query worker against a real broker."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import cast

import pytest

from tests.edge_place import PARTITIONS, Handler, Place, Seen, a_place, until
from tests.servers import Servers
from workers.kafka.edge import KafkaEdge
from workers.kafka.under_way import AT_MOST
from workers.ports import Custody, Record


@pytest.fixture
async def place(stack: Servers) -> AsyncIterator[Place]:
    """Topics of the test's own on the session's broker."""
    async with a_place(stack.env.kafka_bootstrap_servers) as made:
        yield made


@dataclass
class Answerer:
    """Answers each record at once, but those named `slow…`: these when they are let go."""

    answered: list[tuple[int, int]] = field(default_factory=list)
    held: list[Record] = field(default_factory=list)
    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    ends_at_once: bool = True
    """What is slow is given up when the partitions are taken away; else it goes on, as a read of a database does."""
    batches: int = 0
    given_up: int = 0
    fails: int = 0

    async def __call__(self, records: Sequence[Record], custody: Custody) -> None:
        self.batches += 1
        if self.fails:
            self.fails -= 1
            raise RuntimeError("a defect of the handler")
        slow = [record for record in records if (record.value or b"").startswith(b"slow")]
        self.note([record for record in records if record not in slow], custody)
        if not slow:
            return
        self.held += slow
        try:
            if self.ends_at_once:
                with custody.waiting():
                    await self.go_on.wait()
            else:
                await self.go_on.wait()
        except asyncio.CancelledError:
            self.given_up += 1
            raise
        self.note(slow, custody)

    def note(self, records: Sequence[Record], custody: Custody) -> None:
        self.answered += [(record.partition, record.offset) for record in records]
        custody.answered(records)


async def started(place: Place, handler: Answerer, seen: Seen | None = None, **more: object) -> KafkaEdge:
    """Start a worker that answers in any order."""
    edge = place.edge(cast("Handler", handler), seen, in_any_order=True, **more)
    edge.handle_by(lambda: handler)
    await asyncio.wait_for(edge.start(), 30)
    return edge


async def acked(place: Place, offset: int, partition: int = 0) -> None:
    """Wait until the group's offset is this one."""

    async def is_acked() -> bool:
        return await place.acked(partition) == offset

    await until(is_acked, what=f"offset {offset} to be acked")


async def test_what_is_slow_holds_up_nothing_but_its_offset(place: Place) -> None:
    """Batches behind a slow record, and other partitions, are answered at once; its offset is acked once it is."""
    handler = Answerer()
    edge = await started(place, handler)
    await place.send([b"1", b"slow", b"2"])
    await until(lambda: len(handler.held) == 1 and len(handler.answered) == 2)
    await place.send([b"3", b"4"])
    await place.send([b"5"], partition=1)
    await until(lambda: len(handler.answered) == 5)
    await acked(place, 1)
    await acked(place, 1, partition=1)
    assert edge.health().partitions[0].lag == 4
    handler.go_on.set()
    await acked(place, 5)
    await until(lambda: edge.health().partitions[0].lag == 0)
    assert edge.health().busy_s == 0


async def test_a_partition_pauses_and_goes_on(place: Place) -> None:
    """At 1,000 unanswered nothing more of a partition is read, while others are; when there is room, it goes on."""
    handler, more = Answerer(), 300
    edge = await started(place, handler)
    await place.send([b"slow"] * (AT_MOST + more))
    kept = 10 * (PARTITIONS - 1)
    await until(lambda: len(handler.held) == AT_MOST - kept)
    for number in range(25):  # more than is kept for it: each is answered before the next one
        await place.send([b"%d" % number], partition=1)
        await until(lambda number=number: len(handler.answered) == number + 1)  # type: ignore[misc]
    assert len(handler.held) == AT_MOST - kept
    assert edge.health().partitions[0].lag >= AT_MOST
    handler.go_on.set()
    await until(lambda: len(handler.answered) == AT_MOST + more + 25)
    await acked(place, AT_MOST + more)
    assert sorted(handler.answered)[: AT_MOST + more] == [(0, offset) for offset in range(AT_MOST + more)]


@pytest.mark.parametrize("ends_at_once", [True, False])
async def test_what_is_unanswered_at_a_handover_is_answered_by_the_next(place: Place, *, ends_at_once: bool) -> None:
    """A second worker joins: what waits is given up at once, what runs is cancelled in time; all come again."""
    first, second = Answerer(ends_at_once=ends_at_once), Answerer()
    second.go_on.set()
    seen = Seen()
    edge = await started(place, first, seen, drain_timeout_s=1.0)
    for partition in range(PARTITIONS):
        await place.send([b"1", b"slow", b"2"], partition)
    await until(lambda: len(first.answered) == 2 * PARTITIONS and len(first.held) == PARTITIONS)
    await started(place, second)
    assert first.given_up >= 1
    await until(lambda: edge.health().joined)
    first.go_on.set()
    await until(lambda: {*first.answered, *second.answered} == {(p, o) for p in range(PARTITIONS) for o in range(3)})
    for partition in range(PARTITIONS):
        await acked(place, 3, partition)
    assert False not in seen.acks


async def test_what_runs_may_end_and_counts(place: Place) -> None:
    """What ends within the drain is acked before the partitions are handed over: it comes to nobody again."""
    first, second = Answerer(ends_at_once=False), Answerer()
    edge = await started(place, first)
    await place.send([b"slow", b"slow"])
    await until(lambda: len(first.held) == 2)
    joining = asyncio.create_task(started(place, second))
    await until(lambda: not edge.health().joined, what="the revocation")
    first.go_on.set()
    await asyncio.wait_for(joining, 20)
    await place.send([b"1"] * 20, partition=None)
    await until(lambda: len(first.answered) + len(second.answered) == 22)
    assert sorted(first.answered)[:2] == [(0, 0), (0, 1)]
    assert not second.held


async def test_a_paused_partition_survives_a_handover(place: Place) -> None:
    """Whoever has a paused partition next reads all of it; whoever keeps one goes on when there is room."""
    first, second = Answerer(), Answerer()
    await started(place, first)
    for partition in range(PARTITIONS):
        await place.send([b"slow"] * 400, partition)
    await until(lambda: len(first.held) == AT_MOST)
    await started(place, second)
    first.go_on.set()
    second.go_on.set()
    everything = {(p, o) for p in range(PARTITIONS) for o in range(400)}
    await until(lambda: {*first.answered, *second.answered} == everything)
    for partition in range(PARTITIONS):
        await acked(place, 400, partition)


async def test_what_a_handler_leaves_or_breaks_comes_again(place: Place) -> None:
    """A handler that raises, and one that returns without an answer, are asked again; nothing is acked meanwhile."""
    handler, seen = Answerer(fails=1), Seen()

    class Forgetful(Answerer):
        async def __call__(self, records: Sequence[Record], custody: Custody) -> None:
            if self.batches:
                await handler(records, custody)
            self.batches += 1

    forgetful = Forgetful()
    await started(place, forgetful, seen)
    await place.send([b"1", b"2"])
    await until(lambda: len(handler.answered) == 2)
    await acked(place, 2)
    assert (forgetful.batches, handler.batches, seen.defects) == (2, 2, 1)


async def test_stopping_gives_up_what_waits(place: Place) -> None:
    """A worker that stops waits for nothing that only waits itself; the next one answers it."""
    first, second = Answerer(), Answerer()
    second.go_on.set()
    edge = await started(place, first)
    await place.send([b"1", b"slow", b"2"])
    await until(lambda: len(first.held) == 1 and len(first.answered) == 2)
    await edge.stop()
    assert first.given_up == 1
    await started(place, second)
    await until(lambda: sorted(second.answered) == [(0, 1), (0, 2)])
    await acked(place, 3)
