"""`catalog topics`, `migrate`, `seed`, `token`, `settings` and `demo`: before there are workers, or without them."""

from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from workers.command_line.session import AsJson, Session, print_json
from workers.operator_error import OperatorError
from workers.settings import Settings
from workers.tables import print_table

topics_app = typer.Typer(no_args_is_help=True)


@topics_app.command("create")
def create_topics(*, as_json: AsJson = False) -> None:
    """Create the topics for commands, queries and dead letters; those that exist are left as they are."""
    from workers import setting_up

    session = Session.begin("topics")
    reports = session.run(lambda: setting_up.create_topics(session.settings), kafka=True)
    if as_json:
        print_json(reports)
        return
    for report in reports:
        typer.echo(report)


def migrate(*, as_json: AsJson = False) -> None:
    """Bring the database to the newest schema that takes nothing away."""
    from workers import setting_up

    session = Session.begin("migrate")
    applied = session.run(lambda: setting_up.migrate(session.settings), database=True)
    if as_json:
        print_json(applied)
        return
    typer.echo("\n".join(f"applied {revision}" for revision in applied) or "nothing to do: the schema is up to date")


def seed(
    customers: Annotated[int, typer.Option("--customers", min=0)] = 1_000,
    products: Annotated[int, typer.Option("--products", min=0)] = 200,
    orders: Annotated[int, typer.Option("--orders", min=0)] = 1_000,
) -> None:
    """Load a believable data set by set-based SQL; another seed adds to it."""
    from persistence.seed import SeedSizes
    from workers import setting_up

    session, sizes = Session.begin("seed"), SeedSizes(customers, products, orders)
    session.run(lambda: setting_up.seed(session.settings, sizes), database=True)


def token(
    sub: Annotated[str, typer.Option("--sub", help="The caller.")],
    role: Annotated[list[str], typer.Option("--role", help="A role; may be given more than once.")] = [],  # noqa: B006 - typer copies it
    hours: Annotated[float, typer.Option("--hours", help="How long it is valid.")] = 1.0,
) -> None:
    """Make a development token, signed with JWT_SECRET."""
    from workers.deployment import mint_token

    typer.echo(mint_token(Settings.load(), sub, role, timedelta(hours=hours)))


def show_settings(*, as_json: AsJson = False) -> None:
    """Print the effective settings; secrets are masked."""
    rows = list(Settings.load().effective())
    if as_json:
        print_json(dict(rows))
        return
    print_table(["setting", "value"], rows)


def demo(
    once: Annotated[bool, typer.Option("--once", help="End after the scenario.")] = False,
    state: Annotated[Path, typer.Option("--state", help="Where the embedded stack keeps its data.")] = Path(".local"),
) -> None:
    """Run everything on this machine: the embedded stack, the workers, and a short scenario through Kafka."""
    try:
        from workers.demo import run_demo
    except ImportError as error:
        msg = f"the embedded stack is not installed ({error.name} is missing)"
        raise OperatorError(msg, hint="pip install 'catalog-workers[stack]'") from None
    raise typer.Exit(run_demo(state, once=once))
