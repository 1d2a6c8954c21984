"""`catalog send`, `ask` and `verify`: what a caller does, by hand."""

import json
import sys
from collections.abc import Mapping
from functools import partial
from typing import Annotated, Final

import typer
import uvloop
from rich.console import Console

from workers.asking import Asking, Caller, Side, ask_one
from workers.command_line.exits import Exit
from workers.command_line.session import AsJson, Session
from workers.operator_error import OperatorError
from workers.settings import Settings
from workers.verify.publishing import verify as publish_and_account
from workers.verify.report import as_dict, show
from workers.verify.run import Plan

EXIT_BY_TYPE: Final[Mapping[str, Exit]] = {
    "success": Exit.DONE,
    "neutral": Exit.DONE,
    "warning": Exit.WARNED,
    "error": Exit.FAILED,
}

Kind = Annotated[str, typer.Argument(metavar="KIND", help="For example create_customer.")]
Payload = Annotated[str, typer.Argument(metavar="JSON", help="The payload; '-' reads it from standard input.")]
Version = Annotated[int | None, typer.Option("--version", help="The kind's version; 1 when absent.")]
Key = Annotated[str | None, typer.Option("--key", help="What orders the message; what the contract says when absent.")]
MessageId = Annotated[str | None, typer.Option("--message-id", help="The idempotency key; a new one when absent.")]
Sub = Annotated[str, typer.Option("--sub", help="Who asks.")]
Roles = Annotated[list[str], typer.Option("--role", help="A role; may be given more than once.")]
Token = Annotated[str | None, typer.Option("--token", envvar="CATALOG_TOKEN", help="A token instead of a minted one.")]
Timeout = Annotated[float, typer.Option("--timeout", help="Seconds to wait for the reply.")]


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
    caller = Caller(sub, tuple(role), token)
    _ask("commands", kind, payload, version, key, message_id, caller, timeout)


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
    _ask("queries", kind, payload, version, key, None, Caller(sub, tuple(role), token), timeout)


def _ask(
    side: Side,
    kind: str,
    payload: str,
    version: int | None,
    key: str | None,
    message_id: str | None,
    caller: Caller,
    timeout_s: float,
) -> None:
    text = sys.stdin.read() if payload == "-" else payload
    try:
        value = json.loads(text)
    except ValueError as error:
        msg = f"the payload is not JSON: {error}"
        raise OperatorError(msg) from None
    request = Asking(side, kind, value, caller, version or 1, key, message_id)
    session = Session.begin("ask")
    settings = session.settings
    try:
        give_up_s = min(timeout_s, settings.process.wait_timeout_s)
        asked = partial(ask_one, settings, request, timeout_s)
        envelope = session.run(asked, kafka=True, give_up_s=give_up_s)
    except TimeoutError:
        where = settings.kafka.bootstrap_servers
        msg = f"no reply within {timeout_s:.0f} s: are Kafka at {where} and the workers running?"
        raise OperatorError(msg) from None
    Console().print_json(data=envelope.body)
    raise typer.Exit(EXIT_BY_TYPE[envelope.type])


def verify(
    rate: Annotated[float, typer.Option("--rate", min=0.1, help="Messages a second.")] = 200.0,
    seconds: Annotated[float, typer.Option("--seconds", min=0.1, help="How long to send.")] = 20.0,
    keys: Annotated[int, typer.Option("--keys", min=1, help="So many customers, each with a key of its own.")] = 40,
    seed: Annotated[int, typer.Option("--seed", help="The same seed sends the same mix.")] = 1,
    drain: Annotated[float, typer.Option("--drain", help="Seconds the last answers may take.")] = 60.0,
    as_json: AsJson = False,
) -> None:
    """Publish a load, read every reply, account for each send. Exit code 1 on any deviation."""
    account = uvloop.run(publish_and_account(Settings.load(), Plan(rate, seconds, keys, drain, seed)))
    if as_json:
        typer.echo(json.dumps(as_dict(account)))
    else:
        show(account, Console(soft_wrap=True))
    raise typer.Exit(Exit.FAILED if account.deviations else Exit.DONE)
