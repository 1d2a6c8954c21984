"""Replaying and discarding dead letters, one after the other, with a record of each."""

import asyncio
from collections import OrderedDict, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, Protocol

import structlog

from contracts.topics import Topics
from persistence.dead_letter_actions import Action, ActionName, DeadLetterActions, Done, Failure
from persistence.key_fingerprints import KeyPair
from workers.dlq.edits import EditError, Edits, plain
from workers.dlq.errors import DeskError
from workers.dlq.letters import SIDES, Entry, Filter, Letter, Place, Side, iso
from workers.pipeline.replays import RejectedReplay, Replays
from workers.pipeline.signature import is_signed
from workers.ports import Message, Record

CLOCKS_APART: Final = timedelta(minutes=5)
"""How far a worker's clock, by which letters are filtered, may be from the one by which the log is searched."""

PAGE: Final = 500
"""How many letters are asked about in one statement."""
LONGEST_STEP: Final = 4_000
"""How many letters of a partition are read at once on the way back from its end."""
REMEMBERED: Final = 50_000
"""How many failures are remembered, to count one once that was published twice: those stand close together."""

MOST_GROUPS: Final = 1_000
OTHER_PLACES: Final = "(other places)"
MOST_CALLERS: Final = 10_000
"""How many callers of a group are told apart; it is said to have so many, where it has more."""

_log = structlog.get_logger(__name__)

Spans = Mapping[int, tuple[int, int]]
"""By partition: an offset, and the one to stop before."""


class Log(Protocol):
    """The dead-letter topics; `workers.kafka.dead_letter_log.DeadLetterLog` is one."""

    async def spans(self, topic: str, since: datetime | None) -> dict[int, tuple[int, int]]: ...
    def read(self, topic: str, spans: Spans) -> AsyncIterator[Record]: ...
    async def letter(self, topic: str, partition: int, offset: int) -> Record | None: ...
    async def bring_back(self, message: Message) -> str | None: ...


async def _unasked(_: KeyPair, __: Side) -> str | None:
    return None


class LetterNotFoundError(DeskError):
    """There is no such dead letter (any more)."""


@dataclass(frozen=True, slots=True)
class Treated:
    """What became of one letter. `problem` is None where it was (or, in a dry run, would be) done."""

    entry: Entry
    problem: str | None


@dataclass(frozen=True, slots=True)
class Latest:
    """The latest letters, the latest last. `complete`: there are no others that pass."""

    entries: Sequence[tuple[Entry, Done | None]]
    complete: bool


