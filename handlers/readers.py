"""What queries read from: one reader an area, none of which can change anything."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from handlers.backfill import BackfillReader, ChangeReader
from handlers.customer import CustomerReader
from handlers.order import OrderReader
from handlers.product import ProductReader
from handlers.rules import RuleBook
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


class Cache(Protocol):
    """What was shown before, as JSON; out of it before the reply to a command that changed what it shows."""

    async def get_many(
        self,
        space: str,
        names: Sequence[str],
        load: Callable[[Sequence[str]], Awaitable[Mapping[str, bytes]]],
        is_whole: Callable[[bytes], bool],
    ) -> Mapping[str, bytes | None]:
        """Find what is shown by these names of a space (`product:mnemonic`); loads, from the primary, what it lacks.

        What is not `is_whole` is thrown away: a release before kept it without a field that there is now. What `load`
        does not return does not exist, and is not kept. None: those before it are as much as is read at once, ask
        again.
        """
        ...


class Readers(Protocol):
    """Everything that a query may read."""

    @property
    def customers(self) -> CustomerReader: ...
    @property
    def products(self) -> ProductReader: ...
    @property
    def primary_products(self) -> ProductReader:
        """The same, but never of a replica: for what goes into the cache."""
        ...

    @property
    def cache(self) -> Cache: ...
    @property
    def rule_book(self) -> RuleBook:
        """Checks data against the rules of products."""
        ...

    @property
    def orders(self) -> OrderReader: ...
    @property
    def summaries(self) -> SummaryReader: ...
    @property
    def backfills(self) -> BackfillReader:
        """Runs as they stand: always of the primary."""
        ...

    @property
    def changes(self) -> ChangeReader:
        """Phases of changes: always of the primary."""
        ...

    @property
    def outcomes(self) -> OutcomeReader: ...
