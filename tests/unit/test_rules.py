"""Validation rules: what they mean, what they may not refer to, and that none of them can hold a worker up."""

import time
from collections.abc import Sequence
from datetime import date

import pytest

from handlers import rules as rules_module
from handlers.product import Rule, RuleSet
from handlers.rules import MAX_PATTERNS, MAX_STEPS, MAX_SUBSCHEMAS, RuleBook, StepBudget, Verdict, first_problem

TODAY = date(2025, 3, 1)


def rule(parameters: object, name: str = "rule", start: date = date.min, end: date | None = None) -> Rule:
    """Make a rule, in force for ever unless told."""
    return Rule(name, parameters, start, end)


def judge(parameters: object, data: object) -> Verdict:
    """Evaluate one rule as one that nobody has checked."""
    rules = RuleSet("product", None, (rule(parameters),), checked=False)
    (verdict,) = RuleBook(caching=False).check(rules, data, TODAY, StepBudget())
    return verdict


def problem(parameters: object) -> str:
    """Say why a rule cannot be set; empty where it can."""
    found = first_problem([rule(parameters)])
    return "" if found is None else found[1]


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
        ({"properties": {"a": {"multipleOf": 1e-300}}}, {"a": 1e300}, [("a", "does not meet multipleOf: 1e-300")]),
        (
            {"properties": {"b": {}}, "unevaluatedProperties": False},
            {"b": 1, "c": 1},
            [("", "Unevaluated properties are not allowed ('c' was unexpected)")],
        ),
    ],
)
def test_what_a_schema_means(parameters: object, data: object, violations: list[tuple[str, str]]) -> None:
    """A rule says where the data breaks it and what it asks for, by the dialect; it never repeats what was given."""
    verdict = judge(parameters, data)
    assert [(one.path, one.reason) for one in verdict.violations] == violations
    assert verdict.problem is None
    assert verdict.holds == (not violations)


def test_patterns_are_ecmascript() -> None:
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
        assert problem(schema) == ""
        assert judge(schema, {"a": matching}).holds, pattern
        assert judge(schema, {"a": other}).violations, pattern


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
        ({"properties": {"a": {"$schema": rules_module.DIALECT}}}, "'$schema' is not supported"),
        ({"$schema": "http://json-schema.org/draft-07/schema#"}, "'$schema' is not"),
        ({"properties": {"a": {"pattern": "(?=x)"}}}, "a pattern is not supported"),
        ({"properties": {"a": {"pattern": r"(a)\1"}}}, "a pattern is not supported"),
        ({"properties": {"a": {"pattern": "["}}}, "a pattern is not supported"),
        ({"patternProperties": {"(?<!x)": {}}}, "a pattern is not supported"),
        ({"properties": {"a": {"pattern": "a" * 201}}}, "a pattern is longer than 200"),
        ({"properties": {"a": {"pattern": r"\p{L}{300}"}}}, "a pattern is too large"),
        ({"properties": {"a": {"pattern": "((a{90}){90}){90}"}}}, "a pattern is too large"),
        ({"allOf": [{}] * MAX_SUBSCHEMAS}, "more than 1000 sub-schemas"),
        ({"allOf": [{"pattern": f"{n}"} for n in range(MAX_PATTERNS + 1)]}, "more than 50 patterns"),
        ({"patternProperties": {"a": {}}, "unevaluatedProperties": False}, "are not supported in one rule"),
    ],
)
def test_what_is_refused(parameters: object, reason: str) -> None:
    """A rule that is no schema, or could reach out or hang, is refused when it is set, and is never evaluated."""
    assert reason in problem(parameters)
    verdict = judge(parameters, {})
    assert verdict.problem is not None
    assert not verdict.holds


def test_the_dialect_and_an_id_of_its_own_are_accepted() -> None:
    """A rule may say that it is of the dialect, and how it is called."""
    schema = {
        "$schema": rules_module.DIALECT,
        "$id": "https://example.com/rule",
        "$ref": "#/$defs/x",
        "$defs": {"x": False},
    }
    assert problem(schema) == ""
    assert judge(schema, {}).violations


