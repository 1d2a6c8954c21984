"""The way of a command, from top to bottom.

    decode → identify → look up → refuse → load → dispatch → flush → store → commit → answer

A batch is one transaction. What is decided is decided in the order of the log; a `Failure` or an exception leaves no
trace of its message; an error of the flush is found by halving the batch. An outage is no error: what could not be
decided is given back and comes again. Dying anywhere before the commit leaves nothing; dying after it leaves the stored
outcome, which is sent when the message comes again.
"""

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import structlog

from contracts.envelope import failure
from contracts.errors import DeadlineExceededError, MessageIdReusedError
from handlers.commands import PREPARATIONS, Preparation, UseCase
from handlers.queries.outcomes import outcome_erased
from handlers.result import Failure, Success
from handlers.rules import RuleBook
from persistence import unit_of_work
from persistence.engine import Engine
from persistence.faults import Fault, fault_of
from persistence.outcomes import Known, LookUp, Outcome, look_up
from persistence.product_queries import DriftWatch
from persistence.unit_of_work import BatchUnitOfWork, Steering
from workers.fault_points import FaultPoints
from workers.pipeline.answering import Answering
from workers.pipeline.delivery import Applied, Broken, Delivery, End, Refused, Repeated, Waiting
from workers.pipeline.intake import Intake
from workers.pipeline.observer import Observer
from workers.pipeline.parking import Parking, Sitting
from workers.pipeline.patience import GiveBackError, Patience
from workers.pipeline.progress import progress_of
from workers.pipeline.refusal import Refusal
from workers.pipeline.replays import Replay
from workers.ports import BrokerAwayError, Progress, Record

_log = structlog.get_logger(__name__)

