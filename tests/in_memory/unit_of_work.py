"""A catalogue in memory that takes commands and answers queries: what the real one must agree with."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import orjson

from contracts.envelope import failure
from contracts.errors import CatalogError
from contracts.registry import KINDS
from handlers.commands import COMMANDS
from handlers.context import Context
from handlers.queries import QUERIES
from handlers.queries.asked import Asked
from handlers.readers import StoredOutcome
from handlers.result import Failure, Result, Success
from handlers.rules import RuleBook
from tests.in_memory.backfills import NoBackfills, NoChanges
from tests.in_memory.customers import InMemoryCustomerReader, InMemoryCustomers
from tests.in_memory.declared import Declared
from tests.in_memory.orders import InMemoryOrderReader, InMemoryOrders, InMemorySummaries
from tests.in_memory.products import InMemoryCache, InMemoryProductReader, InMemoryProducts

Answer = Mapping[str, Any]
"""An envelope, as its reader sees it."""
Asking = tuple[str, Mapping[str, object]]
"""Kind and payload; `kind@2` names a version that is not the newest."""

NOW = datetime(2025, 3, 1, 12, tzinfo=UTC)


class Circumstances:
    """Times and ids of a test: each message comes a second after the one before it, ids count up."""

    def __init__(self) -> None:
        self._seconds = itertools.count()
        self._ids = itertools.count(1)

    def new_id(self) -> str:
        """Make the next id."""
        number = next(self._ids)
        return f"{number:08x}-0000-7000-8000-{number:012x}"

    def context(self) -> Context:
        """Make the circumstances of the next message."""
        return Context(NOW + timedelta(seconds=next(self._seconds)), self.new_id, "caller")


@dataclass(frozen=True)
class Message:
    """A command or query whose payload was read; `refusal` where it could not be."""

    kind: str
    payload: Any
    refusal: CatalogError | None = None


def read(asking: Asking) -> Message:
    """Read a payload as the pipeline does."""
    name, _, number = asking[0].partition("@")
    kind = KINDS[name]
    version = kind.version(int(number)) if number else kind.newest
    assert version is not None
    try:
        return Message(name, kind.read(version, orjson.dumps(asking[1])))
    except CatalogError as error:
        return Message(name, None, error)


def shown(result: Result | Exception) -> Answer:
    """Show a result as its reader sees it; an exception is raised."""
    match result:
        case Success(envelope):
            body = envelope.encode()
        case Failure(error):
            body = failure(error).encode()
        case error:
            raise error
    answer: Answer = orjson.loads(body)
    return answer


class Catalogue(Protocol):
    """A catalogue, whatever remembers it; `readers` are what its queries read from."""

    readers: Any

    async def apply(self, *commands: Asking) -> list[Answer]:
        """Apply commands as one batch, in order; their envelopes."""
        ...

    async def ask(self, kind: str, payload: Mapping[str, object]) -> Answer:
        """Answer a query; its envelope."""
        ...


class InMemoryUnitOfWork:
    """All repositories; a message's changes are taken back by putting back the copies that were made before it."""

    def __init__(self) -> None:
        self.customers = InMemoryCustomers()
        self.orders = InMemoryOrders()
        self.products = InMemoryProducts(self.orders.holds)
        self.backfills = NoBackfills()
        self.changes = NoChanges()
        self.rule_book = RuleBook(caching=False)
        self._before: list[tuple[object, str, Any]] = []

    def declare(self, declared: Declared) -> None:
        """Begin a batch that may touch this."""
        self.customers.declared = declared
        self.products.declared = declared
        self.orders.declared = declared

    def remember(self) -> None:
        """Begin a message."""
        parts: list[tuple[object, Sequence[str]]] = [
            (self.customers, ("rows", "taken_ids")),
            (self.orders, ("rows",)),
            (self.products, ("rows", "versions", "items", "rules", "touched")),
        ]
        self._before = [(part, name, getattr(part, name).copy()) for part, names in parts for name in names]

    def take_back(self) -> None:
        """Undo what the message changed."""
        for part, name, value in self._before:
            setattr(part, name, value)


class InMemoryOutcomes:
    """No outcome is known here: the store is the pipeline's."""

    async def get_many(self, _: Sequence[tuple[str, str]]) -> dict[tuple[str, str], StoredOutcome]:
        """Find none."""
        return {}


class InMemoryReaders:
    """All readers over one unit of work."""

    def __init__(self, uow: InMemoryUnitOfWork) -> None:
        self.customers = InMemoryCustomerReader(uow.customers)
        self.products = InMemoryProductReader(uow.products)
        self.primary_products = self.products
        self.orders = InMemoryOrderReader(uow.orders, lambda: uow.customers.rows)
        self.summaries = InMemorySummaries(uow.orders, lambda: uow.customers.rows)
        self.outcomes = InMemoryOutcomes()
        self.backfills = uow.backfills
        self.changes = uow.changes
        self.cache = InMemoryCache()
        self.rule_book = uow.rule_book


class InMemoryCatalogue:
    """A catalogue in memory."""

    def __init__(self) -> None:
        self.uow = InMemoryUnitOfWork()
        self.readers = InMemoryReaders(self.uow)
        self._circumstances = Circumstances()

    async def apply(self, *commands: Asking) -> list[Answer]:
        """Apply commands as one batch, in order; then forget what is cached of what they changed."""
        messages = [read(command) for command in commands]
        declared = Declared()
        for message in messages:
            if message.refusal is None:
                declared.add(KINDS[message.kind].keys(message.payload))
        self.uow.declare(declared)
        answers = [await self._apply(message) for message in messages]
        self.readers.cache.clear(self.uow.products.touched)
        return answers

    async def _apply(self, message: Message) -> Answer:
        if message.refusal is not None:
            return shown(Failure(message.refusal))
        self.uow.remember()
        result = await COMMANDS[message.kind](message.payload, self.uow, self._circumstances.context())
        if isinstance(result, Failure):
            self.uow.take_back()
        return shown(result)

    async def ask(self, kind: str, payload: Mapping[str, object]) -> Answer:
        """Answer a query."""
        return await ask(self.readers, self._circumstances, kind, payload)


async def ask(readers: Any, circumstances: Circumstances, kind: str, payload: Mapping[str, object]) -> Answer:  # noqa: ANN401
    """Answer a query by its use case."""
    message = read((kind, payload))
    if message.refusal is not None:
        return shown(Failure(message.refusal))
    (result,) = await QUERIES[message.kind]([Asked(message.payload, circumstances.context())], readers)
    assert result is not None
    return shown(result)
