"""Replaying and discarding dead letters, one after the other, with a record of each."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, Protocol

import structlog

from contracts.topics import Topics
from persistence.dead_letter_actions import Action, ActionName, DeadLetterActions, Done, Failure
from workers.dlq.edits import EditError, Edits, plain
from workers.dlq.errors import DeskError
from workers.dlq.letters import SIDES, Filter, Letter, Side
from workers.pipeline.replays import RejectedReplay, Replays
from workers.ports import Message, Record

CLOCKS_APART: Final = timedelta(minutes=5)
"""How far a worker's clock, by which letters are filtered, may be from the one by which the log is searched."""

_log = structlog.get_logger(__name__)


class Log(Protocol):
    """The dead-letter topics; `workers.kafka.dead_letter_log.DeadLetterLog` is one."""

    def letters(self, topic: str, since: datetime | None) -> AsyncIterator[Record]: ...
    async def letter(self, topic: str, partition: int, offset: int) -> Record | None: ...
    async def bring_back(self, message: Message) -> str | None: ...


Place = tuple[Side, int, int]
"""Where a letter stands: side, partition, offset."""


class LetterNotFoundError(DeskError):
    """There is no such dead letter (any more)."""


@dataclass(frozen=True, slots=True)
class Treated:
    """What became of one letter. `problem` is None where it was (or, in a dry run, would be) done."""

    letter: Letter
    problem: str | None


@dataclass(frozen=True)
class Desk:
    """Where an operator works: the letters, the record of what was done about them, and a name to put under it."""

    log: Log
    actions: DeadLetterActions
    topics: Topics
    replays: Replays
    operator: str
    sleep: Callable[[float], Awaitable[None]] = field(default=asyncio.sleep)

    # Reading ---------------------------------------------------------------------------------------------------------
    async def find(
        self, sides: Sequence[Side], wanted: Filter, *, dealt_with_too: bool = False
    ) -> list[tuple[Letter, Done | None]]:
        """Return the letters that pass, in the order of their first arrival; those that are dealt with on request.

        A letter that a worker had to publish twice is one failure: the last of them is returned.
        """
        done = await self._done(sides)
        found: dict[Failure, Letter] = {}
        since = wanted.since - CLOCKS_APART if wanted.since is not None else None
        for side in sides:
            async for record in self.log.letters(self._topic(side), since):
                letter = Letter(record, side, self.replays)
                if wanted.passes(letter) and (dealt_with_too or letter.failure not in done):
                    found[letter.failure] = letter
        return [(found[failure], done.get(failure)) for failure in sorted(found)]

    async def get(self, places: Sequence[Place]) -> list[tuple[Letter, Done | None]]:
        """Return single letters. Raises `LetterNotFoundError`."""
        done = await self._done(sorted({side for side, _, _ in places}))
        found = []
        for side, partition, offset in places:
            record = await self.log.letter(self._topic(side), partition, offset)
            if record is None:
                raise LetterNotFoundError(f"{side}/{partition}/{offset}: there is no such dead letter (any more)")
            letter = Letter(record, side, self.replays)
            found.append((letter, done.get(letter.failure)))
        return found

    # Doing -----------------------------------------------------------------------------------------------------------
    async def replay(
        self, letters: Sequence[Letter], edits: Edits | None, *, per_s: float, dry_run: bool
    ) -> AsyncIterator[Treated]:
        """Bring letters back, in the order given, so many a second at most. What cannot be is passed over, and told.

        Dying in between, or a broker that goes away (`BrokerAwayError`), leaves one letter that may or may not have
        been brought back; it is open still, and bringing it back again does no harm.
        """
        for number, letter in enumerate(letters):
            try:
                message = self._message(letter, edits)
            except EditError as error:
                yield Treated(letter, str(error))
                continue
            if dry_run:
                yield Treated(letter, None)
                continue
            if number:
                await self.sleep(1 / per_s)
            action = await self._begin(letter, "replayed", edits=edits.names if edits is not None else ())
            refused = await self.log.bring_back(message)
            if refused is None:
                if message.key != letter.record.key:  # under another key it has no place in the queue of its own
                    await self.actions.let_go(letter.failure)
                await self.actions.confirm(action)
                self._audit("dead_letter_replayed", letter, edits=edits.names if edits is not None else [])
            yield Treated(letter, f"it was not taken back: {refused}" if refused is not None else None)

    async def discard(self, letters: Sequence[Letter], note: str | None, *, dry_run: bool) -> AsyncIterator[Treated]:
        """Note that nothing needs to be done about these letters. They stay in the log until their time is over."""
        for letter in letters:
            if not dry_run:
                action = await self._begin(letter, "discarded", note=note)
                await self.actions.let_go(letter.failure)
                await self.actions.confirm(action)
                self._audit("dead_letter_discarded", letter, note=note)
            yield Treated(letter, None)

    async def reveal(self, letter: Letter) -> Mapping[str, Any]:
        """Return all that a letter holds. That somebody looked is written down first."""
        await self.actions.confirm(await self._begin(letter, "revealed"))
        self._audit("dead_letter_revealed", letter)
        return letter.revealed()

    # ------------------------------------------------------------------------------------------------------------ own
    def _topic(self, side: Side) -> str:
        return self.topics.dead_letters(self.topics.commands if side == "commands" else self.topics.queries)

    async def _done(self, sides: Sequence[Side]) -> dict[Failure, Done]:
        letters = [self._topic(side) for side in sides]  # letters that are not ours are noted under their own place
        return await self.actions.dealt_with([*letters, *(name.removesuffix(".dead-letters") for name in letters)])

    def _message(self, letter: Letter, edits: Edits | None) -> Message:
        if edits is not None:
            return edits.apply(letter)
        if isinstance(letter.judged, RejectedReplay):
            raise EditError(letter.judged.reason)
        return plain(letter)

    async def _begin(
        self, letter: Letter, action: ActionName, *, edits: Sequence[str] = (), note: str | None = None
    ) -> int:
        record = letter.record
        return await self.actions.begin(
            Action(
                letter.failure,
                record.topic,
                record.partition,
                record.offset,
                letter.reason,
                letter.kind_name,
                letter.message_id,
                action,
                self.operator,
                edits,
                note,
            )
        )

    def _audit(self, event: str, letter: Letter, **more: object) -> None:
        _log.info(
            event,
            operator=self.operator,
            dead_letter=letter.id,
            reason=letter.reason,
            kind=letter.kind_name,
            message_id=letter.message_id,
            user_id=letter.caller,
            attempts=letter.attempts,
            **{name: value for name, value in more.items() if value},
        )


