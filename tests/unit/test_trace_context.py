"""Which trace contexts are taken: as W3C's Trace Context judges them."""

from typing import Final

import pytest

from contracts.codec import read_headers
from contracts.topics import Topics
from tests.direct import Arrived

TRACE: Final = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT: Final = "00f067aa0ba902b7"


def read(traceparent: str) -> bytes | None:
    """Read a record that has it."""
    record = Arrived("t.commands", 0, 0, 0, None, None, [("traceparent", traceparent.encode())])
    return read_headers(record, Topics("t")).traceparent


@pytest.mark.parametrize(
    "traceparent",
    [
        f"00-{TRACE}-{PARENT}-01",
        f"00-{TRACE}-{PARENT}-ff",
        f"01-{TRACE}-{PARENT}-01",
        f"fe-{TRACE}-{PARENT}-00-what-comes-later",
        f"cc-{TRACE}-{PARENT}-01-",
    ],
)
def test_a_valid_one_is_kept(traceparent: str) -> None:
    """It goes back with the reply as it came; a version to come may say more after another dash."""
    assert read(traceparent) == traceparent.encode()


@pytest.mark.parametrize(
    "traceparent",
    [
        f"ff-{TRACE}-{PARENT}-01",
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{PARENT}-01",
        f"00-{TRACE}-{PARENT}-01-more",
        f"01-{TRACE}-{PARENT}-01.more",
        f"01-{'0' * 32}-{PARENT}-01-more",
        f"00-{TRACE}-{PARENT}-1",
        f"00-{TRACE}-{PARENT}-01\n",
        f"0-{TRACE}-{PARENT}-01",
        "",
    ],
)
def test_an_invalid_one_is_ignored(traceparent: str) -> None:
    """It costs the message nothing, and is told to nobody."""
    assert read(traceparent) is None
