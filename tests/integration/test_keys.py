"""Keys that all workers share: a strange one is refused, and an exchange is a rolling restart that nobody notices."""

import asyncio
import json
import socket
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import pytest

from persistence.engine import Engine, PoolSettings, connected, create_engine
from persistence.key_fingerprints import KeyPair, as_heartbeat, exchange, recorded, strange_keys, workers_without
from persistence.phases import beat
from tests.command_line import OPERATOR_KEY, catalog
from tests.direct import Direct
from tests.integration.test_parking import BREAK, KINDS, MEND, create, execute, parked, statuses
from tests.system import SECRET, System, WorkerProcess
from workers.pipeline.replays import Replay, Replays
from workers.pipeline.signature import SIGNATURE, Header, sign

A, B, C = (letter * 32 for letter in (b"a", b"b", b"c"))
NAME = "OUTCOME_HMAC_KEY"


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[Engine]:
    """A pool on the test's database."""
    made = create_engine(database_url, PoolSettings(), "tests")
    yield made
    await made.dispose()


@pytest.mark.parametrize(
    ("first", "previous", "is_strange"),
    [(A, None, False), (A, B, False), (B, A, False), (B, None, True), (B, C, True), (A + b" ", None, True)],
)
async def test_only_the_recorded_key_is_let_in(
    engine: Engine, first: bytes, previous: bytes | None, is_strange: bool
) -> None:
    """The first worker's key is recorded; then only those start that have it, as their first or as their second."""
    async with connected(engine) as connection:
        assert await strange_keys(connection, [KeyPair(NAME, A)]) == []
        assert await strange_keys(connection, [KeyPair(NAME, first, previous)]) == ([NAME] if is_strange else [])
        assert (await recorded(connection))[NAME].fingerprint == KeyPair(NAME, A).fingerprints[0], "nothing changed"


@pytest.mark.parametrize(
    ("others", "is_exchanged"),
    [
        ([KeyPair(NAME, B, A)], True),
        ([KeyPair(NAME, B, A), KeyPair(NAME, A, B)], False),
        ([KeyPair(NAME, A)], False),
        ([KeyPair("DLQ_SIGNING_KEY", A)], True),
        ([None], False),
        ([], True),
    ],
)
async def test_the_new_key_is_recorded_when_no_live_worker_goes_by_the_old(
    engine: Engine, others: Sequence[KeyPair | None], is_exchanged: bool
) -> None:
    """Whoever may go by the old key still, a worker of the release before among them, holds the exchange up."""
    mine = KeyPair(NAME, B, A)
    async with connected(engine) as connection:
        await strange_keys(connection, [KeyPair(NAME, A)])
        for number, other in enumerate(others):
            await beat(connection, f"w{number}", "commands", {}, keys=as_heartbeat([other]) if other else None)
        assert await exchange(connection, [mine]) == ([NAME] if is_exchanged else [])
        now = (await recorded(connection))[NAME].fingerprint
        assert now == mine.fingerprints[0 if is_exchanged else 1]
        await connection.execute("update worker_heartbeats set seen_at = seen_at - interval '16 s'")
        assert await exchange(connection, [mine]) == ([] if is_exchanged else [NAME])


async def test_who_lacks_a_key_is_named(engine: Engine) -> None:
    """A worker accepts a key that it has as its first or its second."""
    async with connected(engine) as connection:
        for name, pairs in {
            "one": [KeyPair(NAME, A)],
            "two": [KeyPair(NAME, B, A)],
            "three": [KeyPair(NAME, B)],
        }.items():
            await beat(connection, name, "commands", {}, keys=as_heartbeat(pairs))
        await beat(connection, "four", "queries", {}, keys=as_heartbeat([]))
        assert await workers_without(connection, KeyPair(NAME, A)) == ["three"]


async def test_queues_of_parked_commands_outlive_the_key(engine: Engine) -> None:
    """What was parked under the old key is in the way of what comes under the new one, and is let go by its place."""
    await execute(engine, BREAK)
    before, after = Direct(engine, KINDS), Direct(engine, KINDS)
    after.pipeline.parking = replace(
        after.pipeline.parking, hmac_key=B, previous_hmac_key=before.pipeline.parking.hmac_key
    )
    assert await statuses(before, create(before, name="Poison"), create(before)) == [500, 500]
    letters = list(before.letters.messages)
    after.offset = before.offset
    assert await statuses(after, create(after)) == [500], "it has to wait behind the old ones"
    letters += after.letters.messages
    await execute(engine, MEND)
    for letter, left in zip(letters, (2, 1, 0), strict=True):
        assert await statuses(after, after.replay(letter)) == [201]
        assert await parked(engine) == left


