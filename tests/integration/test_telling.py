"""What headers, metrics and log lines tell of an answer: the same for a stored one as for the first."""

from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
from structlog.testing import capture_logs

from persistence.engine import Engine, PoolSettings, connected, create_engine
from tests.direct import Direct


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[Engine]:
    """A pool of the test's own."""
    pool = create_engine(database_url, PoolSettings(), "telling")
    yield pool
    await pool.dispose()


@pytest.fixture
def direct(engine: Engine) -> Direct:
    """A pipeline whose successes are all logged."""
    return Direct(engine, successes_per_s=1_000)


def ended(lines: list[Any]) -> list[Any]:
    """Give the lines of outcomes."""
    return [line for line in lines if str(line["event"]).startswith("message_")]


async def test_a_stored_answer_of_a_deprecated_version_says_so(direct: Direct) -> None:
    """Its reply has the headers `deprecation` and `sunset`: replayed later, and as the second of its id in a batch."""
    payload = {"mnemonic": "OLD", "overview": "o"}
    same = [direct.record("create_product", payload, message_id="m", version=1) for _ in range(3)]
    for batch in (same[:2], same[2:]):
        await direct.decide(*batch)
        for message in direct.replies.messages:
            headers = dict(message.headers)
            assert (headers["deprecation"], headers["sunset"]) == (b"2024-06-01", b"2024-12-01"), headers


async def test_a_stored_failure_is_told_as_the_failure_that_it_is(direct: Direct) -> None:
    """A replayed 404 is counted and logged as 404 with its code, as it was the first time."""
    missing = {"customer_id": "01890000-0000-7000-8000-000000000000", "name": "Ada"}
    for kind in ("applied", "repeated"):
        with capture_logs() as lines:
            await direct.decide(direct.record("update_customer", missing, message_id="m"))
        (line,) = ended(lines)
        assert line["event"] == "message_" + kind
        assert (line["status_code"], line["error_code"]) == (404, "CUSTOMER_NOT_FOUND"), line
        counted = direct.metrics.ended.labels("update_customer", kind, "404")
        assert counted._value.get() == 1


async def test_a_success_names_what_was_made(direct: Direct) -> None:
    """The line of a creation has the id of what exists since; it repeats nothing of a person."""
    with capture_logs() as lines:
        ((customer, _, _),) = await direct.decide(
            direct.record("create_customer", {"name": "Ada", "email": "ada@example.com"}, message_id="a")
        )
        order = {"customer_id": customer["data"]["id"], "lines": [{"mnemonic": "P", "quantity": 1, "unit_price": "1"}]}
        product, version = {"mnemonic": "P", "overview": "o"}, {"start_date": "2024-01-01", "items": []}
        made = [
            (await direct.decide(direct.record(kind, payload, message_id=kind)))[0][0]["data"]
            for kind, payload in (
                ("create_product", product),
                ("add_product_version", {"mnemonic": "P", "version_label": "v1", **version}),
                ("place_order", order),
            )
        ]
    told = ended(lines)
    assert told[0]["entity_id"] == customer["data"]["id"]
    assert (told[1]["entity_id"], told[1]["mnemonic"]) == (made[0]["id"], "P")
    assert told[2]["version_label"] == "v1"
    assert (told[3]["entity_id"], told[3]["customer_id"]) == (made[2]["id"], customer["data"]["id"])
    assert b"example.com" not in orjson.dumps(lines, default=str)


async def test_a_failed_database_operation_says_that_it_failed(direct: Direct, engine: Engine) -> None:
    """Its line has `ok`, the error and its SQLSTATE; that of one that went well has `ok` alone."""
    async with connected(engine) as connection:
        await connection.execute("alter table customers add constraint broken check (name <> 'Refused')")
    with capture_logs() as lines:
        await direct.decide(
            direct.record("create_customer", {"name": "Refused", "email": "r@example.com"}, message_id="m")
        )
    (failed,) = [line for line in lines if line["event"] == "db_flush"]
    assert (failed["ok"], failed["sqlstate"], failed["log_level"]) == (False, "23514", "warning"), failed
    (looked_up,) = [line for line in lines if line["event"] == "db_look_up"]
    assert looked_up["ok"] is True
    assert "error" not in looked_up


@pytest.mark.parametrize("version", ["1.0", "1e0", "10e-1", "1", "0.1e1"])
async def test_a_version_counts_by_its_value(direct: Direct, version: str) -> None:
    """However 1 is written it is version 1, and the same content as where it is absent."""
    payload = {"name": "Ada", "email": f"{version}@example.com"}
    plain = direct.record("create_customer", payload, message_id="m")
    body = f'{{"kind":"create_customer","version":{version},"payload":{orjson.dumps(payload).decode()}}}'.encode()
    first, second = await direct.decide(plain, direct.record_of(body, message_id="m"))
    assert (first[0]["statusCode"], second[2]) == (201, True)
