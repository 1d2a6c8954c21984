"""Asking the workers as any caller does, by the client for callers: `catalog send`, `catalog ask` and the demo."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, Literal

from catalog_client import SASL, TLS, CatalogClient, Envelope, NotConnected, NotSent, Refused, UnreadableReply
from contracts.topics import Topics
from workers.deployment import kafka_security, mint_token
from workers.kafka.connection import KafkaAccessError
from workers.kafka.security import KafkaSecurity
from workers.kafka.topics import TopicAdmin
from workers.settings import Settings

Side = Literal["commands", "queries"]

_REPLY_NAME: Final = "cli"
_TOKEN_LIVES: Final = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: a name and roles to mint a token for, or a token that is given."""

    sub: str
    roles: tuple[str, ...]
    token: str | None = None


@dataclass(frozen=True, slots=True)
class Asking:
    """One request. Without a key the contract's is taken, without a `message_id` a new one."""

    side: Side
    kind: str
    payload: Mapping[str, Any]
    caller: Caller
    version: int = 1
    key: str | None = None
    message_id: str | None = None


class Desk:
    """Asks on behalf of several callers."""

    def __init__(self, settings: Settings, catalog: CatalogClient) -> None:
        self._settings = settings
        self._catalog = catalog

    async def ask(self, asking: Asking, timeout_s: float) -> Envelope:
        """Ask and wait for the envelope, a refusal's too.

        Raise TimeoutError without an answer in time, KafkaAccessError where Kafka does not take the request.
        """
        caller = asking.caller

        def token() -> str:
            return caller.token or mint_token(self._settings, caller.sub, caller.roles, _TOKEN_LIVES)

        try:
            reply = await self._catalog.call(
                asking.kind,
                asking.payload,
                version=asking.version,
                side=asking.side,
                message_id=asking.message_id,
                timeout=timeout_s,
                key=asking.key,
                token=token,
            )
        except Refused as error:
            return error.envelope
        except (NotConnected, NotSent, UnreadableReply) as error:
            raise KafkaAccessError(str(error)) from error
        return reply.envelope


@asynccontextmanager
async def asking_desk(settings: Settings) -> AsyncIterator[Desk]:
    """Connect, with a reply topic that is made where it is missing; waits for a broker that is away.

    Raise KafkaAccessError when it refuses us.
    """
    kafka, security = settings.kafka, kafka_security(settings)
    reply_topic = Topics(kafka.topic_prefix).replies + _REPLY_NAME
    async with TopicAdmin(kafka.bootstrap_servers, security, f"catalog-client-{_REPLY_NAME}") as admin:
        await admin.create_reply_topic(reply_topic)
    catalog = CatalogClient(
        kafka.bootstrap_servers,
        token="",  # each request has its caller's
        name=_REPLY_NAME,
        prefix=kafka.topic_prefix,
        reply_topic=reply_topic,
        tls=_tls(security),
        sasl=_sasl(security),
    )
    try:
        await catalog.__aenter__()
    except NotConnected as error:
        raise KafkaAccessError(str(error)) from error
    try:
        yield Desk(settings, catalog)
    finally:
        await catalog.__aexit__()


async def ask_one(settings: Settings, asking: Asking, timeout_s: float) -> Envelope:
    """Connect and ask once; raises as `Desk.ask` does, TimeoutError also while Kafka is away."""
    async with asyncio.timeout(timeout_s), asking_desk(settings) as desk:
        return await desk.ask(asking, timeout_s)


def _tls(security: KafkaSecurity) -> TLS | None:
    if not security.protocol.endswith("SSL"):
        return None
    return TLS(
        ca_file=security.cafile,
        certificate_file=security.certfile,
        key_file=security.keyfile,
        key_password=security.keyfile_password,
    )


def _sasl(security: KafkaSecurity) -> SASL | None:
    if security.mechanism is None or not security.protocol.startswith("SASL"):
        return None
    source = security.token_source()
    return SASL(
        mechanism=security.mechanism,
        username=security.username,
        password=security.password,
        token=source.token if source is not None else None,
    )
