"""How a request can end otherwise than with its result.

CatalogError
├── NotConnected              Kafka, or the reply topic, cannot be used
├── NotSent                   nothing was published
├── ReplyTimeout              no answer in time: it may have taken effect, or may not
├── UnreadableReply           an answer came that this client cannot read
└── Refused                   the workers said no; a class for each error_code in `catalog_client.generated.errors`
    ├── BadRequest, NotFound, Conflict, Gone, TooLarge, Unprocessable    by statusCode
    └── RateLimited, InternalError, …
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from catalog_client.replies import Envelope


class CatalogError(Exception):
    """The root of all that the client raises about a request."""

    repeatable: ClassVar[bool] = False
    """Whether the same message may be sent again, under the same message_id."""


class NotConnected(CatalogError):
    """Kafka cannot be reached, refuses us, or has no reply topic; the text says which, and what to do."""

    repeatable = True


class NotSent(CatalogError):
    """Nothing was published, so nothing took effect: Kafka could not be reached in time, or does not take it."""

    repeatable = True

    def __init__(self, message_id: str, reason: str) -> None:
        super().__init__(f"request {message_id} was not sent: {reason}")
        self.message_id = message_id
        self.reason = reason


class ReplyTimeout(CatalogError, TimeoutError):
    """No answer came in time. A command may have taken effect, or may not.

    `await client.outcome(error.message_id)` tells what became of it; the same call with the same message_id is safe.
    """

    repeatable = True

    def __init__(self, message_id: str, waited_s: float, records: int) -> None:
        super().__init__(
            f"no answer to {message_id} within {waited_s:g} s ({records} records sent): it may have taken effect; "
            f"client.outcome('{message_id}') tells, and the same message_id can be sent again"
        )
        self.message_id = message_id
        self.waited_s = waited_s
        self.records = records
        """How many times it was published."""


class UnreadableReply(CatalogError):
    """An answer came that is not of the form that this client knows. A command that succeeded took effect."""

    def __init__(self, message_id: str, envelope: Envelope | None, reason: str) -> None:
        super().__init__(f"the answer to {message_id} cannot be read: {reason}")
        self.message_id = message_id
        self.envelope = envelope


class Refused(CatalogError):
    """The workers refused the request, or a use case ended badly. Codes that are not known yet are of this class."""

    status: ClassVar[int] = 0
    """The statusCode of this error_code; 0 where the class is not of one code."""
    repeat: ClassVar[Literal["same", "new"] | None] = None
    """Under which message_id it may be sent once more: `same` (nothing was kept of the refusal), `new` (the refusal is
    the outcome of this id), or None: it would be refused again."""
    repeat_with: ClassVar[str] = ""
    """What has to be otherwise; where `repeat` is None, what to do instead."""

    def __init__(self, message_id: str, envelope: Envelope) -> None:
        data = envelope.data if isinstance(envelope.data, Mapping) else {}
        self.message_id = message_id
        self.status_code = envelope.status_code
        self.error_code = str(data.get("error_code", ""))
        self.message = envelope.message
        details = data.get("details")
        self.details: Mapping[str, Any] = details if isinstance(details, Mapping) else {}
        self.envelope = envelope
        super().__init__(f"{self.status_code} {self.error_code}: {self.message}")


class BadRequest(Refused):
    """400: the message is not what it should be, or a rule of the domain forbids it."""


class NotFound(Refused):
    """404: what it names does not exist."""


class Conflict(Refused):
    """409: it collides with what exists."""


class Gone(Refused):
    """410: it was there once, and never comes back."""


class TooLarge(Refused):
    """413: the request, or its answer, is larger than its limit."""


class Unprocessable(Refused):
    """422: fields are wrong, or it cannot be worked out."""


FAMILIES: Mapping[int, type[Refused]] = {
    400: BadRequest,
    404: NotFound,
    409: Conflict,
    410: Gone,
    413: TooLarge,
    422: Unprocessable,
}
"""What an error is whose code is not known yet, by its statusCode."""


@dataclass(frozen=True, slots=True)
class FieldError:
    """What is wrong with a field."""

    field: str
    """A dotted path inside the payload."""
    message: str
    type: str


class WithFields(Unprocessable):
    """Names each field that is wrong."""

    @property
    def errors(self) -> Sequence[FieldError]:
        """The fields, at least one."""
        found = self.details.get("validation_errors")
        return [
            FieldError(str(one.get("field", "")), str(one.get("message", "")), str(one.get("type", "")))
            for one in (found if isinstance(found, list) else [])
            if isinstance(one, Mapping)
        ]


class WithRole(Refused):
    """Names the role that is missing."""

    @property
    def required_role(self) -> str | None:
        """What the token must grant."""
        role = self.details.get("required_role")
        return None if role is None else str(role)


class WithWait(Refused):
    """Says when there is room again."""

    @property
    def retry_after(self) -> float:
        """How long to wait, in seconds."""
        return wait_s_of(self.envelope) or 0.0

    @property
    def blocked(self) -> bool:
        """Whether an operator blocks this caller or this kind."""
        return self.details.get("blocked") is True


class WithIncident(Refused):
    """Names an incident, and may be answered again later under the same correlation id."""

    later: Callable[[], Awaitable[Any]] | None = None
    """Set by the client: waits for the later answer."""

    @property
    def incident(self) -> str:
        """What to name to whoever runs the deployment."""
        return str(self.details.get("incident", ""))

    @property
    def parked(self) -> bool:
        """Whether it waits for an operator: then it is answered again by itself."""
        return self.details.get("parked") is True

    async def settled(self, timeout: float | None = None) -> Any:  # noqa: ANN401 - the call's own type
        """Wait for the later answer: return its data, or raise what it says.

        It comes while the client that asked is open. Raise TimeoutError after `timeout` seconds (None: wait for ever);
        it may be called again then. Without a waiter the answer goes to the hook of late replies.
        """
        if self.later is None:
            raise RuntimeError("the client that asked is needed to wait for the later answer")
        async with asyncio.timeout(timeout):
            return await self.later()


def wait_s_of(envelope: Envelope) -> float | None:
    """Read how many seconds a 429 asks to wait; None where it does not say."""
    data = envelope.data
    details = data.get("details") if isinstance(data, Mapping) else None
    wait_ms = details.get("retry_after_ms") if isinstance(details, Mapping) else None
    return wait_ms / 1000 if isinstance(wait_ms, int | float) and not isinstance(wait_ms, bool) else None
