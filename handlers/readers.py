"""What queries read from: one reader an area, none of which can change anything."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from handlers.customer import CustomerReader
from handlers.order import OrderReader
from handlers.summary import SummaryReader


@dataclass(frozen=True, slots=True)
class StoredOutcome:
    """A stored envelope, as bytes; None where it was erased."""

    envelope: bytes | None


class OutcomeReader(Protocol):
    """Outcomes, by caller and message_id."""

    async def get_many(self, keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str], StoredOutcome]:
        """Find outcomes of (caller, message_id); always from the primary."""
        ...


class Readers(Protocol):
    """Everything that a query may read."""

    @property
    def customers(self) -> CustomerReader: ...
    @property
    def orders(self) -> OrderReader: ...
    @property
    def summaries(self) -> SummaryReader: ...
    @property
    def outcomes(self) -> OutcomeReader: ...
