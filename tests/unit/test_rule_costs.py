"""What rules may cost: counted before they are accepted, and the count holds for what the engine then takes."""

import random
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import orjson
import pytest

from handlers.product import Rule
from handlers.rules import MAX_EVALUATIONS
from handlers.rules.compiling import CompiledRule, compile_rules
from handlers.rules.counting import LINE_BYTES, count
from handlers.rules.patterns import Effort, read_pattern
from handlers.rules.telling import violations_of
from tests.unit.test_rules import rule

Schema = dict[str, Any]

MOST_S: Final = 0.003
"""CPU time that rules at the count's limit may take on one line."""


def made(*parameters: object) -> list[CompiledRule]:
    """Make rules of one product ready, as when they are set."""
    rules = [rule(one, f"rule {number}") for number, one in enumerate(parameters)]
    return [one for one in compile_rules(rules) if one is not None]


def least_cpu_s(work: Callable[[], object], times: int = 15) -> float:
    """Measure the CPU time of what is done, at its best: what else runs on the machine only adds to it."""
    best = 99.0
    for _ in range(times):
        started = time.thread_time()
        work()
        best = min(best, time.thread_time() - started)
    return best


def doubled(keyword: str, levels: int, **beside: object) -> Schema:
    """Apply a sub-schema twice, and that twice, and so on."""
    defs: Schema = {"a0": {"type": "object"}}
    for n in range(1, levels):
        defs[f"a{n}"] = {keyword: [{"$ref": f"#/$defs/a{n - 1}"}] * 2} | beside
    return {"$defs": defs, "$ref": f"#/$defs/a{levels - 1}"}


ANCHORS: Final = {
    "$defs": {f"d{n}": {"$anchor": f"a{n}", "allOf": [{"type": "integer"}] * 20} for n in range(20)},
    "properties": {"x": {"items": {"allOf": [{"$ref": f"#a{n}"} for n in range(3)]}}},
}
COSTLY: Final[Mapping[str, Schema]] = {
    "anchors, each for many items": ANCHORS,
    "allOf doubled": doubled("allOf", 60),
    "anyOf doubled": doubled("anyOf", 30),
    "oneOf doubled by anchors": {
        "$defs": {f"a{n}": {"$anchor": f"x{n}", "oneOf": [{"$ref": f"#x{n - 1}"}] * 2} for n in range(1, 40)}
        | {"a0": {"$anchor": "x0"}},
        "$ref": "#x39",
    },
    "not and if doubled": {
        "$defs": {
            f"a{n}": {"not": {"$ref": f"#/$defs/a{n - 1}"}, "if": {"$ref": f"#/$defs/a{n - 1}"}} for n in range(1, 40)
        }
        | {"a0": {}},
        "$ref": "#/$defs/a39",
    },
    "itself, twice for each member": {"allOf": [{"properties": {"a": {"$ref": "#"}}}] * 2},
    "itself, twice for each item": {"allOf": [{"items": {"$ref": "#"}}, {"additionalProperties": {"$ref": "#"}}] * 2},
    "unevaluatedProperties beside anyOf doubled": doubled("anyOf", 30, unevaluatedProperties=False),
    "unevaluatedItems in one another": doubled("allOf", 18, unevaluatedItems={"type": "null"}),
    "long enums for many items": {"properties": {"a": {"items": {"enum": [n + 0.5 for n in range(1_000)]}}}},
    "a large const for many items": {"properties": {"a": {"contains": {"const": [[n + 0.5] for n in range(200)]}}}},
    "many tests of many items": {"properties": {"a": {"items": {"anyOf": [{"minimum": n} for n in range(300)]}}}},
    "uniqueItems many times": {"properties": {"a": {"allOf": [{"uniqueItems": True}] * 200}}},
    "uniqueItems of all items": {"properties": {"a": {"items": {"uniqueItems": True}}}},
    "patterns of many states": {
        "properties": {"a": {"allOf": [{"pattern": f"[ab]*a[ab]{{{n}}}c"} for n in range(20, 40)]}}
    },
    "a pattern for many names": {"propertyNames": {"allOf": [{"pattern": f"{n}[^x]*x[^y]*$"} for n in range(40)]}},
    "patterns for many members": {
        "patternProperties": {f"[ab]*a[ab]{{{n}}}c": {"type": "null"} for n in range(15, 25)},
        "additionalProperties": {"type": "null"},
    },
    "names required for many items": {"properties": {"a": {"items": {"required": [f"n{n}" for n in range(500)]}}}},
    "dependent schemas for many items": {
        "properties": {"a": {"items": {"dependentSchemas": {f"n{n}": {"minProperties": n} for n in range(300)}}}}
    },
    "remainders of many items": {"properties": {"a": {"items": {"allOf": [{"multipleOf": 1e-40}] * 3}}}},
}


