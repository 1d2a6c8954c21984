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
    """Bytes of records to hand out, bytes that decoders may come to hold, and CPU time: until `ends_at` by `clock`."""

    record_bytes: int
    remembered_bytes: int
    ends_at: float = 0.0
    clock: Callable[[], float] = time.thread_time
    is_untouched: bool = True
    """Nothing was handed out yet: the first record is, whatever its size."""

    @property
    def has_time(self) -> bool:
        """Whether another step may be taken."""
        return self.clock() < self.ends_at

    def pays(self, size: int) -> bool:
        """Take so many bytes of records, where there are as many."""
        if self.record_bytes < size and not self.is_untouched:
            return False
        self.record_bytes -= size
        self.is_untouched = False
        return True
