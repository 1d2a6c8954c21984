"""Batches that are cut short: what was not answered is not acknowledged, and what is not ours is not begun."""

import time
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from persistence.engine import Engine, PoolSettings, connected, create_engine
from tests.direct import Arrived, Direct
from workers.pipeline.delivery import Admitted
from workers.pipeline.refusal import Refusal
from workers.ports import BrokerAwayError, Message, Undeliverable


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[Engine]:
    """Connections to an empty database."""
    made = create_engine(database_url, PoolSettings(size=2), "tests")
    yield made
    await made.dispose()


@pytest.fixture
def direct(engine: Engine) -> Direct:
    """A pipeline without a broker."""
    return Direct(engine)


def creation(direct: Direct) -> Arrived:
    """Make a record of a new customer."""
    payload = {"name": "N", "email": f"{uuid.uuid4().hex}@example.com"}
    return direct.record("create_customer", payload, message_id=uuid.uuid4().hex)


async def number_of_customers(engine: Engine) -> int:
    """Count what took effect."""
    async with connected(engine) as connection:
        return int(await connection.fetchval("select count(*) from customers"))


async def test_nothing_begins_after_a_revocation(direct: Direct, engine: Engine) -> None:
    """A batch whose partitions were taken away before its transaction has no effect, no reply and no offset."""
    progress = await direct.pipeline([creation(direct), creation(direct)], lambda: False)
    assert progress.decided == {}
    assert direct.replies.messages == []
    assert await number_of_customers(engine) == 0


async def test_no_offset_without_its_reply(direct: Direct, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the broker takes no replies, the effect stands and nothing is acknowledged; the next try sends them."""

    async def away(_: Sequence[Message]) -> list[Undeliverable]:
        raise BrokerAwayError

    records = [creation(direct), creation(direct)]
    with monkeypatch.context() as patched:
        patched.setattr(direct.replies, "publish", away)
        progress = await direct.pipeline(records, lambda: True)
    assert progress.decided == {}
    assert progress.retry_after_s is not None
    assert await number_of_customers(engine) == 2
    answers = await direct.decide(*records)
    assert [(envelope["statusCode"], replayed) for envelope, _, replayed in answers] == [(201, True)] * 2
    assert await number_of_customers(engine) == 2


async def test_no_reply_before_its_cache_keys_are_cleared(direct: Direct, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever reads after the reply finds no older value; a stored reply that is sent again waits for it, too."""
    product = {"mnemonic": "P_1", "overview": "x"}
    await direct.decide(direct.record("create_product", product, message_id="m1", version=2))
    direct.cleared.keys.clear()
    cleared_before: list[list[str]] = []
    publish = direct.replies.publish

    async def watched(messages: Sequence[Message]) -> list[Undeliverable]:
        cleared_before.append(list(direct.cleared.keys))
        direct.cleared.keys.clear()
        return await publish(messages)

    monkeypatch.setattr(direct.replies, "publish", watched)
    change = direct.record("update_product", {"mnemonic": "P_1", "overview": "y"}, message_id="m2")
    for replayed in (False, True):
        ((envelope, _, again),) = await direct.decide(change)
        assert (envelope["statusCode"], again) == (200, replayed)
    assert cleared_before[0] == cleared_before[1] != []


async def test_nobody_hears_that_nothing_was_done_of_what_was_applied(
    direct: Direct, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker stopped after its first look finds, before it answers, that another one has applied the command."""
    other, record = Direct(engine), creation(direct)
    record = replace(record, headers=[*record.headers, ("deadline", str(record.timestamp + 60_000).encode())])
    refuse = Refusal.refuse

    async def stopped_before(refusal: Refusal, *arguments: Any) -> list[Admitted]:  # noqa: ANN401
        monkeypatch.setattr(Refusal, "refuse", refuse)
        ((envelope, _, _),) = await other.decide(record)
        assert envelope["statusCode"] == 201
        return await refuse(refusal, *arguments)

    direct.pipeline.refusal = replace(direct.pipeline.refusal, clock=lambda: time.time() + 120)
    monkeypatch.setattr(Refusal, "refuse", stopped_before)
    ((envelope, _, replayed),) = await direct.decide(record)
    assert (envelope["statusCode"], replayed) == (201, True)
