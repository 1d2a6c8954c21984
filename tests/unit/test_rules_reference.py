"""Rules mean what the dialect says: on random rules and data the engine's answer is the reference validator's.

The reference is `jsonschema`, which reads numbers as decimals here, and patterns as Python's expression of the same
meaning: each is made in both languages at once.
"""

import json
import os
import random
import re
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal, localcontext
from typing import Any, Final

import orjson
import pytest
from jsonschema import Draft202012Validator
from jsonschema.validators import extend

from handlers.rules.compiling import CompiledRule, compile_rules
from tests.unit.test_rules import rule

Schema = dict[str, Any] | bool

SHORT: Final = 40
"""Rules of the short form; each judges `DATA` values."""
MANY: Final = 1_300
"""Of the long form; nine of ten are accepted."""
DATA: Final = 20
DIGITS: Final = 400
"""So that 1e40 has a remainder by 1e-40."""

# Each of ECMA 262's, and the same in Python's.
PIECES: Final = (
    ("a", "a"),
    ("b", "b"),
    ("[ab]", "[ab]"),
    ("[^a]", "[^a]"),
    (".", r"[^\n\r\u2028\u2029]"),
    (r"\d", "[0-9]"),
    (r"\D", "[^0-9]"),
    (r"\w", "[0-9A-Za-z_]"),
    (r"\W", "[^0-9A-Za-z_]"),
    (r"\s", r"[\t-\r \u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000\ufeff]"),
    (r"\S", r"[^\t-\r \u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000\ufeff]"),
    (r"[\d\-_]", r"[0-9\-_]"),
    (r"[^\w-]", r"[^0-9A-Za-z_\-]"),
    (r"[\D]", "[^0-9]"),
    (r"\u00e9", "é"),
    (r"\u{1F600}", "\U0001f600"),
    (r"\uD83D\uDE00", "\U0001f600"),
    (r"\x41", "A"),
    ("[^]", r"[\s\S]"),
    ("[]", "(?!)"),
    (r"\/", "/"),
    (r"\.", r"\."),
    (r"\cJ", "\n"),
    (r"[\b]", "\x08"),
    (r"\0", "\x00"),
    ("[é-ü]", "[é-ü]"),
)
ASSERTIONS: Final = (
    ("^", r"\A"),
    ("$", r"\Z"),
    (r"\b", r"(?a:\b)"),
    (r"\B", r"(?a:(?<!\w)(?!\w)|(?<=\w)(?=\w))"),
)
TEXTS: Final = (
    *("", "a", "b", "ab", "aab", "A", "1", "7\u0667", "\u0667", "_", "é", "aé", "\n", "a\nb", "a\n", "\u2028", "a b"),
    *("\u00a0", "\ufeff", "\U0001f600", "a-b", "/", ".", "\x08", "zz", "12", "ü"),
)
NUMBERS: Final = (
    *(0, 1, -1, 2, 3, 1.0, 0.5, 1.5, 4.02, 19.99, 0.07, 1.005, 0.1, 0.3, 1e22, 1e40, 1e-40, -0.0, 2.50),
    *(9007199254740991, 12345678.91),
)
NAMES: Final = ("a", "b", "ab", "c", "1", "é", "x-y")


class Pair:
    """A pattern in both languages."""

    def __init__(self, dice: random.Random, patterns: dict[str, str]) -> None:
        self._dice = dice
        self._patterns = patterns

    def pattern(self) -> str:
        """Make one, and remember its meaning."""
        ecma, python = self._alternatives(2)
        self._patterns[ecma] = python
        return ecma

    def _alternatives(self, depth: int) -> tuple[str, str]:
        parts = [self._sequence(depth) for _ in range(self._dice.choice((1, 1, 1, 2)))]
        return "|".join(ecma for ecma, _ in parts), "|".join(python for _, python in parts)

    def _sequence(self, depth: int) -> tuple[str, str]:
        ecma = python = ""
        for _ in range(self._dice.randint(0, 3)):
            one, other = self._term(depth)
            ecma += one
            python += other
        return ecma, python

    def _term(self, depth: int) -> tuple[str, str]:
        if self._dice.random() < 0.2:
            return self._dice.choice(ASSERTIONS)
        if depth and self._dice.random() < 0.2:
            inner = self._alternatives(depth - 1)
            opening = self._dice.choice(("(", "(?:"))
            one, other = f"{opening}{inner[0]})", f"(?:{inner[1]})"
        else:
            one, other = self._dice.choice(PIECES)
        times = self._dice.choice(("", "", "", "*", "+", "?", "{2}", "{1,2}", "{1,}", "*?", "+?"))
        return one + times, f"(?:{other}){times}"


