"""The desk at which dead letters are dealt with, without Kafka and Postgres: order, records, words."""

import json
import weakref
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from contracts.topics import Topics
from persistence.dead_letter_actions import Action, Done, Failure
from persistence.key_fingerprints import KeyPair
from tests.unit.test_dead_letters import KEY, LETTERS, OPERATOR_KEY, REPLAYS, SENDER, Stored
from workers.admission.identity import Identity
from workers.dlq.commands import app
from workers.dlq.desk import MOST_GROUPS, OTHER_PLACES, PAGE, Desk, LetterNotFoundError, read_id
from workers.dlq.edits import Caller, EditError, Edits, read_place, read_set
from workers.dlq.letters import Entry, Filter, Letter, read_time
from workers.operator_error import OperatorError
from workers.pipeline.replays import Replay
from workers.pipeline.signature import Header
from workers.ports import BrokerAwayError, Message, Record

BODY = {"kind": "place_order", "payload": {"lines": [{"quantity": 1}], "name": "Ada"}}
NOW = datetime(2026, 1, 2, tzinfo=UTC)


def letter(
    *,
    offset: int = 7,
    detail: str = "KeyError in x at handlers/order.py:1",
    reason: str = "INTERNAL_ERROR",
    headers: Sequence[Header] = (("message_id", b"m"), ("x-secret", b"Ada")),
    value: bytes = json.dumps(BODY).encode(),
    identity: Identity | None = SENDER,
    kind: str | None = "place_order",
) -> Letter:
    """Make a dead letter as it stands on its topic."""
    record = Stored(headers, value, offset=offset)
    written = LETTERS.write(record, reason=reason, detail=detail, identity=identity, kind=kind)
    return Letter(Stored(written.headers, written.value, written.key, written.topic, 0, offset), "commands", REPLAYS)


@dataclass
class Log:
    """The dead-letter topics, as lists; `takes` says how many replays the broker takes before it goes away."""

    stored: Sequence[Letter] = ()
    takes: int = 1000
    brought_back: list[Message] = field(default_factory=list)

    async def spans(self, topic: str, since: datetime | None) -> dict[int, tuple[int, int]]:
        return {0: (0, len(self.stored))}

    async def read(self, topic: str, spans: Mapping[int, tuple[int, int]]) -> AsyncIterator[Record]:
        for first, end in spans.values():
            for one in self.stored[first:end]:
                if one.record.topic == topic:
                    yield one.record

    async def letter(self, topic: str, partition: int, offset: int) -> Record | None:
        return next((one.record for one in self.stored if one.record.offset == offset), None)

    async def bring_back(self, message: Message) -> str | None:
        if len(self.brought_back) >= self.takes:
            raise BrokerAwayError("away")
        self.brought_back.append(message)
        return None


@dataclass
class Actions:
    """The record, as a list."""

    begun: list[Action] = field(default_factory=list)
    confirmed: list[int] = field(default_factory=list)

    async def begin(self, action: Action) -> int:
        self.begun.append(action)
        return len(self.begun) - 1

    async def confirm(self, number: int) -> None:
        self.confirmed.append(number)

    async def dealt_with(self, _: Collection[Failure]) -> dict[Failure, Done]:
        return {self.begun[number].failure: Done("replayed", "op", NOW) for number in self.confirmed}


def desk(log: Log, actions: Actions | None = None) -> Desk:
    """Set up a desk; pauses take no time."""

    async def no_time(_: float) -> None:
        pass

    return Desk(log, actions or Actions(), Topics("catalog"), REPLAYS, "op", no_time)  # type: ignore[arg-type]


async def test_letters_come_in_the_order_of_their_first_arrival() -> None:
    """Whatever the order in which they failed; one that was published twice is one failure."""
    late, early, twice = letter(offset=9), letter(offset=2), letter(offset=9)
    found = await desk(Log([late, early, twice])).find(["commands"], Filter())
    assert [one.failure.offset for one in found] == [2, 9]


