"""Publish one record whose header key is not UTF-8; run as a script, since it needs aiokafka's pure-Python encoder."""

import asyncio
import sys

from aiokafka import AIOKafkaProducer


class Undecodable(str):
    """A header key that encodes to bytes which are not UTF-8."""

    __slots__ = ()

    def encode(self, *_: object) -> bytes:
        """Make the bytes."""
        return b"\xff\xfe"


async def main() -> None:
    """Publish it."""
    servers, topic, key, body = sys.argv[1:]
    producer = AIOKafkaProducer(bootstrap_servers=servers, acks="all")
    await producer.start()
    try:
        headers = [(Undecodable("x"), b"1"), ("message_id", b"undecodable")]
        await producer.send_and_wait(topic, body.encode(), key=key.encode(), headers=headers)
    finally:
        await producer.stop()


asyncio.run(main())
