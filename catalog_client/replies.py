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
    headers: Mapping[str, str]

    @property
    def body(self) -> Mapping[str, Any]:
        """The four keys, as they came."""
        return {"statusCode": self.status_code, "message": self.message, "type": self.type, "data": self.data}

    @property
    def correlation_id(self) -> str:
        """The request's."""
        return self.headers.get("correlation_id", "")

    @property
    def message_id(self) -> str | None:
        """The request's, where it had one."""
        return self.headers.get("in_reply_to")

    @property
    def replayed(self) -> bool:
        """Whether this is the stored outcome of an earlier delivery."""
        return self.headers.get("replayed") == "true"

    @property
    def deprecation(self) -> date | None:
        """Since when the version that was asked for is deprecated."""
        return _date(self.headers.get("deprecation"))

    @property
    def sunset(self) -> date | None:
        """From when on the version that was asked for may be refused."""
        return _date(self.headers.get("sunset"))


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
    if not isinstance(read, dict) or not {"statusCode", "message", "type", "data"} <= read.keys():
        raise ValueError("no envelope")
    texts = {name: value.decode("utf-8", "replace") for name, value in headers.items() if value is not None}
    return Envelope(read["statusCode"], read["message"], read["type"], read["data"], texts)


def _date(text: str | None) -> date | None:
    try:
        return date.fromisoformat(text) if text else None
    except ValueError:
        return None
