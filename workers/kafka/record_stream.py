"""The records of one batch, as they come out of its unpacking: none is kept beyond its limits.

What small records a piece holds are parsed by aiokafka's own parser, as a batch of their own: they are the ordinary
ones. Of a larger record the lengths of its parts are looked at first; one that is within its limits goes the same way.
Of any other, what is beyond them is passed over as it is unpacked, counted and hashed, and the record is handed out
without it, with a note of what it was (`contracts.codec.Omission`). So 3 million headers cost their unpacking.

Records with a header key that is not UTF-8 are parsed again by `_TolerantBatch`, which decodes header keys with
`surrogateescape` (encoding them the same way gives the bytes back).
"""

import hashlib
import struct
from collections.abc import Generator, Iterator
from itertools import islice
from typing import Any, Final, Protocol

from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatch, _DefaultRecordBatchPy, _DefaultRecordPy
from aiokafka.record.util import decode_varint

from contracts.codec import Omission, OmittedPart
from workers.kafka.allowance import Allowance, Limits
from workers.kafka.unpacking import MAX_REMEMBERED_BYTES, PIECE_BYTES, DamagedError, Unpacking, unpacking

SMALL_RECORD_BYTES: Final = 4 * 1024
"""A record up to this size is parsed unseen: at worst it is 2,000 headers of nothing, which take 0.1 ms."""

Records = Iterator[Any]

# Where things stand in version 2 of the format
_ATTRIBUTES: Final = struct.Struct(">h")
_ATTRIBUTES_AT: Final = 21
_CODEC_BITS: Final = 0x07
_COUNT: Final = struct.Struct(">i")
_COUNT_AT: Final = 57
_RECORDS_AT: Final = _COUNT_AT + _COUNT.size
_NUMBER_BYTES: Final = 10

_Waiting = Generator[None, None, None]


class Reader(Protocol):
    """Whoever reads: what it may cost now (None: whatever it does), and what is kept of one record."""

    allowance: Allowance | None
    limits: Limits


