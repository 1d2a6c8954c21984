"""The mark of a content is the HMAC that everybody knows."""

import hashlib
import hmac

from hypothesis import example, given
from hypothesis import strategies as st

from workers.pipeline.mac import Mac


@given(key=st.binary(max_size=200), contents=st.lists(st.binary(max_size=300), min_size=1, max_size=3))
@example(key=b"", contents=[b""])
@example(key=b"k" * 64, contents=[b"a", b"a"])
@example(key=b"k" * 65, contents=[b"a" * 64, b"", b"a" * 64])
def test_it_is_the_librarys(key: bytes, contents: list[bytes]) -> None:
    """By keys shorter and longer than a block; one content leaves nothing behind for the next."""
    mac = Mac(key)
    assert [mac.of(one) for one in contents] == [hmac.digest(key, one, hashlib.sha256) for one in contents]
