"""Strict reading of a request body: I-JSON (RFC 7493), and nothing else.

What two parsers may read differently is refused, because the content of a command is compared in canonical form and
answered in any language: duplicate keys, numbers that a double cannot hold, lone surrogates, NaN and Infinity, a byte
order mark, anything but UTF-8. Noncharacters and control characters inside strings are left to the rules of each field
(`contracts.text`), which can name the field.
"""

import math
import re
from collections.abc import Sequence
from itertools import accumulate, islice
from typing import Final

import jiter

from contracts.at_rest import LARGE_BYTES, at_rest

MAX_DEPTH: Final = 64
"""Levels of objects and lists, the outermost being the first: deep enough for any catalogue, far below every stack."""

MAX_SAFE_INTEGER: Final = 2**53 - 1
"""The greatest integer that every JSON implementation holds exactly (RFC 7493, section 2.2)."""

# Finding the place of an error is pure Python: past this many bytes or tokens it is not told, so that a broken body
# of the greatest size costs little more than a good one.
_PLACED_BYTES: Final = 16 * 1024
_PLACED_TOKENS: Final = 8 * 1024
_PATH_CHARS: Final = 200

# Every digit becomes "0" and every opening bracket "{": two searches for fixed bytes then tell whether the body may
# hold a number too long, or be too deep. What they find in a string only costs a second look.
_SHAPE: Final = bytes.maketrans(b"123456789[", b"000000000{")
_LONG_NUMBER: Final = b"0" * len(str(MAX_SAFE_INTEGER))

# Without digits, signs and white space, a double is the only thing in JSON that begins with a "." or an "e". After this
# translation it shows as ":e", or as the first byte.
_DOUBLE_SHAPE: Final = bytes.maketrans(b"[,.E", b"::ee")
_DIGITS_SIGNS_SPACE: Final = b"0123456789-+ \t\r\n"
_WRITTEN_WITH_EXPONENT_FROM: Final = 1e21

_CONTAINERS: Final = frozenset({dict, list})

_STRING: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"')
_TOKEN: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"?|[\[\]{},:]|-?[0-9][0-9.eE+-]*', re.DOTALL)

# In what is left of a body without its strings: numbers of sixteen digits or more, or with an exponent, without sign.
_FAR_NUMBER: Final = re.compile(
    rb"(?<![0-9.])(?:[0-9]{16,}+(?:\.[0-9]++)?+(?:[eE][-+]?[0-9]++)?+|[0-9]++(?:\.[0-9]++)?+[eE][-+]?[0-9]++)"
)
_BETWEEN_NUMBERS: Final = b"[]{}: \t\r\ntrufalsn"  # but for the comma, which is between any two of them
_WHOLE_NUMBER: Final = re.compile(rb"-?[0-9]+")
_TO_BRACKETS: Final = bytes.maketrans(b"{}", b"[]")
_MIDDLE: Final = 92  # "[" is one less, "]" one more
_STRETCH: Final = 64
_NO_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))
_NUMBER_STARTS: Final = b"-0123456789"
_TOO_DEEP: Final = f"nested deeper than {MAX_DEPTH} levels"
_PARSER_POSITION: Final = re.compile(r" at line (\d+) column (\d+)$")
_READABLE: Final = (
    ("Detected duplicate key", "the key occurs twice in one object"),
    ("recursion limit exceeded", _TOO_DEEP),
    ("invalid unicode code point", "not UTF-8"),
    ("unexpected end of hex escape", "a lone surrogate or an incomplete escape"),
    ("lone leading surrogate", "a lone surrogate"),
    ("control character", "a control character that is not escaped"),
    ("number out of range", "a number out of range"),
    ("trailing characters", "something follows the JSON value"),
    ("EOF", "the JSON value ends too early"),
)


class NotIJsonError(ValueError):
    """The bytes are not I-JSON.

    `reason` is fixed text of ours; `path` is the dotted path of the offending place, empty where that is the whole body
    or not known. The path is made of the sender's own keys, and cut to 200 characters.
    """

    def __init__(self, reason: str, path: str = "") -> None:
        """Keep both parts for the reply's details."""
        super().__init__(f"{reason} (at {path})" if path else reason)
        self.reason = reason
        self.path = path


def read(body: bytes) -> object:
    """Return the value that the bytes stand for.

    Raises `NotIJsonError`. Integers come as int, other numbers as finite float, objects as dict in the order sent. The
    canonical form of what was read can be read again.
    """
    try:
        value = _parse(body) if len(body) < LARGE_BYTES else reread(body)
    except ValueError as error:
        raise _explained(body, str(error)) from None
    shape = body.translate(_SHAPE)
    if _LONG_NUMBER in shape or shape.count(b"{") > MAX_DEPTH or may_hold_double(body):
        bare = _STRING.sub(b"", body)
        reason = _TOO_DEEP if _is_too_deep(bare) else next(filter(None, map(_number_offence, _far_numbers(bare))), None)
        if reason:
            raise _offence(body, reason)
    return value


def reread(body: bytes) -> object:
    """Parse bytes that `read` has accepted, as it did, without judging them again. Raises ValueError for others."""
    return at_rest(_parse, body)


def _parse(body: bytes) -> object:
    return jiter.from_json(body, allow_inf_nan=False, catch_duplicate_keys=True)


