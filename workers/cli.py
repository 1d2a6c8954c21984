"""`catalog`: everything an operator or a developer does by hand.

What goes wrong is said in one readable line, and the exit code says of which sort it is (`Exit`).
"""

import sys
from typing import Annotated, Final

import typer

from workers.command_line.exits import Exit
from workers.command_line.tree import Tree
from workers.operator_error import OperatorError

_EXITS: Final = "\n\n".join(f"Exit code {one:d}: {one.meaning}" for one in Exit)

app = typer.Typer(
    cls=Tree,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Catalog Workers: commands in, envelopes out, and the backfills behind them.",
    epilog=_EXITS,
)


def _print_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(version("catalog-workers"))
        raise typer.Exit(Exit.DONE)


@app.callback()
def catalog(
    _version: Annotated[
        bool, typer.Option("--version", help="Print the release, and end.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Stand before every command."""


def main() -> None:
    """Run the command line; what an operator can mend is a line on standard error, and an exit code of `Exit`."""
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(Exit.INTERRUPTED)
    except Exception as error:
        from workers.command_line.mendable import mendable

        told = mendable(error)
        if told is None:
            raise
        tell(told)
        sys.exit(Exit.USAGE if told.usage else Exit.FAILED)


def tell(error: OperatorError) -> None:
    """Say what is wrong on standard error."""
    from rich.console import Console
    from rich.text import Text

    console = Console(stderr=True, soft_wrap=True, highlight=False)
    for line in error.lines:
        console.print(Text.assemble(("error:", "red"), " ", line.replace("\n", " ")))
