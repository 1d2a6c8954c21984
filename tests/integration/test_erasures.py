"""What spoke of a deleted customer is erased: at once as it is shown, chunk by chunk as it is stored."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Any, Final

import asyncpg
import pytest

from persistence import erasures
from persistence.engine import Engine, PoolSettings, connected, create_engine
from persistence.erasures import ERASED_AT_ONCE
from persistence.outcomes import OutcomeTable, look_up
from tests.direct import Direct
from workers.outcome_erasure import OutcomeErasure

MANY: Final = 2 * ERASED_AT_ONCE + 100
CALLER: Final = "\ntester"


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[Engine]:
    """A pool on an empty, migrated database."""
    made = create_engine(database_url, PoolSettings(size=4, max_overflow=4), "tests")
    yield made
    await made.dispose()


@pytest.fixture
def direct(engine: Engine) -> Direct:
    """A command pipeline."""
    return Direct(engine)


async def sql(engine: Engine, statement: str, *args: object) -> Any:  # noqa: ANN401 - rows
    """Run a statement."""
    async with connected(engine) as connection:
        return await connection.fetch(statement, *args)


async def speak(engine: Engine, name: str, number: int, *subjects: str) -> None:
    """Store outcomes that speak of customers, as if they had come with commands before."""
    await sql(
        engine,
        """
        insert into outcomes (caller, message_id, kind, content_hmac, envelope, subjects, log_topic, log_partition,
          log_offset, stamped_at)
        select $1, $2 || n, 'update_customer', 'h', '{"secret": 1}', $3::uuid[], 't.commands', 0, n, now()
        from generate_series(1, $4::int) as n""",
        CALLER,
        name,
        list(subjects),
        number,
    )


async def unerased(engine: Engine) -> int:
    """Count the outcomes that still hold something, but for those of deletions and of strangers."""
    rows = await sql(engine, "select count(*) from outcomes where envelope is not null and kind = 'update_customer'")
    return int(rows[0][0])


async def pending(engine: Engine) -> int:
    """Count the customers whose outcomes are still being erased."""
    return int((await sql(engine, "select count(*) from outcome_erasures"))[0][0])


async def customer(direct: Direct, message_id: str) -> str:
    """Create a customer; returns its id."""
    ((made, _, _),) = await direct.decide(
        direct.record(
            "create_customer", {"name": "Secret", "email": f"{uuid.uuid4().hex}@example.com"}, message_id=message_id
        )
    )
    return str(made["data"]["id"])


async def delete(direct: Direct, *customers: str) -> None:
    """Delete customers in one batch."""
    records = [direct.record("delete_customer", {"customer_id": one}, message_id=f"delete {one}") for one in customers]
    assert [envelope["statusCode"] for envelope, _, _ in await direct.decide(*records)] == [200] * len(customers)


async def soon(_: float) -> None:
    """Pause for nothing."""
    await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("first", "second", "both"),
    [(MANY, 0, 0), (0, MANY, 0), (0, 0, MANY), (MANY, 7, 3), (ERASED_AT_ONCE, 0, 0), (5, 5, 5)],
    ids=["alone", "as holder", "two of them", "mixed", "just at once", "few"],
)
async def test_from_the_commit_on_nothing_is_shown(
    engine: Engine, direct: Direct, first: int, second: int, both: int
) -> None:
    """However many outcomes there are and in whatever place they name the customer: not looked up, not asked for."""
    one, other = await customer(direct, "c1"), await customer(direct, "c2")
    await speak(engine, "first ", first, one)
    await speak(engine, "second ", second, other, one)
    await speak(engine, "both ", both, one, other)
    await speak(engine, "else ", 10, other)
    spoken = {"first": first, "second": second, "both": both}
    names = [f"{name} {n}" for name, number in spoken.items() if number for n in {1, number}]

    await delete(direct, one)

    left = await unerased(engine) - 10
    assert left <= max(0, first + second + both + 1 - ERASED_AT_ONCE)  # its creation is one of them
    assert await pending(engine) == (left > 0)
    keys = [(CALLER, name) for name in (*names, "c1")]
    known = (await look_up(engine, keys)).known
    assert {(one.envelope, one.content_hmac) for one in known.values()} == {(None, None)}
    assert len(known) == len(set(keys))
    shown = await OutcomeTable(engine).get_many([*keys, (CALLER, "else 1"), (CALLER, "c2")])
    assert [key[1] for key, outcome in shown.items() if outcome.envelope is not None] == ["else 1", "c2"]

    assert left <= await OutcomeErasure(engine, soon).once() <= left + 1
    assert (await unerased(engine), await pending(engine)) == (10, 0)


async def test_a_message_that_comes_again_meanwhile_gets_410(engine: Engine, direct: Direct) -> None:
    """With the same content and with other: before its outcome is erased and after; that of the deletion stays."""
    payload = {"name": "Secret", "email": "secret@example.com"}
    ((made, _, _),) = await direct.decide(direct.record("create_customer", payload, message_id="z"))
    one = made["data"]["id"]
    await speak(engine, "a", MANY, one)
    await delete(direct, one)
    await sql(  # the one that nobody has come to yet
        engine,
        "update outcomes set envelope = 'e', content_hmac = 'h' where message_id = 'z'",
    )
    for _ in range(2):
        answers = await direct.decide(
            direct.record("create_customer", payload, message_id="z"),
            direct.record("create_customer", payload | {"name": "Else"}, message_id="z"),
            direct.record("delete_customer", {"customer_id": one}, message_id=f"delete {one}"),
        )
        assert [envelope["statusCode"] for envelope, _, _ in answers] == [410, 410, 200]
        assert b"secret" not in b"".join(body for _, body, _ in answers).lower()
        await OutcomeErasure(engine, soon).once()
    assert await unerased(engine) == 0


async def test_a_deletion_takes_as_many_statements_for_many_outcomes(engine: Engine, direct: Direct) -> None:
    """What it erases itself is bounded; several customers in one batch share the bound."""
    customers = [await customer(direct, f"c{number}") for number in range(3)]
    for number, one in enumerate(customers):
        await speak(engine, f"{number} ", ERASED_AT_ONCE, one)
    await delete(direct, *customers)
    left = await unerased(engine)
    assert 2 * ERASED_AT_ONCE <= left <= 2 * ERASED_AT_ONCE + len(customers)
    assert await pending(engine) >= 2
    assert await OutcomeErasure(engine, soon).once() >= left
    assert (await unerased(engine), await pending(engine)) == (0, 0)


async def test_whoever_dies_in_a_chunk_leaves_it_to_others(engine: Engine, direct: Direct, database_url: str) -> None:
    """Several at once share the customers; what one of them holds is left alone, and taken when it is gone."""
    customers = [await customer(direct, f"c{number}") for number in range(2)]
    for number, one in enumerate(customers):
        await speak(engine, f"{number} ", MANY, one)
    await delete(direct, *customers)
    left = await unerased(engine)
    dying = await asyncpg.connect(database_url)
    try:
        await dying.execute("begin")
        taken = await dying.fetchrow(erasures._ERASE_SOME, ERASED_AT_ONCE)
        assert taken is not None
        assert taken["erased"] == ERASED_AT_ONCE
        both = await asyncio.gather(*(OutcomeErasure(engine, soon).once() for _ in range(2)))
        assert 0 < sum(both) < left
        assert await pending(engine) == 1
    finally:
        await dying.close()  # without a commit
    assert sum(both) + await OutcomeErasure(engine, soon).once() == left
    assert (await unerased(engine), await pending(engine)) == (0, 0)


async def test_a_locked_outcome_is_neither_waited_for_nor_forgotten(
    engine: Engine, direct: Direct, database_url: str
) -> None:
    """A purge, say, has it; the customer stays written down until it is erased or gone."""
    one = await customer(direct, "c")
    await speak(engine, "n", MANY, one)
    await delete(direct, one)
    session = await asyncpg.connect(database_url)
    try:
        await session.execute(
            "begin; select from outcomes where ctid = (select ctid from outcomes where envelope is not null"
            " and kind = 'update_customer' limit 1) for update"
        )
        await OutcomeErasure(engine, soon).once()
        assert (await unerased(engine), await pending(engine)) == (1, 1)
    finally:
        await session.close()
    assert await OutcomeErasure(engine, soon).once() == 1
    assert await pending(engine) == 0


async def test_what_is_to_be_erased_is_found_by_its_indexes(engine: Engine, direct: Direct) -> None:
    """Neither a deletion nor a chunk reads the outcomes of others."""
    await speak(engine, "n", 20_000, str(uuid.uuid4()))
    await sql(engine, "analyze outcomes")
    for statement, args in (
        (erasures._ERASE, ([str(uuid.uuid4())], 100)),
        (erasures._ERASE_SOME, (100,)),
        (erasures._WRITE_DOWN, ([str(uuid.uuid4())],)),
    ):
        plan = "\n".join(row[0] for row in await sql(engine, f"explain {statement}", *args))
        assert "Seq Scan on outcomes" not in plan, plan
        assert "outcomes_first_spoken_of" in plan, plan
        assert "outcomes_second_spoken_of" in plan, plan
