"""`catalog dlq …`: dead letters by hand. What is found goes to standard output, the audit lines to standard error."""

import re
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

import typer
from rich.console import Console

from contracts.kinds import Role
from contracts.topics import Topics
from persistence.dead_letter_actions import DeadLetterActions
from persistence.engine import connected
from persistence.key_fingerprints import KeyPair, why_refused
from workers import deployment
from workers.command_line.exits import Exit
from workers.command_line.session import AsJson, Operator, Session, operator_name, print_json_lines
from workers.dlq.desk import Desk, Group, Latest, Treated, read_id
from workers.dlq.edits import Caller, EditError, Edits, read_place, read_set
from workers.dlq.letters import SIDES, Entry, Filter, Place, Side, read_time
from workers.kafka.dead_letter_log import DeadLetterLog
from workers.settings import Settings
from workers.tables import print_table

app = typer.Typer(no_args_is_help=True)

_ROLES: Final = frozenset(Role) - {Role.ANYONE}

T = TypeVar("T")

Ids = Annotated[list[str] | None, typer.Argument(metavar="ID", help="As `list` prints them: commands/0/17.")]
SideOption = Annotated[str | None, typer.Option("--side", help="commands or queries; both when absent.")]
Reasons = Annotated[list[str] | None, typer.Option("--reason", help="Only this reason; may be given more than once.")]
Kinds = Annotated[list[str] | None, typer.Option("--kind", help="Only this kind; may be given more than once.")]
Callers = Annotated[list[str] | None, typer.Option("--caller", help="Only this caller: SUB, or 'ISS SUB'.")]
Since = Annotated[str | None, typer.Option("--since", help="Put aside then or later: 2h, 3d, or 2026-01-31T12:00Z.")]
Until = Annotated[str | None, typer.Option("--until", help="Put aside before then.")]
Again = Annotated[bool, typer.Option("--again", help="Also those that were dealt with; by id only.")]
All = Annotated[bool, typer.Option("--all", help="Every open one, where no id and no filter is given.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]


@app.command("list")
def list_letters(  # noqa: PLR0913, PLR0917 - one parameter for each option
    side: SideOption = None,
    reason: Reasons = None,
    kind: Kinds = None,
    caller: Callers = None,
    since: Since = None,
    until: Until = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Show so many, the latest.")] = 50,
    dealt_with: Annotated[bool, typer.Option("--dealt-with", help="Those replayed or discarded, too.")] = False,  # noqa: FBT002
    as_json: AsJson = False,  # noqa: FBT002
) -> None:
    """Show open dead letters, the latest last. Nothing that their senders wrote is shown."""
    sides, wanted = _sides(side), _filter(reason, kind, caller, since, until)

    async def work(desk: Desk) -> Latest:
        return await desk.latest(sides, wanted, limit, dealt_with_too=dealt_with)

    latest = _at_desk(work)
    shown = [entry.shown(done) for entry, done in latest.entries]
    if as_json:
        print_json_lines(shown)
        return
    columns = ("id", "failed_at", "reason", "kind", "caller", "message_id", "attempts", "state")
    earlier = "" if latest.complete else f", the latest; there may be earlier ones (--limit {limit * 10})"
    _print_table(shown, columns, f"{len(shown)} dead letters{earlier}")


@app.command()
def show(
    id_: Annotated[str, typer.Argument(metavar="ID", help="As `list` prints it: commands/0/17.")],
    reveal: Annotated[  # noqa: FBT002
        bool, typer.Option("--reveal", help="Print key, headers and value: may be personal data. It is recorded.")
    ] = False,
    operator: Operator = None,
) -> None:
    """Show one dead letter: why it is here and what could be done; what its sender wrote only with --reveal."""
    place = read_id(id_)

    async def work(desk: Desk) -> dict[str, Any]:
        ((letter, done),) = await desk.get([place])
        described = letter.description(done)
        return {**described, **await desk.reveal(letter)} if reveal else described

    Console(soft_wrap=True).print_json(data=_at_desk(work, operator_name(operator) if reveal else ""))


@app.command()
def group(
    side: SideOption = None,
    reason: Reasons = None,
    kind: Kinds = None,
    caller: Callers = None,
    since: Since = None,
    until: Until = None,
    as_json: AsJson = False,  # noqa: FBT002
) -> None:
    """Show open dead letters by reason and place, the largest group first."""
    sides, wanted = _sides(side), _filter(reason, kind, caller, since, until)

    async def work(desk: Desk) -> list[Group]:
        return await desk.group(sides, wanted)

    shown = [one.summary() for one in _at_desk(work)]
    if as_json:
        print_json_lines(shown)
        return
    columns = ("letters", "reason", "place", "kinds", "callers", "attempts", "first", "last", "example")
    _print_table(shown, columns, None)


@app.command()
def replay(  # noqa: PLR0913, PLR0917
    ids: Ids = None,
    side: SideOption = None,
    reason: Reasons = None,
    kind: Kinds = None,
    caller: Callers = None,
    since: Since = None,
    until: Until = None,
    all_: All = False,  # noqa: FBT002
    again: Again = False,  # noqa: FBT002
    rate: Annotated[float, typer.Option("--rate", min=0.01, max=10_000, help="So many a second at most.")] = 50.0,
    edit: Annotated[
        Path | None, typer.Option("--edit", help="A file with the body to send instead; '-': stdin.")
    ] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="PLACE=VALUE", help="Change one thing.")] = None,
    unset: Annotated[list[str] | None, typer.Option("--unset", metavar="PLACE", help="Leave one thing out.")] = None,
    as_: Annotated[
        str | None, typer.Option("--as", metavar="SUB", help="The caller, where nobody was verified.")
    ] = None,
    issuer: Annotated[str, typer.Option("--issuer", help="The issuer of that caller.")] = "",
    role: Annotated[list[str] | None, typer.Option("--role", help="A role of that caller; may be repeated.")] = None,
    resign: Annotated[bool, typer.Option("--resign", help="Sign anew, by the operator's key, unchanged.")] = False,  # noqa: FBT002
    dry_run: DryRun = False,  # noqa: FBT002
    operator: Operator = None,
    as_json: AsJson = False,  # noqa: FBT002
) -> None:
    """Bring messages back to the end of their topics, in the order in which they first arrived.

    Their callers are answered. A message that was applied already is answered from its stored outcome.
    """
    name, result = operator_name(operator), "would be replayed" if dry_run else "replayed"
    choice = _choice(ids, side, _filter(reason, kind, caller, since, until), all_=all_, again=again)
    named = _caller(as_, issuer, role or [])
    edited = edit is not None or bool(set_) or bool(unset) or named is not None or resign
    if edit is not None and len(ids or []) != 1:
        raise EditError("--edit takes the id of the one letter that the body is for")
    edits = _edits(name, edit, set_ or [], unset or [], named) if edited else None

    async def work(desk: Desk) -> list[Treated]:
        entries, passed_over = await choice.entries(desk)
        doing = desk.replay(entries, edits, per_s=rate, dry_run=dry_run)
        return await _told(passed_over, doing, result, as_json=as_json)

    _conclude(_at_desk(work, name), result, as_json=as_json)