@pytest.mark.parametrize("name", COSTLY)
def test_what_multiplies_is_counted(name: str) -> None:
    """A rule that could need too much is refused when it is set: its count and what brings it down are told."""
    (one,) = made(COSTLY[name])
    assert one.problem is not None
    assert "keyword evaluations on a line of 2 KiB; 20000 are allowed" in one.problem
    assert "'maxItems', 'maxProperties' and 'maxLength' bring the count down" in one.problem


LARGE: Final[Mapping[str, list[Schema]]] = {
    "sub-schemas": [{"allOf": [{"minimum": n, "maxLength": n} for n in range(990)]}],
    "properties": [{"properties": {f"p{n}": {"type": "string", "maxLength": n} for n in range(990)}}],
    "references": [{"$defs": {"a": {"type": "string"}}, "allOf": [{"$ref": "#/$defs/a"}] * 990}],
    "patterns": [{"properties": {f"p{n}": {"pattern": f"[^{chr(97 + n % 26)}]{{{209 - n}}}"} for n in range(50)}}],
    "patterns that fit": [
        {
            "properties": {
                f"p{n}": {"maxLength": 9, "pattern": f"^[^{chr(97 + n % 26)}]{{{9 - n % 2}}}"} for n in range(50)
            }
        }
    ],
    "classes of letters": [{"properties": {f"p{n}": {"pattern": rf"\p{{L}}{{{n}}}x"} for n in range(1, 40)}}],
    "circles": [
        {
            "$defs": {f"a{n}": {"properties": {"x": {"$ref": f"#/$defs/a{(n + 1) % 300}"}}} for n in range(300)},
            "$ref": "#/$defs/a0",
        }
    ],
    "doubling": [doubled("anyOf", 300, unevaluatedProperties=False)],
    "constants": [{"enum": [{"a": [n, str(n)]} for n in range(900)]}] * 15,
}


@pytest.mark.parametrize("name", LARGE)
def test_setting_rules_is_cheap(name: str) -> None:
    """Whatever rules are sent, reading, counting and compiling them takes 0.5 s of CPU at most, in pieces of 50 ms."""
    rules = [rule(one, f"rule {number}") for number, one in enumerate(LARGE[name])]
    totals: list[float] = []
    longest: list[float] = []
    for _ in range(5):
        if totals and min(totals) < 0.5 and min(longest) < 0.05:
            break  # else a neighbour may have taken the processor's caches
        pieces, making = [], compile_rules(rules)
        while True:
            started = time.thread_time()
            one = next(making, False)
            pieces.append(time.thread_time() - started)
            if one is False:
                break
        totals.append(sum(pieces))
        longest.append(max(pieces))
    assert min(totals) < 0.5
    assert min(longest) < 0.05


# The count holds -----------------------------------------------------------------------------------------------------


def text(alphabet: str, length: int) -> str:
    """Make a text that keeps an automaton busy."""
    return "".join(random.Random(7).choices(alphabet, k=length))


def items(schema: Schema) -> Schema:
    """Ask something of each item of a list."""
    return {"properties": {"a": {"items": schema}}}


def fits(schema: Schema) -> bool:
    """Tell whether a rule is accepted."""
    return made(schema)[0].problem is None


def nested_lists(levels: int) -> Schema:
    """Ask something of the items of lists of lists."""
    schema: Schema = {"allOf": [{"type": ["array", "integer"]}] * levels}
    for _ in range(3):
        schema = {"items": schema, "minItems": 0}
    return {"properties": {"a": schema}}


