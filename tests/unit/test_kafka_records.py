"""What aiokafka does to its callers and should not: header keys that stop a partition, lines that flood a log."""

import logging
from collections.abc import Sequence
from typing import Any

import pytest
from aiokafka.consumer import fetcher
from aiokafka.consumer.fetcher import PartitionRecords
from aiokafka.errors import CorruptRecordException
from aiokafka.record import default_records, memory_records
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy, _DefaultRecordBatchPy
from aiokafka.structs import TopicPartition

from workers.kafka import record_stream, records
from workers.kafka.library_logs import SAY_AGAIN_S, OncePerWhile, limit
from workers.kafka.records import RecordBatches

NONE, GZIP, SNAPPY, LZ4, ZSTD = range(5)
BAD = b"caf\xe9-\xff\xfe"


class Raw(str):
    """A header key that encodes to bytes which are not UTF-8, as a careless client in another language sends them."""

    __slots__ = ()

    def encode(self, *_: object) -> bytes:
        return BAD


def batch(base_offset: int, keys: Sequence[str], codec: int = NONE) -> bytes:
    """One record batch, built by aiokafka's own encoder; each record has one header with the given key."""
    builder = _DefaultRecordBatchBuilderPy(2, codec, 0, -1, -1, 0, 1 << 20)
    for at, key in enumerate(keys):
        value = f"value-{base_offset + at} ".encode() * 20
        builder.append(at, 1_000 + at, b"k%d" % at, value, [(key, b"\xff\x00"), ("null", None)])
    built = bytearray(builder.build())
    built[:8] = base_offset.to_bytes(8, "big")
    return bytes(built)


def read(data: bytes, position: int = 0) -> list[Any]:
    """What a consumer at `position` makes of fetched bytes."""
    return list(PartitionRecords(TopicPartition("t", 0), RecordBatches(data), [], position, None, None, True, 0))


@pytest.fixture(params=["compiled", "pure Python"])
def parsers(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both of aiokafka's parsers, as AIOKAFKA_NO_EXTENSIONS chooses between them."""
    if request.param == "pure Python":
        monkeypatch.setattr(memory_records, "DefaultRecordBatch", _DefaultRecordBatchPy)
        monkeypatch.setattr(records, "DefaultRecordBatch", _DefaultRecordBatchPy)
        monkeypatch.setattr(record_stream, "DefaultRecordBatch", _DefaultRecordBatchPy)
        monkeypatch.setattr(records, "MemoryRecords", memory_records._MemoryRecordsPy)


@pytest.mark.parametrize("codec", [NONE, GZIP, SNAPPY, LZ4, ZSTD])
@pytest.mark.usefixtures("parsers")
def test_bad_key_harms_no_neighbour(codec: int) -> None:
    """Records before, beside and after the bad one come once, in order, complete; its key can be turned to bytes."""
    data = (
        batch(10, ["good", "good"], codec)
        + batch(12, ["good", Raw("x"), "good", Raw("x"), "gut ✓"], codec)
        + batch(17, ["good"], codec)
    )

    found = read(data, 10)

    assert [record.offset for record in found] == list(range(10, 18))
    assert [record.value for record in found] == [f"value-{offset} ".encode() * 20 for offset in range(10, 18)]
    assert [record.key for record in found] == [b"k0", b"k1", b"k0", b"k1", b"k2", b"k3", b"k4", b"k0"]
    assert [record.timestamp for record in found] == [1000, 1001, 1000, 1001, 1002, 1003, 1004, 1000]
    keys = [record.headers[0][0].encode("utf-8", "surrogateescape") for record in found]
    assert keys == [b"good", b"good", b"good", BAD, b"good", BAD, "gut ✓".encode(), b"good"]
    assert all(record.headers[0][1] == b"\xff\x00" and record.headers[1] == ("null", None) for record in found)


def test_bad_key_stops_aiokafka_itself() -> None:
    """Without us the whole batch is lost to its consumer: should this fail, `workers.kafka.records` is superfluous."""
    with pytest.raises((UnicodeDecodeError, CorruptRecordException)):
        list(memory_records.MemoryRecords(batch(0, ["good", Raw("x")])).next_batch())


@pytest.mark.usefixtures("parsers")
def test_position_inside_batch() -> None:
    """After a seek into a batch with a bad key, reading starts at that record."""
    assert [record.offset for record in read(batch(0, ["good", Raw("x"), "good", "good"]), 2)] == [2, 3]


@pytest.mark.usefixtures("parsers")
def test_broker_time() -> None:
    """With LogAppendTime the batch's one timestamp, the broker's, is every record's."""
    data = bytearray(batch(0, ["good", Raw("x"), "good"]))
    struct = default_records.DefaultRecordBase.HEADER_STRUCT
    header = list(struct.unpack_from(data))
    header[5] |= default_records.DefaultRecordBase.TIMESTAMP_TYPE_MASK
    header[8] = 77_000
    struct.pack_into(data, 0, *header)
    header[4] = default_records.calc_crc32c(bytes(data[default_records.DefaultRecordBase.ATTRIBUTES_OFFSET :]))
    struct.pack_into(data, 0, *header)

    found = read(bytes(data))

    assert [(record.timestamp, record.timestamp_type) for record in found] == [(77_000, 1)] * 3


@pytest.mark.usefixtures("parsers")
def test_cut_off_batch() -> None:
    """A last batch that was cut off, as fetches often end, is left for the next fetch."""
    whole = batch(0, ["good", Raw("x")])
    assert [record.offset for record in read(whole + batch(2, ["good"])[:-3])] == [0, 1]
    assert not RecordBatches(whole[:-1]).has_next()
    assert RecordBatches(whole[:-1]).size_in_bytes() == len(whole) - 1


@pytest.mark.usefixtures("parsers")
def test_damage_is_still_damage() -> None:
    """What differs from its checksum is refused, not guessed at: fetched again, it may be whole."""
    damaged = bytearray(batch(0, ["good", Raw("x")]))
    damaged[-1] ^= 1
    with pytest.raises(CorruptRecordException):
        read(bytes(damaged))


def test_install_is_idempotent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Installing twice leaves aiokafka's own parser underneath, once."""
    monkeypatch.setattr(fetcher, "MemoryRecords", memory_records.MemoryRecords)
    records.install()
    records.install()
    assert fetcher.MemoryRecords is RecordBatches
    assert isinstance(RecordBatches(b"")._records, memory_records.MemoryRecords)


def test_library_repeats_itself_less(caplog: pytest.LogCaptureFixture) -> None:
    """A text of aiokafka's is written once in a while, whatever its arguments; other texts are not held back."""
    limit()
    limit()
    logger = logging.getLogger("aiokafka.conn")
    (installed,) = (one for one in logger.filters if isinstance(one, OncePerWhile))
    now = 100.0
    logger.removeFilter(installed)
    logger.addFilter(OncePerWhile(lambda: now))
    try:
        for attempt in range(3):
            logger.error("No connection to %s", attempt)
        logger.error("Another text")
        now += SAY_AGAIN_S
        logger.error("No connection to %s", 3)
    finally:
        logger.filters[:] = [installed]

    assert caplog.messages == ["No connection to 0", "Another text", "No connection to 3"]
