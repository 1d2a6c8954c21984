"""From a record's bytes to a request, or to the reason why it is none.

Nothing here raises for bad input: what a producer may send is data. The steps follow the contract's order of checks:
the record's own form, reply_to, size, envelope. Authentication and everything after it is not decided here.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain
from operator import itemgetter
from typing import Final, Protocol, Self, cast

from contracts.at_rest import LARGE_BYTES, at_rest
from contracts.canonical import canonical
from contracts.errors import CatalogError, MalformedMessageError, MessageTooLargeError
from contracts.ijson import NotIJsonError, read, reread
from contracts.kinds import Kind
from contracts.topics import Topics, is_reply_topic

MAX_BODY_BYTES: Final = 256 * 1024
MAX_HEADER_BYTES: Final = 16 * 1024
MAX_HEADERS: Final = 100
MAX_KEY_BYTES: Final = 1024
_KEPT_BYTES: Final = 4 * 1024
"""Bodies up to here are kept as read until their canonical form is made."""

UNREADABLE: Final = "\ud800"
"""How the edge says why it could not read a record: in the name of a header, after this, which no bytes decode to."""
_OMISSION: Final = "\ud801"
"""How it says what it left out of a record: the same way, in the name of the last header."""

_MAX_ID_BYTES: Final = 128
_DEADLINE = re.compile(rb"[0-9]{1,15}")
_KNOWN: Final = frozenset({"message_id", "correlation_id", "reply_to", "authorization", "deadline", "content-type"})
_TRACE: Final = frozenset({"traceparent", "tracestate"})
_OURS: Final = (
    "message_id",
    "correlation_id",
    "reply_to",
    "authorization",
    "deadline",
    "content-type",
    "traceparent",
    "tracestate",
)
_ABSENT: Final = b"(absent)\0"
"""Stands for a header that is not there just once; told by its identity from what anybody sent."""
_REMEMBERED_LAYOUTS: Final = 128
"""With names as long as headers may be: 6 MiB."""
_REMEMBERED_TOPICS: Final = 128
"""Each as long as headers may be: 6 MiB."""
# W3C Trace Context: no version ff, no id of zeros; what is of a later version than 00 may go on after a dash.
_TRACE_IDS = rb"(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
_TRACEPARENT = re.compile(rb"00-%b|(?!00|ff)[0-9a-f]{2}-%b(?:-[!-~]*)?" % (_TRACE_IDS, _TRACE_IDS))


class RawRecord(Protocol):
    """What is read of a record."""

    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Sequence[tuple[str, bytes | None]]: ...


@dataclass(frozen=True, slots=True)
class OmittedPart:
    """What is told of a key or a value that was not kept: its length, and its SHA-256 in hex."""

    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Omission:
    """What the edge left out of a record beyond its limits, and how large the whole record is."""

    header_count: int
    header_bytes: int
    """Of all headers; where they are too many, of the first of them."""
    headers_left_out: int
    key: OmittedPart | None
    value: OmittedPart | None

    def as_header(self) -> tuple[str, None]:
        """Write it down as a header that no producer can send."""
        parts = ((part.size, part.sha256) if part else (-1, "-") for part in (self.key, self.value))
        numbers = (self.header_count, self.header_bytes, self.headers_left_out)
        return _OMISSION + " ".join(map(str, (*numbers, *chain.from_iterable(parts)))), None

    @classmethod
    def of(cls, headers: Sequence[tuple[str, bytes | None]]) -> Self | None:
        """Read what was left out of the record with these headers; None where nothing was."""
        if not headers or not headers[-1][0].startswith(_OMISSION):
            return None
        count, size, left_out, *parts = headers[-1][0].removeprefix(_OMISSION).split(" ")
        key, value = (
            OmittedPart(int(length), digest) if digest != "-" else None
            for length, digest in zip(parts[::2], parts[1::2], strict=True)
        )
        return cls(int(count), int(size), int(left_out), key, value)


class UnreadableRecord(Exception):  # noqa: N818 - a finding, not a failure of the program
    """A header key that is not UTF-8, or what the edge could not read: no effect, no answer; dead-lettered without."""


@dataclass(slots=True)
class Headers:
    """The headers of the contract, read; None where absent (or, with a fault noted, unusable)."""

    message_id: str | None = None
    correlation_id: str | None = None
    """As given; else the message_id, under which the reply goes out then."""
    names: frozenset[str] = frozenset()
    """Which of our headers were there at all."""
    reply_to: str | None = None
    authorization: bytes | None = None
    deadline_ms: int | None = None
    traceparent: bytes | None = None
    tracestate: bytes | None = None
    fault: CatalogError | None = None
    """Why the message is malformed or too large, as far as the headers tell."""
    reply_to_fault: str | None = None
    """Why a present reply_to cannot be used."""


@dataclass(slots=True)
class Request:
    """A readable request: not authenticated yet, and its kind, version and payload not judged."""

    kind: str
    version: int
    body: bytes = field(repr=False)
    payload: Mapping[str, object] | None = field(repr=False)
    """As read; not kept of a large body, of which that may take fifty times the memory."""
    _payload_json: bytes | None = field(default=None, repr=False)

    @property
    def is_large(self) -> bool:
        """Tell whether the payload is read once more for its canonical form: that may take a while."""
        return self.payload is None and self._payload_json is None

    @property
    def payload_json(self) -> bytes:
        """The payload in canonical form (RFC 8785), made when first asked for: that may be dear."""
        if self._payload_json is None:
            payload = self.payload
            self._payload_json = at_rest(_canonical_payload, self.body) if payload is None else canonical(payload)
            self.payload = None
        return self._payload_json

    @property
    def content(self) -> bytes:
        """What makes this message the same as another one: kind, version and payload in canonical form."""
        return b"%b\n%d\n%b" % (self.kind.encode(), self.version, self.payload_json)


def _canonical_payload(body: bytes) -> bytes:
    return canonical(cast("Mapping[str, object]", reread(body))["payload"])


def read_headers(record: RawRecord, topics: Topics) -> Headers:
    """Read the headers; every fault is noted in the result.

    Raises `UnreadableRecord` when a header key is not UTF-8.
    """
    given = record.headers
    names, values = zip(*given, strict=True) if given else ((), ())
    layout = _layout_of(names)
    if layout.unreadable is not None:
        raise UnreadableRecord(layout.unreadable)
    header_bytes = layout.name_bytes + len(b"".join(filter(None, values)))
    ours = layout.ours((*values, _ABSENT))
    message_id, correlation_id, reply_to, authorization, deadline, _, traceparent, tracestate = ours
    own_id, its_id = _printable(message_id), _printable(correlation_id)
    fault: CatalogError | None = None
    if (
        header_bytes > MAX_HEADER_BYTES
        or len(given) > MAX_HEADERS
        or (record.key is not None and len(record.key) > MAX_KEY_BYTES)
        or layout.omission is not None
    ):
        fault = _too_large(record, header_bytes, layout.omission)
    elif faulty := _first_fault(layout, ours, own_id, its_id):
        fault = malformed_header(*faulty)
    reply_topic = reply_to_fault = None
    if reply_to is not _ABSENT:
        reply_topic, reply_to_fault = _reply_topic(reply_to, topics.replies)
    elif "reply_to" in layout.names:
        reply_to_fault = "reply_to is repeated"
    # A bad trace context is ignored: it must never cost a message.
    is_traced = traceparent is not _ABSENT and traceparent is not None and _TRACEPARENT.fullmatch(traceparent)
    return Headers(
        own_id,
        own_id if its_id is None else its_id,
        layout.names,
        reply_topic,
        authorization if authorization is not _ABSENT and fault is None else None,
        int(deadline) if deadline is not _ABSENT and deadline is not None and fault is None else None,
        traceparent if is_traced else None,
        tracestate if is_traced and tracestate is not _ABSENT else None,
        fault,
        reply_to_fault,
    )


@dataclass(frozen=True, slots=True)
class _Layout:
    """What the names of a record's headers tell: a sender's are the same in all its records."""

    name_bytes: int
    names: frozenset[str]
    """Which of our headers are there."""
    repeated: str | None
    """The first of them that is there more than once."""
    ours: Callable[[tuple[bytes | None, ...]], tuple[bytes | None, ...]]
    """Picks the values of `_OURS`; the last one for those that are not there just once."""
    omission: Omission | None
    unreadable: str | None
    """Why the record cannot be read."""


@lru_cache(_REMEMBERED_LAYOUTS)
def _layout_of(names: tuple[str, ...]) -> _Layout:
    count = Counter(names)
    omission, unreadable = None, None
    if not all(map(_is_text, names)):
        omission = Omission.of([(names[-1], None)])
        if omission is None or not all(map(_is_text, names[:-1])):
            unreadable = _why_unreadable(names)
    once = {name: place for place, name in enumerate(names) if count[name] == 1}
    if not _TRACE.isdisjoint(count.keys() - once.keys()):
        once = {name: place for name, place in once.items() if name not in _TRACE}
    return _Layout(
        sum(len(name.encode("utf-8", "surrogatepass")) for name in names),
        _KNOWN & count.keys(),
        next((name for name in names if name in _KNOWN and name not in once), None),
        itemgetter(*(once.get(name, len(names)) for name in _OURS)),
        omission,
        unreadable,
    )


def _is_text(name: str) -> bool:
    """Tell whether a header's key was UTF-8."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _printable(value: bytes | None) -> str | None:
    """Return 1-128 printable ASCII characters as a text, None for anything else."""
    if value and len(value) <= _MAX_ID_BYTES and value.isascii():
        text = value.decode("ascii")
        if text.isprintable():
            return text
    return None


