"""No message holds the event loop of a worker: whatever it is full of, others run in between."""

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any, Final

import orjson
import pytest

from persistence.engine import Engine, PoolSettings, create_engine
from tests.direct import Arrived, Direct
from tests.unit.test_dear_bodies import LEGAL, PIECE, TURN


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[Engine]:
    """Connections to an empty database."""
    made = create_engine(database_url, PoolSettings(size=2), "tests")
    yield made
    await made.dispose()


class Longest:
    """The longest that one piece of work held the loop's thread, in processor time."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._ended = False
        self._since = time.thread_time()
        asyncio.get_running_loop().call_soon(self._look)

    def _look(self) -> None:
        self.seconds = max(self.seconds, time.thread_time() - self._since)
        self._since = time.thread_time()
        if not self._ended:
            asyncio.get_running_loop().call_soon(self._look)

    def end(self) -> float:
        """Stop looking."""
        self._ended = True
        return self.seconds


def unknown_fields(direct: Direct, message_id: str) -> Arrived:
    """Make a payload of nothing but unknown fields."""
    return direct.record("create_customer", {f"{number:x}": 0 for number in range(25_000)}, message_id=message_id)


def lists(direct: Direct, message_id: str) -> Arrived:
    """Make a customer whose preferences are far too large, of many small parts."""
    payload = {"name": "N", "email": "n@example.com", "preferences": {"a": [[]] * 80_000}}
    return direct.record("create_customer", payload, message_id=message_id)


def the_same(direct: Direct, _: str) -> Arrived:
    """Make a message whose id was used by each one before it."""
    return lists(direct, "the-same")


def attributes(direct: Direct, message_id: str) -> Arrived:
    """Make a version whose item has far too many attributes."""
    item = {"sku": "a", "name": "x", "attributes": {"a": [1e-6] * 40_000}}
    payload = {"mnemonic": "P1", "version_label": "a", "start_date": "2020-01-01", "items": [item]}
    return direct.record("add_product_version", payload, message_id=message_id)


def rows(direct: Direct, message_id: str) -> Arrived:
    """Make an import of as many products as there may be."""
    products = [{"mnemonic": f"P{number}", "overview": "x" * 150} for number in range(1_000)]
    return direct.record("import_products", {"products": products}, message_id=message_id)


def items(direct: Direct, message_id: str) -> Arrived:
    """Make a version whose only item lacks all that it should have, and has what is as deep as may be."""
    deep: list[Any] = [2e-6]
    for _ in range(28):
        deep = [deep]
    payload = {"mnemonic": "P1", "version_label": "a", "start_date": "2020-01-01", "items": [{"zz": [deep] * 4_200}]}
    return direct.record("add_product_version", payload, message_id=message_id)


def stranger(direct: Direct, message_id: str) -> Arrived:
    """Make a dear body that nobody vouches for."""
    record = lists(direct, message_id)
    return replace(record, headers=[header for header in record.headers if header[0] != "authorization"])


def body(name: str) -> Callable[[Direct, str], Arrived]:
    """Make one of the dear bodies."""

    def make(direct: Direct, message_id: str) -> Arrived:
        return replace(direct.record("create_customer", {}, message_id=message_id), value=LEGAL[name])

    return make


MAKERS: Final[dict[str, Callable[[Direct, str], Arrived]]] = {
    "unknown fields": unknown_fields,
    "lists": lists,
    "one id": the_same,
    "attributes": attributes,
    "rows": rows,
    "items": items,
    "a stranger": stranger,
    "deep with doubles": body("deep with doubles"),
    "tiny doubles": body("tiny doubles"),
    "two planes in one object": body("two planes in one object"),
}


async def test_no_batch_holds_the_loop(engine: Engine) -> None:
    """Batches of the dearest messages of the greatest size, one after another: each piece of work is short."""
    direct = Direct(engine)
    turn_s = min(_cost(lambda: json.loads(TURN)) for _ in range(5))
    held = {}
    for name, make in MAKERS.items():
        batch = [make(direct, uuid.uuid4().hex) for _ in range(5)]
        times = []
        for _ in range(3):  # whatever else the machine does, it does not do it each time
            longest = Longest()
            await direct.pipeline(batch, lambda: True)
            times.append(longest.end())
            if times[-1] <= PIECE * turn_s:
                break  # the least decides
        held[name] = min(times) / turn_s
    assert {name: turns for name, turns in held.items() if turns > PIECE} == {}


def _cost(work: Callable[[], Any]) -> float:
    began_at = time.thread_time()
    work()
    return time.thread_time() - began_at


async def test_few_findings_are_told(engine: Engine) -> None:
    """A payload with tens of thousands of unknown fields is refused as any other: the first hundred are named."""
    direct = Direct(engine)
    ((envelope, body_, _),) = await direct.decide(unknown_fields(direct, "m"))
    assert envelope["statusCode"] == 422
    assert len(envelope["data"]["details"]["validation_errors"]) == 100
    assert len(body_) < 20_000
    assert orjson.loads(body_)["message"] == "Request validation failed"
