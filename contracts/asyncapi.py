"""The contract as an AsyncAPI 3.0.0 document, made from the registry: what a caller needs, and all it needs.

It is written from the workers' view, as AsyncAPI asks for: they *receive* what callers send. What tools do not check, a
test does: each reply message is one of the reply channel, and each example fits its schema.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from contracts.codec import MAX_BODY_BYTES, MAX_HEADER_BYTES, MAX_HEADERS, MAX_KEY_BYTES
from contracts.envelope import MAX_REPLY_BYTES, failure
from contracts.errors import (
    REFUSALS_OF_NO_KIND,
    CatalogError,
    ForbiddenError,
    InternalError,
    RateLimitedError,
    UnknownKindError,
    ValidationFailedError,
)
from contracts.kinds import ROLES_THAT_MAY, Answer, Kind, Role, Version, example_message_id
from contracts.registry import KINDS
from contracts.schemas import REF, Schema, schemas
from contracts.topics import Topics

CONTRACT_VERSION: Final = "1.1.0"
"""The contract's own: what is added raises the second number, what breaks a caller the first."""

Document = dict[str, Any]

_PREFIX: Final = "{topicPrefix}"
_BINDING: Final = "0.5.0"


@dataclass(frozen=True, slots=True)
class Deployment:
    """What the document says of one deployment; None leaves a place to fill in."""

    prefix: str | None = None
    currency: str | None = None
    rate_requests: int | None = None
    rate_window_s: int | None = None
    servers: Sequence[str] = ()
    """Addresses for callers, each host:port."""


def document(deployment: Deployment) -> Document:
    """Make the document for a deployment; plain JSON values."""
    topics = Topics(deployment.prefix or _PREFIX)
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Catalog",
            "version": CONTRACT_VERSION,
            "description": _description(deployment, topics),
            "x-currency": deployment.currency,
            "x-rate-limit": {"requests": deployment.rate_requests, "window_s": deployment.rate_window_s},
        },
        "defaultContentType": "application/json",
        "servers": _servers(deployment),
        "channels": {
            "commands": _request_channel("commands", topics.commands, _COMMANDS, deployment),
            "queries": _request_channel("queries", topics.queries, _QUERIES, deployment),
            "replies": {
                "address": None,
                "title": f"{topics.replies}<name>",
                "description": _REPLIES.format(replies=topics.replies),
                "messages": {
                    **{f"{name}.reply": _message(f"{name}.reply") for name in KINDS},
                    "refusal": _message("refusal"),
                },
            },
        },
        "operations": {name: _operation(kind) for name, kind in KINDS.items()},
        "components": {
            "messages": {
                **{
                    message_name(kind, version): _request(kind, version, topics)
                    for kind in KINDS.values()
                    for version in kind.versions
                },
                **{f"{name}.reply": _reply(kind) for name, kind in KINDS.items()},
                "refusal": _REFUSAL,
            },
            "schemas": {
                "CommandHeaders": request_headers("commands", topics),
                "QueryHeaders": request_headers("queries", topics),
                "ReplyHeaders": reply_headers(),
                **{_error_name(error): _error_schema(error) for error in _all_errors()},
                **schemas().definitions,
            },
            "securitySchemes": _SECURITY_SCHEMES,
        },
    }


def message_name(kind: Kind, version: Version) -> str:
    """Name the request of a version."""
    return f"{kind.name}.v{version.number}"


# Servers and channels ----------------------------------------------------------------------------------------------
_SECURITY_SCHEMES: Final[Mapping[str, Schema]] = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "In the header `authorization`: `Bearer <JWT>`, with `sub`, `exp` and `roles`. It must be valid "
        "when the broker stamps the message, not when a worker reads it.",
    },
    "tls": {"type": "X509", "description": "A client certificate"},
    "scram-sha-256": {"type": "scramSha256", "description": "SASL/SCRAM"},
    "scram-sha-512": {"type": "scramSha512", "description": "SASL/SCRAM"},
}


