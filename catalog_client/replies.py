"""What is answered: the envelope, and what came with it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any, Generic, TypeVar

T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Envelope:
    """The body of a reply, and the headers that tell about it."""

    status_code: int
    message: str
    type: str
    """`success`, `neutral` (nothing to do: the state was already so), `warning` (done, but not all of it) or `error`;
    what is not known yet is kept as text."""
    data: Any
    """Plain JSON."""
    raw_headers: Mapping[str, bytes | None]

    @property
    def headers(self) -> Mapping[str, str]:
        """What came with it, as text."""
        found = self.raw_headers.items()
        return {name: value.decode("utf-8", "replace") for name, value in found if value is not None}

    @property
    def body(self) -> Mapping[str, Any]:
        """The four keys, as they came."""
        return {"statusCode": self.status_code, "message": self.message, "type": self.type, "data": self.data}

    @property
    def correlation_id(self) -> str:
        """The request's."""
        return _text(self.raw_headers.get("correlation_id")) or ""

    @property
    def message_id(self) -> str | None:
        """The request's, where it had one."""
        return _text(self.raw_headers.get("in_reply_to"))

    @property
    def replayed(self) -> bool:
        """Whether this is the stored outcome of an earlier delivery."""
        return self.raw_headers.get("replayed") == b"true"

    @property
    def deprecation(self) -> date | None:
        """Since when the version that was asked for is deprecated."""
        return _date(self.raw_headers.get("deprecation"))

    @property
    def sunset(self) -> date | None:
        """From when on the version that was asked for may be refused."""
        return _date(self.raw_headers.get("sunset"))


@dataclass(frozen=True, slots=True)
class Reply(Generic[T_co]):
    """An answer with all that came with it; `with_raw_response` returns it."""

    status_code: int
    message: str
    type: str
    data: T_co
    message_id: str
    """Under which it was asked; of a query its correlation id."""
    replayed: bool
    deprecation: date | None
    sunset: date | None
    envelope: Envelope
    """As it came, with fields that this client does not know yet."""


def read_envelope(body: bytes, headers: Mapping[str, bytes | None]) -> Envelope:
    """Read a reply. Raise ValueError for what is no envelope."""
    read = json.loads(body)
    try:
        return Envelope(read["statusCode"], read["message"], read["type"], read["data"], headers)
    except (KeyError, TypeError):
        raise ValueError("no envelope") from None


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("utf-8", "replace")


def _date(value: bytes | None) -> date | None:
    text = _text(value)
    try:
        return date.fromisoformat(text) if text else None
    except ValueError:
        return None
