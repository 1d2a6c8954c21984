"""The servers that tests run against: three ways to get them, one shape."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import pytest

SHORT_SESSION_MS = 2000
_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - Linux's file system in memory
_PREFIX: Final = "catalog-tests-"
_ROOM_BYTES: Final = 8 << 30


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
    with _in_memory(state) as folder:
        yield from _embedded_in(folder)


@contextmanager
def _in_memory(otherwise: Path) -> Iterator[Path]:
    """A folder in memory for what the servers write, where there is plenty; else the one that is given.

    Tests make and drop a thousand databases of a thousand files each, and file systems on disks may take half of two
    cores to find a free inode among those that were deleted just now. What a killed session left goes with the next.
    """
    if not _has_room(_MEMORY):
        yield otherwise
        return
    for left in _MEMORY.glob(f"{_PREFIX}*"):
        if not Path(f"/proc/{left.name.removeprefix(_PREFIX)}").exists():
            shutil.rmtree(left, ignore_errors=True)
    folder = _MEMORY / f"{_PREFIX}{os.getpid()}"
    folder.mkdir()
    folder.chmod(0o755)  # PostgreSQL may run as another account
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _has_room(memory: Path) -> bool:
    """Tell whether there is room for the databases of three sessions, and memory behind it."""
    try:
        known = dict(line.split()[:2] for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines())
        return shutil.disk_usage(memory).free >= _ROOM_BYTES <= int(known["MemAvailable:"]) * 1024
    except (OSError, LookupError, ValueError):
        return False


def _embedded_in(state: Path) -> Iterator[Servers]:
    from workers.stack.embedded import EmbeddedStack  # noqa: PLC0415 - only here are its packages needed

    config = {
        "group.min.session.timeout.ms": str(SHORT_SESSION_MS),
        # The logs of a topic that is deleted go soon: a broker that starts need not read them again.
        "log.segment.delete.delay.ms": "500",
        "log.initial.task.delay.ms": "500",
    }
    # Its processes are killed, never the machine: what they wrote is there without waiting for the disk.
    # Passwords are drawn at random: hashing one 4,096 times, 2 ms for each of some thousand connections, adds nothing.
    postgres = {"fsync": "off", "max_wal_size": "256MB", "scram_iterations": "1"}
    embedded = EmbeddedStack(state, kafka_config=config, postgres_config=postgres)
    embedded.quicken_starts()  # or each of the four would do it at its end
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
