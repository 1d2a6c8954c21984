"""What `catalog find` makes of what it read: the state, the text at two widths and in a pipe, the JSON."""

import io
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

import pytest
from rich.console import Console
from rich.text import Text
from typer.testing import CliRunner

from persistence.dead_letter_actions import Done, Failure
from persistence.traces import Acted, Behind, Decided
from workers import tables
from workers.cli import app
from workers.operator_error import OperatorError
from workers.overview.commands import as_dict, show
from workers.overview.finding import Found, FoundLetter, State, Stored, Waiting
from workers.overview.section import Section

AT: Final = datetime(2026, 1, 31, 12, tzinfo=UTC)
FAILURE: Final = Failure("catalog.commands", 3, 17, AT, 1)
LETTER: Final = FoundLetter("commands/3/4", FAILURE, "PARKED", "create_customer", "https://id\nada", AT, "0197-i")
WAITING: Final = Waiting("catalog.commands", 3, 20, AT, "create_customer", "\nada", is_replay=False, ahead=2)
OUTCOME: Final = Decided("\nada", "create_customer", 201, "catalog.commands", 3, 18, AT, AT)
BEHIND: Final = Behind(AT, 3, 12, AT, "0197-first", 2)
FRONT: Final = replace(BEHIND, ahead=0)
ACTED: Final = Acted("catalog.commands.dead-letters", 3, 4, "PARKED", "discarded", "olga", [], "no need", AT, AT)
DONE: Final = Done("discarded", "olga", AT)
NOTHING: Final = Stored([], [], {}, {})


def found(
    waiting: list[Waiting] | str = [], letters: list[FoundLetter] | str = [], stored: Stored | str = NOTHING  # noqa: B006
) -> Found:  # fmt: skip
    """Put together what was read; a text is why it could not be."""

    def section(part: Any) -> Section[Any]:  # noqa: ANN401
        return Section(AT, None, part) if isinstance(part, str) else Section(AT, part)

    return Found("m-1", section(waiting), section(letters), section(stored))


@pytest.mark.parametrize(
    ("one", "state"),
    [
        (found(), State.UNKNOWN),
        (found([WAITING]), State.WAITING),
        (found(stored=replace(NOTHING, outcomes=[OUTCOME])), State.DECIDED),
        (found([replace(WAITING, offset=18)], stored=replace(NOTHING, outcomes=[OUTCOME])), State.DECIDED),
        (found([WAITING], stored=replace(NOTHING, outcomes=[OUTCOME])), State.WAITING),
        (found(letters=[LETTER]), State.DEAD_LETTER),
        (found(letters=[LETTER], stored=replace(NOTHING, behind={FAILURE: BEHIND})), State.PARKED),
        (found(letters=[LETTER], stored=replace(NOTHING, behind={FAILURE: FRONT})), State.DEAD_LETTER),
        (found(letters=[LETTER], stored=replace(NOTHING, done={FAILURE: DONE})), State.DEALT_WITH),
        (found([WAITING], [LETTER], replace(NOTHING, done={FAILURE: DONE})), State.WAITING),
        (found(letters=[LETTER], stored=replace(NOTHING, outcomes=[OUTCOME])), State.DECIDED),
        (found(stored=replace(NOTHING, actions=[ACTED])), State.DEALT_WITH),
        (found(stored=replace(NOTHING, actions=[replace(ACTED, action="revealed")])), State.UNKNOWN),
        (found(stored=replace(NOTHING, actions=[replace(ACTED, done_at=None)])), State.UNKNOWN),
        (found("away", "away", replace(NOTHING, outcomes=[OUTCOME])), State.DECIDED),
        (found([WAITING], [], "away"), State.WAITING),
    ],
)  # fmt: skip
def test_the_state_is_where_the_message_is_now(one: Found, state: State) -> None:
    """Of several that are true the one that is still under way counts; what was read and left open counts as open."""
    assert one.state is state


