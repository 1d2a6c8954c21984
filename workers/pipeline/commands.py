"""The way of a command, from top to bottom.

    decode → identify → look up → refuse → load → dispatch → flush → store → commit → answer

A batch is one transaction. What is decided is decided in the order of the log; a `Failure` or an exception leaves no
trace of its message; an error of the flush is found by halving the batch. An outage is no error: what could not be
decided is given back and comes again. Dying anywhere before the commit leaves nothing; dying after it leaves the stored
outcome, which is sent when the message comes again.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Final

import structlog

from contracts.envelope import failure
from handlers.commands import PREPARATIONS, Preparation, UseCase
from handlers.result import Success
from handlers.rules import RuleBook
from persistence import unit_of_work
from persistence.engine import Engine
from persistence.faults import Fault, fault_of
from persistence.outcomes import Known, Outcome
from persistence.product_queries import DriftWatch
from persistence.unit_of_work import BatchUnitOfWork, Steering
from workers.fault_points import FaultPoints
from workers.pipeline.answering import Answering
from workers.pipeline.batch import Batch
from workers.pipeline.blame import Attempt, Blame
from workers.pipeline.delivery import Admitted, Following, Identified, MessageKey, Pending
from workers.pipeline.dispatch import Dispatch
from workers.pipeline.ends import Applied, Broken, End, Refused
from workers.pipeline.fair_share import FairShare, LoopShare
from workers.pipeline.inbox import Inbox
from workers.pipeline.intake import Intake
from workers.pipeline.observer import BatchWatch, Observer
from workers.pipeline.outages import Outages
from workers.pipeline.parking import Parking
from workers.pipeline.patience import GiveBackError, Patience
from workers.pipeline.progress import progress_of
from workers.pipeline.refusal import Refusal
from workers.pipeline.setbacks import Setbacks
from workers.ports import Progress, Record

_log = structlog.get_logger(__name__)

PREPARE_S: Final = 0.5
"""CPU time that the thread may spend on what is prepared in one batch, about: the last one is finished."""
DISPATCH_S: Final = 0.5
"""How long the use cases of one batch may go on; what is left of it is fetched again."""

_position_of = attrgetter("delivery.position")


@dataclass
class CommandPipeline:
    """Decides batches of commands; each lane of a process has one of its own, made by the composition root."""

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
    lanes: int = 1  # that share the thread, and with it these times: a message waits no longer than with one
    preparations: Mapping[str, Preparation] = field(default_factory=lambda: PREPARATIONS)

    def __post_init__(self) -> None:
        """Put together what the steps share."""
        self.outages = Outages(self.patience, self.observer)
        self.inbox = Inbox(self.engine, self.intake, self.observer, self.outages, self.new_incident)
        self.setbacks = Setbacks(self.patience, self.observer, self.blame, self.inbox, self.new_incident)

    async def __call__(self, records: Sequence[Record], still_ours: Callable[[], bool]) -> Progress:
        """Decide a batch and answer it; says how far it got."""
        with self.observer.batch(records) as watch:
            taken = await self.intake.take_in(records)
            self.fault_points.reach("after_decode")
            batch = Batch(taken.deliveries, taken.identified, still_ours, self.parking.unknown_queues())
            try:
                await self.inbox.look_up(batch)
                self.fault_points.reach("after_look_up")
                batch.pending = await self._refuse(batch, batch.asking)
                await self._keep_order(batch)
                await self._decide(batch)
                await self.inbox.confirm(batch)
            except GiveBackError as given_back:
                batch.give_back(given_back.retry_after_s)
            return await self._answer(batch, watch)

    # The steps -----------------------------------------------------------------------------------------------------
    async def _refuse(self, batch: Batch, asking: Sequence[Identified]) -> list[Pending]:
        """Judge each message once; a second delivery of an id waits for what becomes of the first."""
        firsts: dict[MessageKey, Identified] = {}
        asking = [one for one in asking if one.delivery.end is None]
        others = [one for one in asking if firsts.setdefault(one.key, one) is not one]
        known = batch.known
        pending: list[Pending] = [*await self.refusal.refuse(list(firsts.values()), known.mark, known.blocks)]
        if others:
            alone = [one for one in others if firsts[one.key].delivery.end is not None]
            pending += await self.refusal.refuse(alone, known.mark, known.blocks)
            for one in others:
                if (first := firsts[one.key].delivery).end is None:
                    pending.append(Following(one.delivery, one.key, one, first))
            pending.sort(key=lambda one: (one.delivery.position, one.delivery.record.offset))
        return pending

    async def _keep_order(self, batch: Batch) -> None:
        """Parking: find who waits behind a defect of its key, and take in again what need not wait any more.

        Almost always nothing. What is taken in again has no deadline, as where an operator brings it back.
        """
        await self._find_queues(batch)
        records = await self.outages.or_give_back(self.parking.returning(batch.queues), "look_up")
        if records:
            recalled = await self.intake.take_in(records)
            for delivery in recalled.deliveries:
                delivery.is_recalled = True
                delivery.headers.deadline_ms = None
            batch.deliveries[:0] = recalled.deliveries
            batch.asking[:0] = recalled.identified
            await self.inbox.look_up(batch)
            batch.pending = [*await self._refuse(batch, recalled.identified), *batch.pending]
            await self._find_queues(batch)

    async def _find_queues(self, batch: Batch) -> None:
        looking = self.parking.queues(batch.deliveries, any_parked=batch.known.any_parked)
        batch.queues = await self.outages.or_give_back(looking, "look_up")
        batch.queues.keep_places()

    async def _decide(self, batch: Batch) -> None:
        """Bring every message to its end: those that run alone each by itself, in the order of the log."""
        for number, group in enumerate(batch.groups()):
            if number > 0:  # time has passed, and a second delivery finds the outcome of its first
                await self.inbox.look_again(batch, group)
            await self._decide_group(batch, group)
        batch.retry_after_s = min(batch.held.values(), default=None)

    async def _decide_group(self, batch: Batch, group: Sequence[Pending]) -> None:
        """Bring every message of a group to its end, in as few transactions as it takes.

        Raises `GiveBackError` for what cannot be decided now, and once the use cases of the batch took their time.
        """
        most, conflicts = self.setbacks.most, 0
        while pending := batch.undecided(group):
            part = await self._prepare(batch, pending[:most])
            if not batch.still_ours():
                raise GiveBackError(0)
            attempt, spent_s = Attempt(), batch.dispatch_s
            try:
                with attempt:
                    is_committed = await self._transact(batch, part)
            except Exception as error:  # noqa: BLE001 - sorted by `Setbacks`
                conflicts += 1
                batch.undo(part, spent_s)
                if await self.setbacks.after(error, batch, part, attempt, conflicts):
                    most = len(part) // 2
                await self.inbox.look_again(batch, part)
                continue
            conflicts = 0
            most = self.setbacks.none(part, most, attempt, is_committed=is_committed)
            if (
                batch.dispatch_s >= DISPATCH_S / self.lanes or batch.prepare_s >= PREPARE_S / self.lanes
            ) and batch.undecided(group):
                raise GiveBackError(0)

    async def _prepare(self, batch: Batch, pending: Sequence[Pending]) -> Sequence[Pending]:
        """Do what needs much CPU and no database; returns the messages that are ready, in their order, one at least."""
        for number, one in enumerate(pending):
            if isinstance(one, Following) or (prepare := self.preparations.get(one.kind.name)) is None:
                continue
            if number and batch.prepare_s >= PREPARE_S / self.lanes:
                return pending[:number]
            began_at = time.thread_time()
            try:
                await prepare(one.payload, self.rule_book)
            except Exception as error:  # noqa: BLE001 - a defect of this message alone, which its use case meets again
                _log.warning("not_prepared", kind=one.kind.name, exc_info=error)
            batch.prepare_s += time.thread_time() - began_at
        return pending

    async def _transact(self, batch: Batch, part: Sequence[Pending]) -> bool:
        """Run a part of a batch in one transaction: load, dispatch, flush, store, commit. Says whether it wrote."""
        async with unit_of_work.begin(self.engine, self.rule_book, self.drift_watch, self.steering) as uow:
            with self.observer.step("load"):
                await uow.load([one.keys for one in part], batch.known.standing)
            with self.observer.step("dispatch"):
                outcomes = await self._dispatch(batch, part, uow)
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

    async def _dispatch(self, batch: Batch, part: Sequence[Pending], uow: BatchUnitOfWork) -> list[Outcome]:
        """Give each message to its use case: each partition in the order of the log, the cheaper partitions first."""
        done, share, loop = Dispatch(uow, batch.queues.order()), FairShare(part, _position_of), LoopShare()
        for one in share:
            if done.outcomes and batch.dispatch_s >= DISPATCH_S / self.lanes:
                break
            if done.stopped and one.delivery.position in done.stopped:
                continue
            if (end := self._end_without(done, one)) is not None:
                one.delivery.come_to(end)
            elif isinstance(one, Following):
                done.stopped.add(one.delivery.position)  # its first one has no outcome: it is judged another time
            else:
                began_at = time.perf_counter()
                await self._run(done, one)
                cost_s = time.perf_counter() - began_at
                share.costs(cost_s)
                batch.dispatch_s += cost_s
                done.seconds[one.kind.name] += cost_s
            if done.order is not None:
                done.order.note(one.delivery)
            if loop.is_due():
                await loop.give_back()
        batch.stop(done.stopped)
        for kind, spent_s in done.seconds.items():
            self.observer.use_case(kind, spent_s)
        return list(done.outcomes.values())

    def _end_without(self, done: Dispatch, one: Pending) -> End | None:
        """Say how a message ends whose use case is not to run: it was decided before, is late, or waits."""
        if earlier := done.outcomes.get(one.key):
            (earlier,) = done.uow.as_stored([earlier])
            known = Known(earlier.content_hmac, earlier.envelope, earlier.cache_keys, earlier.subjects)
            return self.inbox.repeat(one.identified, known)
        late = self.refusal.too_late(one.delivery)
        if done.order is not None and (waits := done.order.waits(one.delivery, is_late=late is not None)):
            return waits
        if late is not None:
            return Refused(late)
        if isinstance(one, Following) and (first := one.first.consequences) and first.defect is not None:
            return Broken(self.new_incident(), first.defect.error, first.defect.kind)  # it would break this one, too
        return None

    async def _run(self, done: Dispatch, one: Admitted) -> None:
        """Run one use case; an exception is this message's alone."""
        delivery, uow = one.delivery, done.uow
        try:
            result = await self.use_cases[one.kind.name](one.payload, uow, one.context)
        except Exception as error:
            if fault_of(error) is not Fault.DEFECT:
                raise
            uow.take_back()
            delivery.break_on(error, self.new_incident())
            return
        cache_keys: Sequence[str] = ()
        erases: Sequence[str] = ()
        if isinstance(result, Success):
            envelope, erases, cache_keys = result.value, result.erases, uow.keep()
        else:
            uow.take_back()
            if not result.stored:
                delivery.come_to(Refused(result.error))
                return
            envelope = failure(result.error)
        body = envelope.encode()
        delivery.come_to(Applied(body, envelope.status_code, cache_keys, erases))
        done.keep(one, self.intake.seal(one.identified), body, result.subjects, cache_keys)

    async def _answer(self, batch: Batch, watch: BatchWatch) -> Progress:
        """Write down who waits, answer, and say what may be acked."""
        if not batch.may_be_acked():
            return Progress({}, batch.retry_after_s)
        batch.forget_erased()
        decided, progress = progress_of(batch.deliveries, batch.retry_after_s)
        try:
            with self.outages.given_back():
                await batch.queues.settle(decided)
                with self.observer.step("answer"):
                    await self.answering.answer(decided)
        except GiveBackError as given_back:
            return Progress({}, given_back.retry_after_s)
        self.fault_points.reach("before_ack")
        if batch.retry_after_s is None:
            self.patience.all_well()
        watch.decided(decided)
        return progress
