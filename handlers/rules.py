"""Validation rules: JSON Schema 2020-12, evaluated within bounds whatever the schema and the data are.

What is not in the dialect's power here, so that a rule can never reach out, hang or exhaust a worker:

- a rule refers to nothing outside itself: `$ref` takes `#…` only and must lead to a sub-schema of the same rule;
  `$dynamicRef` and `$dynamicAnchor` are refused, and so is an `$id` that is not the rule's own;
- patterns are of a language that needs linear time (no look-around, no back-references), their size is bounded;
- the number of sub-schemas is bounded, and every evaluation by a number of steps;
- `format` is a note to readers: it is not asserted (which the dialect leaves open).

A rule that breaks one of the first three is refused when it is set; one that needs too many steps cannot be evaluated.
"""

import re
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import date
from itertools import islice
from typing import Any, Final
from urllib.parse import unquote

import orjson
from jsonschema import Draft202012Validator, ValidationError
from jsonschema.validators import extend
from pydantic_core import SchemaError, SchemaValidator, core_schema
from referencing import Registry

from handlers.product import Rule, RuleSet

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"

MAX_SUBSCHEMAS: Final = 1_000
"""Of all rules of a product. Checking one against the dialect takes about 0.15 ms."""
MAX_PATTERNS: Final = 50
"""Of all rules of a product. Measuring one takes 1 ms, at worst 75: all below the 5 s that a transaction may idle."""
MAX_PATTERN_LENGTH: Final = 200
PATTERN_COPIES: Final = 50
"""So many copies of a pattern must fit into the engine's bound of 10 MiB: a pattern takes 200 KiB at most."""
MAX_STEPS: Final = 50_000
"""Of one message, all its rules together: about 0.1 s, at the very worst half a second."""
MAX_VIOLATIONS: Final = 20
"""Of one rule; the others are not looked for."""
CACHED_NODES: Final = 500_000
"""How many JSON values the compiled rules of a process may hold: about 100 MB."""

_PATTERN_NODES: Final = 2_000
"""What a compiled pattern counts for in that: 200 KiB."""
_MAX_REASON: Final = 200


class StepBudget:
    """The steps that one message may spend on rules; shared by all of them."""

    def __init__(self, steps: int = MAX_STEPS) -> None:
        self.left = steps

    def spend(self, steps: int) -> None:
        """Take steps off; raises `TooManyStepsError` when they are used up."""
        self.left -= steps
        if self.left < 0:
            raise TooManyStepsError


class TooManyStepsError(Exception):
    """An evaluation went beyond its budget."""


@dataclass(frozen=True, slots=True)
class Violation:
    """Where the data breaks a rule (a dotted path, empty for the whole), and how."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one rule says of the data. `problem`: why it cannot be evaluated."""

    rule: str
    violations: Sequence[Violation] = ()
    problem: str | None = None

    @property
    def holds(self) -> bool:
        """Tell whether the data meets the rule."""
        return not self.violations and self.problem is None


class BadRuleError(Exception):
    """The rule is no schema that we can evaluate; the text says why."""


@dataclass(frozen=True, slots=True)
class _CompiledRule:
    """A rule made ready. `problem`: why it could not be."""

    rule: Rule
    validator: Any = None
    patterns: Mapping[str, SchemaValidator] = field(default_factory=dict)
    weights: Mapping[int, int] = field(default_factory=dict)
    nodes: int = 0
    problem: str | None = None


