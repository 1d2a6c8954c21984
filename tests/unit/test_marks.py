"""The mark of a message, by which its id is told from a reused one: it stays the same, however it is made.

`marks.json` holds bodies (each byte as the character of its number) with what commit 3822229 made of them: the mark, or
the code of the refusal. Outcomes that it stored are still there.
"""

import hashlib
import hmac
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import CatalogError
from contracts.ijson import MAX_DEPTH, MAX_SAFE_INTEGER
from tests.unit.test_intake import KEY, an_intake, message

Entry = tuple[str, str, str | None, str | None]
MARKS: Final[Sequence[Entry]] = json.loads((Path(__file__).parent / "marks.json").read_text())

ON_WITH_EXPONENT: Final = 1e21
"""From here on RFC 8785 writes a number with an exponent: nobody takes it for an integer."""
NUMBERS: Final = ("-0", "1E2", "1.0", "0.1e1", "1e400", "9007199254740993", "1e-7", "2e-6", "5e-324", "1e21", "9e15")
INTAKE: Final = an_intake()
STRINGS: Final = (
    '"a"',
    r'"\u0061"',
    '"\u00e9"',
    '"e\u0301"',
    r'"\u00E9"',
    '"\U0001f600"',
    r'"\ud83d\ude00"',
    '"\ufb33"',
    r'"\/\b\u0000"',
    '"1.0 2e-6 [[{{"',
    r'"\ud800"',
    r'"\udc00\ud800"',
)


def mark_of(body: bytes) -> tuple[str | None, str | None]:
    """Give the mark of a body, or the code of its refusal."""
    delivery, identified = INTAKE.take(message(body))
    if identified is None:
        assert delivery.end is not None
        error = getattr(delivery.end, "error", None)
        assert isinstance(error, CatalogError)
        return None, error.error_code
    return INTAKE.seal(identified).hex(), None


def test_marks_are_those_of_the_release() -> None:
    """Odd numbers, texts, keys, nesting: each has the mark, or the refusal, that it had then."""
    assert len(MARKS) > 200
    found = {name: mark_of(body.encode("latin-1")) for name, body, _, _ in MARKS}
    assert found == {name: (mark, code) for name, _, mark, code in MARKS}


@pytest.mark.parametrize("version", ["1.0", "1e0", "10e-1", "0.1e1", "1.00"])
def test_a_version_counts_by_its_value(version: str) -> None:
    """However it is written, it is version 1; commit 3822229 refused all ways but one."""
    body = b'{"kind":"k","version":%s,"payload":{}}'
    assert mark_of(body % version.encode()) == mark_of(body % b"1")


def spelled(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Make lists and objects of JSON texts, with white space and keys that may occur twice."""
    space = st.sampled_from(["", " ", "\n\t"])
    lists = st.builds(lambda parts, blank: "[" + ("," + blank).join(parts) + blank + "]", st.lists(inner), space)
    members = st.tuples(st.sampled_from(STRINGS), inner, space).map(lambda one: f"{one[0]}{one[2]}:{one[2]}{one[1]}")
    return lists | st.lists(members, max_size=4).map(lambda parts: "{" + ",".join(parts) + "}")


NUMBER: Final = st.from_regex(r"-?(0|[1-9][0-9]{0,17})(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?", fullmatch=True)
TEXTS: Final = st.recursive(
    st.sampled_from((*NUMBERS, *STRINGS, "true", "null", "NaN", "01")) | NUMBER.filter(str.isascii),
    spelled,
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(STRINGS), TEXTS, max_size=4))
def test_marks_are_those_of_a_slow_reader(payload: dict[str, str]) -> None:
    """What Python's parser or a rule of I-JSON refuses is refused; all else has the mark of RFC 8785's form."""
    text = "{" + ",".join(f"{key}:{value}" for key, value in payload.items()) + "}"
    try:
        form = rfc8785.dumps(slowly_read(text))  # type: ignore[arg-type]  # JSON types only
    except ValueError:
        expected: tuple[str | None, str | None] = None, "MALFORMED_MESSAGE"
    else:
        expected = hmac.digest(KEY, b"k\n1\n" + form, hashlib.sha256).hex(), None
    assert mark_of(f'{{"kind":"k","payload":{text}}}'.encode()) == expected


def slowly_read(text: str) -> object:
    """Read JSON as Python does, and judge each part by itself; raises ValueError for what is no I-JSON."""
    value = json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse)
    _judge(value, 2)
    return value


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a key occurs twice")
    return dict(pairs)


def _refuse(text: str) -> object:
    raise ValueError(text)


def _judge(value: object, depth: int) -> None:
    if isinstance(value, str):
        value.encode()  # raises for a lone surrogate
    elif isinstance(value, (int, float)):
        if abs(value) > MAX_SAFE_INTEGER and (
            isinstance(value, int) or abs(value) < ON_WITH_EXPONENT or math.isinf(value)
        ):
            raise ValueError("a number that others cannot hold")
    elif isinstance(value, (list, dict)):
        if depth > MAX_DEPTH:
            raise ValueError("too deep")
        for part in (*value, *value.values()) if isinstance(value, dict) else value:
            _judge(part, depth + 1)