OBJECT: Final = {f"{one}": one + 0.5 for one in range(130)}
AT_THE_LIMIT: Final[Mapping[str, tuple[Callable[[int], Schema], Schema | Callable[[int], Schema]]]] = {
    "constants": (lambda n: items({"not": {"anyOf": [{"const": one} for one in range(1, n + 1)]}}), {"a": [0] * 1_000}),
    "bounds": (lambda n: items({"allOf": [{"minimum": 0.5}] * n}), {"a": [1.5] * 500}),
    "bounds of far numbers": (lambda n: items({"allOf": [{"minimum": 1e-40}] * n}), {"a": [1.1e-40] * 240}),
    "remainders": (lambda n: items({"allOf": [{"multipleOf": 0.01}] * n}), {"a": [4.02] * 400}),
    "remainders of far numbers": (lambda n: items({"allOf": [{"multipleOf": 1e-40}] * n}), {"a": [1e40] * 330}),
    "remainders of long numbers": (
        lambda n: items({"allOf": [{"multipleOf": 0.01}] * n}),
        {"a": [12345678912.25] * 130},
    ),
    "enums": (lambda n: items({"enum": [one + 0.5 for one in range(n)]}), {"a": [0.5 + n for n in range(2)] * 250}),
    "enums of lists": (lambda n: {"properties": {"a": {"enum": [[1.5] * one for one in range(n)]}}}, {"a": [1.5] * 40}),
    "large constants": (lambda n: {"properties": {"a": {"const": [1.5] * n}}}, {"a": [1.5] * 500}),
    "large constants of objects": (
        lambda n: {"properties": {"a": {"allOf": [{"const": OBJECT}] * n}}},
        {"a": OBJECT},
    ),
    "uniqueItems": (
        lambda n: {"properties": {"a": {"allOf": [{"uniqueItems": True}] * n}}},
        {"a": [[one] for one in range(330)]},
    ),
    "uniqueItems of short lists": (
        lambda n: {
            "properties": {
                "a": {"maxItems": 30, "items": {"type": "array", "allOf": [{"type": "array", "uniqueItems": True}] * n}}
            }
        },
        {"a": [[one + 0.5 for one in range(15)]] * 28},
    ),
    "uniqueItems of nested items": (
        lambda n: {"properties": {"a": {"allOf": [{"uniqueItems": True}] * n}}},
        {"a": [{"a": [one, {}]} for one in range(120)]},
    ),
    "patterns": (
        lambda n: {"properties": {"a": {"allOf": [{"pattern": f"{one}c[ab]+d"} for one in range(n)]}}},
        {"a": text("ab", 2_000)},
    ),
    "patterns of wide characters": (
        lambda n: {"properties": {"a": {"maxLength": n, "pattern": "[^x]*é[^x]{30}x"}}},
        lambda n: {"a": text("é€𐍈", n)},
    ),
    "names": (
        lambda n: {"propertyNames": {"allOf": [{"pattern": f"^(?:{one}|[^x])*$"} for one in range(n)]}},
        {f"{one:02x}": 1 for one in range(256)},
    ),
    "members": (
        lambda n: {"patternProperties": {f"^[a-f0-9]{{{one}}}": {"type": "integer"} for one in range(n)}},
        {f"{one:02x}": 1 for one in range(256)},
    ),
    "additional members": (
        lambda n: {"additionalProperties": {"allOf": [{"type": "integer"}] * n}},
        {f"{one:02x}": 1 for one in range(256)},
    ),
    "unevaluatedProperties": (
        lambda n: {
            "anyOf": [{"properties": {f"{one:02x}": {"minimum": 0}}} for one in range(n)],
            "unevaluatedProperties": {"type": "integer"},
        },
        {f"{one:02x}": 1 for one in range(256)},
    ),
    "unevaluatedProperties under conditions": (
        lambda n: {
            "allOf": [
                {"if": {"required": [f"{one:02x}"]}, "then": {"properties": {f"{one:02x}": {}}}} for one in range(n)
            ],
            "unevaluatedProperties": {"type": "integer"},
        },
        {f"{one:02x}": 1 for one in range(256)},
    ),
    "unevaluatedItems": (
        lambda n: {
            "properties": {
                "a": {"anyOf": [{"contains": {"minimum": -one}} for one in range(n)], "unevaluatedItems": False}
            }
        },
        {"a": [0] * 1_000},
    ),
    "required names": (lambda n: items({"not": {"required": [f"n{one}" for one in range(n)]}}), {"a": [{}] * 680}),
    "dependent schemas": (
        lambda n: items({"dependentSchemas": {f"n{one}": {"minProperties": one} for one in range(n)}}),
        {"a": [{"n1": 1}] * 220},
    ),
    "branches": (
        lambda n: items({"oneOf": [{"minLength": 1}, *[{"maximum": -one} for one in range(1, n)]]}),
        {"a": [0] * 1_000},
    ),
    "lists of lists": (nested_lists, {"a": [[[0] * 10] * 10] * 8}),
    "a tree": (
        lambda n: {
            "properties": {"kids": {"items": {"$ref": "#"}}},
            "allOf": [{"maxProperties": 9 + one} for one in range(n)],
        },
        {"kids": [{"kids": [{}] * 30}] * 18},
    ),
}


