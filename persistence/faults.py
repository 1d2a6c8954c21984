"""What a driver's error means for the work at hand. Sorted here, and nowhere else."""

import asyncio
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
    """A time-out ended it: try with half of the batch."""
    SCHEMA_MOVED = "schema_moved"
    """The statement was prepared for another schema: forget it, read the phase, try again."""
    DEFECT = "defect"
    """Ours: find the message that causes it, answer 500, dead-letter it."""


_CONFLICTS: Final = frozenset({"40P01", "40001", "55P03", "23505", "23P01", "23503"})
"""Deadlock, serialisation, lock time-out; and a constraint that somebody else's row met first."""
_TOO_SLOW: Final = frozenset({"25P04", "57014"})
_SCHEMA_MOVED: Final = frozenset({"42703", "42P01", "0A000"})
_TRANSIENT_CODES: Final = frozenset({"25P02", "25P03", "25006", "28000", "28P01", "3D000", "42501"})
"""Aborted or idle transactions, a server that became read-only, credentials, rights or a database that are being
replaced: no message can help those."""
_TRANSIENT_CLASSES: Final = frozenset({"08", "53", "57", "58"})
"""Connections, resources, operator intervention, system errors."""


class UniqueConflictError(Exception):
    """An insert met rows that somebody else committed meanwhile: decide again."""


class StaleReadError(UniqueConflictError):
    """What was read ahead of the locks had changed when they were granted: decide again."""


def sqlstate_of(error: BaseException) -> str | None:
    """Return the SQLSTATE of a driver's error, also where SQLAlchemy wrapped it, as it does while it connects."""
    if isinstance(error, DBAPIError) and error.orig is not None:
        return sqlstate_of(error.orig.__cause__ or error.orig)
    return getattr(error, "sqlstate", None)


def fault_of(error: BaseException) -> Fault:
    """Say what an error means."""
    if isinstance(error, UniqueConflictError):
        return Fault.CONFLICT
    if isinstance(error, DBAPIError) and error.orig is not None:
        return fault_of(error.orig.__cause__ or error.orig)
    code = getattr(error, "sqlstate", None)
    if code is not None:
        return _fault_of_code(code)
    if isinstance(
        error,
        OSError | asyncio.TimeoutError | PoolTimeoutError | asyncpg.InterfaceError | asyncpg.InternalClientError,
    ):
        return _fault_of_client(error)
    if isinstance(error, SQLAlchemyError) and error.__cause__ is not None:
        return fault_of(error.__cause__)
    return Fault.DEFECT


def _fault_of_code(code: str) -> Fault:
    if code in _CONFLICTS:
        return Fault.CONFLICT
    if code in _TOO_SLOW:
        return Fault.TOO_SLOW
    if code in _SCHEMA_MOVED:
        return Fault.SCHEMA_MOVED
    if code in _TRANSIENT_CODES or code[:2] in _TRANSIENT_CLASSES:
        return Fault.TRANSIENT
    return Fault.DEFECT


def _fault_of_client(error: BaseException) -> Fault:
    """The driver's own errors carry no SQLSTATE: nearly all of them mean that the connection is gone."""
    if isinstance(error, asyncpg.exceptions.OutdatedSchemaCacheError):
        return Fault.SCHEMA_MOVED
    if isinstance(error, asyncpg.exceptions.DataError | ValueError):
        return Fault.DEFECT  # a value that cannot be encoded: the message's own
    return Fault.TRANSIENT
