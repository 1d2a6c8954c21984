"""`python -m tests.benchmarks.client`: the Python client beside a bare loop of aiokafka, on the same records.

The loop is what somebody would write in its place: a producer, a reader, a dictionary of futures; it knows no
time-outs, repetitions or types. Each side is a process of its own that asks for 5,000 creations, 500 at a time, so that
none waits as long as after which the client repeats it; one worker answers. Rounds alternate; the figures are medians.
On a shared machine the processor time of a call tells more than the rate.
"""

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from rich.console import Console
from rich.table import Table

from catalog_client import CatalogClient
from tests.benchmarks.sides import Databases
from tests.forked import ROOT
from tests.servers import Servers, start_servers
from tests.system import System
from workers.stack.tied import tied

CALLS: Final = 5_000
AT_A_TIME: Final = 500
WARM_UP: Final = 200
ROUNDS: Final = int(os.environ.get("BENCH_ROUNDS", "5"))
SIDES: Final = ("bare loop", "client")

Ask = Callable[[int], Awaitable[None]]


# The sides ------------------------------------------------------------------------------------------------------------
async def by_client(servers: str, prefix: str, token: str, calls: int) -> tuple[float, float]:
    """Ask by the client."""
    reply_topic = f"{prefix}.replies.test"
    async with CatalogClient(
        servers, token=token, name="bench", prefix=prefix, reply_topic=reply_topic, timeout=120
    ) as catalog:

        async def ask(number: int) -> None:
            await catalog.create_customer(name=f"Customer {number}", email=f"{uuid.uuid4().hex}@example.com")

        return await _measured(ask, calls)


async def by_loop(servers: str, prefix: str, token: str, calls: int) -> tuple[float, float]:
    """Ask by what aiokafka alone offers."""
    reply_to = f"{prefix}.replies.test"
    waiting: dict[bytes, asyncio.Future[object]] = {}
    producer = AIOKafkaProducer(bootstrap_servers=servers, acks="all")
    consumer = AIOKafkaConsumer(bootstrap_servers=servers)
    await producer.start()
    await consumer.start()
    partition = TopicPartition(reply_to, 0)
    end = (await consumer.end_offsets([partition]))[partition]
    consumer.assign([partition])
    consumer.seek(partition, end)

    async def read() -> None:
        while True:
            for records in (await consumer.getmany(timeout_ms=1000)).values():
                for record in records:
                    reply = waiting.pop(dict(record.headers)["correlation_id"], None)
                    if reply is not None:
                        reply.set_result(json.loads(record.value))

    loop = asyncio.get_running_loop()

    async def ask(number: int) -> None:
        message_id, correlation_id = uuid.uuid4().hex, uuid.uuid4().hex.encode()
        email = f"{uuid.uuid4().hex}@example.com"
        payload = {"name": f"Customer {number}", "email": email}
        body = json.dumps({"kind": "create_customer", "version": 1, "payload": payload}).encode()
        headers = [
            ("content-type", b"application/json"),
            ("user-agent", b"catalog-client-python/0.2 bench"),
            ("deadline", b"%d" % int((time.time() + 120) * 1000)),
            ("message_id", message_id.encode()),
            ("correlation_id", correlation_id),
            ("reply_to", reply_to.encode()),
            ("authorization", b"Bearer " + token.encode()),
        ]
        reply = waiting[correlation_id] = loop.create_future()
        await producer.send(f"{prefix}.commands", body, email.encode(), headers=headers)
        answer = await reply
        assert answer["statusCode"] == 201

    reading = asyncio.create_task(read())
    try:
        return await _measured(ask, calls)
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        await consumer.stop()
        await producer.stop()


async def _measured(ask: Ask, calls: int) -> tuple[float, float]:
    async def one_after_the_other(numbers: Sequence[int]) -> None:
        for number in numbers:
            await ask(number)

    await asyncio.gather(*map(ask, range(min(WARM_UP, calls))))
    begun, spent = time.perf_counter(), time.process_time()
    await asyncio.gather(*(one_after_the_other(range(first, calls, AT_A_TIME)) for first in range(AT_A_TIME)))
    return calls / (time.perf_counter() - begun), (time.process_time() - spent) / calls * 1e6


# Measuring ------------------------------------------------------------------------------------------------------------
async def measure(system: System, side: str, calls: int = CALLS) -> tuple[float, float]:
    """Have a side ask in a process of its own; calls a second, and its processor time in µs a call."""
    servers = system.servers.env.kafka_bootstrap_servers
    process = await asyncio.create_subprocess_exec(
        *tied([sys.executable, "-m", "tests.benchmarks.client", "--side", side, "--calls", str(calls),
               servers, system.prefix, system.token()]),
        cwd=ROOT, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    told, _ = await process.communicate()
    assert process.returncode == 0
    rate, cpu_us = json.loads(told)
    return rate, cpu_us


async def run(servers: Servers, rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Alternate rounds; what was measured of each side."""
    measured: dict[str, list[tuple[float, float]]] = {side: [] for side in SIDES}
    async with System(servers, await Databases(servers).new(), forks=False, judges=False) as system:
        await system.start(LOG_LEVEL="WARNING")
        await measure(system, SIDES[0])  # the worker's first batches are nobody's cost
        for number in range(rounds):
            for side in SIDES if number % 2 == 0 else reversed(SIDES):
                measured[side].append(await measure(system, side))
    return measured


def arguments() -> argparse.ArgumentParser:
    """Say what may be asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--calls", type=int, default=CALLS, help=argparse.SUPPRESS)
    parser.add_argument("place", nargs="*", help=argparse.SUPPRESS)
    return parser


def main() -> None:
    """Print both sides, and how they compare."""
    asked = arguments().parse_args()
    if asked.side:
        servers, prefix, token = asked.place
        measuring = by_client if asked.side == "client" else by_loop
        print(json.dumps(asyncio.run(measuring(servers, prefix, token, asked.calls))))
        return
    console = Console()
    with (
        tempfile.TemporaryDirectory() as state,
        start_servers(os.environ.get("TEST_STACK", "embedded"), Path(state)) as running,
    ):
        measured = asyncio.run(run(running, asked.rounds))
    table = Table(
        "",
        "calls/s",
        "µs of CPU a call",
        title=f"{CALLS:,} create_customer, {AT_A_TIME} at a time, medians of {asked.rounds}",
    )
    medians: dict[str, Sequence[float]] = {}
    for side, rounds in measured.items():
        medians[side] = [statistics.median(column) for column in zip(*rounds, strict=True)]
        told = [", ".join(f"{one:,.0f}" for one in column) for column in zip(*rounds, strict=True)]
        table.add_row(side, *(f"{median:,.0f} ({one})" for median, one in zip(medians[side], told, strict=True)))
    console.print(table)
    (bare_rate, bare_us), (rate, cpu_us) = medians.values()
    console.print(f"rate of the bare loop's: {rate / bare_rate:.3f} (at least 0.9)")
    console.print(f"CPU of the bare loop's: {cpu_us / bare_us:.3f} (at most 1.5)")


if __name__ == "__main__":
    main()
