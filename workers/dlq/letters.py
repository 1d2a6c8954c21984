"""A dead letter as an operator sees it: where it failed and why, without what its sender wrote."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any, Final, Literal

import orjson

from contracts.kinds import Kind
from contracts.registry import KINDS
from contracts.topics import Topics, is_reply_topic
from persistence.dead_letter_actions import Done, Failure
from workers.pipeline.replays import Origin, RejectedReplay, Replay, Replays, notes_of, origin_of
from workers.pipeline.signature import PREFIX, Header
from workers.ports import STAMPED_BY_BROKER, Record

Side = Literal["commands", "queries"]
SIDES: Final[tuple[Side, ...]] = ("commands", "queries")
Place = tuple[Side, int, int]
"""Where a letter stands: side, partition, offset."""
UNKNOWN: Final = "unknown"

_PRINTABLE: Final = re.compile(r"[ -~]{1,128}")
_MNEMONIC: Final = re.compile(r"[A-Z0-9_]{1,50}")
_SPECIFIC: Final = re.compile(r"'.*'|\b[0-9a-fA-F]{8}[0-9a-fA-F-]*\b|\d+")
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}")
_IDS: Final = ("customer_id", "order_id", "product_id")
_OF_THE_CONTRACT: Final = frozenset(
    {"message_id", "correlation_id", "reply_to", "deadline", "content-type", "traceparent", "tracestate"}
)
_MAX_DIGITS: Final = 15


@dataclass(frozen=True, slots=True)
class AsReplay:
    """The record that a dead letter would be, were it brought back as it is."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[Header]
    timestamp_type: int = STAMPED_BY_BROKER


