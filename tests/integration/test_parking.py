"""Order behind a defect: what comes after a broken command of its key waits for it, where its kind asks for that."""

import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import orjson
import pytest

from handlers.commands import COMMANDS
from persistence import parked_commands
from persistence.engine import Engine, PoolSettings, connected, create_engine
from tests.direct import Arrived, Direct
from workers.outcome_purge import OutcomePurge
from workers.pipeline.delivery import Delivery
from workers.pipeline.parking import arrival_of
from workers.ports import Message

BREAK = "alter table customers add constraint broken check (name not like 'Poison%')"
MEND = "alter table customers drop constraint broken"
KINDS = frozenset({"create_customer", "update_customer"})
CUSTOMER = "0197c0de-0000-7000-8000-000000000001"


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[Engine]:
    """A pool on a database with a defect: whoever is named Poison… gets a 500."""
    engine = create_engine(database_url, PoolSettings(), "parking")
    await execute(engine, BREAK)
    yield engine
    await engine.dispose()


async def execute(engine: Engine, statement: str) -> None:
    """Run a statement."""
    async with connected(engine) as connection:
        await connection.execute(statement)


async def parked(engine: Engine) -> int:
    """Count what the queues hold."""
    async with connected(engine) as connection:
        return int(await connection.fetchval("select count(*) from parked_commands"))


def create(direct: Direct, key: bytes | None = b"k", **more: Any) -> Arrived:  # noqa: ANN401
    """Make the creation of a customer."""
    number = direct.offset + 1
    payload = {"name": "Ada", "email": f"e{number}@example.com", **more}
    return direct.record("create_customer", payload, message_id=f"m{number}", key=key)


def rename(direct: Direct, name: str, key: bytes | None = b"k") -> Arrived:
    """Make a change of the customer's name."""
    payload = {"customer_id": CUSTOMER, "name": name}
    return direct.record("update_customer", payload, message_id=f"m{direct.offset + 1}", key=key)


async def statuses(direct: Direct, *records: Arrived) -> list[int]:
    """Decide a batch; what each was answered."""
    return [envelope["statusCode"] for envelope, _, _ in await direct.decide(*records)]


async def fragile(command: Any, uow: Any, context: Any) -> Any:  # noqa: ANN401
    """Break on a name; else change the customer."""
    if command.name == "Poison":
        raise ArithmeticError
    return await COMMANDS["update_customer"](command, uow, context)


def reasons(letters: list[Message]) -> list[str]:
    """Say why letters were put aside."""
    return [(dict(letter.headers)["dlq.reason"] or b"").decode() for letter in letters]


async def test_what_follows_a_defect_waits_and_comes_back_in_order(engine: Engine) -> None:
    """Later commands of the key are parked, others go on; after the repair all are applied in their first order."""
    direct = Direct(engine, KINDS)
    direct.pipeline.use_cases = {**COMMANDS, "update_customer": fragile}
    assert await statuses(direct, create(direct, customer_id=CUSTOMER)) == [201]
    batch = [rename(direct, "Poison"), rename(direct, "Second"), create(direct, b"other"), create(direct, None)]
    (first, _, _), (second, _, _), *others = await direct.decide(*batch)
    assert (first["statusCode"], second["statusCode"]) == (500, 500)
    assert second["data"]["details"] == {"incident": first["data"]["details"]["incident"], "parked": True}
    assert [envelope["statusCode"] for envelope, _, _ in others] == [201, 201]
    assert await statuses(direct, rename(direct, "Third"), create(direct, b"other")) == [500, 201]
    letters = list(direct.letters.messages)
    assert reasons(letters) == ["INTERNAL_ERROR", "PARKED", "PARKED"]
    assert await parked(engine) == 3

    direct.pipeline.use_cases = COMMANDS
    await execute(engine, MEND)
    assert await statuses(direct, rename(direct, "Fourth")) == [500]
    letters = list(direct.letters.messages)
    assert await statuses(direct, *map(direct.replay, letters[:2])) == [200, 200]
    assert await statuses(direct, direct.replay(letters[2]), direct.replay(letters[3])) == [200, 200]
    assert await parked(engine) == 0
    async with connected(engine) as connection:
        assert await connection.fetchval("select (name, version)::text from customers where id = $1", CUSTOMER) == (
            "(Fourth,5)"
        )
    assert await statuses(direct, rename(direct, "Fifth")) == [200]
    assert len(direct.letters.messages) == 4