def _too_large(record: RawRecord, header_bytes: int, omission: Omission | None) -> MessageTooLargeError:
    """Say what of a record is beyond its limits: the headers, the key, or a body that was left out."""
    header_count, key_bytes = len(record.headers), len(record.key) if record.key else 0
    if omission is not None:
        header_count, header_bytes = omission.header_count, omission.header_bytes
        key_bytes = omission.key.size if omission.key is not None else key_bytes
    if header_count > MAX_HEADERS:
        return MessageTooLargeError(
            "There are too many headers", {"header_count": header_count, "limit_count": MAX_HEADERS}
        )
    if header_bytes > MAX_HEADER_BYTES:
        return MessageTooLargeError(
            "The headers are too large", {"header_bytes": header_bytes, "limit_bytes": MAX_HEADER_BYTES}
        )
    if key_bytes > MAX_KEY_BYTES:
        return MessageTooLargeError("The key is too large", {"key_bytes": key_bytes, "limit_bytes": MAX_KEY_BYTES})
    return _body_too_large(omission.value.size if omission is not None and omission.value is not None else 0)


def _body_too_large(size: int) -> MessageTooLargeError:
    return MessageTooLargeError("The body is too large", {"body_bytes": size, "limit_bytes": MAX_BODY_BYTES})


