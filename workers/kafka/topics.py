"""The topics: made as the contract says, and checked before anything is read from them."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final, Literal, Self

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import (
    InvalidTopicError,
    KafkaError,
    KafkaTimeoutError,
    TopicAlreadyExistsError,
    UnknownTopicOrPartitionError,
    for_code,
)
from aiokafka.protocol.metadata import MetadataRequest

from contracts.topics import Topics
from workers.kafka.connection import KafkaAccessError, refusal, wait_for_broker
from workers.kafka.security import KafkaSecurity

REQUEST_BYTES: Final = 1024 * 1024
"""What request topics take: more than the contract's limits, so that what is too large arrives and gets its 413."""

DEAD_LETTER_BYTES: Final = REQUEST_BYTES + 64 * 1024
"""What their dead-letter topics take: room for the headers that are added."""

COMMANDS_KEPT: Final = timedelta(days=7)
QUERIES_KEPT: Final = timedelta(hours=1)
DEAD_LETTERS_KEPT: Final = timedelta(days=14)
REPLIES_KEPT: Final = timedelta(hours=1)

_LONGEST_SEGMENT: Final = timedelta(days=1)
"""Records go segment by segment: a record lives for the retention and up to one segment longer."""

_TIMEOUT_S: Final = 15.0
_NOT_THERE: Final = (UnknownTopicOrPartitionError.errno, InvalidTopicError.errno)
_TIMESTAMPS: Final = "message.timestamp.type"
_BY_BROKER: Final = "LogAppendTime"
_AUTO_CREATE: Final = "auto.create.topics.enable"

_log = structlog.get_logger(__name__)


class TopicsUnfitError(KafkaAccessError):
    """The topics, or the broker's settings for them, are not what the workers' promises need."""


@dataclass(frozen=True, slots=True)
class TopicPlan:
    """A topic as it should be."""

    name: str
    partitions: int
    replication_factor: int
    config: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class TopicReport:
    """What became of a plan. An existing topic is left as it is; how it differs is told."""

    name: str
    outcome: Literal["created", "exists", "differs"]
    differences: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.outcome == "differs":
            return f"{self.name}: exists, but {'; '.join(self.differences)}"
        return f"{self.name}: {self.outcome}"


@dataclass(slots=True)
class TopicCheck:
    """What a look at the topics found: `problems` forbid to start, `warnings` do not."""

    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def plans(
    topics: Topics, *, partitions: int = 12, replication_factor: int = 1, min_insync_replicas: int = 1
) -> list[TopicPlan]:
    """The four topics that are ours."""

    def plan(name: str, kept: timedelta, size: int, more: Mapping[str, str]) -> TopicPlan:
        config = {
            "cleanup.policy": "delete",
            "max.message.bytes": str(size),
            "min.insync.replicas": str(min_insync_replicas),
            "retention.ms": _ms(kept),
            "segment.ms": _ms(min(kept, _LONGEST_SEGMENT)),
        }
        return TopicPlan(name, partitions, replication_factor, {**config, **more})

    stamped = {_TIMESTAMPS: _BY_BROKER}
    requests = {topics.commands: COMMANDS_KEPT, topics.queries: QUERIES_KEPT}
    return [
        *(plan(name, kept, REQUEST_BYTES, stamped) for name, kept in requests.items()),
        *(plan(topics.dead_letters(name), DEAD_LETTERS_KEPT, DEAD_LETTER_BYTES, {}) for name in requests),
    ]