class Maker:
    """Makes rules and data."""

    def __init__(self, seed: int) -> None:
        self._dice = random.Random(seed)
        self.patterns: dict[str, str] = {}
        self._pair = Pair(self._dice, self.patterns)

    def value(self, depth: int = 2) -> Any:  # noqa: ANN401 - any JSON value
        """Make a value."""
        kind = self._dice.randrange(8 if depth else 5)
        if kind < 2:
            return self._dice.choice(NUMBERS)
        if kind < 4:
            return self._dice.choice(TEXTS)
        if kind == 4:
            return self._dice.choice((True, False, None))
        if kind < 7:
            values = [self.value(depth - 1) for _ in range(self._dice.choice((0, 1, 2, 3)))]
            return values + values[:1] if self._dice.random() < 0.3 else values
        return {self._dice.choice(NAMES): self.value(depth - 1) for _ in range(self._dice.choice((0, 1, 2, 4)))}

    def rule(self) -> dict[str, Any]:
        """Make a rule with parts that it refers to."""
        schema = self._schema(3)
        made = schema if isinstance(schema, dict) else {"allOf": [schema]}
        return made | {
            "$defs": {"a": self._schema(2, refers=False), "b": {"$anchor": "b", "not": self._schema(1, refers=False)}}
        }

    def _schema(self, depth: int, *, refers: bool = True) -> Schema:
        if self._dice.random() < 0.08:
            return self._dice.random() < 0.6
        made: dict[str, Any] = {}
        for _ in range(self._dice.choice((1, 1, 2, 3))):
            keyword = self._dice.choice(SIMPLE if depth == 0 else (*SIMPLE, *HOLDING))
            made |= self._keyword(keyword, depth, refers=refers)
        return made

    def _keyword(self, keyword: str, depth: int, *, refers: bool) -> dict[str, Any]:
        if keyword in SIMPLE:
            return {keyword: self._asserted(keyword)}

        def below() -> Schema:
            return self._schema(depth - 1, refers=refers)

        dice = self._dice
        match keyword:
            case "properties" | "dependentSchemas":
                return {keyword: {name: below() for name in dice.sample(NAMES, dice.choice((1, 2, 3)))}}
            case "patternProperties":
                return {keyword: {self._pair.pattern(): below() for _ in range(dice.choice((1, 2)))}}
            case "allOf" | "anyOf" | "oneOf" | "prefixItems":
                return {keyword: [below() for _ in range(dice.choice((1, 2, 3)))]}
            case "if":
                return {"if": below(), "then": below(), "else": below()}
            case "contains":
                limits: tuple[dict[str, int], ...] = {}, {"minContains": dice.choice((0, 2))}, {"maxContains": 1}
                return {"contains": below()} | dice.choice(limits)
            case "$ref":
                return {"$ref": dice.choice(("#/$defs/a", "#b"))} if refers else {}
            case _:
                return {keyword: below()}

    def _asserted(self, keyword: str) -> object:
        dice = self._dice
        names = ("object", "array", "string", "number", "integer", "boolean", "null")
        made: Mapping[str, Callable[[], object]] = {
            "type": lambda: dice.choice((dice.choice(names), dice.sample(names, 3))),
            "enum": lambda: [self.value(1) for _ in range(3)],
            "const": self.value,
            "multipleOf": lambda: dice.choice((0.01, 0.1, 1, 2, 0.5, 3, 1e-7, 1.5, 1e-40, 1.0)),
            "pattern": self._pair.pattern,
            "required": lambda: dice.sample(NAMES, dice.choice((0, 1, 2))),
            "dependentRequired": lambda: {dice.choice(NAMES): dice.sample(NAMES, 1)},
            "uniqueItems": lambda: dice.random() < 0.8,
        }
        if keyword in made:
            return made[keyword]()
        return dice.choice(NUMBERS if keyword.lower().endswith("imum") else (0, 1, 2, 2.0))


