"""What a rule can cost: a count of keyword evaluations, from the schema alone.

The count holds for every value of a given size, its JSON written without blanks. For each sub-schema and kind of value
it is a function of the value's size, known at the points of a grid; between two it is that of the greater. What is
applied to the value itself adds up; what is applied to its members shares the bytes of the value. The unit is an
evaluation of a cheap keyword, about 10 ns; what takes longer than ten of those counts for more, so that none costs more
than 125 ns a unit (measured with jsonschema-rs 0.61; `tests/unit/rules/test_cost.py` watches it).
"""

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Final

from handlers.rules.patterns import Pattern
from handlers.rules.schemas import KEYWORDS, BadRuleError, Schema, SubSchema, groups_of

LINE_BYTES: Final = 2 * 1024
"""The attributes of an order line."""
DATA_BYTES: Final = 16 * 1024
"""What `validate_product_data` takes."""
DATA_LEVELS: Final = 32
"""How deep either is nested at most."""
MAX_ROUNDS: Final = 1_000
"""How often a sub-schema that applies itself to its members may be counted, one level deeper each time."""
NODES_AT_ONCE: Final = 50
"""Sub-schemas that are counted in one piece: up to 15 ms."""
ENDLESS: Final = 1e9
BASE: Final = 0.05
"""What a sub-schema costs besides its keywords."""

Numbers = list[float]


def _grid() -> list[int]:
    sizes = list(range(1, 33))
    while sizes[-1] < DATA_BYTES:
        following = sizes[-1] + sizes[-1] // 4
        limit = next(limit for limit in (LINE_BYTES, DATA_BYTES) if sizes[-1] < limit)
        sizes.append(min(following, limit))
    return sizes


SIZES: Final = _grid()
_BEFORE: Final = [0, *SIZES[:-1]]