class RuleBook:
    """Checks data against rules; made once a process.

    With `caching` (setting ENABLE_VALIDATION_CACHING) compiled rules are kept by product id and version, the least
    recently used ones are given up when together they grow beyond `CACHED_NODES`.
    """

    def __init__(self, *, caching: bool) -> None:
        self._caching = caching
        self._compiled: OrderedDict[tuple[str, int], Sequence[_CompiledRule]] = OrderedDict()
        self._nodes = 0

    def check(self, rules: RuleSet, data: object, on: date, budget: StepBudget) -> Sequence[Verdict]:
        """Tell what each rule in force on that day says of the data, in the order of the rules."""
        if not any(rule.is_in_force(on) for rule in rules.rules):
            return ()
        sizes: dict[int, int] = {}
        _measure(data, sizes)
        return [
            _evaluate(compiled, data, sizes, budget)
            for compiled in self._compiled_of(rules)
            if compiled.rule.is_in_force(on)
        ]

    def _compiled_of(self, rules: RuleSet) -> Sequence[_CompiledRule]:
        if not self._caching or rules.version is None:
            return _compile_all(rules)
        key = (rules.product_id, rules.version)
        known = self._compiled.get(key)
        if known is not None:
            self._compiled.move_to_end(key)
            return known
        compiled = _compile_all(rules)
        self._compiled[key] = compiled
        self._nodes += _nodes(compiled)
        while self._nodes > CACHED_NODES:
            _, given_up = self._compiled.popitem(last=False)
            self._nodes -= _nodes(given_up)
        return compiled


def first_problem(rules: Sequence[Rule]) -> tuple[int, str] | None:
    """Find the first rule that cannot be used beside the ones before it: its place, and why."""
    room = _Room()
    for place, rule in enumerate(rules):
        problem = _compile(rule, room, checked=False).problem
        if problem is not None:
            return place, problem
    return None


def _nodes(compiled: Sequence[_CompiledRule]) -> int:
    return sum(one.nodes + _PATTERN_NODES * len(one.patterns) for one in compiled)


# Compiling -----------------------------------------------------------------------------------------------------------

_DIALECT_CHECK: Final = Draft202012Validator(Draft202012Validator.META_SCHEMA, registry=Registry())

