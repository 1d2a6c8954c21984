"""Rules made ready: read, counted, and compiled by the engine, which has no budget of its own.

Everything that is paid for a rule is bounded before it is paid: the number of its sub-schemas, the size of its
patterns, what the engine makes of `unevaluated…`, and what evaluating can need (`handlers.rules.counting`).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import Any, Final

import jsonschema_rs

from handlers.product import Rule
from handlers.rules.counting import LINE_BYTES, Count, count
from handlers.rules.schemas import BadRuleError, Room, Schema, groups_of, read_schema
from handlers.rules.unique import UniqueItems

MAX_EVALUATIONS: Final = 20_000
"""Keyword evaluations that all rules of a product may need on an order line: 2.5 ms at the very worst."""
MAX_COMPILED: Final = 20_000
"""Sub-schemas that the engine may make of one rule; those below `unevaluated…` it makes several times."""
_PATTERN_BYTES: Final = 10 * 1024 * 1024
"""What a compiled pattern may take; those that are small enough by our own measure stay far below."""


@dataclass(slots=True)
class CompiledRule:
    """A rule made ready. `problem`: why it could not be. `told`: what telling every violation can cost."""

    rule: Rule
    schema: Schema | None = None
    count: Count | None = None
    told: Count | None = None
    validator: Any = None
    problem: str | None = None
    nodes: int = field(default=0)


def compile_rules(rules: Sequence[Rule]) -> Iterator[CompiledRule | None]:
    """Make the rules of one product ready, in pieces of a few ms: yields None between them, and each rule when made."""
    room, left = Room(), MAX_EVALUATIONS
    for rule in rules:
        made = CompiledRule(rule)
        try:
            for piece in _compiled(made, room, left):
                left -= piece
                yield None
        except BadRuleError as error:
            made = CompiledRule(rule, problem=str(error))
        yield made


def _compiled(made: CompiledRule, room: Room, left: int) -> Iterator[int]:
    """Make one rule ready: yields, between the pieces, how many of the evaluations that are left it takes."""
    for schema in read_schema(made.rule.parameters, room):
        made.schema = schema
        yield 0
    assert made.schema is not None  # noqa: S101 - the last piece of the reading
    for counted in count(made.schema):
        made.count = counted
        yield 0
    assert made.count is not None  # noqa: S101 - the last piece of the count
    evaluations = ceil(made.count.at(LINE_BYTES))
    if evaluations > left:
        raise BadRuleError(_too_many(evaluations, MAX_EVALUATIONS - left + evaluations))
    yield evaluations
    if _compiled_size(made.schema) > MAX_COMPILED:
        raise BadRuleError("too many sub-schemas stand beside 'unevaluatedItems' or 'unevaluatedProperties'")
    try:
        made.validator = jsonschema_rs.Draft202012Validator(
            made.schema.for_engine,
            validate_formats=False,
            offline=True,
            mask="it",
            pattern_options=jsonschema_rs.RegexOptions(size_limit=_PATTERN_BYTES),
            keywords={"uniqueItems": UniqueItems},
        )
    except jsonschema_rs.ValidationError as error:
        raise BadRuleError(f"the engine does not take its '{error.schema_path[-1]}'") from None
    made.nodes = _count_nodes(made.schema.for_engine) + 4 * len(made.schema.all)
    made.nodes += _PATTERN_NODES * len(made.schema.patterns)
    yield 0


_TOLD_EXACTLY: Final = 1_000_000
_PATTERN_NODES: Final = 2_000
"""What a compiled pattern counts for among JSON values: 200 KiB."""


def _too_many(evaluations: int, together: int) -> str:
    others = "" if evaluations == together else f", with the rules before it {_number(together)}"
    return (
        f"it can need {_number(evaluations)} keyword evaluations on a line of 2 KiB{others}; {MAX_EVALUATIONS} are"
        " allowed for all rules of a product: 'maxItems', 'maxProperties' and 'maxLength' bring the count down, and so"
        " do shorter or anchored patterns and fewer sub-schemas"
    )


def _number(evaluations: int) -> str:
    return str(evaluations) if evaluations <= _TOLD_EXACTLY else f"more than {_TOLD_EXACTLY}"


def _compiled_size(schema: Schema) -> int:
    """Count the sub-schemas that the engine makes: those applied beside `unevaluated…` again for each of them."""
    whole, again = [1] * len(schema.all), [1] * len(schema.all)  # of one that comes back to itself it makes no other
    for group in groups_of(schema.all):
        for one in sorted(group, key=lambda one: one.chain):
            inside = 1 + sum(1 if part is one.target else whole[part.number] for part in one.parts())
            beside = 1 + sum(whole[part.number] + again[part.number] for part in one.parts())
            if {"unevaluatedItems", "unevaluatedProperties"} & one.below.keys():
                inside += 2 * beside
            whole[one.number] = min(inside, 2 * MAX_COMPILED)
            again[one.number] = min(beside, 2 * MAX_COMPILED)
    return max(whole)


def _count_nodes(value: Mapping[str, Any]) -> int:
    number = 0
    level: list[Any] = [value]
    while level:
        number += len(level)
        level = [
            child
            for node in level
            for child in (node.values() if isinstance(node, dict) else node if isinstance(node, list) else ())
        ]
    return number
