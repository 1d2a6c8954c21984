"""What reading may cost: of one record, and until the next look at the others."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from contracts.codec import MAX_BODY_BYTES, MAX_HEADER_BYTES, MAX_HEADERS, MAX_KEY_BYTES

_NUMBER_BYTES: Final = 10
"""What Kafka writes a number into, at most."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What is kept of one record. `header_bytes` are names and values together."""

    key_bytes: int
    value_bytes: int
    header_bytes: int
    headers: int

    @property
    def record_bytes(self) -> int:
        """More than this a record within the limits cannot be."""
        return self.key_bytes + self.value_bytes + self.header_bytes + (2 * self.headers + 8) * _NUMBER_BYTES


REQUEST: Final = Limits(MAX_KEY_BYTES, MAX_BODY_BYTES, MAX_HEADER_BYTES + 32 * 1024, MAX_HEADERS + 28)
"""Of a request, with room for what a replay has in its headers besides: details, and who was verified."""
ANY: Final = Limits(2**20, 32 * 2**20, 2**20, 10_000)
"""Of a record that is no request."""


@dataclass(slots=True)
class Allowance:
    """Bytes and CPU time that reading may still take; whoever shares it out gives each its part of both."""

    bytes_left: int
    """Of records handed out and of what decoders come to hold."""
    decoder_bytes_left: int
    """Of the latter alone."""
    clock: Callable[[], float] = time.thread_time
    share_bytes: int = 0
    """Of records, whoever has its turn."""
    ends_at: float = 0.0
    """By the clock, for whoever has its turn."""
    paid_bytes: int = 0
    """Of records handed out."""

    @property
    def is_untouched(self) -> bool:
        """Nothing was handed out yet: the first record is, whatever its size."""
        return not self.paid_bytes

    @property
    def has_time(self) -> bool:
        """Whether another step may be taken."""
        return self.clock() < self.ends_at

    def pays(self, size: int) -> bool:
        """Take so many bytes for a record, where there are as many."""
        if size > min(self.share_bytes, self.bytes_left) and not self.is_untouched:
            return False
        self.share_bytes -= size
        self.bytes_left -= size
        self.paid_bytes += size
        return True

    def lends(self, size: int) -> bool:
        """Take so many bytes more for a decoder, where there are as many; fewer, if it needs less than it had."""
        if size > min(self.decoder_bytes_left, self.bytes_left):
            return False
        self.decoder_bytes_left -= size
        self.bytes_left -= size
        return True
