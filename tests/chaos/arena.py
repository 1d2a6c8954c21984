"""A deployment whose every part can be harmed: workers behind proxies, and an embedded stack of its own."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self
from urllib.parse import SplitResult, urlsplit

import asyncpg
from aiokafka.admin import NewTopic

from contracts.topics import Topics
from migrations import runner
from tests.chaos.proxy import HOST, Line, Proxy
from tests.chaos.traffic import DEAF
from tests.servers import SHORT_SESSION_MS, Servers
from tests.system import System, WorkerProcess
from workers.kafka.security import KafkaSecurity
from workers.kafka.topics import TopicAdmin
from workers.stack.embedded import EmbeddedStack
from workers.stack.guarded import How

LISTENER: Final = "PROXIED"
PARTITIONS: Final = 8
END_TIMEOUT_S: Final = 40.0
"""A worker that drains ends within this."""

# Read by a trigger on the table that each batch writes last, with its locks in hand: the whole database, as seen by the
# workers, is as slow as this says.
_SLOWNESS: Final = """
create table chaos_slowness (seconds float not null);
insert into chaos_slowness values (0);
create function chaos_slow_down() returns trigger language plpgsql as
  'begin perform pg_sleep(seconds) from chaos_slowness where seconds > 0; return null; end';
create trigger chaos_slow_down before insert on outcomes for each statement execute function chaos_slow_down()"""


class Parts:
    """The servers of a stack, whose Kafka tells workers to come through proxies (and callers not to)."""

    def __init__(self, state: Path, brokers: int) -> None:
        self._state = state
        self.brokers = ["kafka", *(f"kafka-{number}" for number in range(2, brokers + 1))]
        self._line = Line()
        self.proxies = {name: Proxy(self._line) for name in (*self.brokers, "postgres", "redis")}
        self._stacks: dict[str, EmbeddedStack] = {}

    async def up(self) -> Servers:
        """Start servers and proxies."""
        for proxy in self.proxies.values():
            proxy.start()
        return await asyncio.to_thread(self._up)

    async def down(self) -> None:
        """Stop servers and proxies; nothing is left."""
        for name in self.brokers:  # in order, the last one would wait in vain for the others' votes
            await asyncio.to_thread(self.stop, name, "kill")
        await asyncio.to_thread(self._stacks["postgres"].wipe)
        for proxy in self.proxies.values():
            proxy.stop()
        self._line.close()

    def stop(self, name: str, how: How) -> None:
        """Stop one server, in order or by SIGKILL."""
        self._stacks[name].stop_part(name, how)

    def start(self, name: str) -> None:
        """Start one server and wait until it is ready."""
        self._stacks[name].start_part(name)

    def _stack(self, **config: str) -> EmbeddedStack:
        return EmbeddedStack(
            self._state,
            brokers=len(self.brokers),
            kafka_listeners={LISTENER: "PLAINTEXT"},
            kafka_config={"group.min.session.timeout.ms": str(SHORT_SESSION_MS), **config},
        )

    def _up(self) -> Servers:
        """Bring the stack up, each broker with its proxy for an address: so its ports are chosen before all else."""
        stack = self._stack()
        with stack._alone():
            memory = stack._remember()
            stack._choose_ports([*self.proxies], memory)
            memory.save(stack.state)
        env = stack.environment()
        plain = env.kafka_bootstrap_servers.split(",")
        behind = stack.listener_servers(LISTENER).split(",")
        for name, direct, hidden in zip(self.brokers, plain, behind, strict=True):
            proxy = self.proxies[name]
            proxy.lead_to(*_address(f"//{hidden}"))
            listeners = f"PLAINTEXT://{direct},{LISTENER}://{HOST}:{proxy.port}"
            self._stacks[name] = self._stack(**{"advertised.listeners": listeners})
        self.proxies["postgres"].lead_to(*_address(env.database_url))
        self.proxies["redis"].lead_to(*_address(env.redis_url))
        first = stack if len(self.brokers) > 1 else self._stacks["kafka"]
        self._stacks |= {"postgres": first, "redis": first}
        first.up()
        if first is stack:  # several brokers cannot be given their own settings when they start together
            for name in self.brokers:
                self.stop(name, "clean")
                self.start(name)
        return Servers(env, self, SHORT_SESSION_MS)


class Deployment(System):
    """A deployment on several brokers where there are several."""

    copies: int = 1

    async def __aenter__(self) -> Self:
        """Make the topics with as many copies as there are brokers; those are left as they are then."""
        topics, servers = Topics(self.prefix), self.servers.env.kafka_bootstrap_servers
        async with TopicAdmin(servers, KafkaSecurity()) as admin:
            await admin.create_topics(
                topics,
                partitions=self.partitions,
                replication_factor=self.copies,
                min_insync_replicas=min(2, self.copies),
            )
            await admin.create_reply_topic(self.reply_to, replication_factor=self.copies)
        return await super().__aenter__()


@dataclass
class Arena:
    """A deployment, the proxies before it, and who works in it."""

    system: System
    parts: Parts
    living: list[WorkerProcess] = field(default_factory=list)
    told_to_end: set[int] = field(default_factory=set)

    @property
    def session_timeout_s(self) -> float:
        """How long a worker may be silent before its partitions are given to others."""
        return self.system.servers.session_timeout_ms / 1000

    async def start_workers(self, number: int, *, ready: bool = True) -> None:
        """Start workers, all at once."""
        for _ in range(number):
            self.living.append(await self.system.start(ready=False))
        if ready:
            await self.until_ready()

    async def end_workers(self, workers: Sequence[WorkerProcess]) -> None:
        """Tell workers to end (SIGTERM) and wait until they have."""
        for worker in workers:
            self.told_to_end.add(worker.process.pid)
            worker.send(signal.SIGTERM)
        for worker in workers:
            code = await worker.ended(END_TIMEOUT_S)
            assert code == 0, f"{worker.log}: ended with {code}"
            self.living.remove(worker)

    def kill(self, worker: WorkerProcess) -> None:
        """End a worker by SIGKILL."""
        self.told_to_end.add(worker.process.pid)
        worker.send(signal.SIGKILL)
        self.living.remove(worker)

    async def until_ready(self) -> None:
        """Wait until every living worker has joined and reaches its database."""
        for worker in self.living:
            announced = worker.log.with_suffix(".url")
            await self.system.until(
                lambda worker=worker, announced=announced: self.system._is_ready(worker, announced),  # type: ignore[misc]
                30,
                f"not ready again, see {worker.log}",
            )

    def ended_by_themselves(self) -> Iterator[str]:
        """Name the workers that nobody told to end and that have."""
        for worker in self.system.workers:
            if worker.process.returncode is not None and worker.process.pid not in self.told_to_end:
                yield f"{worker.log} ended with {worker.process.returncode}"

    async def slow_down(self, seconds: float) -> None:
        """Let each batch's transaction wait so long in the database; 0: not at all."""
        await self.system.fetch("update chaos_slowness set seconds = $1", seconds)

    async def until_awake(self) -> None:
        """Wait until no transaction sleeps any more."""
        await self.system.until(self._is_awake, 30, "a transaction sleeps on")

    async def _is_awake(self) -> bool:
        return not await self.system.fetch("select from pg_stat_activity where wait_event = 'PgSleep'")


