"""Publish generated messages; run as a script, since hostile header keys need aiokafka's pure-Python encoder.

Arguments: servers, prefix, secret, seed, number, file for what was sent. Everything follows from the seed.
"""

import asyncio
import json
import random
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import jwt
from aiokafka import AIOKafkaProducer

from contracts.kinds import Role
from contracts.registry import KINDS as DECLARED

GOOD_EVERY = 10
KINDS = (*(kind.name for kind in DECLARED.values() if kind.role is not Role.OPERATOR), "nonsense", "")
HEADERS = ("message_id", "correlation_id", "reply_to", "authorization", "deadline", "content-type", "traceparent")


class RawKey(str):  # noqa: SLOT000 - it carries its bytes
    """A header key made of any bytes."""

    raw: bytes

    def encode(self, *_: object) -> bytes:
        """Give the bytes."""
        return self.raw


def raw_key(raw: bytes) -> RawKey:
    """Make such a key."""
    key = RawKey("x")
    key.raw = raw
    return key


class Generator:
    """Makes messages; each is (side, value, headers)."""

    def __init__(self, prefix: str, secret: str, seed: int) -> None:
        self.random = random.Random(seed)
        self.prefix = prefix
        now = int(time.time())
        self.tokens = [
            jwt.encode({"sub": f"fuzz-{n}", "roles": ["catalog_admin", "catalog_operator"], "exp": now + 7200}, secret)
            for n in range(5)
        ]

    def headers(self, message_id: str) -> list[tuple[str, bytes | None]]:
        """Make the headers of a good message."""
        return [
            ("message_id", message_id.encode()),
            ("correlation_id", message_id.encode()),
            ("reply_to", f"{self.prefix}.replies.test".encode()),
            ("authorization", b"Bearer " + self.random.choice(self.tokens).encode()),
            ("content-type", b"application/json"),
        ]

    def message(self) -> tuple[str, bytes | None, list[tuple[str, bytes | None]]]:
        """Make one hostile message."""
        side = "commands" if self.random.random() < 0.85 else "queries"
        headers = self.headers(uuid.UUID(int=self.random.getrandbits(128)).hex)
        match self.random.randrange(5):
            case 0:
                value: bytes | None = self.random.randbytes(self.random.randrange(200))
            case 1:
                value = self.mutate(json.dumps(self.body()).encode())
            case 2:
                value = json.dumps(self.body()).encode()
                headers = self.bad_headers(headers)
            case 3:
                value = json.dumps({"kind": self.random.choice(KINDS), "payload": self.value(0)}).encode()
            case _:
                value = json.dumps(self.body()).encode("utf-8", "surrogatepass")
        return side, value, headers

    def body(self) -> dict[str, Any]:
        """Make a body that is nearly right."""
        kind = self.random.choice(KINDS)
        payload: dict[str, Any] = {}
        names = (
            "name", "email", "preferences", "customer_id", "mnemonic", "overview", "category", "tags", "catalog",
            "version_label", "start_date", "end_date", "items", "rules", "products", "lines", "order_id",
            "expected_version", "is_active", "archived", "unknown",
        )  # fmt: skip
        for name in self.random.sample(names, self.random.randrange(1, 8)):
            payload[name] = self.field(name)
        body: dict[str, Any] = {"kind": kind, "payload": payload}
        if self.random.random() < 0.2:
            body["version"] = self.random.choice([1, 2, 3, 0, -1, "1", None, 1.5, 10**30, True])
        if self.random.random() < 0.05:
            body[self.random.choice(["extra", "Kind", ""])] = 1
        return body

    def field(self, name: str) -> object:
        """Make a value that a field may well be given."""
        if self.random.random() < 0.3:
            return self.value(0)
        return {
            "name": self.text(), "email": f"{self.random.getrandbits(60):x}@example.com", "overview": self.text(),
            "customer_id": str(uuid.UUID(int=self.random.getrandbits(128))), "mnemonic": self.random.choice(["A", "a"]),
            "lines": [{"mnemonic": "A", "quantity": 1, "unit_price": self.random.choice(["1.00", "-1", "1e5", 1])}],
            "start_date": self.random.choice(["2024-01-01", "2024-13-01", "0000-00-00", ""]),
            "rules": [{"name": "r", "parameters": self.value(0), "start_date": "2024-01-01"}],
            "products": [self.value(1) for _ in range(3)],
        }.get(name, self.value(0))  # fmt: skip

    def value(self, depth: int) -> object:
        """Make any JSON value, the nasty ones more often."""
        match self.random.randrange(8 if depth < 4 else 6):
            case 0:
                return self.random.choice([0, -1, 2**53, -(2**63), 10**400, 1e308, 1e-320, -0.0, 0.1])
            case 1:
                return self.text()
            case 2:
                return self.random.choice([None, True, False])
            case 3:
                return self.random.choice(["NaN", float("nan"), float("inf")])
            case 4:
                return "x" * self.random.choice([0, 1, 200, 5000])
            case 5:
                return {}
            case 6:
                return [self.value(depth + 1) for _ in range(self.random.randrange(4))]
            case _:
                return {self.text(): self.value(depth + 1) for _ in range(self.random.randrange(4))}

    def text(self) -> str:
        """Make a text of characters that trip programs up."""
        pool = [
            "a",
            "Z",
            " ",
            "%",
            "_",
            "\\",
            "'",
            '"',
            "\x00",
            "\x1f",
            "\u202e",
            "\ud800",
            "é",
            "e\u0301",
            "\U0001d518",
            "ß",
            "İ",
        ]
        return "".join(self.random.choices(pool, k=self.random.randrange(12)))

    def mutate(self, value: bytes) -> bytes:
        """Damage a few bytes."""
        damaged = bytearray(value)
        for _ in range(self.random.randrange(1, 6)):
            place = self.random.randrange(len(damaged))
            match self.random.randrange(3):
                case 0:
                    damaged[place] = self.random.randrange(256)
                case 1:
                    del damaged[place : place + self.random.randrange(1, 9)]
                case _:
                    damaged[place:place] = self.random.randbytes(3)
            if not damaged:
                break
        return bytes(damaged)

    def bad_headers(self, headers: list[tuple[str, bytes | None]]) -> list[tuple[str, bytes | None]]:
        """Damage the headers."""
        name = self.random.choice(HEADERS)
        match self.random.randrange(6):
            case 0:
                return [header for header in headers if header[0] != name]
            case 1:
                return [*headers, (name, self.random.randbytes(self.random.randrange(30)))]
            case 2:
                return [(header, None if header == name else value) for header, value in headers]
            case 3:
                return [*headers, (raw_key(self.random.randbytes(4) + b"\xff"), b"1")]
            case 4:
                junk = self.random.randbytes(self.random.choice([0, 50, 20_000]))
                return [(header, junk if header == name else value) for header, value in headers]
            case _:
                return [*headers, ("x" * self.random.randrange(300), self.random.randbytes(5))]


async def main() -> None:
    """Publish, and write down which good ones were among them."""
    servers, prefix, secret, seed, number, target = sys.argv[1:]
    generator = Generator(prefix, secret, int(seed))
    producer = AIOKafkaProducer(bootstrap_servers=servers, acks="all", max_request_size=4 << 20)
    await producer.start()
    good, sent = [], {"commands": 0, "queries": 0}
    waiting = []
    try:
        for place in range(int(number)):
            if place % GOOD_EVERY == 0:
                message_id = f"good-{seed}-{place}"
                good.append(message_id)
                payload = {"name": "Good", "email": f"{message_id}-{uuid.uuid4().hex}@example.com"}
                value: bytes | None = json.dumps({"kind": "create_customer", "payload": payload}).encode()
                side, headers = "commands", generator.headers(message_id)
            else:
                side, value, headers = generator.message()
            sent[side] += 1
            waiting.append(await producer.send(f"{prefix}.{side}", value, key=b"%d" % (place % 7), headers=headers))
        await asyncio.gather(*waiting)
    finally:
        await producer.stop()
    await asyncio.to_thread(Path(target).write_text, json.dumps({"good": good, "sent": sent}))


if __name__ == "__main__":
    asyncio.run(main())
