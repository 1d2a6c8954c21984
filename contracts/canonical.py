"""The canonical form of a JSON value: RFC 8785 (JCS).

Two texts of the same content have the same canonical bytes, whatever the order of their keys, their escapes and their
white space: on it rests that a repeated message id is told from a reused one.
"""

from typing import Final

import orjson
import rfc8785

from contracts.ijson import may_hold_double

_OPTIONS: Final = orjson.OPT_SORT_KEYS | orjson.OPT_STRICT_INTEGER

# orjson's sorted output is canonical but for two things: some doubles (1.0, 1e16, 1e-05), and the order of keys that
# hold a character beyond the Basic Multilingual Plane (RFC 8785 sorts by UTF-16); such a character is not ASCII, or is
# written as an escape.
_LAST_OF_PLANE: Final = "\uffff"

# A double that is no whole number is written alike by orjson and RFC 8785 from here on: without an exponent.
_PLAIN_FROM: Final = 1e-4


def canonical(value: object, raw: bytes) -> bytes:
    """Return the canonical bytes of a value that `contracts.ijson.read` returned, or of a part of one.

    `raw` is the JSON text that the value was read from, or any that holds it: it is only searched for what needs
    more care than sorting. Raises TypeError or ValueError for what is no I-JSON.
    """
    if (may_hold_double(raw) or b"\\" in raw or not raw.isascii()) and _is_special(value):
        return rfc8785.dumps(value)  # type: ignore[arg-type]  # it was read from JSON, or this raises
    return orjson.dumps(value, option=_OPTIONS)


def _is_special(value: object) -> bool:
    """Tell whether orjson's form of the value may differ from the canonical one."""
    if isinstance(value, float):
        return value.is_integer() or abs(value) < _PLAIN_FROM
    if isinstance(value, dict):
        return any((not key.isascii() and max(key) > _LAST_OF_PLANE) or _is_special(v) for key, v in value.items())
    if isinstance(value, list):
        return any(map(_is_special, value))
    return False
