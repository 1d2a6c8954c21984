"""Operators' tools look into topics and groups, whatever state the cluster is in just then."""

from typing import Any

import pytest
from aiokafka.errors import (
    GroupCoordinatorNotAvailableError,
    GroupLoadInProgressError,
    KafkaError,
    NotCoordinatorForGroupError,
)

from tests.system import System
from workers.kafka.log_reader import LogReader
from workers.kafka.security import KafkaSecurity


@pytest.mark.parametrize(
    "answer", [GroupCoordinatorNotAvailableError, GroupLoadInProgressError, NotCoordinatorForGroupError]
)
async def test_a_coordinator_that_is_not_there_yet_is_waited_for(
    system: System, monkeypatch: pytest.MonkeyPatch, answer: type[KafkaError]
) -> None:
    """A cluster that was never asked for a group makes its coordinator first, which takes seconds: no refusal."""
    asked = 0
    async with LogReader(system.servers.env.kafka_bootstrap_servers, KafkaSecurity()) as reader:
        ask = reader._admin.list_consumer_group_offsets

        async def first_refused(group_id: str) -> Any:  # noqa: ANN401 - aiokafka is untyped
            nonlocal asked
            asked += 1
            if asked <= 2:
                raise answer
            return await ask(group_id)

        monkeypatch.setattr(reader._admin, "list_consumer_group_offsets", first_refused)
        assert await reader.committed("nobody", f"{system.prefix}.commands") == {}
    assert asked >= 3, "a broker of its own says so itself the first time"
