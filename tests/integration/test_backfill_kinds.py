"""Backfills and phases by command, through Kafka: what an operator may wish, and what becomes of it."""

import asyncio
import json
from typing import Any

import pytest

from persistence.engine import PoolSettings, create_engine
from tests.command_line import catalog
from tests.direct import Direct
from tests.system import Reply, System

CHANGE = "product_catalog"
PRODUCTS = 2_500
"""Three chunks: the first has a thousand rows."""

SEED = """
insert into products (id, mnemonic, overview, old_catalog_field)
select gen_random_uuid(), 'SEED_' || n, 'n', format('{"n": %s}', n) from generate_series(1, $1::bigint) as n"""


async def backfill(system: System) -> dict[str, Any]:
    """Ask for the backfill as it stands."""
    data: dict[str, Any] = (await system.query("get_backfill", {"name": CHANGE})).data
    return data


async def until_state(system: System, wanted: str, *, of_verify: bool = False) -> dict[str, Any]:
    """Ask until the run, or its verify, has come to a state."""

    async def is_so() -> bool:
        view = await backfill(system)
        one = view["verify"] if of_verify else view
        assert one is None or one["state"] != "failed", one
        return one is not None and one["state"] == wanted

    await system.until(is_so, 15, f"the backfill is not {wanted}")
    return await backfill(system)


async def advanced(system: System, to: str) -> dict[str, Any]:
    """Ask for a step and wait for what becomes of it."""
    reply = await system.command("advance_phase", {"change": CHANGE, "to": to})
    assert (reply.status, reply.data["wish"], reply.data["to"]) == (200, "waiting", to), reply.envelope

    async def has_ended() -> bool:
        return bool((await backfill(system))["change"]["wish"] != "waiting")

    await system.until(has_ended, 20, f"nobody took the step to {to}")
    change: dict[str, Any] = (await backfill(system))["change"]
    return change


def told(reply: Reply) -> tuple[int, str | None]:
    """Say how a request ended."""
    return reply.status, reply.code


async def test_a_backfill_is_run_by_commands_from_the_first_phase_to_the_last_but_one(system: System) -> None:
    """An operator dual-writes, fills, pauses, resumes, verifies and switches reads, by commands and queries alone."""
    await system.fetch(SEED, PRODUCTS)
    quiet = json.dumps(["live_p99", "active_sessions", "autovacuum"])
    await asyncio.gather(
        system.start("commands"), system.start("queries"), system.start("backfill", BACKFILL_SIGNALS_OFF=quiet)
    )

    assert (await advanced(system, "dual_write"))["phase"] == "dual_write"
    refused = await advanced(system, "backfilled")
    assert (refused["phase"], refused["wish"]) == ("dual_write", "refused")
    assert "2500 products have no new_catalog" in refused["reason"]

    started = await system.command("start_backfill", {"name": CHANGE, "rate": 1})
    assert (started.status, started.envelope["message"], started.data["rate_cap_rows_per_s"]) == (
        200,
        "Backfill 'product_catalog' updated successfully",
        1,
    )
    assert told(await system.command("start_backfill", {"name": CHANGE})) == (409, "ILLEGAL_TRANSITION")
    paused = await system.command("pause_backfill", {"name": CHANGE})
    assert paused.data["state"] in {"pausing", "paused"}
    await until_state(system, "paused")
    assert (await system.command("resume_backfill", {"name": CHANGE})).data["state"] == "running"
    lifted = await system.command("set_backfill_rate", {"name": CHANGE, "rows_per_s": None})
    assert (lifted.status, lifted.data["rate_cap_rows_per_s"]) == (200, None)
    assert (await until_state(system, "completed"))["rows_done"] == PRODUCTS

    assert (await advanced(system, "backfilled"))["phase"] == "backfilled"
    assert (await system.command("verify_backfill", {"name": CHANGE})).data["verify"] is not None
    await until_state(system, "completed", of_verify=True)
    switched = await advanced(system, "reading_new")
    assert (switched["phase"], switched["wish"], switched["changed_by"]) == ("reading_new", "done", "tester")
    shown = await system.query("get_product", {"mnemonic": "SEED_7"})
    assert (shown.status, shown.data["catalog"]) == (200, {"n": 7})

    again = await system.command("advance_phase", {"change": CHANGE, "to": "reading_new"})
    assert (again.status, again.envelope["type"]) == (200, "neutral")
    one_by_one = await system.command("advance_phase", {"change": CHANGE, "to": "expanded"})
    assert told(one_by_one) == (409, "ILLEGAL_TRANSITION")
    assert one_by_one.data["details"] == {"state": "reading_new", "legal": ["backfilled", "contracted"]}


