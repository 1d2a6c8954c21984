"""What is asked: a kind in a version, its payload, and the record that carries it."""

import json
import os
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from datetime import date
from decimal import Decimal
from typing import Any, Final, Generic, Literal, TypeVar

from catalog_client.unset import UNSET

T = TypeVar("T")

Side = Literal["commands", "queries"]
Headers = list[tuple[str, bytes]]

_ID_CHARACTERS: Final = 128


@dataclass(frozen=True, slots=True)
class Kind(Generic[T]):
    """A kind in one of its versions, and how `data` of its answers is read."""

    name: str
    version: int
    side: Side
    key: Sequence[str]
    """Paths into the payload; the text of the first that is present is the record's key."""
    read: Callable[[Any], T]


@dataclass(slots=True)
class Request(Generic[T]):
    """One request, before it has an id."""

    kind: Kind[T]
    payload: Mapping[str, Any]
    """A field that is UNSET is left out; what is no object, as only `call` may be given, is sent as it is."""

    def body(self) -> bytes:
        """Encode it. Raise ValueError or TypeError for what JSON cannot say."""
        payload: Any = self.payload
        if isinstance(payload, Mapping):
            payload = {name: value for name, value in payload.items() if value is not UNSET}
        return _encode({"kind": self.kind.name, "version": self.kind.version, "payload": payload}).encode()

    def key(self, otherwise: str) -> bytes:
        """Read what orders it out of the payload; where that has nothing of it, `otherwise`."""
        for path in self.kind.key:
            value: Any = self.payload
            for part in path.split(".") if "." in path else (path,):
                value = value.get(part) if isinstance(value, Mapping) else None
            if value is not None and value is not UNSET:
                return str(value).encode()
        return otherwise.encode()


@dataclass(slots=True)
class Record:
    """A record for one of the request topics. In the caller's own outbox a token is added when it is published."""

    topic: str
    key: bytes
    headers: Sequence[tuple[str, bytes]]
    body: bytes


def read_plain(data: Any) -> Any:  # noqa: ANN401 - any JSON value
    """Leave `data` as it came."""
    return data


def read_nothing(data: Any) -> None:  # noqa: ANN401 - any JSON value
    """Read a `data` that is null."""


def checked_id(message_id: str | None) -> str:
    """Return the id, or make one. Raise ValueError for one that the workers would not take."""
    if message_id is None:
        return os.urandom(16).hex()
    if not (1 <= len(message_id) <= _ID_CHARACTERS and message_id.isascii() and message_id.isprintable()):
        raise ValueError(f"message_id: 1 to {_ID_CHARACTERS} printable ASCII characters, not {message_id!r}")
    return message_id


def _plain(value: object) -> object:
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, uuid.UUID | Decimal):
        return str(value)
    if is_dataclass(value) and not isinstance(value, type):
        pairs = ((one.name, getattr(value, one.name)) for one in fields(value))
        return {name: field for name, field in pairs if field is not UNSET}
    raise TypeError(f"{type(value).__name__} cannot be sent: {value!r}")


_encode: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=_plain).encode