def _why_unreadable(names: Sequence[str]) -> str:
    """Say what the edge says, or which header keys are not UTF-8."""
    broken = []
    for name in names:
        if name.startswith(UNREADABLE):
            return name.removeprefix(UNREADABLE)
        if not name.startswith(_OMISSION) and not _is_text(name):
            broken.append(name.encode("utf-8", "surrogateescape").hex())
    return "header key is not UTF-8: " + ", ".join(broken)


@lru_cache(_REMEMBERED_TOPICS)
def _reply_topic(value: bytes | None, replies: str) -> tuple[str | None, str | None]:
    """Return where to answer, or why a present reply_to cannot be used."""
    if value is None:
        return None, "reply_to is null"
    if not value.isascii() or not is_reply_topic(name := value.decode("ascii"), replies):
        return None, f"reply_to is no topic {replies}<name>"
    return name, None


def _first_fault(
    layout: _Layout, ours: tuple[bytes | None, ...], own_id: str | None, its_id: str | None
) -> tuple[str, str] | None:
    """Find the first of our headers that is not as the contract says: its name and what is wrong."""
    if layout.repeated is not None:
        return layout.repeated, "repeated"
    message_id, correlation_id, _, authorization, deadline, content_type, _, _ = ours
    if own_id is None and message_id is not _ABSENT:
        return _wrong("message_id", message_id, "not 1-128 printable ASCII characters")
    if its_id is None and correlation_id is not _ABSENT:
        return _wrong("correlation_id", correlation_id, "not 1-128 printable ASCII characters")
    if authorization is None or not authorization.isascii():
        return _wrong("authorization", authorization, "not ASCII")
    if deadline is not _ABSENT and (deadline is None or not _DEADLINE.fullmatch(deadline)):
        return _wrong("deadline", deadline, "not a time in milliseconds since the epoch")
    if content_type is not _ABSENT and content_type != b"application/json":
        return _wrong("content-type", content_type, "not application/json")
    return None


