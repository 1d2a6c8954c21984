"""The way of a command, from top to bottom.

    decode → identify → look up → refuse → load → dispatch → flush → store → commit → answer

A batch is one transaction. What is decided is decided in the order of the log; a `Failure` or an exception leaves no
trace of its message; an error of the flush is found by halving the batch. An outage is no error: what could not be
decided is given back and comes again. Dying anywhere before the commit leaves nothing; dying after it leaves the stored
outcome, which is sent when the message comes again.
"""

import asyncio
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import structlog

from contracts.envelope import failure
from contracts.errors import MessageIdReusedError
from handlers.commands import PREPARATIONS, Preparation, UseCase
from handlers.queries.outcomes import outcome_erased
from handlers.result import Failure, Success
from handlers.rules import RuleBook
from persistence import unit_of_work
from persistence.engine import Engine
from persistence.faults import Fault, fault_of, is_refused_write
from persistence.outcomes import Known, LookUp, Outcome, look_up
from persistence.product_queries import DriftWatch
from persistence.unit_of_work import BatchUnitOfWork, Steering
from workers.fault_points import FaultPoints
from workers.pipeline.answering import Answering
from workers.pipeline.blame import Attempt, Blame, Place, Verdict
from workers.pipeline.delivery import Delivery
from workers.pipeline.ends import Applied, Broken, Refused, Repeated
from workers.pipeline.fair_share import FairShare, LoopShare
from workers.pipeline.intake import Intake
from workers.pipeline.observer import Observer
from workers.pipeline.parking import Parking, Sitting
from workers.pipeline.patience import GiveBackError, Patience
from workers.pipeline.progress import progress_of
from workers.pipeline.refusal import Refusal
from workers.pipeline.replays import Replay
from workers.ports import BrokerAwayError, Position, Progress, Record

_log = structlog.get_logger(__name__)

CONFLICTS_BEFORE_HALVING: Final = 3
"""A batch that lost this many races in a row is halved: a smaller one holds its locks for less time."""
PREPARE_S: Final = 0.5
"""CPU time that the thread may spend on what is prepared in one batch, about: the last one is finished."""
CONFLICTS_BEFORE_WAITING: Final = 10
"""A lone message that lost this many waits outside, with what follows it in its partition; others go on."""
TIMES_TOO_SLOW: Final = 2
"""A lone message that took too long this often, while others were written in between, is a defect."""
REFUSED_WRITES: Final = 10
"""A lone message whose write meets a constraint this often in a row, while others are written, is a defect."""
DISPATCH_S: Final = 0.5
"""How long the use cases of one batch may go on; what is left of it is fetched again."""
WELL_BELOW_S: Final = 3.0
"""A transaction that took no longer may be followed by one of twice as many messages, after some were too large."""


@dataclass(slots=True)
class _Course:
    """What is known while one batch is decided."""

    known: LookUp
    sitting: Sitting
    still_ours: Callable[[], bool]
    dispatch_s: float = 0.0
    """What the use cases of its transactions have cost."""
    prepare_s: float = 0.0
    held: dict[Position, float] = field(default_factory=dict)
    """Partitions whose next message waits, and for how many seconds."""

    def hold(self, delivery: Delivery, seconds: float) -> None:
        """Have a message wait, unless it came to its end, and with it what follows in its partition."""
        if delivery.end is None:
            self.held[_partition_of(delivery)] = seconds

    def undecided(self, deliveries: Iterable[Delivery]) -> list[Delivery]:
        """Return those that have no end yet and need not wait."""
        held = self.held
        return [one for one in deliveries if one.end is None and not (held and _partition_of(one) in held)]