CONFLICTS_BEFORE_HALVING: Final = 3
"""A batch that lost this many races in a row is halved: a smaller one holds its locks for less time."""
DISPATCH_S: Final = 1.0
"""How long the use cases of one transaction may go on; what is left of the batch is fetched again. The database ends a
transaction that idles for 5 s, no heartbeat goes out meanwhile, and a message whose rules are hard to evaluate takes
half a second: a batch of those would never come to its end."""
PREPARE_S: Final = 0.5
"""CPU time that the thread may spend on what is prepared before one transaction, about: the last one is finished."""
STUBBORN_FAILURES: Final = 10
"""A lone message that times out, or meets a constraint, this often in a row is a defect; others went through."""


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
    preparations: Mapping[str, Preparation] = field(default_factory=lambda: PREPARATIONS)
    _stubborn: Counter[tuple[str, int, int]] = field(default_factory=Counter)

    async def __call__(self, records: Sequence[Record], still_ours: Callable[[], bool]) -> Progress:
        """Decide a batch and answer it; says how far it got."""
        with self.observer.batch(records) as watch:
            deliveries = self.intake.decode_all(records)
            self.fault_points.reach("after_decode")
            for delivery in deliveries:
                self.intake.identify(delivery)
            retry_after_s: float | None = None
            known: LookUp | None = None
            sitting: Sitting | None = None
            try:
                known = await self._look_up(deliveries)
                self.fault_points.reach("after_look_up")
                await self._refuse(deliveries, known)
                sitting = await self._who_waits(deliveries, known)
                await self._decide(deliveries, known, sitting, still_ours)
                await self._confirm(deliveries)
            except GiveBackError as given_back:
                retry_after_s = given_back.retry_after_s
                for delivery in deliveries:
                    if _is_unsure(delivery.end):
                        delivery.end = None
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
        for delivery in asked:
            if stored := known.known.get(delivery.key):
                delivery.stored_subjects = stored.subjects
                delivery.end = repeat(delivery, stored)
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

    async def _decide(
        self, deliveries: Sequence[Delivery], known: LookUp, sitting: Sitting, still_ours: Callable[[], bool]
    ) -> None:
        """Bring every message to its end: those that run alone each by itself, in the order of the log."""
        for number, group in enumerate(_groups([delivery for delivery in deliveries if delivery.end is None])):
            if number > 0:  # time has passed, and a second delivery finds the outcome of its first
                known = await self._look_again(group)
            await self._decide_group(group, known, sitting, still_ours)

    async def _confirm(self, deliveries: Sequence[Delivery]) -> None:
        """Ask the store once more before a caller hears that nothing was done, for having come late or to wait.

        A worker that was stopped after its first look may find that another one has applied it meanwhile.
        """
        told = {id(one): one.end for one in deliveries if _is_unsure(one.end)}
        if told:
            unsure = [one for one in deliveries if id(one) in told]
            for delivery in unsure:
                delivery.end = None
            await self._look_up(unsure)
            for delivery in unsure:
                delivery.end = delivery.end or told[id(delivery)]

    async def _decide_group(
        self, group: Sequence[Delivery], known: LookUp, sitting: Sitting, still_ours: Callable[[], bool]
    ) -> None:
        """Bring every message of a group to its end, in as few transactions as it takes."""
        pending = [delivery for delivery in group if delivery.end is None]
        conflicts = 0
        while pending:
            if not still_ours():
                raise GiveBackError(0)
            try:
                await self._transact(await self._prepared(pending), known, sitting)
            except Exception as error:  # noqa: BLE001 - sorted by fault_of
                for delivery in pending:
                    delivery.end = None
                conflicts += 1
                if self._must_halve(error, pending, conflicts):
                    half = len(pending) // 2
                    await self._decide_group(pending[:half], known, sitting, still_ours)
                    known = await self._look_again(pending[half:])
                    await self._decide_group(pending[half:], known, sitting, still_ours)
                elif len(pending) == 1 and self._is_culprit(error, pending[0]):
                    pending[0].end = self._broken(pending[0], error)
                else:
                    await asyncio.sleep(self.patience.after_conflict(conflicts))
                    known = await self._look_again(pending)
            else:
                if any(delivery.end is None for delivery in pending):
                    raise GiveBackError(0)
            pending = [delivery for delivery in pending if delivery.end is None]

    async def _look_again(self, deliveries: Sequence[Delivery]) -> LookUp:
        """Ask the store once more: another worker may have been first, or the purge mark may have moved."""
        known = await self._look_up(deliveries)
        self.refusal.expire(deliveries, known.mark)
        return known

    async def _prepared(self, pending: Sequence[Delivery]) -> Sequence[Delivery]:
        """Do what needs much CPU and no database; returns the messages that are ready, in their order, one at least."""
        ends_at = time.thread_time() + PREPARE_S
        for number, delivery in enumerate(pending):
            prepare = self.preparations.get(delivery.kind.name) if delivery.kind is not None else None
            if prepare is None or delivery.payload is None:
                continue
            if number and time.thread_time() > ends_at:
                return pending[:number]
            try:
                await prepare(delivery.payload, self.rule_book)
            except Exception as error:  # noqa: BLE001 - a defect of this message alone, which its use case meets again
                _log.warning("not_prepared", kind=delivery.kind and delivery.kind.name, exc_info=error)
        return pending

    async def _transact(self, pending: Sequence[Delivery], known: LookUp, sitting: Sitting) -> None:
        """Run one batch in one transaction: load, dispatch, flush, store, commit."""
        async with unit_of_work.begin(self.engine, self.rule_book, self.drift_watch, self.steering) as uow:
            with self.observer.step("load"):
                await self._load(uow, pending, known)
            with self.observer.step("dispatch"):
                outcomes = await self._dispatch(uow, pending, sitting)
            self.fault_points.reach("after_dispatch")
            if not outcomes:
                return
            with self.observer.step("flush"):
                await uow.flush()
            self.fault_points.reach("after_flush")
            with self.observer.step("store"):
                await uow.store(outcomes)
            self.fault_points.reach("before_commit")
            with self.observer.step("commit"):
                await uow.commit()
            self.fault_points.reach("after_commit")

    async def _load(self, uow: BatchUnitOfWork, pending: Iterable[Delivery], known: LookUp) -> None:
        declared = [one.kind.keys(one.payload) for one in pending if one.kind is not None and one.payload is not None]
        await uow.load(declared, known.mark)

    async def _dispatch(self, uow: BatchUnitOfWork, pending: Sequence[Delivery], sitting: Sitting) -> list[Outcome]:
        """Give each message to its use case, in the order of the log."""
        outcomes: dict[tuple[str, str], Outcome] = {}
        seconds: dict[str, float] = defaultdict(float)
        ends_at = time.perf_counter() + DISPATCH_S
        turns = sitting.turns()
        for delivery in pending:
            if outcomes and time.perf_counter() > ends_at:
                break
            if earlier := outcomes.get(delivery.key):
                (earlier,) = uow.as_stored([earlier])
                known = Known(earlier.content_hmac, earlier.envelope, earlier.cache_keys, earlier.subjects)
                delivery.end = repeat(delivery, known)
            elif too_late := self.refusal.too_late(delivery):
                delivery.end = turns.place_of(delivery) or Refused(too_late)
            elif waiting := turns.must_wait(delivery):
                delivery.end = waiting
            else:
                started = time.perf_counter()
                outcome = await self._run(uow, delivery)
                if outcome is not None:
                    outcomes[delivery.key] = outcome
                    seconds[outcome.kind] += time.perf_counter() - started
            turns.note(delivery)
        for kind, spent in seconds.items():
            self.observer.use_case(kind, spent)
        return list(outcomes.values())

    async def _run(self, uow: BatchUnitOfWork, delivery: Delivery) -> Outcome | None:
        """Run one use case; an exception is this message's alone."""
        kind, payload, context = delivery.kind, delivery.payload, delivery.context
        try:
            if kind is None or payload is None or context is None:
                # The second delivery of an id whose first one broke: what broke the one would break the other.
                msg = "an earlier delivery of this message_id in the same batch failed"
                raise RuntimeError(msg)
            result = await self.use_cases[kind.name](payload, uow, context)
        except Exception as error:
            if fault_of(error) is not Fault.DEFECT:
                raise
            uow.take_back()
            delivery.end = self._broken(delivery, error)
            return None
        match result:
            case Success(envelope, subjects, erases):
                cache_keys = uow.keep()
            case Failure(business_error, stored=False):
                uow.take_back()
                delivery.end = Refused(business_error)
                return None
            case Failure(business_error, subjects):
                uow.take_back()
                envelope, cache_keys, erases = failure(business_error), (), ()
        body = envelope.encode()
        delivery.end = Applied(body, envelope.status_code, cache_keys, erases)
        return Outcome(
            *delivery.key,
            kind.name,
            delivery.content_hmac,
            body,
            subjects,
            cache_keys,
            delivery.record.topic,
            delivery.record.partition,
            delivery.record.offset,
            context.now,
        )

    # What errors mean ----------------------------------------------------------------------------------------------
    def _unless_it_passes(self, error: Exception, step: str) -> None:
        """Return when the step may be tried again at once; raise when the batch must wait."""
        fault = fault_of(error)
        self.observer.retry(fault.value, step)
        if fault is Fault.DEFECT:
            _log.error("step_failed", step=step, exc_info=error)
        if fault is not Fault.CONFLICT:
            raise GiveBackError(self.patience.database_away()) from error

    def _must_halve(self, error: Exception, pending: Sequence[Delivery], conflicts: int) -> bool:
        """Say whether half of the batch should be tried; raises `GiveBackError` when the database is away."""
        fault = fault_of(error)
        self.observer.retry(fault.value, "decide")
        many = len(pending) > 1
        match fault:
            case Fault.TRANSIENT | Fault.SCHEMA_MOVED:
                raise GiveBackError(self.patience.database_away()) from error
            case Fault.CONFLICT:
                return many and conflicts >= CONFLICTS_BEFORE_HALVING
            case Fault.TOO_SLOW | Fault.DEFECT:
                return many

    def _is_culprit(self, error: Exception, delivery: Delivery) -> bool:
        """Say whether a lone message is to blame; raises `GiveBackError` while that is not certain."""
        record = delivery.record
        place = (record.topic, record.partition, record.offset)
        fault = fault_of(error)
        if fault is Fault.DEFECT:
            return True
        if fault is Fault.CONFLICT and getattr(error, "sqlstate", "")[:2] != "23":
            return False
        self._stubborn[place] += 1
        if self._stubborn[place] >= STUBBORN_FAILURES:
            del self._stubborn[place]
            return True
        if fault is Fault.TOO_SLOW:
            raise GiveBackError(self.patience.database_away()) from error
        return False

    def _broken(self, delivery: Delivery, error: Exception) -> Broken:
        kind = delivery.request.kind if delivery.request else "unknown"
        return Broken(self.new_incident(), error, kind if kind in self.use_cases else "unknown")