async def test_a_broker_that_goes_away_leaves_what_is_not_done_open() -> None:
    """What was brought back is dealt with; the letter in doubt and those after it are open, and can be replayed."""
    log, actions = Log([letter(offset=n) for n in range(4)], takes=2), Actions()
    at = desk(log, actions)
    open_ones = await at.find(["commands"], Filter())
    with pytest.raises(BrokerAwayError):
        _ = [treated async for treated in at.replay(open_ones, None, per_s=100, dry_run=False)]
    assert (len(actions.begun), actions.confirmed) == (3, [0, 1])
    assert [one.failure.offset for one in await at.find(["commands"], Filter())] == [2, 3]


async def test_a_replay_is_the_letter_as_it_is() -> None:
    """Same key, value, headers and signature, on the partition it came from; a worker believes it."""
    one = letter()
    log = Log([one])
    _ = [treated async for treated in desk(log).replay([Entry.of(one)], None, per_s=1, dry_run=False)]
    (message,) = log.brought_back
    assert (message.topic, message.partition, message.headers) == ("catalog.commands", 3, one.record.headers)
    came_back = Stored(message.headers, message.value, message.key, message.topic)
    assert isinstance(REPLAYS.recognise(came_back), Replay)


def edited(one: Letter, **what: Any) -> Replay:  # noqa: ANN401 - as `Edits` takes it
    """Edit a letter; returns what a worker makes of it."""
    message = Edits(OPERATOR_KEY, "op", **what).apply(one)
    found = REPLAYS.recognise(Stored(message.headers, message.value, message.key, message.topic))
    assert isinstance(found, Replay)
    return found


def test_edits_of_the_body_and_of_headers() -> None:
    """A dotted path reaches into objects and lists; a value is JSON where it reads as JSON; headers stay in order."""
    found = edited(
        letter(),
        set_=read_set(["payload.lines.0.quantity=5", "payload.note=a=b", "version=2", "header.reply_to=r"]),
        unset=["payload.name", "header.x-secret"],
    )
    assert json.loads(found.original.value or b"") == {
        "kind": "place_order",
        "version": 2,
        "payload": {"lines": [{"quantity": 5}], "note": "a=b"},
    }
    assert found.original.headers == [("message_id", b"m"), ("reply_to", b"r")]
    assert (found.operator, found.identity.caller) == ("op", SENDER.caller)


@pytest.mark.parametrize(
    ("what", "why"),
    [
        ({"set_": {"payload.lines.7.quantity": "1"}}, "there is no '7'"),
        ({"set_": {"payload.name.first": "1"}}, "neither an object nor a list"),
        ({"set_": {"payload.lines.9": "1"}}, "no such place"),
        ({"unset": ["payload.nothing"]}, "not there"),
        ({"unset": ["header.nothing"]}, "not there"),
        ({"set_": {"header.dlq.caller": "x"}}, "not for editing"),
        ({"set_": {"header.authorization": "x"}}, "not for editing"),
        ({"unset": ["header.message_id"]}, "keeps its message_id"),
        ({"caller": Caller("eve")}, "its caller was verified"),
    ],
)
def test_what_cannot_be_edited(what: dict[str, Any], why: str) -> None:
    """Places that there are not, what is signed, what makes it the same message: each is refused in one line."""
    with pytest.raises(EditError, match=why):
        Edits(OPERATOR_KEY, "op", **what).apply(letter())


def test_a_letter_without_its_value_needs_one() -> None:
    """What did not fit into the dead letter has to be given back whole."""
    one = letter(value=b"x" * 2 * 1024 * 1024)
    with pytest.raises(EditError, match="give it by --edit"):
        Edits(OPERATOR_KEY, "op").apply(one)
    assert edited(one, body=b"{}").original.value == b"{}"


def test_a_letter_that_is_not_ours_is_only_itself() -> None:
    """Its claims of origin hide no other letter, it cannot be edited, and nothing of it is trusted."""
    one = letter()
    forged = Letter(replace(one.record, value=b"{}"), "commands", REPLAYS)  # type: ignore[type-var]
    assert (forged.is_genuine, forged.reason, forged.place, forged.caller) == (False, "unknown", "", None)
    assert forged.failure.topic == "catalog.commands.dead-letters"
    assert forged.failure != one.failure
    with pytest.raises(EditError, match="signature"):
        Edits(OPERATOR_KEY, "op").apply(forged)


