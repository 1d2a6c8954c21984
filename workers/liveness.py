"""From what the edge and the pipeline say of themselves to what a probe may be told.

Stuck is a worker that has work, whose broker and database are there, and that gets nowhere: only another process can
help then. Waiting for a server that is away is no such thing, and a restart would only add to the trouble.
"""

import asyncio
from collections.abc import Callable

from workers.kafka.observation import EdgeHealth, PartitionHealth

WATCH_EVERY_S = 1.0


def stuck_because(health: EdgeHealth, outage: str | None, after_s: float) -> str | None:
    """Say why this process should be replaced, None while it need not be.

    `outage` is the server that the pipeline is waiting for, if any. A broker that is away shows in the edge alone: it
    answers no fetch, so nothing that was fetched waits to be decided.
    """
    if health.fatal is not None:
        return health.fatal
    if outage is not None:
        return None
    if health.busy_s > after_s:
        return f"one batch has been under way for {health.busy_s:.0f} s"
    worst = max((one for one in health.partitions if _is_held_up(one, after_s)), key=_stuck_s, default=None)
    if worst is None:
        return None
    topic, partition = worst.position
    return f"{worst.lag} records of {topic}/{partition} wait, and none was decided for {worst.stuck_s:.0f} s"


async def until_stuck(stuck: Callable[[], str | None], for_s: float) -> str:
    """Return the reason once a worker has been stuck for so long: time enough for a probe to have it replaced."""
    loop = asyncio.get_running_loop()
    since: float | None = None
    while True:
        reason = stuck()
        if reason is None:
            since = None
        else:
            since = since if since is not None else loop.time()
            if loop.time() - since >= for_s:
                return reason
        await asyncio.sleep(WATCH_EVERY_S)


def _is_held_up(partition: PartitionHealth, after_s: float) -> bool:
    was_answered = partition.fetched_s is not None and partition.fetched_s <= after_s
    return partition.lag > 0 and partition.stuck_s > after_s and was_answered


def _stuck_s(partition: PartitionHealth) -> float:
    return partition.stuck_s
