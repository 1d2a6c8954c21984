"""The world that clients in every language are tried in: a broker of their own, workers, and what befalls them."""

import asyncio
import shutil
import signal
import tempfile
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import NewTopic

from migrations import runner
from tests.kafka_access import Authority, allow, documented, set_password
from tests.servers import SHORT_SESSION_MS, Given, Servers
from tests.system import System
from workers.stack.embedded import EmbeddedStack

LIMITED: Final = 3
"""Requests that the caller `limited` may send in a window."""
_WINDOW_S: Final = 2
_PASSWORD: Final = "the-right-password-" + uuid.uuid4().hex
_SCRAM: Final = "org.apache.kafka.common.security.scram.ScramLoginModule required;"


@dataclass
class World:
    """Servers and workers, and how many drivers look at them."""

    stack: EmbeddedStack
    system: System
    authority: Authority

    # Clients ---------------------------------------------------------------------------------------------------------
    def client(self, row: Mapping[str, Any], language: str) -> dict[str, Any]:
        """Say how a driver reaches the workers for a row."""
        client: dict[str, Any] = {
            "servers": self.stack.environment().kafka_bootstrap_servers,
            "prefix": self.system.prefix,
            "name": language,
            "instance": "one",
            "tokens": [self.token(name, language) for name in row.get("tokens", ["admin"])],
        }
        if row.get("deployment") == "secured":
            client |= {
                "servers": self.stack.listener_servers("SECURE"),
                "reply_topic": self.secured_topic(language),
                "tls": {"ca_file": str(self.authority.file)},
                "sasl": {"mechanism": "SCRAM-SHA-512", "username": language, "password": _PASSWORD},
            }
        return client

    def secured_topic(self, language: str) -> str:
        """Name the reply topic that this caller may read."""
        return f"{self.system.prefix}.replies.{language}-secured"

    def token(self, name: str, language: str) -> str:
        """Make a token by its name in the table."""
        match name:
            case "expired":
                return self.system.token(language, iat=1, exp=2)
            case "reader":
                return self.system.token(language, ("catalog_reader",))
            case "limited":
                return self.system.token(f"limited-{language}")
            case _:
                return self.system.token(language)

    async def admit(self, languages: Sequence[str]) -> None:
        """Give callers their names, topics and rights: those of the list, and no others."""
        admin = self.system.admin
        await admin.create_topics([NewTopic(self.secured_topic(language), 1, 1) for language in languages])
        for language in languages:
            await set_password(admin, language, _PASSWORD)
            rights = documented("A caller", self.system.prefix)
            own = [replace(right, name=right.name.replace("<name>", f"{language}-secured")) for right in rights]
            await allow(admin, language, *own)

    # What befalls them -----------------------------------------------------------------------------------------------
    async def act(self, what: str) -> None:
        """Change the world."""
        match what:
            case "stop the workers":
                self._signal(signal.SIGSTOP)
            case "continue the workers":
                self._signal(signal.SIGCONT)
            case "kill the workers":
                self._signal(signal.SIGKILL)
                await asyncio.gather(*(worker.ended() for worker in self.system.workers))
                self.system.workers.clear()
            case "start the workers":
                await self.start_workers()
            case "kill the broker":
                await asyncio.to_thread(self.stack.stop_part, "kafka", "kill")
            case "start the broker":
                await asyncio.to_thread(self.stack.start_part, "kafka")
            case "wait 30 s":
                await asyncio.sleep(30)
            case _:
                raise ValueError(f"no such act: {what}")

    def _signal(self, number: signal.Signals) -> None:
        for worker in self.system.workers:
            worker.send(number)

    async def start_workers(self) -> None:
        """Start them; returns when both are ready."""
        await asyncio.gather(self.system.start("commands"), self.system.start("queries"))

    # What became of it -----------------------------------------------------------------------------------------------
    async def records(self) -> Counter[str]:
        """Count the records on the command topic by message_id."""
        # Not by a seek after `assign`, which aiokafka's own reset to the end may overtake
        servers = self.stack.environment().kafka_bootstrap_servers
        consumer = AIOKafkaConsumer(bootstrap_servers=servers, auto_offset_reset="earliest")
        await consumer.start()
        try:
            topics = [TopicPartition(f"{self.system.prefix}.commands", n) for n in range(self.system.partitions)]
            consumer.assign(topics)
            ends = await consumer.end_offsets(topics)
            found: Counter[str] = Counter()
            while any([await consumer.position(topic) < ends[topic] for topic in topics]):
                for records in (await consumer.getmany(timeout_ms=200)).values():
                    found.update((dict(record.headers).get("message_id") or b"").decode() for record in records)
            return found
        finally:
            await consumer.stop()

    async def outcome(self, message_id: str, language: str) -> int:
        """Wait until a command was decided; return the statusCode of its outcome."""
        token = self.token("admin", language)

        async def is_there() -> bool:
            return (await self.system.query("get_outcome", {"message_id": message_id}, token=token)).status == 200

        await self.system.until(is_there, 30, f"no outcome of {message_id}")
        reply = await self.system.query("get_outcome", {"message_id": message_id}, token=token)
        return int(reply.data["statusCode"])


@asynccontextmanager
async def world(state: Path, languages: Sequence[str]) -> AsyncIterator[World]:
    """Start servers and workers, and let callers in."""
    folder = Path(tempfile.mkdtemp(prefix="catalog-clients-"))
    folder.chmod(0o755)  # noqa: ASYNC240 - a moment
    authority = Authority(folder, "authority")
    certificate, key = authority.sign("server")
    (folder / "server.pem").write_bytes(key.read_bytes() + certificate.read_bytes())
    stack = EmbeddedStack(
        state,
        kafka_listeners={"SECURE": "SASL_SSL"},
        kafka_config={
            "group.min.session.timeout.ms": str(SHORT_SESSION_MS),
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(folder / "server.pem"),
            "sasl.enabled.mechanisms": "SCRAM-SHA-512",
            "listener.name.secure.scram-sha-512.sasl.jaas.config": _SCRAM,
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS",
        },
        postgres_config={"fsync": "off"},
    )
    try:
        env = await asyncio.to_thread(stack.up)
        await runner.upgrade(env.database_url)
        servers = Servers(Given(env.kafka_bootstrap_servers, env.database_url, env.redis_url), stack, SHORT_SESSION_MS)
        async with System(servers, env.database_url, logs=state) as system:
            overrides = ",".join(f'"limited-{language}":{LIMITED}' for language in languages)
            system.settings |= {
                "RATE_LIMIT_WINDOW_S": str(_WINDOW_S),
                "RATE_LIMIT_OVERRIDES": f"{{{overrides}}}",
            }
            made = World(stack, system, authority)
            await made.admit(languages)
            await made.start_workers()
            yield made
    finally:
        await asyncio.to_thread(stack.down)
        await asyncio.to_thread(stack.wipe)
        shutil.rmtree(folder)
