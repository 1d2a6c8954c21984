"""Advisory locks on names that are unique: e-mails and mnemonics.

A name is locked before it is taken *or released*, and before any row: so two batches that trade names cannot wait for
each other in a circle. A name's lock is 64 bits of its hash; a collision costs a wait, nothing else.
"""

import hashlib
from collections.abc import Iterable, Sequence
from typing import Final

_LOCK: Final = "select count(pg_advisory_xact_lock(k)) from unnest('{{{}}}'::bigint[]) as k"


def locking(names: Iterable[tuple[str, str]]) -> Sequence[str]:
    """Write the statement that locks names, each with the space it is unique in, until the transaction ends, sorted.

    It has no arguments, so that it can ride with others; no names, no statement.
    """
    numbers = sorted({_number(space, name) for space, name in names})
    return [_LOCK.format(",".join(map(str, numbers)))] if numbers else []


def _number(space: str, name: str) -> int:
    digest = hashlib.blake2b(f"{space}\n{name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)
