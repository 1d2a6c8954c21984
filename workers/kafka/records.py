"""A header key that is not UTF-8 must not stop its partition, nor a batch that unpacks to gigabytes a worker.

aiokafka 0.14 decodes header keys while it parses a record batch. One key that is not UTF-8 makes every `getmany` of
that partition raise (UnicodeDecodeError from the C parser, CorruptRecordException from the pure-Python one), and
neither the good records before it nor those after it are delivered: whoever may produce can stop a consumer for good.
FastStream's `parser=` comes too late, and a seek past the record does not help inside a batch, which is parsed from its
start.

`install()` has aiokafka's fetcher read record batches through `TolerantRecords`: the same parsers and nothing else,
until one of them refuses a batch; that batch alone is parsed again by `_TolerantBatch`, which decodes header keys with
`surrogateescape` (encoding them the same way gives the bytes back). A batch is parsed as a whole before its first
record is handed out, so no record is lost, repeated or reordered by the second attempt.

aiokafka unpacks a compressed batch whatever comes out: 9 KB of zstd may be 300 MB, and the 1 MiB that a topic takes may
be more than any machine has. A worker would die of it, and so would each that is given the partition after it. A batch
beyond `MAX_UNPACKED_BYTES` or `MAX_RECORDS` is handed out as one record: its last, without content, with a header that
says why (`contracts.codec.UNREADABLE`). So it is dead-lettered, and the partition goes on.
"""

import mmap
import struct
from collections.abc import Iterator
from typing import Any, Final

import cramjam
from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatch, _DefaultRecordBatchPy, _DefaultRecordPy
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import decode_varint

from contracts.codec import UNREADABLE

MAX_UNPACKED_BYTES: Final = 64 * 1024 * 1024
"""Of one batch: 64 times what our topics take."""
MAX_RECORDS: Final = 100_000
"""Of one batch: so many requests, each with a token, fill as many bytes. They are all in memory at once."""

# By Kafka's number of what compressed a batch: what unpacks it, and how far it goes at best. Snappy goes 22 times.
_UNPACKERS: Final = {1: (cramjam.gzip, 1032), 3: (cramjam.lz4, 255), 4: (cramjam.zstd, 44_000)}
_COUNT: Final = struct.Struct(">i")
_COUNT_AT: Final = 57  # in version 2 of the format
_RECORDS_AT: Final = _COUNT_AT + _COUNT.size

_LENGTH: Final = struct.Struct(">i")
_LENGTH_AT: Final = 8  # after the base offset, in every version of the format
_LENGTH_ENDS: Final = _LENGTH_AT + _LENGTH.size


def install() -> None:
    """Have every consumer of this process read through `TolerantRecords`. Doing it again changes nothing."""
    fetcher.MemoryRecords = TolerantRecords


class TolerantRecords:
    """The record batches of one fetched partition, in their order (aiokafka's `MemoryRecords`)."""

    __slots__ = ("_at", "_data", "_records")

    def __init__(self, data: bytes) -> None:
        self._records = MemoryRecords(data)
        self._data = data
        self._at = 0

    def size_in_bytes(self) -> int:
        """Bytes fetched, a cut-off last batch included."""
        size: int = self._records.size_in_bytes()
        return size

    def has_next(self) -> bool:
        """Whether a whole batch is left."""
        return bool(self._records.has_next())

    def next_batch(self) -> Any:  # noqa: ANN401 - aiokafka is untyped
        """The next batch, or None. Raise CorruptRecordException where the log itself is damaged."""
        batch = self._records.next_batch()
        if batch is None:
            return None
        start = self._at
        (length,) = _LENGTH.unpack_from(self._data, start + _LENGTH_AT)
        self._at = start + _LENGTH_ENDS + length
        if not isinstance(batch, DefaultRecordBatch):
            return batch  # magic 0 and 1: no headers in there
        return _Batch(batch, memoryview(self._data)[start : self._at])


