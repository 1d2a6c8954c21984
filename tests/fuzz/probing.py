"""What everybody else notices: requests sent at a steady pace, and how long each waits for its answer."""

import asyncio
import json
import os
import sys
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import psutil
from aiokafka.admin import NewTopic

from tests.forked import ROOT
from tests.system import SECRET, System, WorkerProcess

PROBES_PER_S: Final = 20.0
PROBED: Final = "PROBED"
"""The product that probes look up."""
_SAMPLE_S: Final = 0.1


@dataclass
class Memory:
    """The most that each worker and its children held at once, in bytes."""

    workers: Sequence[WorkerProcess]
    peaks: dict[str, int] = field(default_factory=dict)

    async def watch(self) -> None:
        """Look for ever, ten times a second."""
        while True:
            for worker in self.workers:
                held = await asyncio.to_thread(_held_bytes, worker.process.pid)
                self.peaks[worker.role] = max(held, self.peaks.get(worker.role, 0))
            await asyncio.sleep(_SAMPLE_S)


def _held_bytes(pid: int) -> int:
    """Add up a process and its children; one that has ended meanwhile holds nothing."""
    held = 0
    try:
        process = psutil.Process(pid)
        for one in (process, *process.children(recursive=True)):
            held += one.memory_info().rss
    except psutil.NoSuchProcess:
        pass
    return held


class Probe:
    """A caller of its own, in the first partition of both topics."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._token = system.token("prober", ("catalog_writer",))

    async def seconds(self, number: int, until: asyncio.Task[Any] | None = None) -> list[float]:
        """Send so many at a steady pace, and go on `until` that is done; the seconds that each waited.

        Sending does not wait for answers: what is late delays none of the next.
        """
        began = time.monotonic()
        waiting: list[asyncio.Task[float]] = []
        while len(waiting) < number or (until is not None and not until.done()):
            waiting.append(asyncio.create_task(self._one(len(waiting))))
            await asyncio.sleep(max(0.0, began + len(waiting) / PROBES_PER_S - time.monotonic()))
        return list(await asyncio.gather(*waiting))

    async def _one(self, number: int) -> float:
        if number % 2:
            side, body = "queries", {"kind": "get_product", "payload": {"mnemonic": PROBED}}
        else:
            payload = {"name": "Ada", "email": f"{uuid.uuid4().hex}@example.com"}
            side, body = "commands", {"kind": "create_customer", "payload": payload}
        sent_at = time.time()
        reply = await self._system.reply(
            await self._system.send(side, body, token=self._token, partition=0), timeout_s=120
        )
        assert reply.status in {200, 201}, reply.envelope
        return reply.at - sent_at


async def send_costly(system: System, seed: int, number: int, customer: str, **how: Any) -> dict[str, Any]:  # noqa: ANN401
    """Have a process of its own send costly messages; what became of them."""
    reply_to = f"{system.prefix}.replies.{uuid.uuid4().hex[:8]}"
    await system.admin.create_topics([NewTopic(reply_to, 1, 1)])
    task = {
        "servers": system.servers.env.kafka_bootstrap_servers,
        "prefix": system.prefix,
        "reply_to": reply_to,
        "secret": SECRET,
        "seed": seed,
        "number": number,
        "senders": 4,
        "customer": customer,
        "partitions": system.partitions,
    }
    asked, result = (system.directory / f"costly-{uuid.uuid4().hex[:8]}.{name}" for name in ("task", "result"))
    asked.write_text(json.dumps(task | how))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.fuzz.sender", str(asked), str(result), cwd=ROOT, env=os.environ
    )
    try:
        assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return dict(json.loads(result.read_text()))