class RecordStream:
    """The records of a batch of version 2 that is no control batch."""

    def __init__(self, data: memoryview, reader: Reader) -> None:
        (attributes,) = _ATTRIBUTES.unpack_from(data, _ATTRIBUTES_AT)
        (self._left,) = _COUNT.unpack_from(data, _COUNT_AT)
        self._reader = reader
        head = bytearray(data[:_COUNT_AT])
        _ATTRIBUTES.pack_into(head, _ATTRIBUTES_AT, attributes & ~_CODEC_BITS)
        self._head = bytes(head)  # of a batch of what is unpacked, but for the number of its records
        self._inflow = _Inflow(unpacking(data[_RECORDS_AT:], attributes & _CODEC_BITS), reader)
        self._run_bytes = 0  # of what is handed out, and cannot be forgotten yet
        self._paid_bytes = 0  # for a record that is not handed out yet
        self.reached = 0
        """One past the offset of the last record of what was read to its end."""

    @property
    def held_bytes(self) -> int:
        """What is held of what was unpacked."""
        return max(len(self._inflow.buffer), self._paid_bytes) + self._run_bytes + self.remembered_bytes

    @property
    def remembered_bytes(self) -> int:
        """What of it the decoder does."""
        return self._inflow.remembered_bytes

    def runs(self) -> Iterator[Records | None]:
        """Records, some at a time, each to be read before the next are asked for; None to wait for an allowance.

        Raise `DamagedError` or CorruptRecordException for what cannot be read; nothing can be after it.
        """
        while self._left > 0:
            count, end, length = self._small_records()
            if count:
                self._left -= count
                yield from self._pay(end - self._inflow.at)
                yield self._parse(self._inflow.take(end - self._inflow.at), count)
            elif length is None or length <= SMALL_RECORD_BYTES:
                yield from self._inflow.more()
            else:
                self._left -= 1
                yield from self._large_record(length, end)
            self._run_bytes = 0

    def _small_records(self) -> tuple[int, int, int | None]:
        """How many small records the buffer begins with, where they end, and the length of what follows, if known."""
        buffer, start, left = self._inflow.buffer, self._inflow.at, self._left
        there = len(buffer)
        count = 0
        while count < left:
            # The length: twice as much, in one or two bytes mostly
            at = start
            if at + 1 >= there:
                return count, start, None
            length = buffer[at]
            if length < 0x80:  # noqa: PLR2004 - the last byte of a number
                at += 1
            elif (second := buffer[at + 1]) < 0x80:  # noqa: PLR2004
                length = length & 0x7F | second << 7
                at += 2
            else:
                try:
                    length, at = decode_varint(buffer, at)
                except (IndexError, ValueError):
                    if at + _NUMBER_BYTES > there:
                        return count, start, None
                    length = -1
                length = length << 1 if length >= 0 else 1
            if length & 1:
                if count:
                    break  # those before it first
                raise DamagedError("a record without a length")
            length >>= 1
            if length > SMALL_RECORD_BYTES or at + length > there:
                return count, start if count else at, length
            start = at + length
            count += 1
        return count, start, None

    def _parse(self, run: bytes, count: int) -> Records:
        """Parse records that are unpacked, without anything between them."""
        batch = b"%b%b%b" % (self._head, _COUNT.pack(count), run)
        self._run_bytes = len(run)
        most = self._reader.limits.headers
        parsed, record = 0, None  # how many of them, and the last one
        try:
            for record in DefaultRecordBatch(batch):
                yield record if len(record.headers) <= most else _cut(record, most)
                parsed += 1
        except (UnicodeDecodeError, CorruptRecordException):
            tolerant = _TolerantBatch(batch)  # raises if more is wrong than a header's key
            tolerant.most_headers = most
            for record in islice(tolerant, parsed, None):
                yield record
        finally:
            if record is not None:
                self.reached = record.offset + 1

    def _large_record(self, length: int, at: int) -> Iterator[Records | None]:
        """Hand out a record whose length ends at `at`."""
        limits, inflow = self._reader.limits, self._inflow
        head = at - inflow.at
        size = min(length, limits.record_bytes)
        yield from self._pay(size)
        self._paid_bytes = size
        if length <= limits.record_bytes:
            while len(inflow) < head + length:
                yield from inflow.more()
            if _is_within(limits, inflow.buffer, inflow.at + head, inflow.at + head + length):
                whole = list(self._parse(inflow.take(head + length), 1))
                self._run_bytes = self._paid_bytes = 0
                yield iter(whole)
                return
        inflow.at += head
        record = yield from self._what_is_kept(limits, length)
        self._paid_bytes = 0
        yield iter((record,))
        self.reached = record.offset + 1

    def _what_is_kept(self, limits: Limits, length: int) -> Generator[None, None, Any]:
        """Read a record of so many bytes, and pass over what is beyond its limits."""
        rest = _Rest(self._inflow, length)
        yield from rest.number()  # attributes: none are defined
        since_first_ms = yield from rest.number()
        since_first = yield from rest.number()
        key, omitted_key = yield from rest.part(limits.key_bytes)
        value, omitted_value = yield from rest.part(limits.value_bytes)
        count = yield from rest.number()
        if not 0 <= count <= rest.size // 2:
            raise DamagedError(f"a record of {length} bytes says that it has {count} headers")
        headers, header_bytes = yield from rest.headers(min(count, limits.headers), limits.header_bytes)
        if count > limits.headers:
            yield from rest.skip(rest.size)
        elif rest.size:
            raise DamagedError(f"a record of {length} bytes ends {rest.size} bytes before")
        omission = Omission(count, header_bytes, count - len(headers), omitted_key, omitted_value)
        facts = _DefaultRecordBatchPy(self._head + _COUNT.pack(0))
        by_broker = facts.timestamp_type == facts.LOG_APPEND_TIME
        timestamp_ms = facts.max_timestamp if by_broker else facts.first_timestamp + since_first_ms
        offset = facts.base_offset + since_first
        headers.append(omission.as_header())
        return _DefaultRecordPy(offset, timestamp_ms, facts.timestamp_type, key, value, headers)

    def _pay(self, size: int) -> _Waiting:
        while (allowance := self._reader.allowance) is not None and not allowance.pays(size):
            yield None


class _Inflow:
    """What was unpacked and not read yet: it begins at `at` of `buffer`."""

    def __init__(self, packed: Unpacking, reader: Reader) -> None:
        self._unpacking = packed
        self._reader = reader
        self.buffer = bytearray()
        self.at = 0
        self.remembered_bytes = 0

    def __len__(self) -> int:
        return len(self.buffer) - self.at

    def take(self, size: int) -> bytes:
        """Read bytes that are there."""
        at, self.at = self.at, self.at + size
        taken = bytes(self.buffer[at : self.at])
        if self.at > PIECE_BYTES:
            self._forget_what_was_read()
        return taken

    def more(self) -> _Waiting:
        """Unpack another piece."""
        while not self._may_go_on():
            yield None
        piece = self._unpacking.step()
        if piece is None:
            raise DamagedError("there are less than it says")
        self._forget_what_was_read()
        self.buffer += piece

    def _forget_what_was_read(self) -> None:
        del self.buffer[: self.at]
        self.at = 0

    def _may_go_on(self) -> bool:
        remembers = self._unpacking.remembers
        if remembers > MAX_REMEMBERED_BYTES:
            raise DamagedError(f"unpacking it takes {remembers} bytes of memory, more than {MAX_REMEMBERED_BYTES}")
        allowance = self._reader.allowance
        if allowance is not None:
            additional = remembers - self.remembered_bytes
            if not allowance.has_time or (additional and not allowance.lends(additional)):
                return False
        self.remembered_bytes = remembers
        return True


