"""Every SQLSTATE has one of five meanings, and so has what the driver says without one."""

import errno
import re
from collections import Counter
from typing import Final

import asyncpg
import pytest
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from persistence.backfill.failures import ChunkFailure, failure_of
from persistence.faults import SQLSTATES, ConnectionTimeoutError, Fault, fault_of

DRIVERS: Final[list[str]] = sorted(
    {code for one in vars(asyncpg.exceptions).values() if isinstance(code := getattr(one, "sqlstate", None), str)}
)
"""Every SQLSTATE that the driver knows."""


class RaisedError(Exception):
    """An error with a SQLSTATE, as the driver raises one."""

    def __init__(self, sqlstate: str) -> None:
        super().__init__(sqlstate)
        self.sqlstate = sqlstate


def test_the_table_covers_what_the_driver_knows() -> None:
    """Each of the driver's SQLSTATEs is in the table, by code or by class; nothing is in it twice, or unknown."""
    named = [name for codes in SQLSTATES.values() for name in codes.split()]
    assert len(DRIVERS) > 250
    assert [code for code in DRIVERS if code not in named and code[:2] not in named] == []
    assert [name for name, count in Counter(named).items() if count > 1] == []
    assert [name for name in named if not re.fullmatch("[0-9A-Z]{2}([0-9A-Z]{3})?", name)] == []
    assert [name for name in named if not any(code.startswith(name) for code in DRIVERS)] == []


@pytest.mark.parametrize(
    ("fault", "codes"),
    [
        (Fault.TRANSIENT, "08006 08P01 25006 26000 28P01 3D000 42501 42P05 53100 53300 55000 57P01 57P02 57P03 58030"),
        (Fault.CONFLICT, "40001 40P01 40002 55P03 55006 23505 23503 23001 23P01"),
        (Fault.TOO_SLOW, "25P03 25P04 57014 53200 53400 54000 54001 XX000 XX001"),
        (Fault.SCHEMA_MOVED, "0A000 42703 42P01 42883 42804 42P10 3F000"),
        (Fault.DEFECT, "22001 22P02 22021 23502 23514 21000 42601 P0001 44000 99999"),
    ],
)
def test_what_a_code_means(fault: Fault, codes: str) -> None:
    """A code goes before its class, also where SQLAlchemy wrapped the error; one that nobody knows is a defect."""
    for code in codes.split():
        assert fault_of(RaisedError(code)) is fault, code
        wrapped = Exception()
        wrapped.__cause__ = RaisedError(code)
        assert fault_of(DBAPIError("select", None, wrapped)) is fault, code


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (asyncpg.InterfaceError("connection is closed"), Fault.TRANSIENT),
        (asyncpg.InternalClientError("got result for unknown protocol state"), Fault.TRANSIENT),
        (ConnectionResetError(errno.ECONNRESET, "reset"), Fault.TRANSIENT),
        (TimeoutError(errno.ETIMEDOUT, "timed out"), Fault.TRANSIENT),
        (ConnectionTimeoutError(), Fault.TRANSIENT),
        (PoolTimeoutError(), Fault.TRANSIENT),
        (TimeoutError(), Fault.TOO_SLOW),
        (asyncpg.exceptions.OutdatedSchemaCacheError("cache"), Fault.SCHEMA_MOVED),
        (asyncpg.exceptions.DataError("value out of range"), Fault.DEFECT),
        (KeyError("ours"), Fault.DEFECT),
    ],
)
def test_what_an_error_without_a_code_means(error: Exception, fault: Fault) -> None:
    """Lost connections of every class are waited for; the driver's own time-out halves; the rest is ours."""
    assert fault_of(error) is fault


@pytest.mark.parametrize(
    ("code", "failure"),
    [
        ("42883", ChunkFailure.DEFINITION),
        ("42804", ChunkFailure.DEFINITION),
        ("42601", ChunkFailure.DEFINITION),
        ("XX000", ChunkFailure.DEFINITION),
        ("42703", ChunkFailure.SCHEMA_MOVED),
        ("42501", ChunkFailure.TRANSIENT),
        ("54000", ChunkFailure.DATA),
        ("25P03", ChunkFailure.TIME),
    ],
)
def test_what_a_code_means_for_a_chunk(code: str, failure: ChunkFailure) -> None:
    """A backfill's statement is its author's: where it is wrong the run stops with the reason."""
    assert failure_of(RaisedError(code)) is failure
