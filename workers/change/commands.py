"""`catalog change`: where the zero-downtime changes stand, and their steps by hand, forth and back.

A step that is refused changes nothing; the reason is one line on standard error, and the exit code is 1.
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Final

import typer

from contracts.backfills import ChangeResult
from persistence.engine import Engine, connected
from persistence.phase_wishes import all_changes
from persistence.phases import Heartbeat, Phase, PhaseRefusedError, UnknownPhaseError, advance, live_workers
from workers.command_line.session import AsJson, Operator, Session, operator_name, print_json
from workers.tables import print_table

change_app = typer.Typer(no_args_is_help=True)

Change = Annotated[str, typer.Argument(metavar="CHANGE", help="The change, as `catalog change show` names it.")]
_ORDER: Final = list(Phase)


@change_app.command()
def show(*, as_json: AsJson = False) -> None:
    """Show each change with its phase, the last step that was asked for, and by which phase each worker acts."""
    changes, workers = Session.begin("change").run_with_engine(_look)
    if as_json:
        found = {"changes": [asdict(one) for one in changes], "workers": [asdict(one) for one in workers]}
        print_json(found)
        return
    rows = []
    for one in changes:
        asked = f"{one.to}: {one.wish}" + (f" ({one.reason})" if one.reason else "") if one.to else ""
        rows.append([one.change, one.phase, f"{one.changed_at:%Y-%m-%d %H:%M:%SZ}", one.changed_by, asked])
    print_table(["change", "phase", "since", "by", "last asked for"], rows)
    for beat in workers:
        typer.echo(f"{beat.worker} acts by {', '.join(f'{name}: {phase}' for name, phase in beat.phases.items())}")


@change_app.command("advance")
def advance_change(change: Change, operator: Operator = None, *, as_json: AsJson = False) -> None:
    """Take a change one step on, as soon as every live worker acts by the present phase and the data is in order."""
    _step(change, +1, operator_name(operator), as_json=as_json)


@change_app.command()
def back(change: Change, operator: Operator = None, *, as_json: AsJson = False) -> None:
    """Take a change one step back; from `contracted` nothing leads back."""
    _step(change, -1, operator_name(operator), as_json=as_json)


def _step(change: str, by_steps: int, operator: str, *, as_json: bool) -> None:
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

    before, after = Session.begin("change").run_with_engine(work)
    if as_json:
        print_json({"change": change, "from": before, "to": after})
        return
    typer.echo(f"{change}: {before} -> {after}")


async def _look(engine: Engine) -> tuple[Sequence[ChangeResult], Sequence[Heartbeat]]:
    async with connected(engine) as connection:
        return await all_changes(connection), await live_workers(connection)
