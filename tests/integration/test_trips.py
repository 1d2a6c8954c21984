"""How often a batch goes to the database, counted on the wire: what a lone command waits for is mostly that."""

import asyncio
import struct
import uuid
from asyncio import StreamReader, StreamWriter
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from typing import Final, Self
from urllib.parse import urlsplit, urlunsplit

import pytest

from persistence.engine import PoolSettings, create_engine
from tests.direct import Arrived, Direct

SSL_REQUEST: Final = 80877103
TRIP, STATEMENT = b"Z", b"C"
"""ReadyForQuery: the server waits for the client; CommandComplete: a statement is done."""


class Wire:
    """Passes bytes on between a client and the server; counts the server's messages by their type."""

    def __init__(self, url: str) -> None:
        self._parts = urlsplit(url)
        self.seen: Counter[bytes] = Counter()
        self._under_way: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        login = self._parts.netloc.rpartition("@")[0]
        self.url = urlunsplit(self._parts._replace(netloc=f"{login}@127.0.0.1:{port}"))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._under_way:
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)

    async def _serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection(self._parts.hostname, self._parts.port)
        length, code = struct.unpack("!ii", await reader.readexactly(8))
        if code == SSL_REQUEST:
            writer.write(b"N")
        else:
            there_writer.write(struct.pack("!ii", length, code))
        for passing in (self._ask(reader, there_writer), self._answer(there_reader, writer)):
            task = asyncio.create_task(passing)
            self._under_way.add(task)

    @staticmethod
    async def _ask(reader: StreamReader, writer: StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
        writer.close()

    async def _answer(self, reader: StreamReader, writer: StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readexactly(5)
                kind, length = struct.unpack("!ci", head)
                self.seen[kind] += 1
                writer.write(head + await reader.readexactly(length - 4))
        writer.close()


@pytest.fixture
async def wire(database_url: str) -> AsyncIterator[Wire]:
    """An empty database, behind a wire that is listened to."""
    async with Wire(database_url) as made:
        yield made


@pytest.fixture
async def direct(wire: Wire) -> AsyncIterator[Direct]:
    """A pipeline on that database."""
    engine = create_engine(wire.url, PoolSettings(size=1, max_overflow=0), "tests")
    yield Direct(engine)
    await engine.dispose()


def creations(direct: Direct, many: int) -> Sequence[Arrived]:
    """Make commands that create customers, none like the other."""
    return [
        direct.record("create_customer", {"name": "Ada", "email": f"{uuid.uuid4().hex}@x.example"}, message_id=one)
        for one in (uuid.uuid4().hex for _ in range(many))
    ]


async def counted(wire: Wire, direct: Direct, make: Callable[[], Sequence[Arrived]]) -> tuple[int, int]:
    """Decide two such batches; the trips and statements of the second, for which the session knows the statements."""
    await direct.decide(*make())
    wire.seen.clear()
    answers = await direct.decide(*make())
    assert {envelope["statusCode"] for envelope, _, _ in answers} <= {200, 201}
    return wire.seen[TRIP], wire.seen[STATEMENT]


@pytest.mark.parametrize("many", [1, 2, 500])
async def test_creations_take_six_trips(wire: Wire, direct: Direct, many: int) -> None:
    """One, or five hundred: look-up; begin, with all that needs no answer; holders; rows; outcomes; commit."""
    assert await counted(wire, direct, lambda: creations(direct, many)) == (6, 12)


PRODUCTS: Final = iter(f"P{number}" for number in range(1_000))


@pytest.mark.parametrize("kind", ["create_product", "update_product", "import_products", "set_validation_rules"])
async def test_a_lone_command_of_a_product(wire: Wire, direct: Direct, kind: str) -> None:
    """What changes one product by its name takes no more; one that reads or writes rows of its own, two more."""
    await direct.decide(direct.record("create_product", {"mnemonic": "A", "overview": ""}, message_id="first"))
    payloads: dict[str, Callable[[], dict[str, object]]] = {
        "create_product": lambda: {"mnemonic": next(PRODUCTS), "overview": ""},
        "update_product": lambda: {"mnemonic": "A", "overview": next(PRODUCTS)},
        "import_products": lambda: {"products": [{"mnemonic": next(PRODUCTS), "overview": ""} for _ in range(9)]},
        "set_validation_rules": lambda: {
            "mnemonic": "A",
            "rules": [{"name": next(PRODUCTS), "parameters": {}, "start_date": "2020-01-01"}],
        },
    }
    trips, _ = await counted(wire, direct, lambda: [direct.record(kind, payloads[kind](), message_id=uuid.uuid4().hex)])
    assert trips <= (9 if kind == "set_validation_rules" else 6)
