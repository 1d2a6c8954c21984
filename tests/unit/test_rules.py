"""Validation rules: what they mean, what they may not refer to, and that none of them can hold a worker up."""

import asyncio
from collections.abc import Iterator, Sequence
from datetime import date

import orjson
import pytest

from handlers.product import Rule, RuleSet
from handlers.rules import RuleBook, RuleProblem, Spending, TooExpensiveError, Verdict
from handlers.rules import book as book_module
from handlers.rules.compiling import CompiledRule, compile_rules
from handlers.rules.schemas import DIALECT, MAX_PATTERNS, MAX_SUBSCHEMAS
from handlers.rules.telling import MAX_VIOLATIONS

TODAY = date(2025, 3, 1)


def rule(parameters: object, name: str = "rule", start: date = date.min, end: date | None = None) -> Rule:
    """Make a rule, in force for ever unless told."""
    return Rule(name, parameters, start, end)


async def judge(parameters: object, data: object) -> Verdict:
    """Evaluate one rule."""
    rules = RuleSet("product", None, (rule(parameters),))
    (verdict,) = await RuleBook(caching=False).check(rules, data, TODAY, Spending())
    return verdict


async def problem(parameters: object) -> str:
    """Say why a rule cannot be set; empty where it can."""
    found = await RuleBook(caching=False).first_problem([rule(parameters)])
    return "" if found is None else found.reason


COLOUR = {"type": "object", "required": ["colour"], "properties": {"colour": {"enum": ["red", "blue"]}}}


@pytest.mark.parametrize(
    ("parameters", "data", "violations"),
    [
        (COLOUR, {"colour": "red"}, []),
        (COLOUR, {"colour": "green"}, [("colour", 'does not meet enum: ["red","blue"]')]),
        (COLOUR, {}, [("", "'colour' is a required property")]),
        ({}, {"anything": [1]}, []),
        ({"not": {}}, {}, [("", "does not meet not: {}")]),
        (
            {"properties": {"a": {"items": {"type": "integer"}}}},
            {"a": [1, "x"]},
            [("a.1", 'does not meet type: "integer"')],
        ),
        ({"properties": {"a": False}}, {"a": 1}, [("a", "is not allowed here")]),
        ({"additionalProperties": False, "properties": {"b": {}}}, {"b": 1, "c": 1}, [("c", "is not allowed here")]),
        (
            {"additionalProperties": {"type": "string"}, "patternProperties": {"^n_": {"type": "integer"}}},
            {"n_a": 1, "b": 1},
            [("b", 'does not meet type: "string"')],
        ),
        ({"properties": {"a": {"pattern": "^[a-z]+$"}}}, {"a": "A"}, [("a", 'does not meet pattern: "^[a-z]+$"')]),
        ({"properties": {"a": {"pattern": "b"}}}, {"a": "abc"}, []),
        ({"properties": {"a": {"format": "email"}}}, {"a": "no address"}, []),
        ({"properties": {"a": {"uniqueItems": True}}}, {"a": [1, True, "1", [1], {"a": 1}, {"a": 2}]}, []),
        ({"properties": {"a": {"uniqueItems": True}}}, {"a": [1, 1.0]}, [("a", "does not meet uniqueItems: true")]),
        (
            {"properties": {"a": {"uniqueItems": True}}},
            {"a": [{"x": 1, "y": [2.0]}, {"y": [2], "x": 1}]},
            [("a", "does not meet uniqueItems: true")],
        ),
        ({"$ref": "#/$defs/x", "$defs": {"x": {"required": ["a"]}}}, {}, [("", "'a' is a required property")]),
        ({"$ref": "#x", "$defs": {"y": {"$anchor": "x", "required": ["a"]}}}, {}, [("", "'a' is a required property")]),
        (
            {"$ref": "#/$defs/a~1b%20c", "$defs": {"a/b c": {"type": "array"}}},
            {},
            [("", 'does not meet type: "array"')],
        ),
        ({"if": {"required": ["a"]}, "then": {"required": ["b"]}}, {"a": 1}, [("", "'b' is a required property")]),
        ({"properties": {"$ref": {"type": "string"}}}, {"$ref": 1}, [("$ref", 'does not meet type: "string"')]),
        ({"const": {"$ref": "http://example.com"}}, {"$ref": "http://example.com"}, []),
        ({"multipleOf": 0.01}, {"no": "number"}, []),
        ({"properties": {"a": {"multipleOf": 1e-40}}}, {"a": 1e40}, []),
        (
            {"properties": {"b": {}}, "unevaluatedProperties": False},
            {"b": 1, "c": 1},
            [("", "Unevaluated properties are not allowed ('c' was unexpected)")],
        ),
    ],
)
async def test_what_a_schema_means(parameters: object, data: object, violations: list[tuple[str, str]]) -> None:
    """A rule says where the data breaks it and what it asks for, by the dialect; it never repeats what was given."""
    verdict = await judge(parameters, data)
    assert [(one.path, one.reason) for one in verdict.violations] == violations
    assert verdict.problem is None
    assert verdict.holds == (not violations)


