"""The whole of the embedded stack: Kafka, PostgreSQL and Redis of one state folder."""

import contextlib
import hashlib
import os
import shutil
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, as_completed, wait
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import ClassVar, Final, Protocol, Self

import psutil

from workers.stack import artifacts
from workers.stack.accounts import unprivileged_account
from workers.stack.artifacts import Say
from workers.stack.environment import StackEnv, read_env, write_env
from workers.stack.errors import StackError
from workers.stack.files import held_lock
from workers.stack.free_ports import HOST, becomes_free
from workers.stack.guarded import GuardedProcess, How, Launch, StopPlan
from workers.stack.kafka_server import KafkaNode, KafkaServer, start_cache
from workers.stack.memory import Memory
from workers.stack.postgres_server import DATABASE, SUPERUSER, PostgresServer
from workers.stack.redis_server import RedisServer

_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})
_BROKER_COUNTS: Final = (1, 3)
_KAFKA: Final = "kafka"
_CONTROLLER: Final = "-controller"  # after a node's name: the port that the other nodes use
_READY_POLL_S: Final = 0.02
_BUSY_WAIT_S: Final = 300.0  # another process may be starting the same stack for the first time
_DYING_S: Final = 2.0  # a killed server holds its port until the kernel has taken it apart
_WITHOUT_QUORUM_S: Final = 3.0  # what a node of Kafka has left to end by itself, once most of them have ended
_STOP_MARGIN_S: Final = 5.0  # for the guardian's own work, beyond its server's patience
_SYSTEM_STATE: Final = Path("/var/lib/catalog-workers")
_BELONGS_TO: Final = "belongs-to"  # a file there with the path of the state folder
_UNSAFE_IN_PATHS: Final = frozenset(",:\\\n")  # separators of Kafka's lists, Java's class path, property files


class Server(Protocol):
    """A kind of server: how to set one up and run it."""

    stop_plan: ClassVar[StopPlan]
    ready_within_s: ClassVar[float]

    @staticmethod
    def answers(port: int) -> bool:
        """Tell whether one is ready at a port, by its own protocol."""

    @property
    def name(self) -> str:
        """The part's name."""

    def prepare(self) -> None:
        """Set up what its first start needs; StackError when that cannot be."""

    def launch(self) -> Launch:
        """Return how to run it."""


@dataclass(frozen=True, slots=True)
class PartStatus:
    """One server as it is now."""

    name: str
    running: bool
    ready: bool
    """Whether it answers in its own protocol."""
    pid: int | None
    port: int | None
    rss_bytes: int
    """Resident memory of the server and all it started; pages that they share count for each."""


@dataclass(frozen=True, slots=True)
class _Software:
    """What the servers consist of, in the cache."""

    jars: Sequence[Path]
    postgres_home: Path
    postgres_major: str


def _silent(_text: str) -> None:
    pass


