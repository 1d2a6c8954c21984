"""A deployment under test: its own topics and database, worker processes, and a caller that speaks the wire contract.

The caller knows Kafka, JSON and JWT, and nothing of the workers' code.
"""

import asyncio
import itertools
import json
import os
import shutil
import signal
import sys
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from urllib.request import urlopen

import asyncpg
import jwt
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError
from aiokafka.partitioner import DefaultPartitioner
from aiokafka.protocol.produce import ProduceRequest

from tests import record_batches
from tests.contracts.recording import recorder
from tests.forked import ROOT, Process, fork
from tests.servers import Servers
from workers.stack.tied import tied

SECRET = "a-secret-that-only-this-test-suite-knows"
ADMIN = ("catalog_admin", "catalog_operator")


@dataclass(frozen=True)
class Reply:
    """One reply as its caller sees it."""

    envelope: dict[str, Any]
    raw: bytes
    headers: dict[str, str]
    key: bytes | None
    at: float

    @property
    def status(self) -> int:
        return int(self.envelope["statusCode"])

    @property
    def code(self) -> str | None:
        data = self.envelope["data"]
        return str(data["error_code"]) if self.envelope["type"] == "error" else None

    @property
    def data(self) -> Any:  # noqa: ANN401 - any JSON value
        return self.envelope["data"]


@dataclass
class WorkerProcess:
    """A worker as an operator runs it."""

    role: str
    process: Process
    log: Path
    metrics_url: str = ""

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    async def ended(self, timeout_s: float = 30) -> int:
        """Wait for its end; returns the exit code."""
        return await asyncio.wait_for(self.process.wait(), timeout_s)

    def lines(self) -> list[dict[str, Any]]:
        """Read its log."""
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]


def read_if_there(path: Path) -> str:
    """Read a small file that a worker may not have written yet."""
    return path.read_text().strip() if path.exists() else ""