async def test_patterns_are_ecmascript() -> None:
    """Classes have the dialect's meaning: digits and letters are those of ASCII, blanks are many."""
    for pattern, matching, other in (
        (r"^\d$", "7", "\u0667"),
        (r"^\w$", "w", "\u00e9"),
        (r"^\W$", "\u00e9", "w"),
        (r"^[\w-]$", "-", "\u00e9"),
        (r"^\s$", "\u00a0", "x"),
        (r"^\S$", "x", "\ufeff"),
        (r"^\D$", "\u0667", "7"),
        (r"^\\d$", "\\d", "7"),
        (r"^a\/b\-c$", "a/b-c", "a/bc"),
        (r"\bd\b", "a d", "ad"),
    ):
        schema = {"properties": {"a": {"pattern": pattern}}}
        assert await problem(schema) == ""
        assert (await judge(schema, {"a": matching})).holds, pattern
        assert (await judge(schema, {"a": other})).violations, pattern


OTHER_DIALECTS = r"""
\Aa a\z a\Z \h \R \X \G \K \Qa.b\E \x{41} \U00000041 \<a\> \a \e \_ \j
(?P<n>a) (?P=n) (?i)a (?x)a (?s-i:a) (?i:a) (?>a) (?|a|b) (?#a) (?<n>a)(?<n>b) (?'n'a)
[[:alpha:]] [a&&b] [a-z&&[^b]] [a--b] [a~~b] [[a-z]b] [[.a.]] [\w-z] [z-a] [a-\d] [^]]
a++ a*+ a?+ a{1,2}+ a** a{,3} a{ a{1 {1} *a + ? ^* \b+ a{2,1}
(a a) [a ] } a] \ \p{Greek} \p{IsAlpha} \pL \p{^L} \p{L \u12 \x4 \u{110000} \ud800 \c1 \01
\8 \1 \k<n> (?=a) (?!a) (?<=a) (?<!a)
""".split()  # noqa: SIM905 - so many patterns read best without quotes
"""What ECMA 262 does not know with the flag u, or what it knows and we do not."""


@pytest.mark.parametrize("pattern", OTHER_DIALECTS)
async def test_patterns_of_other_dialects_are_refused(pattern: str) -> None:
    """What is another dialect's is refused, never read as something else; so are look-around and back-references."""
    assert "a pattern is not supported" in await problem({"properties": {"a": {"pattern": pattern}}})
    assert "a pattern is not supported" in await problem({"patternProperties": {pattern: {}}})


