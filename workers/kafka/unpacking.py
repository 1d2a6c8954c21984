"""What a compressed record batch holds, a few KiB at a time.

aiokafka unpacks a batch as a whole, whatever comes out: 1 MiB of zstd may be 40 GB. Here each step costs at most some
0.3 ms and brings at most 64 KiB; whoever reads decides after each whether to go on, now or later. What a decoder has to
remember of what it brought is small for gzip, and as large as the sender said for the others: it is known before.
"""

import struct
import sys
import zlib
from collections.abc import Callable
from typing import Any, Final, Protocol

import cramjam
import lz4.frame

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

PIECE_BYTES: Final = 64 * 1024
"""What one step brings at most."""
FREE_BYTES: Final = 256 * 1024
"""What a decoder may remember without asking."""
MAX_REMEMBERED_BYTES: Final = 24 * 1024 * 1024
"""What a decoder may remember at all. zstd at levels up to 19 takes 8 MiB, snappy at most 22 times what is packed."""

_FED_BYTES: Final = 16 * 1024
"""What a decoder is given at once: it copies what it leaves."""


class DamagedError(Exception):
    """What is packed cannot be unpacked to its end; the text says why."""


class Unpacking(Protocol):
    """A batch that is being unpacked."""

    @property
    def remembers(self) -> int:
        """Bytes that the decoder will hold from its next step on, as far as they are more than `FREE_BYTES`; else 0."""
        ...

    def step(self) -> bytes | memoryview | None:
        """The next bytes, none where this step brought none; None at the end. Raise `DamagedError`."""
        ...


def unpacking(packed: memoryview, codec: int) -> Unpacking:
    """Begin to unpack, by Kafka's number of what packed it."""
    match codec:
        case 0:
            return _Plain(packed)
        case 1:
            return _Frames(packed, _Gzip, _gzip_window)
        case 2:
            return _Snappy(packed)
        case 3:
            return _Frames(packed, lz4.frame.LZ4FrameDecompressor, _lz4_block)
        case 4:
            return _Frames(packed, zstd.ZstdDecompressor, _zstd_window)
        case _:
            return _Unknown()


class _Unknown:
    remembers: Final = 0

    def step(self) -> None:
        raise DamagedError("it is packed in a way that is not known")


class _Plain:
    remembers: Final = 0

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._at = 0

    def step(self) -> memoryview | None:
        piece = self._data[self._at : self._at + PIECE_BYTES]
        self._at += len(piece)
        return piece or None


class _Frames:
    """What consists of frames (of gzip: members), one after another, each unpacked by a decoder of its own."""

    def __init__(self, packed: memoryview, decoder: Callable[[], Any], window_of: Callable[[memoryview], int]) -> None:
        self._packed = packed
        self._at = 0
        self._new = decoder
        self._window_of = window_of
        self._decoder: Any = None
        self._window = 0
        self._brought = 0  # by this frame

    @property
    def remembers(self) -> int:
        is_little = self._window <= FREE_BYTES or self._brought + PIECE_BYTES <= FREE_BYTES
        return 0 if is_little else self._window

    def step(self) -> bytes | None:
        if self._decoder is None:
            if self._at >= len(self._packed):
                return None
            self._window = self._window_of(self._packed[self._at :])
            self._decoder = self._new()
            self._brought = 0
        decoder = self._decoder
        fed = self._packed[self._at : self._at + _FED_BYTES] if decoder.needs_input else b""
        self._at += len(fed)
        try:
            piece: bytes = decoder.decompress(fed, PIECE_BYTES)
        except (zlib.error, zstd.ZstdError, RuntimeError, EOFError) as error:  # lz4 raises RuntimeError
            raise DamagedError("what is packed is damaged") from error
        if decoder.eof:
            self._at -= len(decoder.unused_data or b"")
            self._decoder = None
            self._window = 0
        elif not piece and not fed and self._at >= len(self._packed):
            raise DamagedError("what is packed ends too early")
        self._brought += len(piece)
        return piece


