"""`catalog block` and `catalog unblock`: a caller or a kind that is refused until an operator takes it back."""

import re
from typing import Annotated, Final

import typer

from contracts.registry import KINDS
from persistence import blocks
from persistence.blocks import Target
from workers.command_line.session import AsJson, Operator, Session, operator_name, print_json
from workers.operator_error import OperatorError

block_app = typer.Typer(no_args_is_help=True)
unblock_app = typer.Typer(no_args_is_help=True)

Caller = Annotated[str, typer.Argument(metavar="CALLER", help="SUB, of any issuer, or 'ISS SUB'.")]
Kind = Annotated[str, typer.Argument(metavar="KIND", help="As `catalog kinds` names it.")]
Reason = Annotated[str, typer.Option("--reason", help="Why, for the record.")]

_CALLER: Final = re.compile(r"[ -~]{1,511}")
_REASON: Final = re.compile(r"[^\x00-\x1f\x7f]{1,500}")


@block_app.command("caller")
def block_caller(caller: Caller, reason: Reason, operator: Operator = None, *, as_json: AsJson = False) -> None:
    """Answer whatever this caller asks with 429, within 2 s; what is stored it is answered still."""
    _block("caller", _caller(caller), reason, operator, as_json=as_json)


@block_app.command("kind")
def block_kind(kind: Kind, reason: Reason, operator: Operator = None, *, as_json: AsJson = False) -> None:
    """Answer whoever asks for this kind with 429, within 2 s; what is stored is answered still."""
    _block("kind", _kind(kind), reason, operator, as_json=as_json)


@unblock_app.command("caller")
def unblock_caller(caller: Caller, reason: Reason, operator: Operator = None, *, as_json: AsJson = False) -> None:
    """Let this caller ask again."""
    _unblock("caller", _caller(caller), reason, operator, as_json=as_json)


@unblock_app.command("kind")
def unblock_kind(kind: Kind, reason: Reason, operator: Operator = None, *, as_json: AsJson = False) -> None:
    """Let this kind be asked for again."""
    _unblock("kind", kind, reason, operator, as_json=as_json)


def _block(target: Target, name: str, reason: str, operator: str | None, *, as_json: bool) -> None:
    by, why = operator_name(operator), _reason(reason)
    Session.begin("block").run_with_engine(lambda engine: blocks.block(engine, target, name, operator=by, reason=why))
    _told("blocked", target, name, as_json=as_json)


def _unblock(target: Target, name: str, reason: str, operator: str | None, *, as_json: bool) -> None:
    by, why = operator_name(operator), _reason(reason)
    was = Session.begin("unblock").run_with_engine(
        lambda engine: blocks.unblock(engine, target, name, operator=by, reason=why)
    )
    if not was:
        raise OperatorError(f"{target} {name} is not blocked", hint="`catalog status` shows what is")
    _told("unblocked", target, name, as_json=as_json)


def _told(done: str, target: Target, name: str, *, as_json: bool) -> None:
    if as_json:
        print_json({"target": target, "name": name, "state": done})
    else:
        typer.echo(f"{target} {name} is {done}; every worker obeys within 2 s")


def _caller(name: str) -> str:
    if not _CALLER.fullmatch(name) or name != name.strip():
        raise OperatorError("a caller is SUB or 'ISS SUB', in printable ASCII", usage=True)
    return name


def _kind(name: str) -> str:
    if name not in KINDS:
        raise OperatorError(f"there is no kind '{name}'", hint="`catalog kinds` lists them", usage=True)
    return name


def _reason(text: str) -> str:
    if not _REASON.fullmatch(text) or not text.strip():
        raise OperatorError("--reason: 1-500 characters on one line", usage=True)
    return text
