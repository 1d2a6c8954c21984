"""No body of the greatest size holds up the event loop, however it was made dear to read."""

import json
import time
from collections.abc import Callable
from typing import Final

import pytest

from contracts.canonical import canonical
from contracts.codec import MAX_BODY_BYTES
from contracts.ijson import NotIJsonError, read

PIECE: Final = 8.0
"""How long a piece of work may hold the loop, in turns of Python's own parser at 65,000 numbers: 50 ms where such a
turn takes 6 ms. A bound in milliseconds would hold on one machine only."""
TURN: Final = b"[" + b"1.5," * 65_000 + b"1]"


def filled(item: bytes, first: bytes = b"0", last: bytes = b"0") -> bytes:
    """Make a legal body of the greatest size of many equal items."""
    frame = b'{"kind":"create_customer","payload":{"a":[%b,%b,%b]}}'
    room = MAX_BODY_BYTES - len(frame) - len(first) - len(last)
    return frame % (first, b",".join([item] * (room // (len(item) + 1))), last)


def numbered(item: bytes, count: int) -> bytes:
    """Make a legal body of items that differ."""
    return b'{"kind":"create_customer","payload":{%b}}' % b",".join(item % number for number in range(count))


LEGAL: Final = {
    "whole doubles": filled(b"1.0"),
    "tiny doubles": filled(b"2e-6"),
    "doubles that all differ": b'{"kind":"create_customer","payload":{"a":[%b]}}'
    % b",".join(b"%de-9" % number for number in range(28_000)),
    "exponents": filled(b"1e5"),
    "the greatest integers": filled(b"9007199254740991"),
    "beyond integers": filled(b"1e21"),
    "lists and a double": filled(b"[]", b"1.0"),
    "objects and a double": filled(b"{}", b"1.0"),
    "an object for each double": filled(b'{"":1.0}'),
    "texts and a double": filled(b'""', b"1.0"),
    "escapes": filled(b'"\\u0041"', b"1.0"),
    "deep": filled(b"[" * 60 + b"]" * 60),
    "deep with doubles": filled(b"[" * 60 + b"2e-6" + b"]" * 60),
    "two planes in each object": filled('{"\U00010000":0,"\ue000":0}'.encode()),
    "two planes in one object": filled(b"0")[:60]
    + b'0],"\xf0\x90\x80\x80":0,%b}}' % b",".join(b'"\xee\x80\x80%d":1.0' % number for number in range(17_000)),
    "keys that all differ": numbered(b'"%d":1.0', 20_000),
}
REFUSED: Final = {
    "too large a number at the end": filled(b"1", last=b"9007199254740992"),
    "too large a number, behind all others": filled(b"1e5", last=b"1e20"),
    "too deep at the end": filled(b"[]", last=b"[" * 70 + b"]" * 70),
    "too deep, behind deep ones": filled(b"[" * 60 + b"]" * 60, last=b"[" * 62 + b"]" * 62),
    "a key twice at the end": numbered(b'"%d":0', 25_000)[:-2] + b',"0":0}}',
    "a broken end": filled(b'""')[:-4],
    "lines": b"\n" * (MAX_BODY_BYTES - 1) + b"x",
}


_turns_s: Final[list[float]] = []
"""What turns took in this process."""


def cost(work: Callable[[], object]) -> float:
    """Measure the processor time of a piece of work, in turns: the least of each.

    What the machine's neighbours cost comes and goes, and would otherwise meet one side only; what the work costs is
    there each time: once is enough where it is a short piece beside the least of all turns, those of this moment among
    them. If it is none, both are measured again, by turns.
    """
    _turns_s.extend(_time(_take_a_turn) for _ in range(3))
    if (once := _time(work) / min(_turns_s)) < PIECE:
        return once
    pairs = [(_time(work), _time(_take_a_turn)) for _ in range(9)]
    return min(work_s for work_s, _ in pairs) / min(turn_s for _, turn_s in pairs)


def _take_a_turn() -> None:
    json.loads(TURN)


def _time(work: Callable[[], object]) -> float:
    started = time.thread_time()
    work()
    return time.thread_time() - started


@pytest.mark.parametrize("body", LEGAL.values(), ids=LEGAL)
def test_a_legal_body_is_read_and_put_in_form_in_short_pieces(body: bytes) -> None:
    """Reading a body and making its canonical form each stay below 50 ms, whatever it is full of."""
    assert 200_000 < len(body) <= MAX_BODY_BYTES
    assert cost(lambda: read(body)) < PIECE
    value = read(body)
    assert cost(lambda: canonical(value)) < PIECE


@pytest.mark.parametrize("body", REFUSED.values(), ids=REFUSED)
def test_a_bad_body_is_refused_in_a_short_piece(body: bytes) -> None:
    """What is wrong with a body is found, and its place told, in less than 50 ms: anybody may send it."""
    assert 200_000 < len(body) <= MAX_BODY_BYTES

    def refused() -> None:
        with pytest.raises(NotIJsonError):
            read(body)

    assert cost(refused) < PIECE
