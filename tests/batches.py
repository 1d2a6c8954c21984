"""Commands given to use cases in batches, through the unit of work that workers use, without a broker.

Each call is a batch: one transaction, decided again after a conflict, as in the pipeline.
"""

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import orjson
from uuid_utils import uuid7

from contracts.envelope import failure
from contracts.kinds import Payload
from contracts.registry import KINDS
from handlers.commands import COMMANDS
from handlers.context import Context
from handlers.queries import QUERIES
from handlers.queries.asked import Asked
from handlers.readers import Readers
from handlers.result import Failure, Success
from handlers.rules import RuleBook
from persistence import unit_of_work
from persistence.engine import Engine
from persistence.faults import Fault, fault_of
from persistence.outcomes import Outcome, look_up
from persistence.readers import TableReaders
from persistence.unit_of_work import BatchUnitOfWork

Command = tuple[str, Mapping[str, object]]
"""A kind and its payload."""
Answer = dict[str, Any]
"""An envelope, read again."""

NOW: Final = datetime(2026, 3, 31, 12, tzinfo=UTC)


def context(now: datetime) -> Context:
    """Make the circumstances of a delivery."""
    return Context(now, lambda: str(uuid7()), "tests\ncaller")


def read(kind: str, payload: Mapping[str, object]) -> Payload:
    """Read a payload of a kind's newest version."""
    return KINDS[kind].read(KINDS[kind].newest, orjson.dumps(payload))


class Batches:
    """A worker's part of the work, as often as one likes at once."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.rule_book = RuleBook(caching=True)
        self.readers: Readers = TableReaders(engine, engine, rule_book=self.rule_book)
        self.conflicts = 0

    async def decide(self, *commands: Command, now: datetime = NOW) -> list[Answer]:
        """Decide commands as one batch; return their envelopes."""
        while True:
            try:
                return await self._transact(commands, now)
            except Exception as error:
                if fault_of(error) is not Fault.CONFLICT:
                    raise
                self.conflicts += 1

    async def command(self, kind: str, payload: Mapping[str, object], now: datetime = NOW) -> Answer:
        """Decide one command."""
        return (await self.decide((kind, payload), now=now))[0]

    async def query(self, kind: str, payload: Mapping[str, object], now: datetime = NOW) -> Answer:
        """Answer one query."""
        results = await QUERIES[kind]([Asked(read(kind, payload), context(now))], self.readers)
        match results[0]:
            case Success(envelope):
                return _answer(envelope.encode())
            case Failure(error):
                return _answer(failure(error).encode())
            case error:
                raise error

    async def _transact(self, commands: tuple[Command, ...], now: datetime) -> list[Answer]:
        payloads = [read(kind, payload) for kind, payload in commands]
        declared = [KINDS[kind].keys(payload) for (kind, _), payload in zip(commands, payloads, strict=True)]
        mark = (await look_up(self.engine, [])).mark
        async with unit_of_work.begin(self.engine, self.rule_book) as uow:
            await uow.load(declared, mark)
            outcomes = [
                await self._run(uow, kind, payload, now)
                for (kind, _), payload in zip(commands, payloads, strict=True)
            ]
            await uow.flush()
            await uow.store(outcomes)
            await uow.commit()
        return [_answer(outcome.envelope or b"") for outcome in outcomes]

    async def _run(self, uow: BatchUnitOfWork, kind: str, payload: Payload, now: datetime) -> Outcome:
        match await COMMANDS[kind](payload, uow, context(now)):
            case Success(envelope, subjects):
                cache_keys = uow.keep()
            case Failure(error, subjects):
                uow.take_back()
                envelope, cache_keys = failure(error), ()
        body = envelope.encode()
        message_id = uuid.uuid4().hex
        return Outcome("tests", message_id, kind, b"", body, tuple(subjects), cache_keys, "commands", 0, 0, now)


def _answer(envelope: bytes) -> Answer:
    answer: Answer = orjson.loads(envelope)
    return answer