class EmbeddedStack:
    """Starts, finds and stops the servers of one state folder; several such objects and processes may share it.

    `attached` servers end when this process ends, even by SIGKILL (a child that it forks without executing a program
    keeps them alive); the others stay until `down`. Servers that run already are used as they are, whoever started
    them. As a context manager it brings the stack up, and in the end stops the servers that it has started.

    Ports are free ones, chosen at the first start and kept. `brokers` (1 or 3) is fixed at the first start; None takes
    what there is, or 1. `kafka_config` and `postgres_config` go over the defaults at each start, `kafka_listeners`
    (name → security protocol) adds listeners beside the plaintext one; none of the three is remembered.
    """

    def __init__(
        self,
        state_dir: Path,
        *,
        brokers: int | None = None,
        kafka_config: Mapping[str, str] = _NOTHING,
        kafka_listeners: Mapping[str, str] = _NOTHING,
        postgres_config: Mapping[str, str] = _NOTHING,
        attached: bool = True,
        cache: Path | None = None,
    ) -> None:
        if brokers is not None and brokers not in _BROKER_COUNTS:
            raise StackError(f"{brokers} brokers are not supported: 1, or 3 to see what happens when one fails")
        self.state = state_dir.expanduser().resolve()
        self.notices: list[str] = []
        """What `up` found worth telling, such as a port that had to change."""
        self._brokers = brokers
        self._kafka_config = kafka_config
        self._kafka_listeners = kafka_listeners
        self._postgres_config = postgres_config
        self._attached = attached
        self._cache = (cache or artifacts.cache_folder()).resolve()
        self._software: _Software | None = None
        self._processes: dict[str, GuardedProcess] = {}
        self._started: set[str] = set()
        self._owner: int | None = None

    def __enter__(self) -> Self:
        self.up()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop_started()

    # The whole -------------------------------------------------------------------------------------------------------

    def up(self, *, on_progress: Say | None = None) -> StackEnv:
        """Start what does not run, wait until everything is ready, write `stack.env`.

        `on_progress` is told what is being done, from several threads. If a part cannot be started, or on Ctrl-C, what
        this call has started is stopped again.

        Raises:
            StackError: a part could not be started; one line says why.
        """
        say = on_progress or _silent
        self._check_paths()
        with self._alone(say):
            memory = self._remember()
            self._start(_names(memory), memory, say)
            self._write_env(memory)
            return _env(memory)

    def quicken_starts(self) -> None:
        """Have Kafka write its start-up cache now where there is none yet, instead of whenever a Kafka ends.

        That takes it ten seconds, and halves all later starts with this cache. Of the processes that ask for it at the
        same time one does it, with its own stack, which is up then; the others wait.

        Raises:
            StackError: a part could not be started, or another process has been at it for minutes.
        """
        with held_lock(self._cache / "start-cache.lock", wait_s=_BUSY_WAIT_S):
            jars = artifacts.fetch(artifacts.pinned(_KAFKA), self._cache, _silent)
            if not start_cache(self._cache, jars).exists():
                self.up()
                self.stop_part(_KAFKA)  # writes it
                self.start_part(_KAFKA)  # takes it over

    def down(self) -> None:
        """Stop everything, in order and whoever started it; the data stay."""
        if self.state.is_dir():
            with self._alone():
                memory = Memory.load(self.state)
                if memory is not None:
                    self._stop(_names(memory))

    def stop_started(self) -> list[str]:
        """Stop what this object has started, and nothing else; returns the parts that run on."""
        with self._alone():
            self._stop({*self._started})
        return [part.name for part in self.status() if part.running]

    def wipe(self) -> None:
        """Stop everything and remove all that the stack keeps, data and secrets included; other files stay."""
        self.down()
        memory = Memory.load(self.state)
        if memory is not None:
            shutil.rmtree(memory.postgres_folder, ignore_errors=True)
            for folder in (*_names(memory), "log", "run"):
                shutil.rmtree(self.state / folder, ignore_errors=True)
            for file in (self.env_file.name, Memory.FILE):  # the memory last: it is what knows of all the others
                (self.state / file).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # not there, or not empty: others may keep files in it
            self.state.rmdir()

    def status(self) -> list[PartStatus]:
        """Return each part as it is now; empty where nothing was ever started."""
        memory = Memory.load(self.state)
        return [self._status(name, memory) for name in _names(memory)] if memory is not None else []

    def environment(self) -> StackEnv:
        """Return the settings that `up` gave, without starting anything.

        Raises:
            StackError: nothing was ever started here.
        """
        return _env(self._known())

    def update_env(self, extra: Mapping[str, str]) -> None:
        """Add lines to `stack.env`, or replace such lines.

        Raises:
            ValueError: a line is the stack's own, or cannot be written so that every reader agrees.
        """
        memory = self._known()
        if ours := extra.keys() & _env(memory).as_env().keys():
            raise ValueError(f"{', '.join(sorted(ours))}: kept by the stack itself")
        self._write_env(memory, extra)

    @property
    def env_file(self) -> Path:
        """Where `stack.env` is."""
        return self.state / "stack.env"

    def listener_servers(self, listener: str) -> str:
        """Return the bootstrap servers of one of `kafka_listeners`."""
        return ",".join(f"{HOST}:{node.extra_ports[listener]}" for node in self._nodes(self._known()))

    # Single parts: kafka, kafka-2, kafka-3, postgres, redis ----------------------------------------------------------

    def start_part(self, name: str) -> None:
        """Start one part and wait until it is ready; nothing happens to one that runs."""
        with self._alone():
            self._start([name], self._known(name), _silent)

    def stop_part(self, name: str, how: How = "clean") -> None:
        """Stop one part: in order, or by `kill -9` of it and all it started. Returns when nothing of it is left."""
        with self._alone():
            self._known(name)
            self._process(name).stop(how, _patience_s(name))
            self._started.discard(name)

    def pause_part(self, name: str) -> None:
        """Let one part hang (SIGSTOP): its connections stay open and nothing answers."""
        self._known(name)
        self._process(name).pause()

    def resume_part(self, name: str) -> None:
        """Let a paused part go on."""
        self._known(name)
        self._process(name).resume()

    # Starting and stopping -------------------------------------------------------------------------------------------

    def _start(self, names: Sequence[str], memory: Memory, say: Say) -> None:
        """Start what does not run of these, and wait until all of them are ready."""
        absent = [name for name in names if not self._runs(name, say)]
        self._software = self._software or _installed(self._cache, memory, say)
        if absent:
            self._choose_ports(absent, memory)
            memory.save(self.state)
        owner = self._owner_pipe()
        given_up = threading.Event()
        begun: list[str] = []

        def bring_up(name: str) -> None:
            if name not in absent and self._becomes_ready(name, memory.ports[name], given_up):
                return
            begun.append(name)  # absent, or present and ended while we looked
            say(f"{name}: starting")
            server = self._server(name, memory, say)
            server.prepare()
            process = self._process(name)
            process.start(server.launch(), owner)
            if not self._becomes_ready(name, memory.ports[name], given_up):
                raise StackError(f"{name} ended while it was starting: {process.last_words()}")
            say(f"{name}: ready")

        with ThreadPoolExecutor(len(names)) as pool:
            starting = [pool.submit(bring_up, name) for name in names]
            try:
                for part in as_completed(starting):
                    part.result()
            except BaseException:  # Ctrl-C, too
                given_up.set()
                pool.shutdown(wait=True)
                self._stop(begun)
                raise
        self._started.update(begun)

    def _becomes_ready(self, name: str, port: int, given_up: threading.Event) -> bool:
        """Poll a server until it answers; False when it ends instead. True as well when another part has failed.

        Raises:
            StackError: it neither answers nor ends.
        """
        process, kind = self._process(name), _kind(name)
        deadline = time.monotonic() + kind.ready_within_s
        while not kind.answers(port):
            if process.holder() is None:
                return False
            if time.monotonic() > deadline:
                raise StackError(f"{name} was not ready after {kind.ready_within_s:.0f} s; see {process.log}")
            if given_up.wait(_READY_POLL_S):
                break
        return True

    def _runs(self, name: str, say: Say) -> bool:
        """Tell whether a part runs and will stay; one that is ending (its owner has died) is waited for."""
        process = self._process(name)
        holder = process.holder()
        if holder is None or not holder.is_ending:
            return holder is not None
        say(f"{name}: waiting for the last one to end")
        if not process.wait_until_ended(_BUSY_WAIT_S):
            raise StackError(f"{name} has been ending for {_BUSY_WAIT_S:.0f} s; see {process.log}")
        return False

    def _stop(self, names: Collection[str]) -> None:
        """Stop parts at the same time.

        The last of Kafka's nodes waits for a quorum that has gone, and would do so for 40 s: it is killed. Nothing is
        lost by that: what it had acknowledged is written, and read again at the next start.
        """
        nodes = [name for name in names if _kind(name) is KafkaServer]
        with ThreadPoolExecutor(len(names) + 1) as pool:
            stopping = {name: pool.submit(self._process(name).stop, "clean", _patience_s(name)) for name in names}
            if len(nodes) > 1:
                pool.submit(self._end_the_last, [stopping[name] for name in nodes], nodes).result()
            for one in stopping.values():
                one.result()
        self._started.difference_update(names)

    def _end_the_last(self, stopping: Sequence[Future[None]], nodes: Sequence[str]) -> None:
        """Wait for Kafka's nodes to end; kill what is left some time after the others have ended."""
        left = set(stopping)
        while len(left) > len(stopping) // 2:
            _, left = wait(left, return_when=FIRST_COMPLETED)
        _, left = wait(left, timeout=_WITHOUT_QUORUM_S)
        for name, one in zip(nodes, stopping, strict=True):
            if one in left:
                self._process(name).stop("kill", 0)

    def _process(self, name: str) -> GuardedProcess:
        return self._processes.setdefault(name, GuardedProcess(name, self.state))

    def _status(self, name: str, memory: Memory) -> PartStatus:
        process, port = self._process(name), memory.ports.get(name)
        holder = process.holder()
        rss_bytes = 0
        for member in process.processes():
            with contextlib.suppress(psutil.Error):  # ended meanwhile
                rss_bytes += member.memory_info().rss
        return PartStatus(
            name=name,
            running=holder is not None,
            ready=holder is not None and port is not None and _kind(name).answers(port),
            pid=holder.server if holder is not None else None,
            port=port,
            rss_bytes=rss_bytes,
        )

    def _owner_pipe(self) -> int | None:
        """Return the end of a pipe that guardians watch. The other end is closed by this process's own end alone."""
        if self._attached and self._owner is None:
            self._owner, _kept_open = os.pipe()
        return self._owner

    @contextlib.contextmanager
    def _alone(self, say: Say = _silent) -> Iterator[None]:
        """Keep other processes from starting or stopping parts of this stack meanwhile."""
        with held_lock(
            self.state / "run" / "stack.lock",
            wait_s=_BUSY_WAIT_S,
            on_wait=lambda: say("waiting for another process that starts or stops this stack"),
        ):
            yield

    # What there is to start ------------------------------------------------------------------------------------------

    def _check_paths(self) -> None:
        for path in (self.state, self._cache):
            if found := _UNSAFE_IN_PATHS & {*str(path)}:
                raise StackError(f"Kafka and Java cannot work in {path}: there is a {min(found)!r} in its name")

    def _remember(self) -> Memory:
        """Return what the folder remembers, or the beginning of it."""
        memory = Memory.load(self.state)
        if memory is None:
            return Memory(brokers=self._brokers or 1, postgres_folder=str(self._new_postgres_folder()))
        if self._brokers not in (None, memory.brokers):
            raise StackError(
                f"the stack in {self.state} has {memory.brokers} broker(s), not {self._brokers}; "
                "for another number start afresh with `catalog stack down --wipe`"
            )
        return memory

    def _known(self, part: str | None = None) -> Memory:
        memory = Memory.load(self.state)
        if memory is None:
            raise StackError(f"no stack was ever started in {self.state}", hint="`catalog stack up`")
        if part is not None and part not in _names(memory):
            raise StackError(f"there is no part {part!r}; there are {', '.join(_names(memory))}")
        return memory

    def _new_postgres_folder(self) -> Path:
        """Choose where PostgreSQL's data go: the state folder, or where its account can get if it cannot get there."""
        folder = self.state / PostgresServer.name
        account = unprivileged_account(folder)
        if account is None or account.reaches(self.state):
            return folder
        _SYSTEM_STATE.mkdir(parents=True, exist_ok=True)
        _SYSTEM_STATE.chmod(0o755)  # whatever our umask: it is there for an account that is not ours
        folder = _SYSTEM_STATE / f"postgres-{hashlib.sha256(str(self.state).encode()).hexdigest()[:16]}"
        for left in _SYSTEM_STATE.glob(f"*/{_BELONGS_TO}"):  # by state folders removed by hand, passwords and all
            if left.parent == folder or not Path(left.read_text(encoding="utf-8")).exists():
                shutil.rmtree(left.parent, ignore_errors=True)
        folder.mkdir(exist_ok=True)
        (folder / _BELONGS_TO).write_text(str(self.state), encoding="utf-8")
        self.notices.append(f"PostgreSQL's data are in {folder}, as its account cannot enter {self.state}")
        return folder

    def _choose_ports(self, absent: Collection[str], memory: Memory) -> None:
        """Give each absent part its ports; one that somebody else has taken meanwhile is exchanged, and that is told.

        Raises:
            StackError: a controller's port is taken, and nodes that run know it by that port.
        """
        nodes_run = any(_kind(name) is KafkaServer and name not in absent for name in _names(memory))
        deadline = time.monotonic() + _DYING_S
        for name in (port_name for part in absent for port_name in self._port_names(part)):
            known = memory.ports.get(name)
            if known is not None and becomes_free(known, deadline):
                continue
            if known is not None and nodes_run and name.endswith(_CONTROLLER):
                raise StackError(
                    f"port {known} ({name}) is taken by another process; end that, or stop the whole stack"
                )
            chosen = memory.new_port(name)
            if known is not None:
                self.notices.append(f"port {known} ({name}) is taken by another process; from now on it is {chosen}")

    def _port_names(self, part: str) -> list[str]:
        if _kind(part) is not KafkaServer:
            return [part]
        return [part, part + _CONTROLLER, *(_listener_port(part, listener) for listener in self._kafka_listeners)]

    def _server(self, name: str, memory: Memory, say: Say) -> Server:
        """Describe an absent part; its ports are chosen and the software is there."""
        if self._software is None:
            raise StackError("the servers' files are fetched before a server is described")
        if name == RedisServer.name:
            return RedisServer(folder=self.state / name, port=memory.ports[name])
        if name == PostgresServer.name:
            folder = Path(memory.postgres_folder)
            return PostgresServer(
                folder=folder,
                home=self._software.postgres_home,
                port=memory.ports[name],
                major=self._software.postgres_major,
                password=memory.database_password,
                superuser_password=memory.superuser_password,
                account=unprivileged_account(folder / "data"),
                config=self._postgres_config,
                say=say,
            )
        nodes = self._nodes(memory)
        return KafkaServer(
            folder=self.state / name,
            node=next(node for node in nodes if node.name == name),
            nodes=nodes,
            cluster_id=memory.cluster_id,
            jars=self._software.jars,
            cache=self._cache,
            listeners=self._kafka_listeners,
            config=self._kafka_config,
            say=say,
        )

    def _nodes(self, memory: Memory) -> list[KafkaNode]:
        return [
            KafkaNode(
                node_id=number,
                name=name,
                port=memory.ports[name],
                controller_port=memory.ports[name + _CONTROLLER],
                extra_ports={each: memory.ports[_listener_port(name, each)] for each in self._kafka_listeners},
            )
            for number, name in enumerate(_kafka_names(memory), start=1)
        ]

    def _write_env(self, memory: Memory, extra: Mapping[str, str] = _NOTHING) -> None:
        """Write `stack.env`: our lines as they are now, others' lines as they are there, and the extra ones."""
        with held_lock(self.state / "run" / "env.lock", wait_s=_BUSY_WAIT_S):
            ours = _env(memory).as_env()
            there = read_env(self.env_file) if self.env_file.exists() else {}
            write_env(self.env_file, {**ours, **{name: there[name] for name in there.keys() - ours.keys()}, **extra})