class _Rest:
    """What is left of one record while it is read, wherever in it the buffer ends."""

    def __init__(self, inflow: _Inflow, size: int) -> None:
        self._inflow = inflow
        self.size = size

    def number(self) -> Generator[None, None, int]:
        """Read a number."""
        inflow = self._inflow
        while len(inflow) < min(self.size, _NUMBER_BYTES):
            yield from inflow.more()
        try:
            number, end = decode_varint(inflow.buffer, inflow.at)
        except (IndexError, ValueError):
            raise DamagedError("a record's number does not end") from None
        self._count(end - inflow.at)
        inflow.at = end
        return int(number)

    def part(self, most: int) -> Generator[None, None, tuple[bytes | None, OmittedPart | None]]:
        """Read key or value, which may be null, or only what to tell of it."""
        size = yield from self.number()
        if size < 0:
            return None, None
        if size <= most:
            return (yield from self.taken(size)), None
        digest = hashlib.sha256()
        yield from self.skip(size, digest)
        return None, OmittedPart(size, digest.hexdigest())

    def headers(self, count: int, room: int) -> Generator[None, None, tuple[list[tuple[str, bytes | None]], int]]:
        """Read so many headers; return those that there is room for, and how many bytes all of them have."""
        kept: list[tuple[str, bytes | None]] = []
        size = 0
        for _ in range(count):
            name_bytes = yield from self.number()
            if name_bytes < 0:
                raise DamagedError("a header without a key")
            name = yield from self.taken_or_skipped(name_bytes, room)
            content_bytes = yield from self.number()
            content = yield from self.taken_or_skipped(max(0, content_bytes), room - name_bytes)
            size += name_bytes + max(0, content_bytes)
            if name is not None and content is not None:
                room -= name_bytes + len(content)
                kept.append((name.decode("utf-8", "surrogateescape"), None if content_bytes < 0 else content))
        return kept, size

    def taken_or_skipped(self, size: int, room: int) -> Generator[None, None, bytes | None]:
        """Read so many bytes where there is room for them, else pass over them."""
        if size <= room:
            return (yield from self.taken(size))
        yield from self.skip(size)
        return None

    def taken(self, size: int) -> Generator[None, None, bytes]:
        """Read so many bytes."""
        inflow = self._inflow
        self._count(size)
        while len(inflow) < size:
            yield from inflow.more()
        return inflow.take(size)

    def skip(self, size: int, digest: "hashlib._Hash | None" = None) -> _Waiting:
        """Pass over so many bytes."""
        inflow = self._inflow
        self._count(size)
        while size:
            if not len(inflow):
                yield from inflow.more()
                continue
            end = min(len(inflow.buffer), inflow.at + size)
            if digest is not None:
                with memoryview(inflow.buffer) as buffer, buffer[inflow.at : end] as passed:
                    digest.update(passed)
            size -= end - inflow.at
            inflow.at = end

    def _count(self, size: int) -> None:
        self.size -= size
        if self.size < 0:
            raise DamagedError("a record's parts are longer than the record")


def _is_within(limits: Limits, buffer: bytearray, at: int, end: int) -> bool:
    """Whether the parts of a record that is in the buffer are within the limits; also of one that is damaged."""
    try:
        for _ in range(3):  # attributes, timestamp, offset
            _, at = decode_varint(buffer, at)
        key_bytes, at = decode_varint(buffer, at)
        value_bytes, at = decode_varint(buffer, at + max(0, key_bytes))
        headers, at = decode_varint(buffer, at + max(0, value_bytes))
    except (IndexError, ValueError):
        return True
    return bool(
        key_bytes <= limits.key_bytes
        and value_bytes <= limits.value_bytes
        and headers <= limits.headers
        and end - at <= limits.header_bytes + 2 * headers
    )


def _cut(record: Any, most: int) -> Any:  # noqa: ANN401 - aiokafka is untyped
    """The same record without the headers that are too many."""
    size = sum(len(name.encode("utf-8", "surrogateescape")) + len(content or b"") for name, content in record.headers)
    omission = Omission(len(record.headers), size, len(record.headers) - most, None, None)
    headers = [*record.headers[:most], omission.as_header()]
    return _DefaultRecordPy(record.offset, record.timestamp, record.timestamp_type, record.key, record.value, headers)


class _TolerantBatch(_DefaultRecordBatchPy):  # type: ignore[misc]
    """aiokafka's pure-Python batch, reading header keys that are not UTF-8."""

    most_headers: int
    """How many of a record's headers are read; of the others, nothing is."""
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
        headers: list[tuple[str, bytes | None]] = []
        first_at = at
        for _ in range(min(count, self.most_headers)):
            name, at = _nullable(data, at)
            content, at = _nullable(data, at)
            if name is None:
                raise CorruptRecordException("A header without a key")
            headers.append((name.decode("utf-8", "surrogateescape"), content))
        if count > self.most_headers:
            headers.append(Omission(count, at - first_at, count - len(headers), None, None).as_header())
            at = end
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