def _wrong(name: str, value: bytes | None, reason: str) -> tuple[str, str]:
    return name, "null" if value is None else reason


def malformed_header(name: str, reason: str) -> MalformedMessageError:
    """Say which header is wrong, and why."""
    return MalformedMessageError(f"Header '{name}' is {reason}", {"header": name, "reason": reason})


def read_request(record: RawRecord, headers: Headers, kinds: Mapping[str, Kind], topic: str) -> Request | CatalogError:
    """Read size and envelope of a record whose headers are read; return the request or the refusal.

    `topic` is `commands` or `queries`: a known kind on the other topic is malformed.
    """
    if isinstance(headers.fault, MessageTooLargeError):
        return headers.fault
    value = record.value
    if value is not None and len(value) > MAX_BODY_BYTES:
        return _body_too_large(len(value))
    if headers.fault is not None:
        return headers.fault
    if headers.message_id is None and topic == "commands":
        return malformed_header("message_id", "missing")
    body = value or b""
    return _read_body(body, kinds, topic) if len(body) < LARGE_BYTES else at_rest(_read_body, body, kinds, topic)


def _read_body(content: bytes, kinds: Mapping[str, Kind], topic: str) -> Request | CatalogError:
    try:
        body = read(content)
        if not isinstance(body, dict):
            return _malformed("the body is no JSON object")
        payload = body.get("payload")
        if not isinstance(payload, dict):
            return _malformed("'payload' is no JSON object" if "payload" in body else "'payload' is missing", "payload")
    except NotIJsonError as error:
        return _malformed(str(error.reason), error.path)
    kind = body.get("kind")
    if not isinstance(kind, str) or not kind:
        return _malformed("'kind' is no text" if "kind" in body else "'kind' is missing", "kind")
    version = body.get("version", 1)
    if isinstance(version, float) and version.is_integer():
        version = int(version)  # a number counts by its value
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        return _malformed("'version' is no whole number above 0", "version")
    if len(body) > (3 if "version" in body else 2):
        unknown = min(body.keys() - {"kind", "version", "payload"})
        return _malformed("unknown field beside 'kind', 'version' and 'payload'", unknown)
    known = kinds.get(kind)
    if known is not None and known.topic != topic:
        return MalformedMessageError(
            f"Kind '{kind}' does not belong on this topic", {"field": "kind", "belongs_on": known.topic}
        )
    return Request(kind, version, content, payload if len(content) <= _KEPT_BYTES else None)


def _malformed(reason: str, path: str | None = None) -> MalformedMessageError:
    details: dict[str, object] = {"reason": reason}
    if path:
        details["field"] = path[:200]
    return MalformedMessageError("The message is malformed: " + reason, details)
