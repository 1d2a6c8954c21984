"""Schemas: what of a rule is supported, and how the engine gets it.

A rule is written anew for the engine, from the keywords that are known: annotations and whatever is no keyword stay
out, patterns are those of `handlers.rules.patterns`, references are pointers. So nothing runs that was not counted.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import unquote

import jsonschema_rs

from handlers.rules.patterns import BadPatternError, Effort, Pattern, read_pattern

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"

MAX_SUBSCHEMAS: Final = 1_000
"""Of all rules of a product."""
MAX_PATTERNS: Final = 50
"""Of all rules of a product."""
MAX_PATTERN_SIZE: Final = 3_000
"""Of one rule's patterns together, see `Pattern.size`: at most 30 ms to compile."""
MAX_PATTERNS_SIZE: Final = 12_000
"""Of all rules of a product."""
MAX_CHAIN: Final = 200
"""So many sub-schemas may stand in a row, each applied by the one before it."""
MAX_WORDS: Final = 200
"""Of a value that is told: its characters."""

_ONE_SCHEMA: Final = (
    "additionalProperties",
    "contains",
    "else",
    "if",
    "items",
    "not",
    "propertyNames",
    "then",
    "unevaluatedItems",
    "unevaluatedProperties",
)
_LIST_OF_SCHEMAS: Final = ("allOf", "anyOf", "oneOf", "prefixItems")
_MAP_OF_SCHEMAS: Final = ("$defs", "definitions", "dependentSchemas", "patternProperties", "properties")
_VALUES: Final = (
    "const",
    "dependentRequired",
    "enum",
    "exclusiveMaximum",
    "exclusiveMinimum",
    "maxContains",
    "maxItems",
    "maxLength",
    "maxProperties",
    "maximum",
    "minContains",
    "minItems",
    "minLength",
    "minProperties",
    "minimum",
    "multipleOf",
    "required",
    "type",
    "uniqueItems",
)
_REFUSED: Final = ("$dynamicRef", "$dynamicAnchor", "$recursiveRef", "$recursiveAnchor", "$vocabulary")
_OF_THE_ROOT: Final = ("$schema", "$id")
_APART: Final = ("$defs", "definitions")
_OF_MEMBERS: Final = frozenset(
    {
        "additionalProperties",
        "contains",
        "items",
        "patternProperties",
        "prefixItems",
        "properties",
        "propertyNames",
        "unevaluatedItems",
        "unevaluatedProperties",
    }
)
"""Keywords that apply their sub-schemas to members of the value; the others apply them to the value itself."""


KEYWORDS: Final = frozenset(
    {
        *_ONE_SCHEMA,
        *_LIST_OF_SCHEMAS,
        *_VALUES,
        "$ref",
        "dependentSchemas",
        "pattern",
        "patternProperties",
        "properties",
    }
)
"""What the engine gets, and evaluates."""


class BadRuleError(Exception):
    """The rule is no schema that we can evaluate; the text says why."""


@dataclass(eq=False, slots=True, repr=False)
class SubSchema:
    """A sub-schema. `below`: those that stand in it, by keyword and by name or place; `target`: where `$ref` leads."""

    number: int
    written: Mapping[str, Any] | bool
    pointer: str
    below: dict[str, dict[str, "SubSchema"]] = field(default_factory=dict)
    target: "SubSchema | None" = None
    chain: int = 0
    """How many sub-schemas it stands before in the longest row of those that are applied to one value."""

    def value_of(self, keyword: str) -> Any:  # noqa: ANN401 - any JSON value
        """Return what is written at a keyword; None where it is not there."""
        return self.written.get(keyword) if isinstance(self.written, dict) else None

    def applied(self) -> Iterator["SubSchema"]:
        """Go through those that it applies to the value itself."""
        for keyword, named in self.below.items():
            if keyword not in _OF_MEMBERS and keyword not in _APART:
                yield from named.values()
        if self.target is not None:
            yield self.target

    def applied_to_members(self) -> Iterator["SubSchema"]:
        """Go through those that it applies to members of the value."""
        for keyword, named in self.below.items():
            if keyword in _OF_MEMBERS:
                yield from named.values()

    def parts(self) -> Iterator["SubSchema"]:
        """Go through all that it applies."""
        yield from self.applied()
        yield from self.applied_to_members()


@dataclass(slots=True)
class Room:
    """How much the rules of one product may still hold, together."""

    subschemas: int = MAX_SUBSCHEMAS
    patterns: int = MAX_PATTERNS
    patterns_size: int = MAX_PATTERNS_SIZE
    effort: Effort = field(default_factory=Effort)


@dataclass(frozen=True, slots=True, repr=False)
class Schema:
    """A rule's schema, read. `for_engine`: what the engine gets; `shown`: a pattern as written, by the engine's."""

    root: SubSchema
    all: Sequence[SubSchema]
    patterns: Mapping[str, Pattern]
    for_engine: dict[str, Any]
    shown: Mapping[str, str]


