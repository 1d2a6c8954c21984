"""Editing a dead letter before it is brought back: what may be changed, and the signature that vouches for it."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from workers.dlq.errors import DeskError
from workers.dlq.letters import Letter
from workers.pipeline.replays import NOT_WHOLE
from workers.pipeline.signature import PREFIX, SIGNATURE, Header, sign
from workers.ports import Message

NOT_IN_AN_EDIT: Final = NOT_WHOLE | {SIGNATURE, "dlq.operator", "dlq.kind", "dlq.value_sha256", "dlq.key_sha256"}
_BODY: Final = frozenset({"kind", "version", "payload"})


class EditError(DeskError):
    """The letter cannot be edited so; the text says why, in one line."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Whom an operator names where nobody was verified."""

    subject: str
    issuer: str = ""
    roles: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Edits:
    """What to change. Places: `kind`, `version`, `payload.<dotted path>`, `header.<name>`, `key`.

    `body` replaces the whole value; `set_` and `unset` go over it. With nothing to change, a letter is signed anew as
    it is: so it outlives a replaced DLQ_SIGNING_KEY.
    """

    operator_key: bytes = field(repr=False)
    operator: str
    body: bytes | None = None
    set_: Mapping[str, str] = field(default_factory=dict)
    unset: Sequence[str] = ()
    caller: Caller | None = None

    @property
    def names(self) -> list[str]:
        """Return what is changed, without what it is changed to."""
        body = ["body"] if self.body is not None else []
        caller = ["caller"] if self.caller is not None else []
        return [*body, *caller, *self.set_, *(f"-{place}" for place in self.unset)]

    def apply(self, letter: Letter) -> Message:
        """Return the replay: changed, signed by the operator's key, naming the operator. Raises `EditError`."""
        origin = letter.origin
        if origin is None:
            raise EditError("its signature does not hold: it is not the workers' own, or DLQ_SIGNING_KEY was replaced")
        key = self._key(letter)
        value = self._value(letter)
        headers = [*self._headers(letter), *self._notes(letter), ("dlq.operator", self.operator.encode())]
        headers.append((SIGNATURE, sign(self.operator_key, key, value, headers)))
        return Message(origin.topic, key, value, headers, origin.partition)

    def _key(self, letter: Letter) -> bytes | None:
        if "key" in self.unset:
            return None
        if "key" in self.set_:
            return self.set_["key"].encode()
        if "dlq.key_bytes" in letter.notes:
            raise EditError("its key did not fit into the dead letter: give one by --set key=…")
        return letter.record.key

    def _value(self, letter: Letter) -> bytes | None:
        sets = {place: text for place, text in self.set_.items() if place.partition(".")[0] in _BODY}
        unsets = [place for place in self.unset if place.partition(".")[0] in _BODY]
        value = self.body if self.body is not None else letter.record.value
        if self.body is None and "dlq.value_bytes" in letter.notes:
            raise EditError("its value did not fit into the dead letter: give it by --edit")
        if not sets and not unsets:
            return value
        try:
            body = orjson.loads(value or b"")
        except orjson.JSONDecodeError:
            raise EditError("its value is not JSON: give a whole one by --edit") from None
        body = copy.deepcopy(body)
        for place in unsets:
            _unset(body, place)
        for place, text in sets.items():
            _set(body, place, _json_or_text(text))
        return orjson.dumps(body)

    def _headers(self, letter: Letter) -> list[Header]:
        changes = {
            place.removeprefix("header."): text for place, text in self.set_.items() if place.startswith("header.")
        }
        gone = {place.removeprefix("header.") for place in self.unset if place.startswith("header.")} | changes.keys()
        if any(name.startswith(PREFIX) or name == "authorization" for name in gone):
            raise EditError("headers dlq.* and authorization are not for editing")
        if "message_id" in gone and letter.message_id not in {None, changes.get("message_id")}:
            raise EditError("a replayed message keeps its message_id, or it would be another message")
        if missing := sorted(gone - changes.keys() - letter.headers.keys()):
            raise EditError(f"header.{missing[0]}: it is not there")
        kept = [
            (name, value) for name, value in letter.record.headers if not name.startswith(PREFIX) and name not in gone
        ]
        return kept + [(name, text.encode()) for name, text in changes.items()]

    def _notes(self, letter: Letter) -> list[Header]:
        notes = [
            (name, value)
            for name, value in letter.record.headers
            if name.startswith(PREFIX) and name not in NOT_IN_AN_EDIT
        ]
        if self.caller is None:
            if letter.caller is None:
                raise EditError("nobody was verified when it was put aside: name the caller by --as")
            return notes
        if letter.caller is not None:
            raise EditError(f"its caller was verified: it is {letter.caller}")
        named = f"{self.caller.issuer}\n{self.caller.subject}"
        return [*notes, ("dlq.caller", named.encode()), ("dlq.roles", ",".join(self.caller.roles).encode())]


def plain(letter: Letter) -> Message:
    """Return the replay of a letter as it is, its signature included."""
    origin = letter.origin
    if origin is None:
        raise EditError("it does not say where it came from")
    record = letter.record
    return Message(origin.topic, record.key, record.value, record.headers, origin.partition)


def read_set(texts: Sequence[str]) -> dict[str, str]:
    """Read `place=value` pairs. Raises `EditError` for a place that there is not."""
    found = {}
    for text in texts:
        place, separator, value = text.partition("=")
        if not separator:
            raise EditError(f"--set {text}: it must be PLACE=VALUE")
        found[read_place(place)] = value
    return found


def read_place(place: str) -> str:
    """Return a place as it is, if it is one. Raises `EditError`."""
    head, _, rest = place.partition(".")
    if place in {"kind", "version", "key"} or (head in {"payload", "header"} and rest):
        return place
    raise EditError(f"{place}: a place is kind, version, key, payload.FIELD or header.NAME")


def _json_or_text(text: str) -> object:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text


def _steps(body: object, place: str) -> tuple[Any, str | int]:
    """Follow a dotted path to the object or list that holds its end. Raises `EditError`."""
    *path, last = place.split(".")
    at: Any = body
    for step in path:
        try:
            at = at[_index(at, step)]
        except (KeyError, IndexError, TypeError, ValueError):
            raise EditError(f"{place}: there is no '{step}' on the way") from None
    try:
        return at, _index(at, last)
    except (TypeError, ValueError):
        raise EditError(f"{place}: what holds it is neither an object nor a list") from None


def _index(holder: object, step: str) -> str | int:
    if isinstance(holder, list):
        return int(step)
    if isinstance(holder, dict):
        return step
    raise TypeError


def _set(body: object, place: str, value: object) -> None:
    holder, last = _steps(body, place)
    try:
        holder[last] = value
    except IndexError:
        raise EditError(f"{place}: the list has no such place") from None


def _unset(body: object, place: str) -> None:
    holder, last = _steps(body, place)
    try:
        del holder[last]
    except (KeyError, IndexError):
        raise EditError(f"{place}: it is not there") from None
