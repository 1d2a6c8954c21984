"""Free TCP ports on this machine."""

import secrets
import socket
import time
from collections.abc import Container
from typing import Final

from workers.stack.errors import StackError

HOST: Final = "127.0.0.1"
# Below the ranges that Linux (32768 up) and macOS (49152 up) give to outgoing connections: while the stack is down, no
# client's connection takes a kept port.
_LOWEST: Final = 20_000
_HIGHEST: Final = 32_000
_ATTEMPTS: Final = 500
_POLL_S: Final = 0.02


def is_free(port: int) -> bool:
    """Tell whether a server could listen on the port now; connections that linger from its last one do not count."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def becomes_free(port: int, deadline: float) -> bool:
    """Tell whether a server could listen on the port now, or before the deadline (of the monotonic clock)."""
    while not is_free(port):
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    return True


def free_port(taken: Container[int]) -> int:
    """Choose a free port at random that is not in `taken`.

    Raises:
        StackError: none was found.
    """
    for _ in range(_ATTEMPTS):
        port = _LOWEST + secrets.randbelow(_HIGHEST - _LOWEST)
        if port not in taken and is_free(port):
            return port
    raise StackError(f"no free port between {_LOWEST} and {_HIGHEST} on {HOST}")
