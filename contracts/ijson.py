"""Strict reading of a request body: I-JSON (RFC 7493), and nothing else.

What two parsers may read differently is refused, because the content of a command is compared in canonical form and
answered in any language: duplicate keys, numbers that a double cannot hold, lone surrogates, NaN and Infinity, a byte
order mark, anything but UTF-8. Noncharacters and control characters inside strings are left to the rules of each field
(`contracts.text`), which can name the field.
"""

import math
import re
from typing import Final

import jiter

MAX_DEPTH: Final = 64
"""Levels of objects and lists, the outermost being the first: deep enough for any catalogue, far below every stack."""

MAX_SAFE_INTEGER: Final = 2**53 - 1
"""The greatest integer that every JSON implementation holds exactly (RFC 7493, section 2.2)."""

# Finding the place of an error is pure Python: past this many bytes only the byte's number is told, so that a broken
# body of the greatest size costs little more than a good one.
_PLACED_BYTES: Final = 16 * 1024
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

_TOKEN: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"?|[\[\]{},:]', re.DOTALL)
_PARSER_POSITION: Final = re.compile(r" at line (\d+) column (\d+)$")
_READABLE: Final = (
    ("Detected duplicate key", "the key occurs twice in one object"),
    ("recursion limit exceeded", f"nested deeper than {MAX_DEPTH} levels"),
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
        value: object = jiter.from_json(body, allow_inf_nan=False, catch_duplicate_keys=True)
    except ValueError as error:
        raise _explained(body, str(error)) from None
    shape = body.translate(_SHAPE)
    if (
        _LONG_NUMBER in shape
        or may_hold_double(body)
        or (shape.count(b"{") > MAX_DEPTH and is_deeper_than(MAX_DEPTH, value))
    ):
        offence = _offence(value, MAX_DEPTH)
        if offence is not None:
            reason, parts = offence
            raise NotIJsonError(reason, ".".join(parts)[:_PATH_CHARS])
    return value


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


def _offence(value: object, levels: int) -> tuple[str, tuple[str, ...]] | None:
    """Find what the parser lets pass: too deep, or a number that others cannot hold; the reason and the path to it."""
    if isinstance(value, (dict, list)):
        if levels == 0:
            return f"nested deeper than {MAX_DEPTH} levels", ()
        for key, child in value.items() if isinstance(value, dict) else enumerate(value):
            if type(child) is not str and (offence := _offence(child, levels - 1)) is not None:
                return offence[0], (str(key), *offence[1])
    elif isinstance(value, float):
        if math.isinf(value):
            return "a number beyond the range of a double", ()
        # Its canonical form has no exponent, so that whoever reads that finds an integer.
        if MAX_SAFE_INTEGER < abs(value) < _WRITTEN_WITH_EXPONENT_FROM:
            return "an integer beyond 2^53 - 1", ()
    elif isinstance(value, int) and not -MAX_SAFE_INTEGER <= value <= MAX_SAFE_INTEGER:
        return "an integer beyond 2^53 - 1", ()
    return None


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
    places: list[str | int | None] = []  # of each open container: the key or index that it is at
    expects_key = False
    for match in _TOKEN.finditer(body, 0, offset - 1):
        token = match[0]
        if token in b"{[":
            expects_key = token == b"{"
            places.append(None if expects_key else 0)
        elif token in b"]}":
            expects_key = False
            places = places[:-1]
        elif token == b"," and places:
            here = places[-1]
            expects_key = not isinstance(here, int)
            places[-1] = here + 1 if isinstance(here, int) else None
        elif token != b":" and expects_key:
            places[-1] = _key_text(token)
            expects_key = False
    return ".".join(str(place) for place in places if place is not None)[:_PATH_CHARS]


def _key_text(token: bytes) -> str | None:
    """Decode a key as it stands in the body; None where it is broken itself."""
    try:
        key: object = jiter.from_json(token)
    except ValueError:
        return None
    return key if isinstance(key, str) else None