@pytest.mark.parametrize(
    ("reason", "detail", "place"),
    [
        ("INTERNAL_ERROR", "KeyError in x at a.py:12", "KeyError in x at a.py:12"),
        ("UNKNOWN_KIND", "Kind 'Ada's 1' is not known", "Kind … is not known"),
        ("UNREADABLE_RECORD", "header key is not UTF-8: ff", "header key is not UTF-8"),
        ("X", "customer 0190b0f8-7b0e-7000-8000-000000000000 and 12", "customer … and …"),
    ],
)
def test_a_place_holds_nothing_of_the_sender(reason: str, detail: str, place: str) -> None:
    """Letters are grouped by what does not differ from one message to the next."""
    assert letter(reason=reason, detail=detail).place == place


async def test_groups_are_by_reason_and_place() -> None:
    """The largest first, with how many callers and the newest as an example; what was published twice counts once."""
    letters = [letter(offset=1), letter(offset=2, reason="X", detail="a 1"), letter(offset=3, reason="X", detail="a 2")]
    found = await desk(Log([*letters, letters[1], letters[2]])).group(["commands"], Filter())
    first, second = [group.summary() for group in found]
    assert (first["letters"], first["reason"], first["place"], first["example"]) == (2, "X", "a …", "commands/0/3")
    assert (second["letters"], second["kinds"]) == (1, ["place_order"])


def test_descriptions_show_ids_and_hide_the_rest() -> None:
    """No value, header or key of the sender's own, however broken the letter is."""
    hidden = letter(
        headers=[("reply_to", b"Ada"), ("Ada", b"Ada")], value=b'{"kind": "Ada", "payload": {"Ada": 1}}', kind=None
    )
    broken = Letter(
        Stored([("dlq.failed_at", b"9" * 30), ("dlq.value_bytes", b"x")], None, b"Ada"), "commands", REPLAYS
    )
    for one in (hidden, broken):
        assert "Ada" not in json.dumps(one.description(None))
    assert hidden.description(None)["reply_to"] == "(unusable)"


STRANGER_WROTE: dict[str, dict[str, Any]] = {
    "the version": {"value": b'{"kind": "place_order", "version": {"Ivy": "Ivy"}, "payload": {}}'},
    "a version that is a text": {"value": b'{"kind": "place_order", "version": "Ivy Lovelace", "payload": {}}'},
    "an id that is none": {"value": b'{"kind": "place_order", "payload": {"customer_id": "IVY", "order_id": "Ivy"}}'},
    "an id of another kind": {"value": b'{"kind": "create_customer", "payload": {"mnemonic": "IVY_LOVELACE"}}'},
    "the name of a field": {"value": b'{"kind": "place_order", "payload": {"Ivy": 1}}'},
    "the kind": {"value": b'{"kind": "Ivy", "payload": {}}', "kind": None},
    "a message_id": {"headers": [("message_id", b"Ivy Lovelace")], "identity": None},
    "a reply topic": {"headers": [("reply_to", b"catalog.replies.Ivy.Lovelace")], "identity": None},
    "a mnemonic": {"value": b'{"kind": "delete_product", "payload": {"mnemonic": "IVY"}}', "identity": None},
    "a header's name": {"headers": [("x-Ivy", b"Ivy")]},
    "a header's value": {"headers": [("traceparent", b"Ivy"), ("deadline", b"Ivy"), ("content-type", b"Ivy")]},
}


@pytest.mark.parametrize("wrote", STRANGER_WROTE.values(), ids=STRANGER_WROTE)
def test_what_a_sender_wrote_is_not_shown(wrote: dict[str, Any]) -> None:
    """Of the body only ids and versions that are some, of headers only what a verified caller is known by."""
    one = letter(**{"kind": json.loads(wrote.get("value", b'{"kind": "place_order"}'))["kind"], **wrote})
    shown = json.dumps([one.description(None), Entry.of(one).shown(None)])
    assert "ivy" not in shown.lower()


