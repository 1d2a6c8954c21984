"""A raw echo on the broker: reads a topic, sends each body to where its reply belongs. Run as a process.

What a request and its reply cost at least: aiokafka alone, on uvloop, acks=all, offsets committed after the replies.
"""

import asyncio
import os
import signal
import sys

import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition


async def main(side: str) -> None:
    """Serve until SIGTERM."""
    servers, prefix = os.environ["KAFKA_BOOTSTRAP_SERVERS"], os.environ["TOPIC_PREFIX"]
    producer = AIOKafkaProducer(bootstrap_servers=servers, acks="all", enable_idempotence=True)
    consumer = AIOKafkaConsumer(
        f"{prefix}.{side}", bootstrap_servers=servers, group_id=f"{prefix}.echo", enable_auto_commit=False,
        auto_offset_reset="earliest", fetch_max_wait_ms=50,
    )  # fmt: skip
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with producer, consumer:
        while not stop.is_set():
            sent, offsets = [], {}
            for of, records in (await consumer.getmany(timeout_ms=500, max_records=500)).items():
                offsets[TopicPartition(*of)] = records[-1].offset + 1
                for record in records:
                    headers = dict(record.headers)
                    correlation_id = headers["correlation_id"]
                    sent.append(
                        await producer.send(
                            headers["reply_to"].decode(),
                            record.value,
                            key=correlation_id,
                            headers=[("correlation_id", correlation_id)],
                        )
                    )
            if offsets:
                await asyncio.gather(*sent)
                await consumer.commit(offsets)


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1]))
