"""The rule book: checks data against the rules of products, within bounds of real CPU time."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from typing import Final

import orjson

from contracts.ijson import MAX_SAFE_INTEGER
from handlers.product import Rule, RuleSet
from handlers.rules.compiling import CompiledRule, compile_rules
from handlers.rules.counting import LINE_BYTES, count
from handlers.rules.telling import UNTOLD, Violation, violations_of

EVALUATING_S: Final = 0.3
"""CPU time that evaluating all rules of one message may take."""
COMPILING_S: Final = 1.0
"""CPU time that a message may spend on making rules ready that no message before it needed; they are kept."""
PIECE_S: Final = 0.02
"""CPU time after which the loop is given back; no step between takes longer than that."""
MAX_DATA_EVALUATIONS: Final = 100_000
"""Keyword evaluations that the rules of a product may need on data larger than an order line: 12.5 ms at worst."""
MAX_TOLD_EVALUATIONS: Final = 200_000
"""… and that telling what of a rule does not hold may take as much as: 25 ms at worst."""
CACHED_NODES: Final = 500_000
"""How many JSON values the compiled rules of a process may hold: about 100 MB."""
KEPT_FINDINGS: Final = 64
"""Of rules that are about to be set."""


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


@dataclass(frozen=True, slots=True)
class RuleProblem:
    """A rule that cannot be used beside the ones before it: its place among them, and why."""

    place: int
    reason: str


class TooExpensiveError(Exception):
    """A message's rules take more than it may spend. `rule` is the one at which it ended; `reason` says what of."""

    def __init__(self, rule: str, reason: str) -> None:
        super().__init__(reason)
        self.rule = rule
        self.reason = reason


@dataclass(slots=True)
class Spending:
    """The CPU time that one message spends on rules; shared by all of them. `clock` tells that of the thread."""

    evaluating_s: float = EVALUATING_S
    compiling_s: float = COMPILING_S
    clock: Callable[[], float] = time.thread_time
    evaluated_s: float = field(default=0.0, init=False)
    compiled_s: float = field(default=0.0, init=False)
    compiled: dict[str, Sequence[CompiledRule]] = field(default_factory=dict, init=False)
    """By product: what a message needs again is not made again."""
    _since_pause_s: float = field(default=0.0, init=False)

    @property
    def spent_s(self) -> float:
        """What was spent in all."""
        return self.evaluated_s + self.compiled_s

    @contextmanager
    def evaluating(self, rule: str) -> Iterator[None]:
        """Count what is done within; raises `TooExpensiveError` when nothing is left."""
        if self.evaluated_s >= self.evaluating_s:
            raise TooExpensiveError(rule, f"evaluating the rules takes more than {self.evaluating_s} s of CPU")
        started = self.clock()
        try:
            yield
        finally:
            spent = self.clock() - started
            self.evaluated_s += spent
            self._since_pause_s += spent

    @contextmanager
    def compiling(self) -> Iterator[None]:
        """Count what is done within."""
        started = self.clock()
        try:
            yield
        finally:
            spent = self.clock() - started
            self.compiled_s += spent
            self._since_pause_s += spent

    async def pause(self) -> None:
        """Give the loop back once a piece's time is spent."""
        if self._since_pause_s >= PIECE_S:
            self._since_pause_s = 0.0
            await asyncio.sleep(0)