class TopicAdmin:
    """Makes and checks topics. An async context manager that waits for a broker that is away."""

    def __init__(self, bootstrap_servers: str, security: KafkaSecurity, client_id: str = "catalog-admin") -> None:
        self._bootstrap_servers = bootstrap_servers
        self._security = security
        self._client_id = client_id
        self._options: dict[str, Any] = {}
        self._admin: AIOKafkaAdminClient = None

    async def __aenter__(self) -> Self:
        await wait_for_broker(self._bootstrap_servers, self._security, self._client_id)
        self._options = self._security.client_options() | {
            "bootstrap_servers": self._bootstrap_servers,
            "client_id": self._client_id,
        }
        admin = AIOKafkaAdminClient(request_timeout_ms=int(_TIMEOUT_S * 1000), **self._options)
        try:
            await admin.start()
        except BaseException:
            await admin.close()
            raise
        self._admin = admin
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._admin.close()

    # ---------------------------------------------------------------------------------------------------------- making

    async def create_topics(
        self, topics: Topics, *, partitions: int = 12, replication_factor: int = 1, min_insync_replicas: int = 1
    ) -> list[TopicReport]:
        """Make what is missing of the four topics, and wait until it can be written to.

        Raise KafkaAccessError where that is refused.
        """
        wanted = plans(
            topics,
            partitions=partitions,
            replication_factor=replication_factor,
            min_insync_replicas=min_insync_replicas,
        )
        created = await self._create(wanted)
        differences = await self._differences(plan for plan in wanted if plan.name not in created)
        reports = []
        for plan in wanted:
            if plan.name in created:
                reports.append(TopicReport(plan.name, "created"))
            else:
                found = tuple(differences[plan.name])
                reports.append(TopicReport(plan.name, "differs" if found else "exists", found))
        return reports

    async def create_reply_topic(self, name: str, *, partitions: int = 1, replication_factor: int = 1) -> None:
        """Make a reply topic for a caller's tool, and wait until it can be used. One that exists is left as it is."""
        config = {"cleanup.policy": "delete", "retention.ms": _ms(REPLIES_KEPT), "segment.ms": _ms(REPLIES_KEPT)}
        await self._create([TopicPlan(name, partitions, replication_factor, config)])

    async def _create(self, wanted: Sequence[TopicPlan]) -> set[str]:
        """Make what does not exist; return the names of what was made."""
        request = [
            NewTopic(plan.name, plan.partitions, plan.replication_factor, topic_configs=dict(plan.config))
            for plan in wanted
        ]
        try:
            response = await self._admin.create_topics(request)
        except KafkaError as error:
            raise refusal(error, "creating topics") or error from error
        failed = {name: (code, text) for name, code, text in response.topic_errors if code}
        for name, (code, text) in failed.items():
            if code != TopicAlreadyExistsError.errno:
                kind = for_code(code)
                raise refusal(kind(), f"creating topic {name}") or KafkaAccessError(
                    f"Kafka does not create topic {name}: {text or kind.__name__}"
                )
        created = {plan.name for plan in wanted if plan.name not in failed}
        await self._wait_for_leaders(plan for plan in wanted if plan.name in created)
        return created

    async def _wait_for_leaders(self, created: Iterable[TopicPlan]) -> None:
        """Right after its creation a topic's leaders may deny that they are: ask them until they answer as such."""
        partitions = [TopicPartition(plan.name, number) for plan in created for number in range(plan.partitions)]
        if not partitions:
            return
        consumer = AIOKafkaConsumer(request_timeout_ms=int(_TIMEOUT_S * 1000), **self._options)
        try:
            await consumer.start()
            await consumer.end_offsets(partitions)
        except KafkaTimeoutError as error:
            msg = "Kafka made the topics, but does not tell about them: is DESCRIBE missing?"
            raise KafkaAccessError(msg) from error
        finally:
            await consumer.stop()

    async def _differences(self, existing: Iterable[TopicPlan]) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for plan in existing:
            (topic,) = await self._admin.describe_topics([plan.name])
            config = await self._topic_config(plan.name, plan.config)
            differences = found[plan.name] = []
            partitions = topic["partitions"]
            replicas = min((len(partition["replicas"]) for partition in partitions), default=0)
            if len(partitions) != plan.partitions:
                differences.append(f"it has {len(partitions)} partitions, not {plan.partitions}")
            if replicas != plan.replication_factor:
                differences.append(f"its replication factor is {replicas}, not {plan.replication_factor}")
            if config is None:
                differences.append("its settings may not be read by us")
                continue
            for key, value in plan.config.items():
                if config.get(key) != value:
                    differences.append(f"{key} is {config.get(key)}, not {value}")
        return found

    # -------------------------------------------------------------------------------------------------------- checking

    async def check(
        self, topics: Topics, topic: str, *, accept_auto_create: bool, outcomes_kept: timedelta | None = None
    ) -> None:
        """Look whether a worker may read `topic`; log what is worth a warning.

        With `outcomes_kept`: records must not outlive the outcomes by which repetitions are known. Raise
        TopicsUnfitError with all that forbids it.
        """
        found = TopicCheck()
        letters = topics.dead_letters(topic)
        missing = await self._missing((topic, letters))
        found.problems += [f"topic {name} does not exist (run `catalog topics create`)" for name in missing]
        if topic not in missing:
            await self._check_requests(topic, found)
        if not missing:
            await self._check_sizes(topic, letters, found)
        if outcomes_kept is not None:
            for name in (topic, letters):
                if name in missing:
                    continue
                await self._check_lifetime(name, outcomes_kept, found)
        if not accept_auto_create:
            await self._check_brokers(found)
        for warning in found.warnings:
            _log.warning("topics_unchecked", reason=warning)
        if found.problems:
            raise TopicsUnfitError("; ".join(found.problems))

    async def _missing(self, names: Sequence[str]) -> list[str]:
        """Which of these do not exist. aiokafka's own question would ask for their creation."""
        request = MetadataRequest(list(names), allow_auto_topic_creation=False)
        response = await self._admin._client.send(self._admin._client.get_random_node(), request)  # noqa: SLF001
        missing = set()
        for code, name, *_ in response.topics:
            if forbidden := refusal(for_code(code)(), f"reading about topic {name}"):
                raise forbidden
            if code in _NOT_THERE:
                missing.add(name)
        return [name for name in names if name in missing]

    async def _check_requests(self, topic: str, found: TopicCheck) -> None:
        config = await self._topic_config(topic, (_TIMESTAMPS,))
        if config is None:
            found.warnings.append(f"the settings of topic {topic} may not be read by us: is {_TIMESTAMPS} right?")
        elif config[_TIMESTAMPS] != _BY_BROKER:
            found.problems.append(
                f"topic {topic} has {_TIMESTAMPS}={config[_TIMESTAMPS]}, so that producers could forge when a message"
                f" was sent: set it to {_BY_BROKER}"
            )

    async def _check_sizes(self, topic: str, letters: str, found: TopicCheck) -> None:
        key = "max.message.bytes"
        of_requests, of_letters = await self._topic_config(topic, (key,)), await self._topic_config(letters, (key,))
        room = DEAD_LETTER_BYTES - REQUEST_BYTES
        if of_requests and of_letters and int(of_letters[key]) < int(of_requests[key]) + room:
            found.problems.append(
                f"topic {letters} takes {of_letters[key]} bytes ({key}), not {room} more than {topic} does: a letter"
                " that does not fit would stop its partition"
            )

    async def _check_lifetime(self, name: str, outcomes_kept: timedelta, found: TopicCheck) -> None:
        config = await self._topic_config(name, ("retention.ms", "segment.ms"))
        if config is None:
            found.warnings.append(f"the settings of topic {name} may not be read by us: how long are its records kept?")
            return
        retention_ms, segment_ms = int(config["retention.ms"]), int(config["segment.ms"])
        if retention_ms < 0:
            found.problems.append(f"topic {name} keeps its records for ever, outcomes are kept for {outcomes_kept}")
        elif (lifetime := timedelta(milliseconds=retention_ms + segment_ms)) >= outcomes_kept:
            found.problems.append(
                f"topic {name} may keep a record for {lifetime} (retention.ms and segment.ms), longer than outcomes are"
                f" kept, {outcomes_kept}: a repetition could take effect again"
            )

    async def _check_brokers(self, found: TopicCheck) -> None:
        cluster = await self._admin.describe_cluster()
        for broker in cluster["brokers"]:
            config = await self._config(ConfigResourceType.BROKER, str(broker["node_id"]), (_AUTO_CREATE,))
            if config is None:
                found.warnings.append(f"the brokers' settings may not be read by us: is {_AUTO_CREATE} off?")
                return
            if config.get(_AUTO_CREATE) == "true":
                found.problems.append(
                    f"the brokers create topics by themselves ({_AUTO_CREATE}=true), so that any typing error in a"
                    " reply_to would make one: turn it off, or set KAFKA_ACCEPT_AUTO_CREATE_TOPICS=true"
                )
                return

    async def _topic_config(self, name: str, keys: Iterable[str]) -> dict[str, str] | None:
        return await self._config(ConfigResourceType.TOPIC, name, keys)

    async def _config(self, kind: Any, name: str, keys: Iterable[str]) -> dict[str, str] | None:  # noqa: ANN401
        """The settings in force; None where we may not read them."""
        resource = ConfigResource(kind, name, dict.fromkeys(keys))
        async with asyncio.timeout(_TIMEOUT_S):
            (response,) = await self._admin.describe_configs([resource])
        ((code, text, _, _, entries),) = response.resources
        if code:
            error = for_code(code)()
            if refusal(error, "reading settings"):
                return None
            raise KafkaAccessError(f"The settings of {name} cannot be read: {text or error}")
        return {key: value for key, value, *_ in entries}


def _ms(time: timedelta) -> str:
    return str(int(time.total_seconds() * 1000))
