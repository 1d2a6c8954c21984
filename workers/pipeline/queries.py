"""The way of a query, from top to bottom.

    decode → identify → refuse → read → answer

The way of a command without look-up, flush, store and commit: a query is never stored. Queries of one kind are answered
together, kinds at once. An outage is waited for; a defect costs its query alone.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import structlog

from contracts.envelope import failure
from contracts.errors import DeadlineExceededError
from handlers.queries.asked import Asked, QueryUseCase
from handlers.readers import Readers
from handlers.result import Failure, Result, Success
from persistence.engine import database_time
from persistence.faults import Fault, fault_of
from workers.pipeline.answering import Answering
from workers.pipeline.delivery import Applied, Broken, Delivery, Refused
from workers.pipeline.intake import Intake
from workers.pipeline.observer import Observer
from workers.pipeline.patience import GiveBackError, Patience
from workers.pipeline.progress import progress_of
from workers.pipeline.refusal import Refusal
from workers.ports import BrokerAwayError, Progress, Record

_log = structlog.get_logger(__name__)

SLOW_READS: Final = 3
"""A lone query that times out this often in a row is answered as a defect, so that its partition goes on."""


@dataclass
class QueryPipeline:
    """Answers batches of queries; made once a process by the composition root."""

    intake: Intake
    refusal: Refusal
    answering: Answering
    readers: Callable[[], Awaitable[Readers]]
    database_answers: Callable[[], Awaitable[bool]]
    use_cases: Mapping[str, QueryUseCase]
    patience: Patience
    observer: Observer
    new_incident: Callable[[], str]
    _slow: Counter[tuple[str, int, int]] = field(default_factory=Counter)

    async def __call__(self, records: Sequence[Record], still_ours: Callable[[], bool]) -> Progress:
        """Answer a batch; says how far it got."""
        with self.observer.batch(records) as watch:
            deliveries = self.intake.decode_all(records)
            for delivery in deliveries:
                self.intake.identify(delivery)
            retry_after_s: float | None = None
            await self.refusal.refuse(deliveries)
            try:
                await self._unless_away(deliveries)
                await self._read([delivery for delivery in deliveries if delivery.end is None])
            except GiveBackError as given_back:
                retry_after_s = given_back.retry_after_s
            decided, progress = progress_of(deliveries, retry_after_s)
            if not still_ours():
                return Progress({})
            try:
                with self.observer.step("answer"):
                    await self.answering.answer(decided)
            except BrokerAwayError as error:
                _log.warning("answers_not_published", reason=str(error))
                return Progress({}, self.patience.broker_away())
            if retry_after_s is None:
                self.patience.all_well()
            watch.decided(decided)
            return progress

    async def _unless_away(self, deliveries: Sequence[Delivery]) -> None:
        """Deny no query for its deadline while the database is away: it is judged once that answers again."""
        late = [
            delivery
            for delivery in deliveries
            if isinstance(delivery.end, Refused) and isinstance(delivery.end.error, DeadlineExceededError)
        ]
        if not late or await self.database_answers():
            return
        for delivery in late:
            delivery.end = None
        raise GiveBackError(self.patience.database_away())

    async def _read(self, deliveries: Sequence[Delivery]) -> None:
        by_kind: dict[str, list[Delivery]] = defaultdict(list)
        for delivery in deliveries:
            assert delivery.kind is not None
            by_kind[delivery.kind.name].append(delivery)
        if not by_kind:
            return
        try:
            readers = await self.readers()
        except Exception as error:
            raise GiveBackError(self.patience.database_away()) from error
        done = await asyncio.gather(
            *(self._read_kind(kind, group, readers) for kind, group in by_kind.items()), return_exceptions=True
        )
        for result in done:
            if isinstance(result, BaseException):
                raise result

    async def _read_kind(self, kind: str, deliveries: Sequence[Delivery], readers: Readers) -> None:
        asked = [Asked(one.payload, one.context) for one in deliveries if one.context is not None]
        try:
            with database_time() as spent:
                results: Sequence[Result | Exception] = await self.use_cases[kind](asked, readers)
            self.observer.database(kind, spent.seconds)
        except Exception as error:  # noqa: BLE001 - sorted by _fail
            if len(deliveries) == 1:
                self._fail(deliveries[0], error)
                return
            for delivery in deliveries:
                await self._read_kind(kind, [delivery], readers)
            return
        for delivery, result in zip(deliveries, results, strict=False):
            match result:
                case Success(envelope):
                    delivery.end = Applied(envelope.encode(), envelope.status_code)
                case Failure(business_error):
                    envelope = failure(business_error)
                    delivery.end = Applied(envelope.encode(), envelope.status_code)
                case _:
                    self._fail(delivery, result)
        if len(results) < len(deliveries):
            raise GiveBackError(0)

    def _fail(self, delivery: Delivery, error: Exception) -> None:
        """Give the batch back while the database is away; answer 500 for a defect."""
        fault = fault_of(error)
        self.observer.retry(fault.value, "read")
        record = delivery.record
        place = (record.topic, record.partition, record.offset)
        if fault is Fault.TOO_SLOW:
            self._slow[place] += 1
        if fault is Fault.DEFECT or self._slow[place] >= SLOW_READS:
            self._slow.pop(place, None)
            delivery.end = self._broken(delivery, error)
            return
        raise GiveBackError(self.patience.database_away()) from error

    def _broken(self, delivery: Delivery, error: Exception) -> Broken:
        return Broken(self.new_incident(), error, delivery.kind.name if delivery.kind else "unknown")