SIMPLE: Final = (
    *("type", "type", "enum", "const", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    *("minLength", "maxLength", "pattern", "pattern", "minItems", "maxItems", "uniqueItems", "minProperties"),
    *("maxProperties", "required", "dependentRequired"),
)
HOLDING: Final = (
    *("properties", "properties", "patternProperties", "additionalProperties", "propertyNames", "items", "items"),
    *("prefixItems", "contains", "allOf", "anyOf", "oneOf", "not", "if", "dependentSchemas", "unevaluatedProperties"),
    *("unevaluatedItems", "$ref"),
)


# The reference -------------------------------------------------------------------------------------------------------


def is_integer(_: object, value: object) -> bool:
    """Tell whether a number is whole, however it is written."""
    if isinstance(value, Decimal):
        return value == value.to_integral_value()
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(_: object, value: object) -> bool:
    """Tell whether a value is a number."""
    return isinstance(value, int | Decimal) and not isinstance(value, bool)


def reference_of(schema: Mapping[str, Any], patterns: Mapping[str, str]) -> Any:  # noqa: ANN401 - theirs
    """Make the reference validator of a rule, its patterns in Python's language."""

    def translated(value: Any) -> Any:  # noqa: ANN401 - any schema
        if isinstance(value, list):
            return [translated(one) for one in value]
        if not isinstance(value, dict):
            return value
        made = {}
        for keyword, one in value.items():
            if keyword in {"enum", "const"}:
                made[keyword] = one
            elif keyword == "pattern" and isinstance(one, str):
                made[keyword] = patterns[one]
            elif keyword == "patternProperties":
                made[keyword] = {patterns[name]: translated(part) for name, part in one.items()}
            elif keyword in {"properties", "$defs", "dependentSchemas"}:
                made[keyword] = {name: translated(part) for name, part in one.items()}
            else:
                made[keyword] = translated(one)
        return made

    checker = Draft202012Validator.TYPE_CHECKER.redefine("integer", is_integer).redefine("number", is_number)
    validator = extend(Draft202012Validator, type_checker=checker)  # type: ignore[no-untyped-call]
    return validator(translated(decimals(schema)))


def decimals(value: object) -> Any:  # noqa: ANN401 - any JSON value
    """Read numbers as what is written."""
    return json.loads(orjson.dumps(value), parse_float=Decimal)


# What the reference says otherwise by itself, and why ours is the dialect's. With decimals and the patterns' meaning
# nothing is left.
EXPLAINED: Final = (
    ("numbers are decimals: 4.02 is 402 hundredths, whatever its double is", {"multipleOf": 0.01}, 4.02, True),
    ("numbers are decimals: 0.3 is three tenths", {"multipleOf": 0.1}, 0.3, True),
    (r"\d is a digit of ASCII: ECMA 262, CharacterClassEscape", {"pattern": r"\d"}, "\u0667", False),
    (r"\w is a letter of ASCII: ECMA 262, WordCharacters", {"pattern": r"\w"}, "é", False),
    (r"\s is ECMA 262's WhiteSpace or LineTerminator, which U+001C is not", {"pattern": r"\s"}, "\x1c", False),
    ("U+2028 is a LineTerminator, which . does not take", {"pattern": "."}, "\u2028", False),
    ("$ is the end of the text, not the place before its last line's end", {"pattern": "^a$"}, "a\n", False),
)


def disagreements(seeds: range) -> Iterator[tuple[Any, Any, bool]]:
    """Go through rules and data: those of which the two do not say the same, and what ours says."""
    for seed in seeds:
        maker = Maker(seed)
        schema = maker.rule()
        one = accepted(schema)
        if one is None or len(maker.patterns) != len(set(maker.patterns.values())):
            continue  # two patterns would become one key of the reference's
        reference = reference_of(schema, maker.patterns)
        for value in [maker.value(3) for _ in range(DATA)]:
            ours = one.validator.is_valid(value)
            if ours != reference.is_valid(decimals(value)):
                yield schema, value, ours


def pattern_disagreements(seeds: range) -> Iterator[tuple[str, str, bool]]:
    """Go through patterns and texts likewise."""
    for seed in seeds:
        patterns: dict[str, str] = {}
        dice = random.Random(seed)
        source = Pair(dice, patterns).pattern()
        one = accepted({"pattern": source})
        assert one is not None, source
        reference = re.compile(patterns[source])
        for text in (*TEXTS, *("".join(dice.choices("".join(TEXTS), k=dice.randint(1, 6))) for _ in TEXTS)):
            ours = one.validator.is_valid(text)
            if ours != bool(reference.search(text)):
                yield source, text, ours


def accepted(schema: Mapping[str, Any]) -> CompiledRule | None:
    """Make a rule ready; None where it is refused."""
    *_, one = compile_rules([rule(schema)])
    return one if one is not None and one.problem is None else None


@pytest.mark.parametrize(("why", "schema", "value", "ours"), EXPLAINED)
def test_what_is_explained(why: str, schema: Schema, value: object, ours: bool) -> None:
    """Where the reference by itself says otherwise, ours is what the dialect says."""
    assert isinstance(schema, dict)
    one = accepted(schema)
    assert one is not None
    assert one.validator.is_valid(value) == ours, why
    assert Draft202012Validator(schema).is_valid(value) != ours


def test_the_reference_agrees() -> None:
    """On some random rules and data, and patterns and texts, both say the same."""
    with localcontext() as context:
        context.prec = DIGITS
        assert list(disagreements(range(SHORT))) == []
    assert list(pattern_disagreements(range(SHORT))) == []


@pytest.mark.fuzz
def test_the_reference_agrees_on_many() -> None:
    """The same on 24,000 cases, and as many of patterns; a tenth of that in the short form."""
    rules = MANY if os.environ.get("SUITE_SIZE") == "long" else MANY // 10
    seeds = range(SHORT, SHORT + rules)
    with localcontext() as context:
        context.prec = DIGITS
        assert list(disagreements(seeds)) == []
    assert list(pattern_disagreements(range(SHORT, SHORT + rules // 2))) == []