@pytest.mark.parametrize("name", AT_THE_LIMIT)
def test_the_count_holds(name: str) -> None:
    """Rules that just fit the count take 3 ms of CPU at most on a line that gives them the most to do."""
    make, line = AT_THE_LIMIT[name]
    least, most = 1, 2
    while most < 900 and fits(make(most)):
        least, most = most, 2 * most
    while most - least > max(1, least // 10):
        middle = (least + most) // 2
        least, most = (middle, most) if fits(make(middle)) else (least, middle)
    (one,) = made(make(least))
    given = line(least) if callable(line) else line
    assert len(orjson.dumps(given)) <= LINE_BYTES
    one.validator.is_valid(given)  # an automaton's states are made once
    assert least_cpu_s(lambda: one.validator.is_valid(given)) < MOST_S


def test_patterns_of_many_states() -> None:
    """Patterns whose automata can have very many states take 3 ms of CPU at most on texts that are new to them."""

    def make(n: int) -> Schema:
        patterns = [{"maxLength": 150, "pattern": f"[ab]*a[ab]{{{20 + one}}}c|é"} for one in range(n)]
        return {"properties": {"a": {"allOf": patterns}}}

    most = max(n for n in range(1, 50) if fits(make(n)))
    (one,) = made(make(most))
    texts = iter([{"a": "".join(random.Random(seed).choices("ab", k=149)) + "é"} for seed in range(16)])
    assert one.validator.is_valid(next(texts))
    assert least_cpu_s(lambda: one.validator.is_valid(next(texts))) < MOST_S


@pytest.mark.parametrize("name", AT_THE_LIMIT)
def test_telling_what_is_broken_is_bounded(name: str) -> None:
    """What does not hold is told in 50 ms of CPU, wherever the count allows it to be told at all."""
    make, line = AT_THE_LIMIT[name]
    (one,) = made(make(1))
    assert one.schema is not None
    *_, told = count(one.schema, stops_early=False)
    assert told is not None
    assert told.at(LINE_BYTES) >= (one.count.at(LINE_BYTES) if one.count else 0)
    given = line(1) if callable(line) else line
    assert least_cpu_s(lambda: violations_of(one, given), 3) < 0.05


ORDINARY: Final[Schema] = {
    "type": "object",
    "required": ["sku", "quantity"],
    "additionalProperties": False,
    "properties": {
        "sku": {"type": "string", "pattern": "^[A-Z]{2,4}-[0-9]{4,8}(-[A-Z0-9]+)?$"},
        "quantity": {"type": "integer", "minimum": 1, "maximum": 100},
        "price": {"type": "number", "minimum": 0, "multipleOf": 0.01},
        "colour": {"enum": ["red", "green", "blue"]},
        "size": {"type": "string", "maxLength": 10},
        "gift": {"type": "boolean"},
        "note": {"type": "string", "maxLength": 200},
        "tags": {"type": "array", "items": {"type": "string", "maxLength": 20}, "uniqueItems": True},
        "weight": {"type": "number", "exclusiveMinimum": 0},
        "mail": {"type": "string", "format": "email"},
    },
}
LINE: Final[Schema] = {
    "sku": "AB-12345-X9",
    "quantity": 3,
    "price": 19.99,
    "colour": "green",
    "size": "M",
    "gift": True,
    "note": "n" * 150,
    "tags": ["a", "b", "c"],
    "weight": 1.25,
    "mail": "a@example.com",
}
PATTERNS: Final = (
    r"^[a-z0-9._%+-]+@[a-z0-9.-]+\.[a-z]{2,}$",
    r"^\d{4}-\d{2}-\d{2}$",
    r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$",
    r"^(red|blue|black|brown)$",
    r"^.{1,100}$",
    r"^\+?[0-9 ()-]{6,20}$",
    r"[A-Z]{2}\d{8}",
    r"^\w[\w -]{0,30}\w$",
    r"^\p{Lu}\p{L}*$",
    r"^https?://[^\s/]+(/\S*)?$",
)


def test_ten_ordinary_rules_are_accepted() -> None:
    """Ten rules of ten properties and a pattern each are accepted on one product, and cost next to nothing a line."""
    rules = []
    for pattern in PATTERNS:
        sku = {"sku": {"type": "string", "pattern": pattern}}
        rules.append(ORDINARY | {"properties": ORDINARY["properties"] | sku})
    ready = made(*rules)
    assert [one.problem for one in ready] == [None] * 10
    assert sum(one.count.at(LINE_BYTES) for one in ready if one.count) < MAX_EVALUATIONS

    def judge() -> list[bool]:
        return [one.validator.is_valid(LINE) for one in ready]

    assert least_cpu_s(judge, 30) < 300e-6


def test_how_many_states_a_pattern_has() -> None:
    """What can make a state for each byte is told from what cannot: it costs a hundred times as much."""
    for pattern in (*PATTERNS, "^[ab]*$", "a[ab]{5}c", "(a|ab)(c|bcd)", "x" * 100, "^[^a]{200}$", r"\bword\b"):
        assert read_pattern(pattern, Effort()).per_byte < 0.5, pattern
    for pattern in ("[ab]*a[ab]{20}c", "a.{12}b", "[^x]*x[^y]{30}y", "(?:a|b)*a(?:a|b){15}", r"\d\w{20}-"):
        assert read_pattern(pattern, Effort()).per_byte > 5, pattern
    assert read_pattern("[ab]*a[ab]{3}c", Effort(0)).per_byte > 5


def test_the_rules_of_a_product_share_the_count() -> None:
    """A rule that fits alone is refused beside others that leave it too little; it is named with both counts."""
    each = items({"type": "integer", "minimum": 0.5})
    problems = [one.problem for one in made(*[each] * 5)]
    refused = [number for number, problem in enumerate(problems) if problem]
    assert refused
    assert refused[0] > 0
    assert "with the rules before it" in (problems[refused[0]] or "")


@pytest.mark.parametrize(
    ("costly", "spared"),
    [
        (
            items({"allOf": [{"multipleOf": 0.01}] * 5}),
            {"properties": {"a": {"maxItems": 50, "items": {"allOf": [{"multipleOf": 0.01}] * 5}}}},
        ),
        (
            {"additionalProperties": {"allOf": [{"minimum": 0.5}] * 8}},
            {"maxProperties": 20, "additionalProperties": {"allOf": [{"minimum": 0.5}] * 8}},
        ),
        (
            {"properties": {"a": {"pattern": "a[ab]{50}c"}}},
            {"properties": {"a": {"maxLength": 100, "pattern": "a[ab]{50}c"}}},
        ),
        ({"properties": {"a": {"pattern": "a[ab]{50}c"}}}, {"properties": {"a": {"pattern": "^a[ab]{50}c"}}}),
        (
            {"properties": {"a": {"allOf": [{"uniqueItems": True}] * 6}}},
            {"properties": {"a": {"allOf": [{"items": {"type": "string"}, "maxItems": 20, "uniqueItems": True}] * 6}}},
        ),
    ],
)
def test_what_brings_the_count_down(costly: Schema, spared: Schema) -> None:
    """What the refusal tells helps."""
    assert made(costly)[0].problem is not None
    assert made(spared)[0].problem is None


def test_a_rule_may_come_back_to_itself() -> None:
    """Trees and lists of any depth are accepted: each level takes some of the line's bytes."""
    for schema in (
        {"properties": {"child": {"$ref": "#"}, "name": {"type": "string"}}, "required": ["name"]},
        {"properties": {"left": {"$ref": "#"}, "right": {"$ref": "#"}, "key": {"type": "integer"}}},
        {"properties": {"kids": {"type": "array", "items": {"$ref": "#"}}}, "additionalProperties": False},
        {
            "properties": {"a": {"$ref": "#/$defs/list"}},
            "$defs": {"list": {"type": "array", "items": {"$ref": "#/$defs/list"}}},
        },
        {"additionalProperties": {"anyOf": [{"type": "string"}, {"$ref": "#"}]}},
    ):
        assert made(schema)[0].problem is None, schema


def test_a_rule_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What makes a rule ready is told by its own place among the rules."""
    assert [one.rule for one in made({}, {"type": "object"})] == [
        Rule(f"rule {n}", parameters, rule({}).start_date, None)
        for n, parameters in enumerate(({}, {"type": "object"}))
    ]