@dataclass
class CommandPipeline:
    """Decides batches of commands; made once a process by the composition root."""

    intake: Intake
    refusal: Refusal
    answering: Answering
    engine: Engine
    use_cases: Mapping[str, UseCase]
    patience: Patience
    observer: Observer
    fault_points: FaultPoints
    new_incident: Callable[[], str]
    rule_book: RuleBook
    drift_watch: DriftWatch
    steering: Steering
    parking: Parking
    blame: Blame
    preparations: Mapping[str, Preparation] = field(default_factory=lambda: PREPARATIONS)
    _most: int = sys.maxsize
    """How many messages fit into one transaction, as far as that was seen."""

    async def __call__(self, records: Sequence[Record], still_ours: Callable[[], bool]) -> Progress:
        """Decide a batch and answer it; says how far it got."""
        with self.observer.batch(records) as watch:
            deliveries = await self.intake.take_in(records)
            self.fault_points.reach("after_decode")
            retry_after_s: float | None = None
            known: LookUp | None = None
            sitting: Sitting | None = None
            try:
                known = await self._look_up(deliveries)
                self.fault_points.reach("after_look_up")
                await self._refuse(deliveries, known)
                sitting = await self._who_waits(deliveries, known)
                recalled = await self._recall(sitting)
                if recalled:
                    deliveries = [*recalled, *deliveries]
                    known = await self._look_up(deliveries)
                    await self._refuse(recalled, known)
                    sitting = await self._who_waits(deliveries, known)
                retry_after_s = await self._decide(deliveries, _Course(known, sitting, still_ours))
                await self._confirm(deliveries)
            except GiveBackError as given_back:
                retry_after_s = given_back.retry_after_s
                for delivery in deliveries:
                    if delivery.consequences is not None and delivery.consequences.is_unsure:
                        delivery.reopen()
                if sitting is None and not may_go_unsettled(deliveries, known):
                    return Progress({}, retry_after_s)
            forget_erased(deliveries)
            decided, progress = progress_of(deliveries, retry_after_s)
            try:
                if sitting is not None:
                    await sitting.settle(decided)
                with self.observer.step("answer"):
                    await self.answering.answer(decided)
            except BrokerAwayError as error:
                _log.warning("answers_not_published", reason=str(error))
                return Progress({}, self.patience.broker_away())
            except Exception as error:
                if fault_of(error) is Fault.DEFECT:
                    raise
                # Postgres did not take who is parked, or neither it nor Redis the cache keys to clear: no reply may go
                # out before.
                return Progress({}, self.patience.database_away())
            self.fault_points.reach("before_ack")
            if retry_after_s is None:
                self.patience.all_well()
            watch.decided(decided)
            return progress

    # The steps -----------------------------------------------------------------------------------------------------
    async def _look_up(self, deliveries: Sequence[Delivery]) -> LookUp:
        """Ask the store what it knows; a message that has an outcome gets it, whatever could be said against it now."""
        asked = [delivery for delivery in deliveries if delivery.end is None]
        while True:
            try:
                with self.observer.step("look_up"):
                    known = await look_up(self.engine, list({delivery.key for delivery in asked}))
            except Exception as error:  # noqa: BLE001 - sorted by fault_of
                self._unless_it_passes(error, "look_up")
            else:
                break
        loop = LoopShare()
        for delivery in asked if known.known else ():
            if stored := known.known.get(delivery.key):
                delivery.stored_subjects = stored.subjects
                delivery.come_to(self._repeat(delivery, stored))
                if loop.is_due():
                    await loop.give_back()
        return known

    async def _refuse(self, deliveries: Sequence[Delivery], known: LookUp) -> None:
        """Judge each message once; a second delivery of an id waits for what becomes of the first."""
        leaders: dict[tuple[str, str], Delivery] = {}
        followers = [
            delivery
            for delivery in deliveries
            if delivery.end is None and leaders.setdefault(delivery.key, delivery) is not delivery
        ]
        waiting = set(map(id, followers))
        await self.refusal.refuse([one for one in deliveries if id(one) not in waiting], known.mark)
        await self.refusal.refuse([one for one in followers if leaders[one.key].end is not None], known.mark)

    async def _who_waits(self, deliveries: Sequence[Delivery], known: LookUp) -> Sitting:
        """Look up who of these has to wait behind a defect of its key; almost always nobody."""
        try:
            sitting = await self.parking.sitting(
                [one for one in deliveries if one.identity is not None], any_parked=known.any_parked
            )
        except Exception as error:
            self._unless_it_passes(error, "look_up")
            raise GiveBackError(0) from error
        sitting.keep_places()
        return sitting

    async def _recall(self, sitting: Sitting) -> list[Delivery]:
        """Take in again what is parked before messages of the batch and need not wait any more; almost always nothing.

        As where an operator brings them back, their deadlines are dropped.
        """
        try:
            records = await self.parking.returning(sitting)
        except Exception as error:
            self._unless_it_passes(error, "look_up")
            raise GiveBackError(0) from error
        recalled = await self.intake.take_in(records) if records else []
        for delivery in recalled:
            delivery.is_recalled = True
            delivery.headers.deadline_ms = None
        return recalled

    async def _decide(self, deliveries: Sequence[Delivery], course: _Course) -> float | None:
        """Bring every message to its end: those that run alone each by itself, in the order of the log.

        Returns in how many seconds what has to wait is tried again, where anything has.
        """
        for number, group in enumerate(_groups([delivery for delivery in deliveries if delivery.end is None])):
            if number > 0:  # time has passed, and a second delivery finds the outcome of its first
                await self._look_again(group, course)
            await self._decide_group(group, course)
        return min(course.held.values(), default=None)

    async def _confirm(self, deliveries: Sequence[Delivery]) -> None:
        """Ask the store once more before a caller hears that nothing was done, for having come late or to wait.

        A worker that was stopped after its first look may find that another one has applied it meanwhile.
        """
        unsure = [(one, one.end) for one in deliveries if one.consequences is not None and one.consequences.is_unsure]
        if not unsure:
            return
        for delivery, _ in unsure:
            delivery.reopen()
        await self._look_up([delivery for delivery, _ in unsure])
        for delivery, told in unsure:
            if delivery.end is None and told is not None:
                delivery.come_to(told)

    async def _decide_group(self, group: Sequence[Delivery], course: _Course) -> None:
        """Bring every message of a group to its end, in as few transactions as it takes.

        Raises `GiveBackError` for what cannot be decided now, and once the use cases of the batch took their time.
        """
        most, conflicts = self._most, 0
        while pending := course.undecided(group):
            part = await self._prepared(pending[:most], course)
            if not course.still_ours():
                raise GiveBackError(0)
            attempt, spent_s = Attempt(), course.dispatch_s
            try:
                with attempt:
                    is_committed = await self._transact(part, course)
            except Exception as error:  # noqa: BLE001 - sorted by fault_of
                for delivery in part:
                    delivery.reopen()
                conflicts += 1
                course.dispatch_s = spent_s
                if await self._after_failure(error, part, conflicts, attempt, course):
                    most = len(part) // 2
                await self._look_again(part, course)
                continue
            conflicts = 0
            if is_committed:
                self.blame.committed([_place_of(delivery) for delivery in part], attempt.seconds)
            if len(part) == most and attempt.seconds < WELL_BELOW_S:
                most *= 2
                self._most = max(self._most, most)
            if (course.dispatch_s >= DISPATCH_S or course.prepare_s >= PREPARE_S) and course.undecided(group):
                raise GiveBackError(0)

    async def _look_again(self, deliveries: Sequence[Delivery], course: _Course) -> None:
        """Ask the store once more: another worker may have been first, or the purge mark may have moved."""
        if not course.undecided(deliveries):
            return
        course.known = await self._look_up(deliveries)
        self.refusal.expire(deliveries, course.known.mark)

    async def _prepared(self, pending: Sequence[Delivery], course: _Course) -> Sequence[Delivery]:
        """Do what needs much CPU and no database; returns the messages that are ready, in their order, one at least."""
        for number, delivery in enumerate(pending):
            prepare = self.preparations.get(delivery.kind.name) if delivery.kind is not None else None
            if prepare is None or delivery.payload is None:
                continue
            if number and course.prepare_s >= PREPARE_S:
                return pending[:number]
            began_at = time.thread_time()
            try:
                await prepare(delivery.payload, self.rule_book)
            except Exception as error:  # noqa: BLE001 - a defect of this message alone, which its use case meets again
                _log.warning("not_prepared", kind=delivery.kind and delivery.kind.name, exc_info=error)
            course.prepare_s += time.thread_time() - began_at
        return pending

    async def _transact(self, part: Sequence[Delivery], course: _Course) -> bool:
        """Run a part of a batch in one transaction: load, dispatch, flush, store, commit. Says whether it wrote."""
        async with unit_of_work.begin(self.engine, self.rule_book, self.drift_watch, self.steering) as uow:
            with self.observer.step("load"):
                await self._load(uow, part, course.known)
            with self.observer.step("dispatch"):
                outcomes = await self._dispatch(uow, part, course)
            self.fault_points.reach("after_dispatch")
            if not outcomes:
                return False
            with self.observer.step("flush"):
                await uow.flush()
            self.fault_points.reach("after_flush")
            with self.observer.step("store"):
                await uow.store(outcomes)
            self.fault_points.reach("before_commit")
            with self.observer.step("commit"):
                await uow.commit()
            self.fault_points.reach("after_commit")
            return True

    async def _load(self, uow: BatchUnitOfWork, pending: Iterable[Delivery], known: LookUp) -> None:
        await uow.load([one.keys for one in pending if one.keys is not None], known.standing)

    async def _dispatch(self, uow: BatchUnitOfWork, part: Sequence[Delivery], course: _Course) -> list[Outcome]:
        """Give each message to its use case: each partition in the order of the log, the cheaper partitions first."""
        outcomes: dict[tuple[str, str], Outcome] = {}
        seconds: dict[str, float] = defaultdict(float)
        stopped: set[Position] = set()
        turns, share, loop = course.sitting.turns(), FairShare(part, _partition_of), LoopShare()
        for delivery in share:
            if outcomes and course.dispatch_s >= DISPATCH_S:
                break
            if stopped and _partition_of(delivery) in stopped:
                continue
            key = delivery.key
            if earlier := outcomes.get(key):
                (earlier,) = uow.as_stored([earlier])
                known = Known(earlier.content_hmac, earlier.envelope, earlier.cache_keys, earlier.subjects)
                delivery.come_to(self._repeat(delivery, known))
            elif too_late := self.refusal.too_late(delivery):
                delivery.come_to(turns.place_of(delivery) or Refused(too_late))
            elif waiting := turns.must_wait(delivery):
                delivery.come_to(waiting)
            elif delivery.payload is None and not _is_broken(delivery, part):
                # The second delivery of an id whose first one has no outcome: it is judged when it comes again.
                stopped.add(_partition_of(delivery))
            else:
                began_at = time.perf_counter()
                outcome = await self._run(uow, delivery)
                cost_s = time.perf_counter() - began_at
                share.costs(cost_s)
                course.dispatch_s += cost_s
                if outcome is not None:
                    outcomes[key] = outcome
                    seconds[outcome.kind] += cost_s
            turns.note(delivery)
            if loop.is_due():
                await loop.give_back()
        for position in stopped:
            course.held.setdefault(position, 0)
        for kind, spent in seconds.items():
            self.observer.use_case(kind, spent)
        return list(outcomes.values())

    async def _run(self, uow: BatchUnitOfWork, delivery: Delivery) -> Outcome | None:
        """Run one use case; an exception is this message's alone."""
        kind, payload, context = delivery.kind, delivery.payload, delivery.context
        try:
            if kind is None or payload is None or context is None:
                msg = "an earlier delivery of this message_id in the same batch failed"
                raise RuntimeError(msg)
            result = await self.use_cases[kind.name](payload, uow, context)
        except Exception as error:
            if fault_of(error) is not Fault.DEFECT:
                raise
            uow.take_back()
            delivery.come_to(self._broken(delivery, error))
            return None
        match result:
            case Success(envelope, subjects, erases):
                cache_keys = uow.keep()
            case Failure(business_error, stored=False):
                uow.take_back()
                delivery.come_to(Refused(business_error))
                return None
            case Failure(business_error, subjects):
                uow.take_back()
                envelope, cache_keys, erases = failure(business_error), (), ()
        body = envelope.encode()
        delivery.come_to(Applied(body, envelope.status_code, cache_keys, erases))
        return Outcome(
            *delivery.key,
            kind.name,
            self.intake.seal(delivery),
            body,
            subjects,
            cache_keys,
            delivery.record.topic,
            delivery.record.partition,
            delivery.record.offset,
            context.now,
        )

    def _repeat(self, delivery: Delivery, stored: Known) -> Repeated | Refused:
        """Answer from the store: the same envelope for the same content, 409 for other content, 410 if erased."""
        message_id = delivery.headers.message_id or ""
        if stored.envelope is None or stored.content_hmac is None:
            return Refused(outcome_erased(message_id))
        if not self.intake.is_of(delivery, stored.content_hmac):
            return Refused(
                MessageIdReusedError(
                    f"Message id '{message_id}' was used before, for other content", {"message_id": message_id}
                )
            )
        return Repeated(stored.envelope, stored.cache_keys)

    # What errors mean ----------------------------------------------------------------------------------------------
    def _unless_it_passes(self, error: Exception, step: str) -> None:
        """Return when the step may be tried again at once; raise when the batch must wait."""
        fault = fault_of(error)
        self.observer.retry(fault.value, step)
        if fault is Fault.DEFECT:
            _log.error("step_failed", step=step, exc_info=error)
        if fault is not Fault.CONFLICT:
            raise GiveBackError(self.patience.database_away()) from error

    async def _after_failure(
        self, error: Exception, part: Sequence[Delivery], conflicts: int, attempt: Attempt, course: _Course
    ) -> bool:
        """Say whether half as many should be tried; a lone message comes to its end, or waits, where it is to blame.

        Raises `GiveBackError` when the database is away.
        """
        fault = fault_of(error)
        self.observer.retry(fault.value, "decide")
        if fault is Fault.TOO_SLOW and attempt.stood_still:
            fault = Fault.CONFLICT  # nobody was slow but this process, which was stopped
        if fault in {Fault.TRANSIENT, Fault.SCHEMA_MOVED}:
            raise GiveBackError(self.patience.database_away()) from error
        if len(part) == 1:
            await self._after_lone_failure(fault, error, part[0], conflicts, course)
        elif fault is not Fault.CONFLICT or conflicts >= CONFLICTS_BEFORE_HALVING:
            if fault is Fault.TOO_SLOW:
                self._most = len(part) // 2
            return True
        if fault is Fault.CONFLICT:
            await asyncio.sleep(self.patience.after_conflict(conflicts))
        return False

    async def _after_lone_failure(
        self, fault: Fault, error: Exception, delivery: Delivery, conflicts: int, course: _Course
    ) -> None:
        """End a message that failed by itself, where it is to blame; else it may be tried again, here or later."""
        if fault is Fault.DEFECT:
            delivery.come_to(self._broken(delivery, error))
        elif fault is Fault.TOO_SLOW:
            await self._accuse(delivery, error, TIMES_TOO_SLOW, course)
            course.hold(delivery, self.patience.after_conflict(conflicts))
        else:
            if is_refused_write(error):
                await self._accuse(delivery, error, REFUSED_WRITES, course)
            if conflicts >= CONFLICTS_BEFORE_WAITING:
                course.hold(delivery, self.patience.after_conflict(conflicts))

    async def _accuse(self, delivery: Delivery, error: Exception, failures: int, course: _Course) -> None:
        """End a lone message as a defect, where it is to blame for having failed so often, and the store knows nothing.

        Raises `GiveBackError` when the database is slow for everybody: that is an outage.
        """
        try:
            verdict = await self.blame.verdict(_place_of(delivery), failures)
        except Exception as away:
            raise GiveBackError(self.patience.database_away()) from away
        if verdict is Verdict.DATABASE:
            raise GiveBackError(self.patience.database_away()) from error
        if verdict is Verdict.MESSAGE:
            await self._look_again([delivery], course)
            if delivery.end is None:
                delivery.come_to(self._broken(delivery, error))

    def _broken(self, delivery: Delivery, error: Exception) -> Broken:
        kind = delivery.request.kind if delivery.request else "unknown"
        return Broken(self.new_incident(), error, kind if kind in self.use_cases else "unknown")


