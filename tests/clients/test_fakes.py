"""The Python client on its test double passes the rows of the table that need no server."""

from collections.abc import Mapping
from typing import Any

import pytest

from tests.clients.drivers import PYTHON, Driver, judged
from tests.clients.scenarios import filled, table

ROWS = {name: filled(row, "fake") for name, row in table().rows.items() if "fake" in row["on"]}


@pytest.fixture(scope="module")
async def answers() -> Mapping[str, Mapping[str, Any]]:
    """Have every row performed by one driver."""
    async with Driver(PYTHON) as driver:
        return {name: await driver.perform(row) for name, row in ROWS.items()}


@pytest.mark.parametrize("name", ROWS)
def test_row(name: str, answers: Mapping[str, Mapping[str, Any]]) -> None:
    """What came of the row is what it expects."""
    assert not list(judged(ROWS[name], answers[name]))