def _most_members(size: int) -> int:
    """Return how many members an object of a size can have, whose names all differ."""
    members, left, name_bytes, names = 0, size - 1, 0, 1
    while left >= name_bytes + 5:
        more = min(names, left // (name_bytes + 5))
        members += more
        left -= more * (name_bytes + 5)
        name_bytes += 1
        names *= 94
    return members


_MEMBERS: Final = [float(_most_members(size)) for size in SIZES]
_BYTES: Final = [float(size) for size in SIZES]


Line = tuple[float, float]
"""A cost that grows evenly: of the smallest value, and for each further byte."""


@dataclass(frozen=True, slots=True)
class _Cost:
    """What applying something to one kind of value costs at most: the least of three bounds.

    `grid` holds by size, but loses a little from level to level; the lines lose nothing. `flat` bounds how many members
    there are, `steep` how many bytes they share. `least`: how many bytes the smallest such value has.
    """

    grid: Numbers
    flat: Line
    steep: Line
    least: int = 2

    def lines_only(self) -> "_Cost":
        """Return the bound of the lines alone."""
        (flat, per), (steep, each) = self.flat, self.steep
        further = [max(size - self.least, 0) for size in SIZES]
        return _Cost(
            [min(flat + per * more, steep + each * more) for more in further], self.flat, self.steep, self.least
        )

    def at_most(self) -> "_Cost":
        """Return the same with the lines taken into the grid."""
        lines = self.lines_only().grid
        return _Cost([min(pair) for pair in zip(self.grid, lines, strict=True)], self.flat, self.steep, self.least)


def _by(grid: Numbers, least: int = 2) -> _Cost:
    """Bound by a grid, of what is applied to no members."""
    first, steepest = grid[least - 1], 0.0
    for size, before, cost in zip(SIZES, _BEFORE, grid, strict=True):
        if size > least:
            steepest = max(steepest, (cost - first) / max(before + 1 - least, 1))
    flat = (max(grid), 0.0) if least == 1 else (first, steepest)  # numbers do not grow with the value that holds them
    return _Cost(grid, flat, (first, steepest), least)


@lru_cache(1_000)
def _even(fixed: float, least: int = 2) -> _Cost:
    """Bound by a number."""
    return _Cost([fixed] * len(SIZES), (fixed, 0.0), (fixed, 0.0), least)


def _nothing(least: int = 2) -> _Cost:
    return _even(0.0, least)


def _added(several: Sequence[_Cost], fixed: float, least: int = 2) -> _Cost:
    nothing = _nothing(least)
    costs = [one for one in several if one is not nothing]
    if not costs:
        return _even(fixed, least)
    return _Cost(
        [min(fixed + column, ENDLESS) for column in map(sum, zip(*(one.grid for one in costs), strict=True))],
        (min(fixed + sum(one.flat[0] for one in costs), ENDLESS), min(sum(one.flat[1] for one in costs), ENDLESS)),
        (min(fixed + sum(one.steep[0] for one in costs), ENDLESS), min(sum(one.steep[1] for one in costs), ENDLESS)),
        least,
    )


def _times(cost: _Cost, times: int) -> _Cost:
    return cost if times == 1 else _added([cost] * times, 0.0, cost.least)


@dataclass(frozen=True)
class _Costs:
    """What applying a sub-schema costs, by kind of value."""

    other: float
    number: _Cost
    text: _Cost
    array: _Cost
    object: _Cost

    @cached_property
    def kinds(self) -> tuple[_Cost, ...]:
        """What it costs for any value, null among the numbers."""
        number = self.number
        if self.other > number.flat[0]:
            number = _added([number], self.other - number.flat[0], 1)
        return number, self.text, self.array, self.object

    @cached_property
    def grid(self) -> Numbers:
        """What it costs whatever the kind is, by size."""
        return list(map(max, *(one.grid for one in self.kinds)))

    @cached_property
    def flat(self) -> Line:
        """The same by lines: of the smallest value, and for each further byte."""
        return max(one.flat[0] for one in self.kinds), max(one.flat[1] for one in self.kinds)


def _growth(line: Line) -> float:
    return max(line[0] / 4, line[1])


_FREE: Final = _Costs(0.0, _nothing(1), _nothing(), _nothing(), _nothing())


class Count:
    """What a schema can cost, by size of the object that it is applied to."""

    def __init__(self, costs: Numbers) -> None:
        self._costs = costs

    def at(self, size_bytes: int) -> float:
        """Return the count for an object of so many bytes of JSON, at most `DATA_BYTES`."""
        return self._costs[bisect_left(SIZES, min(max(size_bytes, 1), DATA_BYTES))]


def count(schema: Schema, *, stops_early: bool = True) -> Iterator[Count | None]:
    """Count what a schema can cost, in pieces: yields None between them, the count at last.

    Without `stops_early` no limit spares the keywords after it, as when all violations are looked for. Raises
    `BadRuleError` for a schema that applies itself in too many ways to be counted.
    """
    counting = _Counting(schema, stops_early=stops_early)
    for number, group in enumerate(groups_of(schema.all), 1):
        yield from counting.count(group)
        if number % NODES_AT_ONCE == 0:
            yield None
    yield Count(counting.costs[schema.root.number].object.grid)


class _Counting:
    def __init__(self, schema: Schema, *, stops_early: bool) -> None:
        self.costs = [_FREE] * len(schema.all)
        self._patterns = schema.patterns
        self._stops_early = stops_early
        self._rounds = MAX_ROUNDS
        self._marks: dict[int, _Marking] = {}

    def count(self, group: Sequence[SubSchema]) -> Iterator[None]:
        """Count sub-schemas that apply one another, after all others that they apply; yields between the rounds."""
        if len(group) == 1 and not any(part is group[0] for part in group[0].applied_to_members()):
            self.costs[group[0].number] = self._costs_of(group[0])
            return
        ordered = sorted(group, key=lambda one: one.chain)
        for _ in range(DATA_LEVELS + 1):
            before = [self.costs[one.number] for one in ordered]
            self._marks.clear()
            for one in ordered:
                costs = self._costs_of(one)
                # Grids would need many rounds to settle.
                self.costs[one.number] = _Costs(
                    costs.other, costs.number, costs.text, costs.array.lines_only(), costs.object.lines_only()
                )
                self._rounds -= 1
                if self._rounds < 0:
                    raise BadRuleError("it applies itself in too many ways")
                if self._rounds % NODES_AT_ONCE == 0:
                    yield None
            after = [self.costs[one.number] for one in ordered]
            if before == after or any(_is_endless(costs.object) or _is_endless(costs.array) for costs in after):
                break

    def _costs_of(self, one: SubSchema) -> _Costs:
        reader = _Keywords(one, self._patterns, stops_early=self._stops_early)
        applied = [self.costs[part.number] for part in one.applied()]
        fixed = BASE + reader.fixed()
        kinds = reader.kinds()
        stopped = BASE + 1  # by `type`, which comes first
        return _Costs(
            fixed + sum(costs.other for costs in applied) if "null" in kinds else stopped,
            _added([*reader.number(), *(costs.number for costs in applied)], fixed, 1)
            if "number" in kinds
            else _even(stopped, 1),
            _added([*reader.text(), *(costs.text for costs in applied)], fixed)
            if "string" in kinds
            else _even(stopped),
            _added([*self._of_items(one, reader), *(costs.array for costs in applied)], fixed)
            if "array" in kinds
            else _even(stopped),
            _added([*self._of_members(one, reader), *(costs.object for costs in applied)], fixed)
            if "object" in kinds
            else _even(stopped),
        )

    def _of_items(self, one: SubSchema, reader: "_Keywords") -> Iterator[_Cost]:
        most = reader.limit("maxItems")
        yield from reader.array()
        for keyword in ("items", "contains"):
            for part in one.below.get(keyword, {}).values():
                yield _of_all(self.costs[part.number], 1, _MOST_ITEMS, most)
        for part in one.below.get("unevaluatedItems", {}).values():
            yield self._mark(one).array
            yield _of_all(self.costs[part.number], 1, _MOST_ITEMS, None)
            yield _by([size / 4 for size in _BYTES])
        yield _of_each([(1, self.costs[part.number]) for part in one.below.get("prefixItems", {}).values()])

    def _of_members(self, one: SubSchema, reader: "_Keywords") -> Iterator[_Cost]:
        most = reader.limit("maxProperties")
        members = _MEMBERS if most is None else [min(each, float(most)) for each in _MEMBERS]
        yield from reader.object(members)
        named = one.below.get("properties", {})
        yield _of_each([(len(name.encode()) + 4, self.costs[part.number]) for name, part in named.items()])
        patterned = one.below.get("patternProperties", {})
        for source, part in patterned.items():
            yield self._names(source, members)
            yield _of_all(self.costs[part.number], 4, members, most)
        for part in one.below.get("additionalProperties", {}).values():
            yield _of_all(self.costs[part.number], 4, members, most)
            for source in patterned:
                yield self._names(source, members)
        for part in one.below.get("propertyNames", {}).values():
            yield _of_all(_only_text(self.costs[part.number]), 3, members, most)
        for part in one.below.get("unevaluatedProperties", {}).values():
            yield self._mark(one).object
            yield _of_all(self.costs[part.number], 4, _MEMBERS, None)
            yield _by(_MEMBERS)

    def _names(self, source: str, members: Numbers) -> _Cost:
        pattern = self._patterns[source]
        return _by(
            [
                each + min(size, each * (pattern.max_bytes or size)) * pattern.per_byte
                for each, size in zip(members, _BYTES, strict=True)
            ]
        )

    def _mark(self, one: SubSchema) -> "_Marking":
        """Count how the engine finds out what of a value was evaluated: it applies the parts of a sub-schema again.

        What stands under conditions it may look at once for each of them.
        """
        known = self._marks.get(one.number)
        if known is not None:
            return known
        lists, objects = [_nothing()], [_by(_MEMBERS)]
        objects += [self._names(source, _MEMBERS) for source in one.below.get("patternProperties", {})]
        items = [*one.below.get("contains", {}).values(), *one.below.get("unevaluatedItems", {}).values()]
        lists += [_of_all(self.costs[part.number], 1, _MOST_ITEMS, None) for part in items]
        members = one.below.get("unevaluatedProperties", {}).values()
        objects += [_of_all(self.costs[part.number], 4, _MEMBERS, None) for part in members]
        parts = [(self.costs[part.number], self._mark(part)) for part in one.applied()]
        conditions = sum(marking.conditions for _, marking in parts)
        conditions += "if" in one.below
        conditions += len(one.below.get("dependentSchemas", {}))
        for costs, marking in parts:
            lists += [_times(costs.array, 1 + conditions), marking.array]
            objects += [_times(costs.object, 1 + conditions), marking.object]
        made = self._marks[one.number] = _Marking(_added(lists, 1.0), _added(objects, 1.0), conditions)
        return made


@dataclass(frozen=True, slots=True)
class _Marking:
    """What finding out costs, for a list and for an object; `conditions` that it depends on."""

    array: _Cost
    object: _Cost
    conditions: int


def _is_endless(cost: _Cost) -> bool:
    return min(cost.flat[0], cost.steep[0]) >= ENDLESS or min(cost.flat[1], cost.steep[1]) >= ENDLESS


class _Keywords:
    """What the keywords of a sub-schema cost that apply no others."""

    def __init__(self, one: SubSchema, patterns: Mapping[str, Pattern], *, stops_early: bool) -> None:
        self._one = one
        self._patterns = patterns
        self._stops_early = stops_early
        allowed = one.value_of("enum")
        self._values: list[Any] = [*(allowed if isinstance(allowed, list) else [])]
        if isinstance(one.written, dict) and "const" in one.written:
            self._values.append(one.written["const"])

    def limit(self, keyword: str) -> int | None:
        """Return a limit that spares the keywords after it; None without one."""
        value = self._one.value_of(keyword)
        return int(value) if self._stops_early and isinstance(value, int | float) else None

    def kinds(self) -> frozenset[str]:
        """Return the kinds of value that more than `type` is asked of."""
        named = self._one.value_of("type")
        if named is None or not self._stops_early:
            return _KINDS
        names = named if isinstance(named, list) else [named]
        same = {"integer": "number", "boolean": "null"}
        return frozenset(same.get(name, name) for name in names if isinstance(name, str))

    def fixed(self) -> float:
        """Return what its keywords cost whatever the value is."""
        written = self._one.written
        if not isinstance(written, dict):
            return 0.0 if self._stops_early else float(_TOLD)
        asked = self._asked() * (1 if self._stops_early else _TOLD) + len(self._values) / 8
        return asked + _UNIQUE if written.get("uniqueItems") is True else asked

    def _asked(self) -> int:
        written = self._one.written
        assert isinstance(written, dict)  # noqa: S101 - the caller looked
        return sum(keyword in KEYWORDS for keyword in written)

    def _told(self) -> Iterator[_Cost]:
        """Return what telling adds for a text, a list or an object: it is written out for whatever it does not meet."""
        if self._stops_early:
            return
        asked = self._asked() if isinstance(self._one.written, dict) else 1
        for keyword in ("required", "dependentRequired"):
            named = self._one.value_of(keyword)
            names = named.values() if isinstance(named, dict) else [named]
            asked += sum(len(one) for one in names if isinstance(one, list))
        yield _by([asked * size / 5 for size in _BYTES])

    def number(self) -> Iterator[_Cost]:
        """Return what they cost for a number."""
        for keyword in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"):
            bound = self._one.value_of(keyword)
            if bound is not None:
                yield _COMPARED_WHOLE if isinstance(bound, int) else _COMPARED
        factor = self._one.value_of("multipleOf")
        if isinstance(factor, int):
            yield _DIVIDED_WHOLE
        elif isinstance(factor, float):
            yield _DIVIDED if factor >= _SMALL else _DIVIDED_SMALL
        whole = sum(isinstance(value, int) for value in self._values)
        broken = sum(isinstance(value, float) for value in self._values)
        if whole or broken:
            pairs = zip(_COMPARED_WHOLE.grid, _COMPARED.grid, strict=True)
            yield _by([whole * cheap + broken * dear for cheap, dear in pairs], 1)

    def text(self) -> Iterator[_Cost]:
        """Return what they cost for a text."""
        yield from self._told()
        source = self._one.value_of("pattern")
        if not isinstance(source, str):
            yield _TEXT
            return
        most, pattern = self.limit("maxLength"), self._patterns[source]
        yield _by([size / 64 + pattern.cost(size if most is None else min(size, 4.0 * most)) for size in _BYTES])

    def array(self) -> Iterator[_Cost]:
        """Return what they cost for a list."""
        yield from self._told()
        compared = float(sum(_weight(value) for value in self._values if isinstance(value, list)))
        yield _even(compared)
        if self._one.value_of("uniqueItems") is not True:
            return
        below = self._one.below.get("items", {}).get("")
        kinds = below.value_of("type") if below is not None and "prefixItems" not in self._one.below else None
        names = set(kinds if isinstance(kinds, list) else [kinds])
        if not self._stops_early or not names <= _SCALARS:
            yield _by([2 * size for size in _BYTES])
            return
        most = self.limit("maxItems")
        each = 12 if names == {"string"} else 5
        yield _by([size / each if most is None else min(size / each, most / 2) for size in _BYTES])

    def object(self, members: Numbers) -> Iterator[_Cost]:
        """Return what they cost for an object of so many members at most."""
        yield from self._told()
        fixed = float(sum(_weight(value) for value in self._values if isinstance(value, dict)))
        for keyword in ("required", "properties", "dependentRequired", "dependentSchemas"):
            named = self._one.value_of(keyword)
            fixed += len(named) / 4 if isinstance(named, list | dict) else 0.0
        dependent = self._one.value_of("dependentRequired")
        if isinstance(dependent, dict):
            fixed += sum(len(names) for names in dependent.values() if isinstance(names, list)) / 4
        each = 0.1 * sum(keyword in self._one.below for keyword in ("properties", "additionalProperties"))
        yield _by([fixed + each * many for many in members]) if each else _even(fixed)


_KINDS: Final = frozenset({"null", "number", "string", "array", "object"})
_SCALARS: Final = frozenset({"string", "integer", "number", "boolean", "null"})
_TOLD: Final = 24
"""What telling that a keyword is not met takes: 3 µs, and more the larger the value is."""
_UNIQUE: Final = 24
"""What asking `handlers.rules.unique` takes whatever the value is: 2 µs."""


def _weight(value: object) -> float:
    """Return what comparing with a value costs: of numbers that are not whole, as much as computing with them."""
    total, level = 0.0, [value]
    while level:
        below: list[object] = []
        for one in level:
            total += 30 if isinstance(one, float) else 4 + (len(one) / 64 if isinstance(one, str) else 0)
            if isinstance(one, dict):
                below += one.values()
            elif isinstance(one, list):
                below += one
        level = below
    return total


def _number(*by_size: float) -> _Cost:
    return _by([by_size[min(size, len(by_size)) - 1] for size in SIZES], 1)


# A number of three bytes may have a fraction, one of four or five an exponent: 0.5, 1e40, 1e-40. The engine computes
# with fractions of whole numbers as long as it takes.
_SMALL: Final = 1e-8
_COMPARED_WHOLE: Final = _number(0, 0, 0, 4)
_COMPARED: Final = _number(1, 1, 6, 11, 19)
_DIVIDED_WHOLE: Final = _number(0, 0, 0, 8)
_DIVIDED: Final = _number(4, 4, 10, 21, 27)
_DIVIDED_SMALL: Final = _number(16, 16, 20, 36, 40)
_TEXT: Final = _by([size / 64 for size in _BYTES])
_MOST_ITEMS: Final = [float((size - 1) // 2) for size in SIZES]


def _of_all(costs: _Costs, overhead: int, at_most: Numbers, limit: int | None) -> _Cost:
    """Count what is applied to all members of a value: each has its own bytes and so many more.

    `at_most` members, and no more than `limit`.
    """
    ratio, grid = 0.0, []
    for size, before, cost, most in zip(SIZES, _BEFORE, costs.grid, at_most, strict=True):
        ratio = max(ratio, cost / (before + 1 + overhead))
        grid.append(min(ratio * (size - 1), cost * (most if limit is None else min(most, limit))))
    steep = _dearest_byte(costs, overhead)
    flat = steep, steep
    if limit is not None:
        few = limit * costs.flat[0], costs.flat[1]
        flat = min(flat, few, key=lambda line: line[0] + line[1] * LINE_BYTES)
    return _Cost(grid, flat, (steep, steep)).at_most()


def _of_each(named: Sequence[tuple[int, _Costs]]) -> _Cost:
    """Count what is applied to one member each."""
    if not named:
        return _nothing()
    flat = sum(costs.flat[0] for _, costs in named), max(costs.flat[1] for _, costs in named)
    steep = max(_dearest_byte(costs, overhead) for overhead, costs in named)
    grid: Numbers = [float(sum(column)) for column in zip(*(costs.grid for _, costs in named), strict=True)]
    return _Cost(grid, flat, (steep, steep)).at_most()


def _dearest_byte(costs: _Costs, overhead: int) -> float:
    """Return what a byte of members costs at most."""
    number, text, *holding = costs.kinds
    plain = [cost / (before + 1 + overhead) for cost, before in zip(number.grid, _BEFORE, strict=True)]
    plain += [cost / (before + 1 + overhead) for cost, before in zip(text.grid[1:], _BEFORE[1:], strict=True)]
    lines = (min(one.flat, one.steep, key=_growth) for one in holding)
    return max(*plain, *(max(cost / (2 + overhead), each) for cost, each in lines))


def _only_text(costs: _Costs) -> _Costs:
    return _Costs(0.0, _nothing(1), costs.text, _nothing(), _nothing())
