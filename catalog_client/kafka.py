"""The broker's edge: a producer for requests, a reader of the reply topic, which is made where it is missing."""

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition, errors
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.conn import CloseReason, collect_hosts, create_conn
from aiokafka.protocol.metadata import MetadataRequest

from catalog_client.errors import NotConnected
from catalog_client.requests import Record
from catalog_client.wire import NotTakenError, OnReply

CONNECT_TIMEOUT_S: Final = 30.0
"""So long a broker that is away is waited for at the start."""
_ATTEMPT_S: Final = 5.0
_AGAIN_S: Final = 0.5
_REQUEST_S: Final = 10.0
"""What a broker may take for an answer; a record that it did not take within this time is repeated by us."""
_POLL_S: Final = 1.0
_REPLIES_KEPT_MS: Final = str(60 * 60 * 1000)

_REFUSALS: Final = (
    errors.SaslAuthenticationFailed,
    errors.AuthenticationFailedError,
    errors.AuthenticationMethodNotSupported,
    errors.UnsupportedSaslMechanismError,
    errors.IllegalSaslStateError,
)
_FINAL: Final = (
    errors.MessageSizeTooLargeError,
    errors.TopicAuthorizationFailedError,
    errors.ClusterAuthorizationFailedError,
    errors.UnknownTopicOrPartitionError,
    errors.InvalidTopicError,
    errors.RecordTooLargeError,
    errors.RecordListTooLargeError,
    errors.ProducerClosed,
)
"""What another try would not change."""
_TLS_MISFITS: Final = ("WRONG_VERSION_NUMBER", "UNSUPPORTED_PROTOCOL", "HANDSHAKE_FAILURE", "CERTIFICATE", "UNKNOWN_CA")
_BROKEN: Final = (CloseReason.CONNECTION_BROKEN, CloseReason.CONNECTION_TIMEOUT, CloseReason.OUT_OF_SYNC)
_NOT_THERE: Final = (errors.UnknownTopicOrPartitionError.errno, errors.InvalidTopicError.errno)
_FORBIDDEN: Final = errors.TopicAuthorizationFailedError.errno

_log: Final = logging.getLogger("catalog_client")


