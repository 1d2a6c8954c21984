"""The way of a query, from top to bottom.

    decode → identify → refuse → read → answer

The way of a command without look-up, flush, store and commit: a query is never stored. Several are read at once:
look-ups by key of one kind together, what may take long one at a time, in turns among callers, on at most half of the
connections. Each is answered as soon as it is read, in any order.

The server ends a read after a second. One that was ended runs again alone, with look-ups by key beside it: by these a
query that is too expensive is told from a database that is slow for everybody, which is waited for, as an outage is. A
defect costs its query alone. A deadline is judged when the database answers.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Final

from contracts.envelope import failure
from contracts.errors import CatalogError, QueryTooExpensiveError
from handlers.queries import AT_ONCE, ELSE_LATER, INSTEAD, LOOK_UPS
from handlers.queries.asked import Asked, QueryUseCase
from handlers.readers import Readers
from handlers.result import Result, Success
from persistence.blocks import Blocks, nobody
from persistence.engine import READ_TIMEOUT_MS, database_time
from persistence.faults import Fault, fault_of
from workers.pipeline.answering import Answering
from workers.pipeline.delivery import Admitted, Delivery, ended
from workers.pipeline.ends import Applied, Refused
from workers.pipeline.fair_share import LoopShare
from workers.pipeline.intake import Intake
from workers.pipeline.look_ups import USUAL_TIMES, LookUps
from workers.pipeline.observer import BatchWatch, Observer
from workers.pipeline.outages import Outages
from workers.pipeline.patience import GiveBackError, Patience
from workers.pipeline.places import Places, Room
from workers.pipeline.refusal import Refusal
from workers.ports import Custody, Record

ANSWER_BYTES: Final = 32 * 1024 * 1024
"""What answers that were read and are not published yet may hold."""
BLOCKED_FOR_S: Final = 20.0
"""How long a read may meet locks of others (a change of its table, say) before it counts as one that takes too long."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where queries of a batch are read from, and what tells whether that is slow."""

    readers: Readers
    look_ups: LookUps


@dataclass(frozen=True)
class QueryPipeline:
    """Answers queries; made once a process by the composition root."""

    intake: Intake
    refusal: Refusal
    answering: Answering
    source: Callable[[], Awaitable[Source]]
    """Read from here, from now on; raises what the driver raises."""
    database_answers: Callable[[], Awaitable[bool]]
    use_cases: Mapping[str, QueryUseCase]
    patience: Callable[[], Patience]
    observer: Observer
    new_incident: Callable[[], str]
    places: Places
    """For what may take long."""
    look_up_places: asyncio.Semaphore
    room: Room = field(default_factory=lambda: Room(ANSWER_BYTES))
    clock: Callable[[], float] = time.monotonic
    blocks: Callable[[], Awaitable[Blocks]] = nobody

    async def __call__(self, records: Sequence[Record], custody: Custody) -> None:
        """Answer a batch; returns when each is answered, or is not ours any more."""
        with self.observer.batch(records) as watch:
            batch = QueryBatch(self, custody, watch)
            on_their_way: list[asyncio.Task[None]] = []
            left = records
            try:
                while left:
                    deliveries, identified, left = await self.intake.take_in(left)
                    admitted = await self.refusal.refuse(identified, blocks=await self.blocks())
                    steps = chain(
                        map(batch.answer, _decided(deliveries)),
                        map(batch.deny_late, _late(deliveries)),
                        map(batch.read, _groups(admitted)),
                    )
                    on_their_way += [asyncio.create_task(step) for step in steps]
                await _all(on_their_way)
            finally:
                for step in on_their_way:  # after a defect, or where the batch takes too long to be handed over
                    step.cancel()


async def _all(steps: Iterable[Awaitable[None]]) -> None:
    """Let each come to its end, then raise what one of them met; those that were given up are no error."""
    for met in await asyncio.gather(*steps, return_exceptions=True):
        if isinstance(met, Exception):
            raise met


def _is_late(delivery: Delivery) -> bool:
    return delivery.consequences is not None and delivery.consequences.is_unsure


def _decided(deliveries: Sequence[Delivery]) -> Iterator[Sequence[Delivery]]:
    """What was refused, together; but for its deadline: that is judged when the database answers."""
    if refused := [one for one in deliveries if one.end is not None and not _is_late(one)]:
        yield refused


