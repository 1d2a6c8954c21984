"""The canonical form is that of RFC 8785, whichever way it was made."""

import json
import math
import struct

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from contracts.canonical import canonical
from contracts.ijson import MAX_SAFE_INTEGER, read

# Doubles of every exponent and sign, not only those that people write.
DOUBLES = (
    st.floats(allow_nan=False, allow_infinity=False)
    | st.integers(0, 2**64 - 1).map(lambda bits: struct.unpack("<d", struct.pack("<Q", bits))[0])
    | st.floats(1e-7, 1e-4)
    | st.floats(-1e-5, -1e-6)
).filter(lambda number: math.isfinite(number) and not MAX_SAFE_INTEGER < abs(number) < 1e21)
TEXTS = st.text() | st.sampled_from(
    [
        "\N{GRINNING FACE}",
        "\ufb33",
        "\U0010ffff",
        "\U0010ffff\ue000",
        "\uffff",
        "\x00",
        "\\u0000",
        "1.0",
        "2e-6",
        "\x80",
        "\x7f",
        "\n",
        '"',
        "\\",
        "/",
        ":.5",
        ",1e9",
        "[2.",
    ]
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-MAX_SAFE_INTEGER, MAX_SAFE_INTEGER)
    | DOUBLES
    | st.integers(-10, 10).map(float)
    | TEXTS
)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner), max_leaves=30)


@pytest.mark.parametrize(
    "value",
    [
        {"a": 1e-63, "b": 1.0},
        [1.0, 6.02e-60],
        {"1.0": -9.99e-65},
        ["2e-6", 1e-61],
        [1e-69, 1e-6, 1e-6],
        [1e-6, 1e-60],
        {"x": 1e-63},
        [-1.5e-6, 1.0, "e-6", 2.5e-67],
    ],
    ids=str,
)
def test_exponents_that_begin_alike(value: object) -> None:
    """A number of 1e-60 is none of 1e-6, beside whatever else has to be mended."""
    assert canonical(read(json.dumps(value).encode())) == rfc8785.dumps(value)  # type: ignore[arg-type]


@given(VALUES, st.booleans(), st.sampled_from([None, 1]))
def test_equals_the_reference(value: object, ascii_only: bool, indent: int | None) -> None:
    """For every I-JSON value, in whatever text, the bytes are those of the reference implementation."""
    raw = json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode()
    assert canonical(read(raw)) == rfc8785.dumps(value)  # type: ignore[arg-type]  # JSON types only


@given(st.dictionaries(st.text(), VALUES, min_size=1), st.randoms(use_true_random=False))
def test_is_one_form_of_all_texts(value: dict[str, object], random: object) -> None:
    """The order of keys, escapes and white space change nothing; reading the canonical form gives it again."""
    keys = list(value)
    random.shuffle(keys)  # type: ignore[attr-defined]  # hypothesis' Random has no public type
    plain = json.dumps(value).encode()
    other = json.dumps({key: value[key] for key in keys}, ensure_ascii=False, indent=3).encode()
    form = canonical(read(plain))
    assert canonical(read(other)) == form
    assert canonical(read(form)) == form


KEYS = st.text(st.sampled_from('a\x00\ue000\ufb33\uffff\U00010000\U0001f600\U0010ffff\\"'), max_size=4)


@given(st.recursive(KEYS | DOUBLES, lambda inner: st.dictionaries(KEYS, inner), max_leaves=20))
def test_keys_stand_in_the_order_of_utf_16(value: object) -> None:
    """Keys of every plane, the last character of all among them, are sorted as JavaScript sorts them."""
    assert canonical(value) == rfc8785.dumps(value)  # type: ignore[arg-type]  # JSON types only


@given(DOUBLES)
def test_numbers_as_javascript_writes_them(number: float) -> None:
    """A double is written in its shortest form, and reads back as itself (but for the sign of zero)."""
    raw = json.dumps({"n": number}).encode()
    form = canonical(read(raw))
    assert form == rfc8785.dumps({"n": number})
    assert json.loads(form)["n"] == number


@pytest.mark.parametrize(
    ("raw", "form"),
    [
        (b'{"b": 1.0, "a": -0.0}', b'{"a":0,"b":1}'),
        (
            b"[1E2, 1e21, 1e-7, 0.000001, 0.00001, 333333333.33333329]",
            b"[100,1e+21,1e-7,0.000001,0.00001,333333333.3333333]",
        ),
        (b'{"\\ud83d\\ude00":1,"\\ufb33":2}', '{"\N{GRINNING FACE}":1,"\ufb33":2}'.encode()),
        ('{"\ufb33":2,"\N{GRINNING FACE}":1}'.encode(), '{"\N{GRINNING FACE}":1,"\ufb33":2}'.encode()),
        (b'{"a":"\\u000f\\u000a\\/\\u20ac\\"\\\\"}', '{"a":"\\u000f\\n/€\\"\\\\"}'.encode()),
        (b'[ 56, {"d": true, "10": null, "1": [] } ]', b'[56,{"1":[],"10":null,"d":true}]'),
        (b" 1.0 ", b"1"),
        (b"[2e-6, -1.25E-6, 1e-16, -0.0, 0.0, 10.0, 1.05]", b"[0.000002,-0.00000125,1e-16,0,0,10,1.05]"),
        (b'{"2e-6":"1.0,2e-6]","a":[1.0,"-0.0"]}', b'{"2e-6":"1.0,2e-6]","a":[1,"-0.0"]}'),
        (b'{"a": 2 , "at":"10:15:30.5", "f" : [ 0.5 ]}', b'{"a":2,"at":"10:15:30.5","f":[0.5]}'),
    ],
)
def test_known_forms(raw: bytes, form: bytes) -> None:
    """Examples of RFC 8785 and its corner cases: numbers, escapes, keys beyond the Basic Multilingual Plane."""
    assert canonical(read(raw)) == form


def test_a_part_is_canonical_by_the_text_of_the_whole() -> None:
    """The payload's form may be taken with the body's text, which holds it."""
    raw = b'{"kind": "k", "ratio": 1.5, "payload": {"b": 2, "a": [1.0]}}'
    body = read(raw)
    assert isinstance(body, dict)
    assert canonical(body["payload"]) == b'{"a":[1],"b":2}'


@pytest.mark.parametrize("value", [object(), {1: 2}, "\ud800", 2**53])
def test_what_is_no_json_raises(value: object) -> None:
    """A value that no reader of ours returns is never written in some form or other."""
    with pytest.raises((TypeError, ValueError)):
        canonical(value)
