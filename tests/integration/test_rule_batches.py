"""Rules in the pipeline: read before the transaction, bounded in time; what takes too long is refused, not stored."""

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest

from handlers.commands import orders
from handlers.product import Rule
from handlers.rules import Spending
from handlers.rules import book as book_module
from handlers.rules.compiling import CompiledRule, compile_rules
from persistence import unit_of_work
from persistence.engine import Engine, PoolSettings, create_engine
from tests.direct import Arrived, Direct
from workers.pipeline import commands as commands_module


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[Engine]:
    """A pool on the test's database."""
    engine = create_engine(database_url, PoolSettings(), "tests")
    yield engine
    await engine.dispose()


CUSTOMER = "0197b4de-0000-7000-8000-000000000001"


def product(direct: Direct, mnemonic: str) -> Arrived:
    """Make a product."""
    return direct.record(
        "create_product", {"mnemonic": mnemonic, "overview": ""}, message_id=f"p {mnemonic}", version=2
    )


def setting(direct: Direct, mnemonic: str, parameters: object = True, message_id: str = "") -> Arrived:
    """Set a rule of a product."""
    schema = {"required": ["a"]} if parameters is True else parameters
    rule = {"name": f"rule of {mnemonic}", "parameters": schema, "start_date": "2020-01-01"}
    payload = {"mnemonic": mnemonic, "rules": [rule]}
    return direct.record("set_validation_rules", payload, message_id=message_id or f"r {mnemonic}")


def order(direct: Direct, mnemonic: str, message_id: str) -> Arrived:
    """Order a product."""
    line = {"mnemonic": mnemonic, "quantity": 1, "unit_price": "1", "attributes": {"a": 1}}
    return direct.record("place_order", {"customer_id": CUSTOMER, "lines": [line]}, message_id=message_id)


async def stocked(engine: Engine, *mnemonics: str) -> Direct:
    """Make a customer and products."""
    direct = Direct(engine)
    customer = {"name": "C", "email": "c@example.com", "customer_id": CUSTOMER}
    await direct.decide(direct.record("create_customer", customer, message_id="c"))
    await direct.decide(*(product(direct, mnemonic) for mnemonic in mnemonics))
    return direct


async def test_an_order_whose_rules_take_too_long(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is refused with the rule's name, and not stored: the same message passes when it comes again."""
    direct = await stocked(engine, "A")
    await direct.decide(setting(direct, "A"))
    with monkeypatch.context() as patched:
        patched.setattr(orders, "Spending", partial(Spending, evaluating_s=0.0))
        refused = await direct.decide(order(direct, "A", "slow"), order(direct, "A", "slow too"))
    for envelope, _, _ in refused:
        assert (envelope["statusCode"], envelope["data"]["error_code"]) == (422, "BUSINESS_RULE_ERROR")
        assert envelope["data"]["details"]["rule"] == "rule of A"
        assert "in time" in envelope["message"]
    ((placed, _, was_replay),) = await direct.decide(order(direct, "A", "slow"))
    assert (placed["statusCode"], was_replay) == (201, False)


async def test_rules_are_read_before_the_transaction(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is set is read and counted while no transaction is open, once; good and bad rules alike."""
    direct = await stocked(engine, "A", "B")
    seen: list[str] = []
    begin: Callable[..., Any] = unit_of_work.begin

    @asynccontextmanager
    async def watched(*arguments: object, **named: object) -> AsyncIterator[object]:
        seen.append("begin")
        async with begin(*arguments, **named) as uow:
            yield uow
        seen.append("end")

    def reading(rules: Sequence[Rule]) -> Iterator[CompiledRule | None]:
        seen.extend(rule.name for rule in rules)
        return compile_rules(rules)

    monkeypatch.setattr(unit_of_work, "begin", watched)
    monkeypatch.setattr(book_module, "compile_rules", reading)
    bad = {"properties": {"a": {"pattern": "(?=x)"}}}
    answers = await direct.decide(setting(direct, "A"), setting(direct, "B", bad))
    assert [envelope["statusCode"] for envelope, _, _ in answers] == [200, 422]
    assert seen == ["rule of A", "rule of B", "begin", "end"]


async def test_what_is_prepared_at_once_is_bounded(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch of many rules is decided as far as they were read in time; the others come again."""
    direct = await stocked(engine, "A", "B", "C")
    monkeypatch.setattr(commands_module, "PREPARE_S", 0.0)
    records = [setting(direct, mnemonic) for mnemonic in ("A", "B", "C")]
    answered = []
    while records:
        direct.replies.messages.clear()
        progress = await direct.pipeline(records, lambda: True)
        assert len(direct.replies.messages) == 1
        answered += [dict(message.headers)["correlation_id"] for message in direct.replies.messages]
        records = records[1:]
        assert progress.retry_after_s == (0 if records else None)
    assert len(set(answered)) == 3
