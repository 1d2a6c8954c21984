"""Dead letters, from the defect to the caller's envelope: each command of `catalog dlq` on a real deployment."""

import asyncio
import json
import time
import uuid
from collections import Counter
from typing import Any

import pytest

from tests.command_line import OPERATOR_KEY, catalog
from tests.system import Reply, System

BREAK = "alter table customers add constraint broken check (name not like 'Poison%')"
MEND = "alter table customers drop constraint broken"
CREATE = "create_customer"


@pytest.fixture
async def broken(system: System) -> System:
    """A deployment with a defect: whoever creates a customer named Poison… gets a 500."""
    await system.fetch(BREAK)
    await system.start(JWT_LEEWAY_S="0", DLQ_OPERATOR_KEY=OPERATOR_KEY)
    return system


def poison(name: str = "Poison Ivy") -> dict[str, str]:
    """Make a payload that meets the defect."""
    return {"name": name, "email": f"{uuid.uuid4().hex}@example.com"}


async def fails(system: System, payload: dict[str, str] | None = None, **how: Any) -> Reply:  # noqa: ANN401
    """Send a command that meets the defect."""
    reply = await system.command(CREATE, payload or poison(), **how)
    assert reply.code == "INTERNAL_ERROR"
    return reply


async def test_a_replay_after_a_fixed_defect(broken: System) -> None:
    """The caller gets its envelope, under its own ids, though token and deadline have passed since."""
    now = time.time()
    token = broken.token("ada", exp=int(now) + 2)
    message_id, correlation_id = uuid.uuid4().hex, uuid.uuid4().hex
    deadline = {"deadline": str(int((now + 2) * 1000))}
    failed = await fails(broken, token=token, message_id=message_id, correlation_id=correlation_id, headers=deadline)
    (_, letter), *_ = await broken.letters(1)
    assert letter["dlq.incident"] == failed.data["details"]["incident"]

    await broken.until(expired(token, broken), 15, "the token does not expire")
    await broken.fetch(MEND)
    await catalog(broken, "dlq", "replay", "commands/0/0")
    answered = await broken.reply(correlation_id, nth=2)

    assert (answered.status, answered.headers["in_reply_to"]) == (201, message_id)
    assert "replayed" not in answered.headers
    (row,) = await broken.fetch("select caller, message_id, stamped_at from outcomes where message_id = $1", message_id)
    assert row["caller"] == "\nada"
    assert int(row["stamped_at"].timestamp() * 1000) == int(letter["dlq.timestamp"])
    assert (await catalog(broken, "dlq", "list", "--json")).lines == []
    (done,) = (await catalog(broken, "dlq", "list", "--dealt-with", "--json")).lines
    assert done["state"].startswith("replayed by olga at ")


def expired(token: str, system: System) -> Any:  # noqa: ANN401 - a condition
    """Tell whether a worker refuses this token by now."""

    async def refused() -> bool:
        return (await system.command("delete_customer", {"customer_id": str(uuid.uuid4())}, token=token)).status == 401

    return refused


async def test_a_replay_of_what_was_applied_meanwhile(broken: System) -> None:
    """Sent again by its caller before: the replay is answered with the stored envelope, and nothing happens twice."""
    payload, message_id, correlation_id = poison(), uuid.uuid4().hex, uuid.uuid4().hex
    await fails(broken, payload, message_id=message_id, correlation_id=correlation_id)
    await broken.fetch(MEND)
    applied = await broken.command(CREATE, payload, message_id=message_id)
    assert applied.status == 201
    await catalog(broken, "dlq", "replay", "--reason", "internal_error")
    replayed = await broken.reply(correlation_id, nth=2)

    assert (replayed.raw, replayed.headers["replayed"]) == (applied.raw, "true")
    assert len(await broken.fetch("select from customers")) == 1


