"""How far a run is, and when it will be done: an interval, from what the ledger says. Without I/O or clock."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from persistence.backfill.accounts import FinishedChunk
from persistence.backfill.chunks import LOOK_S

WIDTH: Final = 0.2
"""The interval is the estimate ± 20 %: 1.5 from end to end. It is the widest that is never more than half of the time
left while it contains it, so an estimate may be wrong by as much as can be told at all."""
TABLE_SHARE: Final = 0.6
KEY_ROW_S: Final = 3e-6
"""Along the table, as the backfill leaves it, a row costs 0.6 of what it did along the key of the table as it was
(measured: 0.2 to 1.8, the most where it outgrew the buffers), or that without what reaching it by the key may cost,
where the predicate itself is dear."""
TABLE_SPREAD: Final = statistics.NormalDist(sigma=math.log(1.6))
"""… half of the runs lying within 1.4 times of that either way. So whether the look along the table ends in time
is often not known, and both ways count by how likely they are."""
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
    pace = _pace(walked, [chunk for chunk in chunks if chunk.pass_number == walked.pass_number])
    if pace is None:
        return Progress(walked.rows_walked, estimated, None, None, None)
    rows_per_s, as_of_s, rows_since = pace
    rows_left = estimated - walked.rows_walked + rows_since
    left_s = max(0.0, rows_left / rows_per_s - as_of_s) + walked.last_look_s
    return Progress(walked.rows_walked, estimated, rows_per_s, left_s * (1 - WIDTH), left_s * (1 + WIDTH))


def last_look_s(rows: int, idle_row_s: float | None) -> float:
    """Return how long the look for rows written meanwhile will take, `idle_row_s` being measured along the key.

    Along the table it takes less; where that is not quick, another walk along the key follows.
    """
    along_key_s = rows * (idle_row_s or 0.0)
    if along_key_s <= 0:
        return 0.0
    along_table_s = max(TABLE_SHARE * along_key_s, along_key_s - rows * KEY_ROW_S)
    not_quick = TABLE_SPREAD.cdf(math.log(along_table_s / LOOK_S))
    return min(along_table_s, LOOK_S) + not_quick * along_key_s


def _pace(walked: Walked, chunks: Sequence[FinishedChunk]) -> tuple[float, float, float] | None:
    """Return rows a second lately, how long ago the walk was where all is known, and the rows known since then.

    A chunk's rows count as walked evenly while it was under way: several workers may end theirs together. So the walk
    is known up to where what is under way now may have begun.
    """
    if len(chunks) < FEWEST_CHUNKS:
        return None
    window_s = walked.age_s * LATELY
    recent = [chunk for chunk in chunks if chunk.age_s <= window_s]
    if len(recent) < FEWEST_CHUNKS:
        recent = list(chunks[-FEWEST_CHUNKS:])
    since_s, newest_s = recent[0].age_s, recent[-1].age_s
    rows = sum(chunk.rows_walked for chunk in recent[1:])
    if rows == 0 or since_s <= newest_s:
        return None
    took_s = statistics.median(chunk.took_s for chunk in recent)
    if newest_s > 2 * max(took_s, (since_s - newest_s) / (len(recent) - 1)):
        return rows / since_s, 0.0, 0.0  # nothing came for a while (held, paused): that is time that rows take, too
    known_s = newest_s + took_s
    walked_then = sum(_rows_within(chunk, since_s, known_s) for chunk in chunks)
    if since_s - known_s < took_s or walked_then == 0:  # too little of it to be told apart
        return rows / (since_s - newest_s), newest_s, 0.0
    return walked_then / (since_s - known_s), known_s, sum(_rows_within(chunk, known_s, 0.0) for chunk in recent)


def _rows_within(chunk: FinishedChunk, oldest_s: float, newest_s: float) -> float:
    """Return how many of a chunk's rows were walked between these ages."""
    if chunk.took_s <= 0:
        return chunk.rows_walked if newest_s <= chunk.age_s < oldest_s else 0.0
    under_way_s = min(oldest_s, chunk.age_s + chunk.took_s) - max(newest_s, chunk.age_s)
    return chunk.rows_walked * max(0.0, under_way_s) / chunk.took_s
