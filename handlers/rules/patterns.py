"""Patterns: read as ECMA 262 reads them with the flag u, by a grammar of our own; what that does not know is refused.

A pattern is written anew for the engine, from its parts: nothing of what was sent reaches the engine unread. How much a
match can cost follows from the parts as well: from how many states the engine's automaton can come to have, and from
how much of a text it can go through.
"""

import re
import string
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

MAX_LENGTH: Final = 200
MAX_SIZE: Final = 2_000
"""Of one pattern written out without its repetitions. Compiling a piece takes up to 8 µs."""
MAX_GROUP_DEPTH: Final = 20
FEW_STATES: Final = 256
"""So many states of an automaton are made once, and kept; where more can come up each may be made for one text."""
AUTOMATON_STEPS: Final = 20_000
"""How far one pattern is gone through to find out, about 6 ms; one that takes more has many states."""

_LAST: Final = 0x10FFFF
_UNIT: Final = 0.07
"""What a byte of text costs by an automaton that is made already: 5 ns."""
_MADE: Final = 9.0
"""What it costs where a state has to be made for it, …"""
_MADE_PIECE: Final = 0.1
"""… and for each piece that the state may hold."""
_PROPERTY_SIZE: Final = 40
"""A class of Unicode's compiles to as much as so many pieces."""

Ranges = tuple[tuple[int, int], ...]

_DIGIT: Final[Ranges] = ((0x30, 0x39),)
_WORD: Final[Ranges] = ((0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A))
_SPACE: Final[Ranges] = (
    (0x09, 0x0D),
    (0x20, 0x20),
    (0xA0, 0xA0),
    (0x1680, 0x1680),
    (0x2000, 0x200A),
    (0x2028, 0x2029),
    (0x202F, 0x202F),
    (0x205F, 0x205F),
    (0x3000, 0x3000),
    (0xFEFF, 0xFEFF),
)
_LINE_END: Final[Ranges] = ((0x0A, 0x0A), (0x0D, 0x0D), (0x2028, 0x2029))
_CLASSES: Final = {"d": _DIGIT, "w": _WORD, "s": _SPACE}
_CONTROLS: Final = {"f": 0x0C, "n": 0x0A, "r": 0x0D, "t": 0x09, "v": 0x0B}
_HIGH_HALVES: Final = range(0xD800, 0xDC00)
_LOW_HALVES: Final = range(0xDC00, 0xE000)
_SYNTAX: Final = frozenset("^$\\.*+?()[]{}|/")
_PLAIN_ESCAPES: Final = _SYNTAX | frozenset("-@#%&,;:=!\"'~ ")
"""What may be escaped for nothing: no dialect gives these another meaning."""
_SET_OPERATIONS: Final = ("&&", "--", "~~")
_CATEGORIES: Final = frozenset(
    """
    C Cc Cf Cn Co L LC Ll Lm Lo Lt Lu M Mc Me Mn N Nd Nl No P Pc Pd Pe Pf Pi Po Ps S Sc Sk Sm So Z Zl Zp Zs
    Letter Lowercase_Letter Uppercase_Letter Titlecase_Letter Mark Number Decimal_Number Punctuation Symbol
    Currency_Symbol Math_Symbol Separator Space_Separator Alphabetic Uppercase Lowercase White_Space
    """.split()  # noqa: SIM905 - a table reads better than eighty literals
)
_SCRIPT: Final = re.compile(r"(?:Script|sc|Script_Extensions|scx)=([A-Z][A-Za-z]+(?:_[A-Z][A-Za-z]+)*)")
_CATEGORY: Final = re.compile(r"(?:General_Category|gc)=([A-Za-z_]+)")
_GROUP_NAME: Final = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]*")
_COUNTS: Final = re.compile(r"\{([0-9]{1,6})(,([0-9]{1,6})?)?\}")


class Effort:
    """How many steps may still be spent on finding out how many states patterns have; shared by those of a product."""

    def __init__(self, steps: int = 100_000) -> None:
        self.left = steps