def _late(deliveries: Sequence[Delivery]) -> Iterator[Sequence[Delivery]]:
    if late := [one for one in deliveries if _is_late(one)]:
        yield late


def _groups(admitted: Sequence[Admitted]) -> Iterator[Sequence[Admitted]]:
    """What is read together: look-ups by kind, anything else by kind and caller."""
    groups: dict[tuple[str, str], list[Admitted]] = defaultdict(list)
    for one in admitted:
        kind = one.kind.name
        groups[kind, "" if kind in LOOK_UPS else one.context.caller].append(one)
    for (kind, _), group in groups.items():
        at_once = AT_ONCE.get(kind, 1)
        for begin in range(0, len(group), at_once):
            yield group[begin : begin + at_once]


@dataclass
class QueryBatch:
    """What the queries of one batch have in common on their way."""

    pipeline: QueryPipeline
    custody: Custody
    watch: BatchWatch
    _source: Source | None = None

    async def read(self, group: Sequence[Admitted]) -> None:
        """Have queries of one kind read and answered, in smaller groups where that does not work together."""
        reading = _Reading(self.pipeline.patience())
        left = await self._still_wanted(group)
        while left:
            try:
                read, size = await self._read_some(left, alone=reading.alone)
            except Exception as error:  # noqa: BLE001 - sorted by _after
                if await self._after(error, left, reading):
                    return
            else:
                try:
                    await self.answer(_deliveries(read))
                finally:
                    self.pipeline.room.give(size)
                left = [one for one in left if one.delivery.end is None]
            left = await self._still_wanted(left)

    async def deny_late(self, late: Sequence[Delivery]) -> None:
        """Answer those whose deadline has passed, once the database answers: until then it is an outage."""
        patience = self.pipeline.patience()
        while not await self.pipeline.database_answers():
            await self._wait(patience.database_away())
        await self.answer(late)

    async def answer(self, deliveries: Sequence[Delivery]) -> None:
        """Publish the answers, however long the broker takes none."""
        answers, outages = ended(deliveries), Outages(self.pipeline.patience(), self.pipeline.observer)
        while True:
            try:
                with outages.given_back(), self.pipeline.observer.step("answer"):
                    await self.pipeline.answering.answer(answers)
                break
            except GiveBackError as given_back:
                await self._wait(given_back.retry_after_s)
        self.watch.decided(answers)
        self.custody.answered([delivery.record for delivery in deliveries])

    # One group -----------------------------------------------------------------------------------------------------
    async def _still_wanted(self, group: Sequence[Admitted]) -> Sequence[Admitted]:
        """Answer those whose deadline has passed meanwhile; the others."""
        wanted, late = [], []
        for one in group:
            if error := self.pipeline.refusal.too_late(one.delivery):
                one.delivery.come_to(Refused(error))
                late.append(one.delivery)
            else:
                wanted.append(one)
        if late:
            await self.deny_late(late)
        return wanted

    async def _read_some(self, group: Sequence[Admitted], *, alone: bool) -> tuple[Sequence[Admitted], int]:
        """Read queries of one kind, some at least; which, and the bytes of their answers.

        Raises what reading does. The place of a read is given back before its answer is published: a topic that takes
        none holds up no read, but for the room that its answers take.
        """
        if group[0].kind.name in LOOK_UPS and not alone:
            with self.custody.waiting():
                await self.pipeline.look_up_places.acquire()
            leave = self.pipeline.look_up_places.release
        else:
            with self.custody.waiting():
                place = await self.pipeline.places.enter(group[0].context.caller, alone=alone)

            def leave() -> None:
                self.pipeline.places.leave(place)

        try:
            results = await self._results(group, alone=alone)
            size, loop, answers = 0, LoopShare(), _Answers()
            read: list[Admitted] = []
            for one, result in zip(group, results, strict=False):
                if result is None:
                    continue
                if read and size > ANSWER_BYTES:
                    break  # equal queries have one answer, which is published for each: the others come again
                body, status_code = answers.of(result)
                one.delivery.come_to(Applied(body, status_code))
                read.append(one)
                size += len(body)
                await loop.give_back()
            with self.custody.waiting():
                await self.pipeline.room.take(size)
            return read, size
        finally:
            leave()

    async def _results(self, group: Sequence[Admitted], *, alone: bool) -> Sequence[Result | None]:
        kind = group[0].kind.name
        self._source = source = self._source or await self.pipeline.source()
        source.look_ups.keep_up()
        asked = [Asked(one.payload, one.context) for one in group]

        async def ask() -> Sequence[Result | None]:
            with database_time() as spent:
                results = await self.pipeline.use_cases[kind](asked, source.readers)
            self.pipeline.observer.database(kind, spent.seconds)
            return results

        if not alone:
            return await ask()
        began_at = self.pipeline.clock()
        results, are_usual = await source.look_ups.beside(ask())
        if not isinstance(results, Exception):
            return results
        # The server ends it after a second: where we hear of it late, or not at all, something stood still.
        stood_still = (self.pipeline.clock() - began_at) * 1000 > USUAL_TIMES * READ_TIMEOUT_MS
        if are_usual and not stood_still and fault_of(results) is Fault.TOO_SLOW:
            raise _TooExpensiveError from results
        raise results

    async def _after(self, error: Exception, group: Sequence[Admitted], reading: "_Reading") -> bool:
        """Do what follows from a read that failed; returns whether all of the group is seen to."""
        cause = error.__cause__ if isinstance(error, _TooExpensiveError) and error.__cause__ is not None else error
        fault = fault_of(cause)
        self.pipeline.observer.retry(fault.value, "read")
        if fault is Fault.DEFECT and len(group) == 1:
            group[0].delivery.break_on(error, self.pipeline.new_incident())
        elif isinstance(error, _TooExpensiveError) or reading.is_blocked(fault, self.pipeline.clock()):
            for one in group:
                one.delivery.come_to(Refused(_too_expensive(one.kind.name)))
        elif fault is Fault.TOO_SLOW and not reading.alone and _is_one_read(group):
            reading.alone = True
            return False
        elif fault is Fault.DEFECT or (fault is Fault.TOO_SLOW and len(group) > 1 and await self._are_usual()):
            middle = (len(group) + 1) // 2
            await _all([self.read(group[:middle]), self.read(group[middle:])])
            return True
        else:
            self._source = None
            reading.alone = False  # after an outage all of them would run one after the other
            await self._wait(reading.patience.database_away())
            return False
        await self.answer(_deliveries(group))
        return True

    async def _are_usual(self) -> bool:
        return self._source is not None and await self._source.look_ups.are_usual()

    async def _wait(self, seconds: float) -> None:
        with self.custody.waiting():
            await asyncio.sleep(seconds)


