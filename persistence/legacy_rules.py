"""Validation rules as the legacy column `products.old_validations` holds them: a JSON array in text.

Anything may stand in it. What cannot be read becomes a rule that is always in force and cannot be evaluated: an order
is then told so, instead of passing unchecked.
"""

from datetime import date

import orjson

from handlers.product import Rule

UNREADABLE = "(unreadable)"


def read_rules(text: str) -> tuple[Rule, ...]:
    """Read the column's text."""
    try:
        listed = orjson.loads(text)
    except ValueError:
        listed = None
    if not isinstance(listed, list):
        return (_unreadable(UNREADABLE),)
    return tuple(_rule(one) for one in listed)


def _rule(one: object) -> Rule:
    name = one.get("name") if isinstance(one, dict) else None
    if not isinstance(one, dict) or not isinstance(name, str):
        return _unreadable(UNREADABLE)
    end = one.get("end_date")
    try:
        return Rule(
            name,
            one.get("parameters", {}),
            date.fromisoformat(one["start_date"]),
            date.fromisoformat(end) if end is not None else None,
        )
    except (KeyError, TypeError, ValueError):
        return _unreadable(name)


def _unreadable(name: str) -> Rule:
    return Rule(name, None, date.min, None)