def may_hold_double(text: bytes) -> bool:
    """Tell whether JSON text holds a number that is no plain integer; in doubt, as for "at 10:15:30.5", it may."""
    shape = text.translate(_DOUBLE_SHAPE, _DIGITS_SIGNS_SPACE)
    return b":e" in shape or shape.startswith(b"e")


def is_deeper_than(levels: int, value: object) -> bool:
    """Tell whether objects and lists are nested in more levels than that.

    It goes level by level, in time proportional to the number of values, as most large bodies are broad and flat.
    """
    level = [value]
    for _ in range(levels):
        level = [
            child
            for node in level
            for child in (node.values() if type(node) is dict else node if type(node) is list else ())
            if type(child) in _CONTAINERS
        ]
        if not level:
            return False
    return True


def _is_too_deep(bare: bytes) -> bool:
    """Tell whether a body without its strings has more levels than are allowed.

    Few stretches of brackets can lead so deep by their number; only those are gone through one by one.
    """
    brackets = bare.translate(_TO_BRACKETS, _NO_BRACKETS).replace(b"[]", b"")  # the innermost level is gone with that
    depth = 1
    for start in range(0, len(brackets), _STRETCH):
        stretch = brackets[start : start + _STRETCH]
        opened = stretch.count(b"[")
        if depth + opened > MAX_DEPTH and max(accumulate(map(_MIDDLE.__sub__, stretch), initial=depth)) > MAX_DEPTH:
            return True
        depth += 2 * opened - len(stretch)
    return False


def _far_numbers(bare: bytes) -> set[bytes]:
    """Find the numbers that others may not be able to hold, without their signs."""
    return set(_FAR_NUMBER.findall(bare.translate(None, _BETWEEN_NUMBERS)))


def _number_offence(number: bytes) -> str | None:
    """Say why others cannot hold a number that the parser lets pass."""
    size = abs(float(number))
    if size <= MAX_SAFE_INTEGER:
        return None
    # The canonical form of a smaller one has no exponent, so that whoever reads that finds an integer.
    if size < _WRITTEN_WITH_EXPONENT_FROM or _WHOLE_NUMBER.fullmatch(number):
        return "an integer beyond 2^53 - 1"
    return "a number beyond the range of a double" if math.isinf(size) else None


def _offence(body: bytes, otherwise: str) -> NotIJsonError:
    """Find the first thing that the parser let pass, and the path to it where that is among the first tokens."""
    path = _Path()
    for match in islice(_TOKEN.finditer(body), _PLACED_TOKENS):
        token = match[0]
        path.feed(token)
        if len(path.places) > MAX_DEPTH:
            return NotIJsonError(_TOO_DEEP, path.outer)
        if token[0] in _NUMBER_STARTS and (reason := _number_offence(token)):
            return NotIJsonError(reason, str(path))
    return NotIJsonError(otherwise)


def _explained(body: bytes, message: str) -> NotIJsonError:
    """Turn the parser's message into a reason of ours and a path; never the bytes that it may quote."""
    position = _PARSER_POSITION.search(message)
    line, column = (int(position[1]), int(position[2])) if position else (1, 0)
    rest = body.split(b"\n", line - 1)[-1]
    offset = len(body) - len(rest) + column
    place = f" (byte {offset})"
    if not body.strip(b" \t\r\n"):
        return NotIJsonError("empty")
    if body.startswith(b"\xef\xbb\xbf"):
        return NotIJsonError("starts with a byte order mark")
    if body[max(offset - 1, 0) :].startswith((b"NaN", b"Infinity")) or body[max(offset - 2, 0) :].startswith(b"-Inf"):
        return NotIJsonError("NaN and Infinity are no JSON numbers" + place, _path_at(body, offset))
    reason = next((ours for theirs, ours in _READABLE if message.startswith(theirs)), "not JSON")
    return NotIJsonError(reason + place, _path_at(body, offset))


def _path_at(body: bytes, offset: int) -> str:
    """Tell the dotted path of the byte counted from 1, reading no more than the first 16 KiB."""
    if offset > _PLACED_BYTES:
        return ""
    path = _Path()
    for match in _TOKEN.finditer(body, 0, offset - 1):
        path.feed(match[0])
    return str(path)


class _Path:
    """The dotted path of a place in a body, which is read token by token."""

    def __init__(self) -> None:
        self.places: list[str | int | None] = []  # of each open container: the key or index that it is at
        self._expects_key = False

    def feed(self, token: bytes) -> None:
        """Go past a token."""
        if token in b"{[":
            self._expects_key = token == b"{"
            self.places.append(None if self._expects_key else 0)
        elif token in b"]}":
            self._expects_key = False
            del self.places[-1:]
        elif token == b"," and self.places:
            here = self.places[-1]
            self._expects_key = not isinstance(here, int)
            self.places[-1] = here + 1 if isinstance(here, int) else None
        elif token != b":" and self._expects_key:
            self.places[-1] = _key_text(token)
            self._expects_key = False

    @property
    def outer(self) -> str:
        """The path of the container that is open."""
        return _dotted(self.places[:-1])

    def __str__(self) -> str:
        """Put it together."""
        return _dotted(self.places)


def _dotted(places: Sequence[str | int | None]) -> str:
    return ".".join(str(place) for place in places if place is not None)[:_PATH_CHARS]


def _key_text(token: bytes) -> str | None:
    """Decode a key as it stands in the body; None where it is broken itself."""
    try:
        key: object = jiter.from_json(token)
    except ValueError:
        return None
    return key if isinstance(key, str) else None
