"""`catalog change`: where the zero-downtime changes stand, and their steps by hand, forth and back.

A step that is refused changes nothing; the reason is one line on standard error, and the exit code is 1.
"""

import getpass
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from typing import Annotated, Final, TypeVar

import typer

from contracts.backfills import ChangeResult
from persistence.engine import Engine, PoolSettings, connected, create_engine
from persistence.phase_wishes import all_changes
from persistence.phases import Heartbeat, Phase, PhaseRefusedError, UnknownPhaseError, advance, live_workers
from workers.attendance import ServerAwayError, run_attended
from workers.settings import Settings
from workers.tables import print_table

change_app = typer.Typer(no_args_is_help=True, help="Zero-downtime changes: their phases, forth and back.")

T = TypeVar("T")

Change = Annotated[str, typer.Argument(metavar="CHANGE", help="The change, as `catalog change show` names it.")]
Operator = Annotated[
    str | None,
    typer.Option("--operator", envvar="CATALOG_OPERATOR", help="Your name, for the record; the user's else."),
]
_ORDER: Final = list(Phase)


@change_app.command()
def show(*, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Show each change with its phase, the last step that was asked for, and by which phase each worker acts."""
    changes, workers = _run(_look)
    if as_json:
        found = {"changes": [asdict(one) for one in changes], "workers": [asdict(one) for one in workers]}
        typer.echo(json.dumps(found, default=str))
        return
    rows = []
    for one in changes:
        asked = f"{one.to}: {one.wish}" + (f" ({one.reason})" if one.reason else "") if one.to else ""
        rows.append([one.change, one.phase, f"{one.changed_at:%Y-%m-%d %H:%M:%SZ}", one.changed_by, asked])
    print_table(["change", "phase", "since", "by", "last asked for"], rows)
    for beat in workers:
        typer.echo(f"{beat.worker} acts by {', '.join(f'{name}: {phase}' for name, phase in beat.phases.items())}")


@change_app.command("advance")
def advance_change(change: Change, operator: Operator = None) -> None:
    """Take a change one step on, as soon as every live worker acts by the present phase and the data is in order."""
    _step(change, +1, operator or getpass.getuser())


@change_app.command()
def back(change: Change, operator: Operator = None) -> None:
    """Take a change one step back; from `contracted` nothing leads back."""
    _step(change, -1, operator or getpass.getuser())


def _step(change: str, by_steps: int, operator: str) -> None:
    async def work(engine: Engine) -> tuple[str, str]:
        changes, _ = await _look(engine)
        present = next((one.phase for one in changes if one.change == change), None)
        if present is None:
            raise UnknownPhaseError(f"there is no change {change}")
        place = _ORDER.index(Phase(present)) + by_steps
        if not 0 <= place < len(_ORDER):
            raise PhaseRefusedError(
                f"{change} is {present}: there is no phase {'after' if by_steps > 0 else 'before'} it"
            )
        return await advance(engine, change, _ORDER[place], by=operator), _ORDER[place]

    before, after = _run(work)
    typer.echo(f"{change}: {before} -> {after}")


async def _look(engine: Engine) -> tuple[Sequence[ChangeResult], Sequence[Heartbeat]]:
    async with connected(engine) as connection:
        return await all_changes(connection), await live_workers(connection)


def _run(work: Callable[[Engine], Awaitable[T]]) -> T:
    """Run it with an engine; what an operator can mend is one line and exit code 1."""
    settings = Settings.load()

    async def with_engine() -> T:
        url = settings.database.url.get_secret_value()
        engine = create_engine(url, PoolSettings(size=1, max_overflow=1), "catalog-cli")
        try:
            return await work(engine)
        finally:
            await engine.dispose()

    try:
        return run_attended(settings, with_engine, database=True)
    except (PhaseRefusedError, UnknownPhaseError, ServerAwayError) as error:
        typer.echo(f"error: {error}", err=True)
    raise typer.Exit(1)