async def test_nothing_personal_is_shown_unless_it_is_revealed(broken: System) -> None:
    """List, group and show tell ids, reason and place; key, names and values only on request, which is recorded."""
    payload = poison() | {"customer_id": str(uuid.uuid4())}
    await fails(broken, payload, key=payload["email"], extra=[("x-name", b"Ivy")], message_id="m-1")
    await broken.letters(1)
    shown = [
        await catalog(broken, "dlq", *arguments)
        for arguments in (("list",), ("list", "--json"), ("group",), ("group", "--json"), ("show", "commands/0/0"))
    ]
    for one in shown:
        assert "INTERNAL_ERROR" in one.out
        assert "CheckViolationError in create_customer at persistence/" in one.out or one is shown[0]
        assert "Ivy" not in one.out + one.err
        assert payload["email"] not in one.out + one.err
    described = json.loads(shown[-1].out)
    assert described["ids"] == {"customer_id": payload["customer_id"]}
    assert described["payload_fields"] == ["customer_id", "email", "name"]
    assert (described["message_id"], described["can_be_replayed"], described["attempts"]) == ("m-1", True, 1)

    revealed = await catalog(broken, "dlq", "show", "commands/0/0", "--reveal")
    assert json.loads(revealed.out)["value"]["payload"]["name"] == "Poison Ivy"
    assert ["x-name", "Ivy"] in json.loads(revealed.out)["headers"]
    assert [(line["operation"], line["operator"]) for line in revealed.audit] == [("dead_letter_revealed", "olga")]
    assert [row["action"] for row in await broken.fetch("select action from dead_letter_actions")] == ["revealed"]


async def test_filters_dry_run_and_rate(broken: System) -> None:
    """Filters choose, a dry run does nothing, a rate is kept, and order is that of the first arrival."""
    for sender in ("ada", "ada", "bob"):
        await fails(broken, token=broken.token(sender))
    await broken.send("commands", {"kind": "nonsense", "payload": {}}, token=broken.token("eve"), drop=["reply_to"])
    await broken.letters(4)
    await broken.fetch(MEND)

    async def found(*options: str) -> list[str]:
        return [line["caller"] for line in (await catalog(broken, "dlq", "list", "--json", *options)).lines]

    assert await found() == ["ada", "ada", "bob", "eve"]
    assert await found("--kind", CREATE, "--caller", "ada", "--caller", "eve") == ["ada", "ada"]
    assert await found("--since", "1h", "--reason", "UNKNOWN_KIND", "--side", "commands") == ["eve"]
    assert await found("--until", "1h") == []
    groups = (await catalog(broken, "dlq", "group", "--json")).lines
    assert [(group["letters"], group["reason"], group["callers"]) for group in groups] == [
        (3, "INTERNAL_ERROR", 2),
        (1, "UNKNOWN_KIND", 1),
    ]

    dry = await catalog(broken, "dlq", "replay", "--caller", "ada", "--dry-run", "--json")
    assert [line["result"] for line in dry.lines] == ["would be replayed"] * 2
    assert await broken.fetch("select from dead_letter_actions") == []
    assert await broken.fetch("select from outcomes") == []
    began_at = time.monotonic()
    done = await catalog(broken, "dlq", "replay", "--reason", "INTERNAL_ERROR", "--rate", "2", "--json")
    assert time.monotonic() - began_at > 1
    assert [(line["caller"], line["result"]) for line in done.lines] == [
        (one, "replayed") for one in ("ada", "ada", "bob")
    ]
    assert [line["user_id"] for line in done.audit] == ["ada", "ada", "bob"]
    await broken.until(outcomes(broken, 3), 10, "the replays were not applied")
    assert await found() == ["eve"]


def outcomes(system: System, number: int) -> Any:  # noqa: ANN401 - a condition
    """Tell whether so many outcomes are stored."""

    async def are_there() -> bool:
        return len(await system.fetch("select from outcomes")) == number

    return are_there


async def test_discarded_is_dealt_with(broken: System) -> None:
    """A discarded letter is listed no more, and is replayed only by who insists; each is recorded."""
    reply = await fails(broken)
    await broken.letters(1)
    await broken.fetch(MEND)
    assert "1 would be discarded" in (await catalog(broken, "dlq", "discard", "--all", "--dry-run")).out
    done = await catalog(broken, "dlq", "discard", "commands/0/0", "--note", "asked the caller")
    assert [(line["operation"], line["note"]) for line in done.audit] == [("dead_letter_discarded", "asked the caller")]

    assert (await catalog(broken, "dlq", "list", "--json")).lines == []
    refused = await catalog(broken, "dlq", "replay", "commands/0/0", code=1)
    assert "discarded by olga already" in refused.out
    await catalog(broken, "dlq", "replay", "commands/0/0", "--again")
    assert (await broken.reply(reply.headers["correlation_id"], nth=2)).status == 201
    rows = await broken.fetch("select action, operator, note, done_at from dead_letter_actions order by id")
    assert [(row["action"], row["operator"], row["note"]) for row in rows] == [
        ("discarded", "olga", "asked the caller"),
        ("replayed", "olga", None),
    ]