async def test_what_cannot_be_is_refused(system: System) -> None:
    """A writer may not steer, names that nobody has are 404, a move that is none is 409, a wrong field 422."""
    await asyncio.gather(system.start("commands"), system.start("queries"))
    writer = system.token("writer", ("catalog_admin",))
    for reply in (
        await system.command("start_backfill", {"name": CHANGE}, token=writer),
        await system.command("advance_phase", {"change": CHANGE, "to": "dual_write"}, token=writer),
        await system.query("list_backfills", token=writer),
    ):
        assert told(reply) == (403, "FORBIDDEN")
        assert reply.data["details"]["required_role"] == "catalog_operator"
    for kind in ("start", "pause", "resume", "cancel", "retry", "verify"):
        reply = await system.command(f"{kind}_backfill", {"name": "no_such"})
        assert told(reply) == (404, "BACKFILL_NOT_FOUND"), kind
    assert told(await system.query("get_backfill", {"name": "no_such"})) == (404, "BACKFILL_NOT_FOUND")
    nowhere = await system.command("advance_phase", {"change": "no_such", "to": "dual_write"})
    assert told(nowhere) == (404, "BACKFILL_NOT_FOUND")
    assert told(await system.command("resume_backfill", {"name": CHANGE})) == (409, "ILLEGAL_TRANSITION")
    too_far = await system.command("advance_phase", {"change": CHANGE, "to": "reading_new"})
    assert told(too_far) == (409, "ILLEGAL_TRANSITION")
    assert told(await system.command("start_backfill", {"name": CHANGE, "rate": 0})) == (422, "VALIDATION_FAILED")
    assert told(await system.command("advance_phase", {"change": CHANGE, "to": "done"})) == (422, "VALIDATION_FAILED")

    # Nobody carries wishes out here: the first one waits, a second one is refused.
    waiting = await system.command("advance_phase", {"change": CHANGE, "to": "dual_write"})
    assert waiting.data["wish"] == "waiting"
    second = await system.command("advance_phase", {"change": CHANGE, "to": "dual_write"})
    assert told(second) == (409, "ILLEGAL_TRANSITION")
    listed = await system.query("list_backfills")
    names = [one["name"] for one in listed.data["items"]]
    assert (listed.envelope["message"], CHANGE in names) == (f"Found {len(names)} Backfill(s)", True)


async def test_changes_are_stepped_by_hand(system: System) -> None:
    """`catalog change` shows, steps forth and back, and ends with 1 and the reason where a step is refused."""
    forth = await catalog(system, "change", "advance", CHANGE)
    assert forth.out == "product_catalog: expanded -> dual_write\n"
    await system.fetch(SEED, 1)
    refused, nowhere, show = await asyncio.gather(
        catalog(system, "change", "advance", CHANGE, code=1),
        catalog(system, "change", "back", "no_such", code=1),
        catalog(system, "change", "show", "--json"),
    )
    assert refused.err.startswith("error: product_catalog cannot go to backfilled: 1 products have no new_catalog")
    assert nowhere.err == "error: there is no change no_such\n"
    shown = json.loads(show.out)["changes"][0]
    assert (shown["phase"], shown["changed_by"], shown["wish"]) == ("dual_write", "olga", None)
    back = await catalog(system, "change", "back", CHANGE)
    assert back.out == "product_catalog: dual_write -> expanded\n"


@pytest.fixture
async def direct(database_url: str) -> Any:  # noqa: ANN401 - a generator of Direct
    """Hand records straight to the pipeline."""
    engine = create_engine(database_url, PoolSettings(), "test")
    yield Direct(engine)
    await engine.dispose()


async def test_a_kind_that_runs_alone_keeps_its_place_among_its_neighbours(direct: Direct, system: System) -> None:
    """Neighbours before, between and after share transactions; a lone command has its own; the order is the log's."""
    name, product = {"name": CHANGE}, {"mnemonic": "P", "overview": "one"}
    records = [
        direct.record("create_product", product, message_id="create", version=2),
        direct.record("start_backfill", name, message_id="start"),
        direct.record("pause_backfill", name, message_id="pause"),
        direct.record("update_product", {"mnemonic": "P", "overview": "two"}, message_id="two"),
        direct.record("start_backfill", name, message_id="start"),
        direct.record("update_product", {"mnemonic": "P", "overview": "three"}, message_id="three"),
        direct.record("cancel_backfill", name, message_id="cancel"),
        direct.record("delete_product", {"mnemonic": "P"}, message_id="delete"),
        direct.record("create_product", product, message_id="create", version=2),
    ]
    answers = await direct.decide(*records)

    told = [answer["data"].get("state", answer["data"].get("version")) for answer, _, _ in answers if answer["data"]]
    assert told == [1, "pending", "paused", 2, "pending", 3, "cancelled", 1]
    assert [answer["statusCode"] for answer, _, _ in answers] == [201, 200, 200, 200, 200, 200, 200, 200, 201]
    assert [number for number, (_, _, replayed) in enumerate(answers) if replayed] == [4, 8]
    rows = await system.fetch("select message_id, xmin::text as transaction from outcomes")
    transactions = {row["message_id"]: row["transaction"] for row in rows}
    assert transactions["two"] == transactions["three"]
    assert len(set(transactions.values())) == len(transactions) - 1
