"""How far a run is, and when it will be done: an interval, from what the ledger says. Without I/O or clock."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from persistence.backfill.chunks import QUICK_LOOK_S

FinishedChunk = tuple[float, int, int]
"""A chunk's age in seconds, its pass, and the keys it walked."""

WIDTH: Final = 0.2
"""The interval is the estimate ± 20 %: 1.5 from end to end. It is the widest that is never more than half of the time
left while it contains it, so an estimate may be wrong by as much as can be told at all."""
TABLE_SHARE: Final = 0.25
KEY_ROW_S: Final = 3e-6
"""Along the table a row costs a quarter of what it does along the key (measured: a tenth to a half), or that without
what reaching it by the key may cost, where the predicate itself is dear."""
FEWEST_CHUNKS: Final = 4
"""Before so many chunks nothing is said: the pace has only just begun to find its size."""
CHUNKS_LOOKED_AT: Final = 256
"""How many of the newest chunks are asked for: two minutes of one worker at full pace."""
LATELY: Final = 0.5
"""Which part of the run so far tells the rate: its newer half, as the older one has the small chunks of the start."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Rows and rate of a run; the time left lies between `low_s` and `high_s`, or is not known yet."""

    rows_walked: int
    rows_estimated: int
    rows_per_s: float | None
    low_s: float | None
    high_s: float | None

    @property
    def fraction(self) -> float:
        """Return the share of the rows of this walk that is done."""
        return 1.0 if self.rows_estimated == 0 else min(1.0, self.rows_walked / self.rows_estimated)


@dataclass(frozen=True, slots=True)
class Walked:
    """What is known of a run: estimated rows, its pass, rows walked in it, and where the last look takes place.

    `last_look_s` is how long the closing walk will take, which finds nothing left to do; 0 where this is it.
    """

    rows_estimated: int
    pass_number: int
    rows_walked: int
    age_s: float
    last_look_s: float


def progress_of(walked: Walked, chunks: Sequence[FinishedChunk]) -> Progress:
    """Estimate from the newest finished chunks, oldest first."""
    estimated = max(walked.rows_estimated, walked.rows_walked)
    rate = _rate(walked, [chunk for chunk in chunks if chunk[1] == walked.pass_number])
    if rate is None:
        return Progress(walked.rows_walked, estimated, None, None, None)
    rows_per_s, idle_s = rate
    left_s = max(0.0, (estimated - walked.rows_walked) / rows_per_s - idle_s) + walked.last_look_s
    return Progress(walked.rows_walked, estimated, rows_per_s, left_s * (1 - WIDTH), left_s * (1 + WIDTH))


def last_look_s(rows: int, idle_row_s: float | None) -> float:
    """Return how long the look for rows written meanwhile will take, `idle_row_s` being measured along the key.

    Along the table it takes less; where that is not quick, another walk along the key follows.
    """
    row_s = idle_row_s or 0.0
    along_key_s = rows * row_s
    along_table_s = rows * max(TABLE_SHARE * row_s, row_s - KEY_ROW_S)
    return along_table_s if along_table_s <= QUICK_LOOK_S else QUICK_LOOK_S + along_key_s


def _rate(walked: Walked, chunks: Sequence[FinishedChunk]) -> tuple[float, float] | None:
    """Return rows a second lately, and for how long the chunks in flight have been under way."""
    if len(chunks) < FEWEST_CHUNKS:
        return None
    window_s = walked.age_s * LATELY
    recent = [chunk for chunk in chunks if chunk[0] <= window_s]
    if len(recent) < FEWEST_CHUNKS:
        recent = list(chunks[-FEWEST_CHUNKS:])
    since_s, newest_s = recent[0][0], recent[-1][0]
    rows = sum(chunk[2] for chunk in recent[1:])
    if rows == 0 or since_s <= newest_s:
        return None
    gap_s = (since_s - newest_s) / (len(recent) - 1)
    if newest_s > 2 * gap_s:  # nothing came for a while (held, paused): that counts as time that rows take
        return rows / since_s, 0.0
    return rows / (since_s - newest_s), newest_s
