"""Pages of lists, and the cursors that lead from one to the next."""

import base64
import binascii
import hashlib
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Generic, Protocol, TypeVar

import orjson

from contracts.envelope import MAX_REPLY_BYTES, Page, listed, smaller_page
from contracts.errors import ResponseTooLargeError, ValidationFailedError
from handlers.result import Failure, Result, Success


class Listed(Protocol):
    """What is listed: newest first, ties by id."""

    @property
    def id(self) -> str: ...
    @property
    def created_at(self) -> datetime: ...


T = TypeVar("T", bound=Listed)
Q = TypeVar("Q")
W = TypeVar("W")

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)

After = tuple[datetime, str]
"""Where a page ends in the order "newest first, ties by id": created_at and id of its last row."""


@dataclass(frozen=True, slots=True)
class Found(Generic[T]):
    """One page of what was found. `total_count` is None where counting would cost too much."""

    items: Sequence[T]
    has_more: bool
    total_count: int | None


@dataclass(frozen=True, slots=True)
class TooMuch:
    """What makes a page is too large to be sent, and was not loaded: its bytes, and how many of its rows would fit."""

    bytes: int
    fitting: int


def _too_large(page: TooMuch) -> ResponseTooLargeError:
    """Say that a page is too large to be sent, and how large a page may be asked for."""
    return ResponseTooLargeError(
        "The response is too large to be sent",
        {
            "response_bytes": page.bytes,
            "limit_bytes": MAX_REPLY_BYTES,
            "remedy": smaller_page(page.fitting),
        },
    )


def cursor_of(after: After, filters: object) -> str:
    """Make a cursor; it is bound to the filters, so that it cannot be used with others."""
    body = orjson.dumps([(after[0] - _EPOCH) // _MICROSECOND, after[1], _digest(filters)])
    return base64.urlsafe_b64encode(body).decode().rstrip("=")


def read_cursor(cursor: str, filters: object) -> After:
    """Read a cursor of ours; raises `ValidationFailedError` when it is none, or one of another search."""
    try:
        micros, last_id, digest = orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        created_at = _EPOCH + micros * _MICROSECOND
        after = created_at, str(uuid.UUID(str(last_id)))  # anybody can write a cursor: the database gets no other text
    except (ValueError, TypeError, OverflowError, OSError, binascii.Error):
        raise _bad_cursor("is no cursor of ours") from None
    if digest != _digest(filters):
        raise _bad_cursor("belongs to a search with other filters")
    return after


def _bad_cursor(reason: str) -> ValidationFailedError:
    return ValidationFailedError([{"field": "cursor", "message": reason, "type": "cursor"}])


def _digest(filters: object) -> str:
    return hashlib.blake2b(orjson.dumps(filters, option=orjson.OPT_SORT_KEYS), digest_size=9).hexdigest()


def show_page(
    resource: str,
    found: Found[T] | TooMuch,
    show: Callable[[T], object],
    filters: object,
    *,
    page_size: int,
    page: int | None,
) -> Result:
    """Show a page, with the cursor that leads to the next one where there is one; 413 for one that is too large."""
    if isinstance(found, TooMuch):
        return Failure(_too_large(found))
    page_data = Page(
        [show(item) for item in found.items],
        found.total_count,
        page,
        page_size,
        found.has_more,
        cursor_of((found.items[-1].created_at, found.items[-1].id), filters) if found.has_more else None,
    )
    return Success(listed(resource, page_data))


async def answer_pages(
    queries: Sequence[Q],
    read: Callable[[Q], W],
    find: Callable[[Sequence[W]], Awaitable[Sequence[Found[T] | TooMuch | None]]],
    show: Callable[[Q, Found[T] | TooMuch], Result],
) -> Sequence[Result | None]:
    """Answer queries for pages, in their order, as far as `find` finds what `read` makes of them; None for the others.

    422 for one whose cursor `read` refuses.
    """
    wanted: list[W | Failure] = []
    for query in queries:
        try:
            wanted.append(read(query))
        except ValidationFailedError as error:
            wanted.append(Failure(error))
    sought = [one for one in wanted if not isinstance(one, Failure)]
    pages = await find(sought) if sought else ()
    answers: list[Result | None] = []
    found = iter(pages)
    for query, one in zip(queries, wanted, strict=True):
        if isinstance(one, Failure):
            answers.append(one)
        else:
            page = next(found, None)
            answers.append(show(query, page) if page is not None else None)
    return answers