class BadPatternError(Exception):
    """The text is no pattern of the dialect, or one that is not supported; the text says why."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """A pattern as the engine gets it.

    `size`: its pieces, written out without repetitions, each weighed by what compiling it takes. `max_bytes`: how much
    of a text decides, None for all. `per_byte`: what a byte of text can cost, in units of `handlers.rules.counting`.
    """

    engine: str
    size: int
    max_bytes: int | None
    per_byte: float

    def cost(self, text_bytes: float) -> float:
        """Return what matching a text of that length costs at most."""
        read = text_bytes if self.max_bytes is None else min(text_bytes, self.max_bytes)
        return 1 + read * self.per_byte


def read_pattern(source: str, effort: Effort) -> Pattern:
    """Read a pattern. Raises `BadPatternError`."""
    if len(source) > MAX_LENGTH:
        raise BadPatternError(f"is longer than {MAX_LENGTH} characters")
    tree = _Reader(source).read()
    if tree.size > MAX_SIZE:
        raise BadPatternError("is too large (a counted repetition?)")
    longest = tree.longest if tree.anchored else None
    max_bytes = None if longest is None else 4 * (longest + 1)
    automaton = _Automaton(tree)
    many = not automaton.has_few_states(effort)
    per_byte = _MADE + _MADE_PIECE * automaton.pieces if many else _UNIT
    return Pattern(f"(?:{tree.engine})", tree.size, max_bytes, per_byte)


# What a pattern consists of ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Tree:
    """A part of a pattern. `longest`: characters that it can match, None without end."""

    engine: str
    size: int = 0
    longest: int | None = 0
    anchored: bool = False
    is_assertion: bool = False
    ranges: Ranges | None = None
    """Of a single character; empty ones match nothing."""
    parts: Sequence["_Tree"] = ()
    one_of: bool = False
    repeats: tuple[int, int | None] | None = None


def _one(ranges: Ranges, engine: str | None = None, size: int = 1) -> _Tree:
    return _Tree(engine or _class_text(ranges), size=size, longest=1, ranges=ranges)


def _sequence(parts: Sequence[_Tree]) -> _Tree:
    if len(parts) == 1:
        return parts[0]
    lengths = [part.longest for part in parts]
    return _Tree(
        "".join(part.engine for part in parts),
        size=sum(part.size for part in parts),
        longest=None if None in lengths else sum(length or 0 for length in lengths),
        anchored=bool(parts) and parts[0].anchored,
        parts=parts,
    )


def _alternation(parts: Sequence[_Tree]) -> _Tree:
    if len(parts) == 1:
        return parts[0]
    lengths = [part.longest for part in parts]
    return _Tree(
        "|".join(part.engine for part in parts),
        size=sum(part.size for part in parts) + 1,
        longest=None if None in lengths else max(length or 0 for length in lengths),
        anchored=all(part.anchored for part in parts),
        parts=parts,
        one_of=True,
    )


def _repetition(part: _Tree, least: int, most: int | None, text: str) -> _Tree:
    if part.longest == 0:
        longest: int | None = 0
    elif most is None or part.longest is None:
        longest = None if most != 0 else 0
    else:
        longest = part.longest * most
    return _Tree(
        f"(?:{part.engine}){text}",
        size=(part.size + 1) * max(1, least + 1 if most is None else most),
        longest=longest,
        anchored=part.anchored and least > 0,
        parts=(part,),
        repeats=(least, most),
    )


def _class_text(ranges: Ranges) -> str:
    if not ranges:
        return rf"[^\x{{0}}-\x{{{_LAST:X}}}]"
    return "[" + "".join(rf"\x{{{first:X}}}-\x{{{last:X}}}" for first, last in ranges) + "]"


def _union(ranges: Sequence[tuple[int, int]]) -> Ranges:
    joined: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(last, joined[-1][1]))
        else:
            joined.append((first, last))
    return tuple(joined)


def _without(ranges: Ranges) -> Ranges:
    rest, start = [], 0
    for first, last in ranges:
        if start < first:
            rest.append((start, first - 1))
        start = last + 1
    return (*rest, (start, _LAST)) if start <= _LAST else tuple(rest)


# Reading -------------------------------------------------------------------------------------------------------------


class _Reader:
    """Reads a pattern by the grammar `Pattern[+UnicodeMode, +NamedCaptureGroups]` of ECMA 262, without look-around."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._at = 0
        self._names: set[str] = set()

    def read(self) -> _Tree:
        tree = self._disjunction(0)
        if self._at < len(self._source):
            raise BadPatternError("is not supported: it has a ')' without its '('")
        return tree

    def _next(self) -> str:
        return self._source[self._at : self._at + 1]

    def _takes(self, text: str) -> bool:
        if not self._source.startswith(text, self._at):
            return False
        self._at += len(text)
        return True

    def _disjunction(self, depth: int) -> _Tree:
        if depth > MAX_GROUP_DEPTH:
            raise BadPatternError(f"is not supported: it has groups nested deeper than {MAX_GROUP_DEPTH} levels")
        ones = [self._alternative(depth)]
        while self._takes("|"):
            ones.append(self._alternative(depth))
        return _alternation(ones)

    def _alternative(self, depth: int) -> _Tree:
        terms: list[_Tree] = []
        while self._next() not in {"", "|", ")"}:
            terms.append(self._term(depth))
        return _sequence(terms) if terms else _Tree("")

    def _term(self, depth: int) -> _Tree:
        atom = self._atom(depth)
        counts = self._quantifier()
        if counts is None:
            return atom
        if atom.is_assertion:
            raise BadPatternError("is not supported: it repeats an assertion")
        least, most, text = counts
        if most is not None and most < least:
            raise BadPatternError("is not supported: it has a repetition whose numbers are out of order")
        if max(least, most or 0) > MAX_SIZE:
            raise BadPatternError("is too large (a counted repetition?)")
        tree = _repetition(atom, least, most, text)
        if tree.size > MAX_SIZE:
            raise BadPatternError("is too large (a counted repetition?)")
        return tree

    def _quantifier(self) -> tuple[int, int | None, str] | None:
        sign = self._next()
        if sign in {"*", "+", "?"} and sign:
            self._at += 1
            least, most = {"*": (0, None), "+": (1, None), "?": (0, 1)}[sign]
            text = sign
        elif sign == "{":
            counts = _COUNTS.match(self._source, self._at)
            if counts is None:
                raise BadPatternError(
                    "is not supported: it has a '{' that begins no repetition (a brace itself is '\\{')"
                )
            self._at = counts.end()
            least = int(counts[1])
            most = least if counts[2] is None else int(counts[3]) if counts[3] else None
            text = f"{{{least}}}" if most == least else f"{{{least},{'' if most is None else most}}}"
        else:
            return None
        self._takes("?")  # lazy: whether there is a match is the same
        if self._next() in {"*", "+", "?"} and self._next():
            raise BadPatternError("is not supported: it repeats a repetition, or is possessive")
        return least, most, text

    def _atom(self, depth: int) -> _Tree:
        sign = self._next()
        self._at += 1
        match sign:
            case "^":
                return _Tree("^", anchored=True, is_assertion=True)
            case "$":
                return _Tree("$", is_assertion=True)
            case ".":
                return _one(_without(_LINE_END), size=4)
            case "(":
                return self._group(depth)
            case "[":
                return self._class()
            case "\\":
                return self._escape()
            case "*" | "+" | "?" | "{":
                raise BadPatternError("is not supported: it has a repetition of nothing")
            case "]" | "}":
                raise BadPatternError(
                    f"is not supported: it has a '{sign}' that ends nothing (itself it is '\\{sign}')"
                )
            case _:
                return _one(_single(ord(sign)))

    def _group(self, depth: int) -> _Tree:
        if self._takes("?"):
            if self._takes("<") and self._next() not in {"=", "!"}:
                name = _GROUP_NAME.match(self._source, self._at)
                if name is None or not self._source.startswith(">", name.end()) or name[0] in self._names:
                    raise BadPatternError("is not supported: it has a group whose name is none, or is used before")
                self._names.add(name[0])
                self._at = name.end() + 1
            elif not self._takes(":"):
                raise BadPatternError("is not supported (look-around?)")
        inner = self._disjunction(depth + 1)
        if not self._takes(")"):
            raise BadPatternError("is not supported: it has a '(' without its ')'")
        return _Tree(f"(?:{inner.engine})", inner.size, inner.longest, inner.anchored, parts=(inner,))

    def _escape(self) -> _Tree:
        sign = self._next()
        if sign in {"b", "B"} and sign:
            self._at += 1
            return _Tree(rf"(?-u:\{sign})", size=1, is_assertion=True)
        if (named := self._class_escape()) is not None:
            ranges, text = named
            return _one(ranges, text and f"[{text}]", size=_PROPERTY_SIZE if text else 1 + len(ranges) // 4)
        return _one(_single(self._character_escape()))

    def _class_escape(self) -> tuple[Ranges, str] | None:
        """Read what stands for a class, after the backslash: its ranges, and the engine's text for one of Unicode."""
        sign = self._next()
        if sign and sign in "dDwWsS":
            self._at += 1
            ranges = _CLASSES[sign.lower()]
            return (ranges if sign.islower() else _without(ranges)), ""
        if sign and sign in "pP":
            end = self._source.find("}", self._at)
            if not self._source.startswith("{", self._at + 1) or end < 0:
                raise BadPatternError(f"is not supported: it has a '\\{sign}' without a property in braces")
            name = self._source[self._at + 2 : end]
            category = _CATEGORY.fullmatch(name)
            if (category[1] if category else name) not in _CATEGORIES and not _SCRIPT.fullmatch(name):
                raise BadPatternError("is not supported: it names a Unicode property that is not known here")
            self._at = end + 1
            return ((0, _LAST),), rf"\{sign}{{{category[1] if category else name}}}"
        return None

    def _character_escape(self) -> int:
        sign = self._next()
        self._at += 1
        if sign in _CONTROLS:
            return _CONTROLS[sign]
        match sign:
            case "c" if self._next() in string.ascii_letters and self._next():
                self._at += 1
                return ord(self._source[self._at - 1]) % 32
            case "0" if not self._next().isdigit():
                return 0
            case "x":
                return self._hex(2)
            case "u":
                return self._unicode()
            case _ if sign and sign in _PLAIN_ESCAPES:
                return ord(sign)
            case _ if sign and sign in "123456789k":
                raise BadPatternError("is not supported (look-around?)")
            case _:
                pass
        raise BadPatternError(f"is not supported: it has the escape '\\{sign}' of another dialect")

    def _unicode(self) -> int:
        if self._takes("{"):
            end = self._source.find("}", self._at)
            digits = self._source[self._at : max(end, self._at)]
            if not digits or set(digits) - set(string.hexdigits) or int(digits, 16) > _LAST:
                raise BadPatternError("is not supported: it has a '\\u{…}' that is no character")
            self._at = end + 1
            return _character(int(digits, 16))
        code = self._hex(4)
        if code in _HIGH_HALVES and self._takes("\\u"):
            low = self._hex(4)
            if low not in _LOW_HALVES:
                raise BadPatternError("is not supported: it has a half of a character")
            return 0x10000 + ((code - _HIGH_HALVES.start) << 10) + low - _LOW_HALVES.start
        return _character(code)

    def _hex(self, length: int) -> int:
        digits = self._source[self._at : self._at + length]
        if len(digits) < length or set(digits) - set(string.hexdigits):
            raise BadPatternError(f"is not supported: it has an escape without its {length} hexadecimal digits")
        self._at += length
        return int(digits, 16)

    # Classes -------------------------------------------------------------------------------------------------------
    def _class(self) -> _Tree:
        negated = self._takes("^")
        ranges: list[tuple[int, int]] = []
        named: list[str] = []
        while not self._takes("]"):
            if self._source.startswith(_SET_OPERATIONS, self._at):
                raise BadPatternError("is not supported: it has a set operation in a class")
            first = self._class_atom(named, ranges)
            if not self._source.startswith("-", self._at) or self._source.startswith("-]", self._at):
                if first is not None:
                    ranges.append((first, first))
                continue
            if self._source.startswith(_SET_OPERATIONS, self._at):
                raise BadPatternError("is not supported: it has a set operation in a class")
            self._at += 1
            last = self._class_atom(named, ranges)
            if first is None or last is None:
                raise BadPatternError("is not supported: it has a range from or to a class")
            if last < first:
                raise BadPatternError("is not supported: it has a range that is out of order")
            ranges.append((first, last))
        joined = _union(ranges)
        if named:
            inner = "".join(named) + (_class_text(joined)[1:-1] if joined else "")
            return _one(
                ((0, _LAST),), f"[{'^' if negated else ''}{inner}]", size=_PROPERTY_SIZE * len(named) + len(joined)
            )
        if negated:
            joined = _without(joined)
        far = any(last > 0x7F for _, last in joined)  # noqa: PLR2004 - what takes more than a byte
        return _one(joined, size=1 + len(joined) // 4 + 3 * far)

    def _class_atom(self, named: list[str], ranges: list[tuple[int, int]]) -> int | None:
        """Read one member of a class: a character, or None for a class, which is added to the others."""
        sign = self._next()
        self._at += 1
        if not sign:
            raise BadPatternError("is not supported: it has a '[' without its ']'")
        if sign == "[":
            raise BadPatternError(
                "is not supported: it has a '[' in a class, which dialects read differently (itself it is '\\[')"
            )
        if sign != "\\":
            return _character(ord(sign))
        if self._takes("b"):
            return 0x08
        if (found := self._class_escape()) is not None:
            if found[1]:
                named.append(found[1])
            else:
                ranges.extend(found[0])
            return None
        return self._character_escape()


def _single(code: int) -> Ranges:
    return ((_character(code), code),)


def _character(code: int) -> int:
    if code in _HIGH_HALVES or code in _LOW_HALVES:
        raise BadPatternError("is not supported: it has a half of a character")
    return code


# How many states an automaton has ------------------------------------------------------------------------------------


class _Automaton:
    """The pattern's positions, and which can follow which; a set of positions is a number's bits."""

    def __init__(self, tree: _Tree) -> None:
        self._ranges: list[Ranges] = []
        self._follow: list[int] = []
        first, _, _ = self._lay_out(tree)
        self._first = first
        self._anchored = tree.anchored
        self.pieces = len(self._ranges)

    def _lay_out(self, tree: _Tree) -> tuple[int, int, bool]:
        """Lay a part out: the positions that it can begin with and end with, and whether it can be empty."""
        if tree.ranges is not None:
            self._ranges.append(tree.ranges)
            self._follow.append(0)
            bit = 1 << (len(self._ranges) - 1)
            return bit, bit, False
        if tree.repeats is not None:
            return self._lay_out_copies(tree.parts[0], *tree.repeats)
        if tree.one_of:
            laid = [self._lay_out(part) for part in tree.parts]
            return _joined(one[0] for one in laid), _joined(one[1] for one in laid), any(one[2] for one in laid)
        first, last, empty = 0, 0, True
        for part in tree.parts:
            first, last, empty = self._after((first, last, empty), self._lay_out(part))
        return first, last, empty

    def _lay_out_copies(self, part: _Tree, least: int, most: int | None) -> tuple[int, int, bool]:
        first, last, empty = 0, 0, True
        for number in range(max(least, 1) if most is None else most):
            copy_first, copy_last, copy_empty = self._lay_out(part)
            if most is None and number >= least - 1:
                self._connect(copy_last, copy_first)
            optional = number >= least
            first, last, empty = self._after((first, last, empty), (copy_first, copy_last, copy_empty or optional))
        return first, last, empty

    def _after(self, before: tuple[int, int, bool], then: tuple[int, int, bool]) -> tuple[int, int, bool]:
        first, last, empty = before
        self._connect(last, then[0])
        return first | (then[0] if empty else 0), then[1] | (last if then[2] else 0), empty and then[2]

    def _connect(self, before: int, after: int) -> None:
        for position in _bits(before):
            self._follow[position] |= after

    def has_few_states(self, effort: Effort) -> bool:
        """Tell whether there are at most `FEW_STATES`; a pattern that is gone through too long has more."""
        kinds = self._kinds()
        left = most = min(AUTOMATON_STEPS, effort.left)
        seen, open_states = {self._first}, [self._first]
        while open_states and len(seen) <= FEW_STATES and left > 0:
            state = open_states.pop()
            for members in kinds:
                here = state & members
                left -= 1 + here.bit_count()
                following = _joined(self._follow[position] for position in _bits(here))
                if not self._anchored:
                    following |= self._first
                if following not in seen:
                    seen.add(following)
                    open_states.append(following)
        effort.left -= most - left
        return not open_states

    def _kinds(self) -> list[int]:
        """Tell characters apart by the positions that take them: of each kind, those positions."""
        places: dict[Ranges, int] = {}
        for position, ranges in enumerate(self._ranges):
            places[ranges] = places.get(ranges, 0) | 1 << position
        events: dict[int, int] = {}
        for ranges, positions in places.items():
            for first, last in ranges:
                events[first] = events.get(first, 0) ^ positions
                events[last + 1] = events.get(last + 1, 0) ^ positions
        kinds, here = set(), 0
        for code in sorted(events):
            here ^= events[code]
            kinds.add(here)
        return list(kinds)


def _joined(sets: Iterator[int]) -> int:
    joined = 0
    for one in sets:
        joined |= one
    return joined


def _bits(positions: int) -> Iterator[int]:
    while positions:
        lowest = positions & -positions
        yield lowest.bit_length() - 1
        positions ^= lowest
