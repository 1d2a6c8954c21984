"""`catalog`: everything an operator or a developer does by hand.

What goes wrong is said in one readable line, and the exit code is not 0.
"""

import json
import sys
from collections.abc import Coroutine
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar

import typer
import uvloop
from rich.console import Console

from workers import bootstrap
from workers.attendance import ServerAwayError, run_attended
from workers.backfill.commands import backfill_app
from workers.change.commands import change_app
from workers.contract.commands import app as contract_app
from workers.contract.commands import kinds
from workers.dlq.commands import app as dlq_app
from workers.doctor.commands import doctor, offsets_app
from workers.settings import Settings, SettingsError
from workers.stack.errors import StackError
from workers.tables import print_table

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    help="Catalog Workers: commands in, envelopes out, and the backfills behind them.",
)
topics_app = typer.Typer(no_args_is_help=True, help="The topics of this deployment.")
worker_app = typer.Typer(no_args_is_help=True, help="Run a worker in the foreground.")
app.add_typer(topics_app, name="topics")
app.add_typer(worker_app, name="worker")
app.add_typer(dlq_app, name="dlq")
app.add_typer(backfill_app, name="backfill")
app.add_typer(change_app, name="change")
app.add_typer(offsets_app, name="offsets")
app.add_typer(contract_app, name="contract")
app.command()(kinds)
app.command()(doctor)

EXIT_USAGE: Final = 2
EXIT_BY_TYPE: Final = {"success": 0, "neutral": 0, "warning": 3, "error": 1}

T = TypeVar("T")


class OperatorError(Exception):
    """Something an operator can mend; its text is one readable line."""


