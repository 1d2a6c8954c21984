"""A TCP proxy that can do to its connections what networks do: cut them, refuse them, hold them up, swallow them."""

import asyncio
import threading
from asyncio import StreamReader, StreamWriter
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Final

HOST: Final = "127.0.0.1"
CHUNK_BYTES: Final = 64 * 1024
_START_TIMEOUT_S: Final = 10.0


class Line:
    """A thread with an event loop for proxies: what the tests compute meanwhile must not hold up anybody's network."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="proxies", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Have it do something, and wait for that."""
        asyncio.run_coroutine_threadsafe(work, self.loop).result(_START_TIMEOUT_S)

    def tell(self, callback: Callable[[], object]) -> None:
        """Have it do something soon."""
        self.loop.call_soon_threadsafe(callback)

    def close(self) -> None:
        """End the thread."""
        self.tell(self.loop.stop)
        self._thread.join()
        self.loop.close()


class Proxy:
    """Passes bytes on between whoever connects to `port` and the target. Nothing is held up until it is asked for."""

    def __init__(self, line: Line) -> None:
        self.port = 0
        self.delay_s = 0.0
        """How long each piece of data waits before it goes on, in either direction."""
        self.refusing = False
        """Whether new connections are closed at once."""
        self._line = line
        self._target: tuple[str, int] | None = None
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[None]] = set()
        self._open: set[StreamWriter] = set()

    def start(self) -> None:
        """Listen on a free port, which is kept."""
        self._line.run(self._start())

    def stop(self) -> None:
        """End all connections and stop listening."""
        self._line.run(self._stop())

    def lead_to(self, host: str, port: int) -> None:
        """Say where to; until then everybody is refused."""
        self._target = (host, port)

    def cut(self) -> None:
        """End all connections without a word."""
        self._line.tell(self._cut)

    def swallow(self) -> None:
        """Let nothing through, in either direction: connections stay open, and nobody is told."""
        self._line.tell(self._flowing.clear)

    def heal(self) -> None:
        """Do no harm any more. What was held up arrives."""
        self.delay_s = 0.0
        self.refusing = False
        self._line.tell(self._flowing.set)

    # In the thread ---------------------------------------------------------------------------------------------------
    async def _start(self) -> None:
        self._server = await asyncio.start_server(self._accept, HOST, 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)
        await self._server.wait_closed()

    def _cut(self) -> None:
        for writer in self._open:
            writer.transport.abort()

    def _accept(self, reader: StreamReader, writer: StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        try:
            if self.refusing or self._target is None:
                return
            from_target, to_target = await asyncio.open_connection(*self._target)
        except OSError:
            return
        else:
            await self._pass_on((reader, to_target), (from_target, writer))
        finally:
            writer.transport.abort()

    async def _pass_on(self, *ways: tuple[StreamReader, StreamWriter]) -> None:
        """Pass on both ways until one of them ends."""
        ends = {writer for _, writer in ways}
        self._open |= ends
        pumps = [asyncio.create_task(self._pump(*way)) for way in ways]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._open -= ends
            for pump in pumps:
                pump.cancel()
            for end in ends:
                end.transport.abort()
            await asyncio.gather(*pumps, return_exceptions=True)

    async def _pump(self, reader: StreamReader, writer: StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(CHUNK_BYTES):
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)
                await self._flowing.wait()
                writer.write(data)
                await writer.drain()