def _installed(cache: Path, memory: Memory, say: Say) -> _Software:
    """Return the servers' files, fetched where they are missing."""
    binaries = artifacts.postgres_artifact()
    *jars, archive = artifacts.fetch([*artifacts.pinned(_KAFKA), binaries], cache, say)
    account = unprivileged_account(Path(memory.postgres_folder) / "data")
    home = artifacts.postgres_home(archive, binaries, cache, account, say)
    return _Software(jars, home, binaries.version.partition(".")[0])


def _names(memory: Memory) -> list[str]:
    """Return the stack's parts."""
    return [*_kafka_names(memory), PostgresServer.name, RedisServer.name]


def _kafka_names(memory: Memory) -> list[str]:
    return [_KAFKA, *(f"kafka-{number}" for number in range(2, memory.brokers + 1))]


def _kind(part: str) -> type[Server]:
    return {RedisServer.name: RedisServer, PostgresServer.name: PostgresServer}.get(part, KafkaServer)


def _patience_s(part: str) -> float:
    return sum(seconds for _, seconds in _kind(part).stop_plan) + _STOP_MARGIN_S


def _listener_port(part: str, listener: str) -> str:
    return f"{part}-{listener.lower()}"


def _env(memory: Memory) -> StackEnv:
    def database_url(user: str, password: str) -> str:
        return f"postgresql://{user}:{password}@{HOST}:{memory.ports[PostgresServer.name]}/{DATABASE}"

    return StackEnv(
        kafka_bootstrap_servers=",".join(f"{HOST}:{memory.ports[name]}" for name in _kafka_names(memory)),
        database_url=database_url(DATABASE, memory.database_password),
        database_admin_url=database_url(SUPERUSER, memory.superuser_password),
        redis_url=f"redis://{HOST}:{memory.ports[RedisServer.name]}/0",
        jwt_secret=memory.jwt_secret,
        outcome_hmac_key=memory.outcome_hmac_key,
        dlq_signing_key=memory.dlq_signing_key,
    )