EVERYTHING: Final = found([WAITING], [LETTER], Stored([OUTCOME], [ACTED], {}, {FAILURE: BEHIND}))
AT_140: Final = """\
m-1: waiting. It is in the log, and no worker has acknowledged it yet.
 decided               status  kind             caller  position               stamped
 2026-01-31T12:00:00Z  201     create_customer  ada     catalog.commands/3/18  2026-01-31T12:00:00Z
 waits at               stamped               kind             caller  before it
 catalog.commands/3/20  2026-01-31T12:00:00Z  create_customer  ada     2
 dead letter   put aside             reason  kind             caller          incident  state
 commands/3/4  2026-01-31T12:00:00Z  PARKED  create_customer  https://id ada  0197-i    parked behind catalog.commands/3/12 (incident
                                                                                        0197-first), 2 before it
 when                  who   did        to                                 note
 2026-01-31T12:00:00Z  olga  discarded  catalog.commands.dead-letters/3/4  no need
next: `catalog dlq show commands/3/4`
"""  # noqa: E501


def shown(one: Found, monkeypatch: pytest.MonkeyPatch, width: int | None) -> str:
    """Print it on a terminal of that width, or in a pipe; blanks at the ends of lines do not count."""
    text = io.StringIO()

    def console(**_: object) -> Console:
        return Console(file=text, force_terminal=width is not None, width=width or 80, no_color=True, highlight=False)

    monkeypatch.setattr(tables, "Console", console)
    monkeypatch.setattr("typer.echo", lambda line: text.write(f"{line}\n"))
    show(one)
    plain = Text.from_ansi(text.getvalue()).plain
    return "".join(f"{line.rstrip()}\n" for line in plain.splitlines())


def test_it_fits_a_wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """At 140 columns all of it is as it was looked at."""
    assert shown(EVERYTHING, monkeypatch, 140) == AT_140


@pytest.mark.parametrize("width", [80, None])
def test_no_id_is_broken(width: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a narrow terminal ids, positions and times are whole; in a pipe each row is a line."""
    text = shown(EVERYTHING, monkeypatch, width)
    for whole in ("catalog.commands/3/18", "commands/3/4", "catalog.commands.dead-letters/3/4", "0197-first", "0197-i"):
        assert whole in text
    if width is None:
        assert len(text.splitlines()) == len(AT_140.splitlines()) - 1
        assert "parked behind catalog.commands/3/12 (incident 0197-first), 2 before it\n" in text


def test_the_json_is_complete_and_says_what_was_not_read() -> None:
    """Every field of it; to add one is a decision. What could not be read is null, with its reason."""
    told = as_dict(EVERYTHING)
    assert {name: sorted(part[0]) for name, part in told.items() if isinstance(part, list)} == {
        "outcomes": ["caller", "decided_at", "kind", "position", "stamped_at", "status_code"],
        "waiting": ["ahead", "caller", "is_replay", "kind", "position", "stamped_at"],
        "letters": ["attempts", "caller", "failed_at", "id", "incident", "is_open", "kind", "parked_behind", "reason"],
        "actions": ["action", "asked_at", "done_at", "edits", "letter", "note", "operator"],
    }
    assert told["letters"][0]["parked_behind"] == {
        "position": "catalog.commands/3/12", "incident": "0197-first", "ahead": 2, "since": "2026-01-31T12:00:00Z"
    }  # fmt: skip
    nothing = as_dict(found("Kafka is away", "Kafka is away", "refused"))
    assert (nothing["outcomes"], nothing["waiting"], nothing["letters"], nothing["actions"]) == (None,) * 4
    assert nothing["could_not_be_read"] == {
        "the log": "Kafka is away", "dead letters": "Kafka is away", "outcomes": "refused"
    }  # fmt: skip


@pytest.mark.parametrize("message_id", ["", "x" * 129, "ü", "a\tb", "a\n"])
def test_an_id_that_none_can_be_is_refused(message_id: str) -> None:
    """What no message can be called is a wrong argument, before any server is asked."""
    refused = CliRunner().invoke(app, ["find", message_id]).exception
    assert isinstance(refused, OperatorError)
    assert (refused.usage, str(refused)) == (True, "a message id has 1-128 printable ASCII characters")
