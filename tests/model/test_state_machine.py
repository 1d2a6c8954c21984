"""Random histories of all commands, in random batches, against a catalogue in plain Python."""

import asyncio
import os
import uuid
from typing import Any

import orjson
import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from contracts.kinds import Role
from contracts.registry import KINDS
from persistence.engine import Engine, PoolSettings, connected, create_engine
from tests import databases
from tests.direct import Arrived, Direct
from tests.model.catalogue_model import Model
from tests.read_models import differences

EXAMPLES = {"short": 300, "long": 5_000}
STEPS = 20
PHASES = (Phase.explicit, Phase.generate)
"""No shrinking: a history is short already, and each try is a run on a database."""

IDS = [str(uuid.UUID(int=n + 1)) for n in range(3)]
ORDERS = [str(uuid.UUID(int=n + 101)) for n in range(3)]
customer_ids, order_ids = st.sampled_from(IDS), st.sampled_from(ORDERS)
emails = st.sampled_from(["a@example.com", "A@example.com", "b@example.com", "c@example.com"])
mnemonics, labels = st.sampled_from(["P", "Q"]), st.sampled_from(["1", "2"])
names, versions = st.sampled_from(["Ada", "Eve"]), st.integers(1, 3)
days = st.sampled_from(["2024-01-01", "2024-03-01", "2024-06-01", "2024-12-31"])
prices = st.sampled_from(["0", "1.50", "19.99"])
lines = st.lists(
    st.fixed_dictionaries({"mnemonic": mnemonics, "quantity": st.integers(1, 3), "unit_price": prices}),
    min_size=1,
    max_size=2,
)


LEFT_OUT = {"set_validation_rules", "import_products"}
"""Rules and rows of an import have suites of their own."""
GIVEN: set[str] = set()


def command(kind: str, optional: dict[str, Any] | None = None, **fields: st.SearchStrategy[Any]) -> Any:  # noqa: ANN401
    """Make a strategy for a command."""
    GIVEN.add(kind)
    return st.tuples(st.just(kind), st.fixed_dictionaries(fields, optional=optional or {}))


commands = st.one_of(
    command("create_customer", customer_id=customer_ids, name=names, email=emails),
    command("create_customer", customer_id=customer_ids, name=names, email=emails),
    command(
        "update_customer",
        {"name": names, "email": emails, "is_active": st.booleans(), "expected_version": versions},
        customer_id=customer_ids,
    ),
    command("delete_customer", customer_id=customer_ids),
    command("create_product", {"category": st.sampled_from(["X", "Y"])}, mnemonic=mnemonics, overview=names),
    command("update_product", {"overview": names, "expected_version": versions}, mnemonic=mnemonics),
    command("delete_product", mnemonic=mnemonics),
    command("archive_product", {"expected_version": versions}, mnemonic=mnemonics),
    command("restore_product", {"expected_version": versions}, mnemonic=mnemonics),
    command(
        "add_product_version",
        mnemonic=mnemonics,
        version_label=labels,
        start_date=st.sampled_from(["2024-01-01", "2024-05-01"]),
        end_date=st.one_of(st.none(), st.sampled_from(["2024-06-01", "2024-12-31"])),
        items=st.just([{"name": "i", "position": 1}]),
    ),
    command("end_product_version", mnemonic=mnemonics, version_label=labels, end_date=st.one_of(st.none(), days)),
    command("place_order", customer_id=customer_ids, order_id=order_ids, lines=lines),
    command("place_order", customer_id=customer_ids, order_id=order_ids, lines=lines),
    command("cancel_order", customer_id=customer_ids, order_id=order_ids),
)
deliveries = st.tuples(st.sampled_from(["one", "two"]), st.integers(0, 25), commands)


