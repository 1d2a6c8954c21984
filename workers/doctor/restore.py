"""After a restore: is the database older than the group's offsets, or the topic older than the database?

Neither side keeps an account of the other, so this looks at what both must agree on. What was acknowledged and had to
leave an outcome must have one; and where an outcome says that a message stood, that message stands, or nothing does any
more.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Final

from contracts.topics import Topics
from persistence import log_positions
from persistence.engine import Engine
from persistence.log_positions import Rewind, StoredAt
from persistence.outcomes import look_up
from workers.kafka.log_reader import LogReader
from workers.pipeline.delivery import Delivery
from workers.pipeline.intake import Intake
from workers.pipeline.refusal import Refusal
from workers.pipeline.replays import notes_of, origin_of
from workers.ports import Record

LOOKED_AT: Final = 500
"""How many of a partition's last acknowledged records are compared with the outcomes."""
LETTERS_BEFORE: Final = timedelta(minutes=5)
"""How far the clocks of broker and workers may be apart."""

Offsets = Mapping[int, int]


class Case(Enum):
    """What a comparison shows."""

    NOTHING_YET = "no command has been decided yet"
    CONSISTENT = "offsets and outcomes agree"
    DATABASE_OLDER = "the database is older than the offsets"
    DATABASE_MAY_BE_OLDER = "the database may be older than the offsets"
    TOPIC_OLDER = "the topic is older than the database"


@dataclass(frozen=True, slots=True)
class Comparison:
    """What was found, and one sentence of evidence."""

    case: Case
    evidence: str = ""


@dataclass(frozen=True)
class Restore:
    """Compares the topic of commands with the database, and sets its group back."""

    reader: LogReader
    engine: Engine
    topics: Topics
    group_id: str
    intake: Intake
    refusal: Refusal
    """With a rate limit of its own, and a clock that no deadline is late by."""

    async def compare(self) -> Comparison:
        """Say which case it is. Reads some hundred records of each partition."""
        topic = self.topics.commands
        spans = await self.reader.spans(topic)
        committed = await self.reader.committed(self.group_id, topic)
        stored = await log_positions.newest_stored(self.engine, topic)
        if not committed and not stored:
            return Comparison(Case.NOTHING_YET)
        if committed:  # workers have read this topic: where nothing of it was acknowledged, outcomes are of one before
            stored = [one for one in stored if one.partition in committed]
        if evidence := await self._topic_is_older(spans, committed, stored):
            return Comparison(Case.TOPIC_OLDER, evidence)
        return await self._database_compared(spans, committed, stored)

    async def plan_rewind(self, *, to_start: bool) -> list[Rewind]:
        """Say where the group should go on: after the last stored outcome of each partition, or from its start.

        A partition without an outcome goes on from its start, too: what was decided there is found to be, or is not
        there. None is moved forward.
        """
        topic = self.topics.commands
        spans = await self.reader.spans(topic)
        committed = await self.reader.committed(self.group_id, topic)
        ends = {} if to_start else await log_positions.stored_ends(self.engine, topic, spans)
        plan = []
        for number, (first, end) in spans.items():
            now = committed.get(number, first)
            to = first if to_start else min(max(first, ends.get(number, first)), end)
            if to < now:
                plan.append(Rewind(number, now, to))
        return plan

    # The topic ---------------------------------------------------------------------------------------------------
    async def _topic_is_older(
        self, spans: Mapping[int, tuple[int, int]], committed: Offsets, stored: Sequence[StoredAt]
    ) -> str | None:
        for number, offset in committed.items():
            if number not in spans or offset > spans[number][1]:
                end = spans[number][1] if number in spans else "nowhere"
                return f"the group has acknowledged partition {number} up to {offset}, which ends at {end}"
        for one in stored:
            if one.partition not in spans or one.offset >= spans[one.partition][1]:
                return f"there is an outcome of offset {one.offset} of partition {one.partition}, which ends before it"
        there = {one.partition: one for one in stored if one.offset >= spans[one.partition][0]}
        places = {number: (one.offset, one.offset + 1) for number, one in there.items()}
        async for record in self.reader.read(self.topics.commands, places):
            one = there[record.partition]
            if record.offset == one.offset and one.message_id.encode() not in _message_ids(record):
                return f"offset {one.offset} of partition {one.partition} holds another message than its outcome says"
        return None

    # The database --------------------------------------------------------------------------------------------------
    async def _database_compared(
        self, spans: Mapping[int, tuple[int, int]], committed: Offsets, stored: Sequence[StoredAt]
    ) -> Comparison:
        last_stored = {one.partition: one.offset for one in stored}
        looked_at = {
            number: (max(spans[number][0], offset - LOOKED_AT, last_stored.get(number, -1) + 1), offset)
            for number, offset in committed.items()
        }
        records = [record async for record in self.reader.read(self.topics.commands, looked_at)]
        missing = await self._without_outcome(sorted(records, key=lambda record: record.timestamp))
        if not missing:
            return Comparison(Case.CONSISTENT)
        evidence = f"{len(missing)} of the last commands that were acknowledged have no outcome"
        if all(one.headers.deadline_ms is not None for one in missing):
            return Comparison(
                Case.DATABASE_MAY_BE_OLDER, f"{evidence}; each had a deadline, and may have been refused for that"
            )
        since = _minute(min(one.stamped_at for one in missing))
        newest = f"was decided at {_minute(max(one.decided_at for one in stored))}" if stored else "does not exist"
        return Comparison(Case.DATABASE_OLDER, f"{evidence}, from {since} on; the newest outcome {newest}")

    async def _without_outcome(self, records: Sequence[Record]) -> list[Delivery]:
        """Find commands that must have left an outcome, but for their deadline, and have none.

        Left out are those that may have been refused by the rate, or for a defect (put aside).
        """
        asking = [one for _, one in map(self.intake.take, records) if one is not None]
        known = await look_up(self.engine, list({one.key for one in asking}))
        admitted = await self.refusal.refuse(asking, known.mark)
        missing = [one.delivery for one in admitted if one.key not in known.known]
        if not missing:
            return []
        aside = await self._put_aside(min(one.record.timestamp for one in missing))
        return [one for one in missing if (one.record.partition, one.record.offset) not in aside]

    async def _put_aside(self, since_ms: int) -> set[tuple[int, int]]:
        """Return the places, on the topic of commands, of what was put aside from that time on."""
        topic = self.topics.dead_letters(self.topics.commands)
        spans = await self.reader.spans(topic)
        from_time = await self.reader.offsets_at(topic, _time(since_ms) - LETTERS_BEFORE)
        found = set()
        async for letter in self.reader.read(
            topic, {number: (from_time[number], spans[number][1]) for number in spans}
        ):
            origin = origin_of(notes_of(letter))
            if origin is not None:
                found.add((origin.partition, origin.offset))
        return found


def _message_ids(record: Record) -> set[bytes]:
    return {value for name, value in record.headers if name == "message_id" and value is not None}


def _time(millis: int) -> datetime:
    return datetime.fromtimestamp(millis / 1000, UTC)


def _minute(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M}Z"
