"""What a batch reads ahead of its transaction and relies on within it.

That is the purge mark, the phases of schema changes, and whether keys of a release before are about. The look-up reads
it, without a lock; the transaction begins by making sure that it still holds, once the phases are held. So that costs
no trip of its own.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Final, NamedTuple

import asyncpg
import orjson

from persistence.engine import Connection, begin
from persistence.faults import StaleReadError
from persistence.phases import SHARED_LOCK
from persistence.stale_keys import ANY_EMAIL


class Standing(NamedTuple):
    """How the database stood. `text` is all of it, as the database wrote it down."""

    mark: datetime
    """What the broker stamped before it may never be applied again."""
    text: str

    @property
    def phases(self) -> Mapping[str, str]:
        """The phase of each change that the database has."""
        phases: Mapping[str, str] = orjson.loads(self.text)["phases"]
        return phases

    @property
    def any_stale(self) -> bool:
        """Whether any e-mail's key may be one of a release before."""
        return bool(orjson.loads(self.text)["any_stale"])


STANDING: Final = f"""(
  select jsonb_build_object('mark', stamped_before, 'any_stale', {ANY_EMAIL}, 'phases', (
    select coalesce(jsonb_object_agg(change, phase), '{{}}') from schema_changes))::text
  from outcome_mark)"""

READ_STANDING: Final = f"select stamped_before, {STANDING} as standing from outcome_mark"


async def read_standing(connection: Connection) -> Standing:
    """Read how the database stands now."""
    row = await connection.fetchrow(READ_STANDING)
    return Standing(row["stamped_before"], row["standing"])


async def begin_standing(connection: Connection, standing: Standing, *also: str) -> None:
    """Begin a transaction that holds every schema change in its phase; one trip, with `also`, as `engine.begin`.

    Raises `StaleReadError` when anything moved since it was read: an outcome may have been purged between.
    """
    try:
        await begin(connection, SHARED_LOCK, _still(standing), *also)
    except asyncpg.DivisionByZeroError as error:
        msg = "the purge mark, a phase or the kind of keys moved since the look-up"
        raise StaleReadError(msg) from error


def _still(standing: Standing) -> str:
    """Write the statement that fails unless the database stands like this; one that succeeds has nothing to say.

    It follows the lock as a statement of its own, with a snapshot of its own: one that waits for the lock sees the
    phase of before.
    """
    text = standing.text.replace("'", "''")
    return f"select 1 / ({STANDING} = '{text}')::integer"
