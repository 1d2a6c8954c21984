"""What of a contract would break those who work by an older one.

A request that was good must stay good: each old request schema lies within the new one. A reply must be what callers
know: each new reply schema lies within the old one, apart from fields that are added. Objects are compared field by
field, so that each break has a place and a name; what is left is decided by containment of schemas, and by samples
where containment cannot be decided.
"""

import math
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any, Final

import jsonschema_rs
import orjson

from contracts.errors import VersionRemovedError
from contracts.release import Release
from contracts.schemas import Schema
from workers.contract.errors import ContractError

DRAFT: Final = "http://json-schema.org/draft-07/schema#"
ANNOUNCED: Final = VersionRemovedError.error_code
"""A refusal that nobody meets unwarned: it comes of a sunset, whose date replies tell long before."""
SAMPLES: Final = 200
DEAREST_REPEAT: Final = 40
"""A pattern that repeats something more often takes minutes to be compared: it is sampled."""
_REPEAT: Final = re.compile(r"[{,]([0-9]+)\}")
_ONE_CLASS: Final = re.compile(r"\^(\[[^\[\]]+\])\{([0-9]+),([0-9]+)\}\$")
"""One class of characters, repeated: a limit of the length says the same, and costs nothing."""


def releases() -> dict[str, Release]:
    """Read every release, by version, the oldest first."""
    folder = resources.files("contracts") / "released"
    found = [orjson.loads(file.read_bytes()) for file in folder.iterdir() if file.name.endswith(".json")]
    return {one["version"]: one for one in sorted(found, key=lambda one: _numbers(one["version"]))}


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def breaks(old: Release, new: Release) -> list[str]:
    """Name each change that would break a caller of the old contract, with its place."""
    found = [
        f"topic {name}: {topic} is {new['topics'].get(name, 'gone')} now"
        for name, topic in old["topics"].items()
        if new["topics"].get(name) != topic
    ]
    for side in ("commands", "queries"):
        found += _Comparison(is_reply=False).of(old["headers"][side], new["headers"][side], f"headers of {side}")
    found += _Comparison(is_reply=True).of(old["headers"]["replies"], new["headers"]["replies"], "headers of replies")
    for name, kind in old["kinds"].items():
        if name in new["kinds"]:
            found += _of_kind(name, kind, new["kinds"][name])
        else:
            found.append(f"{name}: the kind is gone")
    return found