@pytest.mark.parametrize(
    ("signed_by", "replays", "is_believed"),
    [
        (A, Replays(A), True),
        (A, Replays(B, previous_signing_key=A), True),
        (A, Replays(B), False),
        (C, Replays(A, B, previous_operator_key=C), False),  # an operator's names who it is
        (C, Replays(A, previous_signing_key=B), False),
        (B, Replays(A, C, previous_signing_key=B), True),
    ],
)
async def test_letters_are_believed_by_either_key(
    engine: Engine, signed_by: bytes, replays: Replays, is_believed: bool
) -> None:
    """A letter that was signed before the exchange comes back after it."""
    direct = Direct(engine, frozenset())
    await execute(engine, BREAK)
    await statuses(direct, create(direct, name="Poison"))
    record = direct.replay(direct.letters.messages[0])
    headers: list[Header] = [one for one in record.headers if one[0] != SIGNATURE]
    record = replace(record, headers=[*headers, (SIGNATURE, sign(signed_by, record.key, record.value, headers))])
    assert isinstance(replays.recognise(record), Replay) is is_believed


async def stop(worker: WorkerProcess) -> None:
    """Stop a worker as a rolling restart does."""
    worker.process.terminate()
    assert await worker.ended() == 0


async def test_an_exchange_is_a_rolling_restart(system: System) -> None:
    """Under load: every command is answered once with its effect, retries of before and after get the same answer.

    The new key is recorded by itself; who has only the old one is refused then, and told so by doctor.
    """
    names = ("OUTCOME_HMAC_KEY", "DLQ_SIGNING_KEY", "DLQ_OPERATOR_KEY")
    old = {name: f"{name}-old-{SECRET}" for name in names}
    new = {name: f"{name}-new-{SECRET}" for name in names}
    second = {f"{name}_PREVIOUS": value for name, value in new.items()}
    swapped = new | {f"{name}_PREVIOUS": value for name, value in old.items()}
    workers = [await system.start(ready=True, **old) for _ in range(2)]
    sent: list[tuple[str, bytes]] = []
    going = True

    async def load() -> None:
        while going:
            message_id = uuid.uuid4().hex
            body = {"kind": "create_customer", "payload": {"name": "Ada", "email": f"{message_id}@example.com"}}
            value = json.dumps(body).encode()
            await system.send("commands", value, key=message_id, message_id=message_id, correlation_id=message_id)
            sent.append((message_id, value))
            await asyncio.sleep(0.1)

    loading = asyncio.create_task(load())
    for settings in (old | second, swapped):
        for place, worker in enumerate(workers):
            await stop(worker)
            workers[place] = await system.start(ready=True, **settings)

    async def exchanged() -> bool:
        rows = await system.fetch("select name, encode(fingerprint, 'hex') as f from key_fingerprints")
        return {row["name"]: row["f"] for row in rows} == {
            name: KeyPair(name, value.encode()).fingerprints[0] for name, value in new.items()
        }

    await system.until(exchanged, 30, "the new keys are not recorded")
    going = False
    await loading
    first = {message_id: await system.reply(message_id) for message_id, _ in sent}
    assert {reply.status for reply in first.values()} == {201}
    for message_id, value in sent:
        await system.send(
            "commands", value, key=message_id, message_id=message_id, correlation_id=f"again-{message_id}"
        )
    for message_id, _ in sent:
        again = await system.reply(f"again-{message_id}")
        assert (again.raw, again.headers["replayed"]) == (first[message_id].raw, "true")
    assert len(await system.fetch("select from customers")) == len(sent)
    reused = await system.command("create_customer", {"name": "B", "email": "b@example.com"}, message_id=sent[0][0])
    assert reused.code == "MESSAGE_ID_REUSED"

    strange = f"{NAME} is not the key of this database's workers"
    refused = await catalog(system, "worker", "commands", code=1, **(new | {NAME: old[NAME]}))
    (line,) = (line for line in refused.err.splitlines() if not line.startswith("{"))
    remedy = "give it the same value everywhere, or exchange it as SECURITY.md says"
    assert line == f"error: {strange}, nor is its _PREVIOUS: {remedy}"
    told = " ".join((await catalog(system, "doctor", code=1, **old)).out.split())
    assert all(f"{name} is not the key of this database's workers" in told for name in names)
    healthy = " ".join((await catalog(system, "doctor", code=None, **swapped)).out.split())
    assert all(f"ok keys {name} is the workers' since" in healthy for name in names)
    assert OPERATOR_KEY not in healthy + old[NAME]


@pytest.mark.parametrize("role", ["commands", "queries", "backfill"])
async def test_a_port_in_use_is_one_line(system: System, role: str) -> None:
    """Where somebody listens at the health server's port already, a worker says so and ends."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = await catalog(system, "worker", role, code=1, METRICS_PORT=str(port))
    (line,) = (line for line in refused.err.splitlines() if not line.startswith("{"))
    assert (
        line == f"error: METRICS_HOST 127.0.0.1, METRICS_PORT {port}: nobody can listen there: Address already in use"
    )
