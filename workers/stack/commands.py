"""`catalog stack …`: the embedded stack by hand."""

import contextlib
import signal
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from workers.command_line.exits import Exit
from workers.command_line.session import AsJson, print_json
from workers.stack.embedded import EmbeddedStack
from workers.stack.environment import export_lines, read_env
from workers.stack.errors import StackError
from workers.tables import print_table
from workers.telling import telling

app = typer.Typer(no_args_is_help=True)

State = Annotated[Path, typer.Option("--state", help="The folder that holds the stack's data and settings.")]
_STATE = Path(".local")
_MEGABYTE = 1_000_000


@app.command()
def up(
    state: State = _STATE,
    brokers: Annotated[int | None, typer.Option("--brokers", help="1 or 3; fixed at the first start.")] = None,
) -> None:
    """Start what does not run, and leave it running until `catalog stack down`."""
    with _one_line_errors():
        stack = EmbeddedStack(state, brokers=brokers, attached=False)
        console = Console(stderr=True)
        with telling(console, "starting") as say, _ended_by_sigterm():
            env = stack.up(on_progress=say)
        for notice in stack.notices:
            typer.echo(f"note: {notice}", err=True)
        typer.echo(f"Kafka {env.kafka_bootstrap_servers}, {env.redis_url}, PostgreSQL as in {stack.env_file}")


@app.command()
def down(
    state: State = _STATE,
    wipe: Annotated[bool, typer.Option("--wipe", help="Remove all data and secrets as well.")] = False,  # noqa: FBT002
) -> None:
    """Stop everything; the data stay unless they are to be wiped."""
    with _one_line_errors(), telling(Console(stderr=True), "stopping"):
        stack = EmbeddedStack(state)
        if wipe:
            stack.wipe()
        else:
            stack.down()


@app.command()
def status(state: State = _STATE, *, as_json: AsJson = False) -> None:
    """Show each server: exit code 0 if all of them are ready, else 1."""
    with _one_line_errors():
        parts = EmbeddedStack(state).status()
        if not parts:
            raise StackError(f"no stack was ever started in {state}", hint="`catalog stack up`")
        rows = []
        for part in parts:
            shown = "ready" if part.ready else "not ready" if part.running else "stopped"
            memory = f"{part.rss_bytes / _MEGABYTE:.0f} MB" if part.running else ""
            rows.append([part.name, shown, str(part.pid or ""), str(part.port or ""), memory])
        if as_json:
            print_json([asdict(part) for part in parts])
        else:
            print_table(["part", "state", "pid", "port", "memory"], rows)
    if not all(part.ready for part in parts):
        raise typer.Exit(Exit.FAILED)


@app.command()
def env(state: State = _STATE) -> None:
    """Print the settings for a shell: eval "$(catalog stack env)"."""
    with _one_line_errors():
        stack = EmbeddedStack(state)
        stack.environment()  # says so if there is none
        typer.echo("\n".join(export_lines(read_env(stack.env_file))))


@contextlib.contextmanager
def _one_line_errors() -> Iterator[None]:
    """Make what the file system refuses an operator's error, and Ctrl-C its exit code."""
    try:
        yield
    except OSError as error:
        raise StackError(str(error)) from error
    except KeyboardInterrupt:
        raise typer.Exit(Exit.INTERRUPTED) from None


@contextlib.contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Let SIGTERM undo a start that is not complete, as Ctrl-C does."""

    def interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