class _Batch:
    """aiokafka's own record batch, but for the moment in which its records are asked for."""

    __slots__ = ("_batch", "_data")

    def __init__(self, batch: Any, data: memoryview) -> None:  # noqa: ANN401 - aiokafka is untyped
        self._batch = batch
        self._data = data

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the fetcher asks of a batch
        return getattr(self._batch, name)

    def __next__(self) -> Any:  # noqa: ANN401 - a control record, read by the fetcher without iterating
        return next(self._batch)

    def __iter__(self) -> Iterator[Any]:
        if (problem := _too_much(self._data, self._batch.compression_type)) is not None:
            return iter([_stand_in(self._batch, problem)])
        try:
            return iter(list(self._batch))
        except (UnicodeDecodeError, CorruptRecordException):
            return iter(_TolerantBatch(self._data))  # raises again if more than a header key is wrong


def _too_much(data: memoryview, compression: int) -> str | None:
    """Tell why a batch must not be unpacked, without unpacking more of it than the limit."""
    (records,) = _COUNT.unpack_from(data, _COUNT_AT)
    if records > MAX_RECORDS:
        return f"a batch of {records} records, more than {MAX_RECORDS}"
    unpacker, ratio = _UNPACKERS.get(compression, (None, 0))
    packed = data[_RECORDS_AT:]
    if unpacker is None or len(packed) * ratio <= MAX_UNPACKED_BYTES:
        return None
    with mmap.mmap(-1, MAX_UNPACKED_BYTES) as room:  # memory that is there only where it is written to
        try:
            unpacker.decompress_into(packed, room)
        except cramjam.DecompressionError:
            return f"a batch of {records} records that unpacks to more than {MAX_UNPACKED_BYTES} bytes"
    return None


def _stand_in(batch: Any, problem: str) -> Any:  # noqa: ANN401 - aiokafka is untyped
    """Stand in for a whole batch: at the place of its last record, with nothing but why."""
    offset = batch.base_offset + batch.last_offset_delta
    headers = [(UNREADABLE + problem, None)]
    return _DefaultRecordPy(offset, batch.max_timestamp, batch.timestamp_type, None, None, headers)


class _TolerantBatch(_DefaultRecordBatchPy):  # type: ignore[misc]
    """aiokafka's pure-Python batch, reading header keys that are not UTF-8."""

    _buffer: bytearray
    _pos: int

    def _read_msg(self) -> Any:  # noqa: ANN401 - aiokafka is untyped
        data = self._buffer
        length, at = decode_varint(data, self._pos)
        end = at + length
        at += 1  # attributes: none are defined for a record
        since_first_ms, at = decode_varint(data, at)
        since_first, at = decode_varint(data, at)
        key, at = _nullable(data, at)
        value, at = _nullable(data, at)
        count, at = decode_varint(data, at)
        headers = []
        for _ in range(count):
            name, at = _nullable(data, at)
            content, at = _nullable(data, at)
            if name is None:
                raise CorruptRecordException("A header without a key")
            headers.append((name.decode("utf-8", "surrogateescape"), content))
        if count < 0 or at != end:
            raise CorruptRecordException(f"A record of {length} bytes ends {at - end} bytes off")
        self._pos = at
        by_broker = self.timestamp_type == self.LOG_APPEND_TIME
        timestamp_ms = self.max_timestamp if by_broker else self.first_timestamp + since_first_ms
        return _DefaultRecordPy(self.base_offset + since_first, timestamp_ms, self.timestamp_type, key, value, headers)


def _nullable(data: bytearray, at: int) -> tuple[bytes | None, int]:
    """The bytes whose length stands at `at`, and where they end."""
    length, at = decode_varint(data, at)
    if length < 0:
        return None, at
    end = at + length
    if end > len(data):
        raise CorruptRecordException("A field runs past the end of its batch")
    return bytes(data[at:end]), end