class Histories(RuleBasedStateMachine):
    """Batches of deliveries, and deliveries that come again, on an empty database."""

    engine: Engine
    runner: asyncio.Runner

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.direct = Direct(self.engine)
        self.past: list[tuple[Arrived, str, str, str, dict[str, Any]]] = []
        self.bodies: list[bytes] = []
        self.runner.run(self.empty())

    async def empty(self) -> None:
        """Forget the history before."""
        async with connected(self.engine) as connection:
            await databases.empty(connection)

    @rule(batch=st.lists(deliveries, min_size=1, max_size=6))
    def decide_a_batch(self, batch: list[tuple[str, int, tuple[str, dict[str, Any]]]]) -> None:
        """New messages (some under ids that were used before) are answered as the model answers them."""
        arrived = []
        for caller, number, (kind, payload) in batch:
            more: dict[str, Any] = {"version": 2} if kind == "create_product" else {}
            record = self.direct.record(kind, payload, message_id=f"m{number}", caller=caller, **more)
            arrived.append((record, caller, f"m{number}", kind, payload))
        self.past += arrived
        self.compare(arrived)

    @rule(places=st.lists(st.integers(0, 200), min_size=1, max_size=4))
    def deliver_again(self, places: list[int]) -> None:
        """What was delivered before is delivered again: same id, same content, same bytes back."""
        if self.past:
            again = []
            for place in places:
                _, caller, message_id, kind, payload = self.past[place % len(self.past)]
                more: dict[str, Any] = {"version": 2} if kind == "create_product" else {}
                record = self.direct.record(kind, payload, message_id=message_id, caller=caller, **more)
                again.append((record, caller, message_id, kind, payload))
            self.compare(again)

    def compare(self, arrived: list[tuple[Arrived, str, str, str, dict[str, Any]]]) -> None:
        """Decide one batch on both sides."""
        decided = self.runner.run(self.direct.decide(*(one[0] for one in arrived)))
        for (_, caller, message_id, kind, payload), (envelope, body, replayed) in zip(arrived, decided, strict=True):
            self.bodies.append(body)
            expected, repeats = self.model.at(len(self.bodies) - 1).deliver(caller, message_id, kind, payload)
            if repeats is not None:
                assert body == self.bodies[repeats], (kind, payload, envelope)
                assert replayed
                continue
            code = envelope["data"]["error_code"] if envelope["type"] == "error" else None
            assert (envelope["statusCode"], envelope["type"], code) == expected, (kind, payload, envelope)
            assert not replayed

    def teardown(self) -> None:
        """At the end the database is as the model says, and every read model equals its recomputation."""
        self.runner.run(self.agree())

    async def agree(self) -> None:
        """Compare the database with the model."""
        async with connected(self.engine) as connection:
            rows = await connection.fetch(
                "select id::text, name, email, version, is_active from customers where deleted_at is null"
            )
            found = {row["id"]: {k: row[k] for k in ("name", "email", "version", "is_active")} for row in rows}
            assert found == self.model.customers
            rows = await connection.fetch("select id::text from customers where deleted_at is not null")
            assert {row["id"] for row in rows} == self.model.dead
            rows = await connection.fetch(
                "select mnemonic, overview, category, version, archived_at is not null as archived from products"
            )
            shown = ("overview", "category", "version", "archived")
            assert {row["mnemonic"]: [row[key] for key in shown] for row in rows} == {
                name: [one[key] for key in shown] for name, one in self.model.products.items()
            }
            rows = await connection.fetch("select id::text, customer_id::text, status, total_amount from orders")
            assert {row["id"]: (row["customer_id"], row["status"], row["total_amount"]) for row in rows} == {
                name: (one["customer"], one["status"], one["total"]) for name, one in self.model.orders.items()
            }
            rows = await connection.fetch("select caller, message_id, envelope from outcomes")
            assert {(row["caller"].removeprefix("\n"), row["message_id"]) for row in rows} == set(self.model.outcomes)
            for row in rows:
                key = (row["caller"].removeprefix("\n"), row["message_id"])
                assert (row["envelope"] is None) == (key in self.model.erased)
                if row["envelope"] is not None:
                    assert orjson.loads(row["envelope"])["statusCode"] != 500
            assert await differences(connection) == []
        assert self.direct.letters.messages == []


def test_every_command_is_modelled() -> None:
    """The model knows each command of the catalogue but those left out, and histories have all that it knows."""
    kinds = {kind.name for kind in KINDS.values() if kind.topic == "commands" and kind.role is not Role.OPERATOR}
    assert {name for name in kinds if not hasattr(Model, name)} == LEFT_OUT
    assert kinds - LEFT_OUT == GIVEN


@pytest.mark.model
def test_histories(database_url_now: str) -> None:
    """Envelopes, rows, summaries, counters and outcomes agree with the model after every history."""
    examples = EXAMPLES[os.environ.get("SUITE_SIZE", "short")]
    with asyncio.Runner() as runner:
        Histories.runner = runner
        Histories.engine = create_engine(database_url_now, PoolSettings(), "state-machine")
        try:
            run_state_machine_as_test(
                Histories,
                settings=settings(
                    max_examples=examples, stateful_step_count=STEPS, deadline=None, print_blob=True, phases=PHASES
                ),
            )
        finally:
            runner.run(Histories.engine.dispose())
