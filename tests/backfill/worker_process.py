"""A backfill worker as a process: `python -m tests.backfill.worker_process <url> <name> <definitions>`."""

import asyncio
import logging
import signal
import sys
from pathlib import Path

import structlog

from workers.backfill.worker import run_backfill_worker
from workers.backfill.workplace import BackfillWorkerConfig


async def _main() -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    url, name, folder = sys.argv[1:4]
    await run_backfill_worker(BackfillWorkerConfig(url, name, Path(folder)), stop)


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    asyncio.run(_main())
