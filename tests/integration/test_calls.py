"""How many calls a message costs, as Python's profiler counts them: what a timer tells differs from day to day."""

import cProfile
import gc
import itertools
import pstats
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final

import pytest

from persistence.engine import PoolSettings, create_engine
from tests.direct import Arrived, Direct

MANY: Final = 300
CALLS: Final = {"create_customer": 283.0, "mix": 298.0}
"""A message of a batch, from its decoding to its answer. Whoever makes it cheaper writes it down here."""
MAY_DIFFER: Final = 0.05
_INLINED: Final = frozenset({"<listcomp>", "<dictcomp>", "<setcomp>"})
"""No calls from Python 3.12 on."""

Make = Callable[[int], Sequence[Arrived]]


@pytest.fixture
async def direct(database_url: str) -> AsyncIterator[Direct]:
    """A pipeline on an empty database."""
    engine = create_engine(database_url, PoolSettings(size=1, max_overflow=0), "tests")
    yield Direct(engine)
    await engine.dispose()


def creation(direct: Direct) -> Arrived:
    """Make a command that creates a customer like no other."""
    payload = {"name": "Ada", "email": f"{uuid.uuid4().hex}@x.example", "preferences": {"theme": "dark"}}
    return direct.record("create_customer", payload, message_id=uuid.uuid4().hex)


async def everything(direct: Direct) -> Make:
    """Make customers and products, and what makes commands for them: of ten, four updates, three orders and so on."""
    made = await direct.decide(*(creation(direct) for _ in range(50)))
    customers = itertools.cycle(envelope["data"]["id"] for envelope, _, _ in made)
    names = [f"P{number}" for number in range(20)]
    await direct.decide(
        *(direct.record("create_product", {"mnemonic": one, "overview": ""}, message_id=one) for one in names)
    )
    products, numbers = itertools.cycle(names), itertools.count()

    def command(number: int) -> Arrived:
        match number % 10:
            case 0 | 1 | 2 | 3:
                kind, payload = "update_customer", {"customer_id": next(customers), "name": f"Name {number}"}
            case 4 | 5 | 6:
                line = {"mnemonic": next(products), "quantity": 1, "unit_price": "9.99", "attributes": {"size": 5}}
                kind, payload = "place_order", {"customer_id": next(customers), "lines": [line]}
            case 7 | 8:
                return creation(direct)
            case _:
                kind, payload = "update_product", {"mnemonic": next(products), "overview": f"O {number}"}
        return direct.record(kind, payload, message_id=uuid.uuid4().hex)

    return lambda many: [command(number) for number in itertools.islice(numbers, many)]


async def calls_a_message(direct: Direct, make: Make) -> float:
    """Decide two batches; count the calls of the second, for which all that is made once is there."""
    await direct.decide(*make(MANY))
    records = make(MANY)
    profile = cProfile.Profile()
    direct.replies.messages.clear()
    profile.enable()
    try:
        progress = await direct.pipeline(records, lambda: True)
    finally:
        profile.disable()
    assert len(direct.replies.messages) == MANY, f"it was cut short: {progress}"
    counted: dict[tuple[str, int, str], Sequence[Any]] = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    return float(sum(row[1] for (_, _, name), row in counted.items() if name not in _INLINED)) / MANY


async def test_a_batch_leaves_nothing_to_the_collector(direct: Direct) -> None:
    """What a batch made is gone with it: what is in a cycle stays until the collector looks for it, among all else."""
    make = await everything(direct)
    await direct.decide(*make(MANY))
    records = make(MANY)
    gc.collect()
    gc.disable()
    try:
        await direct.pipeline(records, lambda: True)
        assert gc.collect() < MANY / 10
    finally:
        gc.enable()


@pytest.mark.parametrize("what", CALLS)
async def test_a_message_costs_as_many_calls_as_are_written_down(direct: Direct, what: str) -> None:
    """No more by a twentieth, and no fewer: then it was made cheaper, and the next one who makes it dearer is found."""
    make = await everything(direct) if what == "mix" else lambda many: [creation(direct) for _ in range(many)]
    assert await calls_a_message(direct, make) == pytest.approx(CALLS[what], rel=MAY_DIFFER)
