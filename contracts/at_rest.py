"""Parsing with the collector at rest.

What is parsed has no cycles, but the collector is woken by the number of containers that are made, and goes through all
there are: of a body of the greatest size, full of empty lists, it makes three quarters of the time.
"""

import gc
from collections.abc import Callable
from typing import Final, TypeVar

LARGE_BYTES: Final = 16 * 1024
"""Bodies below that are parsed as they come: they wake it as seldom as anything else."""

T = TypeVar("T")


def at_rest(parse: Callable[[bytes], T], body: bytes) -> T:
    """Return what `parse` makes of the body; raises what it raises."""
    if len(body) < LARGE_BYTES or not gc.isenabled():
        return parse(body)
    gc.disable()
    try:
        return parse(body)
    finally:
        gc.enable()
