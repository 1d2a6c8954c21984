"""Advisory locks on names that are unique: e-mails and mnemonics.

A name is locked before it is taken *or released*, and before any row: so two batches that trade names cannot wait for
each other in a circle. A name's lock is 64 bits of its hash; a collision costs a wait, nothing else.
"""

import hashlib
from collections.abc import Iterable
from typing import Final

from persistence.engine import Connection

_LOCK: Final = "select count(pg_advisory_xact_lock(k)) from unnest($1::bigint[]) as k"


async def lock_names(connection: Connection, names: Iterable[tuple[str, str]]) -> None:
    """Lock names, each with the space it is unique in, until the end of the transaction; one statement, sorted."""
    numbers = sorted({_number(space, name) for space, name in names})
    if numbers:
        await connection.execute(_LOCK, numbers)


def _number(space: str, name: str) -> int:
    digest = hashlib.blake2b(f"{space}\n{name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)