def settings() -> Settings:
    """Read the settings of this call: environment, `.env`, and the embedded stack's own file where there is one."""
    return Settings.load()


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on uvloop."""
    return uvloop.run(work)


def main() -> None:
    """Run the command line; a known error is one line on stderr and exit code 1 or 2."""
    try:
        app()
    except SettingsError as error:
        fail(*error.lines, code=EXIT_USAGE)
    except (OperatorError, ServerAwayError, StackError, *bootstrap.OPERATOR_ERRORS) as error:
        fail(*str(error).splitlines())
    except KeyboardInterrupt:
        sys.exit(130)


def fail(*lines: str, code: int = 1) -> None:
    """Say what is wrong and end."""
    console = Console(stderr=True, soft_wrap=True)
    for line in lines:
        console.print(
            f"[red]error:[/red] {line}" if console.is_terminal else f"error: {line}", markup=console.is_terminal
        )
    sys.exit(code)


# Set up ------------------------------------------------------------------------------------------------------------
@topics_app.command("create")
def create_topics() -> None:
    """Create the topics for commands, queries and dead letters; those that exist are left as they are."""
    configured = settings()
    for report in run_attended(configured, lambda: bootstrap.create_topics(configured), kafka=True):
        typer.echo(report)


@app.command()
def migrate() -> None:
    """Bring the database to the newest schema that takes nothing away."""
    configured = settings()
    applied = run_attended(configured, lambda: bootstrap.migrate(configured), database=True)
    typer.echo("\n".join(f"applied {revision}" for revision in applied) or "nothing to do: the schema is up to date")


@app.command()
def seed(
    customers: Annotated[int, typer.Option("--customers", min=0)] = 1_000,
    products: Annotated[int, typer.Option("--products", min=0)] = 200,
    orders: Annotated[int, typer.Option("--orders", min=0)] = 1_000,
) -> None:
    """Load a believable data set by set-based SQL; another seed adds to it."""
    from persistence.seed import SeedSizes

    configured, sizes = settings(), SeedSizes(customers, products, orders)
    run_attended(configured, lambda: bootstrap.seed(configured, sizes), database=True)


# Workers -----------------------------------------------------------------------------------------------------------
@worker_app.command("commands")
def command_worker() -> None:
    """Apply commands exactly once, and answer every one of them."""
    sys.exit(run(bootstrap.run_command_worker(settings())))


@worker_app.command("queries")
def query_worker() -> None:
    """Answer queries."""
    sys.exit(run(bootstrap.run_query_worker(settings())))


@worker_app.command("backfill")
def backfill_worker() -> None:
    """Carry out backfills, their verifies, and steps of changes; start as many as you like."""
    sys.exit(run(bootstrap.run_backfill_worker(settings())))


# Asking ------------------------------------------------------------------------------------------------------------
Kind = Annotated[str, typer.Argument(metavar="KIND", help="For example create_customer.")]
Payload = Annotated[str, typer.Argument(metavar="JSON", help="The payload; '-' reads it from standard input.")]
Version = Annotated[int | None, typer.Option("--version", help="The kind's version; 1 when absent.")]
Key = Annotated[str | None, typer.Option("--key", help="What orders the message; what the contract says when absent.")]
MessageId = Annotated[str | None, typer.Option("--message-id", help="The idempotency key; a new one when absent.")]
Sub = Annotated[str, typer.Option("--sub", help="Who asks.")]
Roles = Annotated[list[str], typer.Option("--role", help="A role; may be given more than once.")]
Token = Annotated[str | None, typer.Option("--token", envvar="CATALOG_TOKEN", help="A token instead of a minted one.")]
Timeout = Annotated[float, typer.Option("--timeout", help="Seconds to wait for the reply.")]


@app.command()
def send(
    kind: Kind,
    payload: Payload = "{}",
    version: Version = None,
    key: Key = None,
    message_id: MessageId = None,
    sub: Sub = "cli",
    role: Roles = ["catalog_admin", "catalog_operator"],  # noqa: B006 - typer copies it
    token: Token = None,
    timeout: Timeout = 30.0,
) -> None:
    """Publish a command, wait for its envelope, print it. Exit code: 0 success or neutral, 3 warning, 1 error."""
    _ask("commands", kind, payload, version, key, message_id, sub, role, token, timeout)


@app.command()
def ask(
    kind: Kind,
    payload: Payload = "{}",
    version: Version = None,
    key: Key = None,
    sub: Sub = "cli",
    role: Roles = ["catalog_reader", "catalog_operator"],  # noqa: B006
    token: Token = None,
    timeout: Timeout = 30.0,
) -> None:
    """Publish a query, wait for its envelope, print it. Exit code as for `send`."""
    _ask("queries", kind, payload, version, key, None, sub, role, token, timeout)


def _ask(
    side: Literal["commands", "queries"],
    kind: str,
    payload: str,
    version: int | None,
    key: str | None,
    message_id: str | None,
    sub: str,
    roles: list[str],
    token: str | None,
    timeout_s: float,
) -> None:
    from workers.asking import Asking, Caller, ask_one

    text = sys.stdin.read() if payload == "-" else payload
    try:
        value = json.loads(text)
    except ValueError as error:
        msg = f"the payload is not JSON: {error}"
        raise OperatorError(msg) from None
    request = Asking(side, kind, value, Caller(sub, tuple(roles), token), version or 1, key, message_id)
    configured = settings()
    try:
        give_up_s = min(timeout_s, configured.process.wait_timeout_s)
        asked = partial(ask_one, configured, request, timeout_s)
        envelope = run_attended(configured, asked, kafka=True, give_up_s=give_up_s)
    except TimeoutError:
        where = configured.kafka.bootstrap_servers
        msg = f"no reply within {timeout_s:.0f} s: are Kafka at {where} and the workers running?"
        raise OperatorError(msg) from None
    Console().print_json(data=envelope.body)
    sys.exit(EXIT_BY_TYPE[envelope.type])


@app.command()
def verify(
    rate: Annotated[float, typer.Option("--rate", min=0.1, help="Messages a second.")] = 200.0,
    seconds: Annotated[float, typer.Option("--seconds", min=0.1, help="How long to send.")] = 20.0,
    keys: Annotated[int, typer.Option("--keys", min=1, help="So many customers, each with a key of its own.")] = 40,
    seed: Annotated[int, typer.Option("--seed", help="The same seed sends the same mix.")] = 1,
    drain: Annotated[float, typer.Option("--drain", help="Seconds the last answers may take.")] = 60.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the account as JSON.")] = False,
) -> None:
    """Publish a load, read every reply, account for each send. Exit code 1 on any deviation."""
    from workers.verify.report import as_dict, show
    from workers.verify.run import Plan

    account = run(bootstrap.verify(settings(), Plan(rate, seconds, keys, drain, seed)))
    if as_json:
        typer.echo(json.dumps(as_dict(account)))
    else:
        show(account, Console(soft_wrap=True))
    sys.exit(1 if account.deviations else 0)


@app.command()
def token(
    sub: Annotated[str, typer.Option("--sub", help="The caller.")],
    role: Roles = [],  # noqa: B006
    hours: Annotated[float, typer.Option("--hours", help="How long it is valid.")] = 1.0,
) -> None:
    """Make a development token, signed with JWT_SECRET."""
    typer.echo(bootstrap.mint_token(settings(), sub, role, timedelta(hours=hours)))


@app.command("settings")
def show_settings() -> None:
    """Print the effective settings; secrets are masked."""
    print_table(["setting", "value"], list(bootstrap.effective(settings())))


@app.command()
def demo(
    once: Annotated[bool, typer.Option("--once", help="End after the scenario.")] = False,
    state: Annotated[Path, typer.Option("--state", help="Where the embedded stack keeps its data.")] = Path(".local"),
) -> None:
    """Run everything on this machine: the embedded stack, the workers, and a short scenario through Kafka."""
    try:
        from workers.demo import run_demo
    except ImportError as error:
        msg = f"the embedded stack is not installed ({error.name} is missing): pip install 'catalog-workers[stack]'"
        raise OperatorError(msg) from None
    sys.exit(run_demo(state, once=once))


def _add_stack() -> None:
    """`catalog stack` exists where the embedded stack's packages are installed."""
    try:
        from workers.stack.commands import app as stack_app
    except ImportError:
        return
    app.add_typer(stack_app, name="stack")


_add_stack()
