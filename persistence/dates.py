"""Dates and moments as what they are, up to both ends of the calendar.

The driver takes Python's first and last date (and moment) for PostgreSQL's infinities, in both directions: 9999-12-31,
everybody's "no end", would be stored as `infinity`, which no JSON and no date of Python's can say. So dates have a
codec of their own here. Moments keep the driver's, which is faster, and no clock shows the last microsecond of the
calendar; one that a stranger wrote, as in a cursor, is sent as text (`page_rows.older`).
"""

from datetime import date
from typing import Any, Final

_PG_EPOCH: Final = date(2000, 1, 1).toordinal()
_FIRST: Final = date.min.toordinal()
_LAST: Final = date.max.toordinal()


def _encode(value: date) -> tuple[int]:
    return (value.toordinal() - _PG_EPOCH,)


def _decode(value: tuple[int]) -> date:
    """Read days; what lies beyond Python's calendar, `infinity` too, is its end on that side."""
    return date.fromordinal(min(max(value[0] + _PG_EPOCH, _FIRST), _LAST))


async def use_exact_dates(connection: Any) -> None:  # noqa: ANN401 (asyncpg has no types)
    """Have an asyncpg connection send and read each date as that very date; one round trip."""
    await connection.set_type_codec("date", schema="pg_catalog", encoder=_encode, decoder=_decode, format="tuple")
