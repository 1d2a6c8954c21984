"""Work on a body with the collector at rest.

What is parsed has no cycles, but the collector is woken by the number of containers that are made, and goes through all
there are: of a body of the greatest size, full of empty lists, it makes three quarters of the time. The containers must
be gone again when the work ends: the first one that is made after that wakes the collector otherwise.
"""

import gc
from collections.abc import Callable
from typing import Concatenate, Final, ParamSpec, TypeVar

LARGE_BYTES: Final = 16 * 1024
"""Bodies below that are parsed as they come: they wake it as seldom as anything else."""

T = TypeVar("T")
P = ParamSpec("P")


def at_rest(work: Callable[Concatenate[bytes, P], T], body: bytes, *args: P.args, **kwargs: P.kwargs) -> T:
    """Return what `work` makes of the body; raises what it raises."""
    if len(body) < LARGE_BYTES or not gc.isenabled():
        return work(body, *args, **kwargs)
    gc.disable()
    try:
        return work(body, *args, **kwargs)
    finally:
        gc.enable()
