"""What a fetch brought, to aiokafka's fetcher: record batches that cost others nothing, whatever is in them.

aiokafka 0.14 unpacks a batch as a whole, parses all of a record whatever its size, and decodes header keys while it
does. So 6 KB are 3 million headers, 1 MiB is 40 GB, and one key that is not UTF-8 makes every `getmany` of its
partition raise: whoever may produce can stop a consumer for good. FastStream's `parser=` comes too late, and a seek
past the record does not help inside a batch, which is parsed from its start.

`install()` has aiokafka's fetcher read record batches through `RecordBatches`, a piece at a time
(`workers.kafka.record_stream`). Given an allowance, reading stops where that is used up, also inside a record; given
another, it goes on there.

What cannot be read though its checksum is right will never be: the rest of that batch is handed out as one record, its
last, without content, with a header that says why (`contracts.codec.UNREADABLE`). So it is dead-lettered, and the
partition goes on.
"""

import struct
from collections.abc import Iterator, Sequence
from typing import Any, Final

from aiokafka.consumer import fetcher
from aiokafka.consumer.fetcher import PartitionRecords
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatch, _DefaultRecordPy
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import TopicPartition

from contracts.codec import UNREADABLE
from contracts.values import value
from workers.kafka.allowance import ANY, Allowance, Limits
from workers.kafka.record_stream import RecordStream
from workers.kafka.unpacking import DamagedError

_LENGTH: Final = struct.Struct(">i")
_LENGTH_AT: Final = 8  # after the base offset, in every version of the format
_LENGTH_ENDS: Final = _LENGTH_AT + _LENGTH.size


def install() -> None:
    """Have every consumer of this process read through `RecordBatches`. Doing it again changes nothing."""
    fetcher.MemoryRecords = RecordBatches
    fetcher.PartitionRecords = _PartitionRecords


@value(frozen=True, slots=True)
class LogRecord:
    """A record as it is handed out: smaller than aiokafka's, and made faster."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    timestamp_type: int | None
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]


class _PartitionRecords(PartitionRecords):  # type: ignore[misc]
    """aiokafka's records of a partition, handed out as ours."""

    def _consumer_record(self, tp: TopicPartition, record: Any) -> LogRecord:  # noqa: ANN401 - aiokafka is untyped
        return LogRecord(
            tp.topic,
            tp.partition,
            record.offset,
            record.timestamp,
            record.timestamp_type,
            record.key,
            record.value,
            record.headers,
        )


class RecordBatches:
    """The record batches of one fetched partition, in their order (aiokafka's `MemoryRecords`).

    Who never calls `go_on` reads them to their end, whatever that costs.
    """

    __slots__ = ("_at", "_data", "_open", "_records", "allowance", "is_stopped", "limits", "position")

    def __init__(self, data: bytes) -> None:
        self._records = MemoryRecords(data)
        self._data = data
        self._at = 0
        self._open: _Batch | None = None
        self.allowance: Allowance | None = None
        self.limits = ANY
        self.position = 0
        self.is_stopped = False
        """Whether reading stopped for want of something that the allowance has not got."""

    def go_on(self, allowance: Allowance, limits: Limits, position: int) -> None:
        """Read on, with this allowance; nothing before this position is wanted."""
        self.allowance = allowance
        self.limits = limits
        self.position = position
        self.is_stopped = False

    @property
    def held_bytes(self) -> int:
        """What is held of what was unpacked, decoders' memory included."""
        return self._open.stream.held_bytes if self._open is not None else 0

    @property
    def remembered_bytes(self) -> int:
        """What of it is a decoder's."""
        return self._open.stream.remembered_bytes if self._open is not None else 0

    def size_in_bytes(self) -> int:
        """Bytes fetched, a cut-off last batch included."""
        size: int = self._records.size_in_bytes()
        return size

    def has_next(self) -> bool:
        """Whether a batch, or the rest of one, is left and may be read."""
        if self._open is not None and self._open.is_over:
            self._open = None
        if self._open is None and not self._records.has_next():
            return False
        if self.allowance is not None and not self.allowance.has_time:
            self.is_stopped = True
        return not self.is_stopped

    def next_batch(self) -> Any:  # noqa: ANN401 - aiokafka is untyped
        """The next batch, or the one in which reading stopped; None at the end.

        Raise CorruptRecordException where the log itself is damaged.
        """
        if self._open is not None and not self._open.is_over:
            return self._open
        batch = self._records.next_batch()
        if batch is None:
            return None
        start = self._at
        (length,) = _LENGTH.unpack_from(self._data, start + _LENGTH_AT)
        self._at = start + _LENGTH_ENDS + length
        if not isinstance(batch, DefaultRecordBatch) or batch.is_control_batch:
            return batch  # magic 0 and 1: no headers in there; or a batch of the broker's own
        self._open = _Batch(batch, memoryview(self._data)[start : self._at], self)
        return self._open


class _Batch:
    """aiokafka's own record batch, but for its records."""

    __slots__ = ("_batch", "_is_begun", "_is_read", "_is_sound", "_reader", "_runs", "stream")

    def __init__(self, batch: Any, data: memoryview, reader: RecordBatches) -> None:  # noqa: ANN401 - as above
        self._batch = batch
        self._reader = reader
        self._is_sound: bool | None = None
        self._is_begun = False
        self._is_read = False
        self.stream = RecordStream(data, reader)
        self._runs = self.stream.runs()

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the fetcher asks of a batch
        return getattr(self._batch, name)

    @property
    def is_over(self) -> bool:
        """Whether nothing more will be read of it: all was, or nothing is wanted (a producer took it back)."""
        return self._is_read or not self._is_begun

    @property
    def next_offset(self) -> int:
        """From where the partition is read on, as far as this batch is read."""
        if self.is_over:
            after: int = self._batch.next_offset
            return after
        return max(self.stream.reached, self._reader.position)

    def validate_crc(self) -> bool:
        """Whether the checksum is right; computed once."""
        if self._is_sound is None:
            self._is_sound = bool(self._batch.validate_crc())
        return self._is_sound

    def __iter__(self) -> Iterator[Any]:
        """Go on with the records, up to the end or to where reading has to stop."""
        self._is_begun = True
        try:
            for run in self._runs:
                if run is None:
                    self._reader.is_stopped = True
                    return
                yield from run
        except (DamagedError, CorruptRecordException) as error:
            if self.stream.reached < self._batch.next_offset:
                reason = str(error) if isinstance(error, DamagedError) else "a record is not as the format says"
                yield self._stand_in(f"the rest of a batch cannot be read: {reason}")
        self._is_read = True

    def _stand_in(self, problem: str) -> Any:  # noqa: ANN401 - aiokafka is untyped
        """Stand in for what cannot be read: at the place of the last record, with nothing but why."""
        batch = self._batch
        headers = [(UNREADABLE + problem, None)]
        return _DefaultRecordPy(batch.next_offset - 1, batch.max_timestamp, batch.timestamp_type, None, None, headers)
