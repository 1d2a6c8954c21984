"""Why a database cannot be used, in words."""

import socket
import ssl

import asyncpg
import pytest
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from persistence.causes import cause_of
from persistence.faults import ConnectionTimeoutError


def wrapped(error: Exception) -> DBAPIError:
    """Wrap an error as SQLAlchemy does while it connects."""
    outer = Exception("<class 'asyncpg.exceptions.X'>: X")
    outer.__cause__ = error
    return DBAPIError("select 1", None, outer)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            asyncpg.InvalidPasswordError('password authentication failed for user "ada"'),
            "password authentication failed",
        ),
        (asyncpg.InvalidCatalogNameError('database "shop" does not exist'), 'database "shop" does not exist'),
        (asyncpg.InsufficientPrivilegeError("permission denied for table outcomes"), "permission denied for table"),
        (asyncpg.TooManyConnectionsError("sorry, too many clients already"), "too many clients"),
        (asyncpg.CannotConnectNowError("the database system is starting up"), "is starting up"),
        (ConnectionRefusedError(111, "Connect call failed ('127.0.0.1', 1)"), "nothing listens there"),
        (socket.gaierror(-2, "Name or service not known"), "name of its host"),
        (TimeoutError(), "no answer in time"),
        (ConnectionResetError(104, "Connection reset by peer"), "connection reset by peer"),
        (ssl.SSLCertVerificationError(1, "certificate verify failed"), "certificate cannot be trusted"),
        (ConnectionTimeoutError(), "no connection could be had"),
        (PoolTimeoutError(), "no connection could be had"),
        (asyncpg.InterfaceError(""), "InterfaceError"),
    ],
)
def test_a_cause_is_one_readable_line(error: Exception, words: str) -> None:
    """Whether the driver raised it or SQLAlchemy wrapped it: what the server said, never the name of a wrapper."""
    if isinstance(error, ssl.SSLCertVerificationError):
        error.verify_message = "self-signed certificate"
    for one in (error, wrapped(error)):
        assert words in cause_of(one)
        assert "DBAPIError" not in cause_of(one)
        assert len(cause_of(one).splitlines()) == 1
