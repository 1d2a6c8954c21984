"""Clients in every language pass the table of scenarios, on a real broker and real workers that things befall.

All of them perform a row at the same time, so that what is waited for is waited for once. A matrix of what came of it
is printed at the end.
"""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack
from typing import Any, Final

import pytest

from tests.clients.drivers import LANGUAGES, Driver, judged
from tests.clients.scenarios import filled, table
from tests.clients.world import World

pytestmark = [pytest.mark.clients, pytest.mark.timeout(180)]

ROWS: Final = {name: row for name, row in table().rows.items() if "server" in row["on"]}
_MATRIX: Final[dict[str, dict[str, bool]]] = {}


@pytest.fixture(scope="module")
async def drivers() -> AsyncIterator[Mapping[str, list[Driver]]]:
    """Start two drivers of each language."""
    async with AsyncExitStack() as stack:
        yield {
            language: [await stack.enter_async_context(Driver(command)) for _ in range(2)]
            for language, command in LANGUAGES.items()
        }


@pytest.fixture(scope="module", autouse=True)
def matrix(request: pytest.FixtureRequest) -> Iterator[None]:
    """Print what came of each row in each language."""
    yield
    reporter = request.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and _MATRIX:
        width = max(map(len, _MATRIX))
        reporter.write_line(f"\n{'':{width}}  {'  '.join(LANGUAGES)}")
        for name, ended in _MATRIX.items():
            marks = [("passed" if passed else "FAILED").ljust(len(language)) for language, passed in ended.items()]
            reporter.write_line(f"{name:{width}}  {'  '.join(marks)}")


class Together:
    """Has an act done once, when every driver that is still at its row asks for it."""

    def __init__(self, place: World, drivers: int) -> None:
        self._place = place
        self._drivers = drivers
        self._asking = 0
        self._done = 0
        self._changed = asyncio.Condition()

    async def act(self, what: str) -> None:
        """Wait for the others, and have it done."""
        async with self._changed:
            number = self._done
            self._asking += 1
            await self._changed.wait_for(lambda: self._done > number or self._asking == self._drivers)
            if self._done == number:
                await self._place.act(what)
                self._asking = 0
                self._done += 1
            self._changed.notify_all()

    async def leave(self) -> None:
        """Wait for one less: whoever failed asks for nothing any more, and what was stopped has to be started."""
        async with self._changed:
            self._drivers -= 1
            self._changed.notify_all()


async def performed(
    place: World, row: Mapping[str, Any], language: str, drivers: list[Driver], together: Together
) -> list[str]:
    """Have a row performed by the drivers of a language; return where it is not what it should be."""
    run = f"{language}{uuid.uuid4().hex[:8]}".upper()
    found: list[str] = []
    filled_in = filled(row, run)
    filled_in["client"] = place.client(row, language)
    rows = [
        json.loads(json.dumps(filled_in).replace("{instance}", str(number)))
        for number in range(row.get("instances", 1))
    ]

    async def row_by(driver: Driver, one: Mapping[str, Any]) -> Mapping[str, Any]:
        try:
            return await driver.perform(one, together.act)
        finally:
            await together.leave()

    answers = await asyncio.gather(*(row_by(driver, one) for driver, one in zip(drivers, rows, strict=False)))
    for one, answer in zip(rows, answers, strict=True):
        found += judged(one, answer)
    wanted = filled_in.get("world", {})
    if "records_of_one" in wanted:
        records = {name: count for name, count in (await place.records()).items() if run in name}
        assert records
        found += [f"{name}: {count} records" for name, count in records.items() if count > wanted["records_of_one"]]
    for message_id, status in wanted.get("outcomes", {}).items():
        outcome = await place.outcome(message_id, language)
        found += [f"{message_id}: {outcome}"] if outcome != status else []
    return found


@pytest.mark.parametrize("name", ROWS)
async def test_row(name: str, place: World, drivers: Mapping[str, list[Driver]]) -> None:
    """In every language, what came of the row is what it expects."""
    row = ROWS[name]
    together = Together(place, len(LANGUAGES) * row.get("instances", 1))
    ended = await asyncio.gather(
        *(performed(place, row, language, drivers[language], together) for language in LANGUAGES)
    )
    _MATRIX[name] = {language: not found for language, found in zip(LANGUAGES, ended, strict=True)}
    assert not any(ended), dict(zip(LANGUAGES, ended, strict=True))