async def test_an_edited_replay(broken: System) -> None:
    """Signed by the operator's key, it is applied as edited, for the caller that was verified, under the same id."""
    message_id, correlation_id = uuid.uuid4().hex, uuid.uuid4().hex
    await fails(broken, message_id=message_id, correlation_id=correlation_id, token=broken.token("ada"))
    await broken.letters(1)
    edit = ("dlq", "replay", "commands/0/0", "--set", "payload.name=Ivy")
    assert "DLQ_OPERATOR_KEY is not set" in (await catalog(broken, *edit, code=1, DLQ_OPERATOR_KEY="")).err
    assert "keeps its message_id" in (await catalog(broken, *edit, "--set", "header.message_id=x", code=1)).out
    assert "its caller was verified" in (await catalog(broken, *edit, "--as", "bob", code=1)).out
    done = await catalog(broken, *edit, "--unset", "header.deadline", "--operator", "otto", code=1)
    assert "header.deadline: it is not there" in done.out
    done = await catalog(broken, *edit, "--operator", "otto")

    answered = await broken.reply(correlation_id, nth=2)
    assert (answered.status, answered.data["name"], answered.headers["in_reply_to"]) == (201, "Ivy", message_id)
    (row,) = await broken.fetch("select caller from outcomes where message_id = $1", message_id)
    assert row["caller"] == "\nada"
    (action,) = await broken.fetch("select operator, edits from dead_letter_actions")
    assert (action["operator"], action["edits"]) == ("otto", ["payload.name"])
    assert "Ivy" not in done.err
    lines = [line for line in broken.workers[0].lines() if line.get("edited_by") == "otto"]
    assert [line["user_id"] for line in lines] == ["ada"]


async def test_where_nobody_was_verified(broken: System, tmp_path: Any) -> None:  # noqa: ANN401
    """Without a verified caller an operator names it; the body may be replaced whole."""
    await broken.send("commands", {"kind": CREATE, "payload": {}}, token="nonsense", drop=["reply_to"], message_id="m")
    ((_, letter),) = await broken.letters(1)
    assert (letter["dlq.reason"], "dlq.caller" in letter) == ("UNAUTHENTICATED", False)
    assert "name the caller" in (await catalog(broken, "dlq", "replay", "commands/0/0", code=1)).out
    body = tmp_path / "body.json"
    body.write_text(json.dumps({"kind": CREATE, "payload": {"name": "Ada", "email": "ada@example.com"}}))
    edit = ["dlq", "replay", "commands/0/0", "--edit", str(body), "--set", f"header.reply_to={broken.reply_to}"]
    edit += ["--set", "header.correlation_id=c"]
    assert "name the caller by --as" in (await catalog(broken, *edit, code=1)).out
    assert "the roles are" in (await catalog(broken, *edit, "--as", "ada", "--role", "root", code=1)).err
    await catalog(broken, *edit, "--as", "ada", "--role", "catalog_writer")

    assert (await broken.reply("c")).status == 201
    assert [row["caller"] for row in await broken.fetch("select caller from outcomes")] == ["\nada"]


async def test_a_replay_that_fails_again(broken: System) -> None:
    """It comes back as a dead letter of the same origin, counts its attempts, and can be replayed after the fix."""
    reply = await fails(broken)
    await broken.letters(1)
    await catalog(broken, "dlq", "replay", "--all")
    first, second = (headers for _, headers in await broken.letters(2))
    assert [second[f"dlq.{name}"] for name in ("topic", "partition", "offset", "timestamp")] == [
        first[f"dlq.{name}"] for name in ("topic", "partition", "offset", "timestamp")
    ]
    (listed,) = (await catalog(broken, "dlq", "list", "--json")).lines
    assert (listed["id"], listed["attempts"]) == ("commands/0/1", 2)
    await broken.fetch(MEND)
    await catalog(broken, "dlq", "replay", "--all")
    assert (await broken.reply(reply.headers["correlation_id"], nth=3)).status == 201