_ONE_SCHEMA: Final = (
    "additionalProperties",
    "contains",
    "contentSchema",
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
_REFUSED: Final = ("$dynamicRef", "$dynamicAnchor", "$recursiveRef", "$recursiveAnchor", "$vocabulary")
_OF_THE_ROOT: Final = ("$schema", "$id")
_WEIGHED: Final = ("const", "dependentRequired", "enum", "required")


class _Room:
    """How much the rules of one product may still hold, together."""

    def __init__(self) -> None:
        self.subschemas = MAX_SUBSCHEMAS
        self.patterns = MAX_PATTERNS


def _compile_all(rules: RuleSet) -> Sequence[_CompiledRule]:
    room = _Room()
    return [_compile(rule, room, checked=rules.checked) for rule in rules.rules]


def _compile(rule: Rule, room: _Room, *, checked: bool) -> _CompiledRule:
    try:
        return _compiled(rule, room, checked=checked)
    except BadRuleError as error:
        return _CompiledRule(rule, problem=str(error))


def _compiled(rule: Rule, room: _Room, *, checked: bool) -> _CompiledRule:
    """Make a rule ready. One that was checked when it was set is not held against the dialect, or measured, again."""
    if not isinstance(rule.parameters, dict):
        raise BadRuleError("it is no JSON object")
    schema = {key: value for key, value in rule.parameters.items() if key not in _OF_THE_ROOT}
    if rule.parameters.get("$schema", DIALECT) != DIALECT:
        raise BadRuleError(f"'$schema' is not {DIALECT}")
    found = _SubSchemas(room)
    found.walk(schema)
    if not checked:
        error = next(_DIALECT_CHECK.iter_errors(schema), None)
        if error is not None:
            raise BadRuleError(f"it is no JSON Schema{_at(error)}: {_reason(error)}")
    found.check_references()
    if found.uses_pattern_properties and found.uses_unevaluated_properties:
        raise BadRuleError("'patternProperties' and 'unevaluatedProperties' are not supported in one rule")
    return _CompiledRule(
        rule,
        _Bounded(schema, registry=Registry()),
        {pattern: _compile_pattern(pattern, checked=checked) for pattern in sorted(found.patterns)},
        found.weights,
        _count_nodes(schema),
    )


class _SubSchemas:
    """What a schema consists of: its sub-schemas by JSON pointer, references, anchors and patterns."""

    def __init__(self, room: _Room) -> None:
        self._room = room
        self.pointers: set[str] = set()
        self.anchors: set[str] = set()
        self.references: list[str] = []
        self.patterns: set[str] = set()
        self.uses_pattern_properties = False
        self.uses_unevaluated_properties = False
        self.weights: dict[int, int] = {}

    def walk(self, schema: object) -> None:
        """Take stock of all sub-schemas, breadth first; what has a wrong form is left to the check of the dialect."""
        level = [("", schema)]
        while level:
            below: list[tuple[str, object]] = []
            for pointer, one in level:
                self.pointers.add(pointer)
                self._room.subschemas -= 1
                if self._room.subschemas < 0:
                    raise BadRuleError(f"the product's rules have more than {MAX_SUBSCHEMAS} sub-schemas")
                if isinstance(one, dict):
                    self._note(one)
                    below += _children(pointer, one)
            level = below
        self._room.patterns -= len(self.patterns)
        if self._room.patterns < 0:
            raise BadRuleError(f"the product's rules have more than {MAX_PATTERNS} patterns")

    def _note(self, schema: dict[str, object]) -> None:
        for keyword in (*_REFUSED, *_OF_THE_ROOT):
            if keyword in schema:
                raise BadRuleError(f"'{keyword}' is not supported here")
        if isinstance(reference := schema.get("$ref"), str):
            self.references.append(reference)
        if isinstance(anchor := schema.get("$anchor"), str):
            self.anchors.add(anchor)
        if isinstance(pattern := schema.get("pattern"), str):
            self.patterns.add(pattern)
        if isinstance(patterns := schema.get("patternProperties"), dict):
            self.patterns.update(patterns)
            self.uses_pattern_properties = True
        if "unevaluatedProperties" in schema:
            self.uses_unevaluated_properties = True
        for keyword in _WEIGHED:
            if isinstance(value := schema.get(keyword), dict | list):
                self.weights[id(value)] = _count_nodes(value)

    def check_references(self) -> None:
        """Raise `BadRuleError` for a reference that leaves the schema, or leads to something that is none."""
        for reference in self.references:
            base, _, fragment = reference.partition("#")
            if base or "#" not in reference:
                raise BadRuleError(f"'$ref' may only refer to a place inside the rule, not to {_cut(reference)}")
            place = unquote(fragment)
            if place not in (self.pointers if not place or place.startswith("/") else self.anchors):
                raise BadRuleError(f"'$ref' leads to no sub-schema: {_cut(reference)}")


def _children(pointer: str, schema: dict[str, object]) -> Iterator[tuple[str, object]]:
    for keyword in _ONE_SCHEMA:
        if keyword in schema:
            yield f"{pointer}/{keyword}", schema[keyword]
    for keyword in _LIST_OF_SCHEMAS:
        several = schema.get(keyword)
        if isinstance(several, list):
            for index, one in enumerate(several):
                yield f"{pointer}/{keyword}/{index}", one
    for keyword in _MAP_OF_SCHEMAS:
        named = schema.get(keyword)
        if isinstance(named, dict):
            for name, one in named.items():
                yield f"{pointer}/{keyword}/{name.replace('~', '~0').replace('/', '~1')}", one


def _count_nodes(value: object) -> int:
    count, level = 0, [value]
    while level:
        count += len(level)
        level = [
            child
            for node in level
            for child in (node.values() if isinstance(node, dict) else node if isinstance(node, list) else ())
        ]
    return count


# The dialect's regular expressions are ECMA-262's, where these classes hold ASCII alone (and \s a fixed list).
_ESCAPE: Final = re.compile(r"\\(.)", re.DOTALL)
_SPACES: Final = r"\t\n\x0B\x0C\r \u00A0\u1680\u2000-\u200A\u2028\u2029\u202F\u205F\u3000\uFEFF"
_ECMA: Final = {
    "d": "[0-9]",
    "D": "[^0-9]",
    "w": "[0-9A-Za-z_]",
    "W": "[^0-9A-Za-z_]",
    "s": f"[{_SPACES}]",
    "S": f"[^{_SPACES}]",
    "b": r"(?-u:\b)",
    "B": r"(?-u:\B)",
}
_GROWING: Final = re.compile(r"\{|\\[pP]|\(\?[a-z]*i")
"""What makes a compiled pattern larger than its text: counted repetitions, Unicode classes, ignoring case."""
_TOO_LARGE: Final = "exceeds size limit"
"""From the engine's own words."""


def _compile_pattern(pattern: str, *, checked: bool) -> SchemaValidator:
    """Make a matcher that needs linear time; it finds the pattern anywhere in a text."""
    if len(pattern) > MAX_PATTERN_LENGTH:
        raise BadRuleError(f"a pattern is longer than {MAX_PATTERN_LENGTH} characters: {_cut(pattern)}")
    translated = _ESCAPE.sub(lambda escape: _ECMA.get(escape[1], escape[0]), pattern)
    try:
        matcher = _regex(translated)
        if not checked and _GROWING.search(translated):
            _regex(f"(?:{translated}){{{PATTERN_COPIES}}}")
    except SchemaError as error:
        fault = "too large (a counted repetition?)" if _TOO_LARGE in str(error) else "not supported (look-around?)"
        raise BadRuleError(f"a pattern is {fault}: {_cut(pattern)}") from None
    return matcher


def _regex(pattern: str) -> SchemaValidator:
    return SchemaValidator(core_schema.str_schema(strict=True, pattern=pattern, regex_engine="rust-regex"))


# Evaluating ----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Evaluation:
    """What the keywords of one evaluation share. `sizes`: JSON values in each object and list of the data, by id()."""

    budget: StepBudget
    patterns: Mapping[str, SchemaValidator]
    weights: Mapping[int, int]
    sizes: dict[int, int]

    def matches(self, pattern: str, text: str) -> bool:
        # At the very worst the engine takes 7 µs a character, a step takes 2 to 5 µs; usually it is 1,000 times faster.
        self.budget.spend(1 + len(text) // 4)
        return self.patterns[pattern].isinstance_python(text)


_running: ContextVar[_Evaluation] = ContextVar("running evaluation")

Keyword = Callable[[Any, Any, Any, Any], Iterator[ValidationError] | None]


def _counted(keyword: str, function: Keyword) -> Keyword:
    """Charge each use of a keyword before it runs: for what it goes through, and for telling what is wrong."""
    weighed = keyword in _WEIGHED

    def run(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[ValidationError] | None:  # noqa: ANN401
        evaluation = _running.get()
        steps = 1
        if isinstance(value, dict | list):
            steps += evaluation.weights.get(id(value), 0) // 4 if weighed else len(value)
        if isinstance(instance, dict | list):
            steps += len(instance) + evaluation.sizes.get(id(instance), 0) // 16
        elif isinstance(instance, str):
            steps += len(instance) // 256
        evaluation.budget.spend(steps)
        return function(validator, value, instance, schema)

    return run


def _pattern(_: Any, pattern: Any, instance: Any, __: Any) -> Iterator[ValidationError]:  # noqa: ANN401
    if isinstance(instance, str) and not _running.get().matches(pattern, instance):
        yield ValidationError("does not match")


def _properties(validator: Any, properties: Any, instance: Any, _: Any) -> Iterator[ValidationError]:  # noqa: ANN401
    if isinstance(instance, dict):
        for name, schema in properties.items():
            if name in instance:
                yield from _member(validator, instance, name, schema)


def _pattern_properties(validator: Any, patterns: Any, instance: Any, _: Any) -> Iterator[ValidationError]:  # noqa: ANN401
    if isinstance(instance, dict):
        evaluation = _running.get()
        for pattern, schema in patterns.items():
            for name in instance:
                if evaluation.matches(pattern, name):
                    yield from _member(validator, instance, name, schema)


def _additional_properties(validator: Any, additional: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:  # noqa: ANN401
    if isinstance(instance, dict):
        evaluation = _running.get()
        named, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
        for name in instance:
            if name not in named and not any(evaluation.matches(pattern, name) for pattern in patterns):
                yield from _member(validator, instance, name, additional)


def _member(validator: Any, instance: Any, name: str, schema: Any) -> Iterator[ValidationError]:  # noqa: ANN401
    """Judge one member of an object; the library loses its name where the schema is `false`."""
    if schema is False:
        yield ValidationError("is not allowed", path=(name,), validator=None)  # type: ignore[arg-type]  # as the library does
    else:
        yield from validator.descend(instance[name], schema, path=name, schema_path=name)


def _unique_items(_: Any, unique: Any, instance: Any, __: Any) -> Iterator[ValidationError]:  # noqa: ANN401
    if unique and isinstance(instance, list) and len({_identity(item) for item in instance}) < len(instance):
        yield ValidationError("has items that are the same")


def _identity(value: object) -> bytes:
    """Return what equal JSON values have in common; 1 and 1.0 are equal."""
    return orjson.dumps(_whole_numbers(value), option=orjson.OPT_SORT_KEYS)


def _whole_numbers(value: object) -> object:
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**63:
        return int(value)
    if isinstance(value, dict):
        return {name: _whole_numbers(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_whole_numbers(one) for one in value]
    return value


def _no_assertion(_: Any, __: Any, ___: Any, ____: Any) -> None:  # noqa: ANN401
    """Do nothing: `format` is a note."""


_OURS: Final[Mapping[str, Keyword]] = {
    "properties": _properties,
    "pattern": _pattern,
    "patternProperties": _pattern_properties,
    "additionalProperties": _additional_properties,
    "uniqueItems": _unique_items,
    "format": _no_assertion,
}
_Bounded: Final = extend(  # type: ignore[no-untyped-call]
    Draft202012Validator,
    {
        keyword: _counted(keyword, _OURS.get(keyword, function))
        for keyword, function in Draft202012Validator.VALIDATORS.items()
    },
)


def _evaluate(compiled: _CompiledRule, data: object, sizes: dict[int, int], budget: StepBudget) -> Verdict:
    name = compiled.rule.name
    if compiled.problem is not None:
        return Verdict(name, problem=compiled.problem)
    token = _running.set(_Evaluation(budget, compiled.patterns, compiled.weights, sizes))
    try:
        errors = islice(compiled.validator.iter_errors(data), MAX_VIOLATIONS)
        return Verdict(name, [Violation(_path(error), _reason(error)) for error in errors])
    except TooManyStepsError:
        return Verdict(name, problem="it needs too many steps")
    except RecursionError:
        return Verdict(name, problem="its references go round in a circle, or too deep")
    except Exception as error:  # noqa: BLE001 - whatever the library makes of anybody's schema is no defect of ours
        return Verdict(name, problem=f"{type(error).__name__} while it was evaluated")
    finally:
        _running.reset(token)


def _measure(value: object, sizes: dict[int, int]) -> int:
    """Count the JSON values in each object and list; the data is at most 32 levels deep. A long text counts as many."""
    if isinstance(value, dict):
        size = 1 + sum(1 + _measure(one, sizes) for one in value.values())
    elif isinstance(value, list):
        size = 1 + sum(_measure(one, sizes) for one in value)
    else:
        return 1 + len(value) // 16 if isinstance(value, str) else 1
    sizes[id(value)] = size
    return size


# Telling -------------------------------------------------------------------------------------------------------------

_NAMING: Final = frozenset({"required", "dependentRequired", "unevaluatedProperties"})
"""Keywords whose own text names the property that is missing, or one too many."""


def _path(error: ValidationError) -> str:
    return ".".join(str(part) for part in error.absolute_path)


def _at(error: ValidationError) -> str:
    path = _path(error)
    return f" (at {_cut(path)})" if path else ""


def _reason(error: ValidationError) -> str:
    """Say what is asked for; the value that was given is the caller's, and not repeated."""
    if error.validator is None:
        return "is not allowed here"
    if error.validator in _NAMING:
        return _cut(error.message)
    return _cut(f"does not meet {error.validator}: {orjson.dumps(error.validator_value).decode()}")


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_REASON else text[: _MAX_REASON - 1] + "…"
