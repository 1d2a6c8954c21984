"""The body of every reply: exactly four keys, `statusCode`, `message`, `type`, `data`."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Final, Generic, Literal, TypeVar

import orjson

from contracts import messages
from contracts.errors import CatalogError, ResponseTooLargeError
from contracts.values import value

EnvelopeType = Literal["success", "error", "warning", "neutral"]

T_co = TypeVar("T_co", covariant=True)

_BEGINS: Final = b'{"statusCode":'

MAX_REPLY_BYTES: Final = 900 * 1024
"""A larger reply becomes 413 RESPONSE_TOO_LARGE, so that any caller's topic of the default 1 MiB takes it."""


@value(frozen=True, slots=True)
class Envelope:
    """A result as the caller sees it. `data`: dataclasses, dicts, lists, texts, numbers."""

    status_code: int
    message: str
    type: EnvelopeType
    data: object

    def encode(self) -> bytes:
        """JSON bytes: decimals as strings, times RFC 3339 UTC with Z, dates ISO 8601.

        An envelope over `MAX_REPLY_BYTES` is replaced by the 413 that says so.
        """
        body = orjson.dumps(
            {"statusCode": self.status_code, "message": self.message, "type": self.type, "data": self.data},
            default=_as_text,
            option=orjson.OPT_UTC_Z,
        )
        if len(body) > MAX_REPLY_BYTES:
            return failure(
                ResponseTooLargeError(
                    "The response is too large to be sent",
                    {"response_bytes": len(body), "limit_bytes": MAX_REPLY_BYTES, "remedy": self._remedy(len(body))},
                )
            ).encode()
        return body

    def _remedy(self, size: int) -> str:
        """Say what the caller can do about a reply that is too large."""
        if isinstance(self.data, Page):
            return smaller_page(len(self.data.items) * MAX_REPLY_BYTES * 9 // (size * 10))
        return "ask for its parts by queries of their own; a command took effect"


def smaller_page(rows: int) -> str:
    """Say how a page that is too large may be asked for; where rows differ much it may take a few steps."""
    return f"ask for a smaller page: with a page size or limit of at most {max(1, rows)}"


def _as_text(value: object) -> str:
    if isinstance(value, Decimal):
        return format(value, "f")
    msg = f"no JSON form for {type(value).__name__}"
    raise TypeError(msg)


def status_of(body: bytes) -> int:
    """Read the statusCode of an encoded envelope; it stands first."""
    digits = len(_BEGINS)
    return int(body[digits : digits + 3])


@value(frozen=True, slots=True)
class Page(Generic[T_co]):
    """The `data` of a list. Under a cursor `page` is null; `total_count` is null where counting would cost too much."""

    items: Sequence[T_co]
    total_count: int | None
    page: int | None
    page_size: int
    has_more: bool
    next_cursor: str | None


@value(frozen=True, slots=True)
class Warnings(Generic[T_co]):
    """The `data` of a `warning` envelope: how much took effect, and one line for each thing that did not."""

    processed_count: int
    warning_count: int
    warnings: Sequence[T_co]


def created(resource: str, identifier: str, data: object) -> Envelope:
    """201: it exists now."""
    return Envelope(201, messages.created(resource, identifier), "success", data)


def updated(resource: str, identifier: str, data: object) -> Envelope:
    """200: it was changed."""
    return Envelope(200, messages.updated(resource, identifier), "success", data)


def deleted(resource: str, identifier: str) -> Envelope:
    """200: it is gone; data is null."""
    return Envelope(200, messages.deleted(resource, identifier), "success", None)


def unchanged(resource: str, identifier: str, data: object) -> Envelope:
    """200 neutral: the state was already so."""
    return Envelope(200, messages.unchanged(resource, identifier), "neutral", data)


def retrieved(resource: str, data: object) -> Envelope:
    """200: here it is."""
    return Envelope(200, messages.retrieved(resource), "success", data)


def listed(resource: str, page: Page[object]) -> Envelope:
    """200: a page of a list."""
    return Envelope(200, messages.listed(resource, len(page.items)), "success", page)


def partial(action: str, data: Warnings[object]) -> Envelope:
    """200 warning: done, but not all of it."""
    return Envelope(200, messages.partial_success(action, data.warning_count), "warning", data)


def failure(error: CatalogError) -> Envelope:
    """The envelope of an error."""
    return Envelope(
        error.status_code, error.message, "error", {"error_code": error.error_code, "details": dict(error.details)}
    )
