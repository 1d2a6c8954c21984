"""`catalog doctor` and `catalog offsets`."""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import asdict
from typing import Annotated, Final

import typer
from rich.text import Text

from persistence import log_positions
from persistence.log_positions import Rewind
from workers import deployment
from workers.command_line.exits import Exit
from workers.command_line.session import AsJson, Operator, Session, operator_name, print_json
from workers.doctor.errors import DoctorError
from workers.doctor.examination import REACH_TIMEOUT_S, examine, restore_of
from workers.doctor.findings import Finding, Level
from workers.kafka.log_reader import LogReader, move_group
from workers.settings import Settings
from workers.tables import print_table

offsets_app = typer.Typer(no_args_is_help=True)

_COLOURS: Final = {Level.OK: "green", Level.WARNING: "yellow", Level.FAILING: "red"}


def doctor(*, as_json: AsJson = False) -> None:
    """Examine settings, database, topics, Redis, and what they say of each other. Exit code 1 if anything fails."""
    session = Session.begin("doctor", log_level="ERROR")
    findings = session.run(lambda: _examined(session.settings), kafka=True, database=True, wait_first=False)
    if as_json:
        print_json({"findings": [asdict(one) for one in findings]})
    else:
        print_findings(findings)
    failed = sum(1 for finding in findings if finding.level is Level.FAILING)
    warned = sum(1 for finding in findings if finding.level is Level.WARNING)
    if not as_json:
        typer.echo(f"{failed} failing, {warned} warnings")
    if failed:
        raise typer.Exit(Exit.FAILED)


def print_findings(findings: Sequence[Finding]) -> None:
    """Print what was found, and what to do about it."""
    print_table(
        ["", "about", "finding", "remedy"],
        [[Text(one.level, _COLOURS[one.level]), one.about, one.text, one.remedy] for one in findings],
    )


@offsets_app.command()
def rewind(
    to_stored: Annotated[bool, typer.Option("--to-stored", help="Go on after the last stored outcomes.")] = False,  # noqa: FBT002
    to_start: Annotated[bool, typer.Option("--to-start", help="Go through the whole topic again.")] = False,  # noqa: FBT002
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,  # noqa: FBT002
    operator: Operator = None,
    as_json: AsJson = False,  # noqa: FBT002
) -> None:
    """Set the group of the command workers back, after a restore; they must be stopped. It is never set forward.

    What is decided again and has an outcome is answered with it; what had been decided before, and has none any more,
    is done again, whatever its deadline.
    """
    if to_stored == to_start:
        raise DoctorError("give --to-stored (the database was restored) or --to-start (the topic was)")
    session, name = Session.begin("offsets"), operator_name(operator)
    plan = session.run(lambda: _rewound(session, name, to_start=to_start, dry_run=dry_run), kafka=True, database=True)
    if as_json:
        print_json({"dry_run": dry_run, "partitions": [asdict(one) for one in plan]})
        return
    for one in plan:
        typer.echo(f"partition {one.partition}: from {one.from_offset} to {one.to_offset}")
    told = "would be set back" if dry_run else "set back"
    typer.echo(f"{len(plan)} partitions {told}" if plan else "nothing to do")


async def _examined(settings: Settings) -> list[Finding]:
    async with aclosing(examine(settings)) as findings:
        return [finding async for finding in findings]


async def _rewound(session: Session, operator: str, *, to_start: bool, dry_run: bool) -> list[Rewind]:
    settings = session.settings
    security = deployment.kafka_security(settings)
    servers = settings.kafka.bootstrap_servers
    async with session.engine() as engine, LogReader(servers, security, session.client_id) as reader:
        restore = restore_of(settings, reader, engine)
        plan = await restore.plan_rewind(to_start=to_start)
        if plan and not dry_run:
            topic = restore.topics.commands
            # First the note: without it, what is decided again would be refused for its deadline
            await log_positions.note_rewinds(engine, topic, plan, operator)
            async with asyncio.timeout(REACH_TIMEOUT_S * 2):
                offsets = {one.partition: one.to_offset for one in plan}
                await move_group(servers, security, restore.group_id, topic, offsets)
        return plan