@app.command()
def discard(  # noqa: PLR0913, PLR0917
    ids: Ids = None,
    side: SideOption = None,
    reason: Reasons = None,
    kind: Kinds = None,
    caller: Callers = None,
    since: Since = None,
    until: Until = None,
    all_: All = False,  # noqa: FBT002
    again: Again = False,  # noqa: FBT002
    note: Annotated[str | None, typer.Option("--note", help="Why, for the record.")] = None,
    dry_run: DryRun = False,  # noqa: FBT002
    operator: Operator = None,
    as_json: AsJson = False,  # noqa: FBT002
) -> None:
    """Note that nothing needs to be done about dead letters: they are listed no more."""
    name, result = operator_name(operator), "would be discarded" if dry_run else "discarded"
    choice = _choice(ids, side, _filter(reason, kind, caller, since, until), all_=all_, again=again)

    async def work(desk: Desk) -> list[Treated]:
        entries, passed_over = await choice.entries(desk)
        return await _told(passed_over, desk.discard(entries, note, dry_run=dry_run), result, as_json=as_json)

    _conclude(_at_desk(work, name), result, as_json=as_json)


# Options -----------------------------------------------------------------------------------------------------------
def _sides(side: str | None) -> Sequence[Side]:
    if side is None:
        return SIDES
    for known in SIDES:
        if side == known:
            return [known]
    raise EditError(f"--side {side}: it is commands or queries")


def _filter(
    reasons: Iterable[str] | None,
    kinds: Iterable[str] | None,
    callers: Iterable[str] | None,
    since: str | None,
    until: str | None,
) -> Filter:
    now = datetime.now(UTC)
    times = {}
    for option, text in (("--since", since), ("--until", until)):
        try:
            times[option] = read_time(text, now) if text is not None else None
        except ValueError:
            raise EditError(f"{option} {text}: no time; give 90s, 30m, 2h, 3d or 2026-01-31T12:00Z") from None
    return Filter(
        tuple(reason.upper() for reason in reasons or ()),
        tuple(kinds or ()),
        tuple(callers or ()),
        times["--since"],
        times["--until"],
    )


def _caller(subject: str | None, issuer: str, roles: Sequence[str]) -> Caller | None:
    if subject is None:
        if roles or issuer:
            raise EditError("--role and --issuer belong to --as")
        return None
    for text in (subject, issuer or "x"):
        if not re.fullmatch(r"[ -~]{1,255}", text):
            raise EditError("--as and --issuer: 1-255 printable ASCII characters")
    if unknown := sorted(set(roles) - _ROLES):
        raise EditError(f"--role {unknown[0]}: the roles are {', '.join(sorted(_ROLES))}")
    return Caller(subject, issuer, roles)