async def test_a_forged_dead_letter(broken: System) -> None:
    """What is not signed is shown as such, is not replayed, and is unauthenticated when somebody brings it back."""
    reply = await fails(broken)
    ((value, letter),) = await broken.letters(1)
    assert value is not None
    headers = [(name, text.encode()) for name, text in letter.items()]
    forged = value.replace(b"Poison Ivy", b"Mallory")
    await broken.producer.send_and_wait(f"{broken.prefix}.commands.dead-letters", forged, headers=headers)
    listed = (await catalog(broken, "dlq", "list", "--json")).lines
    assert [line["genuine"] for line in listed] == [True, False]
    for option in ([], ["--resign"]):
        refused = await catalog(broken, "dlq", "replay", "commands/0/1", *option, code=1)
        assert "signature" in refused.out
    await catalog(broken, "dlq", "discard", "commands/0/1")
    assert [line["id"] for line in (await catalog(broken, "dlq", "list", "--json")).lines] == ["commands/0/0"]

    await broken.producer.send_and_wait(f"{broken.prefix}.commands", forged, headers=headers)
    answered = await broken.reply(reply.headers["correlation_id"], nth=2)
    assert (answered.status, answered.code) == (401, "UNAUTHENTICATED")


async def test_a_query_can_be_brought_back(system: System) -> None:
    """A query that could not be answered gets a reply topic from the operator, and its answer."""
    await system.start("queries", DLQ_OPERATOR_KEY=OPERATOR_KEY, RATE_LIMIT_REQUESTS="1")
    await system.send("queries", {"kind": "search_customers", "payload": {}}, drop=["reply_to"], correlation_id="q")
    await system.letters(1, "queries")
    for number in range(1, 4):  # not rate-limited, however often
        edit = ["--set", f"header.reply_to={system.reply_to}", "--again"]
        await catalog(system, "dlq", "replay", "queries/0/0", *edit)
        assert (await system.reply("q", nth=number)).status == 200


async def test_what_is_wrong_is_one_line(system: System) -> None:
    """No choice, no such letter, no topic: one line on standard error each, exit code 1, and no trace."""
    cases: list[tuple[list[str], str, dict[str, str]]] = [
        (["replay"], "which ones?", {}),
        (["show", "commands/0/99"], "there is no such dead letter", {}),
        (["list"], "does not exist", {"TOPIC_PREFIX": "nowhere"}),
    ]
    for arguments, words, settings in cases:
        finished = await catalog(system, "dlq", *arguments, code=1, **settings)
        assert words in finished.err
        assert len(finished.err.splitlines()) == 1


async def test_a_worker_without_the_operators_key(system: System) -> None:
    """What it would refuse is not brought back: the letter stays in the list, and it is said who would."""
    await system.start(WORKER_NAME="plain")
    await system.send("commands", {"kind": "nonsense", "payload": {}}, drop=["reply_to"], correlation_id="c")
    await system.letters(1)
    edit = ["--set", f"header.reply_to={system.reply_to}", "--set", "kind=delete_customer"]
    for more in ([], ["--dry-run"]):
        ended = await catalog(system, "dlq", "replay", "commands/0/0", *edit, *more, code=1)
        assert "plain would refuse it: DLQ_OPERATOR_KEY is not set there" in ended.out
        assert ended.out.splitlines()[-1].startswith("0 ")
    (open_one,) = (await catalog(system, "dlq", "list", "--json")).lines
    assert (open_one["id"], open_one["state"]) == ("commands/0/0", "open")
    assert await system.fetch("select from dead_letter_actions") == []


async def test_two_operators_at_once(broken: System) -> None:
    """Two replays of the same letters answer the caller twice with one outcome, and the effect is there once."""
    reply = await fails(broken)
    await broken.letters(1)
    await broken.fetch(MEND)
    replay = ("dlq", "replay", "commands/0/0", "--again")
    await asyncio.gather(catalog(broken, *replay), catalog(broken, *replay))
    second, third = [await broken.reply(reply.headers["correlation_id"], nth=number) for number in (2, 3)]
    assert second.raw == third.raw
    assert len(await broken.fetch("select from customers")) == 1