def _servers(deployment: Deployment) -> Document:
    where: Document = {
        "protocol": "kafka-secure",
        "description": "Kafka. Produce with acks=all; for the same key on the same partition from every language, use "
        "the murmur2 partitioner of Java (librdkafka: `partitioner=murmur2_random`). Whoever runs the deployment says "
        "which of these schemes it takes.",
        "security": [
            {"$ref": f"#/components/securitySchemes/{name}"} for name in ("scram-sha-512", "scram-sha-256", "tls")
        ],
    }
    if not deployment.servers:
        variable = {"default": "kafka.invalid:9092", "description": "Ask whoever runs the deployment"}
        return {"kafka": {"host": "{bootstrapServer}", **where, "variables": {"bootstrapServer": variable}}}
    return {f"kafka-{number}": {"host": host, **where} for number, host in enumerate(deployment.servers, 1)}


_COMMANDS: Final = "What changes something. It is applied at most once, and kept for 7 days."
_QUERIES: Final = "What asks something. It is never stored, and kept for 1 hour."
_REPLIES: Final = (
    "Where a caller is answered: the topic `{replies}<name>` that its header `reply_to` names. You choose `<name>`, "
    "and make and own the topic. The key of a reply is the correlation id. A reply may come twice, with the same body."
)


def _request_channel(side: str, topic: str, description: str, deployment: Deployment) -> Document:
    channel: Document = {
        "address": topic,
        "title": side,
        "description": description,
        "messages": {
            message_name(kind, version): _message(message_name(kind, version))
            for kind in KINDS.values()
            for version in kind.versions
            if kind.topic == side
        },
        "bindings": {"kafka": {"topic": topic, "bindingVersion": _BINDING}},
    }
    if deployment.prefix is None:
        channel["parameters"] = {"topicPrefix": {"default": "catalog", "description": "The prefix of all topics"}}
        channel["bindings"] = {"kafka": {"bindingVersion": _BINDING}}
    return channel


def _message(name: str) -> Document:
    return {"$ref": f"#/components/messages/{name}"}


# Operations --------------------------------------------------------------------------------------------------------
def _operation(kind: Kind) -> Document:
    return {
        "action": "receive",
        "title": kind.name,
        "summary": kind.description,
        "description": f"{kind.newest.model.__doc__}\n\n{_in_words(kind)}",
        "tags": [{"name": kind.resource}],
        "channel": {"$ref": f"#/channels/{kind.topic}"},
        "messages": [
            {"$ref": f"#/channels/{kind.topic}/messages/{message_name(kind, version)}"} for version in kind.versions
        ],
        "security": [{"$ref": "#/components/securitySchemes/bearer"}],
        "reply": {
            "address": {
                "location": "$message.header#/reply_to",
                "description": "The topic that the request names; see the channel",
            },
            "channel": {"$ref": "#/channels/replies"},
            "messages": [{"$ref": f"#/channels/replies/messages/{kind.name}.reply"}],
        },
        "x-kind": kind.name,
        "x-key": list(kind.key),
        "x-roles": roles_of(kind),
        "x-errors": [error.error_code for error in kind.every_error],
        "x-own-errors": [error.error_code for error in kind.errors],
        "x-needs": list(kind.needs),
    }


def roles_of(kind: Kind) -> list[str]:
    """Name the roles of which a caller needs one; none where any caller may."""
    return [] if kind.role is Role.ANYONE else sorted(map(str, ROLES_THAT_MAY[kind.role]))


def key_in_words(kind: Kind) -> str:
    """Say what the key of a request is."""
    own = "message_id" if kind.topic == "commands" else "correlation_id"
    if not kind.key:
        return f"the {own}: nothing orders it"
    return ", else ".join(f"`{path}`" for path in kind.key) + ", as it is sent"


def _in_words(kind: Kind) -> str:
    roles = roles_of(kind)
    who = f"a caller with one of the roles {', '.join(roles)}" if roles else "any caller with a valid token"
    return f"Who may: {who}. Key of the record: {key_in_words(kind)}."


