"""The Python client puts a key where every other client of Kafka's default puts it."""

import asyncio
import random
from typing import Any, Final

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.partitioner import murmur2 as as_aiokafka_does

from catalog_client import NotConnected, kafka
from workers.kafka.producer import murmur2 as as_c_does

OF_JAVA: Final = {
    "21": -973932308,
    "foobar": -790332482,
    "a-little-bit-long-string": -985981536,
    "a-little-bit-longer-string": -1486304829,
    "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    "abc": 479470107,
}
"""What Kafka's own tests expect of its murmur2."""
ALPHABETS: Final = ("abcXYZ019-_.@", "äöüßé", "абвгд", "漢字かな", "עברית", "😀🚀")


@pytest.mark.parametrize(("key", "expected"), OF_JAVA.items())
def test_java_hashes_alike(key: str, expected: int) -> None:
    """Signed, in 32 bits."""
    for murmur2 in (as_aiokafka_does, as_c_does):
        assert murmur2(key.encode()) & 0xFFFFFFFF == expected & 0xFFFFFFFF


def test_a_thousand_keys_of_several_alphabets(monkeypatch: pytest.MonkeyPatch) -> None:
    """The partitioner that the client's producer has masks the sign as Java does, with 7, 12 and 16 partitions."""
    made: list[Any] = []

    class Noted(AIOKafkaProducer):  # type: ignore[misc]
        def __init__(self, **options: Any) -> None:  # noqa: ANN401 - aiokafka is untyped
            super().__init__(**options)
            made.append(self)

    async def start() -> Any:  # noqa: ANN401
        monkeypatch.setattr(kafka, "AIOKafkaProducer", Noted)
        wire = kafka.KafkaWire("127.0.0.1:1", "keys", {}, "catalog.replies.keys", makes=False, deletes=False)
        monkeypatch.setattr(wire, "_reach", _nothing)
        with pytest.raises(NotConnected):
            await wire.start()
        return made[0]._partitioner

    place = asyncio.run(start())
    chance = random.Random(1)
    for number in range(1000):
        key = "".join(chance.choices(ALPHABETS[number % len(ALPHABETS)], k=1 + number % 40)).encode()
        for partitions in (7, 12, 16):
            numbers = list(range(partitions))
            assert place(key, numbers, numbers) == (as_c_does(key) & 0x7FFFFFFF) % partitions


async def _nothing() -> None:
    """Nobody has to be reached."""
