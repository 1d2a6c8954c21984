"""Why a database cannot be used, in words for an operator; drivers wrap the reason, or number it."""

import socket
import ssl

from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from persistence.faults import ConnectionTimeoutError


def cause_of(error: BaseException) -> str:
    """Return one line: what the server said, or why it was not reached. For an operator's eyes: it may name a user."""
    error = _innermost(error)
    if isinstance(error, ConnectionTimeoutError | PoolTimeoutError):
        return "no connection could be had in time"
    if isinstance(error, ConnectionRefusedError):
        return "the connection was refused: nothing listens there"
    if isinstance(error, socket.gaierror):
        return "the name of its host is not known"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate cannot be trusted: {error.verify_message}"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    said = str(error).strip().splitlines()
    return said[0] if said else type(error).__name__


def _innermost(error: BaseException) -> BaseException:
    """Return what the driver met, of what was made of it on the way."""
    while True:
        if isinstance(error, DBAPIError) and error.orig is not None:
            error = error.orig.__cause__ or error.orig
        elif isinstance(error, SQLAlchemyError | ConnectionTimeoutError) and error.__cause__ is not None:
            error = error.__cause__
        elif isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        elif type(error) is OSError and isinstance(error.__cause__, OSError):
            error = error.__cause__
        else:
            return error
