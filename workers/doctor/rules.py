"""Stored rules that would not be accepted now: they are not evaluated, and orders of their products are refused."""

import time
from collections.abc import AsyncIterator, Callable
from typing import Final

import orjson

from handlers.product import RuleSet
from handlers.rules import compile_rules
from persistence.engine import Engine
from persistence.stored_rules import all_rules
from workers.doctor.findings import Finding, ok, warning

LISTED: Final = 20
"""Rules that are named; the others are counted."""
LOOKING_S: Final = 30.0
"""How long rules are gone through: a product's take some ms, those that are the same are read once."""
_REMEDY: Final = "set the product's rules again, within the limits"


async def examine_rules(engine: Engine, clock: Callable[[], float] = time.monotonic) -> AsyncIterator[Finding]:
    """List the rules that cannot be used, by product; says how far it came where there are too many to read."""
    known: dict[bytes, list[tuple[str, str]]] = {}
    products = bad = 0
    ends_at = clock() + LOOKING_S
    async for some in all_rules(engine):
        for mnemonic, rules in sorted(some.items()):
            if clock() > ends_at:
                yield warning("rules", f"those of {products} products were looked at in {LOOKING_S:.0f} s, not all")
                return
            products += 1
            for name, problem in _problems(rules, known):
                bad += 1
                if bad <= LISTED:
                    yield warning(
                        "rules", f"rule '{name}' of product '{mnemonic}' is not evaluated: {problem}", _REMEDY
                    )
    if bad > LISTED:
        yield warning("rules", f"{bad - LISTED} more are not evaluated", _REMEDY)
    if not bad:
        yield ok("rules", f"those of {products} products can be evaluated")


def _problems(rules: RuleSet, known: dict[bytes, list[tuple[str, str]]]) -> list[tuple[str, str]]:
    """Return name and problem of each rule that cannot be used."""
    key = orjson.dumps([(rule.name, rule.parameters) for rule in rules.rules])
    if key not in known:
        made = (one for one in compile_rules(rules.rules) if one is not None)
        known[key] = [(one.rule.name, one.problem) for one in made if one.problem is not None]
    return known[key]
