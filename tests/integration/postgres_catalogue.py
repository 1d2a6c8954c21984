"""The real unit of work and readers, without broker and pipeline: a batch is what a test says it is."""

from collections.abc import Iterable, Mapping

from contracts.kinds import Keys
from contracts.registry import KINDS
from handlers.commands import COMMANDS
from handlers.readers import Cache
from handlers.result import Failure, Success
from handlers.rules import RuleBook
from persistence import unit_of_work
from persistence.cache import RedisCache
from persistence.engine import Engine, connected
from persistence.product_queries import CatalogueReads
from persistence.readers import TableReaders
from persistence.standing import Standing, read_standing
from persistence.unit_of_work import BatchUnitOfWork
from tests.in_memory.unit_of_work import Answer, Asking, Circumstances, Message, ask, read, shown


class PostgresCatalogue:
    """A catalogue in Postgres. `cache_keys` are those that the last batch touched."""

    def __init__(self, engine: Engine, cache: Cache | None = None) -> None:
        self.engine = engine
        self.rule_book = RuleBook(caching=True)
        self.readers = TableReaders(engine, engine, cache or RedisCache(None, engine), self.rule_book, CatalogueReads())
        self.cache_keys: list[str] = []
        self._circumstances = Circumstances()

    async def apply(self, *commands: Asking) -> list[Answer]:
        """Apply commands as one batch and one transaction, in order; their envelopes."""
        messages = [read(command) for command in commands]
        self.cache_keys = []
        async with unit_of_work.begin(self.engine, self.rule_book) as uow:
            await uow.load(declared(messages), await self._standing())
            answers = [await self._apply(message, uow) for message in messages]
            await uow.flush()
            await uow.store([])
            await uow.commit()
        return answers

    async def _apply(self, message: Message, uow: BatchUnitOfWork) -> Answer:
        if message.refusal is not None:
            return shown(Failure(message.refusal))
        result = await COMMANDS[message.kind](message.payload, uow, self._circumstances.context())
        if isinstance(result, Success):
            self.cache_keys += uow.keep()
        else:
            uow.take_back()
        return shown(result)

    async def _standing(self) -> Standing:
        async with connected(self.engine) as connection:
            return await read_standing(connection)

    async def ask(self, kind: str, payload: Mapping[str, object]) -> Answer:
        """Answer a query."""
        return await ask(self.readers, self._circumstances, kind, payload)


def declared(messages: Iterable[Message]) -> list[Keys]:
    """Say what a batch will touch."""
    return [KINDS[one.kind].keys(one.payload) for one in messages if one.refusal is None]