@dataclass
class System:
    """One deployment. Use it as an async context manager."""

    servers: Servers
    database_url: str
    partitions: int = 4
    root: Path = ROOT
    """The checkout whose workers are run."""
    forks: bool = True
    """Whether workers are forked from a process that has loaded everything, or executed as an operator does: that is
    what other checkouts need, and whoever measures a process."""
    prefix: str = field(default_factory=lambda: f"t{uuid.uuid4().hex[:10]}")
    judges: bool = True
    """Whether what is answered is held against the contract: not what benchmarks measure, which would pay for it."""
    shares_topics: bool = False
    """Others have the same prefix: the topics are not deleted with it."""
    workers: list[WorkerProcess] = field(default_factory=list)
    replies: dict[str, list[Reply]] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)
    logs: Path | None = None
    """Whose the workers' logs are: a test's folder, which pytest keeps for a while. None: kept after an error alone."""
    deviations: list[str] = field(default_factory=list)
    """Where workers of this checkout did not keep to the document of the contract."""
    _sent: dict[str, list[object]] = field(default_factory=dict, repr=False)
    """The bodies of requests, by correlation id."""
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    async def __aenter__(self) -> Self:
        servers = self.servers.env.kafka_bootstrap_servers
        self._arrived = asyncio.Condition()
        self.directory = (self.logs or Path(tempfile.gettempdir())) / f"catalog-{self.prefix}"
        self.directory.mkdir(parents=True)
        self.admin = AIOKafkaAdminClient(bootstrap_servers=servers)
        await self.admin.start()
        stamped = {"message.timestamp.type": "LogAppendTime", "max.message.bytes": "1048576"}
        letters = {"max.message.bytes": str(1048576 + 65536)}
        await self.admin.create_topics(
            [
                NewTopic(f"{self.prefix}.commands", self.partitions, 1, topic_configs=stamped),
                NewTopic(f"{self.prefix}.queries", self.partitions, 1, topic_configs=stamped),
                NewTopic(f"{self.prefix}.commands.dead-letters", 1, 1, topic_configs=letters),
                NewTopic(f"{self.prefix}.queries.dead-letters", 1, 1, topic_configs=letters),
                NewTopic(self.reply_to, 1, 1),
            ]
        )
        self.producer = AIOKafkaProducer(
            bootstrap_servers=servers, acks="all", enable_idempotence=True, max_request_size=4 << 20
        )
        await self.producer.start()
        self.consumer = AIOKafkaConsumer(bootstrap_servers=servers, auto_offset_reset="earliest")
        await self.consumer.start()
        self.consumer.assign([TopicPartition(self.reply_to, 0)])
        self._reader = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, kind: object, *_: object) -> None:
        for one in self.workers:
            if one.process.returncode is None:
                one.process.kill()
        for one in self.workers:
            await one.process.wait()
        self._reader.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)
        await self.consumer.stop()
        await self.producer.stop()
        if not self.shares_topics:
            with suppress(KafkaError):  # of a broker that a test has left away
                await self._delete_topics()
        await self.admin.close()
        if self.logs is None and kind is None:
            shutil.rmtree(self.directory)
        if kind is None:
            assert not (self.judges and self.deviations), (
                f"{len(self.deviations)} deviations from the contract: {self.deviations[:5]}"
            )

    async def _delete_topics(self) -> None:
        """Leave none behind: a broker that starts reads the logs of all, after a hundred deployments half a minute."""
        sides = [f"{self.prefix}.{side}" for side in ("commands", "queries")]
        made = {
            *sides,
            *(f"{side}.dead-letters" for side in sides),
            self.reply_to,
        }  # perhaps too short ago to be listed
        listed = {name for name in await self.admin.list_topics() if name.startswith(f"{self.prefix}.")}
        await self.admin.delete_topics(sorted(made | listed))

    @property
    def reply_to(self) -> str:
        return f"{self.prefix}.replies.test"

    def environment(self) -> dict[str, str]:
        """Give the environment of whatever belongs to this deployment."""
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith(("KAFKA_", "JWT_"))},
            "ENVIRONMENT": "development",
            "KAFKA_BOOTSTRAP_SERVERS": self.servers.env.kafka_bootstrap_servers,
            "KAFKA_SESSION_TIMEOUT_MS": str(self.servers.session_timeout_ms),
            "DATABASE_URL": self.database_url,
            "REDIS_URL": self.servers.env.redis_url,
            "TOPIC_PREFIX": self.prefix,
            "JWT_SECRET": SECRET,
            "OUTCOME_HMAC_KEY": "outcomes-" + SECRET,
            "DLQ_SIGNING_KEY": "dead-letters-" + SECRET,
            "RATE_LIMIT_REQUESTS": "1000000",
            "LOG_LEVEL": "INFO",
            **self.settings,
        }

    # Workers ---------------------------------------------------------------------------------------------------------
    async def start(self, role: str = "commands", *, ready: bool = True, **settings: str) -> WorkerProcess:
        """Start a worker process; waits until it is ready."""
        number = next(self._numbers)  # several may be starting at once
        log = self.directory / f"{role}-{number}.log"
        announced = self.directory / f"{role}-{number}.url"
        env = self.environment() | {"WORKER_NAME": f"{role}-{number}", "METRICS_URL_FILE": str(announced)} | settings
        process: Process
        if self.forks:
            process = fork("workers", "worker", role, env=env, out=log)
        else:
            with log.open("wb") as output:
                process = await asyncio.create_subprocess_exec(
                    *tied([sys.executable, "-m", "workers", "worker", role]),
                    env=env,
                    cwd=self.root,
                    stdout=output,
                    stderr=output,
                )
        worker = WorkerProcess(role, process, log)
        self.workers.append(worker)
        if ready:
            await self.until(lambda: self._is_ready(worker, announced), 30, f"{role} is not ready, see {log}")
        return worker

    async def _is_ready(self, worker: WorkerProcess, announced: Path) -> bool:
        assert worker.process.returncode is None, (
            f"ended with {worker.process.returncode}: {worker.log.read_text()[-2000:]}"
        )
        if not worker.metrics_url:
            worker.metrics_url = read_if_there(announced)
            if not worker.metrics_url:
                return False
        return await self.http_status(worker.metrics_url + "/ready") == 200

    @staticmethod
    async def http_status(url: str) -> int:
        """Ask a health check."""
        try:
            return int((await asyncio.to_thread(urlopen, url, timeout=15)).status)
        except OSError as error:
            return int(getattr(error, "code", 0))

    @staticmethod
    async def metrics(worker: WorkerProcess) -> dict[str, float]:
        """Read a worker's metrics: sample with its labels, as Prometheus writes it, to value."""
        text = (await asyncio.to_thread(lambda: urlopen(worker.metrics_url + "/metrics", timeout=15).read())).decode()  # noqa: S310
        found = {}
        for line in text.splitlines():
            if not line.startswith("#"):
                name, value = line.rsplit(" ", 1)
                found[name] = float(value)
        return found

    @staticmethod
    async def until(condition: Callable[[], Awaitable[bool]], timeout_s: float, what: str) -> None:
        """Ask until it is so; fails after the time-out."""
        end = time.monotonic() + timeout_s
        while not await condition():
            assert time.monotonic() < end, what
            await asyncio.sleep(0.05)

    # The caller ------------------------------------------------------------------------------------------------------
    async def _read(self) -> None:
        async for record in self.consumer:
            headers = {name: (value or b"").decode("utf-8", "replace") for name, value in record.headers}
            reply = Reply(json.loads(record.value), record.value, headers, record.key, time.time())
            if self.judges and self.root == ROOT:
                sent = self._sent.get(headers.get("correlation_id", ""), ())
                self.deviations += [
                    *recorder().of_reply(headers, reply.envelope),
                    *recorder().of_requests(sent, reply.envelope),
                ]
            async with self._arrived:
                self.replies.setdefault(headers.get("correlation_id", ""), []).append(reply)
                self._arrived.notify_all()

    @staticmethod
    def token(sub: str = "tester", roles: Sequence[str] = ADMIN, **claims: object) -> str:
        """Make a token."""
        now = int(time.time())
        return jwt.encode({"sub": sub, "roles": list(roles), "iat": now, "exp": now + 3600} | claims, SECRET, "HS256")

    async def send(
        self,
        side: str,
        body: object,
        *,
        key: str = "k",
        message_id: str | None = None,
        correlation_id: str | None = None,
        token: str | None = None,
        drop: Sequence[str] = (),
        extra: Sequence[tuple[str, bytes | None]] = (),
        headers: Mapping[str, str] | None = None,
        partition: int | None = None,
        confirm: bool = False,
    ) -> str:
        """Publish a request; returns its correlation id. With `confirm`, once the broker has it (or raises)."""
        correlation_id = correlation_id or uuid.uuid4().hex
        fields = {
            "message_id": message_id or uuid.uuid4().hex,
            "correlation_id": correlation_id,
            "reply_to": self.reply_to,
            "authorization": f"Bearer {token or self.token()}",
            "content-type": "application/json",
        } | dict(headers or {})
        raw = [(name, value.encode()) for name, value in fields.items() if name not in drop] + list(extra)
        value = body if isinstance(body, bytes) else json.dumps(body).encode()
        if not isinstance(body, bytes):
            self._sent.setdefault(correlation_id, []).append(body)
        sent = await self.producer.send(
            f"{self.prefix}.{side}", value, key=key.encode(), headers=raw, partition=partition
        )
        if confirm:
            await sent
        return correlation_id

    async def send_undecodable(self, side: str, body: object, *, key: str = "k") -> None:
        """Publish a record with a header key that is not UTF-8, as any client may, and as aiokafka's own cannot."""
        await self.flush()
        headers = [(b"\xff\xfe", b"1"), (b"message_id", b"undecodable")]
        written = record_batches.Part(json.dumps(body).encode(), key.encode(), headers)
        partitions = list(range(self.partitions))
        partition = DefaultPartitioner()(key.encode(), partitions, partitions)
        await self.store(f"{self.prefix}.{side}", record_batches.batch(0, [written]), partition)

    async def store(self, topic: str, batch: bytes, partition: int = 0) -> None:
        """Have the broker store a record batch, byte for byte."""
        client = AIOKafkaClient(bootstrap_servers=self.servers.env.kafka_bootstrap_servers)
        await client.bootstrap()
        try:
            await client.set_topics([topic])
            leader = client.cluster.leader_for_partition(TopicPartition(topic, partition))
            written = [(topic, [(partition, batch)])]
            sent = ProduceRequest(transactional_id=None, required_acks=-1, timeout=5000, topics=written)
            ((_, ((_, code, *_),)),) = (await client.send(leader, sent)).topics
            assert code == 0
        finally:
            await client.close()

    async def flush(self) -> None:
        """Wait until the broker has all that was sent."""
        await self.producer.flush()

    async def reply(self, correlation_id: str, *, nth: int = 1, timeout_s: float = 30.0) -> Reply:
        """Wait for the n-th reply."""
        async with self._arrived:
            await asyncio.wait_for(
                self._arrived.wait_for(lambda: len(self.replies.get(correlation_id, [])) >= nth), timeout_s
            )
        return self.replies[correlation_id][nth - 1]

    async def command(self, kind: str, payload: object, *, version: int | None = None, **how: Any) -> Reply:  # noqa: ANN401 - as for `send`
        """Send a command and wait for its reply."""
        body = {"kind": kind, "payload": payload} | ({"version": version} if version else {})
        return await self.reply(await self.send("commands", body, **how))

    async def query(self, kind: str, payload: object = None, **how: Any) -> Reply:  # noqa: ANN401 - as for `send`
        """Send a query and wait for its reply."""
        return await self.reply(await self.send("queries", {"kind": kind, "payload": payload or {}}, **how))

    async def letters(self, number: int, side: str = "commands") -> list[tuple[bytes | None, dict[str, str]]]:
        """Wait until there are so many dead letters (they follow the replies of their batch); returns them."""

        async def arrived() -> bool:
            return len(await self.dead_letters(side)) >= number

        await self.until(arrived, 20, f"fewer than {number} dead letters")
        return await self.dead_letters(side)

    async def dead_letters(self, side: str = "commands") -> list[tuple[bytes | None, dict[str, str]]]:
        """Read all dead letters there are now: values and headers."""
        topic = TopicPartition(f"{self.prefix}.{side}.dead-letters", 0)
        consumer = AIOKafkaConsumer(bootstrap_servers=self.servers.env.kafka_bootstrap_servers)
        await consumer.start()
        try:
            consumer.assign([topic])
            end = (await consumer.end_offsets([topic]))[topic]
            consumer.seek(topic, 0)
            found: list[tuple[bytes | None, dict[str, str]]] = []
            while await consumer.position(topic) < end:
                for record in (await consumer.getmany(topic, timeout_ms=200)).get(topic, []):
                    headers = {name: (value or b"").decode("utf-8", "replace") for name, value in record.headers}
                    found.append((record.value, headers))
            return found
        finally:
            await consumer.stop()

    # The database ----------------------------------------------------------------------------------------------------
    async def fetch(self, statement: str, *args: object) -> list[Any]:
        """Look into the database."""
        connection = await asyncpg.connect(self.database_url)
        try:
            return list(await connection.fetch(statement, *args))
        finally:
            await connection.close()
