"""Pages of lists, and the cursors that lead from one to the next."""

import base64
import binascii
import hashlib
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Generic, TypeVar

import orjson

from contracts.envelope import Page
from contracts.errors import ValidationFailedError

T = TypeVar("T")

After = tuple[datetime, str]
"""Where a page ends in the order "newest first, ties by id": created_at and id of its last row."""


@dataclass(frozen=True, slots=True)
class Found(Generic[T]):
    """One page of what was found. `total_count` is None where counting would cost too much."""

    items: Sequence[T]
    has_more: bool
    total_count: int | None


def cursor_of(after: After, filters: object) -> str:
    """Make a cursor; it is bound to the filters, so that it cannot be used with others."""
    body = orjson.dumps([int(after[0].timestamp() * 1_000_000), after[1], _digest(filters)])
    return base64.urlsafe_b64encode(body).decode().rstrip("=")


def read_cursor(cursor: str, filters: object) -> After:
    """Read a cursor of ours; raises `ValidationFailedError` when it is none, or one of another search."""
    try:
        micros, last_id, digest = orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        created_at = datetime.fromtimestamp(micros // 1_000_000, UTC).replace(microsecond=micros % 1_000_000)
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


def page_of(
    found: Found[T],
    show: Callable[[T], object],
    place: Callable[[T], After],
    filters: object,
    *,
    page_size: int,
    page: int | None,
) -> Page:
    """Show a page, with the cursor that leads to the next one where there is one."""
    return Page(
        [show(item) for item in found.items],
        found.total_count,
        page,
        page_size,
        found.has_more,
        cursor_of(place(found.items[-1]), filters) if found.has_more else None,
    )
