"""A header key that is not UTF-8 must not stop its partition.

aiokafka 0.14 decodes header keys while it parses a record batch. One key that is not UTF-8 makes every `getmany` of
that partition raise (UnicodeDecodeError from the C parser, CorruptRecordException from the pure-Python one), and
neither the good records before it nor those after it are delivered: whoever may produce can stop a consumer for good.
FastStream's `parser=` comes too late, and a seek past the record does not help inside a batch, which is parsed from its
start.

`install()` has aiokafka's fetcher read record batches through `TolerantRecords`: the same parsers and nothing else,
until one of them refuses a batch; that batch alone is parsed again by `_TolerantBatch`, which decodes header keys with
`surrogateescape` (encoding them the same way gives the bytes back). A batch is parsed as a whole before its first
record is handed out, so no record is lost, repeated or reordered by the second attempt.
"""

import struct
from collections.abc import Iterator
from typing import Any, Final

from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatch, _DefaultRecordBatchPy, _DefaultRecordPy
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import decode_varint

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
        try:
            return iter(list(self._batch))
        except (UnicodeDecodeError, CorruptRecordException):
            return iter(_TolerantBatch(self._data))  # raises again if more than a header key is wrong


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
