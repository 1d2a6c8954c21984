"""What an error means for the chunk it struck. Built on `persistence.faults`, which sorts the driver's errors."""

import re
from enum import Enum
from typing import Final

from persistence.faults import Fault, fault_of


class ChunkFailure(Enum):
    """What becomes of the chunk."""

    TRANSIENT = "transient"
    """Nothing is wrong with it: it is given back, and tried again after a growing pause."""
    TIME = "time"
    """It took too long: it is halved, down to the row."""
    DATA = "data"
    """A row of it cannot be treated: it is halved, down to that row, which is put aside."""
    LEASE_LOST = "lease lost"
    """Somebody else has it by now, or the run does not want it any more: it was rolled back, and is forgotten."""
    SCHEMA_MOVED = "schema moved"
    """A table or column of the definition is not there: given back, as a release may be on its way."""
    DEFINITION = "definition"
    """No row is at fault but the definition (or the engine): the run is stopped with the reason."""


class LeaseLostError(Exception):
    """The chunk's epoch has moved on, or its run is no longer to be worked on: this transaction must not commit."""


class RowsArrivedError(Exception):
    """Rows came into the chunk between the lock and the statement: unlocked ones, so it is done again."""


class RowFault(Exception):  # noqa: N818 (a fault of the data, raised as one)
    """The author's work shows that a row cannot be treated; the text says how."""


class WrongPhaseError(Exception):
    """The change that the backfill belongs to is in a phase in which this work would be wrong: it waits."""


_DATA_CLASSES: Final = frozenset({"21", "22", "23", "44", "54", "P0"})
"""Cardinality, data exceptions, constraints, check options, limits of the program, and errors raised by a trigger."""
_ON_ITS_WAY: Final = frozenset({"42501", "42703", "42P01", "42P05"})
"""Rights, columns, tables, statements: what a release or an operator may bring, where else the definition is wrong."""
_QUOTED: Final = re.compile(r"""(["']).*\1""")


def failure_of(error: BaseException) -> ChunkFailure:
    """Say what an error of a chunk's transaction means for the chunk."""
    if isinstance(error, LeaseLostError):
        return ChunkFailure.LEASE_LOST
    if isinstance(error, RowsArrivedError | WrongPhaseError):
        return ChunkFailure.TRANSIENT
    if isinstance(error, RowFault):
        return ChunkFailure.DATA
    code: str | None = getattr(error, "sqlstate", None)
    if code is not None and code[:2] in _DATA_CLASSES:
        return ChunkFailure.DATA
    wrong = code is not None and code[:2] in {"42", "XX"} and code not in _ON_ITS_WAY
    match Fault.DEFECT if wrong else fault_of(error):
        case Fault.TRANSIENT | Fault.CONFLICT:
            return ChunkFailure.TRANSIENT
        case Fault.TOO_SLOW:
            return ChunkFailure.TIME
        case Fault.SCHEMA_MOVED:
            return ChunkFailure.SCHEMA_MOVED
        case Fault.DEFECT:
            return ChunkFailure.DEFINITION


def in_one_line(error: BaseException) -> str:
    """Word an error for the ledger: its SQLSTATE or class, and the first line of its text.

    The ledger and the log hold no personal data, so what an error quotes of a row is masked: the driver's details are
    left out, and so is what stands in quotation marks where that may be a value (not the name of a constraint).
    """
    first = (str(error).splitlines() or [""])[0][:300]
    code: str | None = getattr(error, "sqlstate", None)
    if isinstance(error, RowFault) or (code or "").startswith("22"):
        first = _QUOTED.sub("…", first)
    return f"{code or type(error).__name__}: {first}"
