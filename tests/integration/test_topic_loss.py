"""What goes away with a topic, or with a check of the start, while the edge reads."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

import pytest
from aiokafka.admin import NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from tests.edge_place import Gate, Place, Seen, a_place, until
from tests.servers import Servers
from workers.kafka.edge import KafkaEdge
from workers.ports import Position

OUTCOMES_KEPT: Final = timedelta(days=30)
OLD, OLD_BYTES = 20, 200_000
"""Records of the topic before: more than one fetch brings, each within its limits."""


@dataclass
class Losses(Seen):
    """Counts what is told of topics."""

    lost: dict[Position, int] = field(default_factory=dict)
    fit: list[bool] = field(default_factory=list)

    def on_lost(self, position: Position, messages: int) -> None:
        self.lost[position] = self.lost.get(position, 0) + messages

    def on_topics(self, *, fit: bool) -> None:
        self.fit.append(fit)


@pytest.fixture
async def place(stack: Servers) -> AsyncIterator[Place]:
    """Topics of the test's own on the session's broker."""
    async with a_place(stack.env.kafka_bootstrap_servers) as made:
        yield made


async def make_anew(place: Place) -> None:
    """Delete the commands' topic and make it anew, as soon as the broker lets us."""
    await place.admin.delete_topics([place.commands])
    config = {"message.timestamp.type": "LogAppendTime", "max.message.bytes": "1048576"}

    async def made() -> bool:
        response = await place.admin.create_topics([NewTopic(place.commands, 1, 1, topic_configs=config)])
        return bool(response.topic_errors[0][1] == 0)

    await until(made)
    await place.producer.client.force_metadata_update()


async def test_a_deleted_topic_is_accounted_for_to_its_last_known_end(place: Place) -> None:
    """What was fetched of it is decided, though nothing of it is acked; the rest that was seen is told as lost."""
    gate, seen = Gate(), Losses()
    await place.send([bytes(OLD_BYTES)] * OLD)
    edge = await place.started(gate, seen)
    await gate.entered.wait()

    def knows_the_end() -> bool:
        reach = edge.lanes[0].flow._reach._of.get((place.commands, 0))
        return reach is not None and reach.end == OLD

    await until(knows_the_end)
    await make_anew(place)
    gate.go_on.set()

    def accounted_for() -> int:
        decided = len([record for record in gate.records if len(record.value or b"") == OLD_BYTES])
        return decided + seen.lost.get((place.commands, 0), 0)

    await until(lambda: accounted_for() == OLD, 30)
    assert 0 < seen.lost[place.commands, 0] < OLD
    await place.send([b"new"] * 3)
    await until(lambda: [record.value for record in gate.records].count(b"new") == 3)
    assert [record.offset for record in gate.records if record.value == b"new"] == [0, 1, 2]
    await until(lambda: is_acked(edge, 3))


def is_acked(edge: KafkaEdge, offset: int) -> bool:
    """Whether the first partition is decided as far as that."""
    return any(one.position[1] == 0 and one.next_offset == offset for one in edge.health().partitions)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("message.timestamp.type", "CreateTime"),
        ("retention.ms", "-1"),
        ("retention.ms", str(400 * 86_400_000)),
        ("max.message.bytes", "5000000"),
    ],
)
async def test_a_check_of_the_start_that_fails_later_is_told(place: Place, name: str, value: str) -> None:
    """A setting that would have forbidden the start is told while running, by its name; the worker goes on."""
    gate, seen = Gate(), Losses()
    gate.go_on.set()
    edge = await place.started(gate, seen, outcomes_kept=OUTCOMES_KEPT)
    await edge._check_again()
    await place.admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, place.commands, configs={name: value})])

    async def is_told() -> bool:
        await edge._check_again()
        return seen.fit[-1] is False

    await until(is_told)
    assert seen.fit[0] is True
    await place.send([b"still"])
    await until(lambda: [record.value for record in gate.records] == [b"still"])
