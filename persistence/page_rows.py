"""Rows of a page, each of which may be large: what cannot be sent together is not loaded together.

A hundred products with their catalogues are 6 MB, a hundred orders with the attributes of their lines 25 MB. The
statement of a page adds up the one large text of its rows in their order, and leaves it out where a reply has been full
for long; the first row always comes whole.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from contracts.envelope import MAX_REPLY_BYTES
from handlers.page import After, Found, Listed, TooMuch

T = TypeVar("T", bound=Listed)

MOST_BYTES: Final = 2 * MAX_REPLY_BYTES
"""Texts of the database have blanks that a reply has not: within this a page may still fit."""


def older(columns: str, place: int) -> str:
    """Say that moment and id, in these columns, come after those that `after_arguments` gives to $place and beyond."""
    return f"({columns}) < (${place}::text::timestamptz, ${place + 1}::uuid)"


def after_arguments(after: After | None) -> tuple[str, ...]:
    """Return the arguments of `older`: the moment as text, so that the calendar's last one is not sent as infinity."""
    return () if after is None else (after[0].isoformat(), after[1])


def bounded(rows: str, columns: Sequence[str], large: str) -> str:
    """Write the statement of a page: `rows` with these columns and a `large` text, newest first, ties by id.

    Adds `running_bytes`, the texts of this row and those before it, and `fits`, false where the text was left out.
    """
    listed = ", ".join(f"r.{column}" for column in columns)
    return f"""
select {listed}, r.running_bytes, r.fits, case when r.fits then r.{large} end as {large}
from (
  select t.*, sum(octet_length(t.{large})) over w as running_bytes,
    coalesce(sum(octet_length(t.{large})) over w - octet_length(t.{large}), 0) <= {MOST_BYTES} as fits
  from ({rows} offset 0) as t
  window w as (order by t.created_at desc, t.id collate "C" desc)) as r
order by r.created_at desc, r.id collate "C" desc"""


def found(rows: Sequence[Any], size: int, total: int | None, read: Callable[[Any], T]) -> Found[T] | TooMuch:
    """Read the rows of a page of that size, of which there may be one more; rows without an id are none."""
    there = [row for row in rows if row["id"] is not None]
    page = there[:size]
    if not all(row["fits"] for row in page):
        fitting = sum((row["running_bytes"] or 0) <= MAX_REPLY_BYTES for row in page)
        return TooMuch(page[-1]["running_bytes"], max(1, fitting))
    return Found([read(row) for row in page], len(there) > size, total)
