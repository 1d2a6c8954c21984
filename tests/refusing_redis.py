"""A way to a real Redis on which the server can be made to refuse what it is asked, in any words a server has."""

import asyncio
from asyncio import StreamReader, StreamWriter
from contextlib import suppress
from typing import Final, Self
from urllib.parse import urlsplit

HOST: Final = "127.0.0.1"
SCRIPTS: Final = frozenset({b"EVALSHA", b"EVAL"})


class RefusingRedis:
    """Listens on a port of its own and passes commands on, one connection for each; an async context manager."""

    def __init__(self, url: str) -> None:
        self._place = urlsplit(url)
        self._tasks: set[asyncio.Task[None]] = set()
        self.url = ""
        self.words = ""
        """What is answered instead of passing on; nothing is refused while it is empty."""
        self.commands = SCRIPTS
        """What is refused."""
        self.connections = 0
        """How many have been made so far."""
        self.refused = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, HOST, 0)
        self.url = f"redis://{HOST}:{self._server.sockets[0].getsockname()[1]}{self._place.path}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, reader: StreamReader, writer: StreamWriter) -> None:
        self.connections += 1
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        answers, commands = await asyncio.open_connection(self._place.hostname, self._place.port)
        back = asyncio.create_task(_pass_on(answers, writer))
        try:
            with suppress(OSError, asyncio.IncompleteReadError):
                while True:
                    whole, name = await _read_command(reader)
                    if self.words and name.upper() in self.commands:
                        self.refused += 1
                        writer.write(f"-{self.words}\r\n".encode())
                    else:
                        commands.write(whole)
        finally:
            back.cancel()
            writer.close()
            commands.close()


async def _read_command(reader: StreamReader) -> tuple[bytes, bytes]:
    """Read an array of texts, as clients send it; the bytes as they came, and the first text."""
    whole = await reader.readuntil(b"\r\n")
    texts = []
    for _ in range(int(whole[1:])):
        head = await reader.readuntil(b"\r\n")
        text = await reader.readexactly(int(head[1:]) + 2)
        whole += head + text
        texts.append(text[:-2])
    return whole, texts[0]


async def _pass_on(reader: StreamReader, writer: StreamWriter) -> None:
    while data := await reader.read(64 * 1024):
        writer.write(data)