def read_schema(parameters: object, room: Room) -> Iterator[Schema | None]:
    """Read a rule's schema, in pieces: yields None between them, the schema at last. Raises `BadRuleError`."""
    if not isinstance(parameters, dict):
        raise BadRuleError("it is no JSON object")
    if parameters.get("$schema", DIALECT) != DIALECT:
        raise BadRuleError(f"'$schema' is not {DIALECT}")
    written = {key: value for key, value in parameters.items() if key not in _OF_THE_ROOT}
    reading = _Reading(room)
    root = reading.walk(written)
    yield None
    _check_dialect(written)
    yield None
    reading.follow_references()
    _refuse_circles(reading.all)
    for source in reading.sources:
        reading.read(source)
        yield None
    yield Schema(root, reading.all, reading.patterns, _Writing(reading, root).write(), reading.shown)


def _check_dialect(written: dict[str, Any]) -> None:
    try:
        jsonschema_rs.meta.validate(written | {"$schema": DIALECT})
    except jsonschema_rs.ValidationError as error:
        path = ".".join(str(part) for part in error.instance_path)
        at = f" (at {cut(path)})" if path else ""
        raise BadRuleError(f"it is no JSON Schema{at}: {cut(str(error.schema_path[-1]))} is not met") from None


class _Reading:
    """What is known of a schema while it is read."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._size = 0
        self.all: list[SubSchema] = []
        self._by_pointer: dict[str, SubSchema] = {}
        self._by_anchor: dict[str, SubSchema] = {}
        self._referring: list[tuple[SubSchema, str]] = []
        self.sources: dict[str, None] = {}
        self.patterns: dict[str, Pattern] = {}
        self.shown: dict[str, str] = {}

    def walk(self, written: dict[str, Any]) -> SubSchema:
        """Take stock of all sub-schemas, breadth first; what has a wrong form is left to the check of the dialect."""
        root = self._add(written, "")
        level = [root]
        while level:
            below: list[SubSchema] = []
            for one in level:
                if isinstance(one.written, dict):
                    self._note(one, one.written)
                    for keyword, name, pointer, value in _parts(one.pointer, one.written):
                        if isinstance(value, dict | bool):
                            part = self._add(value, pointer)
                            one.below.setdefault(keyword, {})[name] = part
                            below.append(part)
            level = below
        self._room.patterns -= len(self.sources)
        if self._room.patterns < 0:
            raise BadRuleError(f"the product's rules have more than {MAX_PATTERNS} patterns")
        return root

    def _add(self, written: dict[str, Any] | bool, pointer: str) -> SubSchema:  # noqa: FBT001 - a schema may be one
        self._room.subschemas -= 1
        if self._room.subschemas < 0:
            raise BadRuleError(f"the product's rules have more than {MAX_SUBSCHEMAS} sub-schemas")
        one = SubSchema(len(self.all), written, pointer)
        self.all.append(one)
        self._by_pointer[pointer] = one
        return one

    def _note(self, one: SubSchema, written: dict[str, Any]) -> None:
        for keyword in (*_REFUSED, *_OF_THE_ROOT):
            if keyword in written:
                raise BadRuleError(f"'{keyword}' is not supported here")
        if isinstance(reference := written.get("$ref"), str):
            self._referring.append((one, reference))
        if isinstance(anchor := written.get("$anchor"), str) and self._by_anchor.setdefault(anchor, one) is not one:
            raise BadRuleError(f"'$anchor' names two places: {cut(anchor)}")
        if isinstance(pattern := written.get("pattern"), str):
            self.sources[pattern] = None
        if isinstance(patterns := written.get("patternProperties"), dict):
            self.sources.update(dict.fromkeys(patterns))

    def follow_references(self) -> None:
        """Raise `BadRuleError` for a reference that leaves the schema, or leads to something that is none."""
        for one, reference in self._referring:
            base, _, fragment = reference.partition("#")
            if base or "#" not in reference:
                raise BadRuleError(f"'$ref' may only refer to a place inside the rule, not to {cut(reference)}")
            place = unquote(fragment)
            found = (self._by_pointer if not place or place.startswith("/") else self._by_anchor).get(place)
            if found is None:
                raise BadRuleError(f"'$ref' leads to no sub-schema: {cut(reference)}")
            one.target = found

    def read(self, source: str) -> None:
        """Read a pattern."""
        try:
            pattern = read_pattern(source, self._room.effort)
        except BadPatternError as error:
            raise BadRuleError(f"a pattern {error}: {cut(source)}") from None
        self._size += pattern.size
        self._room.patterns_size -= pattern.size
        if self._size > MAX_PATTERN_SIZE or self._room.patterns_size < 0:
            raise BadRuleError(f"the patterns are too large together (counted repetitions?), up to {cut(source)}")
        self.patterns[source] = pattern
        # Two that the engine gets alike would become one key of an object.
        engine = pattern.engine
        while engine in self.shown:
            engine += "(?:)"
        self.shown[engine] = source


class _Writing:
    """Writes a schema for the engine."""

    def __init__(self, reading: _Reading, root: SubSchema) -> None:
        self._root = root
        self._engine_of = {source: engine for engine, source in reading.shown.items()}
        targets = {one.target.number: one.target for one in reading.all if one.target is not None}
        self._apart = {number: one for number, one in targets.items() if one is not root}

    def write(self) -> dict[str, Any]:
        """Write it, with what is referred to below `$defs`."""
        made: dict[str, Any] = self._content(self._root, self._root.written)
        defs = {str(number): self._content(one, one.written) for number, one in self._apart.items()}
        return made | {"$defs": defs} if defs else made

    def _schema(self, one: SubSchema) -> Any:  # noqa: ANN401 - a schema
        return {"$ref": f"#/$defs/{one.number}"} if one.number in self._apart else self._content(one, one.written)

    def _content(self, one: SubSchema, written: Mapping[str, Any] | bool) -> Any:  # noqa: ANN401, FBT001 - a schema
        if isinstance(written, bool):
            return written
        made: dict[str, Any] = {keyword: written[keyword] for keyword in _VALUES if keyword in written}
        if isinstance(pattern := written.get("pattern"), str):
            made["pattern"] = self._engine_of[pattern]
        if one.target is not None:
            made["$ref"] = "#" if one.target is self._root else f"#/$defs/{one.target.number}"
        for keyword, named in one.below.items():
            if keyword in _ONE_SCHEMA:
                made[keyword] = self._schema(named[""])
            elif keyword in _LIST_OF_SCHEMAS:
                made[keyword] = [self._schema(part) for part in named.values()]
            elif keyword not in _APART:
                names = self._engine_of if keyword == "patternProperties" else {}
                made[keyword] = {names.get(name, name): self._schema(part) for name, part in named.items()}
        return made


def _parts(pointer: str, schema: dict[str, Any]) -> Iterator[tuple[str, str, str, Any]]:
    for keyword in _ONE_SCHEMA:
        if keyword in schema:
            yield keyword, "", f"{pointer}/{keyword}", schema[keyword]
    for keyword in _LIST_OF_SCHEMAS:
        several = schema.get(keyword)
        if isinstance(several, list):
            for index, one in enumerate(several):
                yield keyword, str(index), f"{pointer}/{keyword}/{index}", one
    for keyword in _MAP_OF_SCHEMAS:
        named = schema.get(keyword)
        if isinstance(named, dict):
            for name, one in named.items():
                yield keyword, name, f"{pointer}/{keyword}/{name.replace('~', '~0').replace('/', '~1')}", one


def _refuse_circles(subschemas: Sequence[SubSchema]) -> None:
    """Raise `BadRuleError` where sub-schemas apply one another to the same value for ever, or in too long a row."""
    lengths: dict[int, int] = {}
    for start in subschemas:
        if start.number in lengths:
            continue
        under_way: dict[int, None] = {start.number: None}
        stack = [(start, start.applied(), 0)]
        while stack:
            one, rest, longest = stack.pop()
            for part in rest:
                if part.number in under_way:
                    raise BadRuleError("its references go round in a circle")
                if part.number not in lengths:
                    stack += [(one, rest, longest), (part, part.applied(), 0)]
                    under_way[part.number] = None
                    break
                longest = max(longest, lengths[part.number])
            else:
                lengths[one.number] = one.chain = longest + 1
                del under_way[one.number]
                if stack:
                    before, others, its = stack.pop()
                    stack.append((before, others, max(its, longest + 1)))
    if max(lengths.values(), default=0) > MAX_CHAIN:
        raise BadRuleError(f"more than {MAX_CHAIN} of its sub-schemas stand in a row")


def groups_of(subschemas: Sequence[SubSchema]) -> Iterator[Sequence[SubSchema]]:
    """Split sub-schemas into groups that apply one another, each after the groups that it applies (Tarjan)."""
    numbers: dict[int, int] = {}
    lowest: dict[int, int] = {}
    path: list[SubSchema] = []
    on_path: set[int] = set()
    for start in subschemas:
        if start.number in numbers:
            continue
        stack: list[tuple[SubSchema, Iterator[SubSchema]]] = []

        def enter(one: SubSchema) -> None:
            numbers[one.number] = lowest[one.number] = len(numbers)
            path.append(one)
            on_path.add(one.number)
            stack.append((one, one.parts()))  # noqa: B023 - called in this round alone

        enter(start)
        while stack:
            one, rest = stack[-1]
            for part in rest:
                if part.number not in numbers:
                    enter(part)
                    break
                if part.number in on_path:
                    lowest[one.number] = min(lowest[one.number], numbers[part.number])
            else:
                stack.pop()
                if stack:
                    before = stack[-1][0].number
                    lowest[before] = min(lowest[before], lowest[one.number])
                if lowest[one.number] == numbers[one.number]:
                    place = path.index(one)
                    group, path[place:] = path[place:], []
                    on_path.difference_update(member.number for member in group)
                    yield group


def cut(text: str) -> str:
    """Shorten a text for a message."""
    return text if len(text) <= MAX_WORDS else text[: MAX_WORDS - 1] + "…"