def _request(kind: Kind, version: Version, topics: Topics) -> Document:
    required = ["kind", "payload"] if version.number == 1 else ["kind", "version", "payload"]
    headers = "CommandHeaders" if kind.topic == "commands" else "QueryHeaders"
    message: Document = {
        "name": kind.name,
        "title": f"{kind.name}, version {version.number}",
        "summary": kind.description,
        "description": version.model.__doc__,
        "contentType": "application/json",
        "headers": {"$ref": REF + headers},
        "payload": {
            "type": "object",
            "description": f"At most {MAX_BODY_BYTES // 1024} KiB",
            "properties": {
                "kind": {"const": kind.name},
                "version": {"const": version.number, "description": "Absent means 1"},
                "payload": schemas().requests[kind.name, version.number],
            },
            "required": required,
            "additionalProperties": False,
        },
        "correlationId": {"location": "$message.header#/correlation_id"},
        "bindings": {
            "kafka": {
                "key": {
                    "type": "string",
                    "description": f"{key_in_words(kind)}; UTF-8, at most {MAX_KEY_BYTES} bytes".capitalize(),
                },
                "bindingVersion": _BINDING,
            }
        },
        "examples": [
            _example(kind, version, number, payload, topics) for number, payload in enumerate(version.examples, 1)
        ],
        "x-version": version.number,
    }
    if version.deprecated_on is not None:
        message["x-deprecated-on"] = version.deprecated_on.isoformat()
        message["x-sunset-on"] = version.sunset_on.isoformat() if version.sunset_on is not None else None
        message["x-alternative"] = version.alternative
    return message


def _example(
    kind: Kind, version: Version, number: int, payload: Mapping[str, object], topics: Topics
) -> Mapping[str, object]:
    name = example_message_id(kind.name, version.number, number)
    body: Document = {"kind": kind.name, "payload": payload}
    if version.number > 1:
        body["version"] = version.number
    return {
        "name": name,
        "headers": {
            "message_id": name,
            "correlation_id": name,
            "reply_to": f"{topics.replies}example",
            "authorization": "Bearer <JWT>",
            "content-type": "application/json",
        },
        "payload": body,
    }


# Replies -----------------------------------------------------------------------------------------------------------
def _reply(kind: Kind) -> Document:
    data = schemas().results[kind.name]
    return {
        "name": f"{kind.name}.reply",
        "title": f"The reply to {kind.name}",
        "summary": f"{', '.join(answer_in_words(answer) for answer in kind.answers)}, or an error",
        "contentType": "application/json",
        "headers": {"$ref": REF + "ReplyHeaders"},
        "payload": {
            "oneOf": [
                *(_envelope(answer.status_code, answer.type, data) for answer in kind.answers),
                *({"$ref": REF + _error_name(error)} for error in kind.every_error),
            ]
        },
        "correlationId": {"location": "$message.header#/correlation_id"},
        "examples": [{"name": "carried-out", "payload": orjson.loads(kind.reply.encode())}],
    }


def answer_in_words(answer: Answer) -> str:
    """Say what an answer is."""
    return f"{answer.status_code} {answer.type}"


def _envelope(status_code: int, kind_of_answer: str, data: Schema, description: str | None = None) -> Document:
    envelope: Document = {
        "type": "object",
        "properties": {
            "statusCode": {"const": status_code},
            "message": {"type": "string"},
            "type": {"const": kind_of_answer},
            "data": data,
        },
        "required": ["statusCode", "message", "type", "data"],
    }
    return envelope | ({"description": description} if description else {})