@dataclass(frozen=True)
class Desk:
    """Where an operator works: the letters, the record of what was done about them, and a name to put under it."""

    log: Log
    actions: DeadLetterActions
    topics: Topics
    replays: Replays
    operator: str
    sleep: Callable[[float], Awaitable[None]] = field(default=asyncio.sleep)
    why_refused: Callable[[KeyPair, Side], Awaitable[str | None]] = field(default=_unasked)
    """Why the workers of a side would not believe what is signed by a key."""

    # Reading ---------------------------------------------------------------------------------------------------------
    async def latest(
        self, sides: Sequence[Side], wanted: Filter, limit: int, *, dealt_with_too: bool = False
    ) -> Latest:
        """Return the latest letters that pass, read from the ends of the partitions as far back as it must.

        A letter that a worker had to publish twice is one failure: the last of them is returned.
        """
        found: list[tuple[Entry, Done | None]] = []
        complete = True
        for side in sides:
            back = _Backwards(limit, dict(await self.log.spans(self._topic(side), _since(wanted))))
            while step := back.step():
                letters: dict[int, list[Letter]] = defaultdict(list)
                async for letter in self._letters(side, wanted, step):
                    letters[letter.record.partition].append(letter)
                done = await self._done([letter.failure for some in letters.values() for letter in some])
                for partition, some in letters.items():
                    for letter in reversed(some):
                        if dealt_with_too or letter.failure not in done:
                            back.add(partition, Entry.of(letter), done.get(letter.failure))
            found += [one for some in back.found.values() for one in some.values()]
            complete = complete and back.is_complete
        found.sort(key=lambda one: (one[0].failed_at, one[0].place))
        return Latest(found[-limit:], complete and len(found) <= limit)

    async def find(self, sides: Sequence[Side], wanted: Filter) -> list[Entry]:
        """Return the open letters that pass, in the order of their first arrival: each by what may be shown of it."""
        found: dict[Failure, Entry] = {}
        async for letter in self.open_letters(sides, wanted):
            found[letter.failure] = Entry.of(letter)
        return [found[failure] for failure in sorted(found)]

    async def group(self, sides: Sequence[Side], wanted: Filter) -> "list[Group]":
        """Group the open letters that pass, by their headers alone; the largest group first."""
        groups, seen = Groups(), _Recent()
        async for letter in self.open_letters(sides, wanted):
            if seen.is_new(letter.failure):
                groups.add(letter)
        return groups.sorted()

    async def open_letters(self, sides: Sequence[Side], wanted: Filter) -> AsyncIterator[Letter]:
        """Yield the letters that pass and were not dealt with, as they are read: a page is in memory at a time."""
        for side in sides:
            page: list[Letter] = []
            spans = await self.log.spans(self._topic(side), _since(wanted))
            async for letter in self._letters(side, wanted, spans):
                page.append(letter)
                if len(page) >= PAGE:
                    for one in await self._not_done(page):
                        yield one
                    page.clear()
            for one in await self._not_done(page):
                yield one

    async def get(self, places: Sequence[Place]) -> list[tuple[Letter, Done | None]]:
        """Return single letters. Raises `LetterNotFoundError`."""
        letters = [await self._letter(place) for place in places]
        done = await self._done([letter.failure for letter in letters])
        return [(letter, done.get(letter.failure)) for letter in letters]

    # Doing -----------------------------------------------------------------------------------------------------------
    async def replay(
        self, entries: Sequence[Entry], edits: Edits | None, *, per_s: float, dry_run: bool
    ) -> AsyncIterator[Treated]:
        """Bring letters back, in the order given, so many a second at most. What cannot be is passed over, and told.

        Dying in between, or a broker that goes away (`BrokerAwayError`), leaves one letter that may or may not have
        been brought back; it is open still, and bringing it back again does no harm. What the workers would refuse,
        for want of the key that it is signed by, is not brought back: it would be gone from the list, and not done.
        """
        refusals: dict[tuple[str, bytes, Side], str | None] = {}
        for number, entry in enumerate(entries):
            try:
                letter = await self._letter(entry.place)
                message = self._message(letter, edits)
                pair = self._signed_by(letter, edits)
                asked = (pair.name, pair.first, letter.side)
                if asked not in refusals:
                    refusals[asked] = await self.why_refused(pair, letter.side)
                if (refusal := refusals[asked]) is not None:
                    raise EditError(refusal)
            except (EditError, LetterNotFoundError) as error:
                yield Treated(entry, str(error))
                continue
            if dry_run:
                yield Treated(entry, None)
                continue
            if number:
                await self.sleep(1 / per_s)
            action = await self._begin(entry, "replayed", edits=edits.names if edits is not None else ())
            refused = await self.log.bring_back(message)
            if refused is None:
                if message.key != letter.record.key:  # under another key it has no place in the queue of its own
                    await self.actions.let_go(entry.failure)
                await self.actions.confirm(action)
                self._audit("dead_letter_replayed", entry, edits=edits.names if edits is not None else [])
            yield Treated(entry, f"it was not taken back: {refused}" if refused is not None else None)

    async def discard(self, entries: Sequence[Entry], note: str | None, *, dry_run: bool) -> AsyncIterator[Treated]:
        """Note that nothing needs to be done about these letters. They stay in the log until their time is over."""
        for entry in entries:
            if not dry_run:
                action = await self._begin(entry, "discarded", note=note)
                await self.actions.let_go(entry.failure)
                await self.actions.confirm(action)
                self._audit("dead_letter_discarded", entry, note=note)
            yield Treated(entry, None)

    async def reveal(self, letter: Letter) -> Mapping[str, Any]:
        """Return all that a letter holds. That somebody looked is written down first."""
        entry = Entry.of(letter)
        await self.actions.confirm(await self._begin(entry, "revealed"))
        self._audit("dead_letter_revealed", entry)
        return letter.revealed()

    # ------------------------------------------------------------------------------------------------------------ own
    def _topic(self, side: Side) -> str:
        return self.topics.dead_letters(self.topics.commands if side == "commands" else self.topics.queries)

    async def _letters(self, side: Side, wanted: Filter, spans: Spans) -> AsyncIterator[Letter]:
        async for record in self.log.read(self._topic(side), spans):
            letter = Letter(record, side, self.replays)
            if wanted.passes(letter):
                yield letter

    async def _letter(self, place: Place) -> Letter:
        side, partition, offset = place
        record = await self.log.letter(self._topic(side), partition, offset)
        if record is None:
            raise LetterNotFoundError(f"{side}/{partition}/{offset}: there is no such dead letter (any more)")
        return Letter(record, side, self.replays)

    async def _done(self, failures: Collection[Failure]) -> dict[Failure, Done]:
        return await self.actions.dealt_with(set(failures))

    async def _not_done(self, page: Sequence[Letter]) -> list[Letter]:
        done = await self._done([letter.failure for letter in page])
        return [letter for letter in page if letter.failure not in done]

    def _signed_by(self, letter: Letter, edits: Edits | None) -> KeyPair:
        if edits is not None:
            return KeyPair("DLQ_OPERATOR_KEY", edits.operator_key)
        for key in (self.replays.signing_key, self.replays.previous_signing_key):
            if key is not None and is_signed(key, letter.record):
                return KeyPair("DLQ_SIGNING_KEY", key)
        return KeyPair("DLQ_OPERATOR_KEY", self.replays.operator_key or self.replays.signing_key)

    def _message(self, letter: Letter, edits: Edits | None) -> Message:
        if edits is not None:
            return edits.apply(letter)
        if isinstance(letter.judged, RejectedReplay):
            raise EditError(letter.judged.reason)
        return plain(letter)

    async def _begin(
        self, entry: Entry, action: ActionName, *, edits: Sequence[str] = (), note: str | None = None
    ) -> int:
        _, partition, offset = entry.place
        return await self.actions.begin(
            Action(
                entry.failure,
                entry.topic,
                partition,
                offset,
                entry.summary["reason"],
                entry.summary["kind"],
                entry.summary["message_id"],
                action,
                self.operator,
                edits,
                note,
            )
        )

    def _audit(self, event: str, entry: Entry, **more: object) -> None:
        _log.info(
            event,
            operator=self.operator,
            dead_letter=entry.id,
            user_id=entry.summary["caller"],
            **{name: entry.summary[name] for name in ("reason", "kind", "message_id", "attempts")},
            **{name: value for name, value in more.items() if value},
        )


