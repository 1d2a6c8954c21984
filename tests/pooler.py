"""A stand-in for PgBouncer: many clients share a few backends of a real server.

It speaks the protocol as PgBouncer does: a client gets a made-up cancel key, parameters that it does not know are
refused while connecting, and a backend is the client's for a transaction, or for its session.
"""

import asyncio
import struct
from asyncio import StreamReader, StreamWriter
from collections import deque
from contextlib import suppress
from enum import Enum
from typing import Final, Self

import asyncpg

HOST: Final = "127.0.0.1"
SSL_REQUEST: Final = 80877103
KNOWN: Final = frozenset({"user", "database", "application_name", "client_encoding"})
STATUS: Final = {
    "server_version": "18.4",
    "client_encoding": "UTF8",
    "standard_conforming_strings": "on",
    "integer_datetimes": "on",
}


class Mode(Enum):
    """Whose backend it is, and which one comes next."""

    ANOTHER = "another"
    """A transaction gets the one that has rested longest (PgBouncer: server_round_robin)."""
    LAST = "last"
    """A transaction gets the one that was used last (PgBouncer's default)."""
    STATEMENT = "statement"
    """Each statement gets one; whoever begins a transaction is thrown out."""
    SESSION = "session"
    """A client keeps its own."""


class Backend:
    """A connection to the server, logged in."""

    def __init__(self, reader: StreamReader, writer: StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def open(cls, url: str) -> Self:
        """Log in by asyncpg, and take its socket over."""
        connection = await asyncpg.connect(url)
        transport = connection._transport  # type: ignore[attr-defined]
        socket = transport.get_extra_info("socket").dup()
        transport.abort()  # `terminate` would tell the server
        socket.setblocking(False)
        return cls(*await asyncio.open_connection(sock=socket))


class Pooler:
    """Listens on a port of its own; use it as an async context manager."""

    def __init__(self, url: str, mode: Mode, backends: int = 4, encoding: str = "UTF8") -> None:
        self._url = url
        self._mode = mode
        self._most = backends
        self._encoding = encoding
        self._idle: deque[Backend] = deque()
        self._places = asyncio.Semaphore(backends)
        self._tasks: set[asyncio.Task[None]] = set()
        self.url = ""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, HOST, 0)
        port = self._server.sockets[0].getsockname()[1]
        before, _, rest = self._url.rpartition("@")
        self.url = f"{before}@{HOST}:{port}/{rest.partition('/')[2]}"
        if self._mode is not Mode.SESSION:
            self._idle.extend([await Backend.open(self._url) for _ in range(self._most)])
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for backend in self._idle:
            backend.writer.close()

    def _accept(self, reader: StreamReader, writer: StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        try:
            with suppress(OSError, asyncio.IncompleteReadError):
                if await self._greet(reader, writer):
                    await _Client(self, reader, writer).pass_on()
        finally:
            writer.close()

    async def _greet(self, reader: StreamReader, writer: StreamWriter) -> bool:
        while True:
            length, code = struct.unpack("!II", await reader.readexactly(8))
            body = await reader.readexactly(length - 8)
            if code != SSL_REQUEST:
                break
            writer.write(b"N")
        given = body.rstrip(b"\0").split(b"\0")[::2]
        if unknown := sorted({name.decode() for name in given} - KNOWN):
            text = f"SFATAL\0C08P01\0Munsupported startup parameter: {unknown[0]}\0\0".encode()
            writer.write(_message(b"E", text))
            await writer.drain()
            return False
        writer.write(_message(b"R", struct.pack("!I", 0)))
        for name, value in (STATUS | {"server_encoding": self._encoding}).items():
            writer.write(_message(b"S", f"{name}\0{value}\0".encode()))
        writer.write(_message(b"K", struct.pack("!II", 4_000_000, id(writer) & 0xFFFF)))
        writer.write(_message(b"Z", b"I"))
        return True

    async def take(self) -> Backend:
        """Lend a backend out; waits for one."""
        if self._mode is Mode.SESSION:
            return await Backend.open(self._url)
        await self._places.acquire()
        return self._idle.popleft() if self._mode is Mode.ANOTHER else self._idle.pop()

    async def give_back(self, backend: Backend, *, clean: bool) -> None:
        """Take a backend back; one that is in a transaction is thrown away."""
        if self._mode is Mode.SESSION:
            backend.writer.close()
            return
        if not clean:
            backend.writer.close()
            backend = await Backend.open(self._url)
        self._idle.append(backend)
        self._places.release()

    @property
    def by_statement(self) -> bool:
        return self._mode is Mode.STATEMENT

    @property
    def by_transaction(self) -> bool:
        return self._mode is not Mode.SESSION


class _Client:
    """One client, and the backend that is its own just now."""

    def __init__(self, pooler: Pooler, reader: StreamReader, writer: StreamWriter) -> None:
        self._pooler = pooler
        self._reader = reader
        self._writer = writer
        self._backend: Backend | None = None
        self._asked = 0
        self._answers: asyncio.Task[None] | None = None

    async def pass_on(self) -> None:
        try:
            while True:
                kind, body = await _read(self._reader)
                if kind == b"X":
                    return
                if self._backend is None:
                    self._backend = await self._pooler.take()
                    self._answers = asyncio.create_task(self._answer(self._backend))
                if kind in {b"Q", b"S"}:
                    self._asked += 1
                self._backend.writer.write(_message(kind, body))
        finally:
            if self._answers is not None:
                self._answers.cancel()
                await asyncio.gather(self._answers, return_exceptions=True)
            if self._backend is not None:
                await self._pooler.give_back(self._backend, clean=False)

    async def _answer(self, backend: Backend) -> None:
        while True:
            kind, body = await _read(backend.reader)
            if kind == b"Z":
                self._asked -= 1
                if body == b"T" and self._pooler.by_statement:
                    text = b"SFATAL\0C08P01\0Mtransaction blocks not allowed in statement pooling mode\0\0"
                    self._writer.write(_message(b"E", text))
                    self._writer.close()
                    return
                if body == b"I" and not self._asked and self._pooler.by_transaction:
                    self._backend = self._answers = None
                    await self._pooler.give_back(backend, clean=True)
                    self._writer.write(_message(kind, body))
                    return
            self._writer.write(_message(kind, body))


async def _read(reader: StreamReader) -> tuple[bytes, bytes]:
    kind = await reader.readexactly(1)
    (length,) = struct.unpack("!I", await reader.readexactly(4))
    return kind, await reader.readexactly(length - 4)


def _message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!I", len(body) + 4) + body