_DETAILS: Final[Mapping[type[CatalogError], Schema]] = {
    ValidationFailedError: {
        "type": "object",
        "properties": {
            "validation_errors": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "field": {"type": "string", "description": "A dotted path inside `payload`"},
                        "message": {"type": "string"},
                        "type": {"type": "string"},
                    },
                    "required": ["field", "message", "type"],
                },
            }
        },
        "required": ["validation_errors"],
    },
    ForbiddenError: {
        "type": "object",
        "properties": {"required_role": {"type": "string"}},
        "required": ["required_role"],
    },
    RateLimitedError: {
        "type": "object",
        "properties": {
            "retry_after_ms": {"type": "integer"},
            "limit": {"type": "integer"},
            "window_s": {"type": "integer"},
            "blocked": {"type": "boolean", "description": "An operator blocks this caller or this kind"},
        },
        "required": ["retry_after_ms"],
    },
    InternalError: {
        "type": "object",
        "properties": {
            "incident": {"type": "string", "description": "Name it to whoever runs the deployment"},
            "parked": {
                "type": "boolean",
                "description": "It waits for an operator, and is answered again later under the same correlation id",
            },
        },
        "required": ["incident"],
    },
}


def _error_name(error: type[CatalogError]) -> str:
    return f"Error.{error.error_code}"


def _error_schema(error: type[CatalogError]) -> Document:
    details = _DETAILS.get(error, {"type": "object", "description": "What it was about"})
    data = {
        "type": "object",
        "properties": {"error_code": {"const": error.error_code}, "details": details},
        "required": ["error_code", "details"],
    }
    envelope = _envelope(error.status_code, "error", data, " ".join((error.__doc__ or "").split()))
    return {**envelope, "x-repeat": {"message_id": error.repeat.message_id, "with": error.repeat.needs}}


def _all_errors() -> list[type[CatalogError]]:
    every = {error for kind in KINDS.values() for error in kind.every_error} | set(REFUSALS_OF_NO_KIND)
    return sorted(every, key=lambda error: (error.status_code, error.error_code))


_REFUSAL: Final[Schema] = {
    "name": "refusal",
    "title": "The reply to what is no request of a known kind",
    "summary": "Answered as far as `reply_to` can be read",
    "contentType": "application/json",
    "headers": {"$ref": REF + "ReplyHeaders"},
    "payload": {"oneOf": [{"$ref": REF + _error_name(error)} for error in REFUSALS_OF_NO_KIND]},
    "correlationId": {"location": "$message.header#/correlation_id"},
    "examples": [
        {
            "name": "unknown-kind",
            "payload": orjson.loads(
                failure(UnknownKindError("There is no kind 'create_custmer'", {"kinds": ["create_customer"]})).encode()
            ),
        }
    ],
}


# Headers -----------------------------------------------------------------------------------------------------------
_ID: Final[Schema] = {"type": "string", "pattern": "^[ -~]{1,128}$"}


def request_headers(side: str, topics: Topics) -> Document:
    """Make the schema of a request's headers."""
    is_command = side == "commands"
    reply_to = {
        "type": "string",
        "description": f"A topic {topics.replies}<name>; without it the outcome is only stored"
        if is_command
        else f"A topic {topics.replies}<name>",
        "pattern": r"^[^\s]+\.replies\.[A-Za-z0-9._-]{1,180}$",
    }
    properties: dict[str, Schema] = {
        "message_id": {**_ID, "description": "The caller's idempotency key: sent again, it is answered as before"},
        "correlation_id": {
            **_ID,
            "description": "Copied to the reply" + ("; the `message_id` where it is absent" if is_command else ""),
        },
        "reply_to": reply_to,
        "authorization": {"type": "string", "pattern": "^[Bb][Ee][Aa][Rr][Ee][Rr] ", "description": "`Bearer <JWT>`"},
        "deadline": {
            "type": "string",
            "pattern": "^[0-9]{1,15}$",
            "description": "Milliseconds since the epoch; after it the caller no longer wants the work: 504, no effect",
        },
        "content-type": {"const": "application/json"},
        "traceparent": {"type": "string", "description": "W3C Trace Context; a bad one is ignored"},
        "tracestate": {"type": "string", "description": "W3C Trace Context"},
        "user-agent": {"type": "string", "description": "The client's name and version, at most 200 characters"},
    }
    return {
        "type": "object",
        "description": f"As UTF-8 text, each at most once; at most {MAX_HEADERS} headers and "
        f"{MAX_HEADER_BYTES // 1024} KiB, names included. Others are ignored.",
        "properties": properties,
        "required": ["message_id", "authorization"] if is_command else ["correlation_id", "reply_to", "authorization"],
    }


