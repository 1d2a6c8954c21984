"""What a record takes to unpack costs no other: those beside it are decided, and other partitions do not wait."""

import json
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import psutil

from tests.record_batches import GZIP, LZ4, SNAPPY, ZSTD, Part, batch
from tests.system import System

MIB = 1024 * 1024
ZEROS = b"\0" * (60 * MIB)


@dataclass
class Sender:
    """Writes records of one caller, and remembers under which ids they are to be answered how."""

    system: System
    expected: dict[str, int] = field(default_factory=dict)

    def headers(self, status: int) -> list[tuple[bytes, bytes | None]]:
        """Make the headers of a message to be answered so."""
        name = uuid.uuid4().hex
        self.expected[name] = status
        return [
            (b"message_id", name.encode()),
            (b"correlation_id", name.encode()),
            (b"reply_to", self.system.reply_to.encode()),
            (b"authorization", f"Bearer {self.system.token()}".encode()),
        ]

    def good(self, size: int = 0) -> Part:
        """Make a good command, of so many bytes at least."""
        payload = {"name": "N", "email": f"{uuid.uuid4().hex}@example.com"}
        body = json.dumps({"kind": "create_customer", "payload": payload}).encode()
        return Part(body.ljust(size), b"k", self.headers(201))

    def beyond(self, value: bytes = b"{}", key: bytes = b"k", more_headers: int = 0) -> Part:
        """Make one beyond its limits."""
        return Part(value, key, self.headers(413), more_headers)


Fetched = Callable[[Sender], Sequence[bytes]]

DEAR: dict[str, Fetched] = {
    "8 bodies of 60 MiB": lambda by: [batch(0, [by.good(), by.beyond(ZEROS), by.good()], GZIP) for _ in range(8)],
    "3 million headers": lambda by: [batch(0, [by.good(), by.beyond(more_headers=3_000_000), by.good()], GZIP)],
    "300 commands in 75 MiB": lambda by: [batch(0, [by.good(256 * 1024) for _ in range(300)], ZSTD)],
    "a key of 15 MiB": lambda by: [batch(0, [by.good(), by.beyond(key=ZEROS[: 15 * MIB]), by.good()], LZ4)],
    "a body of 15 MiB in snappy": lambda by: [batch(0, [by.good(), by.beyond(ZEROS[: 15 * MIB])], SNAPPY)],
    "bombs of each kind": lambda by: [
        batch(
            0,
            [
                by.beyond(ZEROS[: 15 * MIB]),
                by.good(),
                by.beyond(more_headers=1_000_000),
                by.good(),
                by.beyond(key=ZEROS[: 15 * MIB]),
                by.good(),
            ],
            ZSTD,
        )
    ],
}


async def test_bytes(system: System) -> None:
    """Each record within its limits is applied, each beyond them gets its 413, and the worker stays small."""
    system.forks = False
    worker = await system.start("commands")
    process = psutil.Process(worker.process.pid)
    before = process.memory_info().rss
    sender = Sender(system)
    for make in DEAR.values():
        for written in make(sender):
            assert len(written) < MIB
            await system.store(f"{system.prefix}.commands", written)
    replies = {name: (await system.reply(name, timeout_s=60)).status for name in sender.expected}
    assert replies == sender.expected
    assert await system.dead_letters() == []
    created = sum(status == 201 for status in sender.expected.values())
    assert (await system.fetch("select count(*) from customers"))[0][0] == created
    assert process.memory_info().rss - before < 100 * MIB


async def test_turns(system: System) -> None:
    """Others need not wait until 5,000 empty records are put aside, nor while a large batch is unpacked."""
    crowd = batch(0, [Part(None, None)] * 5_000, GZIP)
    bombs = batch(0, [Part(ZEROS * 2)], ZSTD)
    await system.store(f"{system.prefix}.commands", crowd, 0)
    await system.store(f"{system.prefix}.commands", bombs, 1)
    probe = json.loads(Sender(system).good().value or b"")
    sent = await system.send("commands", probe, partition=2)
    await system.flush()
    await system.start("commands")
    reply = await system.reply(sent)
    assert reply.status == 201
    letters = await system.letters(5_001)
    before = sum(int(headers["dlq.failed_at"]) < reply.at * 1000 for _, headers in letters)
    assert before <= 1_500
