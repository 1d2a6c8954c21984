"""Validation rules: JSON Schema 2020-12, evaluated within bounds whatever the schema and the data are.

What is not in the dialect's power here, so that a rule can never reach out, hang or exhaust a worker:

- a rule refers to nothing outside itself: `$ref` takes `#…` only and must lead to a sub-schema of the same rule;
  `$dynamicRef` and `$dynamicAnchor` are refused, and so is an `$id` that is not the rule's own;
- patterns are ECMA 262's, of a language that needs linear time (no look-around, no back-references), their size is
  bounded;
- what a rule can need is counted from its schema alone when it is set, on the largest order line that there is;
- `format` is a note to readers: it is not asserted (which the dialect leaves open).

A rule that breaks one of these is refused when it is set; one that was stored before is told, and not evaluated. What
is evaluated is measured besides, and given up when a message's CPU time is used up.
"""

from handlers.rules.book import RuleBook, RuleProblem, Spending, TooExpensiveError, Verdict
from handlers.rules.compiling import MAX_EVALUATIONS, compile_rules
from handlers.rules.telling import Violation

__all__ = [
    "MAX_EVALUATIONS",
    "RuleBook",
    "RuleProblem",
    "Spending",
    "TooExpensiveError",
    "Verdict",
    "Violation",
    "compile_rules",
]
