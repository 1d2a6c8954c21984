"""The tree of commands, of which each is loaded when it is called: `catalog` alone and its help load none of them."""

import gc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final

import typer
from typer import _click as click  # it brings its own
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command_from_info, get_group
from typer.models import CommandInfo

from workers.operator_error import OperatorError


@dataclass(frozen=True, slots=True)
class Place:
    """Where a command is, and what it is for. What it is for stands in the help of the whole."""

    module: str
    attribute: str
    summary: str
    needs: str = ""
    """The extra without which its module cannot be loaded."""


COMMANDS: Final[Mapping[str, Place]] = {
    "topics": Place("workers.command_line.setting_up", "topics_app", "The topics of this deployment."),
    "migrate": Place(
        "workers.command_line.setting_up",
        "migrate",
        "Bring the database to the newest schema that takes nothing away.",
    ),
    "seed": Place(
        "workers.command_line.setting_up",
        "seed",
        "Load a believable data set by set-based SQL; another seed adds to it.",
    ),
    "worker": Place("workers.command_line.running", "worker_app", "Run a worker in the foreground."),
    "send": Place("workers.command_line.requests", "send", "Publish a command, wait for its envelope, print it."),
    "ask": Place("workers.command_line.requests", "ask", "Publish a query, wait for its envelope, print it."),
    "verify": Place(
        "workers.command_line.requests", "verify", "Publish a load, read every reply, account for each send."
    ),
    "token": Place("workers.command_line.setting_up", "token", "Make a development token, signed with JWT_SECRET."),
    "settings": Place(
        "workers.command_line.setting_up", "show_settings", "Print the effective settings; secrets are masked."
    ),
    "demo": Place(
        "workers.command_line.setting_up", "demo", "Run everything on this machine, and a short scenario through Kafka."
    ),
    "status": Place("workers.overview.commands", "status", "Show the whole system on one screen."),
    "find": Place("workers.overview.commands", "find", "Say what became of a message; never what is in it."),
    "block": Place("workers.blocks.commands", "block_app", "Refuse a caller or a kind, until it is taken back."),
    "unblock": Place("workers.blocks.commands", "unblock_app", "Take a block back."),
    "dlq": Place(
        "workers.dlq.commands",
        "app",
        "Dead letters: what could not be done or answered, put aside for an operator.",
    ),
    "backfill": Place("workers.backfill.commands", "backfill_app", "Start, watch, steer and verify backfills."),
    "change": Place("workers.change.commands", "change_app", "Zero-downtime changes: their phases, forth and back."),
    "offsets": Place("workers.doctor.commands", "offsets_app", "How far the group of the command workers has come."),
    "doctor": Place(
        "workers.doctor.commands",
        "doctor",
        "Examine settings, database, topics, Redis, and what they say of each other.",
    ),
    "contract": Place(
        "workers.contract.commands", "app", "What callers may rely on: export it, and hold it against a release."
    ),
    "kinds": Place("workers.contract.commands", "kinds", "List what may be asked; with KIND, all about it."),
    "stack": Place(
        "workers.stack.commands",
        "app",
        "Kafka, PostgreSQL and Redis on this machine, for development: no Docker, no root, no Java needed.",
        needs="stack",
    ),
}
"""Every command of the first level, in the order in which the help lists them."""


class Tree(TyperGroup):
    """The first level of `catalog`."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - the interface is click's
        """Name them without loading any."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Return what the help needs to know of a command, without loading it."""
        place = COMMANDS.get(cmd_name)
        return None if place is None else TyperCommand(cmd_name, help=place.summary)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that is called, loaded."""
        name, _, rest = super().resolve_command(ctx, args)
        return name, load(name) if name is not None else None, rest


def load(name: str) -> click.Command:
    """Load a command of the first level. Raises `OperatorError` where an extra is not installed."""
    place = COMMANDS[name]
    try:
        found: Any = getattr(import_module(place.module), place.attribute)
    except ImportError as error:
        if not place.needs:
            raise
        msg = f"`{name}` needs what is not installed ({error.name} is missing)"
        raise OperatorError(msg, hint=f"pip install 'catalog-workers[{place.needs}]'") from None
    if not gc.isenabled():  # since the start of this process
        gc.freeze()
        gc.enable()
    if isinstance(found, typer.Typer):
        group = get_group(found)
        group.name, group.help = name, place.summary
        return group
    info = CommandInfo(name, callback=found)
    return get_command_from_info(info, pretty_exceptions_short=True, rich_markup_mode="rich")


def parse(arguments: Sequence[str], root: click.Command) -> click.Context:
    """Read a command line without running it, as the shell would hand it over, the program's name left out.

    Returns the context of the command that would run. Raises click's errors where it is not understood.
    """
    command, context, rest, name = root, None, list(arguments), "catalog"
    while True:
        context = command.make_context(name, rest, parent=context)
        if not isinstance(command, TyperGroup):
            return context
        rest = [*context._protected_args, *context.args]  # noqa: SLF001 - click offers no other way
        if not rest:
            return context
        found, chosen, rest = command.resolve_command(context, rest)
        if chosen is None:
            raise click.exceptions.UsageError(f"no such command: {found}")
        command, name = chosen, str(found)
