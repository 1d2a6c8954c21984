"""What is done to a topic from outside while workers run."""

import time

import pytest
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from tests.system import System


async def configure(system: System, topic: str, **settings: str) -> None:
    """Set a topic's settings, as an operator does by Kafka's own tools."""
    config = {name.replace("_", "."): value for name, value in settings.items()}
    await system.admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, configs=config)])


@pytest.mark.parametrize("groups", [0, 157, 290])
async def test_a_token_may_fill_what_the_other_headers_leave(system: System, groups: int) -> None:
    """A token of 15 KB, full of groups, is as good as a short one."""
    await system.start("commands")
    names = [f"a-group-with-a-long-name-{number:012}" for number in range(groups)]
    token = system.token(groups=names)
    assert len(token) > groups * 50
    reply = await system.command("create_customer", {"name": "Ada", "email": "ada@example.com"}, token=token)
    assert reply.status == 201, reply.envelope


async def test_a_message_that_the_broker_did_not_stamp(system: System) -> None:
    """On a topic that was set to CreateTime nobody knows when a message was sent: no token can be judged.

    It is answered 401 and dead-lettered, whatever time it claims and however good its token is; when the topic is right
    again, messages are applied again.
    """
    await system.start("commands", LOG_LEVEL="ERROR")
    topic = f"{system.prefix}.commands"
    created = {"name": "Ada", "email": "ada@example.com"}
    await configure(system, topic, message_timestamp_type="CreateTime", max_message_bytes="1048576")
    now = int(time.time())
    tokens = [
        system.token(exp=now - 2 * 86_400),
        system.token(),
        system.token(exp=now + 1),
        system.token(nbf=now + 86_400),
        "no.token.atall",
    ]
    sent = [
        await system.send("commands", {"kind": "create_customer", "payload": created}, token=token) for token in tokens
    ]
    for correlation_id in sent:
        reply = await system.reply(correlation_id)
        assert (reply.status, reply.code) == (401, "UNAUTHENTICATED"), reply.envelope
    letters = await system.letters(len(tokens))
    assert {headers["dlq.reason"] for _, headers in letters} == {"UNAUTHENTICATED"}
    await configure(system, topic, message_timestamp_type="LogAppendTime", max_message_bytes="1048576")
    assert (await system.command("create_customer", created)).status == 201
