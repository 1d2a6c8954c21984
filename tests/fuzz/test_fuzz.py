"""Whatever is published, each message is answered or dead-lettered, good ones are applied, and no worker restarts."""

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from tests.system import SECRET, System

NUMBER = {"short": 3_000, "long": 100_000}


@pytest.mark.fuzz
async def test_generated_messages(system: System) -> None:
    """Random bytes, damaged messages, hostile values, headers and header keys, with marked good messages among them."""
    size = os.environ.get("SUITE_SIZE", "short")
    number = NUMBER[size]
    seed = int(os.environ.get("FUZZ_SEED", "20240601"))
    notes = system.directory / "fuzz.json"
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(Path(__file__).parent / "publisher.py"),
        system.servers.env.kafka_bootstrap_servers,
        system.prefix,
        SECRET,
        str(seed),
        str(number),
        str(notes),
        env=os.environ | {"AIOKAFKA_NO_EXTENSIONS": "1"},
    )
    assert await process.wait() == 0
    published = json.loads(notes.read_text())
    workers = {
        side: await system.start(side, LOG_LEVEL="ERROR", LOG_SUCCESSES_PER_S="0") for side in ("commands", "queries")
    }
    for message_id in published["good"]:
        reply = await system.reply(message_id, timeout_s=number / 100 + 30)
        assert reply.status == 201, (seed, reply.envelope)
    for side, worker in workers.items():

        async def all_ended(side: str = side) -> bool:
            return await ended(system, side) >= int(published["sent"][side])

        await system.until(all_ended, number / 100 + 30, f"{side}: not all ended, seed {seed}")
        assert worker.process.returncode is None
    defects = [letter for side in workers for letter in await system.dead_letters(side)]
    broken = [headers["dlq.detail"] for _, headers in defects if headers["dlq.reason"] == "INTERNAL_ERROR"]
    assert broken == [], f"seed {seed}"
    answers = sum(map(len, system.replies.values())) + len(defects)
    assert answers >= sum(published["sent"].values()), f"seed {seed}: {answers} answers"


async def ended(system: System, side: str) -> int:
    """Count what a side's worker has brought to an end."""
    worker = next(one for one in system.workers if one.role == side)
    metrics = await system.metrics(worker)
    return int(sum(value for name, value in metrics.items() if name.startswith("catalog_messages_ended_total")))
