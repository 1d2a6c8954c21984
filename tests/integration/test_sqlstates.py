"""What the pipeline makes of each SQLSTATE, raised on a real database: wait, decide again, halve, or blame."""

import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import orjson
import pytest

from persistence.engine import Engine, PoolSettings, connected, create_engine
from persistence.faults import SQLSTATES, Fault
from tests.direct import Arrived, Direct
from workers.pipeline.blame import Attempt

MANY_ROUNDS: Final = 30
"""So often a batch is given back and comes again, at most."""
WAITS: Final = ("53300", "25006", "42P05", "57P03", "08006", "55000")
DECIDES_AGAIN: Final = ("40001", "40P01", "55P03", "23505", "23P01")
SCHEMA_MOVED: Final = ("42703", "42P01", "0A000", "42883", "42P10")
TOO_SLOW: Final = ("25P03", "25P04", "57014", "53200", "54000", "XX000")
DEFECTS: Final = ("22003", "23514", "P0001", "21000", "42601")

_RAISE: Final = """
create or replace function trouble() returns trigger language plpgsql as $$
begin
  if {condition} then raise exception 'trouble' using errcode = '{code}'; end if;
  return null;
end $$"""


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[Engine]:
    """Connections to an empty database, and a count of failures that no roll-back takes back."""
    made = create_engine(database_url, PoolSettings(size=2), "tests")
    await run(made, "create sequence failures")
    yield made
    await made.dispose()


async def run(engine: Engine, *statements: str) -> None:
    """Change the database."""
    async with connected(engine) as connection:
        for statement in statements:
            await connection.execute(statement)


async def trouble(engine: Engine, code: str, condition: str = "true") -> None:
    """Have each insert of customers fail so, as long as the condition holds of the rows in `fresh`."""
    await run(
        engine,
        _RAISE.format(condition=condition, code=code),
        "create or replace trigger trouble after insert on customers referencing new table as fresh"
        " for each statement execute function trouble()",
        "alter sequence failures restart",
    )


async def peace(engine: Engine) -> None:
    """End it."""
    await run(engine, "drop trigger trouble on customers")


CULPRIT: Final = "exists (select from fresh where name = 'Culprit')"


def creations(direct: Direct, count: int = 8, culprit: int | None = None) -> list[Arrived]:
    """Make new customers in two partitions, one of them perhaps the culprit."""
    records = []
    for number in range(count):
        name = "Culprit" if number == culprit else "N"
        payload = {"name": name, "email": f"{uuid.uuid4().hex}@example.com"}
        record = direct.record("create_customer", payload, message_id=uuid.uuid4().hex)
        records.append(replace(record, partition=number % 2))
    return records


async def deliver(direct: Direct, records: Sequence[Arrived], rounds: int = MANY_ROUNDS) -> list[Arrived]:
    """Hand records over, again what is given back, as the edge does; returns what is undecided after so many rounds."""
    left = list(records)
    for _ in range(rounds):
        progress = await direct.pipeline(left, lambda: True)
        left = [one for one in left if one.offset >= progress.decided.get((one.topic, one.partition), 0)]
        if not left:
            assert progress.retry_after_s is None
            break
    return left


def answers(direct: Direct, records: Sequence[Arrived]) -> list[int]:
    """Tell the status codes of the records' replies, each of which has one."""
    codes: dict[str, int] = {}
    for message in direct.replies.messages:
        correlation_id = _header(message.headers, "correlation_id")
        assert correlation_id not in codes, "answered twice"
        codes[correlation_id] = orjson.loads(message.value or b"")["statusCode"]
    return [codes[_header(record.headers, "correlation_id")] for record in records]


def _header(headers: Any, name: str) -> str:  # noqa: ANN401
    return (dict(headers)[name] or b"").decode()


def test_each_word_is_tried() -> None:
    """What is raised here are codes of the five words of the table."""
    tried: Mapping[Fault, Sequence[str]] = {
        Fault.TRANSIENT: WAITS,
        Fault.CONFLICT: DECIDES_AGAIN,
        Fault.SCHEMA_MOVED: SCHEMA_MOVED,
        Fault.TOO_SLOW: TOO_SLOW,
        Fault.DEFECT: DEFECTS,
    }
    for fault, codes in tried.items():
        named = SQLSTATES[fault].split()
        assert len(codes) >= 5
        assert all(code in named or code[:2] in named for code in codes), fault


@pytest.mark.parametrize("codes", [WAITS, SCHEMA_MOVED], ids=["waits", "schema_moved"])
async def test_what_no_message_can_help_is_waited_for(engine: Engine, codes: Sequence[str]) -> None:
    """Nothing is decided, answered or put aside, however often it is tried; then all of it goes through."""
    for code in codes:
        direct = Direct(engine)
        records = creations(direct)
        await trouble(engine, code, CULPRIT.replace("Culprit", "N"))
        assert await deliver(direct, records, rounds=12) == records, code
        assert direct.replies.messages == direct.letters.messages == []
        await peace(engine)
        assert await deliver(direct, records) == []
        assert answers(direct, records) == [201] * len(records), code
        assert direct.letters.messages == []


@pytest.mark.parametrize("times", [2, 5])
async def test_a_lost_race_is_decided_again(engine: Engine, times: int) -> None:
    """What lost a race is decided again at once, by itself where it lost several; nobody is told."""
    for code in DECIDES_AGAIN:
        direct = Direct(engine)
        records = creations(direct)
        await trouble(engine, code, f"nextval('failures') <= {times}")
        assert await deliver(direct, records, rounds=1) == [], code
        assert answers(direct, records) == [201] * len(records), code
        assert direct.letters.messages == []


