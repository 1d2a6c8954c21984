"""The real unit of work as several workers use it at once: batches, decided again after a conflict; no broker."""

import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Final

from uuid_utils import uuid7

from contracts.registry import KINDS
from handlers.commands import COMMANDS
from handlers.context import Context
from handlers.queries import QUERIES
from handlers.queries.asked import Asked
from handlers.result import Success
from handlers.rules import RuleBook
from persistence import unit_of_work
from persistence.engine import Engine
from persistence.faults import Fault, fault_of
from persistence.outcomes import Outcome, look_up
from persistence.readers import TableReaders
from persistence.unit_of_work import BatchUnitOfWork
from tests.in_memory.unit_of_work import Answer, Asking, Message, read, shown

NOW: Final = datetime(2026, 3, 31, 12, tzinfo=UTC)


def context(now: datetime) -> Context:
    """Make the circumstances of a delivery."""
    return Context(now, lambda: str(uuid7()), "tests\ncaller")


class Batches:
    """A worker's part of the work, as often as one likes at once."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.rule_book = RuleBook(caching=True)
        self.readers = TableReaders(engine, engine, rule_book=self.rule_book)
        self.conflicts = 0

    async def decide(self, *commands: Asking, now: datetime = NOW) -> list[Answer]:
        """Decide commands as one batch; return their envelopes."""
        while True:
            try:
                async with self.prepared(*commands, now=now) as (uow, answers):
                    await uow.commit()
                    return answers
            except Exception as error:
                if fault_of(error) is not Fault.CONFLICT:
                    raise
                self.conflicts += 1

    async def command(self, kind: str, payload: Mapping[str, object], now: datetime = NOW) -> Answer:
        """Decide one command."""
        return (await self.decide((kind, payload), now=now))[0]

    async def query(self, kind: str, payload: Mapping[str, object], now: datetime = NOW) -> Answer:
        """Answer one query."""
        asked = Asked(read((kind, payload)).payload, context(now))
        (result,) = await QUERIES[kind]([asked], self.readers)
        assert result is not None
        return shown(result)

    @asynccontextmanager
    async def prepared(
        self, *commands: Asking, now: datetime = NOW
    ) -> AsyncIterator[tuple[BatchUnitOfWork, list[Answer]]]:
        """Decide commands and write what they change; whoever asked for it commits, or it is rolled back."""
        messages = [read(command) for command in commands]
        standing = (await look_up(self.engine, [])).standing
        async with unit_of_work.begin(self.engine, self.rule_book) as uow:
            await uow.load([KINDS[message.kind].keys(message.payload) for message in messages], standing)
            answers = [await self._run(uow, message, now) for message in messages]
            await uow.flush()
            await uow.store([_outcome(message, now) for message in messages])
            yield uow, answers

    async def _run(self, uow: BatchUnitOfWork, message: Message, now: datetime) -> Answer:
        result = await COMMANDS[message.kind](message.payload, uow, context(now))
        if isinstance(result, Success):
            uow.keep()
        else:
            uow.take_back()
        return shown(result)


def _outcome(message: Message, now: datetime) -> Outcome:
    return Outcome("tests", uuid.uuid4().hex, message.kind, b"", b"{}", (), (), "commands", 0, 0, now)
