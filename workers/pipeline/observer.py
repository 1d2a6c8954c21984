"""Who watches the pipeline. It is told what happened; it changes nothing."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from workers.pipeline.delivery import Ended
from workers.ports import Record


class BatchWatch(Protocol):
    """Watches one batch."""

    def decided(self, ended: Sequence[Ended]) -> None:
        """These came to their end, and were answered."""
        ...


class Observer(Protocol):
    """Watches the pipeline of one process."""

    def batch(self, records: Sequence[Record]) -> AbstractContextManager[BatchWatch]:
        """A batch begins."""
        ...

    def retry(self, cause: str, step: str) -> None:
        """A step is tried again."""
        ...

    def step(self, name: str) -> AbstractContextManager[None]:
        """One step of a batch, from here to the end of the block."""
        ...

    def use_case(self, kind: str, seconds: float) -> None:
        """The use cases of a kind took so long in this batch."""
        ...

    def database(self, kind: str, seconds: float, error: BaseException | None = None) -> None:
        """The database took so long for the queries of a kind in this batch, or failed with that error."""
        ...