def test_what_a_verified_caller_is_known_by_is_shown() -> None:
    """Its ids, its reply topic, the version and the mnemonic: an operator has to find the message."""
    one = letter(
        headers=[("message_id", b"m-1"), ("reply_to", b"catalog.replies.shop")],
        value=b'{"kind": "delete_product", "version": 1.0, "payload": {"mnemonic": "GOLD"}}',
        kind="delete_product",
    )
    described = one.description(None)
    assert (described["message_id"], described["reply_to"]) == ("m-1", "catalog.replies.shop")
    assert (described["version"], described["ids"]) == (1, {"mnemonic": "GOLD"})


@dataclass
class LongLog(Log):
    """Topics of many letters, made as they are read; counts what was read, and what of it is alive."""

    partitions: int = 12
    length: int = 1_000_000
    read_so_far: int = 0
    alive: "weakref.WeakSet[Any]" = field(default_factory=weakref.WeakSet)
    most_alive: int = 0

    async def spans(self, topic: str, since: datetime | None) -> dict[int, tuple[int, int]]:
        return dict.fromkeys(range(self.partitions), (0, self.length))

    async def read(self, topic: str, spans: Mapping[int, tuple[int, int]]) -> AsyncIterator[Record]:
        for partition, (first, end) in spans.items():
            for offset in range(first, end):
                self.read_so_far += 1
                caller = Identity("", f"caller-{offset % 50_000}", frozenset(), 0, 0)
                written = LETTERS.write(
                    Stored([("message_id", b"m")], b"no JSON", b"k", "catalog.commands", partition, offset),
                    reason=self.reason(offset),
                    detail=f"place-{'x' * (offset % 1_500)}",
                    identity=caller,
                    kind="place_order",
                )
                record = Stored(tuple(written.headers), written.value, written.key, topic, partition, offset)
                self.alive.add(record)
                self.most_alive = max(self.most_alive, len(self.alive))
                yield record

    def reason(self, offset: int) -> str:
        return "RARE" if offset % 50 == 0 else "X"


@pytest.mark.parametrize(
    ("limit", "wanted", "at_most"),
    [
        (20, Filter(), 12 * 100),
        (1, Filter(), 12 * 100),
        (300, Filter(), 12 * 300),
        (5, Filter(reasons=("RARE",)), 12 * 300),
        (20, Filter(callers=("caller-49999",)), None),
    ],
)
async def test_a_list_reads_from_the_end(limit: int, wanted: Filter, at_most: int | None) -> None:
    """As far back as it must, however long the topic is; it keeps what it shows, and no letter."""
    log = LongLog(length=1_000_000 if at_most is not None else 400)
    latest = await desk(log).latest(["commands"], wanted, limit)
    assert log.read_so_far <= (at_most or 12 * 400)
    assert len(latest.entries) == (limit if at_most is not None else 0)
    assert latest.complete == (at_most is None)
    if not wanted.reasons and at_most:
        assert {one.place[2] for one, _ in latest.entries} <= set(range(log.length - limit, log.length))


async def test_a_list_goes_on_past_what_was_dealt_with() -> None:
    """The last letters were all replayed: those before them are found."""
    stored = [letter(offset=n) for n in range(400)]
    actions = Actions([_done(one) for one in stored[100:]], list(range(300)))
    latest = await desk(Log(stored), actions).latest(["commands"], Filter(), 3)
    assert [one.failure.offset for one, _ in latest.entries] == [97, 98, 99]


def _done(one: Letter) -> Action:
    return Action(one.failure, one.record.topic, 0, one.record.offset, one.reason, None, None, "replayed", "op")


async def test_groups_are_counted_by_headers_alone() -> None:
    """A page of letters is in memory at a time; no body is read; places and callers beyond a number are one."""
    log = LongLog(partitions=1, length=3_000)
    found = await desk(log).group(["commands"], Filter(reasons=("X",)))
    assert sum(group.letters for group in found) == 3_000 - 60
    assert log.most_alive <= PAGE + 2
    assert len(found) == MOST_GROUPS + 1
    assert found[0].place == OTHER_PLACES
    assert found[0].kinds == {"place_order"}