@pytest.mark.parametrize(
    ("pattern", "matching", "other"),
    [
        (".", ["a", "\u0085", "\U0001f600", "\r\na"], ["\n", "\r", "\u2028", "\u2029", ""]),
        ("^.$", ["\U0001f600", "é"], ["ab", "\n"]),
        ("^a$", ["a"], ["a\n", "\na", "b\na"]),
        ("[]", [], ["", "a", "]"]),
        ("[^]", ["a", "\n", "\u2028"], [""]),
        (r"[\]]", ["]"], ["\\"]),
        (r"[\b]", ["\x08"], ["b"]),
        ("[a-]", ["a", "-"], ["b"]),
        ("[-a]", ["a", "-"], ["b"]),
        ("[(.*+?)|{}$^]", [*"(.*+?)|{}$^"], ["a", "["]),
        (r"\cA", ["\x01"], ["A", "cA"]),
        (r"\0", ["\x00"], ["0"]),
        (r"\x41\u0042\u{43}", ["ABC"], ["A"]),
        (r"^\ud83d\ude00$", ["\U0001f600"], ["x"]),
        (r"\p{Lu}", ["A", "É"], ["a"]),
        (r"^\P{Lu}$", ["a", "1"], ["A"]),
        (r"\p{Script=Greek}", ["\u03b1"], ["a"]),
        (r"[^\p{L}\d]", ["-", "\u0667"], ["a", "é", "1"]),
        (r"^(?<year>\d{4})-(?<month>\d\d)$", ["2025-01"], ["25-01"]),
        ("^(?:a|ab)(?:c|bcd)?$", ["a", "ab", "abc", "abcd"], ["abcdd"]),
        ("^a{2,}?$", ["aa", "aaa"], ["a"]),
        (r"^\.\*\/\-$", [".*/-"], ["a*/-"]),
        ("(^a|b$)", ["ab", "b", "cb"], ["ca", "bc"]),
        (r"\Bb\B", ["abc", "_b_"], ["b", "a b", "éb"]),
        ("", ["", "a"], []),
        ("^a|b", ["ac", "cb"], ["ca"]),
    ],
)
async def test_what_patterns_mean(pattern: str, matching: list[str], other: list[str]) -> None:
    """A pattern means what ECMA 262 says with the flag u, in texts and in names."""
    assert await problem({"pattern": pattern}) == ""
    for text, matches in [*((text, True) for text in matching), *((text, False) for text in other)]:
        assert (await judge({"properties": {"a": {"pattern": pattern}}}, {"a": text})).holds == matches, text
        named = await judge({"patternProperties": {pattern: False}}, {text: 1})
        assert named.holds != matches, text


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        ({"type": 7}, "it is no JSON Schema (at type)"),
        ({"properties": {"a": {"minimum": "1"}}}, "it is no JSON Schema (at properties.a.minimum)"),
        ({"required": "a"}, "it is no JSON Schema (at required)"),
        ({"multipleOf": 0}, "it is no JSON Schema (at multipleOf)"),
        (["no object"], "it is no JSON object"),
        ({"$ref": "http://example.com/schema"}, "may only refer to a place inside the rule"),
        ({"$ref": "file:///etc/passwd"}, "may only refer to a place inside the rule"),
        ({"$ref": "other.json#/x"}, "may only refer to a place inside the rule"),
        ({"$ref": "https://json-schema.org/draft/2020-12/schema"}, "may only refer to a place inside the rule"),
        ({"$ref": "#/$defs/nowhere"}, "leads to no sub-schema"),
        ({"$ref": "#/examples/0", "examples": [{"$ref": "http://example.com"}]}, "leads to no sub-schema"),
        ({"$dynamicRef": "#x"}, "'$dynamicRef' is not supported"),
        ({"properties": {"a": {"$dynamicAnchor": "x"}}}, "'$dynamicAnchor' is not supported"),
        ({"properties": {"a": {"$id": "http://example.com/a"}}}, "'$id' is not supported"),
        ({"properties": {"a": {"$schema": DIALECT}}}, "'$schema' is not supported"),
        ({"$schema": "http://json-schema.org/draft-07/schema#"}, "'$schema' is not"),
        ({"$defs": {"a": {"$anchor": "x"}, "b": {"$anchor": "x"}}}, "'$anchor' names two places"),
        ({"$ref": "#"}, "its references go round in a circle"),
        ({"allOf": [{"$ref": "#/$defs/a"}], "$defs": {"a": {"not": {"$ref": "#/$defs/a"}}}}, "round in a circle"),
        ({"properties": {"a": {"pattern": "(?=x)"}}}, "a pattern is not supported"),
        ({"properties": {"a": {"pattern": r"(a)\1"}}}, "a pattern is not supported"),
        ({"properties": {"a": {"pattern": "["}}}, "a pattern is not supported"),
        ({"patternProperties": {"(?<!x)": {}}}, "a pattern is not supported"),
        ({"properties": {"a": {"pattern": "a" * 201}}}, "a pattern is longer than 200"),
        ({"properties": {"a": {"pattern": r"\p{L}{300}"}}}, "a pattern is too large"),
        ({"properties": {"a": {"pattern": "((a{90}){90}){90}"}}}, "a pattern is too large"),
        ({"allOf": [{}] * MAX_SUBSCHEMAS}, "more than 1000 sub-schemas"),
        ({"allOf": [{"pattern": f"{n}"} for n in range(MAX_PATTERNS + 1)]}, "more than 50 patterns"),
    ],
)
async def test_what_is_refused(parameters: object, reason: str) -> None:
    """A rule that is no schema, or could reach out or hang, is refused when it is set, and is never evaluated."""
    assert reason in await problem(parameters)
    verdict = await judge(parameters, {})
    assert verdict.problem is not None
    assert not verdict.holds


async def test_the_dialect_and_an_id_of_its_own_are_accepted() -> None:
    """A rule may say that it is of the dialect, and how it is called."""
    schema = {
        "$schema": DIALECT,
        "$id": "https://example.com/rule",
        "$ref": "#/$defs/x",
        "$defs": {"x": False},
    }
    assert await problem(schema) == ""
    assert (await judge(schema, {})).violations