class KafkaWire:
    """Publishes and reads replies over Kafka. It needs no consumer group, and so no right on one."""

    def __init__(
        self, servers: str, client_id: str, options: dict[str, Any], reply_topic: str, *, makes: bool, deletes: bool
    ) -> None:
        """Connect nothing yet. `makes`: the reply topic, where it is missing; `deletes`: it at the end."""
        self.reply_topic: Final = reply_topic
        self._servers = servers
        self._client_id = client_id
        self._options = options
        self._makes = makes
        self._deletes = deletes
        self._producer: AIOKafkaProducer | None = None
        self._consumer: AIOKafkaConsumer | None = None
        self._reading: asyncio.Task[None] | None = None
        self._on_lost: Callable[[], None] = lambda: None

    async def start(self) -> None:
        """Connect. Raise NotConnected where that cannot be."""
        await self._reach()
        producer = AIOKafkaProducer(
            bootstrap_servers=self._servers,
            client_id=self._client_id,
            acks="all",
            request_timeout_ms=int(_REQUEST_S * 1000),
            **self._options,
        )
        try:
            await producer.start()
        except BaseException as error:
            await producer.stop()
            if isinstance(error, errors.KafkaError):
                raise NotConnected(f"Kafka at {self._servers} cannot be used: {_plain(error)}") from error
            raise
        self._producer = producer
        self._watch(producer.client)

    async def stop(self) -> None:
        """Disconnect; what was handed over is published first."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait({self._reading})
        if self._consumer is not None:
            await self._consumer.stop()
        if self._producer is not None:
            await self._producer.stop()
        if self._deletes and self._reading is not None:
            with suppress(errors.KafkaError, OSError):
                async with self._admin() as admin:
                    await admin.delete_topics([self.reply_topic])

    # Publishing ------------------------------------------------------------------------------------------------------
    async def publish(self, record: Record) -> asyncio.Future[Any]:
        """Hand a record over; the future is done when the broker has it. Raise NotTakenError."""
        assert self._producer is not None  # noqa: S101 - started
        try:
            handed: asyncio.Future[Any] = await self._producer.send(
                record.topic, record.body, record.key, headers=record.headers
            )
        except errors.KafkaError as error:
            raise self.explained(error) from error
        return handed

    def explained(self, error: BaseException) -> NotTakenError:
        """Say why a record was not taken."""
        if isinstance(error, errors.TopicAuthorizationFailedError):
            return NotTakenError("Kafka does not allow it: WRITE on the topic is missing", is_final=True)
        if isinstance(error, errors.UnknownTopicOrPartitionError):
            return NotTakenError("the topic does not exist: is the prefix right?", is_final=True)
        return NotTakenError(_plain(error), is_final=isinstance(error, _FINAL))

    # Replies ---------------------------------------------------------------------------------------------------------
    async def listen(self, on_reply: OnReply, on_lost: Callable[[], None]) -> None:
        """Read the reply topic from its present end. Raise NotConnected.

        A broker that went away since the start is waited for, as one that is away at the start.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + CONNECT_TIMEOUT_S
        while True:
            try:
                async with asyncio.timeout_at(end):
                    await self._have_reply_topic()
                    consumer, ends = await self._reader()
                break
            except (errors.KafkaError, OSError, TimeoutError) as error:
                is_forbidden = isinstance(error, errors.TopicAuthorizationFailedError)
                if is_forbidden or isinstance(error, _REFUSALS) or loop.time() >= end:
                    reason = "READ on it is missing" if is_forbidden else _plain(error)
                    raise NotConnected(f"the reply topic {self.reply_topic} cannot be read: {reason}") from error
            await asyncio.sleep(_AGAIN_S)
        self._consumer = consumer
        consumer.assign(list(ends))
        for partition, offset in ends.items():
            consumer.seek(partition, offset)
        self._on_lost = on_lost
        self._watch(consumer._client)  # noqa: SLF001 - it tells of a lost connection to nobody else
        self._reading = asyncio.create_task(self._read(consumer, on_reply), name="read replies")

    async def _reader(self) -> tuple[AIOKafkaConsumer, dict[TopicPartition, int]]:
        """Make a consumer that is not assigned yet; also where each partition ends."""
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._servers,
            client_id=self._client_id,
            auto_offset_reset="earliest",
            request_timeout_ms=int(_REQUEST_S * 1000),
            **self._options,
        )
        try:
            await consumer.start()
            numbers = await self._partitions(consumer)
            return consumer, await consumer.end_offsets([TopicPartition(self.reply_topic, n) for n in sorted(numbers)])
        except BaseException:
            await consumer.stop()
            raise

    async def _partitions(self, consumer: AIOKafkaConsumer) -> set[int]:
        """Name the topic's partitions; a topic that was just made is not known at once."""
        end = TopicPartition(self.reply_topic, 0)
        await consumer.end_offsets([end])
        found = consumer.partitions_for_topic(self.reply_topic)
        return set(found) if found else {0}

    async def _read(self, consumer: AIOKafkaConsumer, on_reply: OnReply) -> None:
        while True:
            try:
                fetched = await consumer.getmany(timeout_ms=int(_POLL_S * 1000))
            except errors.KafkaError as error:
                _log.warning("replies cannot be read, trying again: %s", _plain(error))
                self._on_lost()
                await asyncio.sleep(_AGAIN_S)
                continue
            except UnicodeDecodeError:  # the name of a header, by whoever else writes to the topic
                await self._skip(consumer)
                continue
            for records in fetched.values():
                for record in records:
                    try:
                        on_reply(dict(record.headers), record.key, record.value or b"")
                    except Exception:  # noqa: BLE001 - whatever one reply is, the others are read
                        _log.exception("a reply cannot be read")

    @staticmethod
    async def _skip(consumer: AIOKafkaConsumer) -> None:
        """Go past a record that aiokafka cannot read."""
        for partition in consumer.assignment():
            try:
                if fetched := await consumer.getmany(partition, timeout_ms=0, max_records=1):
                    consumer.seek(partition, fetched[partition][0].offset)
            except UnicodeDecodeError:
                consumer.seek(partition, await consumer.position(partition) + 1)

    def _watch(self, client: Any) -> None:  # noqa: ANN401 - aiokafka is untyped
        """Be told when a connection breaks: aiokafka heals it in silence, and what was asked over it may be lost."""
        on_closed = client._on_connection_closed  # noqa: SLF001

        def told(connection: Any, reason: CloseReason) -> None:  # noqa: ANN401 - aiokafka is untyped
            on_closed(connection, reason)
            if reason in _BROKEN:
                self._on_lost()

        client._on_connection_closed = told  # noqa: SLF001

    # The reply topic -------------------------------------------------------------------------------------------------
    async def _have_reply_topic(self) -> None:
        async with self._admin() as admin:
            code = await self._code_of_topic(admin)
            if code == 0:
                return
            if code in _NOT_THERE and self._makes:
                await self._make_topic(admin)
                return
            if code not in {*_NOT_THERE, _FORBIDDEN}:
                raise errors.for_code(code)
            why = "READ on it is missing, or it does not exist" if code == _FORBIDDEN else "it does not exist"
            raise NotConnected(f"the reply topic {self.reply_topic} cannot be used: {why}")

    async def _code_of_topic(self, admin: AIOKafkaAdminClient) -> int:
        """Look whether it exists; aiokafka's own question would ask for its creation."""
        request = MetadataRequest([self.reply_topic], allow_auto_topic_creation=False)
        response = await admin._client.send(admin._client.get_random_node(), request)  # noqa: SLF001
        return next((int(code) for code, name, *_ in response.topics if name == self.reply_topic), _NOT_THERE[0])

    async def _make_topic(self, admin: AIOKafkaAdminClient) -> None:
        config = {"cleanup.policy": "delete", "retention.ms": _REPLIES_KEPT_MS, "segment.ms": _REPLIES_KEPT_MS}
        topic = NewTopic(self.reply_topic, 1, -1, replica_assignments={}, topic_configs=config)  # copies: the broker's
        response: Any = await admin.create_topics([topic])
        for _, code, text in response.topic_errors:
            if code == _FORBIDDEN:
                raise NotConnected(
                    f"the reply topic {self.reply_topic} does not exist, and CREATE on it is missing: have it made, or"
                    " name one that exists (reply_topic=)"
                )
            if code not in {0, errors.TopicAlreadyExistsError.errno}:
                error = errors.for_code(code)
                if error.retriable:
                    raise error
                raise NotConnected(f"the reply topic {self.reply_topic} cannot be made: {text or error.__name__}")

    @asynccontextmanager
    async def _admin(self) -> AsyncIterator[AIOKafkaAdminClient]:
        admin = AIOKafkaAdminClient(
            bootstrap_servers=self._servers,
            client_id=self._client_id,
            request_timeout_ms=int(_REQUEST_S * 1000),
            **self._options,
        )
        try:
            await admin.start()
            yield admin
        finally:
            await admin.close()

    # Reaching a broker -----------------------------------------------------------------------------------------------
    async def _reach(self) -> None:
        """Return once a broker has let us in. aiokafka says "unable to bootstrap" also of a wrong password."""
        loop = asyncio.get_running_loop()
        end = loop.time() + CONNECT_TIMEOUT_S
        while True:
            reasons = []
            for host, port, _ in collect_hosts(self._servers):
                reason = await self._attempt(host, port)
                if reason is None:
                    return
                reasons.append(f"{host}:{port}: {reason}")
            if loop.time() >= end:
                raise NotConnected(f"Kafka cannot be reached: {'; '.join(reasons)}")
            await asyncio.sleep(_AGAIN_S)

    async def _attempt(self, host: str, port: int) -> str | None:
        """Return why a broker did not answer, None where it did. Raise NotConnected where it would refuse us again."""
        try:
            async with asyncio.timeout(_ATTEMPT_S):
                connection: Any = await create_conn(host, port, client_id=self._client_id, **self._options)
                try:
                    await connection.send(MetadataRequest([]))
                finally:
                    with suppress(errors.KafkaError, OSError):
                        if (closing := connection.close()) is not None:
                            await closing
        except _REFUSALS as error:
            raise NotConnected(f"Kafka at {host}:{port} refuses our credentials: {_plain(error)}") from error
        except ssl.SSLCertVerificationError as error:
            raise NotConnected(
                f"the certificate of Kafka at {host}:{port} cannot be trusted: {error.verify_message}"
            ) from error
        except (OSError, TimeoutError, errors.KafkaError) as error:
            cause = error if isinstance(error, ssl.SSLError) else error.__cause__
            if isinstance(cause, ssl.SSLError) and any(misfit in str(cause) for misfit in _TLS_MISFITS):
                raise NotConnected(
                    f"Kafka at {host}:{port} does not speak TLS as we do, or refuses our certificate: {cause.reason}"
                ) from error
            return _plain(error)
        return None


def _plain(error: BaseException) -> str:
    return str(error) or type(error).__name__
