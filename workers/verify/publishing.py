"""The load of `catalog verify` on a deployment's topics."""

import asyncio
import signal
import uuid
from collections.abc import Mapping, Sequence
from datetime import timedelta

from contracts.topics import Topics
from workers.deployment import kafka_security, mint_token
from workers.kafka.raw_caller import NotPublishedError, RawCaller
from workers.ports import BrokerAwayError
from workers.settings import Settings
from workers.verify.run import Account, Plan, Verification


class _Publishing:
    """Publishes for `catalog verify`; replies come to the client's own topic."""

    def __init__(self, requests: RawCaller, topics: Topics) -> None:
        self._requests = requests
        self._topics = topics

    async def publish(self, side: str, key: str, body: bytes, headers: Sequence[tuple[str, bytes]]) -> None:
        topic = self._topics.commands if side == "commands" else self._topics.queries
        try:
            await self._requests.publish(
                topic, key.encode(), body, [*headers, ("reply_to", self._requests.reply_to.encode())]
            )
        except NotPublishedError as error:  # a request topic that takes nothing for a while is an outage, too
            raise BrokerAwayError(str(error)) from error


async def verify(settings: Settings, plan: Plan) -> Account:
    """Publish a load, read every reply, account for each send."""
    kafka = settings.kafka
    tokens: dict[tuple[str, tuple[str, ...]], str] = {}

    def token(sub: str, roles: tuple[str, ...]) -> str:
        if (sub, roles) not in tokens:
            tokens[sub, roles] = mint_token(settings, sub, roles, timedelta(hours=12))
        return tokens[sub, roles]

    verification: Verification | None = None

    def on_reply(headers: Mapping[str, str], body: bytes) -> None:
        if verification is not None:
            verification.on_reply(headers, body)

    security, name = kafka_security(settings), f"verify-{uuid.uuid4().hex[:8]}"
    async with RawCaller(kafka.bootstrap_servers, kafka.topic_prefix, name, security, on_reply) as requests:
        verification = Verification(_Publishing(requests, Topics(kafka.topic_prefix)), token, plan)
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, verification.stop)
        return await verification()
