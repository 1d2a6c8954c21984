"""The servers that tests run against: three ways to get them, one shape."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pytest

SHORT_SESSION_MS = 2000


@dataclass(frozen=True)
class Servers:
    """Running servers. `parts` stops, kills and starts single ones; only the embedded stack can."""

    env: Any
    parts: Any
    session_timeout_ms: int = 6000
    """The shortest that the broker allows: a killed worker's partitions are handed over after it."""

    def database(self, name: str) -> str:
        """The URL of another database on the same server."""
        return urlunsplit(urlsplit(str(self.env.database_url))._replace(path="/" + name))


@dataclass(frozen=True)
class Given:
    """Addresses of servers."""

    kafka_bootstrap_servers: str
    database_url: str
    redis_url: str


@contextmanager
def start_servers(kind: str, state: Path) -> Iterator[Servers]:
    """Start what TEST_STACK asks for, and end it after use."""
    match kind:
        case "embedded":
            yield from _embedded(state)
        case "containers":
            yield from _containers()
        case "env":
            names = ("KAFKA_BOOTSTRAP_SERVERS", "DATABASE_URL", "REDIS_URL")
            missing = [name for name in names if not os.environ.get(name)]
            if missing:
                pytest.exit(f"TEST_STACK=env needs {', '.join(missing)}; or run `make test` without TEST_STACK", 2)
            yield Servers(Given(*(os.environ[name] for name in names)), None)
        case _:
            pytest.exit(f"TEST_STACK={kind} is not known: use embedded, containers or env", 2)


def _embedded(state: Path) -> Iterator[Servers]:
    from workers.stack.embedded import EmbeddedStack  # noqa: PLC0415 - only here are its packages needed

    config = {
        "group.min.session.timeout.ms": str(SHORT_SESSION_MS),
        # The logs of a topic that is deleted go soon: a broker that starts need not read them again.
        "log.segment.delete.delay.ms": "500",
        "log.initial.task.delay.ms": "500",
    }
    # Its processes are killed, never the machine: what they wrote is there without waiting for the disk.
    embedded = EmbeddedStack(state, kafka_config=config, postgres_config={"fsync": "off"})
    env = embedded.up()
    try:
        yield Servers(env, embedded, SHORT_SESSION_MS)
    finally:
        embedded.down()
        embedded.wipe()


def _containers() -> Iterator[Servers]:
    from testcontainers.community.kafka import KafkaContainer  # noqa: PLC0415 - only here is a Docker engine needed
    from testcontainers.community.postgres import PostgresContainer  # noqa: PLC0415
    from testcontainers.community.redis import RedisContainer  # noqa: PLC0415

    try:
        postgres = PostgresContainer("postgres:18", driver=None).start()
    except Exception as error:  # noqa: BLE001 - whatever Docker says
        pytest.exit(f"TEST_STACK=containers needs a Docker engine ({error}); or run `make test` without TEST_STACK", 2)
    with postgres, KafkaContainer("apache/kafka:4.3.0").with_kraft() as kafka, RedisContainer("redis:8") as redis:
        given = Given(
            kafka.get_bootstrap_server(),
            postgres.get_connection_url(),
            f"redis://{redis.get_container_host_ip()}:{redis.get_exposed_port(6379)}/0",
        )
        yield Servers(given, None)
