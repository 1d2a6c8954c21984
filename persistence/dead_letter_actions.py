"""What operators did about dead letters: the record of it, and how a dead letter that is dealt with is told.

A log has no way to take a single record out of it, so a discarded dead letter stays where it is: this table says that
it is dealt with. An action is written down before it is carried out and confirmed after; one that was never confirmed
(whoever asked died in between) counts as not done, as doing it again does no harm.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, NamedTuple

from sqlalchemy.ext.asyncio import AsyncEngine

from persistence import parked_commands
from persistence.engine import connected
from persistence.parked_commands import Arrival

ActionName = Literal["replayed", "discarded", "revealed"]


class Failure(NamedTuple):
    """Which message, and which of its failures: where and when it first arrived, and how often it had failed."""

    topic: str
    partition: int
    offset: int
    stamped_at: datetime
    attempts: int


@dataclass(frozen=True, slots=True)
class Action:
    """What somebody does about one dead letter. `edits` are names of what was changed, never values."""

    failure: Failure
    letter_topic: str
    letter_partition: int
    letter_offset: int
    reason: str
    kind: str | None
    message_id: str | None
    action: ActionName
    operator: str
    edits: Sequence[str] = ()
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Done:
    """How a failure was dealt with, by whom and when."""

    action: ActionName
    operator: str
    done_at: datetime


_BEGIN: Final = """
insert into dead_letter_actions (log_topic, log_partition, log_offset, stamped_at, attempts,
    letter_topic, letter_partition, letter_offset, reason, kind, message_id, action, operator, edits, note)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
returning id"""
_DONE: Final = "update dead_letter_actions set done_at = clock_timestamp() where id = $1"
_DEALT_WITH: Final = """
select distinct on (log_topic, log_partition, log_offset, stamped_at, attempts)
    log_topic, log_partition, log_offset, stamped_at, attempts, action, operator, done_at
from unnest($1::text[], $2::int[], $3::bigint[], $4::timestamptz[], $5::int[])
    as asked (log_topic, log_partition, log_offset, stamped_at, attempts)
join dead_letter_actions using (log_topic, log_partition, log_offset, stamped_at, attempts)
where action <> 'revealed' and done_at is not null
order by log_topic, log_partition, log_offset, stamped_at, attempts, id desc"""


class DeadLetterActions:
    """The record, each action in a transaction of its own."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def begin(self, action: Action) -> int:
        """Write down what is about to be done; returns the number to confirm it by."""
        async with connected(self._engine) as connection:
            return int(
                await connection.fetchval(
                    _BEGIN,
                    *action.failure,
                    action.letter_topic,
                    action.letter_partition,
                    action.letter_offset,
                    action.reason,
                    action.kind,
                    action.message_id,
                    action.action,
                    action.operator,
                    list(action.edits),
                    action.note,
                )
            )

    async def confirm(self, number: int) -> None:
        """It was done."""
        async with connected(self._engine) as connection:
            await connection.execute(_DONE, number)

    async def let_go(self, failure: Failure) -> None:
        """Let the commands that are parked behind this one wait for it no longer."""
        arrival = Arrival(failure.partition, failure.offset, failure.stamped_at)
        await parked_commands.let_go(self._engine, failure.topic, arrival)

    async def dealt_with(self, failures: Collection[Failure]) -> dict[Failure, Done]:
        """Return the last confirmed action of each of these failures that was dealt with."""
        if not failures:
            return {}
        async with connected(self._engine) as connection:
            rows = await connection.fetch(_DEALT_WITH, *(list(column) for column in zip(*failures, strict=True)))
        return {
            Failure(
                *(row[name] for name in ("log_topic", "log_partition", "log_offset", "stamped_at", "attempts"))
            ): Done(row["action"], row["operator"], row["done_at"])
            for row in rows
        }
