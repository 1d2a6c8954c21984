"""What became of one message: looked for where it can be, in the database and in the log. Envelopes are not read."""

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

from contracts.registry import KINDS
from contracts.topics import Topics
from persistence import traces
from persistence.dead_letter_actions import DeadLetterActions, Done, Failure
from persistence.engine import connected
from persistence.traces import Acted, Behind, Decided
from workers.admission.reply_topics import ReplyTopics
from workers.command_line.session import Session
from workers.deployment import group_id, kafka_security, replays_of, verifier_of
from workers.dlq.letters import SIDES, Letter, Side
from workers.kafka.log_reader import LogReader
from workers.overview.section import Section, read_section
from workers.pipeline.intake import Intake
from workers.ports import Record

REACH_S: Final = 15.0
"""What Kafka has to let us in."""


class State(StrEnum):
    """Where a message is: of several that are true, the first."""

    WAITING = "waiting"
    DECIDED = "decided"
    PARKED = "parked"
    DEAD_LETTER = "dead_letter"
    DEALT_WITH = "dealt_with"
    UNKNOWN = "unknown"


MEANINGS: Final[Mapping[State, str]] = {
    State.PARKED: "It waits behind a command of its key that met a defect.",
    State.WAITING: "It is in the log, and no worker has acknowledged it yet.",
    State.DEAD_LETTER: "It was put aside for an operator.",
    State.DECIDED: "It was decided, and its answer is stored.",
    State.DEALT_WITH: "It was put aside, and an operator dealt with it.",
    State.UNKNOWN: (
        "Nothing tells of it: it never arrived, it was refused (refusals are not stored), it was a query that was"
        " answered, or its time is over."
    ),
}


@dataclass(frozen=True, slots=True)
class FoundLetter:
    """A dead letter of the message, as it may be shown."""

    id: str
    failure: Failure
    reason: str
    kind: str
    caller: str | None
    failed_at: datetime
    incident: str | None


@dataclass(frozen=True, slots=True)
class Waiting:
    """A record of the message at or after the offset that its workers have acknowledged."""

    topic: str
    partition: int
    offset: int
    stamped_at: datetime
    kind: str | None
    caller: str | None
    """None where its sender is not verified."""
    is_replay: bool
    ahead: int
    """Offsets of its partition that come before it."""

    @property
    def place(self) -> tuple[str, int, int]:
        """Where it stands."""
        return self.topic, self.partition, self.offset


@dataclass(frozen=True, slots=True)
class Stored:
    """What the database knows: outcomes, operators' actions, and of the letters that were found what became of them."""

    outcomes: Sequence[Decided]
    actions: Sequence[Acted]
    done: Mapping[Failure, Done]
    behind: Mapping[Failure, Behind]


@dataclass(frozen=True, slots=True)
class Found:
    """All that is known of a message, each part read by itself, in this order: so it cannot slip through between."""

    message_id: str
    waiting: Section[Sequence[Waiting]]
    letters: Section[Sequence[FoundLetter]]
    stored: Section[Stored]

    @property
    def missing(self) -> Mapping[str, str]:
        """Say what could not be read, and why."""
        parts: Mapping[str, Section[Any]] = {
            "the log": self.waiting,
            "dead letters": self.letters,
            "outcomes": self.stored,
        }
        return {name: one.missing for name, one in parts.items() if one.missing is not None}

    @property
    def undecided(self) -> Sequence[Waiting]:
        """What waits, but what was decided while this was put together."""
        stored = self.stored.value
        decided = {(one.topic, one.partition, one.offset) for one in (stored.outcomes if stored is not None else ())}
        return [one for one in self.waiting.value or () if one.place not in decided]

    @property
    def state(self) -> State:
        """Sum it up."""
        letters, stored = self.letters.value or (), self.stored.value
        done = stored.done if stored is not None else {}
        if self.undecided:
            return State.WAITING
        if stored is not None and stored.outcomes:
            return State.DECIDED
        if stored is not None and any(one.ahead for one in stored.behind.values()):
            return State.PARKED
        if any(letter.failure not in done for letter in letters):
            return State.DEAD_LETTER
        settled = stored is not None and any(one.done_at and one.action != "revealed" for one in stored.actions)
        return State.DEALT_WITH if letters or settled else State.UNKNOWN


