"""A TCP proxy that can do to its connections what networks do: cut them, refuse them, hold them up, swallow them."""

import asyncio
from asyncio import StreamReader, StreamWriter
from contextlib import suppress
from typing import Final

HOST: Final = "127.0.0.1"
CHUNK_BYTES: Final = 64 * 1024


class Proxy:
    """Passes bytes on between whoever connects to `port` and the target. Nothing is held up until it is asked for."""

    def __init__(self) -> None:
        self.port = 0
        self.delay_s = 0.0
        """How long each piece of data waits before it goes on, in either direction."""
        self.refusing = False
        """Whether new connections are closed at once."""
        self._target: tuple[str, int] | None = None
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._server: asyncio.Server | None = None
        self._open: set[StreamWriter] = set()

    async def start(self) -> None:
        """Listen on a free port, which is kept."""
        self._server = await asyncio.start_server(self._serve, HOST, 0)
        self.port = self._server.sockets[0].getsockname()[1]

    def lead_to(self, host: str, port: int) -> None:
        """Say where to; until then everybody is refused."""
        self._target = (host, port)

    def cut(self) -> int:
        """End all connections without a word; returns how many there were, seen from their clients."""
        cut = len(self._open) // 2
        for writer in self._open:
            writer.transport.abort()
        return cut

    def swallow(self) -> None:
        """Let nothing through, in either direction: connections stay open, and nobody is told."""
        self._flowing.clear()

    def heal(self) -> None:
        """Do no harm any more. What was held up arrives."""
        self.delay_s = 0.0
        self.refusing = False
        self._flowing.set()

    async def stop(self) -> None:
        """End all connections and stop listening."""
        if self._server is not None:
            self._server.close()
            self.cut()
            await self._server.wait_closed()

    async def _serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        if self.refusing or self._target is None:
            writer.transport.abort()
            return
        try:
            from_target, to_target = await asyncio.open_connection(*self._target)
        except OSError:
            writer.transport.abort()
            return
        ends = {writer, to_target}
        self._open |= ends
        pumps = [
            asyncio.create_task(self._pump(reader, to_target)),
            asyncio.create_task(self._pump(from_target, writer)),
        ]
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
