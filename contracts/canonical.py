"""The canonical form of a JSON value: RFC 8785 (JCS).

Two texts of the same content have the same canonical bytes, whatever the order of their keys, their escapes and their
white space: on it rests that a repeated message id is told from a reused one.
"""

import re
from typing import Final

import orjson

_OPTIONS: Final = orjson.OPT_SORT_KEYS | orjson.OPT_STRICT_INTEGER

# orjson's sorted output is canonical but for the order of some keys and the form of some numbers. Both are mended in
# its text, in few passes over the whole of it: going through the value in Python would take 100 ns for each of its
# parts, of which the largest body has a hundred thousand.

_STRING: Final = re.compile(rb'("[^"\\]*(?:\\.[^"\\]*)*")')

# RFC 8785 sorts keys by UTF-16, orjson by code point: the two differ where one key has a character beyond the Basic
# Multilingual Plane (four bytes) and another one from U+E000 on (its first byte is EE or EF).
_FOUR_BYTES: Final = re.compile(rb"[\xf0-\xf4]")
_LAST: Final = "\U0010ffff".encode()

# Numbers that JavaScript writes otherwise: whole ones without ".0", and those of 0.00000d without an exponent.
_OTHERWISE: Final = re.compile(rb"[0-9](?:\.0|e-6)(?![0-9])")
_WHOLE: Final = re.compile(rb"\.0(?![0-9])")
_MINUS_ZERO: Final = re.compile(rb"-0(?![0-9.])")
_TINY: Final = re.compile(rb"([0-9](?:\.[0-9]+)?)e-6(?![0-9])")


def canonical(value: object) -> bytes:
    """Return the canonical bytes of a value that `contracts.ijson.read` returned, or of a part of one.

    Raises TypeError for what is no I-JSON.
    """
    text = orjson.dumps(value, option=_OPTIONS)
    if not text.isascii() and (b"\xee" in text or b"\xef" in text) and _FOUR_BYTES.search(text):
        text = _in_order_of_utf_16(text)
    if (b".0" in text or b"e-6" in text) and _OTHERWISE.search(text):
        text = _with_numbers_of_javascript(text)
    return text


def _in_order_of_utf_16(text: bytes) -> bytes:
    """Sort the keys anew, while the characters from U+E000 on stand behind all others.

    That they do where each has the last character of all before it, which is followed by NUL where it stood already.
    """
    behind = text.replace(_LAST, _LAST + b"\\u0000")
    for lead in (b"\xee", b"\xef"):
        behind = behind.replace(lead, _LAST + lead)
    ordered = orjson.dumps(orjson.loads(behind), option=_OPTIONS)
    for lead in (b"\xee", b"\xef"):
        ordered = ordered.replace(_LAST + lead, lead)
    return ordered.replace(_LAST + b"\\u0000", _LAST)


def _with_numbers_of_javascript(text: bytes) -> bytes:
    """Mend the numbers, which are all that has digits outside of strings."""
    parts = _STRING.split(text)  # every second one is a string
    between = _MINUS_ZERO.sub(b"0", _WHOLE.sub(b"", b"\0".join(parts[::2])))
    pieces = _TINY.split(between)  # every second one is a number, without its exponent
    if len(pieces) > 1:
        digits = b"\0".join(pieces[1::2]).replace(b".", b"")
        pieces[1::2] = (b"0.00000" + digits.replace(b"\0", b"\x000.00000")).split(b"\0")
        between = b"".join(pieces)
    parts[::2] = between.split(b"\0")
    return b"".join(parts)
