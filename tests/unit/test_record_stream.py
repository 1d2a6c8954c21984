"""Records are judged while they are read: what one holds beyond its limits is passed over and told of."""

import hashlib
from collections.abc import Sequence
from itertools import islice
from typing import Any

import pytest
from aiokafka.codec import gzip_encode, snappy_encode
from aiokafka.consumer.fetcher import READ_COMMITTED, PartitionRecords
from aiokafka.record.default_records import DefaultRecordBase, calc_crc32c
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import TopicPartition
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.codec import Omission, OmittedPart, UnreadableRecord, read_headers
from contracts.errors import MessageTooLargeError
from contracts.topics import Topics
from tests.record_batches import CODECS, GZIP, LZ4, SNAPPY, ZSTD, Part, around, batch, records
from workers.kafka import record_stream, unpacking
from workers.kafka.allowance import ANY, REQUEST, Allowance
from workers.kafka.records import RecordBatches

KIB = 1024
MIB = 1024 * KIB
ZEROS = b"\0" * (4 * MIB)
REPLY_TO = (b"reply_to", b"catalog.replies.r")
PLENTY = Allowance(1 << 60, 1 << 60, share_bytes=1 << 60, ends_at=1e18)


def omitted(content: bytes) -> OmittedPart:
    """What is told instead of this content."""
    return OmittedPart(len(content), hashlib.sha256(content).hexdigest())


def partition(data: bytes, position: int = 0) -> tuple[RecordBatches, Any]:
    """What was fetched of a partition, and aiokafka's reader of it."""
    batches = RecordBatches(data)
    return batches, PartitionRecords(TopicPartition("t", 0), batches, [], position, None, None, True, 0)


def read(data: bytes, position: int = 0) -> list[Any]:
    """What a worker at `position` makes of fetched bytes that it has time for."""
    batches, records = partition(data, position)
    batches.go_on(PLENTY, REQUEST, position)
    return list(records)


# ------------------------------------------------------------------------------------------------ what is beyond limits

TOO_LARGE: dict[str, tuple[Part, Omission | None, dict[str, int]]] = {
    # name: the record, what is left out of it, what its sender is told
    "3 million headers of nothing": (
        Part(headers=[REPLY_TO], more_headers=3_000_000),
        Omission(3_000_001, 25, 2_999_873, None, None),
        {"header_count": 3_000_001, "limit_count": 100},
    ),
    "2,000 headers in 4 KiB": (
        Part(b"", headers=[REPLY_TO], more_headers=2_000),
        Omission(2_001, 25, 1_873, None, None),
        {"header_count": 2_001, "limit_count": 100},
    ),
    "101 headers": (
        Part(headers=[REPLY_TO], more_headers=100),
        None,
        {"header_count": 101, "limit_count": 100},
    ),
    "headers of 17 KiB": (
        Part(headers=[REPLY_TO, (b"x", b"y" * 17 * KIB)]),
        None,
        {"header_bytes": 17 * KIB + 26, "limit_bytes": 16 * KIB},
    ),
    "a header of 4 MiB": (
        Part(headers=[(b"x", ZEROS), REPLY_TO]),
        Omission(2, len(ZEROS) + 26, 1, None, None),
        {"header_bytes": len(ZEROS) + 26, "limit_bytes": 16 * KIB},
    ),
    "a header's name of 1 MiB": (
        Part(headers=[REPLY_TO, (b"n" * MIB, b"x")]),
        Omission(2, MIB + 26, 1, None, None),
        {"header_bytes": MIB + 26, "limit_bytes": 16 * KIB},
    ),
    "a key of 1,025 bytes": (
        Part(key=b"k" * 1_025, headers=[REPLY_TO]),
        None,
        {"key_bytes": 1_025, "limit_bytes": KIB},
    ),
    "a key of 4 MiB": (
        Part(key=ZEROS, headers=[REPLY_TO]),
        Omission(1, 25, 0, omitted(ZEROS), None),
        {"key_bytes": len(ZEROS), "limit_bytes": KIB},
    ),
    "a body one byte too long": (
        Part(b"v" * (256 * KIB + 1), headers=[REPLY_TO]),
        Omission(1, 25, 0, None, omitted(b"v" * (256 * KIB + 1))),
        {"body_bytes": 256 * KIB + 1, "limit_bytes": 256 * KIB},
    ),
    "a body of 60 MiB": (
        Part(b"\0" * (60 * MIB), headers=[REPLY_TO]),
        Omission(1, 25, 0, None, omitted(b"\0" * (60 * MIB))),
        {"body_bytes": 60 * MIB, "limit_bytes": 256 * KIB},
    ),
    "all at once": (
        Part(ZEROS, ZEROS[1:], [REPLY_TO, (b"x", ZEROS)], more_headers=100_000),
        Omission(100_002, 26 + len(ZEROS), 100_002 - 127, omitted(ZEROS[1:]), omitted(ZEROS)),
        {"header_count": 100_002, "limit_count": 100},
    ),
}