class RuleBook:
    """Checks data against rules; made once a process.

    With `caching` (setting ENABLE_VALIDATION_CACHING) compiled rules are kept by product id and version, the least
    recently used ones are given up when together they grow beyond `CACHED_NODES`.
    """

    def __init__(self, *, caching: bool) -> None:
        self._caching = caching
        self._compiled: OrderedDict[tuple[str, int], Sequence[CompiledRule]] = OrderedDict()
        self._nodes = 0
        self._findings: OrderedDict[bytes, RuleProblem | None] = OrderedDict()

    async def check(
        self, rules: RuleSet, data: object, on: date, spending: Spending, *, all_rules: bool = True
    ) -> Sequence[Verdict]:
        """Tell what each rule in force on that day says of the data, in the order of the rules.

        Unless `all_rules` are asked for, none after the first that does not hold is evaluated. Raises
        `TooExpensiveError` when the message has spent what it may, or the data is too large for these rules.
        """
        if not any(rule.is_in_force(on) for rule in rules.rules):
            return ()
        in_force = [one for one in await self._compiled_of(rules, spending) if one.rule.is_in_force(on)]
        written = orjson.dumps(data)
        if b".0" in written:  # or a text with it
            data = whole_numbers(data)
            written = orjson.dumps(data)
        size_bytes = len(written)
        if size_bytes > LINE_BYTES:
            _refuse_size(in_force, size_bytes)
        verdicts = []
        for compiled in in_force:
            verdicts.append(await _verdict(compiled, data, size_bytes, spending))
            if not all_rules and not verdicts[-1].holds:
                break
            await spending.pause()
        return verdicts

    async def first_problem(self, rules: Sequence[Rule]) -> RuleProblem | None:
        """Find the first rule that cannot be used beside the ones before it.

        It is called before the transaction and in it: what was found for these rules is remembered for a while.
        """
        key = orjson.dumps([rule.parameters for rule in rules])
        if key in self._findings:
            self._findings.move_to_end(key)
            return self._findings[key]
        made = await _make(rules, Spending())
        found = next((RuleProblem(place, one.problem) for place, one in enumerate(made) if one.problem), None)
        self._findings[key] = found
        if len(self._findings) > KEPT_FINDINGS:
            self._findings.popitem(last=False)
        return found

    async def _compiled_of(self, rules: RuleSet, spending: Spending) -> Sequence[CompiledRule]:
        if rules.version is not None and self._caching:
            known = self._compiled.get((rules.product_id, rules.version))
            if known is not None:
                self._compiled.move_to_end((rules.product_id, rules.version))
                return known
        known = spending.compiled.get(rules.product_id)
        if known is not None:
            return known
        if spending.compiled_s >= spending.compiling_s:
            raise TooExpensiveError(
                rules.rules[0].name, f"making rules ready takes more than {spending.compiling_s} s of CPU"
            )
        compiled = spending.compiled[rules.product_id] = await _make(rules.rules, spending)
        if rules.version is not None and self._caching:
            self._keep((rules.product_id, rules.version), compiled)
        return compiled

    def _keep(self, key: tuple[str, int], compiled: Sequence[CompiledRule]) -> None:
        self._nodes += _nodes(compiled) - _nodes(self._compiled.pop(key, ()))
        self._compiled[key] = compiled
        while self._nodes > CACHED_NODES:
            _, given_up = self._compiled.popitem(last=False)
            self._nodes -= _nodes(given_up)


def whole_numbers(value: object) -> object:
    """Write doubles that are whole numbers as such: their canonical form is as short, and the engine is quicker."""
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) <= MAX_SAFE_INTEGER else value
    if isinstance(value, dict):
        return {name: whole_numbers(one) for name, one in value.items()}
    if isinstance(value, list):
        return [whole_numbers(one) for one in value]
    return value


async def _make(rules: Sequence[Rule], spending: Spending) -> Sequence[CompiledRule]:
    """Make rules ready, giving the loop back between pieces."""
    made: list[CompiledRule] = []
    pieces = compile_rules(rules)
    while True:
        with spending.compiling():
            try:
                piece = next(pieces)
            except StopIteration:
                return made
        if piece is not None:
            made.append(piece)
        await spending.pause()


def _refuse_size(rules: Sequence[CompiledRule], size_bytes: int) -> None:
    """Refuse data larger than an order line on which rules may need far more than they were accepted for."""
    evaluations = 0.0
    for one in rules:
        evaluations += one.count.at(size_bytes) if one.count is not None else 0
        if evaluations > MAX_DATA_EVALUATIONS:
            raise TooExpensiveError(
                one.rule.name,
                f"on {size_bytes} bytes of data the rules can need {round(evaluations)} keyword evaluations, "
                f"{MAX_DATA_EVALUATIONS} are allowed",
            )


async def _verdict(compiled: CompiledRule, data: object, size_bytes: int, spending: Spending) -> Verdict:
    name = compiled.rule.name
    if compiled.problem is not None:
        return Verdict(name, problem=compiled.problem)
    with spending.evaluating(name):
        holds = compiled.validator.is_valid(data)
    if holds:
        return Verdict(name)
    if spending.evaluated_s > spending.evaluating_s / 2:
        return Verdict(name, UNTOLD)  # what is left is for the rules after it
    if compiled.told is None:
        await _count_told(compiled, spending)
    assert compiled.told is not None  # noqa: S101 - counted above
    if compiled.told.at(size_bytes) > MAX_TOLD_EVALUATIONS:
        return Verdict(name, UNTOLD)
    await spending.pause()
    with spending.evaluating(name):
        return Verdict(name, violations_of(compiled, data) or UNTOLD)


async def _count_told(compiled: CompiledRule, spending: Spending) -> None:
    assert compiled.schema is not None  # noqa: S101 - what has no problem has a schema
    pieces = count(compiled.schema, stops_early=False)
    while compiled.told is None:
        with spending.compiling():
            compiled.told = next(pieces)
        await spending.pause()


def _nodes(compiled: Sequence[CompiledRule]) -> int:
    return sum(one.nodes for one in compiled)
