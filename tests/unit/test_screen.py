"""A picture of the system as text, at two widths and in a pipe, and as JSON; and what a worker tells for it."""

import io
import json
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest
from prometheus_client import CollectorRegistry, Counter
from rich.console import Console
from rich.text import Text

from contracts.backfills import ChangeResult
from persistence.blocks import Block
from persistence.overview import Acted, WorkerSeen
from workers import tables
from workers.kafka.observation import PartitionHealth
from workers.overview import screen
from workers.overview.section import Section
from workers.overview.snapshot import BackfillSeen, Lag, Letters, Snapshot
from workers.telemetry.told import Tally, Telling

AT: Final = datetime(2026, 1, 31, 12, tzinfo=UTC)
LONG: Final = "commands-catalog-workers-7d9f8b6c5d-x2x4z-1"
ENDED: Final = {
    "minute": [("create_customer", "201", 1_200), ("create_customer", "409", 3)],
    "hour": [("create_customer", "201", 70_000), ("create_customer", "409", 40), ("get_product", "200", 5)],
}
WORKER: Final = WorkerSeen(
    LONG, "commands", 0.4, {"product_catalog": "dual_write"}, {"commands": 12.0}, AT, "0.1.0", ("catalog.commands/0",),
    ENDED,
)  # fmt: skip
DEAD: Final = WorkerSeen("queries-1", "queries", 7_300.0, {}, {}, AT, None, (), ENDED)


def read(value: Any, seconds_ago: float = 0.5) -> Section[Any]:  # noqa: ANN401
    """Make a section; a text is why it could not be read."""
    at = AT - timedelta(seconds=seconds_ago)
    return Section(at, None, value) if isinstance(value, str) else Section(at, value)


def picture(**other: Any) -> Snapshot:  # noqa: ANN401
    """Make a snapshot with something in each section."""
    change = ChangeResult("product_catalog", "dual_write", AT, "olga", "backfilled", "refused", "not yet", "olga", AT)
    sections = {
        "workers": [WORKER, DEAD],
        "lag": [Lag("catalog.commands", 0, 12, 83.2), Lag("catalog.commands", 1, 0, 0.0)],
        "letters": Letters({"INTERNAL_ERROR": 412, "PARKED": 3}, complete=False),
        "backfills": [BackfillSeen("product_catalog", "paused", 0.25, 1_000, 2, "paused by olga")],
        "changes": [change],
        "blocks": [Block("caller", "ada", "olga", "a runaway job", AT)],
        "actions": [Acted(AT, "olga", "replayed a dead letter", "catalog.commands.dead-letters/3/17", "done")],
    } | other
    return Snapshot(AT, **{name: read(value) for name, value in sections.items()})


def shown(snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch, width: int | None) -> str:
    """Print it on a terminal of that width, or in a pipe; blanks at the ends of lines do not count."""
    text = io.StringIO()

    def console(**_: object) -> Console:
        return Console(file=text, force_terminal=width is not None, width=width or 80, no_color=True, highlight=False)

    monkeypatch.setattr(tables, "Console", console)
    monkeypatch.setattr("typer.echo", lambda line: text.write(f"{line}\n"))
    screen.show(snapshot)
    plain = Text.from_ansi(text.getvalue()).plain
    return "".join(f"{line.rstrip()}\n" for line in plain.splitlines())


AT_140: Final = """\
! no worker for queries runs
! no worker for backfill runs

Workers (0.5 s ago)
 worker                                       role      release   last beat      partitions  phases
 commands-catalog-workers-7d9f8b6c5d-x2x4z-1  commands  0.1.0     0 s ago        1           product_catalog: dual_write
 queries-1                                    queries   not told  2 h ago, dead  0

Lag (0.5 s ago)
 topic             waiting  oldest waits  partitions behind
 catalog.commands  12       1 min         0

Ended (0.5 s ago)
 kind             minute  errors  hour    errors
 create_customer  1,203   3       70,040  40
 get_product      0       0       5       0

Dead letters (0.5 s ago)
 reason          open
 INTERNAL_ERROR  412
 PARKED          3
 (older ones)    beyond the latest 1,000

Backfills (0.5 s ago)
 backfill         state   done  rows   aside  held by
 product_catalog  paused  25%   1,000  2      paused by olga

Changes (0.5 s ago)
 change           phase       since                 by    last asked for
 product_catalog  dual_write  2026-01-31T12:00:00Z  olga  backfilled: refused (not yet)

Blocks (0.5 s ago)
 blocked  name  since                 by    reason
 caller   ada   2026-01-31T12:00:00Z  olga  a runaway job

Operators (0.5 s ago)
 when                  who   did                     to                                  became
 2026-01-31T12:00:00Z  olga  replayed a dead letter  catalog.commands.dead-letters/3/17  done
"""