@pytest.mark.parametrize("codec", CODECS, ids=["none", "gzip", "snappy", "lz4", "zstd"])
@pytest.mark.parametrize("name", TOO_LARGE)
def test_beyond_its_limits(name: str, codec: int) -> None:
    """A record beyond its limits is told of with its true sizes and can be answered; its neighbours come as ever."""
    part, omission, details = TOO_LARGE[name]
    good = Part(b'{"kind": "k"}' * 20, b"k", [REPLY_TO, (b"message_id", b"m")])
    first, bad, *others = read(batch(7, [good, part, good, good], codec) + batch(11, [good], codec))
    assert [record.offset for record in (first, bad, *others)] == [7, 8, 9, 10, 11]
    for record in (first, *others):
        assert (record.value, record.key, len(record.headers)) == (good.value, good.key, 2)
    assert Omission.of(bad.headers) == omission
    assert len(bad.key or b"") <= 4 * KIB
    assert bad.value is None or bad.value == part.value
    headers = read_headers(bad, Topics("catalog"))
    assert isinstance(headers.fault, MessageTooLargeError)
    assert headers.fault.details == details
    assert headers.reply_to == "catalog.replies.r"


def test_limits_are_within() -> None:
    """A record that has all that it may have is whole: a body, a key and 100 headers at their limits."""
    headers = [(b"%02d" % at, b"h" * 161) for at in range(99)]
    headers.append((b"last", b"h" * (16 * KIB - sum(len(name) + len(value) for name, value in headers) - 4)))
    whole = Part(b"v" * 256 * KIB, b"k" * KIB, headers)
    for codec in CODECS:
        first, second = read(batch(0, [whole, whole], codec))
        assert first.value == second.value == whole.value
        assert second.key == whole.key
        assert second.headers == tuple((name.decode(), value) for name, value in headers)
        assert read_headers(second, Topics("catalog")).fault is None


BAD_KEY = (b"caf\xe9", b"x")


@pytest.mark.parametrize(
    "part",
    [
        Part(headers=[BAD_KEY]),
        Part(headers=[BAD_KEY], more_headers=500),
        Part(headers=[BAD_KEY], more_headers=1_000_000),
        Part(b"v" * 200 * KIB, headers=[BAD_KEY]),
        Part(b"v" * 300 * KIB, headers=[BAD_KEY]),
    ],
)
def test_bad_key_beyond_limits(part: Part) -> None:
    """A header key that is not UTF-8 is readable as bytes in records of each size."""
    good = Part()
    _, bad, other = read(batch(0, [good, part, good], GZIP))
    assert bad.headers[0] == ("caf\udce9", b"x")
    assert len(bad.headers) <= 129
    assert (other.offset, other.value) == (2, b"value")


# ------------------------------------------------------------------------------------------------- what is within them

names = st.one_of(st.just(b""), st.text(max_size=8).map(str.encode))
contents = st.one_of(st.none(), st.just(b""), st.binary(max_size=300), st.binary(max_size=40).map(lambda one: one * 20))
parts = st.builds(
    Part,
    value=contents,
    key=contents,
    headers=st.lists(st.tuples(names, contents), max_size=4),
    more_headers=st.sampled_from([0, 0, 0, 1, 40]),
)


def told(records: Sequence[Any]) -> list[tuple[Any, ...]]:
    """All that a record says."""
    return [(one.offset, one.timestamp, one.timestamp_type, one.key, one.value, tuple(one.headers)) for one in records]


@settings(max_examples=100, deadline=None)
@given(
    written=st.lists(parts, min_size=1, max_size=12),
    codec=st.sampled_from(CODECS),
    piece=st.sampled_from([3, 17, 64, 500]),
    small=st.sampled_from([0, 50, 4_096]),
    steps=st.integers(2, 5),
)
def test_the_same_as_aiokafka(written: list[Part], codec: int, piece: int, small: int, steps: int) -> None:
    """Wherever pieces end and reading stops, the records are those that aiokafka reads, of each codec."""
    data = batch(3, written, codec) + batch(3 + len(written), [Part()], codec)
    expected = MemoryRecords(data)
    wanted = told([record for _ in range(2) for record in expected.next_batch()])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(unpacking, "PIECE_BYTES", piece)
        patch.setattr(record_stream, "SMALL_RECORD_BYTES", small)
        assert told(list(partition(data)[1])) == wanted
        batches, source = partition(data)
        found: list[Any] = []
        for _ in range(20_000):
            clock = iter(range(1 << 40))
            batches.go_on(Allowance(300, 0, clock.__next__, 300, steps), ANY, source.next_fetch_offset)
            if source._records_iterator is None:
                source._records_iterator = source._unpack_records()
            found += islice(source, 7)
            if source._records_iterator is None and not batches.is_stopped:
                break
        assert told(found) == wanted