class Search:
    """Looks for one message. `caller` is `sub` or `iss sub`; without one, every caller who used the id is told of."""

    def __init__(self, session: Session, message_id: str, caller: str | None) -> None:
        self._session = session
        self._settings = session.settings
        self._message_id = message_id
        self._caller = caller
        self._topics = Topics(self._settings.kafka.topic_prefix)
        self._replays = replays_of(self._settings)

    async def __call__(self, within_s: float) -> Found:
        """Look everywhere; each server has so long. What cannot be read is said, and the rest is found all the same."""
        waiting: Section[Sequence[Waiting]]
        letters: Section[Sequence[FoundLetter]]
        async with AsyncExitStack() as stack:
            reader = LogReader(
                self._settings.kafka.bootstrap_servers, kafka_security(self._settings), self._session.client_id
            )
            entered = await read_section(lambda: stack.enter_async_context(reader), within_s=min(REACH_S, within_s))
            if entered.missing is not None:
                waiting = Section(entered.taken_at, None, entered.missing)
                letters = Section(entered.taken_at, None, entered.missing)
            else:
                waiting = await read_section(lambda: self._in_log(reader), within_s=within_s)
                letters = await read_section(lambda: self._put_aside(reader), within_s=within_s)
        failures = [one.failure for one in letters.value or ()]
        stored = await read_section(lambda: self._in_database(failures), within_s=within_s)
        return Found(self._message_id, waiting, letters, stored)

    # ------------------------------------------------------------------------------------------------------- the places
    async def _in_log(self, reader: LogReader) -> Sequence[Waiting]:
        found: list[Waiting] = []
        for side in SIDES:
            topic = self._topics.commands if side == "commands" else self._topics.queries
            acked = await reader.committed(group_id(self._topics, side), topic)
            spans = {
                partition: (min(end, max(first, acked.get(partition, first))), end)
                for partition, (first, end) in (await reader.spans(topic)).items()
            }
            intake = self._intake(side)
            found += [
                _waiting(intake, record, spans[record.partition][0])
                async for record in reader.read(topic, spans)
                if self._is_meant(record)
            ]
        return [one for one in found if self._is_callers(one.caller)]

    async def _put_aside(self, reader: LogReader) -> Sequence[FoundLetter]:
        found: dict[Failure, FoundLetter] = {}
        for side in SIDES:
            topic = self._topics.dead_letters(self._topics.commands if side == "commands" else self._topics.queries)
            async for record in reader.read(topic, await reader.spans(topic)):
                if self._is_meant(record):
                    letter = Letter(record, side, self._replays)
                    if self._is_callers(letter.notes.get("dlq.caller")):
                        found[letter.failure] = _found(letter)
        return list(found.values())

    async def _in_database(self, failures: Sequence[Failure]) -> Stored:
        async with self._session.engine() as engine:
            done = await DeadLetterActions(engine).dealt_with(set(failures))
            async with connected(engine) as connection:
                behind = {}
                for failure in failures:
                    if (one := await traces.behind(connection, *failure[:4])) is not None:
                        behind[failure] = one
                outcomes = await traces.decided(connection, self._message_id)
                actions = await traces.acted(connection, self._message_id)
        return Stored([one for one in outcomes if self._is_callers(one.caller)], actions, done, behind)

    # -------------------------------------------------------------------------------------------------------------- own
    def _intake(self, side: Side) -> Intake:
        return Intake(
            self._topics,
            KINDS,
            verifier_of(self._settings),
            ReplyTopics({}, self._topics.prefix),
            b"",
            needs_answer=side == "queries",
            replays=self._replays,
        )

    def _is_meant(self, record: Record) -> bool:
        return ("message_id", self._message_id.encode()) in record.headers

    def _is_callers(self, caller: str | None) -> bool:
        """Tell whether that caller (`iss`, a line, `sub`) is the one that is asked for; who is unknown may be."""
        if self._caller is None or caller is None:
            return True
        return self._caller in {caller.partition("\n")[2], shown_caller(caller)}


def shown_caller(caller: str) -> str:
    """Write a caller as operators do: `sub`, or `iss sub`."""
    return caller.replace("\n", " ").strip()


def _waiting(intake: Intake, record: Record, acked: int) -> Waiting:
    delivery, _ = intake.take(record)
    return Waiting(
        record.topic,
        record.partition,
        record.offset,
        datetime.fromtimestamp(record.timestamp / 1000, UTC),
        delivery.kind.name if delivery.kind is not None else None,
        delivery.identity.caller if delivery.identity is not None else None,
        delivery.replay is not None,
        record.offset - acked,
    )


def _found(letter: Letter) -> FoundLetter:
    return FoundLetter(
        letter.id,
        letter.failure,
        letter.reason,
        letter.kind_name,
        letter.notes.get("dlq.caller"),
        letter.failed_at,
        letter.notes.get("dlq.incident"),
    )
