"""A backfill worker as a process: `python -m tests.backfill.worker_process <url> <name> <definitions> [<throttle>]`.

The throttle is the budget of the live traffic's 99th percentile in milliseconds, or `off` for none at all.
"""

import asyncio
import logging
import signal
import sys
from pathlib import Path

import structlog

from persistence.backfill.signals import Signal
from workers.backfill.throttle import LIMITS, Throttle
from workers.backfill.worker import run_backfill_worker
from workers.backfill.workplace import BackfillWorkerConfig


async def _main() -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    url, name, folder, *budget_ms = sys.argv[1:]
    await run_backfill_worker(BackfillWorkerConfig(url, name, Path(folder), _throttle(*budget_ms)), stop)


def _throttle(budget_ms: str = "") -> Throttle:
    if budget_ms == "off":
        return Throttle(off=frozenset(Signal))
    return Throttle({**LIMITS, Signal.LIVE_P99: float(budget_ms)}) if budget_ms else Throttle()


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    asyncio.run(_main())
