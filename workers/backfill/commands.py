"""`catalog backfill`: what an operator does by hand, through the same control as the commands on Kafka."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Annotated, Final, TypeVar

import typer
from rich.live import Live

from persistence.backfill.chunks import commit
from persistence.backfill.definition import load_definitions
from persistence.backfill.states import ACTIVE
from persistence.engine import Connection, Engine
from workers.backfill.control import BackfillControl, RunView
from workers.backfill.picture import picture, picture_console, print_listing, print_picture
from workers.backfill.workplace import RELEASED
from workers.command_line.exits import Exit
from workers.command_line.session import AsJson, Session, print_json

WATCH_EVERY_S: Final = 0.5
"""How often `watch` looks."""

T = TypeVar("T")

backfill_app = typer.Typer(no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The backfill, as `catalog backfill list` shows it.")]
Reverse = Annotated[bool, typer.Option("--reverse", help="Its reverse instead.")]


@backfill_app.command("list")
def list_backfills(*, as_json: AsJson = False) -> None:
    """List every backfill with the state of its last run."""
    views = _once(lambda control: control.list_all())
    if as_json:
        print_json(list(views))
    else:
        print_listing(views)


@backfill_app.command()
def plan(name: Name, *, reverse: Reverse = False, as_json: AsJson = False) -> None:
    """Say what a run would walk, lock and do. Nothing happens."""
    view = _once(lambda control: control.plan(name, reverse=reverse))
    if as_json:
        print_json(dict(view))
        return
    for title, value in view.items():
        typer.echo(f"{title:<20} {value if isinstance(value, str) else json.dumps(value)}")


@backfill_app.command()
def start(
    name: Name,
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only the first chunk, rolled back, and an estimate.")
    ] = False,
    reverse: Reverse = False,
    rate: Annotated[float | None, typer.Option("--rate", min=0.001, help="At most so many rows a second.")] = None,
    as_json: AsJson = False,
) -> None:
    """Ask for a run; the backfill workers carry it out."""
    _wish(lambda control: control.start(name, dry_run=dry_run, reverse=reverse, rate_rows_per_s=rate), as_json=as_json)


@backfill_app.command()
def watch(name: Name, *, as_json: AsJson = False) -> None:
    """Show a run, live, until it ends. With --json a line for each look. Exit code 1 when it failed."""
    Session.begin("backfill").run_with_engine(lambda engine: _watch(engine, name, as_json=as_json), attended=False)


@backfill_app.command()
def pause(name: Name, *, as_json: AsJson = False) -> None:
    """Stop within two seconds; what was committed stays, `resume` goes on from there."""
    _wish(lambda control: control.pause(name), as_json=as_json)


@backfill_app.command()
def resume(name: Name, *, as_json: AsJson = False) -> None:
    """Let a paused run go on."""
    _wish(lambda control: control.resume(name), as_json=as_json)


@backfill_app.command()
def cancel(name: Name, *, as_json: AsJson = False) -> None:
    """End a run for good; what was committed stays."""
    _wish(lambda control: control.cancel(name), as_json=as_json)


@backfill_app.command()
def rate(
    name: Name,
    rows_per_s: Annotated[float, typer.Argument(min=0, help="At most so many rows a second, all workers; 0: no cap.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Cap the rate of the active run, or lift the cap."""
    _wish(lambda control: control.set_rate(name, rows_per_s or None), as_json=as_json)


@backfill_app.command()
def retry(name: Name, *, as_json: AsJson = False) -> None:
    """Set a failed run going again, or treat the rows that were put aside."""
    _wish(lambda control: control.retry(name), as_json=as_json)


@backfill_app.command()
def verify(name: Name, *, as_json: AsJson = False) -> None:
    """Ask for a proof that the last run missed nothing; `watch` shows what it finds."""
    _wish(lambda control: control.verify(name), as_json=as_json)


# --------------------------------------------------------------------------------------------------------------- pieces


def _wish(act: Callable[[BackfillControl], Awaitable[RunView]], *, as_json: bool) -> None:
    view = _once(act)
    if as_json:
        print_json(dict(view))
    else:
        print_picture(view)


def _once(act: Callable[[BackfillControl], Awaitable[T]]) -> T:
    return Session.begin("backfill").run_with_engine(lambda engine: _act(engine, act))


async def _act(engine: Engine, act: Callable[[BackfillControl], Awaitable[T]]) -> T:
    definitions = load_definitions(RELEASED)

    async def work(connection: Connection) -> T:
        return await act(BackfillControl(connection, definitions))

    return await commit(engine, work)


async def _watch(engine: Engine, name: str, *, as_json: bool) -> None:
    if as_json:
        view = await _follow(engine, name, lambda view: print_json(dict(view)))
    else:
        with Live(auto_refresh=False, console=picture_console()) as live:
            view = await _follow(engine, name, lambda view: live.update(picture(view), refresh=True))
    last = view.get("verify") or view
    if last["state"] == "failed":
        raise typer.Exit(Exit.FAILED)


async def _follow(engine: Engine, name: str, show: Callable[[RunView], None]) -> RunView:
    """Show the run until nothing of it is active; returns it as it ended."""
    while True:
        view = await _act(engine, lambda control: control.get(name))
        show(view)
        verify = view.get("verify")
        if view["state"] not in ACTIVE and (verify is None or verify["state"] not in ACTIVE):
            return view
        await asyncio.sleep(WATCH_EVERY_S)
