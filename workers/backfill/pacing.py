"""How large the next chunk is. A law without I/O or clock: measured times in, rows out."""

from dataclasses import dataclass
from typing import Final

TARGET_S: Final = 0.5
"""What a chunk should take. Long enough that planning, lease and commit (a few ms) cost about one per cent; short
enough that a row's lock is felt by a live request only as a slow one, and a pause is obeyed without cancelling."""
GROWTH: Final = 1.5
"""Largest step up: from 1,000 rows to 75,000 takes eleven chunks, and one lucky measurement cannot make a chunk that
holds its locks for many times the target."""
CUT_AT: Final = 5.0
"""A chunk that took this many times the target says that the world has changed: its own measure counts alone."""
MEMORY: Final = 0.5
"""Weight of the newest measurement in the average otherwise: two or three chunks decide, one outlier does not."""
GENTLE_TARGET_S: Final = 0.02
"""The target when the throttle leaves next to nothing: then a live request meets at most a short chunk, and the 99th
percentile stays with the requests that meet none."""
LEAST_TARGET_S: Final = 0.002
"""No target is shorter: beside less work than this a chunk is mostly planning, lease and commit."""
MOST_BESIDE_S: Final = 0.02
"""What takes longer beside a chunk's work (5 to 10 ms otherwise) is waiting, for others or for a disk, and no work."""
LEAST_ROWS: Final = 1
"""A chunk may come down to a row, where a row is slow; halving goes there as well."""


@dataclass(slots=True)
class Pace:
    """The pace of one worker at one run. `rows` is the size of the next chunk."""

    rows: int
    most_rows: int
    row_s: float | None = None
    """Average time a row takes, in seconds; None before the first measurement."""
    beside_s: float = 0.0
    """Average time that planning, lease and commit of a chunk take beside its work, in seconds."""

    def measured(self, rows: int, took_s: float, target_s: float = TARGET_S, beside_s: float = 0.0) -> None:
        """Learn from a chunk of `rows` keys whose work took `took_s` seconds and was meant to take `target_s`.

        Its lease and commit, `beside_s`, count apart: on a short chunk they would look like slow rows, and make the
        next shorter.
        """
        self.beside_s += MEMORY * (min(beside_s, MOST_BESIDE_S) - self.beside_s)
        if rows <= 0:
            return
        row_s = took_s / rows
        if self.row_s is None or took_s >= CUT_AT * target_s:
            self.row_s = row_s
        else:
            self.row_s += MEMORY * (row_s - self.row_s)
        wanted = TARGET_S / max(self.row_s, 1e-9)
        # a chunk smaller than allowed (the last of a walk, a half, one under a rate) is no ground for a larger one
        at_most = rows * GROWTH if rows >= self.rows else self.rows
        self.rows = _bounded(min(wanted, at_most), self.most_rows)

    def failed_on_time(self) -> None:
        """A chunk was ended by a time-out: start again from a tenth."""
        self.rows = _bounded(self.rows / 10, self.most_rows)
        self.row_s = None

    def next_rows(self, target_s: float, rate_rows_per_s: float | None) -> int:
        """Return the size of the next chunk, which may be meant to be shorter, or be bound by a rate.

        Under a rate a chunk is what may be done in one target, so that the rate is kept evenly and not in bursts.
        """
        rows: float = self.rows
        if target_s < TARGET_S:
            rows = min(rows, target_s / self.row_s) if self.row_s else rows * target_s / TARGET_S
        if rate_rows_per_s is not None:
            rows = min(rows, rate_rows_per_s * TARGET_S)
        return _bounded(rows, self.most_rows)

    def expected_s(self, rows: int) -> float:
        """Return how long a chunk of so many rows will take, with its lease and commit.

        Before any was measured, as if the size were right.
        """
        return rows * (TARGET_S / self.rows if self.row_s is None else self.row_s) + self.beside_s


def _bounded(rows: float, most_rows: int) -> int:
    return max(LEAST_ROWS, min(int(rows), most_rows))
