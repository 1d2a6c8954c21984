"""One worker process: start, run, stop.

Start waits for whatever is away and refuses what is wrong. SIGTERM and Ctrl-C: stop fetching, finish the running batch,
its replies and acks, leave the group, close. A part that is broken beyond repair ends the process with exit code 1, so
that it is replaced.
"""

import asyncio
import gc
import signal
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import structlog
import uvicorn
from starlette.applications import Starlette

from workers.operator_error import OperatorError

_log = structlog.get_logger(__name__)

EXIT_STOPPED = 0
EXIT_BROKEN = 1

Job = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Worker:
    """What the composition root hands over.

    `start` returns when the worker has joined, `failed` when it is broken beyond repair (with the reason), `stop` when
    all is done; `jobs` run beside it until the end; `close` releases connections.
    """

    name: str
    app: Starlette
    host: str
    port: int
    start: Job
    failed: Callable[[], Awaitable[str]]
    stop: Job
    close: Job
    jobs: Sequence[Job] = ()


class PortTakenError(OperatorError):
    """The health server has nowhere to listen; the text says why, in one line."""


async def run(worker: Worker, announce: Callable[[str], None] = lambda _: None) -> int:
    """Run a worker until it is told to stop; returns the exit code. `announce` gets its health server's address."""
    _calm_collector()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    server, serving = await _serve(worker, announce)
    running = asyncio.create_task(_run(worker), name="worker")
    stopping = asyncio.create_task(stop.wait(), name="stop")
    try:
        await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            _log.error("worker_broken", reason=running.result())
            return EXIT_BROKEN
        return EXIT_STOPPED
    finally:
        _log.info("worker_stopping")
        await worker.stop()
        for task in (running, stopping):
            task.cancel()
        await asyncio.gather(running, stopping, return_exceptions=True)
        await worker.close()
        server.stop()
        await serving
        _log.info("worker_stopped")


def _calm_collector() -> None:
    """Collect garbage less often: each lane's batch holds some twenty thousand objects, none of them in a cycle.

    Measured on 500-message batches: decoding and judging take half the time.
    """
    gc.freeze()
    gc.set_threshold(100_000, 20, 50)


async def _run(worker: Worker) -> str:
    jobs = [asyncio.create_task(_keep_going(job)) for job in worker.jobs]
    try:
        await worker.start()
        _log.info("worker_started")
        return await worker.failed()
    finally:
        for job in jobs:
            job.cancel()
        await asyncio.gather(*jobs, return_exceptions=True)


async def _keep_going(job: Job) -> None:
    """Run a job again when it fails: no job beside the worker may end it."""
    while True:
        try:
            await job()
        except Exception as error:  # noqa: BLE001 - logged, and tried again
            _log.warning("job_failed", job=getattr(job, "__name__", "job"), exc_info=error)
            await asyncio.sleep(1)


class _Server(uvicorn.Server):
    """Waits to be stopped, and sleeps meanwhile; uvicorn's own looks ten times a second whether it was."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._stopped = asyncio.Event()

    async def main_loop(self) -> None:
        """Serve until it is stopped."""
        await self.on_tick(0)  # writes the headers that all answers have
        await self._stopped.wait()

    def stop(self) -> None:
        """Have it end."""
        self.should_exit = True
        self._stopped.set()


async def _serve(worker: Worker, announce: Callable[[str], None]) -> tuple[_Server, "asyncio.Task[None]"]:
    try:
        listener = socket.create_server((worker.host, worker.port))
    except OSError as error:
        reason = (error.strerror or type(error).__name__).partition(" (")[0]
        text = f"METRICS_HOST {worker.host}, METRICS_PORT {worker.port}: nobody can listen there: {reason}"
        raise PortTakenError(text) from error
    config = uvicorn.Config(worker.app, log_config=None, access_log=False, lifespan="off", date_header=False)
    server = _Server(config)
    announce(f"http://{worker.host}:{listener.getsockname()[1]}")
    # `_serve`, since `serve` takes the signals for itself: they are ours.
    return server, asyncio.create_task(server._serve(sockets=[listener]), name="health")  # noqa: SLF001
