"""A kind without a use case, or a use case without a kind, is found at the start, by its name."""

from pathlib import Path

import pytest

from contracts.registry import KINDS
from handlers.commands import COMMANDS
from handlers.queries import QUERIES
from tests.unit.test_settings import GOOD
from workers import bootstrap
from workers.checks import StartRefusedError
from workers.operator_error import OperatorError
from workers.pipeline.served import unserved_because
from workers.settings import Settings

SIDES = {"commands": COMMANDS, "queries": QUERIES}


def without(side: str, name: str) -> set[str]:
    """Name the use cases of a side but one."""
    return SIDES[side].keys() - {name}


@pytest.mark.parametrize(
    ("side", "served", "tables", "told"),
    [
        ("commands", without("commands", "place_order"), {}, ["the kind 'place_order' has no use case"]),
        ("queries", without("queries", "get_outcome"), {}, ["the kind 'get_outcome' has no use case"]),
        ("commands", {*COMMANDS, "paint_product"}, {}, ["the use case 'paint_product' has no kind"]),
        ("queries", {*QUERIES, "paint_product"}, {}, ["the use case 'paint_product' has no kind"]),
        ("commands", {*COMMANDS, "get_customer"}, {}, ["the use case 'get_customer' has no kind"]),
        ("queries", QUERIES, {"look-ups by key": ["get_ordr"]}, ["'get_ordr' among look-ups by key is no kind"]),
        (
            "commands",
            {*without("commands", "cancel_order"), "cancel_ordr"},
            {},
            ["the kind 'cancel_order' has no use case", "the use case 'cancel_ordr' has no kind"],
        ),
    ],
)
def test_what_is_missing_is_named(side: str, served: set[str], tables: dict[str, list[str]], told: list[str]) -> None:
    """In one line, all of it at once; a use case of the other topic's kind counts as one without."""
    found = unserved_because(side, KINDS, served, tables)
    assert found == f"{side} are not served as the contract says: {', '.join(told)}"


def test_this_release_is_whole() -> None:
    """Every kind of the contract is served, and nothing else."""
    assert bootstrap.unserved("commands") is None
    assert bootstrap.unserved("queries") is None


@pytest.mark.parametrize(
    ("table", "of", "told"),
    [
        ("COMMANDS", {"place_order": None}, "the kind 'create_customer' has no use case"),
        ("COMMANDS", {**COMMANDS, "paint_product": None}, "the use case 'paint_product' has no kind"),
        ("PREPARATIONS", {"paint_product": None}, "'paint_product' among preparations is no kind"),
        ("QUERIES", dict.fromkeys(without("queries", "get_order")), "the kind 'get_order' has no use case"),
        ("QUERIES", {**QUERIES, "paint_product": None}, "the use case 'paint_product' has no kind"),
        ("LOOK_UPS", frozenset({"paint_product"}), "'paint_product' among look-ups by key is no kind"),
        ("AT_ONCE", {"paint_product": 1}, "'paint_product' among what is answered together is no kind"),
    ],
)
async def test_a_worker_refuses_to_start(table: str, of: object, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before it connects to anything, in one line, as all that an operator can mend."""
    monkeypatch.setattr(bootstrap, table, of)
    run = bootstrap.run_command_worker if table in {"COMMANDS", "PREPARATIONS"} else bootstrap.run_query_worker
    for name, value in GOOD.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(StartRefusedError) as refused:
        await run(Settings.load(Path("/nowhere")))
    assert told in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1
    assert issubclass(StartRefusedError, OperatorError)