@asynccontextmanager
async def an_arena(state: Path, brokers: int, workers: int) -> AsyncIterator[Arena]:
    """Servers, proxies, topics, a database and workers; all gone afterwards."""
    parts = Parts(state, brokers)
    servers = await parts.up()
    try:
        await runner.upgrade(servers.env.database_url)
        forks = os.environ.get("SUITE_SIZE") != "long"
        system = Deployment(servers, servers.env.database_url, PARTITIONS, forks=forks, logs=state)
        system.copies = brokers
        proxied = urlsplit(servers.env.database_url)
        system.settings = {
            "KAFKA_BOOTSTRAP_SERVERS": ",".join(f"{HOST}:{parts.proxies[name].port}" for name in parts.brokers),
            "KAFKA_REPLICATION_FACTOR": str(brokers),
            "KAFKA_MIN_INSYNC_REPLICAS": str(min(2, brokers)),
            "DATABASE_URL": proxied._replace(netloc=_elsewhere(proxied, parts.proxies["postgres"])).geturl(),
            "REDIS_URL": f"redis://{HOST}:{parts.proxies['redis'].port}/0",
            "LOG_SUCCESSES_PER_S": "0",
        }
        async with system:
            if brokers > 1:
                deaf = NewTopic(f"{system.prefix}.replies.{DEAF}", -1, -1, replica_assignments={0: [brokers]})
                await system.admin.create_topics([deaf])
            connection = await asyncpg.connect(system.database_url)
            await connection.execute(_SLOWNESS)
            await connection.close()
            arena = Arena(system, parts)
            await arena.start_workers(workers)
            yield arena
    finally:
        await parts.down()


def _address(url: str) -> tuple[str, int]:
    parsed = urlsplit(url)
    assert parsed.hostname is not None
    assert parsed.port is not None
    return parsed.hostname, parsed.port


def _elsewhere(url: SplitResult, proxy: Proxy) -> str:
    """The user and password of a URL, at a proxy."""
    who, _, _ = url.netloc.rpartition("@")
    return f"{who}@{HOST}:{proxy.port}"
