"""What the command line prints in tables: ids and names are whole, on a narrow terminal and in a pipe."""

import io
import uuid
from collections.abc import Callable
from typing import Any, Final

import pytest
from rich.console import Console

from workers import demo
from workers.backfill import picture
from workers.backfill.picture import print_listing, print_picture
from workers.dlq import commands as dlq
from workers.doctor import commands as doctor
from workers.doctor.findings import warning
from workers.tables import print_table

ID: Final = str(uuid.uuid4())
LONG_NAME: Final = "products_move_the_old_catalogue_to_its_new_column"
TEXT: Final = "a text that is long enough to be wrapped on any terminal that people have on their desks, twice over"
RUN: Final[dict[str, Any]] = {
    "name": LONG_NAME,
    "table": "validation_instances",
    "kind": "backfill",
    "run_id": ID,
    "state": "running",
    "reason": TEXT,
    "rows_walked": 10,
    "rows_estimated": 20,
    "rows_done": 1_000_000,
    "rows_quarantined": 3,
    "fraction": 0.5,
    "pass": 1,
    "rows_per_s": 10.0,
    "rate_cap_rows_per_s": None,
    "seconds_left": None,
    "chunks": {"done": 1},
    "chunk_rows": 10,
    "time": [],
    "trouble": None,
    "quarantine": [{"key": [ID], "reason": TEXT}],
    "result": None,
    "verify": None,
    "throttle": {"share": 1, "readings": []},
    "workers": [],
    "summary": TEXT,
    "waits_because": None,
    "known_by": ["backfill-1"],
    "dry_run": False,
}


def letters() -> None:
    """Print a list of dead letters."""
    columns = ("id", "failed_at", "reason", "kind", "caller", "message_id", "attempts", "state")
    row = dict.fromkeys(columns, "x") | {
        "id": "commands/11/123456789",
        "reason": "REPLY_UNDELIVERABLE",
        "kind": "add_product_version",
        "caller": f"https://identity.example.com/realms/shop {LONG_NAME}",
        "message_id": ID,
        "failed_at": "2026-01-01T00:00:00Z",
    }
    dlq._print_table([row], columns, "1 dead letter")


def findings() -> None:
    """Print what the doctor found."""
    doctor.print_findings([warning("catalog-of-the-shop.commands.dead-letters", f"{TEXT} {ID}", TEXT)])


def steps() -> None:
    """Print a scenario."""
    demo.print_scenario([["create", "create_customer", "201", "success", f"Customer '{ID}' created", "ok"]])


PRINTED: dict[str, tuple[Callable[[], None], tuple[str, ...]]] = {
    "dlq list": (letters, (ID, "commands/11/123456789", "REPLY_UNDELIVERABLE", "add_product_version", LONG_NAME)),
    "doctor": (findings, (ID, "catalog-of-the-shop.commands.dead-letters")),
    "backfill list": (lambda: print_listing([RUN]), (LONG_NAME, "validation_instances", "1,000,000")),
    "backfill start": (lambda: print_picture(RUN), (LONG_NAME, ID)),
    "the scenario": (steps, (ID, "create_customer")),
    "settings": (lambda: print_table(["setting", "value"], [["DATABASE_URL", f"postgresql://{LONG_NAME * 3}"]]), ()),
}


@pytest.mark.parametrize(("printing", "whole"), PRINTED.values(), ids=PRINTED)
@pytest.mark.parametrize("terminal", [True, False], ids=["terminal", "pipe"])
def test_ids_and_names_are_whole(
    printing: Callable[[], None], whole: tuple[str, ...], terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At 80 columns nothing is cut or broken within; a pipe knows no columns at all."""
    out = io.StringIO()

    def console(**_: object) -> Console:
        return Console(file=out, force_terminal=terminal, width=80, color_system=None, highlight=False)

    for module in ("workers.tables", "workers.backfill.picture"):
        monkeypatch.setattr(f"{module}.Console", console)
    monkeypatch.setattr(demo, "_console", console())
    printing()
    printed = out.getvalue()
    assert "…" not in printed
    for one in whole:
        assert any(one in line for line in printed.splitlines()), f"{one} is broken:\n{printed}"
    if not terminal:
        assert TEXT not in printed or all(TEXT in line for line in printed.splitlines() if "a text" in line)


def test_a_table_that_can_fit_a_terminal_does() -> None:
    """Texts are wrapped between words; ids beside them are not."""
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=80, color_system=None)
    print_table(["id", "text"], [[ID, TEXT]], console=console)
    assert max(len(line.rstrip()) for line in out.getvalue().splitlines()) <= 80
    assert picture.BAR_WIDTH < 80