async def test_a_flood_of_strangers(system: System) -> None:
    """Of 800 messages without a token 600 are put aside in full, the others without what was sent; all are listed.

    The latest ones are found from the end; groups count all of them.
    """
    await system.start(LOG_LEVEL="ERROR")
    body = {"kind": "create_customer", "payload": {"name": "x" * 1000}}
    for number in range(800):
        await system.send("commands", body, drop=["authorization", "reply_to"], message_id=f"m-{number}")
    verified = await system.send("commands", {"kind": "nonsense", "payload": {}}, drop=["reply_to"], message_id="mine")
    assert verified
    letters = await system.letters(801)
    by_size = Counter(value is not None for value, notes in letters if notes["dlq.reason"] == "UNAUTHENTICATED")
    assert by_size == {True: 600, False: 200}
    bare = next(notes for value, notes in letters if value is None)
    assert (bare["dlq.value_bytes"], "message_id" in bare) == (str(len(json.dumps(body))), False)
    (value,) = [value for value, notes in letters if notes["dlq.reason"] == "UNKNOWN_KIND"]
    assert value is not None

    (last,) = (await catalog(system, "dlq", "list", "--json", "--limit", "1")).lines
    assert last["id"] == "commands/0/800"
    listed = await catalog(system, "dlq", "list", "--limit", "5")
    assert "there may be earlier ones" in listed.out
    groups = (await catalog(system, "dlq", "group", "--json")).lines
    assert [(group["letters"], group["reason"]) for group in groups] == [(800, "UNAUTHENTICATED"), (1, "UNKNOWN_KIND")]


async def test_parked_commands_come_back_in_order(system: System) -> None:
    """What waits behind a defect of its key is brought back after it; a head that is discarded lets the next one go."""
    await system.fetch(BREAK)
    await system.start(PARK_BEHIND_DEFECTS=json.dumps([CREATE]))
    payloads = [poison(), poison("Ada"), poison("Bob")]
    first, *behind = [await system.command(CREATE, payload, key="same") for payload in payloads]
    assert first.code == "INTERNAL_ERROR"
    assert [reply.data["details"]["parked"] for reply in behind] == [True, True]
    assert (await system.command(CREATE, poison("Eve"), key="other")).status == 201
    await system.letters(3)
    found = (await catalog(system, "dlq", "list", "--json")).lines
    assert [line["reason"] for line in found] == ["INTERNAL_ERROR", "PARKED", "PARKED"]
    assert "3 commands wait" in (await catalog(system, "doctor", code=None)).out

    await catalog(system, "dlq", "discard", found[0]["id"], "--note", "the caller gave up")
    await catalog(system, "dlq", "replay", "--reason", "PARKED")
    for reply in behind:
        assert (await system.reply(reply.headers["correlation_id"], nth=2)).status == 201
    rows = await system.fetch("select name from customers order by id")
    assert [row["name"] for row in rows] == ["Eve", "Ada", "Bob"]
    assert await system.fetch("select from parked_commands") == []
    assert (await system.command(CREATE, poison("Kim"), key="same")).status == 201


async def test_a_key_with_steady_traffic_is_unparked_by_its_head(system: System) -> None:
    """The head alone is replayed: the next command of the key brings the others back out of the log, in their order."""
    await system.fetch(BREAK)
    await system.start(PARK_BEHIND_DEFECTS=json.dumps([CREATE]))
    ids = [uuid.uuid4().hex for _ in range(6)]
    for place, one in enumerate(ids):
        payload = poison() if place == 0 else {"name": f"c{place}", "email": f"{uuid.uuid4().hex}@example.com"}
        await system.command("get_out_of_the_way", {}, key="other")
        await system.command(CREATE, payload, key="busy", correlation_id=one)
    await system.fetch(MEND)
    await catalog(system, "dlq", "replay", "--reason", "INTERNAL_ERROR")
    assert (await system.reply(ids[0], nth=2)).status == 201
    follower = await system.command(CREATE, {"name": "last", "email": f"{uuid.uuid4().hex}@example.com"}, key="busy")
    assert follower.status == 201
    assert [(await system.reply(one, nth=2)).status for one in ids] == [201] * 6
    rows = await system.fetch("select name from customers order by id")
    assert [row["name"] for row in rows] == ["Poison Ivy", "c1", "c2", "c3", "c4", "c5", "last"]
    assert await system.fetch("select from parked_commands") == []
