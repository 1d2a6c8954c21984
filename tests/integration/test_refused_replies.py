"""What the broker refuses for good, or what its topic loses, costs nobody but the message itself."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from tests.edge_place import Collector, Place, a_place, until
from tests.servers import Servers
from workers.kafka import producer
from workers.ports import Message


@pytest.fixture
async def place(stack: Servers) -> AsyncIterator[Place]:
    """Topics of the test's own on the session's broker."""
    async with a_place(stack.env.kafka_bootstrap_servers) as made:
        yield made


def message(topic: str, number: int, key: bytes | None) -> Message:
    """Make a reply that is told from others."""
    return Message(topic, key, b"%d" % number, [("n", b"x")])


@pytest.mark.parametrize(
    "is_bad",
    [
        lambda number: number == 0,
        lambda number: number == 29,
        lambda number: number in {3, 4, 5},
        lambda number: number % 2 == 0,
        lambda number: number != 17,
        lambda _: True,
    ],
    ids=["first", "last", "three", "every other", "all but one", "all"],
)
@pytest.mark.parametrize("partitions", [1, 3])
async def test_a_refused_reply_is_refused_alone(place: Place, is_bad: Callable[[int], bool], partitions: int) -> None:
    """Replies without a key cannot be stored in a compacted topic: these are told, all others of the batch arrive.

    Whatever came before, the next batch finds the topic open and the producer unharmed.
    """
    edge = await place.started(Collector())
    topic = await place.topic("compacted", partitions, cleanup_policy="compact")
    other = await place.topic("other")
    numbers = range(30)
    mixed = [message(topic, number, None if is_bad(number) else b"k%d" % number) for number in numbers]
    failed = await edge.replies.publish([*mixed, message(other, 99, None)])
    bad = [number for number in numbers if is_bad(number)]
    assert sorted(one.index for one in failed) == bad
    stored = sorted(int(record.value) for record in await place.stored(topic))
    assert stored == [number for number in numbers if number not in bad]
    assert [record.value for record in await place.stored(other)] == [b"99"]
    assert not await edge.replies.publish([message(topic, number, b"k") for number in range(30, 40)])
    assert len(await place.stored(topic)) == len(stored) + 10
    health = edge.health()
    assert (health.closed_reply_topics, health.fault) == (0, None)


@pytest.mark.parametrize("partitions", [1, 3])
async def test_batches_published_at_once_lose_no_reply_by_each_other(place: Place, partitions: int) -> None:
    """Lanes publish at the same time, into the same batches of a partition: whose reply is refused harms no other."""
    edge = await place.started(Collector())
    topic = await place.topic("compacted", partitions, cleanup_policy="compact")
    sent = 0
    for number in range(60):
        bad = [message(topic, 10_000 + number, None)]
        keyed = [message(topic, at, b"k%d" % at) for at in range(sent, sent + 2 + number % 4)]
        sent += len(keyed)
        good = keyed[:1], keyed[1:]
        publishing = [edge.replies.publish(batch) for batch in (good[0], bad, good[1])]
        first, refused, second = await asyncio.gather(*publishing)
        assert [one.index for one in refused] == [0]
        assert [first, second] == [[], []], number
    assert sorted(int(record.value) for record in await place.stored(topic)) == list(range(sent))


@pytest.mark.parametrize(("before", "after"), [(6, 1), (3, 2), (2, 5), (1, 1), (4, 3)])
async def test_a_reply_topic_made_anew_takes_replies_again(place: Place, before: int, after: int) -> None:
    """A topic that is deleted and made anew, with fewer or more partitions, is never closed for good.

    Replies are published all the time, so that some are under way to partitions that exist no more; once it is back,
    all of them arrive, as often as this is done.
    """
    edge = await place.started(Collector())
    name = await place.topic("anew", before)
    other = await place.topic("other")
    ended = False

    async def keep_publishing() -> int:
        number = 0
        while not ended:
            batch = [message(name, number + n, b"k%d" % n) for n in range(20)]
            failed = await edge.replies.publish([*batch, message(other, number, b"k")])
            assert all(one.index < 20 for one in failed), failed
            number += 1
        return number

    publishing = asyncio.create_task(keep_publishing())

    async def arrives() -> bool:
        return not await edge.replies.publish([message(name, n, b"k%d" % n) for n in range(20)])

    for _ in range(2):
        await until(arrives, 15)
        await place.admin.delete_topics([name])

        async def is_gone() -> bool:
            return name not in await place.admin.list_topics()

        await until(is_gone)
        await place.topic("anew", after)
        await until(arrives, 15, "the topic to take replies again")
    ended = True
    assert len(await place.stored(other)) == await publishing
    await until(lambda: edge.health().closed_reply_topics == 0, 15)


async def test_a_broker_that_names_no_record_is_asked_in_halves(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the answer does not say which record it refuses, as older brokers' do not, it is refused alone."""
    monkeypatch.setattr(producer._Request, "_spare_neighbours", lambda *_: None)
    edge = await place.started(Collector())
    topic = await place.topic("compacted", cleanup_policy="compact")
    failed = await edge.replies.publish([message(topic, n, None if n in {3, 11} else b"k") for n in range(20)])
    assert sorted(one.index for one in failed) == [3, 11]
    assert len(await place.stored(topic)) == 18
