"""The second delivery of a message within one batch: it follows what becomes of the first, and is not applied twice."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from handlers.commands import COMMANDS
from persistence.engine import Engine, PoolSettings, connected, create_engine
from tests.direct import Arrived, Direct

GOOD = {"name": "Ada", "email": "ada@example.com"}
POISON = {"name": "Poison", "email": "p@example.com"}
REFUSED = {"name": "Refused", "email": "r@example.com"}


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[Engine]:
    """A database that refuses a name."""
    engine = create_engine(database_url, PoolSettings(), "followers")
    async with connected(engine) as connection:
        await connection.execute("alter table customers add constraint broken check (name <> 'Refused')")
    yield engine
    await engine.dispose()


async def fragile(command: Any, uow: Any, context: Any) -> Any:  # noqa: ANN401
    """Break on a name; else create the customer."""
    if command.name == "Poison":
        raise ArithmeticError
    return await COMMANDS["create_customer"](command, uow, context)


def late(record: Arrived) -> Arrived:
    """Give a record a deadline that has passed."""
    return replace(record, headers=[*record.headers, ("deadline", b"1")])


@pytest.mark.parametrize(
    ("payloads", "statuses", "letters"),
    [
        pytest.param([GOOD, GOOD, GOOD], [201, 201, 201], 0, id="applied"),
        pytest.param([GOOD, POISON, GOOD], [201, 409, 201], 0, id="other content between"),
        pytest.param([{"name": 1}, GOOD, GOOD], [422, 201, 201], 0, id="first is invalid"),
        pytest.param([{"name": 1}, {"name": 2}, GOOD], [422, 422, 201], 0, id="first two are invalid"),
        pytest.param([None, GOOD, GOOD], [201, 201, 201], 0, id="first is late, and applied after all"),
        pytest.param([None, None, POISON], [504, 504, 500], 1, id="late ones of what breaks"),
        pytest.param([POISON, POISON, POISON], [500, 500, 500], 3, id="first breaks"),
        pytest.param([POISON, GOOD, GOOD], [500, 500, 500], 3, id="first breaks, others would not"),
        pytest.param([REFUSED, REFUSED, REFUSED], [500, 500, 500], 3, id="first breaks in the flush"),
    ],
)
async def test_what_follows_the_first(
    engine: Engine, payloads: list[dict[str, object] | None], statuses: list[int], letters: int
) -> None:
    """It repeats what was applied, breaks with what broke, each under its own incident, and else stands for itself."""
    direct = Direct(engine)
    direct.pipeline.use_cases = {**COMMANDS, "create_customer": fragile}
    batch = []
    for payload in payloads:
        record = direct.record("create_customer", payload or GOOD, message_id="same", key=b"k")
        batch.append(record if payload else late(record))
        batch.append(direct.record("create_customer", bystander(len(batch)), message_id=f"m{len(batch)}", key=b"k"))
    answers = await direct.decide(*batch)
    assert [envelope["statusCode"] for envelope, _, _ in answers[1::2]] == [201] * len(payloads)
    found = [envelope for envelope, _, _ in answers[::2]]
    assert [envelope["statusCode"] for envelope in found] == statuses
    applied = [body for envelope, body, _ in answers[::2] if envelope["statusCode"] == 201]
    assert len(set(applied)) <= 1
    incidents = [envelope["data"]["details"]["incident"] for envelope in found if envelope["statusCode"] == 500]
    assert len(set(incidents)) == len(incidents) == len(direct.letters.messages) == letters


def bystander(number: int) -> dict[str, object]:
    """Somebody whose creation must not be touched by the others'."""
    return {"name": "Eve", "email": f"eve{number}@example.com"}
