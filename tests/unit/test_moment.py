"""The time of a message, to the millisecond that its broker wrote down."""

from datetime import UTC, datetime, timedelta

from hypothesis import example, given
from hypothesis import strategies as st

from workers.pipeline.delivery import moment

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
YEAR_9999_MS = 253_402_300_799_999


@given(ms=st.integers(-(10**12), YEAR_9999_MS) | st.integers(1_500_000_000_000, 2**32 * 1000))
@example(ms=2**32 * 1000 - 1)
@example(ms=2**32 * 1000)
@example(ms=-1)
@example(ms=YEAR_9999_MS)
def test_a_moment_is_exact(ms: int) -> None:
    """No microsecond is lost or won, in whatever year."""
    assert moment(ms) == EPOCH + timedelta(milliseconds=ms)