@dataclass(slots=True)
class Group:
    """Letters that failed alike: for the same reason, at the same place."""

    reason: str
    place: str
    kinds: set[str] = field(default_factory=set)
    letters: list[Letter] = field(default_factory=list)

    def summary(self) -> dict[str, Any]:
        """Return the group as it may be shown to anybody."""
        times = sorted(letter.summary(None)["failed_at"] for letter in self.letters)
        return {
            "reason": self.reason,
            "place": self.place,
            "kinds": sorted(self.kinds),
            "letters": len(self.letters),
            "callers": len({letter.caller for letter in self.letters}),
            "first": times[0],
            "last": times[-1],
            "attempts": max(letter.attempts for letter in self.letters),
            "example": self.letters[-1].id,
        }


def grouped(letters: Sequence[Letter]) -> list[Group]:
    """Group letters by reason and place, the largest group first."""
    groups: dict[tuple[str, str], Group] = {}
    for letter in letters:
        group = groups.setdefault((letter.reason, letter.place), Group(letter.reason, letter.place))
        group.letters.append(letter)
        group.kinds.add(letter.kind_name)
    return sorted(groups.values(), key=lambda group: -len(group.letters))


def read_id(text: str) -> Place:
    """Read an id: side, partition, offset. Raises `LetterNotFoundError` for what is none."""
    match text.split("/"):
        case [("commands" | "queries") as side, partition, offset] if partition.isdigit() and offset.isdigit():
            return SIDES[SIDES.index(side)], int(partition), int(offset)
        case _:
            raise LetterNotFoundError(f"{text}: an id is commands/PARTITION/OFFSET or queries/PARTITION/OFFSET")