def test_times_are_told_as_people_do() -> None:
    """So long ago, or a time with or without its zone; anything else is none."""
    assert read_time("90s", NOW) == NOW - timedelta(seconds=90)
    assert read_time("3d", NOW) == NOW - timedelta(days=3)
    assert read_time("2026-01-01T00:00Z", NOW) == read_time("2026-01-01", NOW) == NOW - timedelta(days=1)
    with pytest.raises(ValueError, match="soon"):
        read_time("soon", NOW)


@pytest.mark.parametrize(
    "text", ["", "commands", "commands/1", "commands/x/1", "left/0/1", "commands/0/1/2", "commands/-1/0"]
)
def test_ids(text: str) -> None:
    """An id names side, partition and offset; what does not is told to be none."""
    assert read_id("queries/3/14") == ("queries", 3, 14)
    with pytest.raises(LetterNotFoundError):
        read_id(text)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["list", "--since", "soon"], "no time"),
        (["list", "--side", "left"], "commands or queries"),
        (["show", "0"], "an id is"),
        (["replay"], "which ones?"),
        (["replay", "commands/0/0", "--all"], "not both"),
        (["replay", "--all", "--again"], "--again goes with ids"),
        (["replay", "--all", "--edit", "x"], "the one letter"),
        (["replay", "commands/0/0", "--set", "body=1"], "a place is"),
        (["replay", "commands/0/0", "--set", "kind"], "PLACE=VALUE"),
        (["replay", "commands/0/0", "--role", "x"], "belong to --as"),
        (["replay", "commands/0/0", "--as", "x", "--role", "root"], "the roles are"),
        (["discard", "--all", "--operator", "a b"], "--operator"),
    ],
)
def test_options_that_make_no_sense(arguments: list[str], words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is one line, before anything is asked of a server."""
    for name, content in (("DLQ_OPERATOR_KEY", OPERATOR_KEY.decode()), ("DLQ_SIGNING_KEY", KEY.decode())):
        monkeypatch.setenv(name, content)
    runner = CliRunner()
    result = runner.invoke(_as_a_group(), ["dlq", *arguments])
    assert isinstance(result.exception, OperatorError)
    assert words in str(result.exception)
    assert "\n" not in str(result.exception)


def _as_a_group() -> typer.Typer:
    root = typer.Typer()
    root.add_typer(app, name="dlq")
    return root


def test_places() -> None:
    """What may be edited has a name; everything else has none."""
    for place in ("kind", "version", "key", "payload.a.0", "header.reply_to"):
        assert read_place(place) == place
    for place in ("payload", "header", "value", "payloads.x", ""):
        with pytest.raises(EditError):
            read_place(place)


KEYS = [
    (None, "DLQ_SIGNING_KEY", KEY),
    (Edits(OPERATOR_KEY, "op"), "DLQ_OPERATOR_KEY", OPERATOR_KEY),
    (Edits(OPERATOR_KEY, "op", unset=["header.x-secret"]), "DLQ_OPERATOR_KEY", OPERATOR_KEY),
    (Edits(OPERATOR_KEY, "op", body=b"{}"), "DLQ_OPERATOR_KEY", OPERATOR_KEY),
    (Edits(b"p" * 32, "op", set_={"kind": "x"}), "DLQ_OPERATOR_KEY", b"p" * 32),
]


@pytest.mark.parametrize(("edits", "name", "key"), KEYS)
@pytest.mark.parametrize("dry_run", [True, False])
async def test_what_workers_would_refuse_is_not_brought_back(
    edits: Edits | None, name: str, key: bytes, dry_run: bool
) -> None:
    """Workers that lack the key that it is signed by: the letter stays open, and why is said; asked once for all."""
    log, actions, asked = Log([letter(offset=n) for n in range(3)]), Actions(), []

    async def refused(pair: KeyPair, side: str) -> str | None:
        asked.append((pair.name, pair.first, side))
        return "w-1 would refuse it"

    at = replace(desk(log, actions), why_refused=refused)
    entries = await at.find(["commands"], Filter())
    done = [treated.problem async for treated in at.replay(entries, edits, per_s=100, dry_run=dry_run)]
    assert done == ["w-1 would refuse it"] * 3
    assert asked == [(name, key, "commands")]
    assert (actions.begun, log.brought_back) == ([], [])
    assert len(await at.find(["commands"], Filter())) == 3