def test_the_bounds_are_those_of_all_rules_together() -> None:
    """Many small rules may hold no more than one large one."""
    several = [rule({"allOf": [{}] * (MAX_SUBSCHEMAS // 4)}, f"rule {n}") for n in range(4)]
    assert first_problem(several[:3]) is None
    assert first_problem(several) == (3, "the product's rules have more than 1000 sub-schemas")


def _doubling(levels: int) -> dict[str, object]:
    defs: dict[str, object] = {"a0": {"type": "object"}}
    for n in range(1, levels):
        defs[f"a{n}"] = {"allOf": [{"$ref": f"#/$defs/a{n - 1}"}, {"$ref": f"#/$defs/a{n - 1}"}]}
    return {"$defs": defs, "$ref": f"#/$defs/a{levels - 1}"}


def _nested(levels: int) -> dict[str, object]:
    value: dict[str, object] = {}
    for _ in range(levels):
        value = {"a": value}
    return value


@pytest.mark.parametrize(
    ("parameters", "data"),
    [
        (_doubling(60), {}),
        ({"allOf": [{"properties": {"a": {"$ref": "#"}}}, {"properties": {"a": {"$ref": "#"}}}]}, _nested(31)),
        ({"allOf": [{"properties": {"a": {"items": {}}}}] * 300}, {"a": [{}] * 5000}),
        ({"properties": {"a": {"items": {"enum": list(range(3000))}}}}, {"a": [-1] * 5000}),
        ({"anyOf": [{"required": ["x"]}] * 900}, {"a": ["x" * 500] * 30}),
        ({"properties": {"a": {"uniqueItems": True}}}, {"a": [{}] * 5000}),
        ({"properties": {"a": {"items": {"pattern": "[ab]*a[ab]{100}c"}}}}, {"a": ["ab" * 2000] * 4}),
        ({"unevaluatedProperties": False, "allOf": [{"allOf": [{"properties": {"a": True}}] * 30}] * 10}, {"a": 1}),
        ({"properties": {"a": {"contains": {"const": _nested(20)}}}}, {"a": [_nested(20)] * 60}),
    ],
)
def test_no_evaluation_takes_long(parameters: object, data: object) -> None:
    """Whatever rule and data are, evaluating comes to its end within the budget's time; most end as too costly."""
    started = time.perf_counter()
    verdict = judge(parameters, data)
    assert time.perf_counter() - started < 5  # a few tenths of a second; the machine may be busy
    assert verdict.problem in {None, "it needs too many steps"}


def test_a_circle_of_references_cannot_be_evaluated() -> None:
    """A rule that refers to itself without going deeper into the data is told apart from one that is broken."""
    for schema in ({"$ref": "#"}, {"$ref": "#/$defs/a", "$defs": {"a": {"allOf": [{"$ref": "#/$defs/a"}]}}}):
        assert "circle" in (judge(schema, {}).problem or "")


def test_a_recursive_rule_works() -> None:
    """A rule that refers to itself one level deeper judges a tree."""
    tree = {"properties": {"child": {"$ref": "#"}, "name": {"type": "string"}}, "required": ["name"]}
    assert judge(tree, {"name": "a", "child": {"name": "b"}}).holds
    (violation,) = judge(tree, {"name": "a", "child": {"name": "b", "child": {}}}).violations
    assert violation.path == "child.child"


def test_the_budget_is_shared_by_all_rules_of_a_message() -> None:
    """What one rule has used up, the next one lacks."""
    costly = {"properties": {"a": {"items": {"enum": list(range(400))}}}}
    book, budget = RuleBook(caching=False), StepBudget(MAX_STEPS)
    rules = RuleSet("product", None, (rule(costly, "one"), rule(costly, "two"), rule(costly, "three")))
    verdicts = book.check(rules, {"a": [1] * 200}, TODAY, budget)
    assert [verdict.problem for verdict in verdicts] == [None, None, "it needs too many steps"]


def test_rules_in_force() -> None:
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
    verdicts = RuleBook(caching=False).check(rules, {}, TODAY, StepBudget())
    assert [verdict.rule for verdict in verdicts] == ["until today", "from today"]


def test_compiled_rules_are_kept_by_product_and_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """A set of rules is compiled once a version; what is not committed is not kept, nor is anything without caching."""
    compiled: list[str] = []
    compile_all = rules_module._compile_all

    def counting(rules: RuleSet) -> Sequence[object]:
        compiled.append(f"{rules.product_id} {rules.version}")
        return compile_all(rules)

    monkeypatch.setattr(rules_module, "_compile_all", counting)
    book = RuleBook(caching=True)
    for product, version in (("a", 1), ("a", 1), ("a", 2), ("b", 1), ("a", 1), ("a", None), ("a", None)):
        book.check(RuleSet(product, version, (rule(COLOUR),)), {}, TODAY, StepBudget())
    assert compiled == ["a 1", "a 2", "b 1", "a None", "a None"]
    uncached = RuleBook(caching=False)
    for _ in range(2):
        uncached.check(RuleSet("a", 1, (rule(COLOUR),)), {}, TODAY, StepBudget())
    assert compiled[5:] == ["a 1", "a 1"]


def test_the_compiled_rules_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """When they grow beyond their bound, those that were not used for the longest time are given up."""
    monkeypatch.setattr(rules_module, "CACHED_NODES", 35)
    book = RuleBook(caching=True)

    def use(product: str) -> None:
        book.check(RuleSet(product, 1, (rule({"enum": list(range(8))}),)), {}, TODAY, StepBudget())

    for product in ("a", "b", "c", "a", "d"):
        use(product)
    assert [key for key, _ in book._compiled] == ["c", "a", "d"]


def test_many_violations_are_cut() -> None:
    """A rule tells the first twenty places at most."""
    verdict = judge({"properties": {"a": {"items": False, "prefixItems": [{"type": "null"}] * 100}}}, {"a": [1] * 100})
    assert len(verdict.violations) == rules_module.MAX_VIOLATIONS