class _Gzip:
    """zlib's decoder in the shape of the others."""

    def __init__(self) -> None:
        self._decoder = zlib.decompressobj(16 + zlib.MAX_WBITS)

    @property
    def needs_input(self) -> bool:
        return not self._decoder.unconsumed_tail

    @property
    def eof(self) -> bool:
        return self._decoder.eof

    @property
    def unused_data(self) -> bytes:
        return self._decoder.unused_data

    def decompress(self, fed: bytes | memoryview, most: int) -> bytes:
        return self._decoder.decompress(self._decoder.unconsumed_tail or fed, most)


class _Snappy:
    """One block as it is, or a row of them as the xerial library frames it. A block is unpacked as a whole."""

    _FRAMED: Final = b"\x82SNAPPY\x00\x00\x00\x00\x01\x00\x00\x00\x01"
    _SIZE: Final = struct.Struct(">i")
    _MOST: Final = 22  # times what is packed: 64 bytes by 3

    def __init__(self, packed: memoryview) -> None:
        self._packed = packed
        self._is_framed = bytes(packed[: len(self._FRAMED)]) == self._FRAMED
        self._at = len(self._FRAMED) if self._is_framed else 0
        self._next: memoryview | None = None
        self._block = memoryview(b"")
        self.remembers = 0

    def step(self) -> memoryview | None:
        if self._next is not None:
            try:
                self._block = memoryview(cramjam.snappy.decompress_raw(self._next))
            except cramjam.DecompressionError as error:
                raise DamagedError("what is packed is damaged") from error
            self._next = None
        elif not self._block:
            self.remembers = 0
            if self._at >= len(self._packed):
                return None
            self._next = self._find_block()
            return self._block
        piece, self._block = self._block[:PIECE_BYTES], self._block[PIECE_BYTES:]
        return piece

    def _find_block(self) -> memoryview:
        packed = self._packed[self._at :]
        if self._is_framed:
            if len(packed) < self._SIZE.size:
                raise DamagedError("what is packed ends too early")
            (size,) = self._SIZE.unpack_from(packed)
            packed = packed[self._SIZE.size :][: max(0, size)]
            if size != len(packed):
                raise DamagedError("what is packed ends too early")
            self._at += self._SIZE.size
        self._at += len(packed)
        size = _length(packed)
        if size > self._MOST * len(packed):
            raise DamagedError("what is packed is damaged")
        self.remembers = size if size > FREE_BYTES else 0
        return packed


def _length(block: memoryview) -> int:
    """What a block of snappy says that it unpacks to."""
    size = 0
    for place, byte in enumerate(block[:5]):
        size |= (byte & 0x7F) << 7 * place
        if byte < 0x80:  # noqa: PLR2004 - the last byte of a number
            return size
    raise DamagedError("what is packed is damaged")


def _gzip_window(_: memoryview) -> int:
    return 32 * 1024


def _lz4_block(frame: memoryview) -> int:
    """The size of a frame's blocks: each is unpacked as a whole, beside the last 64 KiB of those before."""
    return (1 << 8 + 2 * (frame[5] >> 4 & 7)) + 64 * 1024 if len(frame) > 5 else 0  # noqa: PLR2004 - its place


def _zstd_window(frame: memoryview) -> int:
    """How far back a frame refers (RFC 8878, section 3.1.1.1); 0 for what is none, which its decoder will refuse."""
    if len(frame) < 18 or bytes(frame[:4]) != b"\x28\xb5\x2f\xfd":  # noqa: PLR2004 - the longest head
        return 0
    described = frame[4]
    if not described & 0x20:
        return (1 << 10 + (frame[5] >> 3)) // 8 * (8 + (frame[5] & 7))
    at = 5 + (0, 1, 2, 4)[described & 3]
    width = (1, 2, 4, 8)[described >> 6]
    return int.from_bytes(frame[at : at + width], "little") + (256 if width == 2 else 0)  # noqa: PLR2004
