"""`catalog contract` and `catalog kinds`: the contract on a terminal, and as files for other teams."""

import difflib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from contracts.asyncapi import Deployment
from contracts.kinds import Kind
from contracts.registry import KINDS
from contracts.release import Release, release
from workers.command_line.exits import Exit
from workers.contract.errors import ContractError
from workers.contract.formats import FILES, Format, as_json, exported
from workers.contract.reading import ErrorRow, FieldRow, KindText, kind_text
from workers.tables import print_table

app = typer.Typer(no_args_is_help=True)


@app.command()
def export(
    form: Annotated[Format, typer.Option("--format", help="What to write to standard output.")] = Format.ASYNCAPI_YAML,
    folder: Annotated[
        Path | None, typer.Option("--all", metavar="DIR", help="Write every format into this folder instead.")
    ] = None,
    prefix: Annotated[str | None, typer.Option("--prefix", help="The prefix of the topics; else a parameter.")] = None,
    server: Annotated[
        list[str] | None, typer.Option("--server", help="host:port for callers; may be given more than once.")
    ] = None,
    currency: Annotated[str | None, typer.Option("--currency", help="What amounts are of.")] = None,
) -> None:
    """Write the contract down for another team: AsyncAPI, JSON Schema or Markdown."""
    deployment = Deployment(prefix, currency, servers=tuple(server or ()))
    if folder is None:
        typer.echo(exported(form, deployment), nl=False)
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for one, name in FILES.items():
            (folder / name).write_text(exported(one, deployment), encoding="utf-8")
            typer.echo(f"wrote {folder / name}")
    except OSError as error:
        raise ContractError(f"{folder} cannot be written to: {error.strerror}") from None


@app.command()
def check(
    old: Annotated[
        str | None, typer.Argument(metavar="OLD", help="A released version, or a file; the newest release when absent.")
    ] = None,
) -> None:
    """Name each change since a release that would break its callers; exit code 1 where there is one."""
    from workers.contract.compatibility import breaks, releases  # noqa: PLC0415 - needs the extra `contract`

    known = releases()
    released = _release(old, known)
    found = breaks(released, release())
    for one in found:
        typer.echo(one)
    typer.echo(f"{len(found) or 'no'} breaking changes since {released['version']}")
    if found:
        raise typer.Exit(Exit.FAILED)


def _release(wanted: str | None, known: Mapping[str, Release]) -> Release:
    if wanted is None and known:
        return list(known.values())[-1]
    if wanted in known:
        return known[str(wanted)]
    try:
        read: Release = json.loads(Path(str(wanted)).read_text(encoding="utf-8"))
    except OSError:
        raise ContractError(f"there is no release '{wanted}', and no such file: {', '.join(known)} are there") from None
    except ValueError:
        raise ContractError(f"{wanted} is no release of the contract: it is not JSON") from None
    if not isinstance(read, dict) or not {"version", "topics", "headers", "kinds"} <= read.keys():
        raise ContractError(f"{wanted} is no release of the contract", hint="`catalog contract release` writes one")
    return read


@app.command("release")
def print_release() -> None:
    """Print the contract as it is kept at a release, in contracts/released/<version>.json."""
    typer.echo(as_json(release()), nl=False)


def kinds(
    name: Annotated[str | None, typer.Argument(metavar="KIND", help="For example create_customer.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the payloads of the examples alone.")] = False,  # noqa: FBT002
) -> None:
    """List what may be asked; with KIND: its fields, limits, roles, errors, and a payload to copy."""
    if name is None:
        print_table(
            ["kind", "topic", "versions", "what it does"],
            [[kind.name, kind.topic, _versions(kind), kind.description] for kind in KINDS.values()],
        )
        return
    kind = KINDS.get(name)
    if kind is None:
        near = difflib.get_close_matches(name, KINDS, 3)
        hint = f"did you mean {' or '.join(near)}?" if near else "`catalog kinds` lists them"
        raise ContractError(f"there is no kind '{name}'", hint=hint)
    if as_json:
        for version in kind.versions:
            for example in version.examples:
                typer.echo(json.dumps(example, ensure_ascii=False))
        return
    _show(kind_text(kind))


def _versions(kind: Kind) -> str:
    return ", ".join(
        f"{version.number} (deprecated)" if version.deprecated_on is not None else str(version.number)
        for version in kind.versions
    )


def _show(text: KindText) -> None:
    console = Console(highlight=False, soft_wrap=True)
    console.print(Text.assemble((text.name, "bold"), f"  {text.description}"))
    facts = {"topic": text.topic, "who may": text.who, "key": text.key, "answers": text.answers}
    if text.needs:
        facts["first"] = f"{', '.join(text.needs)} (for the examples)"
    for name, fact in facts.items():
        console.print(Text(f"{name:9}{fact}"))
    for request in text.requests:
        console.print(Text.assemble("\n", (f"Version {request.number}", "bold"), f"  {request.meaning}"))
        if request.deprecated_on is not None:
            since = f"deprecated since {request.deprecated_on}, sunset {request.sunset_on}"
            console.print(Text(f"{since}: use {request.alternative}", "yellow"))
        _print_fields(request.fields, "The payload is empty.")
        for payload in request.payloads:
            console.print(Text(payload))
    console.print(Text("\nReply", "bold"))
    _print_fields(text.result, "data is null.")
    console.print(Text("\nErrors", "bold"))
    _print_errors(text.errors)


def _print_fields(rows: Sequence[FieldRow], otherwise: str) -> None:
    if not rows:
        typer.echo(otherwise)
        return
    print_table(
        ["field", "type", "", "limits"],
        [[row.path, row.type, "required" if row.is_required else "", row.limits] for row in rows],
    )


def _print_errors(rows: Sequence[ErrorRow]) -> None:
    print_table(["status", "code", "when"], [[str(row.status_code), row.code, row.meaning] for row in rows])
