"""`catalog find` and `catalog status`: what became of a message, and how the whole system stands."""

import asyncio
from typing import Annotated, Any, Final

import typer
from rich.console import Console

from workers.command_line.exits import Exit
from workers.command_line.session import AsJson, Session, print_json
from workers.dlq.letters import iso
from workers.operator_error import OperatorError
from workers.overview import screen
from workers.overview.finding import MEANINGS, Found, Search, shown_caller
from workers.overview.snapshot import take_snapshot
from workers.tables import print_table

LONGEST_ID: Final = 128
WATCH_EVERY_S: Final = 2.0
"""How often `status --watch` looks; while nobody does, nothing is asked."""


def find(
    message_id: Annotated[str, typer.Argument(metavar="MESSAGE_ID", help="As its caller sent it.")],
    *,
    caller: Annotated[str | None, typer.Option("--caller", help="Only this caller's: SUB, or 'ISS SUB'.")] = None,
    timeout: Annotated[float, typer.Option("--timeout", min=0.1, help="Seconds for each server.")] = 30.0,
    as_json: AsJson = False,
) -> None:
    """Say what became of a message: decided, parked, put aside, waiting, or unknown. Never what is in it.

    Exit code 1 where something could not be read, and nothing was found in what could.
    """
    if not message_id.isascii() or not message_id.isprintable() or not 1 <= len(message_id) <= LONGEST_ID:
        raise OperatorError(f"a message id has 1-{LONGEST_ID} printable ASCII characters", usage=True)
    session = Session.begin("find", log_level="ERROR")
    found = session.run(lambda: Search(session, message_id, caller)(timeout))
    if as_json:
        print_json(as_dict(found))
    else:
        show(found)
    if found.missing and found.state == "unknown":
        raise typer.Exit(Exit.FAILED)


def status(
    *,
    watch: Annotated[bool, typer.Option("--watch", help="Again every 2 s, until Ctrl-C.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show the whole system on one screen, within 5 s, also while no worker runs; what cannot be read is said.

    Exit code 1 where a section could not be read.
    """
    session = Session.begin("status", log_level="CRITICAL")
    read_all = session.run(lambda: _look(session, watch=watch, as_json=as_json))
    if not read_all:
        raise typer.Exit(Exit.FAILED)


async def _look(session: Session, *, watch: bool, as_json: bool) -> bool:
    console = Console()
    while True:
        snapshot = await take_snapshot(session)
        told = screen.as_dict(snapshot)
        if as_json:
            print_json(told)
        else:
            if watch and console.is_terminal:
                console.clear()
            screen.show(snapshot)
        if not watch:
            return not any(isinstance(one, dict) and one["could_not_be_read"] for one in told.values())
        await asyncio.sleep(WATCH_EVERY_S)


def as_dict(found: Found) -> dict[str, Any]:
    """Return what was found for a program; times are RFC 3339 in UTC, what was not read is null."""
    stored, letters = found.stored.value, found.letters.value
    return {
        "message_id": found.message_id,
        "state": found.state.value,
        "outcomes": None
        if stored is None
        else [
            {
                "caller": shown_caller(one.caller),
                "kind": one.kind,
                "status_code": one.status_code,
                "position": f"{one.topic}/{one.partition}/{one.offset}",
                "stamped_at": iso(one.stamped_at),
                "decided_at": iso(one.decided_at),
            }
            for one in stored.outcomes
        ],
        "waiting": None
        if found.waiting.value is None
        else [
            {
                "caller": shown_caller(one.caller) if one.caller is not None else None,
                "kind": one.kind,
                "position": f"{one.topic}/{one.partition}/{one.offset}",
                "stamped_at": iso(one.stamped_at),
                "ahead": one.ahead,
                "is_replay": one.is_replay,
            }
            for one in found.undecided
        ],
        "letters": None if letters is None else [_letter(found, number) for number in range(len(letters))],
        "actions": None
        if stored is None
        else [
            {
                "letter": f"{one.letter_topic}/{one.letter_partition}/{one.letter_offset}",
                "action": one.action,
                "operator": one.operator,
                "edits": list(one.edits),
                "note": one.note,
                "asked_at": iso(one.asked_at),
                "done_at": iso(one.done_at) if one.done_at is not None else None,
            }
            for one in stored.actions
        ],
        "could_not_be_read": dict(found.missing),
    }


def _letter(found: Found, number: int) -> dict[str, Any]:
    letter = (found.letters.value or ())[number]
    stored = found.stored.value
    done = stored.done.get(letter.failure) if stored is not None else None
    behind = stored.behind.get(letter.failure) if stored is not None else None
    return {
        "id": letter.id,
        "reason": letter.reason,
        "kind": letter.kind,
        "caller": shown_caller(letter.caller) if letter.caller is not None else None,
        "failed_at": iso(letter.failed_at),
        "incident": letter.incident,
        "attempts": letter.failure.attempts,
        "is_open": None if stored is None else done is None,
        "parked_behind": None
        if behind is None or not behind.ahead
        else {
            "position": f"{letter.failure.topic}/{behind.partition}/{behind.offset}",
            "incident": behind.incident,
            "ahead": behind.ahead,
            "since": iso(behind.parked_at),
        },
    }


def show(found: Found) -> None:
    """Print what was found: the state first, a table for each place where something is, and what to do."""
    told = as_dict(found)
    typer.echo(f"{found.message_id}: {found.state.value.replace('_', ' ')}. {MEANINGS[found.state]}")
    if told["outcomes"]:
        print_table(
            ["decided", "status", "kind", "caller", "position", "stamped"],
            [
                [
                    one["decided_at"],
                    str(one["status_code"] or "erased"),
                    one["kind"],
                    one["caller"],
                    one["position"],
                    one["stamped_at"],
                ]
                for one in told["outcomes"]
            ],
        )
    if told["waiting"]:
        print_table(
            ["waits at", "stamped", "kind", "caller", "before it"],
            [
                [
                    one["position"] + (" (replay)" if one["is_replay"] else ""),
                    one["stamped_at"],
                    one["kind"] or "unknown",
                    one["caller"] or "not verified",
                    str(one["ahead"]),
                ]
                for one in told["waiting"]
            ],
        )
    if told["letters"]:
        print_table(
            ["dead letter", "put aside", "reason", "kind", "caller", "incident", "state"],
            [
                [
                    one["id"],
                    one["failed_at"],
                    one["reason"],
                    one["kind"],
                    one["caller"] or "not verified",
                    one["incident"] or "",
                    _state(one),
                ]
                for one in told["letters"]
            ],
        )
    if told["actions"]:
        print_table(
            ["when", "who", "did", "to", "note"],
            [
                [
                    one["asked_at"],
                    one["operator"],
                    one["action"] + ("" if one["done_at"] else ", not confirmed"),
                    one["letter"],
                    ", ".join([*one["edits"], *([one["note"]] if one["note"] else [])]),
                ]
                for one in told["actions"]
            ],
        )
    for name, reason in found.missing.items():
        typer.echo(f"could not be read: {name}: {reason}")
    for one in told["letters"] or []:
        if one["is_open"]:
            typer.echo(f"next: `catalog dlq show {one['id']}`")


def _state(letter: dict[str, Any]) -> str:
    parked = letter["parked_behind"]
    if parked is not None:
        return f"parked behind {parked['position']} (incident {parked['incident']}), {parked['ahead']} before it"
    return {True: "open", False: "dealt with", None: "not known"}[letter["is_open"]]
