"""`catalog block`: what a caller and its neighbours see of it, on a real deployment."""

import json
import os
import time
import uuid
from typing import Any

from tests.command_line import catalog
from tests.system import Reply, System

OBEYED_S = 2.0
ROUNDS = 20 if os.environ.get("SUITE_SIZE") == "long" else 1
WHY = ("--reason", "a runaway job")


def customer() -> dict[str, str]:
    """Make the payload of a customer."""
    return {"name": "Ada", "email": f"{uuid.uuid4().hex}@example.com"}


def is_blocked(reply: Reply) -> bool:
    """Tell whether a reply is what the contract says of a block."""
    blocked = reply.code == "RATE_LIMITED" and reply.data["details"] == {"retry_after_ms": 60_000, "blocked": True}
    assert blocked == (reply.status == 429)
    return blocked


async def test_a_block_is_obeyed_within_two_seconds_and_by_nobody_else(system: System) -> None:
    """Commands and queries of a caller, then of a kind: refused, not stored, not charged; what is stored is answered.

    Other callers see nothing of it. Taken back, all is as before. Who did it and why is written down, and shown.
    """
    await system.start()
    await system.start("queries")
    ada, bob = system.token("ada"), system.token("bob")
    payload = customer()
    stored = await system.command("create_customer", payload, message_id="before", token=ada)
    assert stored.status == 201

    async def both(token: str, message_id: str) -> list[Reply]:
        return [
            await system.command("create_customer", customer(), message_id=message_id, token=token),
            await system.query("list_products", {}, token=token),
        ]

    for number in range(ROUNDS):
        told = await catalog(system, "block", "caller", "ada", *WHY, "--json")
        blocked_at = time.time() * 1000
        assert json.loads(told.out) == {"target": "caller", "name": "ada", "state": "blocked"}

        async def obeyed(number: int = number) -> bool:
            return all(map(is_blocked, await both(ada, f"blocked-{number}-{uuid.uuid4().hex}")))

        await system.until(obeyed, 15, "the block is not obeyed")
        for reply in await both(ada, f"later-{number}"):
            assert is_blocked(reply)
        again = await system.command("create_customer", payload, message_id="before", token=ada)
        assert (again.raw, again.headers["replayed"]) == (stored.raw, "true")
        assert [one.status for one in await both(bob, f"bob-{number}")] == [201, 200]
        assert await system.fetch("select from outcomes where message_id like 'later-%' and caller = $1", "\nada") == []
        passed = await system.fetch(
            "select stamped_at from outcomes where caller = $1 and message_id like $2", "\nada", f"blocked-{number}-%"
        )
        assert all(one["stamped_at"].timestamp() * 1000 < blocked_at + OBEYED_S * 1000 for one in passed)
        await catalog(system, "unblock", "caller", "ada", *WHY)

        async def served(number: int = number) -> bool:
            return not any(map(is_blocked, await both(ada, f"free-{number}-{uuid.uuid4().hex}")))

        await system.until(served, 15, "the block is not taken back")

    await catalog(system, "block", "kind", "create_customer", *WHY)

    async def kind_obeyed() -> bool:
        return is_blocked(await system.command("create_customer", customer(), token=bob))

    await system.until(kind_obeyed, 15, "the block of the kind is not obeyed")
    assert (await system.query("list_products", {}, token=bob)).status == 200
    picture: dict[str, Any] = json.loads((await catalog(system, "status", "--json")).out)
    (shown,) = picture["blocks"]["value"]
    assert [shown[name] for name in ("target", "name", "operator", "reason")] == [
        "kind", "create_customer", "olga", "a runaway job"
    ]  # fmt: skip
    acts = [(one["operator"], one["what"], one["of"]) for one in picture["actions"]["value"]]
    assert acts[:2] == [("olga", "blocked a kind", "create_customer"), ("olga", "unblocked a caller", "ada")]
    await catalog(system, "unblock", "kind", "create_customer", *WHY)
    nothing = await catalog(system, "unblock", "kind", "create_customer", *WHY, code=1)
    assert nothing.err == "error: kind create_customer is not blocked: `catalog status` shows what is\n"
    log = await system.fetch("select action, target, operator, reason from block_log order by id")
    assert [tuple(one) for one in log] == [
        *[(action, "caller", "olga", "a runaway job") for _ in range(ROUNDS) for action in ("block", "unblock")],
        *[(action, "kind", "olga", "a runaway job") for action in ("block", "unblock")],
    ]
