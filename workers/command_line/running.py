"""`catalog worker`: one worker in the foreground."""

import typer
import uvloop

from workers import bootstrap
from workers.settings import Settings

worker_app = typer.Typer(no_args_is_help=True)


@worker_app.command("commands")
def command_worker() -> None:
    """Apply commands exactly once, and answer every one of them."""
    raise typer.Exit(uvloop.run(bootstrap.run_command_worker(Settings.load())))


@worker_app.command("queries")
def query_worker() -> None:
    """Answer queries."""
    raise typer.Exit(uvloop.run(bootstrap.run_query_worker(Settings.load())))


@worker_app.command("backfill")
def backfill_worker() -> None:
    """Carry out backfills, their verifies, and steps of changes; start as many as you like."""
    raise typer.Exit(uvloop.run(bootstrap.run_backfill_worker(Settings.load())))