# -------------------------------------------------------------------------------------------------------------- damage

GOODS = [Part(b"v%d" % at) for at in range(4)]


def packed_as(codec: int, packed: bytes, count: int = 4) -> bytes:
    """Write a batch of what is packed, or pretends to be, with a right checksum."""
    return around(b"", count, 0, codec, packed=packed)


DAMAGED: dict[str, tuple[bytes, int]] = {
    # name: a batch of four records, and how many of them can be read
    "gzip that ends": (packed_as(GZIP, gzip_encode(records(GOODS))[:20]), 0),
    "no gzip": (packed_as(GZIP, b"nothing of the sort"), 0),
    "no zstd": (packed_as(ZSTD, records(GOODS)), 0),
    "no lz4": (packed_as(LZ4, records(GOODS)), 0),
    "a codec that nobody has": (packed_as(7, records(GOODS)), 0),
    "a block of snappy that promises 4 GiB": (packed_as(SNAPPY, b"\xff\xff\xff\xff\x0f" + records(GOODS)), 0),
    "a block of snappy without an end": (packed_as(SNAPPY, snappy_encode(records(GOODS))[:-1]), 0),
    "fewer records than it says": (around(records(GOODS), 9), 4),
    "a record that is longer than it is": (around(records(GOODS[:2]) + b"\x40" + records(GOODS[2:])[1:], 4), 2),
    "a record of a negative length": (around(records(GOODS[:3]) + b"\x03\x00\x00", 4), 3),
    "a large record of a negative length": (around(records(GOODS[:3]) + b"\xff\xff\xff\xff\x0f\x00", 4), 3),
    "headers that are not there": (around(records(GOODS[:1]) + b"\x12\x00\x02\x02\x02k\x02v\xc8\x01", 4), 1),
    "a large record whose key is longer": (
        around(records(GOODS[:2]) + b"\x80\x80\x02" + b"\x00\x04\x04" + b"\xff" * 4 + b"\x0f" + ZEROS[:16_400], 4),
        2,
    ),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damage_under_a_right_checksum(name: str) -> None:
    """What will never be readable is one record that says so; what is before it and after the batch comes as ever."""
    data, readable = DAMAGED[name]
    count = int.from_bytes(data[57:61], "big")
    *before, stand_in, after = read(data + batch(count, [Part(b"after")]))
    assert [record.value for record in before] == [part.value for part in GOODS[:readable]]
    assert (stand_in.offset, stand_in.key, stand_in.value) == (count - 1, None, None)
    with pytest.raises(UnreadableRecord, match="the rest of a batch cannot be read"):
        read_headers(stand_in, Topics("catalog"))
    assert (after.offset, after.value) == (count, b"after")


# -------------------------------------------------------------------------------------------------------- transactions


def of_producer(data: bytes, producer: int, *, control: bool = False) -> bytes:
    """The same batch, of a transaction."""
    head = DefaultRecordBase.HEADER_STRUCT
    fields = list(head.unpack_from(data))
    fields[5] |= DefaultRecordBase.TRANSACTIONAL_MASK | (DefaultRecordBase.CONTROL_MASK if control else 0)
    fields[9] = producer
    written = bytearray(data)
    head.pack_into(written, 0, *fields)
    fields[4] = calc_crc32c(bytes(written[DefaultRecordBase.ATTRIBUTES_OFFSET :]))
    head.pack_into(written, 0, *fields)
    return bytes(written)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("position", [0, 1])
def test_transactions(codec: int, position: int) -> None:
    """What a producer took back is not read, nor unpacked; markers are no records; others' records come between."""
    aborted, committed = b"\x00\x00\x00\x00", b"\x00\x00\x00\x01"
    data = (
        of_producer(batch(0, [Part(b"back"), Part(b"\0" * MIB)], codec), 1)
        + of_producer(batch(2, [Part(b"kept"), Part(b"kept")], codec), 2)
        + of_producer(batch(4, [Part(b"", aborted)]), 1, control=True)
        + of_producer(batch(5, [Part(b"", committed)]), 2, control=True)
        + of_producer(batch(6, [Part(b"again"), Part(b"again")], codec), 1)
        + of_producer(batch(8, [Part(b"", committed)]), 1, control=True)
    )
    batches = RecordBatches(data)
    batches.go_on(PLENTY, REQUEST, position)
    source = PartitionRecords(TopicPartition("t", 0), batches, [(1, 0)], position, None, None, True, READ_COMMITTED)
    found = [(record.offset, record.value) for record in source]
    wanted = [(2, b"kept"), (3, b"kept"), (6, b"again"), (7, b"again")]
    assert found == [one for one in wanted if one[0] >= position]
    assert source.next_fetch_offset == 9
