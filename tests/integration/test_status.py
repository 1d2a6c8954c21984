"""`catalog status`: the whole system in one picture, also with no worker, and with half of the servers away."""

import signal
import uuid
from typing import Any

from tests.command_line import OPERATOR_KEY, catalog
from tests.system import System

BREAK = "alter table customers add constraint broken check (name not like 'Poison%')"
SECTIONS = {"workers", "rates", "lag", "dead_letters", "backfills", "changes", "blocks", "actions"}
NOWHERE = "127.0.0.1:1"


async def status(system: System, code: int = 0, **settings: str) -> dict[str, Any]:
    """Take a picture as a program does."""
    told = await catalog(system, "status", "--json", code=code, **settings)
    (line,) = told.lines
    assert set(line) == {"taken_at", "first", *SECTIONS}
    return line


async def test_the_system_from_nothing_to_a_dead_worker(system: System) -> None:
    """Without workers it is there and says so first; then each section tells what happened; the dead one stays.

    With half of the servers away each section says by itself what it lacks, the others are there, and so does the exit
    code.
    """
    await system.send("commands", {"kind": "create_customer", "payload": {}}, message_id=uuid.uuid4().hex)
    await system.flush()
    before = await status(system)
    assert before["first"] == ["no worker runs"]
    assert [before[name]["could_not_be_read"] for name in SECTIONS] == [None] * len(SECTIONS)
    waiting = {(one["topic"], one["partition"]): one for one in before["lag"]["value"] if one["messages"]}
    ((place, one),) = waiting.items()
    assert (place[0], one["messages"]) == (f"{system.prefix}.commands", 1)
    assert one["seconds"] > 0
    text = await catalog(system, "status", COLUMNS="80")
    assert text.out.startswith("! no worker runs\n")

    await system.fetch(BREAK)
    worker = await system.start(DLQ_OPERATOR_KEY=OPERATOR_KEY)
    for name in ("Ada", "Poison Ivy"):
        await system.command("create_customer", {"name": name, "email": f"{uuid.uuid4().hex}@example.com"})
    await system.letters(1)
    await catalog(system, "dlq", "discard", "commands/0/0")
    await catalog(system, "change", "advance", "product_catalog")

    async def told() -> bool:
        rates = (await status(system))["rates"]["value"]
        return any(one["kind"] == "create_customer" and one["minute"] == 3 for one in rates)

    await system.until(told, 20, "the worker does not tell what it ended")
    after = await status(system)
    assert after["first"] == ["no worker for queries runs", "no worker for backfill runs"]
    (seen,) = after["workers"]["value"]
    assert (seen["role"], seen["lives"], seen["phases"]) == ("commands", True, {"product_catalog": "dual_write"})
    assert seen["version"]
    assert set(seen["partitions"]) == {
        f"{system.prefix}.commands/{number}" for number in range(len(seen["partitions"]))
    }
    (rate,) = [one for one in after["rates"]["value"] if one["kind"] == "create_customer"]
    assert rate == {"kind": "create_customer", "minute": 3, "minute_errors": 2, "hour": 3, "hour_errors": 2}
    assert not any(one["messages"] for one in after["lag"]["value"])
    assert after["dead_letters"]["value"] == {"by_reason": {}, "complete": True}
    done = [(one["operator"], one["what"], one["outcome"]) for one in after["actions"]["value"]]
    assert done == [("olga", "moved a change", "expanded -> dual_write"), ("olga", "discarded a dead letter", "done")]

    worker.send(signal.SIGKILL)
    await worker.ended()
    await system.fetch("update worker_heartbeats set seen_at = now() - interval '1 hour'")
    dead = await status(system)
    assert dead["first"] == ["no worker runs"]
    assert [one["lives"] for one in dead["workers"]["value"]] == [False]
    assert "1 h ago, dead" in (await catalog(system, "status")).out

    no_kafka = await status(system, code=1, KAFKA_BOOTSTRAP_SERVERS=NOWHERE)
    no_database = await status(system, code=1, DATABASE_URL=f"postgresql://catalog:x@{NOWHERE}/catalog")
    assert {name for name in SECTIONS if no_kafka[name]["could_not_be_read"]} == {"lag", "dead_letters"}
    assert {name for name in SECTIONS if no_database[name]["could_not_be_read"]} == SECTIONS - {"lag"}
    assert no_database["first"] == []
