"""How long one request takes on an idle system, beside a raw echo through the same broker, one after the other."""

import asyncio
import itertools
import statistics
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Final

from aiokafka.admin import NewTopic

from tests.benchmarks.backlog import creation
from tests.benchmarks.sides import PARTITIONS, Databases, Side, start_program
from tests.servers import Servers
from tests.system import System

A_SECOND: Final = 50
SAMPLES: Final = 2_000
KINDS: Final = ("echo", "create_customer", "get_customer", "get_product")
ECHO: Final = "echo"
ENVELOPE: Final = {"statusCode": 200, "message": "echo", "type": "success", "data": {}}


async def measure_latency(
    servers: Servers, databases: Databases, side: Side, samples: int = SAMPLES
) -> Mapping[str, Sequence[float]]:
    """Send requests of all kinds in turns, so many a second in all; milliseconds of each, sorted."""
    async with System(
        servers, await databases.new(side.root), PARTITIONS, side.root, forks=False, judges=False
    ) as system:
        await system.admin.create_topics([NewTopic(f"{system.prefix}.{ECHO}", PARTITIONS, 1)])
        await start_program(system, "tests.benchmarks.echo", ECHO)
        for role in ("commands", "queries"):
            await side.start(system, role, ready=True)
        customer = (await system.command("create_customer", creation()["payload"])).data["id"]
        payload = {"mnemonic": "KEPT", "overview": "O"}
        assert (await system.command("create_product", payload, version=2)).status == 201
        token = system.token()
        asked: dict[str, tuple[str, Any]] = {
            "get_customer": ("queries", {"kind": "get_customer", "payload": {"customer_id": customer}}),
            "get_product": ("queries", {"kind": "get_product", "payload": {"mnemonic": "KEPT"}}),
            ECHO: (ECHO, ENVELOPE),
        }
        sent: dict[str, list[tuple[str, float]]] = {kind: [] for kind in KINDS}
        begin, clock = time.monotonic() + 1, time.monotonic
        for number, kind in enumerate(itertools.islice(itertools.cycle(KINDS), (samples + 50) * len(KINDS))):
            await asyncio.sleep(max(0.0, begin + number / A_SECOND - clock()))
            where, body = asked.get(kind) or ("commands", creation())
            at = time.time()
            sent[kind].append((await system.send(where, body, key=uuid.uuid4().hex, token=token), at))
        found = {}
        for kind, requests in sent.items():
            taken = [(await system.reply(one)).at - at for one, at in requests]
            found[kind] = sorted(seconds * 1000 for seconds in taken[50:])  # the first ones warm up
        return found


def percentiles(ms: Sequence[float]) -> tuple[float, float, float]:
    """Their p50, p90 and p99."""
    cuts = statistics.quantiles(ms, n=100)
    return cuts[49], cuts[89], cuts[98]
