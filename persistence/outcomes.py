"""Stored outcomes: the inbox and the outbox in one row.

An outcome is written in the transaction of its effect. The uncommitted offset is the relay: after a crash the message
comes again, is found here, and its stored envelope is sent again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import itemgetter
from typing import Any, Final, NamedTuple

from sqlalchemy.ext.asyncio import AsyncEngine

from handlers.readers import StoredOutcome
from persistence.blocks import BLOCKS, NONE, Blocks, read_blocks
from persistence.counters import DELTAS, CounterDeltas
from persistence.engine import Connection, connected, transaction
from persistence.faults import UniqueConflictError
from persistence.rowset import RowSet, array_text
from persistence.standing import STANDING, Standing

OutcomeKey = tuple[str, str]
"""Caller and message_id."""


class Outcome(NamedTuple):
    """One row, in the order of its columns. `envelope` and `content_hmac` are None once erased."""

    caller: str
    message_id: str
    kind: str
    content_hmac: bytes | None
    envelope: bytes | None
    subjects: Sequence[str]
    cache_keys: Sequence[str]
    topic: str
    partition: int
    offset: int
    stamped_at: datetime


@dataclass(frozen=True, slots=True)
class Known:
    """What the store knows of a message: content hash, envelope, cache keys to clear first, and whom it speaks of."""

    content_hmac: bytes | None
    envelope: bytes | None
    cache_keys: Sequence[str]
    subjects: Sequence[str]


@dataclass(frozen=True, slots=True)
class LookUp:
    """The outcomes found, and how the database stood then.

    `any_parked` tells whether any command waits behind one that met a defect (`persistence.parked_commands`).
    """

    known: Mapping[OutcomeKey, Known]
    standing: Standing
    any_parked: bool = False
    blocks: Blocks = NONE
    """Whom operators block, and which kinds."""

    @property
    def mark(self) -> datetime:
        """What the broker stamped before it may never be applied again."""
        return self.standing.mark


# What is still to be erased (`persistence.erasures`) is not shown; almost always there is nothing.
_LOOK_UP: Final = f"""
select m.stamped_before, {STANDING} as standing, exists (select from parked_commands) as any_parked,
  {BLOCKS} as blocks,
  o.caller, o.message_id, o.cache_keys, o.subjects::text[] as subjects,
  case when o.subjects && e.customers then null else o.content_hmac end as content_hmac,
  case when o.subjects && e.customers then null else o.envelope end as envelope
from outcome_mark m
cross join (select array_agg(customer_id) as customers from outcome_erasures) as e
left join (
  select o.* from unnest($1::text::text[], $2::text::text[]) as k(caller, message_id)
  join outcomes o on o.caller = k.caller and o.message_id = k.message_id) o on true"""

_ROWS: Final = RowSet(
    "outcomes",
    {
        "caller": "text",
        "message_id": "text",
        "kind": "text",
        "content_hmac": "bytea",
        "envelope": "bytea",
        "subjects": "uuid[]",
        "cache_keys": "text[]",
        "log_topic": "text",
        "log_partition": "integer",
        "log_offset": "bigint",
        "stamped_at": "timestamptz",
    },
)

_OF_ARRAYS: Final = (Outcome._fields.index("subjects"), Outcome._fields.index("cache_keys"))

_PROBE: Final = """
insert into outcomes (
  caller, message_id, kind, content_hmac, envelope, log_topic, log_partition, log_offset, stamped_at)
values ('', 'probe ' || pg_backend_pid(), 'probe', '', '', '', 0, 0, now());
delete from outcomes where caller = '' and message_id = 'probe ' || pg_backend_pid();
commit"""

MARK: Final = "(select stamped_before from outcome_mark)"
"""The purge mark as a sub-select, to be read again inside the transaction."""


async def look_up(engine: AsyncEngine, keys: Sequence[OutcomeKey]) -> LookUp:
    """Find the outcomes of these messages, without a lock; one statement."""
    async with connected(engine) as connection:
        rows = await connection.fetch(
            _LOOK_UP, array_text([key[0] for key in keys]), array_text([key[1] for key in keys])
        )
    known = {
        (row["caller"], row["message_id"]): Known(
            row["content_hmac"], row["envelope"], row["cache_keys"], row["subjects"]
        )
        for row in rows
        if row["caller"] is not None
    }
    first = rows[0]
    standing = Standing(first["stamped_before"], first["standing"])
    return LookUp(known, standing, first["any_parked"], read_blocks(first["blocks"]))


async def store(connection: Connection, outcomes: Sequence[Outcome], deltas: CounterDeltas | None = None) -> None:
    """Insert outcomes, sorted by caller and id, so that two workers never wait for each other in a circle.

    Differences of counters go with them, in the same statement: rows that nobody else can meet.

    Raises `UniqueConflictError` when one of them is there already: another worker was first.
    """
    ordered = sorted(outcomes, key=itemgetter(0, 1))
    columns: list[Any] = list(zip(*ordered, strict=True))
    for place in _OF_ARRAYS if columns else ():
        columns[place] = [array_text(one) if one else "{}" for one in columns[place]]
    counted = deltas.rows() if deltas is not None else ()
    if await _ROWS.insert_new(connection, columns, (DELTAS, counted)) != len(ordered):
        msg = "an outcome of this batch was stored by another worker"
        raise UniqueConflictError(msg)


async def probe(engine: AsyncEngine) -> None:
    """Write one outcome and commit, as each command does: to see how the database does. Nothing stays, no id is used.

    Raises what the database raises.
    """
    async with transaction(engine) as connection:
        await connection.execute(_PROBE)


class OutcomeTable:
    """Outcomes as a query sees them; always the primary's."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def get_many(self, keys: Sequence[OutcomeKey]) -> dict[OutcomeKey, StoredOutcome]:
        """Find outcomes by caller and message_id."""
        found = await look_up(self._engine, keys)
        return {key: StoredOutcome(known.envelope) for key, known in found.known.items()}
