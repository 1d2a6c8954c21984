"""Send costly messages: a script, so that making them delays nobody's measurements.

Arguments: a file with what to do, and one for what became of it. Each sender sends its next message when its last is
answered, or has become a dead letter.
"""

import asyncio
import json
import sys
import time
import uuid
from collections import Counter
from pathlib import Path
from typing import Any, Final

import jwt
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from tests.fuzz.costly import CODECS, MIB, Costly, Fuzzer

ANSWER_S: Final = 120.0
"""Without an answer for so long a message counts as unanswered."""


class Sender:
    """Sends to all partitions but the first, which is the probes'."""

    def __init__(self, task: dict[str, Any]) -> None:
        self._task = task
        self._prefix: str = task["prefix"]
        self._answers: dict[str, asyncio.Future[int]] = {}
        self._producers: dict[str | None, AIOKafkaProducer] = {}
        self._tokens: dict[tuple[str, ...], bytes] = {}
        self.unanswered: list[str] = []
        self.answered: Counter[str] = Counter()
        self.statuses: Counter[str] = Counter()

    async def __call__(self) -> None:
        """Send as many as are asked for."""
        servers = self._task["servers"]
        self._consumer = AIOKafkaConsumer(bootstrap_servers=servers, auto_offset_reset="earliest", fetch_max_wait_ms=50)
        await self._consumer.start()
        self._consumer.assign([TopicPartition(name, 0) for name in self._sources()])
        for codec in CODECS:
            producer = AIOKafkaProducer(
                bootstrap_servers=servers, acks="all", compression_type=codec,
                max_request_size=80 * MIB, max_batch_size=80 * MIB, request_timeout_ms=60_000,
            )  # fmt: skip
            await producer.start()
            self._producers[codec] = producer
        reading = asyncio.create_task(self._read())
        try:
            numbers = iter(range(self._task["number"]))
            await asyncio.gather(*(self._send_all(n, numbers) for n in range(self._task["senders"])))
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            for producer in self._producers.values():
                await producer.stop()
            await self._consumer.stop()

    def _sources(self) -> list[str]:
        sides = ("commands", "queries")
        return [self._task["reply_to"], *(f"{self._prefix}.{side}.dead-letters" for side in sides)]

    async def _read(self) -> None:
        async for record in self._consumer:
            headers = {name: (value or b"").decode("utf-8", "replace") for name, value in record.headers}
            answer = self._answers.get(headers.get("correlation_id", ""))
            if answer is not None and not answer.done():
                status = 0 if "dlq.reason" in headers else int(json.loads(record.value)["statusCode"])
                answer.set_result(status)

    async def _send_all(self, sender: int, numbers: Any) -> None:  # noqa: ANN401 - an iterator that is shared
        fuzzer = Fuzzer(self._task["seed"] + sender, self._task["customer"])
        only = self._task.get("families")
        for number in numbers:
            costly = fuzzer.families[only[number % len(only)]]() if only else fuzzer.next()
            await self._send(costly, 1 + sender % (self._task["partitions"] - 1))

    async def _send(self, costly: Costly, partition: int) -> None:
        correlation_id = uuid.uuid4().hex
        answer = self._answers[correlation_id] = asyncio.get_running_loop().create_future()
        headers = [
            ("message_id", correlation_id.encode()),
            ("correlation_id", correlation_id.encode()),
            ("reply_to", self._task["reply_to"].encode()),
            *([("authorization", self._token(tuple(costly.roles)))] if costly.roles is not None else []),
            *costly.headers,
        ]
        producer, topic = self._producers[costly.codec], f"{self._prefix}.{costly.side}"
        if costly.empty_before:
            batch = producer.create_batch()
            for _ in range(costly.empty_before):
                batch.append(key=None, value=None, timestamp=None)
            batch.append(key=None, value=costly.value, timestamp=None, headers=headers)
            await producer.send_batch(batch, topic, partition=partition)
        else:
            await producer.send(topic, costly.value, partition=partition, headers=headers)
        try:
            status = await asyncio.wait_for(answer, self._task.get("answer_s", ANSWER_S))
        except TimeoutError:
            self.unanswered.append(costly.family)
        else:
            self.answered[costly.family] += 1
            self.statuses[f"{costly.family} {status}"] += 1
        del self._answers[correlation_id]

    def _token(self, roles: tuple[str, ...]) -> bytes:
        if roles not in self._tokens:
            claims = {"sub": f"costly-{roles[0]}", "roles": roles, "exp": int(time.time()) + 7_200}
            self._tokens[roles] = b"Bearer " + jwt.encode(claims, self._task["secret"]).encode()
        return self._tokens[roles]


def main() -> None:
    """Send, and write down what became of it."""
    task, result = map(Path, sys.argv[1:])
    sender = Sender(json.loads(task.read_text()))
    asyncio.run(sender())
    result.write_text(
        json.dumps({"answered": sender.answered, "unanswered": sender.unanswered, "statuses": sender.statuses})
    )


if __name__ == "__main__":
    main()
