"""What the database knows of one message, for whoever asks what became of it. No envelope leaves this module."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from contracts.envelope import status_of
from persistence.engine import Connection

MOST: Final = 100
"""A message id is its caller's own: so many callers who used the same one are told of."""

# The primary key begins with the caller: without one, the index is gone through, which is a fraction of the table.
_DECIDED: Final = """
select caller, kind, log_topic, log_partition, log_offset, stamped_at, decided_at,
    case when not subjects && coalesce((select array_agg(customer_id) from outcome_erasures), '{}')
    then substring(envelope for 20) end as beginning
from outcomes where message_id = $1 order by decided_at desc limit $2"""
_ACTIONS: Final = """
select letter_topic, letter_partition, letter_offset,
    reason, action, operator, edits, note, asked_at, done_at
from dead_letter_actions where message_id = $1 order by id desc limit $2"""
_PARKED: Final = """
select own.parked_at, first.log_partition, first.log_offset, first.stamped_at, first.incident,
    (select count(*) from parked_commands before where before.log_topic = own.log_topic
        and before.key_hmac = own.key_hmac
        and (before.log_partition, before.log_offset, before.stamped_at)
            < (own.log_partition, own.log_offset, own.stamped_at)) as ahead
from parked_commands own cross join lateral (
    select log_partition, log_offset, stamped_at, incident from parked_commands front
    where front.log_topic = own.log_topic and front.key_hmac = own.key_hmac
    order by log_partition, log_offset, stamped_at limit 1) first
where own.log_topic = $1 and own.log_partition = $2 and own.log_offset = $3 and own.stamped_at = $4"""


@dataclass(frozen=True, slots=True)
class Decided:
    """One outcome. `status_code` is None where it spoke of a customer who was deleted since."""

    caller: str
    kind: str
    status_code: int | None
    topic: str
    partition: int
    offset: int
    stamped_at: datetime
    decided_at: datetime


@dataclass(frozen=True, slots=True)
class Acted:
    """What an operator did about a dead letter; `done_at` is None where it was begun and never confirmed."""

    letter_topic: str
    letter_partition: int
    letter_offset: int
    reason: str
    action: str
    operator: str
    edits: Sequence[str]
    note: str | None
    asked_at: datetime
    done_at: datetime | None


@dataclass(frozen=True, slots=True)
class Behind:
    """That a command is parked: since when, which command its key waits for, and how many come before it."""

    parked_at: datetime
    partition: int
    offset: int
    stamped_at: datetime
    incident: str
    ahead: int
    """0: it is the one that met the defect."""


async def decided(connection: Connection, message_id: str) -> Sequence[Decided]:
    """Return the outcomes under this id, one for each caller that used it, the latest first."""
    return [
        Decided(
            row["caller"],
            row["kind"],
            status_of(row["beginning"]) if row["beginning"] is not None else None,
            row["log_topic"],
            row["log_partition"],
            row["log_offset"],
            row["stamped_at"],
            row["decided_at"],
        )
        for row in await connection.fetch(_DECIDED, message_id, MOST)
    ]


async def acted(connection: Connection, message_id: str) -> Sequence[Acted]:
    """Return what operators did about dead letters of this id, the latest first."""
    return [
        Acted(
            row["letter_topic"],
            row["letter_partition"],
            row["letter_offset"],
            row["reason"],
            row["action"],
            row["operator"],
            row["edits"],
            row["note"],
            row["asked_at"],
            row["done_at"],
        )
        for row in await connection.fetch(_ACTIONS, message_id, MOST)
    ]


async def behind(
    connection: Connection, topic: str, partition: int, offset: int, stamped_at: datetime
) -> Behind | None:
    """Return what the command that first arrived there waits for; None where it is not parked (any more)."""
    row = await connection.fetchrow(_PARKED, topic, partition, offset, stamped_at)
    if row is None:
        return None
    return Behind(
        row["parked_at"], row["log_partition"], row["log_offset"], row["stamped_at"], row["incident"], row["ahead"]
    )