def _partition_of(delivery: Delivery) -> Position:
    return delivery.record.topic, delivery.record.partition


def _place_of(delivery: Delivery) -> Place:
    return delivery.record.topic, delivery.record.partition, delivery.record.offset


def _is_broken(delivery: Delivery, among: Iterable[Delivery]) -> bool:
    """Say whether another delivery of the same message met a defect: what broke the one would break the other."""
    return any(
        one.consequences is not None and one.consequences.defect is not None and one.key == delivery.key
        for one in among
    )


def _groups(deliveries: Iterable[Delivery]) -> Iterator[Sequence[Delivery]]:
    """Split messages into runs of ordinary ones, which share a transaction, and single ones that share it with none."""
    ordinary: list[Delivery] = []
    for delivery in deliveries:
        if delivery.keys is not None and delivery.keys.alone:
            if ordinary:
                yield ordinary
            yield [delivery]
            ordinary = []
        else:
            ordinary.append(delivery)
    if ordinary:
        yield ordinary


def may_go_unsettled(deliveries: Sequence[Delivery], known: LookUp | None) -> bool:
    """Say whether what has come to an end may be acked, where nobody could look who waits behind defects.

    One that has a place in a queue must leave it first: its key would wait for ever.
    """
    if known is not None:
        return not known.any_parked
    return not any(isinstance(delivery.replay, Replay) for delivery in deliveries)


def forget_erased(deliveries: Sequence[Delivery]) -> None:
    """Show no stored envelope that a message before it in the batch has erased: the look-up came before that."""
    gone: set[str] = set()
    for delivery in deliveries:
        if gone and not gone.isdisjoint(delivery.stored_subjects):
            delivery.come_to(Refused(outcome_erased(delivery.headers.message_id or "")))
        elif delivery.consequences is not None and delivery.consequences.erases:
            gone.update(delivery.consequences.erases)
