"""What a driver's error means for the work at hand. Sorted here, and nowhere else."""

from enum import Enum
from typing import Final

import asyncpg
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError


class Fault(Enum):
    """The five things that an error can mean."""

    TRANSIENT = "transient"
    """The database is away, or this connection is: wait and try again."""
    CONFLICT = "conflict"
    """Another worker was first: roll back, look again, decide again."""
    TOO_SLOW = "too_slow"
    """It took too long or too much: try with half of the batch. Of a lone message it says nothing yet: whether that or
    the database is to blame is told by what else is committed meanwhile (`workers.pipeline.blame`)."""
    SCHEMA_MOVED = "schema_moved"
    """The statement was prepared for another schema: forget it, read the phase, try again."""
    DEFECT = "defect"
    """Ours: find the message that causes it, answer 500, dead-letter it."""


SQLSTATES: Final[dict[Fault, str]] = {
    # No message can cause these, and none can help them.
    Fault.TRANSIENT: """
    08 25 26 28 34 53 57 58 F0
    0L 0P 3D 42501
    42P05 55000 55P02 HV00N 40003""",
    # 08 connections (08P01 also where a pooler changed the session beneath a statement, as with 26000, 34000, 42P05:
    #   told apart by nothing, as no message says what is prepared); 40003: the connection broke at the commit, and the
    #   look-up tells whether that was made
    # 25 the state of the session's transaction, 25006 among them: a fail-over to a server that is still read-only
    # 28 3D 0L 0P 42501 credentials, database, roles, rights that are being replaced
    # 53 57 58 F0 resources (but 53200, 53400), operators (but 57014), system, configuration: 57P01 ends one backend or
    #   all of them, and either way only the connection is gone
    # 55000 the server, or the replica, is not ready for it; 55P02 a setting that this server does not take
    Fault.CONFLICT: """
    40 55P03 55006 72
    23001 23503 23505 23P01 27""",
    # 40 a transaction that was rolled back for another's sake (deadlock, serialisation, a constraint met at the commit)
    # 55P03 55006 72 a lock or an object that others hold, a snapshot that is gone
    # 23… 27 a row of somebody else's met first. Where the same message alone meets it again and again, nobody else is
    #   there: that it is a defect is told as for what is too slow
    Fault.TOO_SLOW: """
    25P03 25P04 57014
    53200 53400 54 HV001 HV014 XX""",
    # 25P03 25P04 57014 time-outs, of a statement that is slow, a database that is, or a worker that was stopped; 57014
    #   also by an operator's hand
    # 53200 53400 memory, locks, temporary files: used up by this statement or by others
    # 54 a limit that the statement meets (a value too long for an index), or the database (no transaction ids left)
    # XX what Postgres did not expect: too much memory asked for, a row changed beneath it, a page that cannot be read
    # All of them: half of the batch needs less; what a lone message meets twice, while others are written, is its own
    Fault.SCHEMA_MOVED: """
    0A 3F
    42701 42702 42703 42704 42725 42804 42809 42846 42883 428C9 42P01 42P10 55P04""",
    # 0A a cached plan of another schema; the others name a table, column, type, index or function that a release makes,
    # changes or drops. A statement that was wrong from the start looks the same, and never passes the tests
    Fault.DEFECT: """
    01 02 03 09 0B 0F 0Z 10 20 21 22 23 24 2B 2D 2F 38 39 3B 42 44 HV P0""",
    # A value, a constraint that only this row can break, an error raised by a trigger, a statement that is wrong: found
    # by halving, which also tells 21000 of two messages that met in one statement
}
"""Every SQLSTATE that the driver knows, by code or by class (its first two characters); the code goes first."""

_BY_CODE: Final = {code: fault for fault, codes in SQLSTATES.items() for code in codes.split()}


class UniqueConflictError(Exception):
    """An insert met rows that somebody else committed meanwhile: decide again."""


class TooMuchAtOnceError(Exception):
    """A batch would load more than one transaction should: try with half of it. Nothing was done, nothing failed."""


class StaleReadError(UniqueConflictError):
    """What was read ahead of the locks had changed when they were granted: decide again."""


class ConnectionTimeoutError(Exception):
    """No connection could be had in time: the database is away, or all connections are in use."""


def sqlstate_of(error: BaseException) -> str | None:
    """Return the SQLSTATE of a driver's error, also where SQLAlchemy wrapped it, as it does while it connects."""
    if isinstance(error, DBAPIError) and error.orig is not None:
        return sqlstate_of(error.orig.__cause__ or error.orig)
    return getattr(error, "sqlstate", None)


def fault_of(error: BaseException) -> Fault:
    """Say what an error means."""
    if isinstance(error, UniqueConflictError):
        return Fault.CONFLICT
    if isinstance(error, TooMuchAtOnceError):
        return Fault.TOO_SLOW
    if isinstance(error, DBAPIError) and error.orig is not None:
        return fault_of(error.orig.__cause__ or error.orig)
    code = getattr(error, "sqlstate", None)
    if code is not None:
        return _BY_CODE.get(code) or _BY_CODE.get(code[:2], Fault.DEFECT)
    if isinstance(
        error,
        OSError | PoolTimeoutError | ConnectionTimeoutError | asyncpg.InterfaceError | asyncpg.InternalClientError,
    ):
        return _fault_of_client(error)
    if isinstance(error, SQLAlchemyError) and error.__cause__ is not None:
        return fault_of(error.__cause__)
    return Fault.DEFECT


def is_refused_write(error: BaseException) -> bool:
    """Tell a constraint that was met from a lost race for locks: it may be the message's own doing."""
    return (sqlstate_of(error) or "").startswith("23")


def _fault_of_client(error: BaseException) -> Fault:
    """The driver's own errors carry no SQLSTATE: nearly all of them mean that the connection is gone."""
    if isinstance(error, asyncpg.exceptions.OutdatedSchemaCacheError):
        return Fault.SCHEMA_MOVED
    if isinstance(error, asyncpg.exceptions.DataError | ValueError):
        return Fault.DEFECT  # a value that cannot be encoded: the message's own
    if isinstance(error, TimeoutError) and error.errno is None:
        return Fault.TOO_SLOW  # the driver waited for a statement's answer; a socket's time-out has a number
    return Fault.TRANSIENT
