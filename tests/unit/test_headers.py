"""The headers of a message: judged by their values, however often their names were seen before."""

from collections.abc import Sequence
from typing import Final

import pytest

from contracts.codec import Headers, UnreadableRecord, read_headers
from contracts.topics import Topics
from tests.direct import Arrived
from workers.pipeline.signature import Header

GOOD: Final[Sequence[Header]] = (
    ("message_id", b"m"),
    ("correlation_id", b"c"),
    ("reply_to", b"t.replies.a"),
    ("authorization", b"Bearer a.b.c"),
    ("deadline", b"17"),
    ("content-type", b"application/json"),
)


def read(headers: Sequence[Header], key: bytes | None = None) -> Headers:
    """Read the headers of a record."""
    return read_headers(Arrived("t.commands", 0, 0, 0, key, None, headers), Topics("t"))


def with_value(name: str, value: bytes | None) -> list[Header]:
    """Give one of the good headers another value."""
    return [(each, value if each == name else content) for each, content in GOOD]


@pytest.mark.parametrize(
    ("headers", "told"),
    [
        (with_value("message_id", b""), ("message_id", "not 1-128 printable ASCII characters")),
        (with_value("message_id", b"m" * 129), ("message_id", "not 1-128 printable ASCII characters")),
        (with_value("correlation_id", b"c\n"), ("correlation_id", "not 1-128 printable ASCII characters")),
        (with_value("correlation_id", b"\x7f"), ("correlation_id", "not 1-128 printable ASCII characters")),
        (with_value("correlation_id", None), ("correlation_id", "null")),
        (with_value("authorization", b"\xc3\xa9"), ("authorization", "not ASCII")),
        (with_value("authorization", None), ("authorization", "null")),
        (with_value("deadline", b"-1"), ("deadline", "not a time in milliseconds since the epoch")),
        (with_value("deadline", b"1" * 16), ("deadline", "not a time in milliseconds since the epoch")),
        (with_value("deadline", None), ("deadline", "null")),
        (with_value("content-type", b"text/plain"), ("content-type", "not application/json")),
        (with_value("content-type", None), ("content-type", "null")),
        ([*GOOD, ("deadline", b"17")], ("deadline", "repeated")),
        ([*GOOD, ("message_id", b"m")], ("message_id", "repeated")),
        ([("authorization", b"x"), *GOOD], ("authorization", "repeated")),
    ],
)
def test_what_is_wrong_is_named(headers: Sequence[Header], told: tuple[str, str]) -> None:
    """The header and the reason are told; a good record of the same names before it is read."""
    for _ in range(2):
        assert read(GOOD).fault is None
        fault = read(headers).fault
        assert fault is not None
        assert fault.details == dict(zip(("header", "reason"), told, strict=True))


def test_good_ones_are_read() -> None:
    """Each is found wherever it stands, among those of others, and without it the message_id is the correlation_id."""
    for order in (GOOD, GOOD[::-1], [("x", None), *GOOD, ("y", b"1")]):
        found = read(order)
        assert (found.message_id, found.correlation_id, found.reply_to) == ("m", "c", "t.replies.a")
        assert (found.authorization, found.deadline_ms, found.fault) == (b"Bearer a.b.c", 17, None)
    assert read(GOOD[:1]).correlation_id == "m"
    assert read(()) == Headers()


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ([None], "reply_to is null"),
        ([b"t.replies."], "reply_to is no topic t.replies.<name>"),
        ([b"other"], "reply_to is no topic t.replies.<name>"),
        ([b"t.replies.\xff"], "reply_to is no topic t.replies.<name>"),
        ([b"t.replies.a", b"t.replies.a"], "reply_to is repeated"),
        ([b"(absent)\0"], "reply_to is no topic t.replies.<name>"),
    ],
)
def test_where_nobody_can_be_answered(value: Sequence[bytes | None], why: str) -> None:
    """A reply_to that cannot be used says why."""
    found = read([("message_id", b"m"), *(("reply_to", one) for one in value)])
    assert (found.reply_to, found.reply_to_fault) == (None, why)


@pytest.mark.parametrize(
    ("headers", "key", "details"),
    [
        ([("x", b"1" * 16_384)], None, {"header_bytes": 16_385, "limit_bytes": 16_384}),
        ([("é" * 8_193, None)], None, {"header_bytes": 16_386, "limit_bytes": 16_384}),
        ([("x", b"1" * 8_000)] * 3, None, {"header_bytes": 24_003, "limit_bytes": 16_384}),
        ([("x", None)] * 101, None, {"header_count": 101, "limit_count": 100}),
        ([], b"k" * 1025, {"key_bytes": 1025, "limit_bytes": 1024}),
    ],
)
def test_too_large(headers: Sequence[Header], key: bytes | None, details: dict[str, int]) -> None:
    """Names count in bytes, repeated headers each time; the limit is told."""
    for _ in range(2):
        fault = read([*headers], key).fault
        assert fault is not None
        assert fault.details == details


def test_names_that_are_no_text() -> None:
    """Which they are is told in hex, of each record that has them."""
    for _ in range(2):
        with pytest.raises(UnreadableRecord, match=r"not UTF-8: ff61, fe$"):
            read([("\udcffa", b"1"), ("\udcfe", None), ("good", b"")])


def test_a_broken_trace_costs_nothing() -> None:
    """Where either of its two headers is repeated there is no trace; the message is as good as any."""
    traceparent = b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01"
    state: Header = ("tracestate", b"a=1")
    found = read([*GOOD, ("traceparent", traceparent), state])
    assert (found.traceparent, found.tracestate) == (traceparent, b"a=1")
    for headers in (
        [("traceparent", traceparent), state, state],
        [("traceparent", traceparent)] * 2 + [state],
        [state],
    ):
        found = read([*GOOD, *headers])
        assert (found.traceparent, found.tracestate, found.fault) == (None, None, None)