def _groups(deliveries: Iterable[Delivery]) -> Iterator[Sequence[Delivery]]:
    """Split messages into runs of ordinary ones, which share a transaction, and single ones that share it with none."""
    ordinary: list[Delivery] = []
    for delivery in deliveries:
        kind, payload = delivery.kind, delivery.payload
        if kind is not None and payload is not None and kind.keys(payload).alone:
            if ordinary:
                yield ordinary
            yield [delivery]
            ordinary = []
        else:
            ordinary.append(delivery)
    if ordinary:
        yield ordinary


def repeat(delivery: Delivery, stored: Known) -> Repeated | Refused:
    """Answer from the store: the same envelope for the same content, 409 for other content, 410 where it was erased."""
    message_id = delivery.headers.message_id or ""
    if stored.envelope is None or stored.content_hmac is None:
        return Refused(outcome_erased(message_id))
    if stored.content_hmac != delivery.content_hmac:
        return Refused(
            MessageIdReusedError(
                f"Message id '{message_id}' was used before, for other content", {"message_id": message_id}
            )
        )
    return Repeated(stored.envelope, stored.cache_keys)


def _is_unsure(end: End | None) -> bool:
    """Say whether an end only tells that nothing was done: by this worker, and so far."""
    return isinstance(end, Waiting) or (isinstance(end, Refused) and isinstance(end.error, DeadlineExceededError))


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
        if gone.intersection(delivery.stored_subjects):
            delivery.end = Refused(outcome_erased(delivery.headers.message_id or ""))
        elif isinstance(delivery.end, Applied):
            gone.update(delivery.end.erases)
