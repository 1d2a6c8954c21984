"""Rows of a page, each of which may be large: what cannot be sent together is not loaded together.

A hundred products with their catalogues are 6 MB, a hundred orders with the attributes of their lines 25 MB. The
statement of a page adds up the one large text of its rows in their order, and leaves it out where a reply has been full
for long; the first row always comes whole.
"""

import time
from collections.abc import Awaitable, Callable, Hashable, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any, Final, TypeVar

from contracts.envelope import MAX_REPLY_BYTES
from handlers.page import After, Found, Listed, TooMuch
from persistence.engine import Connection, Engine, connected

T = TypeVar("T", bound=Listed)
P = TypeVar("P")

COUNT_BOUND: Final = 1000
"""Filtered lists are counted up to here; beyond it their total_count is null."""
PAGES_AT_ONCE: Final = 8
"""How many pages one statement finds: the largest of so many are some 15 MB."""
PAGES_FOR_S: Final = 0.2
PAGES_BYTES: Final = 8 * 1024 * 1024
"""How long one reader goes on to find pages, and of how many bytes, before others have their turn."""

MOST_BYTES: Final = 2 * MAX_REPLY_BYTES
"""Texts of the database have blanks that a reply has not: within this a page may still fit."""


def older(columns: str, place: int) -> str:
    """Say that moment and id, in these columns, come after those that `after_arguments` gives to $place and beyond."""
    return f"({columns}) < (${place}::text::timestamptz, ${place + 1}::uuid)"


def after_arguments(after: After | None) -> tuple[str, ...]:
    """Return the arguments of `older`: the moment as text, so that the calendar's last one is not sent as infinity."""
    return () if after is None else (after[0].isoformat(), after[1])


def slices(source: str, key: str, most: int) -> str:
    """Write the CTE `hits`: the ids that a list has, newest first, with their places in it, from 1 on; ${most} of them.

    So the pages of a list, and its count as far as it is counted, are found by one scan.
    """
    newest = f"order by {key}.created_at desc, {key}.id desc"
    return f"""
with hits as materialized (
  select {key}.id, row_number() over ({newest}) as place from {source} {newest} limit ${most}::bigint)"""


SLICED: Final = """
unnest($1::bigint[], $2::bigint[]) with ordinality as w(size, passed, number)
left join lateral (select h.id from hits h where h.place > w.passed and h.place <= w.passed + w.size) as page on true"""
"""The ids of pages of `hits`: $1 rows each, after $2 others. The page is called by its `number`, from 1 on."""


def slice_arguments(pages: Sequence[tuple[int, int]], *, is_filtered: bool) -> tuple[object, ...]:
    """Return the arguments of `SLICED` and how many `hits` it takes, for pages of a size, after so many others.

    Each has one row more, to tell whether there are any; a filtered list is counted as far as it is counted.
    """
    sizes, passed = [size + 1 for size, _ in pages], [offset for _, offset in pages]
    most = max(map(sum, zip(sizes, passed, strict=True)))
    return sizes, passed, max(most, COUNT_BOUND + 1) if is_filtered else most


def bounded(rows: str, columns: Sequence[str], large: str, by: str = "") -> str:
    """Write the statement of a page: `rows` with these columns and a `large` text, newest first, ties by id.

    Adds `running_bytes`, the texts of this row and those before it, and `fits`, false where the text was left out. Of
    several pages, `by` is the column that tells them apart.
    """
    within, first, columns = (f"partition by t.{by} ", f"r.{by}, ", (*columns, by)) if by else ("", "", columns)
    listed = ", ".join(f"r.{column}" for column in columns)
    return f"""
select {listed}, r.running_bytes, r.fits, case when r.fits then r.{large} end as {large}
from (
  select t.*, sum(octet_length(t.{large})) over w as running_bytes,
    coalesce(sum(octet_length(t.{large})) over w - octet_length(t.{large}), 0) <= {MOST_BYTES} as fits
  from ({rows} offset 0) as t
  window w as ({within}order by t.created_at desc, t.id collate "C" desc)) as r
order by {first}r.created_at desc, r.id collate "C" desc"""


def found(rows: Sequence[Any], size: int, total: int | None, read: Callable[[Any], T]) -> Found[T] | TooMuch:
    """Read the rows of a page of that size, of which there may be one more; rows without an id are none."""
    there = [row for row in rows if row["id"] is not None]
    page = there[:size]
    if not all(row["fits"] for row in page):
        fitting = sum((row["running_bytes"] or 0) <= MAX_REPLY_BYTES for row in page)
        return TooMuch(page[-1]["running_bytes"], max(1, fitting))
    return Found([read(row) for row in page], len(there) > size, total)


def found_by_number(
    rows: Sequence[Any], sizes: Sequence[int], read: Callable[[Any], T], *, is_filtered: bool
) -> tuple[Sequence[Found[T] | TooMuch], int]:
    """Read the rows of several pages of one list, in the order of their numbers; each row has the list's `total`.

    Returns the bytes of their large texts, too.
    """
    pages = []
    loaded_bytes = 0
    for size, (_, group) in zip(sizes, groupby(rows, itemgetter("number")), strict=True):
        page = list(group)
        total = int(page[0]["total"])
        loaded_bytes += page[-1]["running_bytes"] or 0
        pages.append(found(page, size, None if is_filtered and total > COUNT_BOUND else total, read))
    return pages, loaded_bytes


async def find_pages(
    engine: Engine,
    asked: Sequence[P],
    list_of: Callable[[P], Hashable | None],
    find: Callable[[Connection, Sequence[P]], Awaitable[tuple[Sequence[Found[T] | TooMuch], int]]],
) -> Sequence[Found[T] | TooMuch | None]:
    """Find pages, those of one list together; None for some, but the first list's, where all would take long, or much.

    `list_of` says which list a page is of, None for one that is found by itself; `find` returns such pages, and how
    many bytes they took. Raises what it raises for the first list: who asks for the others again meets what they met.
    """
    pages: dict[int, Found[T] | TooMuch] = {}
    began_at, loaded_bytes = time.monotonic(), 0
    try:
        async with connected(engine) as connection:
            for places in _together(asked, list_of):
                found_now, more_bytes = await find(connection, [asked[place] for place in places])
                pages.update(zip(places, found_now, strict=True))
                loaded_bytes += more_bytes
                if time.monotonic() - began_at > PAGES_FOR_S or loaded_bytes > PAGES_BYTES:
                    break
    except Exception:
        if not pages:
            raise
    return [pages.get(place) for place in range(len(asked))]


def _together(asked: Sequence[P], list_of: Callable[[P], Hashable | None]) -> Sequence[Sequence[int]]:
    """Group the places of pages of one list, a few each; in the order of their first ones."""
    groups: list[list[int]] = []
    open_groups: dict[Hashable, list[int]] = {}
    for place, one in enumerate(asked):
        name = list_of(one)
        group = open_groups.get(name) if name is not None else None
        if group is None or len(group) == PAGES_AT_ONCE:
            group = []
            groups.append(group)
            if name is not None:
                open_groups[name] = group
        group.append(place)
    return groups