async def test_the_bounds_are_those_of_all_rules_together() -> None:
    """Many small rules may hold no more than one large one."""
    several = [rule({"allOf": [{}] * (MAX_SUBSCHEMAS // 4)}, f"rule {n}") for n in range(4)]
    book = RuleBook(caching=False)
    assert await book.first_problem(several[:3]) is None
    found = await book.first_problem(several)
    assert found == RuleProblem(3, "the product's rules have more than 1000 sub-schemas")


async def test_what_takes_too_long_to_tell() -> None:
    """A rule that is broken in more places than can be told in time is told as broken, without the places."""
    schema = {"properties": {"a": {"items": {"allOf": [{"type": "object"}] * 9}}}}
    assert len((await judge(schema, {"a": [1] * 10})).violations) == MAX_VIOLATIONS
    (violation,) = (await judge(schema, {"a": [1] * 1_000})).violations
    assert violation.path == ""
    assert "too much of the rule" in violation.reason


async def test_a_recursive_rule_works() -> None:
    """A rule that refers to itself one level deeper judges a tree."""
    tree = {"properties": {"child": {"$ref": "#"}, "name": {"type": "string"}}, "required": ["name"]}
    assert (await judge(tree, {"name": "a", "child": {"name": "b"}})).holds
    (violation,) = (await judge(tree, {"name": "a", "child": {"name": "b", "child": {}}})).violations
    assert violation.path == "child.child"


async def test_an_order_stops_at_the_first_broken_rule() -> None:
    """Where only the first broken rule is asked for, none after it is evaluated: it takes no time of the message."""
    rules = RuleSet("product", None, (rule({}, "one"), rule({"not": {}}, "two"), rule({"not": {}}, "three")))
    verdicts = await RuleBook(caching=False).check(rules, {}, TODAY, Spending(), all_rules=False)
    assert [verdict.rule for verdict in verdicts] == ["one", "two"]


async def test_telling_leaves_time_for_the_rules_after_it() -> None:
    """Once half of a message's time is spent a broken rule is told without its places, and the others are evaluated."""
    broken: dict[str, object] = {"required": ["a"]}
    rules = RuleSet("product", None, tuple(rule(broken, f"rule {n}") for n in range(4)))
    spending = Spending(evaluating_s=0.8, compiling_s=99, clock=Clock(0.1))
    verdicts = await RuleBook(caching=False).check(rules, {}, TODAY, spending)
    told = [verdict.violations[0].reason for verdict in verdicts]
    assert told[:2] == ["'a' is a required property"] * 2
    assert "too much of the rule" in told[3]


class Clock:
    """A thread's CPU time; every look at it takes a step."""

    def __init__(self, step_s: float) -> None:
        self._now, self._step = 0.0, step_s

    def __call__(self) -> float:
        """Tell the time."""
        self._now += self._step
        return self._now


async def test_the_time_is_shared_by_all_rules_of_a_message() -> None:
    """What one rule has used up, the next one lacks: it is named, and no rule after it is evaluated."""
    rules = RuleSet("product", None, (rule({}, "one"), rule({}, "two"), rule({}, "three")))
    spending = Spending(evaluating_s=0.3, compiling_s=99, clock=Clock(0.15))
    with pytest.raises(TooExpensiveError, match="more than 0\\.3 s of CPU") as raised:
        await RuleBook(caching=False).check(rules, {}, TODAY, spending)
    assert raised.value.rule == "three"


async def test_the_time_for_making_rules_ready_is_bounded() -> None:
    """A message makes ready what it may, and keeps it: another delivery of it goes on from there."""
    book = RuleBook(caching=True)
    sets = [RuleSet(f"product {n}", 1, (rule(COLOUR, f"rule {n}"),)) for n in range(4)]

    async def deliver() -> str:
        spending = Spending(compiling_s=0.5, clock=Clock(0.05))
        try:
            for rules in sets:
                await book.check(rules, {"colour": "red"}, TODAY, spending)
        except TooExpensiveError as error:
            return error.rule
        return "decided"

    told = [await deliver() for _ in range(9)]
    assert told[0].startswith("rule ")
    assert told[-1] == "decided"


async def test_the_loop_is_given_back() -> None:
    """Between two rules, and between the pieces of making one ready, others get their turn."""
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count_turns())
    rules = RuleSet("product", None, tuple(rule(COLOUR, f"rule {n}") for n in range(10)))
    spending = Spending(evaluating_s=99, compiling_s=99, clock=Clock(0.02))
    await RuleBook(caching=False).check(rules, {"colour": "red"}, TODAY, spending)
    counting.cancel()
    assert turns >= 20


async def test_larger_data_than_a_rule_was_counted_for() -> None:
    """Data larger than an order line is refused where its rules could need far more for it than they may for a line."""
    costly = {"properties": {"a": {"items": {"enum": [0.5, 1.5]}}}}
    book, rules = RuleBook(caching=False), RuleSet("product", None, (rule(costly, "costly"),))
    assert not (await book.check(rules, {"a": [0.25] * 400}, TODAY, Spending()))[0].holds
    with pytest.raises(TooExpensiveError, match="100000 are allowed"):
        await book.check(rules, {"a": [0.25] * 3_250}, TODAY, Spending())


async def test_patterns_are_bounded_together() -> None:
    """Patterns that are small enough each are refused where together they take too long to compile."""
    patterns = {f"p{n}": {"pattern": f"^[^a]{{{n}}}"} for n in range(160, 209)}
    assert "the patterns are too large together" in await problem({"properties": patterns})


async def test_an_escape_is_never_read_as_its_letter() -> None:
    """An escape that other dialects know is refused, though a lenient reading would take the letter."""
    for letter in "AzZhRXGKQaej_":
        assert "a pattern is not supported" in await problem({"properties": {"a": {"pattern": f"\\{letter}"}}}), letter


async def test_rules_in_force() -> None:
    """A rule counts from its first to its last day, both included, and for ever without a last day."""
    never: dict[str, object] = {"not": {}}
    rules = RuleSet(
        "product",
        None,
        (
            rule(never, "past", date(2025, 1, 1), date(2025, 2, 28)),
            rule(never, "until today", date(2025, 1, 1), TODAY),
            rule(never, "from today", TODAY),
            rule(never, "future", date(2025, 3, 2)),
        ),
    )
    verdicts = await RuleBook(caching=False).check(rules, {}, TODAY, Spending())
    assert [verdict.rule for verdict in verdicts] == ["until today", "from today"]


async def test_compiled_rules_are_kept_by_product_and_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """A set of rules is compiled once a version; what is not committed is not kept, nor is anything without caching."""
    compiled: list[str] = []

    def counting(rules: Sequence[Rule]) -> Iterator[CompiledRule | None]:
        compiled.append(rules[0].name)
        return compile_rules(rules)

    monkeypatch.setattr(book_module, "compile_rules", counting)
    book = RuleBook(caching=True)
    for product, version in (("a", 1), ("a", 1), ("a", 2), ("b", 1), ("a", 1), ("a", None), ("a", None)):
        rules = RuleSet(product, version, (rule(COLOUR, f"{product} {version}"),))
        await book.check(rules, {}, TODAY, Spending())
    assert compiled == ["a 1", "a 2", "b 1", "a None", "a None"]
    uncached, spending = RuleBook(caching=False), Spending()
    for spent in (Spending(), spending, spending):
        await uncached.check(RuleSet("a", 1, (rule(COLOUR, "a 1"),)), {}, TODAY, spent)
    assert compiled[5:] == ["a 1", "a 1"]


async def test_the_compiled_rules_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """When they grow beyond their bound, those that were not used for the longest time are given up."""
    monkeypatch.setattr(book_module, "CACHED_NODES", 45)
    book = RuleBook(caching=True)
    for product in ("a", "b", "c", "a", "d"):
        rules = RuleSet(product, 1, (rule({"enum": list(range(8))}),))
        await book.check(rules, {}, TODAY, Spending())
    assert [product for product, _ in book._compiled] == ["c", "a", "d"]


async def test_whole_numbers_count_as_such() -> None:
    """A double that is a whole number takes as many bytes of a line as the number, and is judged as one."""
    value = {"a": [1.0, -0.0, 1.5, True, None, "1.0", {"b": 2.0}], "c": 1e22}
    shortened = book_module.whole_numbers(value)
    assert shortened == value
    assert orjson.dumps(shortened) == b'{"a":[1,0,1.5,true,null,"1.0",{"b":2}],"c":1e+22}'
    rules = RuleSet("product", None, (rule({"properties": {"a": {"items": {"type": "integer", "minimum": 0.5}}}}),))
    (verdict,) = await RuleBook(caching=False).check(rules, {"a": [1.0] * 8_000}, TODAY, Spending())
    assert verdict.holds


async def test_many_violations_are_cut() -> None:
    """A rule tells the first twenty places at most."""
    verdict = await judge(
        {"properties": {"a": {"items": False, "prefixItems": [{"type": "null"}] * 100}}}, {"a": [1] * 100}
    )
    assert len(verdict.violations) == MAX_VIOLATIONS