@pytest.mark.parametrize("width", [140, None])
def test_it_is_as_it_was_looked_at(width: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wide terminal and a pipe show each row on a line of its own."""
    assert shown(picture(), monkeypatch, width) == AT_140


def test_a_narrow_terminal_breaks_no_id(monkeypatch: pytest.MonkeyPatch) -> None:
    """At 80 columns names of workers, topics and places are whole."""
    text = shown(picture(), monkeypatch, 80)
    for whole in (LONG, "catalog.commands.dead-letters/3/17", "2026-01-31T12:00:00Z", "INTERNAL_ERROR"):
        assert whole in text


@pytest.mark.parametrize("name", ["workers", "lag", "letters", "backfills", "changes", "blocks", "actions"])
def test_a_section_that_could_not_be_read_says_so(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its reason and its age; the others are as they were."""
    snapshot = picture(**{name: "Kafka is away"})
    text = shown(snapshot, monkeypatch, 140)
    told = screen.as_dict(snapshot)
    assert " could not be read: Kafka is away (0.5 s ago)\n" in text
    missing = {one for one, section in told.items() if isinstance(section, dict) and section["could_not_be_read"]}
    of = {"workers": {"workers", "rates"}, "letters": {"dead_letters"}}
    assert missing == of.get(name, {name})
    assert all(told[one]["value"] is None for one in missing)


def test_nothing_is_said_to_be_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty system has a line for each section, and says first that no worker runs."""
    empty = picture(
        workers=[], lag=[], letters=Letters({}, complete=True), backfills=[], changes=[], blocks=[], actions=[]
    )
    text = shown(empty, monkeypatch, 80)
    assert text.startswith("! no worker runs\n")
    assert text.count(": none\n") == 8


def test_the_fields_of_the_json() -> None:
    """Every field: to add one is a decision. It is JSON without help."""
    told = json.loads(json.dumps(screen.as_dict(picture())))
    assert {name: sorted(one["value"][0]) for name, one in told.items() if name in set(told) - {
        "taken_at", "first", "dead_letters"
    }} == {
        "workers": ["lives", "p99_ms", "partitions", "phases", "role", "seen_s_ago", "started_at", "version", "worker"],
        "rates": ["hour", "hour_errors", "kind", "minute", "minute_errors"],
        "lag": ["messages", "partition", "seconds", "topic"],
        "backfills": ["fraction", "held_by", "name", "rows_done", "rows_quarantined", "state"],
        "changes": ["asked_at", "asked_by", "change", "changed_at", "changed_by", "phase", "reason", "to", "wish"],
        "blocks": ["blocked_at", "name", "operator", "reason", "target"],
        "actions": ["at", "of", "operator", "outcome", "what"],
    }  # fmt: skip
    assert told["dead_letters"]["value"] == {"by_reason": {"INTERNAL_ERROR": 412, "PARKED": 3}, "complete": False}


# What a worker tells --------------------------------------------------------------------------------------------------


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("ends_at", "looked_at", "minute", "hour"),
    [
        ([], 3_600, 0, 0),
        ([5], 30, 1, 1),
        ([5], 64, 1, 1),
        ([5], 76, 0, 1),
        ([5, 100], 130, 1, 2),
        ([5, 3_500], 3_590, 0, 2),
        ([5, 3_650], 3_690, 1, 1),
        ([7_000, 7_190, 7_195], 7_200, 2, 3),
    ],
)
def test_a_tally_tells_of_the_last_minute_and_hour(ends_at: list[int], looked_at: int, minute: int, hour: int) -> None:
    """To ten seconds; what ended before is forgotten, and so is what was kept of it."""
    counter, clock = Counter("ended", "x", ["kind", "end", "status_code"], registry=CollectorRegistry()), Clock()
    tally = Tally(counter, clock)
    for second in range(looked_at):
        clock.now = float(second)
        if second in ends_at:
            counter.labels("k", "applied", "201").inc()
        tally()
    clock.now = float(looked_at)
    spans = tally()
    assert (spans["minute"].get(("k", "201"), 0), spans["hour"].get(("k", "201"), 0)) == (minute, hour)
    assert len(tally._kept) <= 362


def test_what_a_worker_tells_is_json_of_closed_sets() -> None:
    """Release, partitions in order, and sums by kind and status; of a worker without messages the release alone."""
    counter, clock = Counter("ended", "x", ["kind", "end", "status_code"], registry=CollectorRegistry()), Clock()
    counter.labels("k", "applied", "201").inc(2)
    counter.labels("k", "refused", "409").inc()
    positions = [PartitionHealth(("catalog.commands", number), None, None, 0.0, None) for number in (2, 0)]
    told = json.loads(Telling(Tally(counter, clock), lambda: positions)())
    assert told["partitions"] == ["catalog.commands/0", "catalog.commands/2"]
    assert told["ended"]["minute"] == told["ended"]["hour"] == [["k", "201", 2], ["k", "409", 1]]
    assert json.loads(Telling()()) == {"version": told["version"], "partitions": [], "ended": {}}
