"""`catalog find`: what became of a message, in each of its states, on a real deployment; never what is in it."""

import json
import uuid
from typing import Any

from tests.command_line import OPERATOR_KEY, catalog
from tests.system import System

BREAK = "alter table customers add constraint broken check (name not like 'Poison%')"
MEND = "alter table customers drop constraint broken"
SECRETS = ("Poison Ivy", "@example.com", "Authorization", "Bearer", "envelope", "payload")


def named(name: str = "Poison Ivy") -> dict[str, str]:
    """Make the payload of a customer."""
    return {"name": name, "email": f"{uuid.uuid4().hex}@example.com"}


async def found(system: System, message_id: str, *options: str, code: int = 0, **settings: str) -> dict[str, Any]:
    """Ask what became of a message; what is shown, as JSON or as text, holds nothing of it."""
    told = await catalog(system, "find", message_id, "--json", *options, code=code, **settings)
    for secret in SECRETS:
        assert secret not in told.out + told.err
    read: dict[str, Any] = json.loads(told.out)
    assert set(read) == {
        "message_id", "state", "outcomes", "waiting", "letters", "actions", "could_not_be_read"
    }  # fmt: skip
    return read


async def test_a_message_in_each_of_its_states(system: System) -> None:
    """Waiting, decided by two callers, put aside, parked, dealt with, replayed, unknown: each is told as what it is."""
    await system.fetch(BREAK)
    waits, key = uuid.uuid4().hex, "k-of-the-queue"
    await system.send("commands", {"kind": "create_customer", "payload": named("Ada")}, message_id=waits)
    await system.flush()
    waiting = await found(system, waits)
    assert waiting["state"] == "waiting"
    (one,) = waiting["waiting"]
    assert (one["kind"], one["caller"], one["ahead"], one["is_replay"]) == ("create_customer", "tester", 0, False)

    await system.start(DLQ_OPERATOR_KEY=OPERATOR_KEY, PARK_BEHIND_DEFECTS='["create_customer"]')

    async def decided() -> bool:
        return bool((await found(system, waits))["state"] == "decided")

    await system.until(decided, 30, "the first message is not decided")
    for sub in ("ada", "bob"):
        await system.command("create_customer", named("Ada"), message_id="m-1", token=system.token(sub))
    both = await found(system, "m-1")
    assert [(one["caller"], one["status_code"]) for one in both["outcomes"]] == [("bob", 201), ("ada", 201)]
    assert [one["caller"] for one in (await found(system, "m-1", "--caller", "ada"))["outcomes"]] == ["ada"]
    assert (await found(system, "m-1", "--caller", "eve"))["state"] == "unknown"

    broken = await system.command("create_customer", named(), key=key, message_id="m-broken")
    parked = await system.command("create_customer", named("Ben"), key=key, message_id="m-parked")
    assert (broken.status, parked.data["details"]["parked"]) == (500, True)
    await system.letters(2)
    put_aside, behind = await found(system, "m-broken"), await found(system, "m-parked")
    assert (put_aside["state"], put_aside["letters"][0]["reason"]) == ("dead_letter", "INTERNAL_ERROR")
    assert put_aside["letters"][0]["incident"] == broken.data["details"]["incident"]
    assert behind["state"] == "parked"
    first = behind["letters"][0]["parked_behind"]
    assert (first["incident"], first["ahead"]) == (broken.data["details"]["incident"], 1)
    shown = await catalog(system, "find", "m-parked", COLUMNS="80")
    assert f"parked behind {first['position']} (incident {first['incident']}), 1 before it" in shown.out
    assert shown.out.startswith("m-parked: parked. It waits behind a command of its key that met a defect.\n")
    assert f"next: `catalog dlq show {behind['letters'][0]['id']}`\n" in shown.out

    await catalog(system, "dlq", "discard", behind["letters"][0]["id"], "--note", "nobody needs it")
    gone = await found(system, "m-parked")
    assert gone["state"] == "dealt_with"
    assert [(one["action"], one["operator"], one["note"]) for one in gone["actions"]] == [
        ("discarded", "olga", "nobody needs it")
    ]
    await system.fetch(MEND)
    await catalog(system, "dlq", "replay", put_aside["letters"][0]["id"])

    async def applied() -> bool:
        return bool((await found(system, "m-broken"))["state"] == "decided")

    await system.until(applied, 30, "the replay is not decided")
    replayed = await found(system, "m-broken")
    assert [one["action"] for one in replayed["actions"]] == ["replayed"]
    assert replayed["letters"][0]["is_open"] is False
    assert (await found(system, uuid.uuid4().hex))["state"] == "unknown"


async def test_what_cannot_be_read_is_said_and_the_rest_is_found(system: System) -> None:
    """With Kafka away an outcome is found; with the database away a letter is; where both are, the exit code is 1."""
    nowhere = "127.0.0.1:1"
    no_database = f"postgresql://catalog:x@{nowhere}/catalog"
    await system.fetch(
        "insert into outcomes (caller, message_id, kind, content_hmac, envelope, log_topic, log_partition, log_offset,"
        " stamped_at) values (E'iss\\nada', 'm-1', 'create_customer', '', $1, 't', 0, 7, now())",
        b'{"statusCode":409,"message":"Poison Ivy"}',
    )
    alone = await found(system, "m-1", "--timeout", "2", "--caller", "iss ada", KAFKA_BOOTSTRAP_SERVERS=nowhere)
    assert (alone["state"], alone["outcomes"][0]["status_code"]) == ("decided", 409)
    assert set(alone["could_not_be_read"]) == {"the log", "dead letters"}
    log_alone = await found(system, "m-1", "--timeout", "5", code=1, DATABASE_URL=no_database)
    assert set(log_alone["could_not_be_read"]) == {"outcomes"}
    assert log_alone["waiting"] == []
    away = {"KAFKA_BOOTSTRAP_SERVERS": nowhere, "DATABASE_URL": no_database}
    nothing = await catalog(system, "find", "m-1", "--timeout", "2", code=1, **away)
    assert nothing.out.count("could not be read: ") == 3