def _since(wanted: Filter) -> datetime | None:
    return wanted.since - CLOCKS_APART if wanted.since is not None else None


class _Backwards:
    """How far each partition of a topic was read from its end, and what was found: at most `limit` of each."""

    def __init__(self, limit: int, left: dict[int, tuple[int, int]]) -> None:
        self.found: dict[int, dict[Failure, tuple[Entry, Done | None]]] = defaultdict(dict)
        self._limit = limit
        self._left = {partition: span for partition, span in left.items() if span[0] < span[1]}
        self._step = min(max(limit, 100), LONGEST_STEP)

    @property
    def is_complete(self) -> bool:
        """Whether each partition was read to its beginning."""
        return not self._left

    def step(self) -> Spans:
        """Return what to read next, each step further than the one before; nothing where all is found."""
        step: dict[int, tuple[int, int]] = {}
        for partition, (first, end) in list(self._left.items()):
            if len(self.found[partition]) >= self._limit:
                continue
            start = max(first, end - self._step)
            step[partition] = (start, end)
            self._left[partition] = (first, start)
            if start == first:
                del self._left[partition]
        self._step = min(self._step * 2, LONGEST_STEP)
        return step

    def add(self, partition: int, entry: Entry, done: Done | None) -> None:
        """Keep a letter, the later ones first; one of a failure that was kept is an earlier copy."""
        found = self.found[partition]
        if len(found) < self._limit:
            found.setdefault(entry.failure, (entry, done))


class _Recent:
    """The failures seen last."""

    def __init__(self) -> None:
        self._seen: OrderedDict[Failure, None] = OrderedDict()

    def is_new(self, failure: Failure) -> bool:
        """Note a failure; tells whether it was not there."""
        if failure in self._seen:
            return False
        self._seen[failure] = None
        if len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)
        return True


@dataclass(slots=True)
class Group:
    """Letters that failed alike: for the same reason, at the same place. It counts them, and keeps none."""

    reason: str
    place: str
    example: str
    first: datetime
    last: datetime
    kinds: set[str] = field(default_factory=set)
    letters: int = 0
    callers: set[str | None] = field(default_factory=set)
    attempts: int = 0

    def add(self, letter: Letter) -> None:
        """Count a letter."""
        self.letters += 1
        self.kinds.add(letter.noted_kind)
        if len(self.callers) < MOST_CALLERS:
            self.callers.add(letter.caller)
        self.attempts = max(self.attempts, letter.attempts)
        self.first = min(self.first, letter.failed_at)
        if letter.failed_at >= self.last:
            self.last, self.example = letter.failed_at, letter.id

    def summary(self) -> dict[str, Any]:
        """Return the group as it may be shown to anybody."""
        return {
            "reason": self.reason,
            "place": self.place,
            "kinds": sorted(self.kinds),
            "letters": self.letters,
            "callers": len(self.callers),
            "first": iso(self.first),
            "last": iso(self.last),
            "attempts": self.attempts,
            "example": self.example,
        }


class Groups:
    """Groups by reason and place. Beyond so many places, further ones of a reason are one group."""

    def __init__(self) -> None:
        self._groups: dict[tuple[str, str], Group] = {}

    def add(self, letter: Letter) -> None:
        """Count a letter in its group."""
        reason, place = letter.reason, letter.place
        if (reason, place) not in self._groups and len(self._groups) >= MOST_GROUPS:
            place = OTHER_PLACES
        at = letter.failed_at
        self._groups.setdefault((reason, place), Group(reason, place, letter.id, at, at)).add(letter)

    def sorted(self) -> list[Group]:
        """Return the groups, the largest first."""
        return sorted(self._groups.values(), key=lambda group: -group.letters)


def read_id(text: str) -> Place:
    """Read an id: side, partition, offset. Raises `LetterNotFoundError` for what is none."""
    match text.split("/"):
        case [("commands" | "queries") as side, partition, offset] if partition.isdigit() and offset.isdigit():
            return SIDES[SIDES.index(side)], int(partition), int(offset)
        case _:
            raise LetterNotFoundError(f"{text}: an id is commands/PARTITION/OFFSET or queries/PARTITION/OFFSET")