def _of_kind(name: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    if old["topic"] != new["topic"]:
        yield f"{name}: it belongs on {new['topic']} now, not on {old['topic']}"
    if old["key"] != new["key"]:
        yield f"{name}: its key is {new['key']} now, not {old['key']}"
    if new["roles"] and (lost := sorted(set(old["roles"]) - set(new["roles"])) or not old["roles"]):
        who = ", ".join(lost) if isinstance(lost, list) else "a caller without a role"
        yield f"{name}: a stronger role is needed: {who} may no more"
    for number, schema in old["versions"].items():
        if number in new["versions"]:
            yield from _Comparison(is_reply=False).of(schema, new["versions"][number], f"{name} v{number}: payload")
        else:
            yield f"{name}: version {number} is gone"
    yield from (
        f"{name}: it may be answered by {answer} now" for answer in new["answers"] if answer not in old["answers"]
    )
    for code, status in new["errors"].items():
        if code not in old["errors"] and code != ANNOUNCED:
            yield f"{name}: it may be refused by {code} now, a new error code"
        elif old["errors"].get(code, status) != status:
            yield f"{name}: the statusCode of {code} is {status} now, not {old['errors'][code]}"
    yield from _Comparison(is_reply=True).of(old["data"], new["data"], f"{name}: data")


@dataclass(frozen=True, slots=True)
class _Comparison:
    """Compares schemas place by place, as requests or as replies."""

    is_reply: bool

    def of(self, old: Schema, new: Schema, place: str) -> Iterator[str]:
        """Name what breaks at a place and below it."""
        if old == new:
            return
        olds, news = _options(old), _options(new)
        if self.is_reply and _NULL in news and _NULL not in olds:
            yield f"{place}: null where it never was"
        if not self.is_reply and _NULL in olds and _NULL not in news:
            yield f"{place}: null is no longer taken"
        olds, news = ([one for one in options if one != _NULL] for options in (olds, news))
        if len(olds) == len(news) == 1:
            yield from self._of_one(olds[0], news[0], place)
        elif not self._each_fits(olds, news):
            yield f"{place}: {self._changed}"

    def _each_fits(self, olds: Sequence[Schema], news: Sequence[Schema]) -> bool:
        inner, outer = (news, olds) if self.is_reply else (olds, news)
        return not inner or (bool(outer) and lies_within({"anyOf": inner}, {"anyOf": outer}))

    @property
    def _changed(self) -> str:
        return "retyped" if self.is_reply else "narrowed: what was taken is refused now"

    def _of_one(self, old: Schema, new: Schema, place: str) -> Iterator[str]:
        if "properties" in old and "properties" in new:
            yield from self._of_fields(old, new, place)
        elif old.get("type") == new.get("type") == "array" and "items" in old and "items" in new:
            yield from self.of(old["items"], new["items"], f"{place}[]")
            yield from self._of_leaf(_without(old, "items"), _without(new, "items"), place)
        elif _values(old) is not None and _values(new) is not None:
            yield from self._of_values(old, new, place)
        else:
            yield from self._of_leaf(old, new, place)

    def _of_fields(self, old: Schema, new: Schema, place: str) -> Iterator[str]:
        before, after = old["properties"], new["properties"]
        must, must_now = set(old.get("required", ())), set(new.get("required", ()))
        is_closed = new.get("additionalProperties") is False
        for name in before:
            field = f"{place}.{name}"
            if name not in after:
                if self.is_reply or is_closed:
                    yield f"{field}: the field is gone"
            elif self.is_reply and name in must - must_now:
                yield f"{field}: the field may be absent now"
            elif not self.is_reply and name in must_now - must:
                yield f"{field}: the field is required now"
            if name in after:
                yield from self.of(before[name], after[name], field)
        if not self.is_reply:
            yield from (f"{place}.{name}: a new field is required" for name in sorted(must_now - before.keys()))
        if is_closed and old.get("additionalProperties") is not False and not self.is_reply:
            yield f"{place}: unknown fields are refused now"
        own = ("properties", "required", "additionalProperties")
        yield from self._of_leaf(_without(old, *own), _without(new, *own), place)

    def _of_values(self, old: Schema, new: Schema, place: str) -> Iterator[str]:
        before, after = _values(old) or [], _values(new) or []
        if self.is_reply:
            if not old.get("x-open"):
                yield from (f"{place}: the value {one!r} was added" for one in after if one not in before)
        else:
            yield from (f"{place}: the value {one!r} is gone" for one in before if one not in after)

    def _of_leaf(self, old: Schema, new: Schema, place: str) -> Iterator[str]:
        if old == new:
            return
        if old.get("format") != new.get("format"):
            # A format is known by its name alone: where one comes or goes nothing else is compared about it.
            weaker, stronger = (new, old) if self.is_reply else (old, new)
            if "format" in stronger:
                told = f"it is {weaker.get('format', 'any text')}, not {stronger['format']}, "
                yield f"{place}: {self._changed} ({told}{'now' if self.is_reply else 'before'})"
                return
        if not self._lies_within(_without(old, "format"), _without(new, "format")):
            yield f"{place}: {self._changed} ({_told(old, new)})"

    def _lies_within(self, old: Schema, new: Schema) -> bool:
        return lies_within(new, old) if self.is_reply else lies_within(old, new)


_NULL: Final[Schema] = {"type": "null"}


def _options(schema: Schema) -> list[Schema]:
    """Split a schema into those of which one must fit."""
    if set(schema) == {"anyOf"}:
        return [one for option in schema["anyOf"] for one in _options(option)]
    return [schema]


def _values(schema: Schema) -> list[Any] | None:
    if "const" in schema:
        return [schema["const"]]
    return schema.get("enum")


def _without(schema: Schema, *names: str) -> Schema:
    return {name: value for name, value in schema.items() if name not in names}


def _told(old: Schema, new: Schema) -> str:
    differing = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    return ", ".join(f"{name}: {old.get(name, 'none')} → {new.get(name, 'none')}" for name in differing)


# Containment -------------------------------------------------------------------------------------------------------
def lies_within(inner: Schema, outer: Schema) -> bool:
    """Tell whether whatever fits `inner` fits `outer`, too; by samples of `inner` where that cannot be decided."""
    if _is_text(inner) and _is_text(outer):
        (text, least, most), (other, low, high) = _measured(inner), _measured(outer)
        if low <= least and most <= high:
            inner, outer = text, other
        elif "pattern" not in text or text != _without(inner, "minLength", "maxLength"):
            return False  # what bounds its length is known
    if outer in (inner, {"type": "string"}) and inner.get("type") == outer.get("type"):
        return True
    try:
        return _decided(_draft_04(inner), _draft_04(outer))
    except ContractError:
        raise
    except Exception:  # noqa: BLE001 - the library has many ways to say that it cannot tell
        return _sampled(inner, outer)


def _is_text(schema: Schema) -> bool:
    return schema.get("type") == "string" and schema.keys() <= {"type", "pattern", "minLength", "maxLength"}


def _measured(text: Schema) -> tuple[Schema, int, float]:
    """Take the bounds of its length out of the schema of a text, those that its pattern has, too."""
    least, most = text.get("minLength", 0), text.get("maxLength", math.inf)
    bare = dict(_without(text, "minLength", "maxLength"))
    if repeated := _ONE_CLASS.fullmatch(bare.get("pattern", "")):
        bare["pattern"] = f"^{repeated[1]}*$"
        least, most = max(least, int(repeated[2])), min(most, int(repeated[3]))
    return bare, least, most


class _TooDearError(Exception):
    """An automaton for a pattern would have too many states to be made."""


def _decided(inner: Schema, outer: Schema) -> bool:
    is_subschema = _jsonsubschema()
    for pattern in (*_patterns(inner), *_patterns(outer)):
        longest = max((schema.get("maxLength", 0) for schema in (inner, outer)), default=0)
        if any(int(most) > DEAREST_REPEAT for most in [longest, *_REPEAT.findall(pattern)]):
            raise _TooDearError(pattern)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return bool(is_subschema(inner, outer))


def _jsonsubschema() -> Callable[[Schema, Schema], object]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from jsonsubschema import isSubschema  # noqa: PLC0415 - of the extra `contract`
    except ImportError as error:
        raise _not_installed(error) from None
    return isSubschema  # type: ignore[no-any-return]


def _not_installed(error: ImportError) -> ContractError:
    return ContractError(
        f"contracts cannot be compared ({error.name} is missing): pip install 'catalog-workers[contract]'"
    )


def _draft_04(schema: Any) -> Any:  # noqa: ANN401 - any JSON value
    """Say the same in the words of draft 04, which is what the library knows."""
    if isinstance(schema, list):
        return [_draft_04(one) for one in schema]
    if not isinstance(schema, Mapping):
        return schema
    said = {name: _draft_04(value) for name, value in schema.items() if name not in {"const", "x-open"}}
    if "const" in schema:
        said["enum"] = [schema["const"]]
    limit = said.get("exclusiveMaximum")
    if isinstance(limit, int) and not isinstance(limit, bool) and said.get("type") == "integer":
        del said["exclusiveMaximum"]
        said["maximum"] = min(limit - 1, said.get("maximum", limit))
    return said


def _patterns(schema: Any) -> Iterator[str]:  # noqa: ANN401 - any JSON value
    if isinstance(schema, list):
        for one in schema:
            yield from _patterns(one)
    elif isinstance(schema, Mapping):
        for name, value in schema.items():
            if name == "pattern" and isinstance(value, str):
                yield value
            else:
                yield from _patterns(value)


def _sampled(inner: Schema, outer: Schema) -> bool:
    try:
        from hypothesis import HealthCheck, Phase, given, settings  # noqa: PLC0415 - of the extra `contract`
        from hypothesis_jsonschema import from_schema  # noqa: PLC0415
    except ImportError as error:
        raise _not_installed(error) from None
    fits_inner, fits_outer = (jsonschema_rs.validator_for({"$schema": DRAFT, **one}).is_valid for one in (inner, outer))
    all_fit = True

    @settings(
        max_examples=SAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(from_schema(_samplable(inner)))
    def look(sample: object) -> None:
        nonlocal all_fit
        all_fit = all_fit and (fits_outer(sample) or not fits_inner(sample))

    look()
    return all_fit


def _samplable(schema: Any) -> Any:  # noqa: ANN401 - any JSON value
    """Leave out the patterns that Python does not read; what is made without them may not fit, and does not count."""
    if isinstance(schema, list):
        return [_samplable(one) for one in schema]
    if not isinstance(schema, Mapping):
        return schema
    return {name: _samplable(one) for name, one in schema.items() if name != "pattern" or _is_read(one)}


def _is_read(pattern: object) -> bool:
    try:
        return isinstance(pattern, str) and bool(re.compile(pattern))
    except re.error:
        return False