_REPLY_HEADERS: Final[Schema] = {
    "type": "object",
    "description": "As UTF-8 text",
    "properties": {
        "correlation_id": {**_ID, "description": "The request's"},
        "in_reply_to": {**_ID, "description": "The request's `message_id`, where it had one"},
        "kind": {"type": "string", "description": "The request's, where it could be read"},
        "content-type": {"const": "application/json"},
        "replayed": {"const": "true", "description": "The stored outcome of an earlier delivery, byte for byte"},
        "traceparent": {"type": "string"},
        "deprecation": {"type": "string", "format": "date", "description": "Since when the version is deprecated"},
        "sunset": {"type": "string", "format": "date", "description": "From when on the version may be refused"},
    },
    "required": ["content-type"],
}


def reply_headers() -> Schema:
    """Return the schema of a reply's headers."""
    return _REPLY_HEADERS


# In words ----------------------------------------------------------------------------------------------------------
def _description(deployment: Deployment, topics: Topics) -> str:
    currency = deployment.currency or "the one currency of the deployment; ask whoever runs it"
    rate = (
        f"{deployment.rate_requests} requests in {deployment.rate_window_s} s"
        if deployment.rate_requests is not None
        else "so many requests in a window as the deployment allows"
    )
    return f"""Customers, products and orders, by commands and queries over Kafka.

**A request** is a record on `{topics.commands}` or `{topics.queries}`: headers as below, and a JSON object \
`{{"kind": …, "version": …, "payload": {{…}}}}` of at most {MAX_BODY_BYTES // 1024} KiB. An unknown field in \
`payload` is refused (422), one beside it is malformed (400). Types are strict: `"5"` is no number, and money is a \
text. A number counts by its value: 1.0 is 1.

**Keys** order: commands with the same key are decided in the order of the log. `x-key` lists paths into the \
payload; the text of the first that is present is the key, in UTF-8, as it is sent. Where the list is empty it is \
the message id, of a query the correlation id. E-mail addresses are not folded: whoever wants order for one customer \
sends `customer_id`.

**A reply** comes on the topic that `reply_to` names, at most {MAX_REPLY_BYTES // 1024} KiB large: `{{"statusCode": \
…, "message": …, "type": …, "data": …}}`. `type` is `success`, `neutral` (nothing to do: the state was already so), \
`warning` (done, but not all of it) or `error` (`data` has `error_code` and `details`). Clients ignore fields that \
they do not know, and keep unknown codes as text. Decimals are texts, times RFC 3339 in UTC, ids lower-case UUIDs.

**Again.** A command takes effect at most once for each caller (`iss`, `sub`) and `message_id`: after a time-out, \
send the same message again, or ask `get_outcome`. With the same content it is answered as before, with other \
content by `MESSAGE_ID_REUSED`. After `RATE_LIMITED` wait `retry_after_ms`. A 500 with `parked: true` is answered \
again later, under the same correlation id. At each error `x-repeat` says whether what it refused may be sent again: \
under the `same` or a `new` message_id, or not at all, and with what.

**Text** is trimmed and normalised to NFC, then measured in code points, and kept like that; control characters are \
refused. JSON objects are measured in bytes of their canonical form (RFC 8785).

**Lists** are bounded by `page_size` or `limit`; `next_cursor` leads on, with the same filters. Under a cursor \
`page` is null. `total_count` is null where counting would cost too much.

**Limits.** Of a caller, {rate}, commands and queries together. Amounts are of {currency}.

**Versions.** An absent version is 1. A deprecated one works; its replies carry `deprecation` and `sunset`, after \
which it may be refused. Within a major version of this contract nothing is taken away from callers.

**Examples** can be sent as they are, in the order of `x-needs`: the kinds it names, with all their examples, come \
first."""