@dataclass(frozen=True)
class Letter:
    """One dead letter. What it says of itself is believed where its signature holds."""

    record: Record
    side: Side
    replays: Replays = field(repr=False)

    @property
    def id(self) -> str:
        """Where it stands, as the command line takes it: side, partition, offset."""
        return f"{self.side}/{self.record.partition}/{self.record.offset}"

    @cached_property
    def notes(self) -> Mapping[str, str]:
        """Our own headers; none where they may be anybody's."""
        return notes_of(self.record) if self.is_genuine else {}

    @cached_property
    def judged(self) -> Replay | RejectedReplay:
        """What a worker would make of it if it came back as it is."""
        record = self.record
        topic = notes_of(record).get("dlq.topic", "")
        came_back = AsReplay(
            topic, record.partition, record.offset, record.timestamp, record.key, record.value, record.headers
        )
        if record.topic != f"{topic}.dead-letters":
            return RejectedReplay("it does not belong on this dead-letter topic")
        return self.replays.recognise(came_back) or RejectedReplay("it is not signed")

    @cached_property
    def is_genuine(self) -> bool:
        """Whether it is one of ours, unaltered; what it says of itself is worthless otherwise."""
        return self.replays.is_ours(self.record)

    @property
    def origin(self) -> Origin | None:
        """Where the message came from, as the letter says."""
        return origin_of(dict(self.notes))

    @cached_property
    def failure(self) -> Failure:
        """What tells this failure of this message from all others; a letter that is not ours is only itself."""
        origin = self.origin
        if origin is None:
            record = self.record
            return Failure(record.topic, record.partition, record.offset, _time(record.timestamp), 0)
        return Failure(origin.topic, origin.partition, origin.offset, _time(origin.timestamp_ms), origin.attempts)

    @property
    def reason(self) -> str:
        """An error code, or one of the reasons of the contract."""
        return self.notes.get("dlq.reason", UNKNOWN)

    @property
    def place(self) -> str:
        """Where and how it failed, without what differs from message to message: what letters are grouped by."""
        detail = self.notes.get("dlq.detail", "")
        match self.reason:
            case "INTERNAL_ERROR":
                return detail
            case "UNREADABLE_RECORD":
                return detail.partition(":")[0]
            case _:
                return _SPECIFIC.sub("…", detail)

    @property
    def failed_at(self) -> datetime:
        """When it was put aside, by the worker's clock."""
        return _time(_number(self.notes.get("dlq.failed_at")) or self.record.timestamp)

    @property
    def attempts(self) -> int:
        """How often it has failed."""
        return self.origin.attempts if self.origin is not None else 0

    @property
    def caller(self) -> str | None:
        """Who sent it, as `sub` or `iss sub`; None where nobody was verified."""
        caller = self.notes.get("dlq.caller")
        return caller.replace("\n", " ").strip() if caller is not None else None

    @cached_property
    def headers(self) -> Mapping[str, bytes | None]:
        """The sender's headers; of repeated ones the last."""
        return {name: value for name, value in self.record.headers if not name.startswith(PREFIX)}

    @property
    def message_id(self) -> str | None:
        """The caller's message_id, where it is readable."""
        value = (self.headers.get("message_id") or b"").decode("ascii", "replace")
        return value if _PRINTABLE.fullmatch(value) else None

    @property
    def shown_message_id(self) -> str | None:
        """The message_id as it may be shown: of a sender that nobody verified it is any text, unless it is a UUID."""
        return self._of_a_caller(self.message_id)

    @property
    def place_of_letter(self) -> Place:
        """Where it stands."""
        return self.side, self.record.partition, self.record.offset

    @cached_property
    def body(self) -> dict[str, Any] | None:
        """The body, where it is a JSON object."""
        try:
            body = orjson.loads(self.record.value or b"")
        except orjson.JSONDecodeError:
            return None
        return body if isinstance(body, dict) else None

    @property
    def kind(self) -> Kind | None:
        """The kind, where it is one that we know."""
        name = self.notes.get("dlq.kind") or (self.body.get("kind") if self.body is not None else None)
        return KINDS.get(name) if isinstance(name, str) else None

    @property
    def kind_name(self) -> str:
        """The kind's name; a text of the sender's own is not repeated."""
        return self.kind.name if self.kind is not None else UNKNOWN

    @property
    def noted_kind(self) -> str:
        """The kind's name as the headers alone tell it."""
        name = self.notes.get("dlq.kind", UNKNOWN)
        return name if name in KINDS else UNKNOWN

    def summary(self, done: Done | None) -> dict[str, Any]:
        """Return what may be shown to anybody: no key, no value, no header that its sender made up."""
        return {
            "id": self.id,
            "reason": self.reason,
            "place": self.place,
            "kind": self.kind_name,
            "caller": self.caller,
            "message_id": self.shown_message_id,
            "failed_at": iso(self.failed_at),
            "attempts": self.attempts,
            "origin": f"{self.origin.topic}/{self.origin.partition}/{self.origin.offset}" if self.origin else None,
            "genuine": self.is_genuine,
            "state": state_of(done),
        }

    def description(self, done: Done | None) -> dict[str, Any]:
        """Return everything but what may be personal: ids, names of fields, sizes."""
        judged = self.judged
        roles = self.notes.get("dlq.roles")
        payload = self.body.get("payload") if self.body is not None else None
        return self.summary(done) | {
            "sent_at": iso(self.failure.stamped_at) if self.is_genuine else None,
            "worker": self.notes.get("dlq.worker"),
            "incident": self.notes.get("dlq.incident"),
            "edited_by": self.notes.get("dlq.operator"),
            "roles": roles.split(",") if roles else [],
            "can_be_replayed": True if isinstance(judged, Replay) else judged.reason,
            "key": _shown_key(self.record.key),
            "headers": sorted(_OF_THE_CONTRACT & self.headers.keys()),
            "other_headers": len(self.headers.keys() - _OF_THE_CONTRACT),
            "reply_to": self._reply_to(),
            "version": self._version(),
            "payload_fields": self._known_fields(payload),
            "ids": self._ids(payload),
            "value_bytes": len(self.record.value or b"") or _number(self.notes.get("dlq.value_bytes")),
        }

    def revealed(self) -> dict[str, Any]:
        """Return all of it: key, headers and value as they were sent."""
        return {
            "detail": self.notes.get("dlq.detail"),
            "key": _text(self.record.key),
            "headers": [[name, _text(value)] for name, value in self.record.headers],
            "value": self.body if self.body is not None else _text(self.record.value),
        }

    def _reply_to(self) -> str | None:
        reply_to = self.headers.get("reply_to")
        if reply_to is None:
            return None
        name = reply_to.decode("ascii", "replace")
        prefix = self.record.topic.removesuffix(f".{self.side}.dead-letters")
        return self._of_a_caller(name) if is_reply_topic(name, Topics(prefix).replies) else "(unusable)"

    def _of_a_caller(self, text: str | None) -> str | None:
        """Return a name that a verified caller gave; of others, who may have written anything, how long it is."""
        if text is None or self.caller is not None or _UUID.fullmatch(text):
            return text
        return f"(hidden, {len(text)} bytes)"

    def _version(self) -> int | None:
        """Return the version, where it is one of the kind's: anything else is a text of the sender's own."""
        if self.kind is None or self.body is None:
            return None
        version = self.body.get("version", 1)
        known = next((one.number for one in self.kind.versions if one.number == version), None)
        return known if not isinstance(version, bool) else None

    def _known_fields(self, payload: object) -> list[str]:
        if self.kind is None or not isinstance(payload, dict):
            return []
        known = {name for version in self.kind.versions for name in version.model.model_fields}
        return sorted(known & payload.keys())

    def _ids(self, payload: object) -> dict[str, str]:
        """Return what names an entity and nobody: ids that are UUIDs, and the mnemonic where the kind has one."""
        if self.kind is None or not isinstance(payload, dict):
            return {}
        known = self._known_fields(payload)
        found: dict[str, str] = {name: payload[name] for name in _IDS if name in known and _is_uuid(payload[name])}
        mnemonic = payload.get("mnemonic")
        if "mnemonic" in known and self.caller is not None and isinstance(mnemonic, str):
            found |= {"mnemonic": mnemonic} if _MNEMONIC.fullmatch(mnemonic) else {}
        return found