async def test_only_the_head_of_a_queue_is_let_through(engine: Engine) -> None:
    """What is brought back before its turn, or breaks again, waits again; what its caller sends anew waits as well."""
    direct = Direct(engine, KINDS)
    again = create(direct, name="Poison")
    assert await statuses(direct, again, create(direct)) == [500, 500]
    head, behind = direct.letters.messages
    assert await statuses(direct, direct.replay(behind)) == [500]
    assert await statuses(direct, direct.replay(head), direct.replay(behind)) == [500, 500]
    assert reasons(direct.letters.messages) == ["INTERNAL_ERROR", "PARKED", "PARKED", "INTERNAL_ERROR", "PARKED"]
    assert await parked(engine) == 2
    assert await statuses(direct, create(direct)) == [500]
    await execute(engine, MEND)
    assert await statuses(direct, *map(direct.replay, (head, behind, direct.letters.messages[-1]))) == [201] * 3
    assert await parked(engine) == 0


async def test_a_refused_replay_has_had_its_turn(engine: Engine) -> None:
    """A head whose outcome is stored by now, or that is refused when it comes back, holds nobody up any longer."""
    direct = Direct(engine, KINDS)
    assert await statuses(direct, create(direct, name="Poison"), create(direct)) == [500, 500]
    head, behind = direct.letters.messages
    await execute(engine, MEND)
    async with connected(engine) as connection:
        await connection.execute("update outcome_mark set stamped_before = now() - interval '1 day'")
        await connection.execute(
            "insert into outcomes (caller, message_id, kind, log_topic, log_partition, log_offset, stamped_at)"
            " values (E'\\ntester', 'm1', 'create_customer', 't', 0, 0, now())"
        )
    assert await statuses(direct, direct.replay(head), direct.replay(behind)) == [410, 201]
    assert await parked(engine) == 0


async def test_a_delivery_that_comes_again(engine: Engine) -> None:
    """After a crash before the offsets the same records are decided the same way, and nothing is queued twice."""
    direct = Direct(engine, KINDS)
    batch = [create(direct, name="Poison"), create(direct), create(direct, b"other")]
    assert await statuses(direct, *batch) == [500, 500, 201]
    assert await statuses(direct, *batch) == [500, 500, 201]
    assert await parked(engine) == 2


async def test_a_defect_that_passed_meanwhile(engine: Engine) -> None:
    """A head that is delivered again, and succeeds, frees its key within the same batch."""
    direct = Direct(engine, KINDS)
    batch = [create(direct, name="Poison"), create(direct)]
    assert await statuses(direct, *batch) == [500, 500]
    await execute(engine, MEND)
    assert await statuses(direct, *batch) == [201, 201]
    assert await parked(engine) == 0


async def test_nothing_is_parked_unless_asked_for(engine: Engine) -> None:
    """By default, and for kinds that are not named, a defect costs one message; nothing without a key is parked."""
    direct = Direct(engine)
    assert await statuses(direct, create(direct, name="Poison"), create(direct)) == [500, 201]
    direct = Direct(engine, frozenset({"update_customer"}))
    direct.offset = 10
    assert await statuses(direct, create(direct, name="Poison"), create(direct)) == [500, 201]
    direct = Direct(engine, KINDS)
    direct.offset = 20
    assert await statuses(direct, create(direct, None, name="Poison"), create(direct, None)) == [500, 201]
    assert await parked(engine) == 0


async def test_a_broken_command_that_comes_again_after_its_deadline_keeps_its_place(engine: Engine) -> None:
    """A redelivery that is too late by now waits on, and so does what follows; replays come in their order."""
    direct = Direct(engine, KINDS)
    batch = [create(direct, name="Poison", email="poison@example.com"), create(direct)]
    soon = str(batch[0].timestamp + 60_000).encode()
    batch[0] = replace(batch[0], headers=[*batch[0].headers, ("deadline", soon)])
    assert await statuses(direct, *batch) == [500, 500]
    head, behind = direct.letters.messages
    direct.pipeline.refusal = replace(direct.pipeline.refusal, clock=lambda: time.time() + 120)
    assert await statuses(direct, *batch) == [500, 500]
    assert await parked(engine) == 2
    await execute(engine, MEND)
    assert await statuses(direct, direct.replay(behind)) == [500]
    assert await statuses(direct, direct.replay(head), direct.replay(behind)) == [201, 201]
    assert await parked(engine) == 0


