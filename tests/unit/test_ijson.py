"""Strict reading of bodies: what is refused, how it is named, and that refusing stays cheap."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.ijson import MAX_DEPTH, MAX_SAFE_INTEGER, NotIJsonError, is_deeper_than, read

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-MAX_SAFE_INTEGER, MAX_SAFE_INTEGER)
    | st.floats(allow_nan=False, allow_infinity=False).filter(lambda f: not MAX_SAFE_INTEGER < abs(f) < 1e21)
    | st.text()
)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=30)


@given(VALUES, st.booleans(), st.sampled_from([None, 1]))
def test_reads_what_was_written(value: object, ascii_only: bool, indent: int | None) -> None:
    """Every I-JSON value comes back as it was, however its text is escaped and indented."""
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
    assert read(text.encode()) == value


@given(
    st.binary(max_size=60)
    | st.text(alphabet='{}[]",:\\ue+-.019tfnull \n\ud800', max_size=40).map(
        lambda text: text.encode("utf-8", "surrogatepass")
    )
)
def test_never_raises_anything_else(body: bytes) -> None:
    """Whatever the bytes are, they are read as Python's own parser reads them, or refused with `NotIJsonError`."""
    try:
        value = read(body)
    except NotIJsonError:
        return
    assert value == json.loads(body)


@pytest.mark.parametrize(
    ("body", "reason", "path"),
    [
        (b"", "empty", ""),
        (b" \r\n\t", "empty", ""),
        (b"\xef\xbb\xbf{}", "starts with a byte order mark", ""),
        (b'{"a":1,"a":2}', "the key occurs twice in one object", "a"),
        (b'{"a":1,"\\u0061":2}', "the key occurs twice in one object", "a"),
        (b'{"p":{"a":1,\n"a" : [2]}}', "the key occurs twice in one object", "p.a"),
        (b'[{"a":1},{"b":2,"b":{}}]', "the key occurs twice in one object", "1.b"),
        (b'{"a":NaN}', "NaN and Infinity are no JSON numbers", "a"),
        (b'{"a":[1,Infinity]}', "NaN and Infinity are no JSON numbers", "a.1"),
        (b'{"a":-Infinity}', "NaN and Infinity are no JSON numbers", "a"),
        (b'{"a":{"b":"\xff"}}', "not UTF-8", "a.b"),
        (b'{"a":"\xed\xa0\x80"}', "not UTF-8", "a"),
        (b'{"a":"\\ud800"}', "a lone surrogate", "a"),
        (b'{"a":"\\udc00x"}', "a lone surrogate", "a"),
        (b'{"a":["x\x00"]}', "a control character that is not escaped", "a.0"),
        (b"\x00{}", "not JSON", ""),
        (b"{}\x00", "something follows the JSON value", ""),
        (b"{} {}", "something follows the JSON value", ""),
        (b'{"a":1', "the JSON value ends too early", "a"),
        (b'{"a":[1,2,x]}', "not JSON", "a.2"),
        (b'["]", {"k":x}]', "not JSON", "1.k"),
        (b'{"a":01}', "not JSON", "a"),
        (b'{"a":1,}', "not JSON", ""),
        (b"{'a':1}", "not JSON", ""),
        (b'{"a":{"b":9007199254740992}}', "an integer beyond 2^53 - 1", "a.b"),
        (b'{"a":[0,-9007199254740992]}', "an integer beyond 2^53 - 1", "a.1"),
        (b'{"a":' + b"9" * 400 + b"}", "an integer beyond 2^53 - 1", "a"),
        (b'{"a":' + b"9" * 5000 + b"}", "a number out of range", "a"),
        (b'{"a":9007199254740992.0}', "an integer beyond 2^53 - 1", "a"),
        (b'{"a":[-1E+20]}', "an integer beyond 2^53 - 1", "a.0"),
        (b'{"a":1e309}', "a number beyond the range of a double", "a"),
        (b'{"a":-1E+0309}', "a number beyond the range of a double", "a"),
        (b'{"a":' + b"9" * 309 + b".0}", "a number beyond the range of a double", "a"),
    ],
)
def test_refuses_and_names_the_place(body: bytes, reason: str, path: str) -> None:
    """Each way not to be I-JSON has its own reason, and the place is named where it can be."""
    with pytest.raises(NotIJsonError) as refused:
        read(body)
    assert refused.value.reason.startswith(reason)
    assert refused.value.path == path


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b"9007199254740991", MAX_SAFE_INTEGER),
        (b"-9007199254740991", -MAX_SAFE_INTEGER),
        (b"1.7976931348623157e308", 1.7976931348623157e308),
        (b"1e21", 1e21),
        (b"9007199254740991.0", float(MAX_SAFE_INTEGER)),
        (b"1e-400", 0.0),
        (b'"90071992547409929007199254740992 1e999"', "90071992547409929007199254740992 1e999"),
        (b'"\\ud83d\\ude00"', "\N{GRINNING FACE}"),
        (b'"\\u0000\\uffff"', "\x00\uffff"),
    ],
)
def test_accepts_the_limits(body: bytes, value: object) -> None:
    """The greatest numbers pass, digits in a text are no number, and what a field may hold is the field's business."""
    assert read(body) == value


def test_depth_is_bounded_exactly() -> None:
    """64 levels pass, one more is refused, however many brackets stand beside each other."""
    assert read(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH)
    assert read(b"[" + b"[]," * 5000 + b"[]]")
    with pytest.raises(NotIJsonError, match="nested deeper than 64 levels"):
        read(b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1))
    assert is_deeper_than(1, {"a": []})
    assert not is_deeper_than(2, {"a": [1]})
    assert not is_deeper_than(1, "text")


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 262_144,
        b'{"a":' * 52_000,
        b"[[]," * 65_000,
        b"\n" * 262_000 + b"x",
        b'"' + b"\\u0041" * 43_000 + b"\xff",
        b"[" + b'"",' * 87_000 + b"x]",
        b"[" + b"[]," * 87_000 + b"1e999]",
        b"[" + b"1," * 131_000 + b"9007199254740992]",
    ],
)
def test_the_worst_bodies_are_refused_fast(body: bytes) -> None:
    """A hostile body of the greatest size costs milliseconds (half a second is the bound, for slow machines)."""
    started = time.process_time()
    with pytest.raises(NotIJsonError):
        read(body)
    assert time.process_time() - started < 0.5


def test_a_long_path_is_cut() -> None:
    """The path is made of the sender's keys: it is bounded like everything that goes into a reply."""
    with pytest.raises(NotIJsonError) as refused:
        read(b'{"' + b"k" * 1000 + b'":1e999}')
    assert refused.value.path == "k" * 200
    with pytest.raises(NotIJsonError) as refused:
        read(b'{"' + b"k" * 1000 + b'":x}')
    assert refused.value.path == "k" * 200


def test_the_reason_never_repeats_the_body() -> None:
    """What the parser quotes of the body (a key, here) does not get into the reason."""
    with pytest.raises(NotIJsonError) as refused:
        read(b'{"secret":1,"secret":2}')
    assert "secret" not in refused.value.reason
    assert str(refused.value) == "the key occurs twice in one object (byte 22) (at secret)"