def state_of(done: Done | None) -> str:
    """Say how a letter was dealt with, if it was."""
    return "open" if done is None else f"{done.action} by {done.operator} at {iso(done.done_at)}"


def _is_uuid(value: object) -> bool:
    return isinstance(value, str) and _UUID.fullmatch(value) is not None


def _shown_key(key: bytes | None) -> str | None:
    """A key may be an e-mail address: it is shown where it is an id."""
    if key is None:
        return None
    text = key.decode("utf-8", "replace")
    return text if _is_uuid(text) else f"(hidden, {len(key)} bytes)"


def _text(content: bytes | None) -> str | None:
    if content is None:
        return None
    try:
        return content.decode()
    except UnicodeDecodeError:
        return f"hex:{content.hex()}"


def _number(text: str | None) -> int | None:
    if text is None or not text.isascii() or not text.isdigit() or len(text) > _MAX_DIGITS:
        return None
    return int(text)


def _time(millis: int) -> datetime:
    return datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=millis)


def iso(at: datetime) -> str:
    """Write a time as people and programs read it: RFC 3339 in UTC, to the second."""
    return at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


@dataclass(frozen=True, slots=True)
class Filter:
    """Which letters are meant; an empty criterion lets all pass. `callers` are `sub`s, or `iss sub`."""

    reasons: Collection[str] = ()
    kinds: Collection[str] = ()
    callers: Collection[str] = ()
    since: datetime | None = None
    until: datetime | None = None

    def passes(self, letter: Letter) -> bool:
        """Tell whether a letter is meant."""
        if self.reasons and letter.reason not in self.reasons:
            return False
        if self.since is not None and letter.failed_at < self.since:
            return False
        if self.until is not None and letter.failed_at >= self.until:
            return False
        if self.callers and not self._names(letter):
            return False
        return not self.kinds or letter.kind_name in self.kinds

    def _names(self, letter: Letter) -> bool:
        caller = letter.notes.get("dlq.caller", "")
        return bool({caller.partition("\n")[2], caller.replace("\n", " ")} & set(self.callers) - {""})


@dataclass(frozen=True, slots=True)
class Entry:
    """What a list keeps of a letter: where it stands, and what may be shown; neither key nor value nor headers."""

    failure: Failure
    place: Place
    topic: str
    failed_at: datetime
    summary: Mapping[str, Any]

    @classmethod
    def of(cls, letter: Letter) -> "Entry":
        """Make the entry of a letter."""
        return cls(letter.failure, letter.place_of_letter, letter.record.topic, letter.failed_at, letter.summary(None))

    @property
    def id(self) -> str:
        """Where it stands, as the command line takes it."""
        return str(self.summary["id"])

    def shown(self, done: Done | None) -> dict[str, Any]:
        """Return what may be shown to anybody, with how it was dealt with."""
        return {**self.summary, "state": state_of(done)}


_AGO: Final = re.compile(r"(\d{1,6})([smhd])")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def read_time(text: str, now: datetime) -> datetime:
    """Read a time: RFC 3339, or so long ago, as 90s, 30m, 2h, 3d. Raises ValueError."""
    if ago := _AGO.fullmatch(text.strip()):
        return now - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
    at = datetime.fromisoformat(text.strip())
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)