async def test_what_leaves_no_queue_is_not_acked(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A head that is done, in a batch that cannot look into the queues, comes again: its key would wait for ever."""
    direct = Direct(engine, KINDS)
    assert await statuses(direct, create(direct, name="Poison"), create(direct)) == [500, 500]
    head, behind = direct.letters.messages
    await execute(engine, MEND)

    async def away(*_: object) -> None:
        raise ConnectionResetError

    replay = direct.replay(head)
    with monkeypatch.context() as patched:
        patched.setattr(parked_commands, "settle", away)
        assert (await direct.pipeline([replay], lambda: True)).decided == {}
    with monkeypatch.context() as patched:
        patched.setattr(parked_commands, "load", away)
        assert (await direct.pipeline([replay], lambda: True)).decided == {}
    assert await statuses(direct, replay, direct.replay(behind)) == [201, 201]
    assert await parked(engine) == 0


async def test_a_discarded_head_that_comes_again_waits_for_nobody(engine: Engine) -> None:
    """What came before the head of its queue has nothing to wait for, and its end frees nobody else's place."""
    direct = Direct(engine, KINDS)
    batch = [create(direct, name="Poison"), create(direct)]
    assert await statuses(direct, *batch) == [500, 500]
    await execute(engine, "delete from parked_commands where log_offset = 1")
    await execute(engine, MEND)
    assert await statuses(direct, *batch) == [201, 201]
    assert await parked(engine) == 0


async def test_an_overtaken_worker_queues_nothing_that_is_applied(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that held a command for broken, and was stopped until another had applied it, enters it nowhere."""
    direct, other = Direct(engine, KINDS), Direct(engine, KINDS)
    batch = [create(direct, name="Poison"), create(direct)]
    settle = parked_commands.settle

    async def overtaken(*arguments: Any) -> None:  # noqa: ANN401
        monkeypatch.setattr(parked_commands, "settle", settle)
        await execute(engine, MEND)
        assert await statuses(other, *batch) == [201, 201]
        await settle(*arguments)

    monkeypatch.setattr(parked_commands, "settle", overtaken)
    await direct.pipeline(batch, lambda: True)
    assert await parked(engine) == 0


async def test_a_second_delivery_of_what_waits_waits_with_it(engine: Engine) -> None:
    """In one batch, too: it is parked, and is no defect of its own."""
    direct = Direct(engine, KINDS)
    assert await statuses(direct, create(direct, name="Poison")) == [500]
    first = create(direct)
    direct.offset += 1
    second = replace(first, offset=direct.offset)
    await direct.pipeline([first, second], lambda: True)
    assert reasons(direct.letters.messages) == ["INTERNAL_ERROR", "PARKED", "PARKED"]
    await execute(engine, MEND)
    for letter in list(direct.letters.messages):
        assert await statuses(direct, direct.replay(letter)) == [201]
    assert await parked(engine) == 0


@pytest.mark.parametrize("steps_ms", [(0, 0, 0), (0, -1, -2), (0, -60_000, 5), (0, 3, -3_600_000), (-5, 5, 0)])
async def test_a_queue_goes_by_the_log(engine: Engine, steps_ms: tuple[int, ...]) -> None:
    """Whatever the broker's clock said, as where a leader changed, replays in the log's order are let through.

    What arrived later in the log waits, with an earlier time, too.
    """
    direct = Direct(engine, KINDS)
    batch = [create(direct, name="Poison"), create(direct), create(direct)]
    batch = [replace(one, timestamp=one.timestamp + step) for one, step in zip(batch, steps_ms, strict=True)]
    assert await statuses(direct, *batch) == [500, 500, 500]
    letters = list(direct.letters.messages)
    await execute(engine, MEND)
    assert await statuses(direct, direct.replay(letters[2])) == [500]
    assert await statuses(direct, direct.replay(letters[1])) == [500]
    assert await statuses(direct, *map(direct.replay, letters)) == [201, 201, 201]
    assert await parked(engine) == 0


@dataclass
class Log:
    """The commands topic, as far as it is still there."""

    records: dict[int, Arrived] = field(default_factory=dict)
    asked: int = 0

    async def __call__(self, partition: int, offsets: Sequence[int]) -> Sequence[Arrived]:
        """Fetch records again."""
        assert partition == 0
        self.asked += 1
        return [self.records[one] for one in sorted(offsets) if one in self.records]

    def keep(self, *records: Arrived) -> None:
        """Remember what was delivered."""
        self.records |= {one.offset: one for one in records}


async def steady(direct: Direct, log: Log, names: Sequence[str], each: int = 1) -> list[int]:
    """Rename the customer, again and again, in batches; what the caller is answered at first."""
    found = []
    for start in range(0, len(names), each):
        records = [rename(direct, name) for name in names[start : start + each]]
        log.keep(*records)
        await direct.pipeline(records, lambda: True)
        answers = {dict(one.headers)["correlation_id"]: one.value for one in direct.replies.messages}
        found += [orjson.loads(answers[dict(one.headers)["correlation_id"]] or b"")["statusCode"] for one in records]
    return found


@pytest.fixture
async def queued(engine: Engine) -> tuple[Direct, Log]:
    """A customer whose first change met a defect, which is mended, and that five changes wait behind."""
    direct, log = Direct(engine, KINDS), Log()
    direct.pipeline.parking = replace(direct.pipeline.parking, recall=log)
    direct.pipeline.use_cases = {**COMMANDS, "update_customer": fragile}
    assert await statuses(direct, create(direct, customer_id=CUSTOMER)) == [201]
    assert await steady(direct, log, ["Poison", *"abcde"], 2) == [500] * 6
    direct.pipeline.use_cases = COMMANDS
    await execute(engine, MEND)
    assert await steady(direct, log, ["f"]) == [500]  # nobody brought the head back
    assert log.asked == 0
    return direct, log


async def customer(engine: Engine) -> str:
    """The customer's name and version."""
    async with connected(engine) as connection:
        return str(await connection.fetchval("select name || version from customers where id = $1", CUSTOMER))


@pytest.mark.parametrize("each", [1, 2, 3])
async def test_a_key_with_steady_traffic_is_unparked(engine: Engine, queued: tuple[Direct, Log], each: int) -> None:
    """The head brought back, the next command has those before it come back, in order, and nothing waits any more."""
    direct, log = queued
    assert await statuses(direct, direct.replay(direct.letters.messages[0])) == [200]
    letters = len(direct.letters.messages)
    assert await steady(direct, log, list("ghijkl"), each) == [200] * 6
    assert (await parked(engine), await customer(engine), len(direct.letters.messages)) == (0, "l14", letters)
    assert log.asked == 1
    answered = [orjson.loads(one.value or b"")["statusCode"] for one in direct.replies.messages]
    assert set(answered) == {200}
    replays = map(direct.replay, list(direct.letters.messages))
    assert await statuses(direct, *replays) == [200] * letters  # their letters are still there: what is stored is sent
    assert await customer(engine) == "l14"


async def test_one_that_breaks_on_its_way_back_is_the_new_head(engine: Engine, queued: tuple[Direct, Log]) -> None:
    """What comes before it is applied, what comes after it waits, and none comes back before an operator was there."""
    direct, log = queued
    assert await statuses(direct, direct.replay(direct.letters.messages[0])) == [200]

    async def fragile_c(command: Any, uow: Any, context: Any) -> Any:  # noqa: ANN401
        if command.name == "c":
            raise ArithmeticError
        return await COMMANDS["update_customer"](command, uow, context)

    direct.pipeline.use_cases = {**COMMANDS, "update_customer": fragile_c}
    assert await steady(direct, log, ["g", "h"]) == [500, 500]
    assert (await customer(engine), log.asked) == ("b4", 1)
    direct.pipeline.use_cases = COMMANDS
    letter = next(one for one in reversed(direct.letters.messages) if b'"name":"c"' in (one.value or b""))
    assert await statuses(direct, direct.replay(letter)) == [200]
    assert await steady(direct, log, ["i"]) == [200]
    assert (await parked(engine), await customer(engine)) == (0, "i11")


@pytest.mark.parametrize("lost", ["a", "c", "f", "everything", "the broker"])
async def test_what_the_log_has_no_longer_waits_for_an_operator(
    engine: Engine, queued: tuple[Direct, Log], lost: str
) -> None:
    """What stands before the gap comes back; the rest waits, is not asked for again and again, and keeps its order."""
    direct, log = queued
    assert await statuses(direct, direct.replay(direct.letters.messages[0])) == [200]
    if lost == "the broker":
        direct.pipeline.parking = replace(direct.pipeline.parking, recall=None)
    elif lost == "everything":
        log.records.clear()
    else:
        del log.records[
            next(at for at, one in log.records.items() if f'"name":"{lost}"'.encode() in (one.value or b""))
        ]
    assert await steady(direct, log, list("ghij")) == [500] * 4
    assert log.asked <= 3
    applied = "abcdef".index(lost) if len(lost) == 1 else 0
    assert await parked(engine) == 10 - applied
    waiting = sorted(direct.letters.messages, key=lambda one: int(dict(one.headers)["dlq.offset"] or b""))
    replays = list({dict(one.headers)["dlq.offset"]: direct.replay(one) for one in waiting}.values())
    assert set(await statuses(direct, *replays)) == {200}
    assert (await parked(engine), await customer(engine)) == (0, "j12")


async def test_a_deadline_that_passed_while_it_was_parked_is_dropped(
    engine: Engine, queued: tuple[Direct, Log]
) -> None:
    """As where an operator brings it back: whoever parked it knows that it comes late."""
    direct, log = queued
    for at, one in log.records.items():
        log.records[at] = replace(one, headers=[*one.headers, ("deadline", str(one.timestamp + 1).encode())])
    assert await statuses(direct, direct.replay(direct.letters.messages[0])) == [200]
    assert await steady(direct, log, ["g"]) == [200]
    assert (await parked(engine), await customer(engine)) == (0, "g9")


async def test_what_is_recalled_acks_nothing(engine: Engine, queued: tuple[Direct, Log]) -> None:
    """A batch's progress is that of its own records; where it is given back, nothing of the queue is lost."""
    direct, log = queued
    assert await statuses(direct, direct.replay(direct.letters.messages[0])) == [200]
    record = rename(direct, "g")
    assert (await direct.pipeline([record], lambda: False)).decided == {}
    assert await parked(engine) == 6
    progress = await direct.pipeline([record], lambda: True)
    assert progress.decided == {(record.topic, 0): record.offset + 1}
    assert (await parked(engine), await customer(engine), log.asked) == (0, "g9", 2)


async def test_a_long_queue_is_not_read_as_a_whole(engine: Engine) -> None:
    """Of thousands that wait a batch reads as many as it has messages; its own are found wherever they stand."""
    direct = Direct(engine, KINDS)
    assert await statuses(direct, create(direct, name="Poison")) == [500]
    last = create(direct)
    assert await statuses(direct, last) == [500]
    await execute(
        engine,
        "insert into parked_commands (log_topic, key_hmac, log_partition, log_offset, stamped_at, incident)"
        " select log_topic, key_hmac, log_partition, 0, stamped_at + make_interval(secs => i * 1e-6), incident"
        " from parked_commands, generate_series(1, 2000) i where log_offset = 1",
    )
    (key,) = {direct.pipeline.parking.key_of(Delivery(last))}
    own = {arrival_of(Delivery(last))}
    found = await parked_commands.load(engine, direct.pipeline.parking.topic, [key], own)
    assert len(found[key]) <= 3
    assert {one.arrival for one in found[key]} >= own


async def test_nobody_waits_for_what_has_no_letter_any_more(engine: Engine) -> None:
    """What was put aside longer ago than dead letters are kept cannot be brought back: its place is given up."""
    direct = Direct(engine, KINDS)
    assert await statuses(direct, create(direct, name="Poison"), create(direct)) == [500, 500]
    await execute(engine, "update parked_commands set parked_at = now() - interval '16 days' where log_offset = 1")
    await OutcomePurge(engine, timedelta(days=30), lambda: None, lambda _: None).once()
    assert await parked(engine) == 1


@pytest.mark.parametrize("restored", ["with its queue", "without"])
async def test_what_comes_again_after_a_restore_keeps_its_order(engine: Engine, restored: str) -> None:
    """Rewound offsets bring the records again: parked once more while the defect is there, in order once it is not."""
    direct = Direct(engine, KINDS)
    direct.pipeline.use_cases = {**COMMANDS, "update_customer": fragile}
    assert await statuses(direct, create(direct, customer_id=CUSTOMER)) == [201]
    records = [rename(direct, name) for name in ("Poison", "Second", "Third")]
    assert await statuses(direct, *records) == [500, 500, 500]
    if restored == "without":
        await execute(engine, "delete from parked_commands")
    assert await statuses(direct, *records) == [500, 500, 500]
    assert await parked(engine) == 3
    direct.pipeline.use_cases = COMMANDS
    assert await statuses(direct, *records) == [200, 200, 200]
    assert await parked(engine) == 0
    again = [direct.replay(letter) for letter in direct.letters.messages]
    assert await statuses(direct, *again) == [200, 200, 200] * 2
    async with connected(engine) as connection:
        assert await connection.fetchval("select name from customers") == "Third"
