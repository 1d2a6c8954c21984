"""Reading from a replica without ever reading older than an answer.

A batch of queries asks the primary for its WAL position first, and reads the replica once that position is replayed
there; a replica that does not get there in time, or does not answer, is passed over for this batch.
"""

import asyncio
from typing import Final

from persistence.engine import Engine, connected

REPLAY_WAIT_S: Final = 0.05
"""How long a replica may take to catch up with the primary's position."""
_ASK_EVERY_S: Final = 0.005

_POSITION: Final = "select pg_current_wal_insert_lsn()::text"
_REPLAYED: Final = """
select not pg_is_in_recovery() or pg_last_wal_replay_lsn() >= $1::text::pg_lsn"""


async def has_replayed(primary: Engine, replica: Engine) -> bool:
    """Tell whether the replica has all that the primary had when this was asked; within `REPLAY_WAIT_S`.

    Errors of the primary are raised; those of the replica mean no.
    """
    async with connected(primary) as connection:
        position = await connection.fetchval(_POSITION)
    try:
        async with asyncio.timeout(REPLAY_WAIT_S), connected(replica) as connection:
            while not await connection.fetchval(_REPLAYED, position):  # noqa: ASYNC110 - only asking tells
                await asyncio.sleep(_ASK_EVERY_S)
    except Exception:  # noqa: BLE001 - whatever ails the replica, the primary answers
        return False
    return True
