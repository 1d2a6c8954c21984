"""What is away is waited for outside the handler: the batch is given back, and fetched again after a while."""

from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import structlog

from persistence.faults import Fault, fault_of
from workers.pipeline.observer import Observer
from workers.pipeline.patience import GiveBackError, Patience
from workers.ports import BrokerAwayError

T = TypeVar("T")

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Outages:
    """Sorts what a server's absence looks like, for one lane; commands and queries alike."""

    patience: Patience
    observer: Observer

    def unless_it_passes(self, error: Exception, step: str) -> None:
        """Return when the step may be tried again at once; raises `GiveBackError` when the batch must wait."""
        fault = fault_of(error)
        self.observer.retry(fault.value, step)
        if fault is Fault.DEFECT:
            _log.error("step_failed", step=step, exc_info=error)
        if fault is not Fault.CONFLICT:
            raise GiveBackError(self.patience.database_away()) from error

    async def or_give_back(self, asked: Awaitable[T], step: str) -> T:
        """Wait for what the database is asked; raises `GiveBackError` for whatever it raises."""
        try:
            return await asked
        except Exception as error:
            self.unless_it_passes(error, step)
            raise GiveBackError(0) from error

    @contextmanager
    def given_back(self) -> Iterator[None]:
        """Answer inside; raises `GiveBackError` where a server is away, as nothing of it may be acked then.

        The broker took not all of it, Postgres not who waits, or neither it nor Redis the cache keys to clear.
        """
        try:
            yield
        except BrokerAwayError as error:
            _log.warning("answers_not_published", reason=str(error))
            raise GiveBackError(self.patience.broker_away()) from error
        except Exception as error:
            if fault_of(error) is Fault.DEFECT:
                raise
            raise GiveBackError(self.patience.database_away()) from error
