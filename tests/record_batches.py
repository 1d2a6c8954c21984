"""Record batches as any producer may write them: each number and each part as the test wants it."""

from collections.abc import Sequence
from dataclasses import dataclass

from aiokafka.codec import gzip_encode, lz4_encode, snappy_encode, zstd_encode
from aiokafka.record.default_records import DefaultRecordBase, calc_crc32c
from aiokafka.record.util import encode_varint

NONE, GZIP, SNAPPY, LZ4, ZSTD = CODECS = range(5)
_PACK = {
    GZIP: lambda data: gzip_encode(data, 1),
    SNAPPY: snappy_encode,
    LZ4: lambda data: lz4_encode(data, 1),
    ZSTD: zstd_encode,
}


@dataclass(frozen=True)
class Part:
    """One record to write; `more_headers` is how many are added of empty name and null value."""

    value: bytes | None = b"value"
    key: bytes | None = b"key"
    headers: Sequence[tuple[bytes, bytes | None]] = ()
    more_headers: int = 0


def batch(base_offset: int, parts: Sequence[Part], codec: int = NONE) -> bytes:
    """Write a batch of these records at these offsets, a millisecond apart."""
    return around(records(parts), len(parts), base_offset, codec)


def records(parts: Sequence[Part]) -> bytes:
    """Write records as they stand in a batch that is not packed."""
    return b"".join(_record(at, part) for at, part in enumerate(parts))


def around(
    written: bytes, count: int, base_offset: int = 0, codec: int = NONE, *, packed: bytes | None = None
) -> bytes:
    """Write a batch around records, or around what claims to be some, packed."""
    if packed is None:
        packed = bytes(_PACK[codec](written)) if codec else written
    head = DefaultRecordBase.HEADER_STRUCT
    fields = [
        base_offset,
        head.size - 12 + len(packed),
        0,
        2,
        0,
        codec,
        count - 1,
        1_000,
        1_000 + count,
        -1,
        -1,
        -1,
        count,
    ]
    whole = bytearray(head.pack(*fields) + packed)
    fields[4] = calc_crc32c(bytes(whole[DefaultRecordBase.ATTRIBUTES_OFFSET :]))
    whole[: head.size] = head.pack(*fields)
    return bytes(whole)


def _record(at: int, part: Part) -> bytes:
    written = bytearray(b"\0")
    for number in (at, at):  # milliseconds and offset since the first
        encode_varint(number, written.append)
    for content in (part.key, part.value):
        _nullable(written, content)
    encode_varint(len(part.headers) + part.more_headers, written.append)
    for name, content in part.headers:
        _nullable(written, name)
        _nullable(written, content)
    written += b"\x00\x01" * part.more_headers
    length = bytearray()
    encode_varint(len(written), length.append)
    return bytes(length + written)


def _nullable(written: bytearray, content: bytes | None) -> None:
    encode_varint(-1 if content is None else len(content), written.append)
    written += content or b""
