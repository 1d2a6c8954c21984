"""`catalog doctor` and `catalog offsets`."""

import asyncio
import getpass
import sys
from collections.abc import Sequence
from contextlib import aclosing
from typing import Annotated, Final

import typer
from rich.text import Text

from persistence import log_positions
from persistence.log_positions import Rewind
from workers import bootstrap
from workers.attendance import run_attended
from workers.doctor.errors import DoctorError
from workers.doctor.examination import REACH_TIMEOUT_S, examine, restore_of
from workers.doctor.findings import Finding, Level
from workers.kafka.log_reader import GroupBusyError, LogReader, NoSuchTopicError, move_group
from workers.settings import Settings
from workers.tables import print_table
from workers.telemetry import logs

offsets_app = typer.Typer(no_args_is_help=True, help="How far the group of the command workers has come.")

_COLOURS: Final = {Level.OK: "green", Level.WARNING: "yellow", Level.FAILING: "red"}


def doctor() -> None:
    """Examine settings, database, topics, Redis, and what they say of each other. Exit code 1 if anything fails."""
    settings = Settings.load()
    logs.configure("ERROR", settings.observing.log_format, "doctor", stream=sys.stderr)
    findings = run_attended(settings, lambda: _examined(settings), kafka=True, database=True, wait_first=False)
    print_findings(findings)
    failed = sum(1 for finding in findings if finding.level is Level.FAILING)
    warned = sum(1 for finding in findings if finding.level is Level.WARNING)
    typer.echo(f"{failed} failing, {warned} warnings")
    if failed:
        raise typer.Exit(1)


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
    operator: Annotated[str | None, typer.Option("--operator", envvar="CATALOG_OPERATOR", help="Your name.")] = None,
) -> None:
    """Set the group of the command workers back, after a restore; they must be stopped. It is never set forward.

    What is decided again and has an outcome is answered with it; what had been decided before, and has none any more,
    is done again, whatever its deadline.
    """
    if to_stored == to_start:
        raise DoctorError("give --to-stored (the database was restored) or --to-start (the topic was)")
    settings = Settings.load()
    logs.configure("WARNING", settings.observing.log_format, "offsets", stream=sys.stderr)
    name = operator or getpass.getuser()
    try:
        plan = run_attended(
            settings, lambda: _rewound(settings, name, to_start=to_start, dry_run=dry_run), kafka=True, database=True
        )
    except (GroupBusyError, NoSuchTopicError) as error:
        raise DoctorError(str(error)) from error
    for one in plan:
        typer.echo(f"partition {one.partition}: from {one.from_offset} to {one.to_offset}")
    told = "would be set back" if dry_run else "set back"
    typer.echo(f"{len(plan)} partitions {told}" if plan else "nothing to do")


async def _examined(settings: Settings) -> list[Finding]:
    async with aclosing(examine(settings)) as findings:
        return [finding async for finding in findings]


async def _rewound(settings: Settings, operator: str, *, to_start: bool, dry_run: bool) -> list[Rewind]:
    engine = bootstrap.engine_of(settings, "catalog-offsets")
    security = bootstrap.kafka_security(settings)
    servers = settings.kafka.bootstrap_servers
    try:
        async with LogReader(servers, security, "catalog-offsets") as reader:
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
    finally:
        await engine.dispose()