class _Answers:
    """Answers that were written: the same result is written once."""

    def __init__(self) -> None:
        self._written: dict[int, tuple[Result, bytes, int]] = {}

    def of(self, result: Result) -> tuple[bytes, int]:
        """Write an answer, or find it; with its status code."""
        if (known := self._written.get(id(result))) is None:
            envelope = result.value if isinstance(result, Success) else failure(result.error)
            known = self._written[id(result)] = result, envelope.encode(), envelope.status_code
        return known[1:]


class _TooExpensiveError(Exception):
    """A query, run alone, took longer than it may, and look-ups beside it took what they usually take."""


@dataclass
class _Reading:
    """What came of the attempts to read a group."""

    patience: Patience
    alone: bool = False
    blocked_since: float | None = None

    def is_blocked(self, fault: Fault, now: float) -> bool:
        """Tell whether it has met nothing but others' locks for too long."""
        if fault is not Fault.CONFLICT:
            self.blocked_since = None
            return False
        self.blocked_since = now if self.blocked_since is None else self.blocked_since
        return now - self.blocked_since >= BLOCKED_FOR_S


def _deliveries(group: Sequence[Admitted]) -> list[Delivery]:
    return [one.delivery for one in group]


def _is_one_read(group: Sequence[Admitted]) -> bool:
    """Tell whether these are one query, or are read as one: to read some of them takes as long as to read all."""
    first = group[0]
    return len(group) == 1 or (
        first.kind.name not in LOOK_UPS and all(repr(one.payload) == repr(first.payload) for one in group)
    )


def _too_expensive(kind: str) -> CatalogError:
    instead = INSTEAD.get(kind, ELSE_LATER)
    return QueryTooExpensiveError(
        f"The query takes more of the database than one may have; ask for {instead}",
        {"kind": kind, "limit_ms": READ_TIMEOUT_MS, "instead": instead},
    )