async def test_what_is_too_much_at_once_is_halved(engine: Engine) -> None:
    """As long as many rows are too many, fewer are written at once, and the next batch begins with as few."""
    for code in TOO_SLOW:
        direct = Direct(engine)
        records = creations(direct, 24)
        await trouble(engine, code, "(select count(*) from fresh) > 3 and nextval('failures') > 0")
        assert await deliver(direct, records, rounds=1) == [], code
        assert answers(direct, records) == [201] * len(records), code
        assert direct.letters.messages == []
        async with connected(engine) as connection:
            first = await connection.fetchval("select last_value from failures")
            again = creations(direct, 24)
            assert await deliver(direct, again, rounds=1) == []
            assert await connection.fetchval("select last_value from failures") - first < first, code


@pytest.mark.parametrize("codes", [TOO_SLOW, DEFECTS], ids=["too_slow", "defect"])
async def test_a_message_that_fails_by_itself_is_put_aside(engine: Engine, codes: Sequence[str]) -> None:
    """The culprit alone gets 500 and a dead letter, in few attempts; the others succeed, before and behind it."""
    for code in codes:
        direct = Direct(engine)
        records = creations(direct, 8, culprit=3)
        await trouble(engine, code, CULPRIT)
        assert await deliver(direct, records, rounds=4) == [], code
        assert answers(direct, records) == [201, 201, 201, 500, 201, 201, 201, 201], code
        (letter,) = direct.letters.messages
        assert dict(letter.headers)["dlq.reason"] == b"INTERNAL_ERROR"


async def test_what_waits_holds_up_its_own_partition_alone(engine: Engine) -> None:
    """While it is not certain who is to blame, the other partitions go on, and are answered."""
    direct = Direct(engine)
    records = creations(direct, 8, culprit=0)
    await trouble(engine, "57014", CULPRIT)
    left = await deliver(direct, records, rounds=1)
    assert left == records[::2]
    assert answers(direct, records[1::2]) == [201] * 4
    assert await deliver(direct, left) == []
    assert answers(direct, records) == [500, *[201] * 7]


async def test_a_write_that_is_refused_for_ever_is_a_defect(engine: Engine) -> None:
    """A constraint that a lone message meets again and again, while others are written, is no race."""
    for code in ("23505", "23503", "23P01"):
        direct = Direct(engine)
        records = creations(direct, 4, culprit=1)
        await trouble(engine, code, CULPRIT)
        assert await deliver(direct, records) == [], code
        assert answers(direct, records) == [201, 500, 201, 201], code


async def test_a_lock_that_others_hold_is_no_defect(engine: Engine) -> None:
    """A race that is lost for ever is never an answer: the message waits, the other partition goes on."""
    for code in ("40001", "40P01", "55P03"):
        direct = Direct(engine)
        records = creations(direct, 4, culprit=0)
        await trouble(engine, code, CULPRIT)
        assert await deliver(direct, records, rounds=2) == records[::2], code
        assert direct.letters.messages == []
        await peace(engine)
        assert await deliver(direct, records[::2]) == []
        assert answers(direct, records) == [201] * 4


async def test_a_slow_database_is_an_outage(engine: Engine) -> None:
    """Where one row takes long to write as well, nobody is to blame; once that has passed, the culprit is."""
    direct = Direct(engine)
    for _ in range(4):
        await direct.decide(creations(direct, 1)[0])
    direct.replies.messages.clear()
    record = creations(direct, 1, culprit=0)
    await trouble(engine, "57014", CULPRIT)
    await run(
        engine,
        "create function slow() returns trigger language plpgsql as $$ begin perform pg_sleep(1); return null; end $$",
        "create trigger slow after insert on outcomes for each statement execute function slow()",
    )
    assert await deliver(direct, record, rounds=4) == record
    assert direct.replies.messages == direct.letters.messages == []
    await run(engine, "drop trigger slow on outcomes")
    assert await deliver(direct, record) == []
    assert answers(direct, record) == [500]


async def test_the_store_is_asked_before_a_message_is_blamed(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """What another worker has applied meanwhile is answered with its outcome, not with 500."""
    direct, other = Direct(engine), Direct(engine)
    record = creations(direct, 1, culprit=0)
    await trouble(engine, "57014", CULPRIT)
    assert await deliver(direct, record, rounds=1) == record
    culprit = direct.pipeline.blame.culprit

    async def meanwhile(*arguments: Any) -> object:  # noqa: ANN401
        await peace(engine)
        await other.decide(*record)
        return await culprit(*arguments)

    monkeypatch.setattr(direct.pipeline.blame, "culprit", meanwhile)
    assert await deliver(direct, record, rounds=1) == []
    assert answers(direct, record) == [201]
    assert direct.letters.messages == []


async def test_a_stopped_worker_blames_nobody(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that stood still within its transactions tries again, as often as that happens, and nobody fails."""
    end = Attempt.__exit__

    def stopped(attempt: Attempt, *raised: Any) -> None:  # noqa: ANN401
        end(attempt, *raised)
        attempt.stood_still = True

    monkeypatch.setattr(Attempt, "__exit__", stopped)
    for code in ("25P03", "25P04", "57014"):
        direct = Direct(engine)
        records = creations(direct, 2)
        await trouble(engine, code, "nextval('failures') <= 6")
        assert await deliver(direct, records) == [], code
        assert answers(direct, records) == [201, 201]
        assert direct.letters.messages == []
