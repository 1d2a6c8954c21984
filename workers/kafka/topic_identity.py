"""Which topic a name stands for right now: a topic that was deleted and made anew is another one.

aiokafka asks for metadata without the ids of topics; so this asks for itself (KIP-516, brokers from 3.1 on).
"""

import uuid
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Final

from aiokafka.errors import IncompatibleBrokerVersion, KafkaError, for_code
from aiokafka.protocol.abstract import AbstractType
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Schema,
    TaggedFields,
)

from workers.ports import BrokerAwayError

_MARK: Final = "topic="
_UNKNOWN_TOPIC: Final = 3
_UUID_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class TopicIdentity:
    """A topic. `id`: Kafka's own, which no other topic ever has; empty where the brokers do not tell."""

    id: str
    partitions: int


def mark(topic_id: str) -> str:
    """Make the metadata of an acknowledged offset: of which topic it is."""
    return _MARK + topic_id if topic_id else ""


def is_of_another(metadata: str, topic_id: str) -> bool:
    """Tell whether an offset with this metadata is one of another topic; not known of one that does not say."""
    return metadata.startswith(_MARK) and bool(topic_id) and metadata != mark(topic_id)


class _Uuid(AbstractType[bytes]):  # type: ignore[misc]
    """Sixteen bytes as they are."""

    @classmethod
    def encode(cls, value: bytes) -> bytes:
        return value

    @classmethod
    def decode(cls, data: BytesIO) -> bytes:
        return data.read(_UUID_BYTES)


class _MetadataResponse(Response):  # type: ignore[misc]
    API_KEY = 3
    API_VERSION = 12
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(
                ("node_id", Int32),
                ("host", CompactString("utf-8")),
                ("port", Int32),
                ("rack", CompactString("utf-8")),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_id", CompactString("utf-8")),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("name", CompactString("utf-8")),
                ("topic_id", _Uuid),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", CompactArray(Int32)),
                        ("in_sync", CompactArray(Int32)),
                        ("offline", CompactArray(Int32)),
                        ("tags", TaggedFields),
                    ),
                ),
                ("authorized_operations", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class _MetadataRequest(RequestStruct):  # type: ignore[misc]
    API_KEY = 3
    API_VERSION = 12
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _MetadataResponse
    SCHEMA = Schema(
        ("topics", CompactArray(("topic_id", _Uuid), ("name", CompactString("utf-8")), ("tags", TaggedFields))),
        ("allow_auto_topic_creation", Boolean),
        ("include_topic_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


class _AskForTopic(Request[_MetadataRequest]):  # type: ignore[misc]
    API_KEY = 3

    def __init__(self, topic: str) -> None:
        self._topic = topic

    def build(self, request_struct_class: type[_MetadataRequest]) -> _MetadataRequest:
        nobody = bytes(_UUID_BYTES)
        return request_struct_class([(nobody, self._topic, {})], False, False, {})  # noqa: FBT003 - aiokafka's order


async def identity_of(client: Any, topic: str) -> TopicIdentity | None:  # noqa: ANN401 - aiokafka is untyped
    """Ask a broker which topic has that name; None where there is none. Raise BrokerAwayError without an answer."""
    node = client.get_random_node()
    if node is None:
        raise BrokerAwayError("No broker is known")
    try:
        response = await client.send(node, _AskForTopic(topic))
    except (IncompatibleBrokerVersion, NotImplementedError):
        return TopicIdentity("", 0)
    except (KafkaError, TimeoutError) as error:
        raise BrokerAwayError(f"The topic could not be asked for: {error!r}") from error
    ((code, _, topic_id, _, partitions, _, _),) = response.topics
    if code == _UNKNOWN_TOPIC:
        return None
    if code and not partitions:
        raise BrokerAwayError(f"The topic could not be asked for: {for_code(code).__name__}")
    return TopicIdentity(uuid.UUID(bytes=topic_id).hex, len(partitions))