def _edits(operator: str, edit: Path | None, set_: Sequence[str], unset: Sequence[str], named: Caller | None) -> Edits:
    key = deployment.replays_of(Settings.load()).operator_key
    if key is None:
        raise EditError("DLQ_OPERATOR_KEY is not set, here and at the workers: they accept no edited dead letter")
    body = None
    if edit is not None:
        try:
            body = sys.stdin.buffer.read() if str(edit) == "-" else edit.read_bytes()
        except OSError as error:
            raise EditError(f"--edit {edit}: {error.strerror}") from None
    return Edits(key, operator, body, read_set(set_), [read_place(place) for place in unset], named)


@dataclass(frozen=True, slots=True)
class _Choice:
    """Which letters are meant: these ids, or all that pass."""

    places: Sequence[Place]
    sides: Sequence[Side]
    wanted: Filter
    again: bool

    async def entries(self, desk: Desk) -> tuple[list[Entry], list[Treated]]:
        """Return the letters that are meant, in the order of their first arrival, and those passed over."""
        if not self.places:
            return await desk.find(self.sides, self.wanted), []
        chosen = sorted(
            ((Entry.of(letter), done) for letter, done in await desk.get(self.places)), key=lambda one: one[0].failure
        )
        dealt_with = [
            Treated(entry, f"{done.action} by {done.operator} already (--again)")
            for entry, done in chosen
            if done is not None and not self.again
        ]
        return [entry for entry, done in chosen if done is None or self.again], dealt_with


def _choice(ids: Sequence[str] | None, side: str | None, wanted: Filter, *, all_: bool, again: bool) -> _Choice:
    filtered = wanted != Filter() or side is not None
    if ids and (filtered or all_):
        raise EditError("give ids, or filters, not both")
    if not ids and not filtered and not all_:
        raise EditError("which ones? Give ids, filters, or --all")
    if again and not ids:
        raise EditError("--again goes with ids")
    return _Choice([read_id(one) for one in ids or []], _sides(side), wanted, again)


# Running and printing ----------------------------------------------------------------------------------------------
def _at_desk(work: Callable[[Desk], Coroutine[Any, Any, T]], operator: str = "") -> T:
    """Do some work at the desk; whatever an operator can mend is one line. Who only looks need not give a name."""
    session = Session.begin("dlq", log_level="INFO")

    async def run() -> T:
        async with _desk(session, operator) as desk:
            return await work(desk)

    return session.run(run, kafka=True, database=True)


@asynccontextmanager
async def _desk(session: Session, operator: str) -> AsyncIterator[Desk]:
    settings = session.settings
    topics = Topics(settings.kafka.topic_prefix)
    log = DeadLetterLog(settings.kafka.bootstrap_servers, deployment.kafka_security(settings), topics)

    async with session.engine() as engine, log:

        async def refused(pair: KeyPair, side: Side) -> str | None:
            async with connected(engine) as connection:
                return await why_refused(connection, pair, side)

        replays = deployment.replays_of(settings)
        yield Desk(log, DeadLetterActions(engine), topics, replays, operator, why_refused=refused)


async def _told(
    passed_over: list[Treated], doing: AsyncIterator[Treated], result: str, *, as_json: bool
) -> list[Treated]:
    """Say what becomes of each letter as it happens; returns all of them."""
    for one in passed_over:
        _say(one, result, as_json=as_json)
    async for treated in doing:
        _say(treated, result, as_json=as_json)
        passed_over.append(treated)
    return passed_over


def _print_table(shown: Sequence[Mapping[str, Any]], columns: Sequence[str], caption: str | None) -> None:
    print_table(
        [column.replace("_", " ") for column in columns],
        [
            [", ".join(one[name]) if isinstance(one[name], list) else str(one[name] or "") for name in columns]
            for one in shown
        ],
        caption=caption,
    )


def _say(treated: Treated, what: str, *, as_json: bool) -> None:
    entry = treated.entry
    if as_json:
        result = {"result": what if treated.problem is None else "not " + what, "problem": treated.problem}
        print_json_lines([entry.shown(None) | result])
    else:
        typer.echo(f"{entry.id}: " + (what if treated.problem is None else f"not {what}: {treated.problem}"))


def _conclude(treated: Sequence[Treated], what: str, *, as_json: bool) -> None:
    """Say what was passed over and how many there were; exit code 1 unless all were treated."""
    problems = [one for one in treated if one.problem is not None]
    if not as_json:
        typer.echo(f"{len(treated) - len(problems)} {what}, {len(problems)} not")
    if problems:
        raise typer.Exit(Exit.FAILED)
