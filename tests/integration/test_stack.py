"""The embedded stack on real processes: it comes up from nothing, keeps its data, and leaves nothing behind."""

import asyncio
import hashlib
import json
import os
import re
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import asyncpg
import psutil
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from redis.asyncio import Redis
from typer.testing import CliRunner

from tests.command_line import command
from workers.stack import artifacts, commands
from workers.stack.artifacts import Artifact
from workers.stack.embedded import EmbeddedStack
from workers.stack.environment import StackEnv, read_env
from workers.stack.errors import StackError
from workers.stack.guarded import GuardedProcess
from workers.stack.kafka_server import KafkaNode, KafkaServer

PARTS: Final = ("kafka", "postgres", "redis")
GONE_WITHIN_S: Final = 30.0
# After `kill -9` the controller waits this long before it lets the broker come back: shorter, for the test's sake.
SOON: Final = {"broker.session.timeout.ms": "1000", "broker.heartbeat.interval.ms": "200"}
OWNER: Final = """
import signal, sys
from pathlib import Path
from workers.stack.embedded import EmbeddedStack
EmbeddedStack(Path(sys.argv[1])).up()
print("up", flush=True)
signal.pause()
"""

STARTER: Final = """
import signal, subprocess, sys
from workers.stack.tied import tied
subprocess.Popen(tied([sys.executable, "-c", "import os, signal; print(os.getpid(), flush=True); signal.pause()"]))
signal.pause()
"""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedStack]:
    """One stack for the whole file, with a state folder of its own."""
    stack = EmbeddedStack(tmp_path_factory.mktemp("state") / ".local", kafka_config=SOON)
    stack.up()
    yield stack
    stack.wipe()


@pytest.fixture
def stack(shared: EmbeddedStack) -> EmbeddedStack:
    """The file's stack, running, whatever the test before has done to it."""
    shared.up()
    return shared


@pytest.fixture
def stopped(shared: EmbeddedStack) -> EmbeddedStack:
    """The file's stack, with data and not running."""
    shared.down()
    return shared


@pytest.fixture
def foreigner() -> Iterator[subprocess.Popen[bytes]]:
    """A living process that has nothing to do with any stack."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


def _processes(stack: EmbeddedStack) -> dict[str, list[psutil.Process]]:
    """Every process of a running stack: servers, what they started, and their guardians."""
    found = {}
    for part in PARTS:
        guarded = GuardedProcess(part, stack.state)
        holder = guarded.holder()
        assert holder is not None
        assert holder.guardian is not None
        found[part] = [psutil.Process(holder.guardian), *guarded.processes()]
    return found


def _left_of(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Wait for processes to end; those that do not."""
    return psutil.wait_procs(processes, timeout=GONE_WITHIN_S)[1]


def _ready(stack: EmbeddedStack) -> dict[str, bool]:
    return {part.name: part.ready for part in stack.status()}


async def _use(env: StackEnv) -> tuple[object, int, object]:
    """Ask each server something by its usual client: a query, the brokers of the cluster, a ping."""
    connection = await asyncpg.connect(env.database_url)
    admin = AIOKafkaAdminClient(bootstrap_servers=env.kafka_bootstrap_servers)
    redis = Redis.from_url(env.redis_url)
    try:
        await admin.start()
        cluster = await admin.describe_cluster()
        return await connection.fetchval("select 1"), len(cluster["brokers"]), await redis.ping()
    finally:
        await connection.close()
        await admin.close()
        await redis.aclose()


async def _query(env: StackEnv, *statements: str) -> Any:  # noqa: ANN401 - whatever the last statement selects
    connection = await asyncpg.connect(env.database_url)
    try:
        for statement in statements[:-1]:
            await connection.execute(statement)
        return await connection.fetchval(statements[-1])
    finally:
        await connection.close()


async def _write(env: StackEnv, topic: str, value: bytes) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=env.kafka_bootstrap_servers)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topic, 1, 1)])
    finally:
        await admin.close()
    async with AIOKafkaProducer(bootstrap_servers=env.kafka_bootstrap_servers, acks="all") as producer:
        await producer.send_and_wait(topic, value)


async def _read(env: StackEnv, topic: str) -> bytes | None:
    async with AIOKafkaConsumer(
        topic, bootstrap_servers=env.kafka_bootstrap_servers, auto_offset_reset="earliest"
    ) as consumer:
        record = await asyncio.wait_for(consumer.getone(), GONE_WITHIN_S)
        value: bytes | None = record.value
        return value


# Up and down ---------------------------------------------------------------------------------------------------------


def test_up_from_nothing_answers_every_client(stack: EmbeddedStack) -> None:
    """After `up` each server serves its usual client, and `stack.env` holds what it takes, for its owner's eyes."""
    env = stack.environment()
    assert asyncio.run(_use(env)) == (1, 1, True)
    assert _ready(stack) == dict.fromkeys(PARTS, True)
    assert read_env(stack.env_file) == env.as_env()
    assert stat.S_IMODE(stack.env_file.stat().st_mode) == 0o600
    assert len(env.jwt_secret) >= 32


def test_up_again_changes_nothing(stack: EmbeddedStack) -> None:
    """`up` on a running stack, by another object too, starts nothing and gives the same settings."""
    before = [part.pid for part in stack.status()]
    assert EmbeddedStack(stack.state).up() == stack.environment()
    assert [part.pid for part in stack.status()] == before


def test_storage_is_formatted_as_kafka_s_own_tool_does(tmp_path: Path) -> None:
    """What the tool wrote for the first node of a cache is written for the next without it, but for who it is."""
    (tmp_path / "cache").mkdir()
    jars = artifacts.fetch(artifacts.pinned("kafka"), artifacts.cache_folder(), print)
    identities: list[dict[str, str]] = []
    files: list[dict[str, bytes]] = []
    for number in (1, 2):
        node = KafkaNode(number, f"kafka-{number}", 9092, 9093, {})
        folder = tmp_path / node.name
        cluster = "V0-9h1nRSmOCQ5523h1GQA"
        KafkaServer(folder, node, [node], cluster, jars, tmp_path / "cache", {}, {}, print).prepare()
        found = {file.name: file.read_bytes() for file in (folder / "data").iterdir()}
        lines = found.pop("meta.properties").decode().splitlines()
        identities.append(dict(line.split("=") for line in lines if not line.startswith("#")))
        files.append(found)
    assert files[0] == files[1] != {}
    by_tool, by_us = identities
    assert [one.pop("node.id") for one in identities] == ["1", "2"]
    assert len(by_tool["directory.id"]) == len(by_us["directory.id"]) == len(cluster)
    assert by_tool.pop("directory.id") != by_us.pop("directory.id")
    assert by_tool == by_us


def test_what_ran_before_is_left_running(stack: EmbeddedStack) -> None:
    """Another user of the folder stops what it has started, and nothing that was there."""
    stack.stop_part("redis")
    other = EmbeddedStack(stack.state)
    other.up()
    assert other.stop_started() == ["kafka", "postgres"]
    assert _ready(stack) == {"kafka": True, "postgres": True, "redis": False}


def test_starts_are_quickened_once(stack: EmbeddedStack, tmp_path: Path) -> None:
    """Once a stack has had Kafka's start-up cache written, and runs on, no other starts anything for it."""
    stack.quicken_starts()
    assert all(part.ready for part in stack.status())
    other = EmbeddedStack(tmp_path / ".local")
    other.quicken_starts()
    assert other.status() == []


def test_data_survive_down_and_up(stack: EmbeddedStack) -> None:
    """Rows, records, ports and secrets are the same after a stop in order, which leaves no process."""
    env = stack.environment()
    asyncio.run(_query(env, "create table kept (n int)", "insert into kept values (7)", "select 1"))
    asyncio.run(_write(env, "kept", b"seven"))
    processes = [process for part in _processes(stack).values() for process in part]
    stack.down()
    assert _left_of(processes) == []
    assert [part.running for part in stack.status()] == [False] * len(PARTS)
    assert stack.up() == env
    assert asyncio.run(_query(env, "select n from kept")) == 7
    assert asyncio.run(_read(env, "kept")) == b"seven"


def test_database_is_durable_and_its_owner_no_superuser(stack: EmbeddedStack) -> None:
    """What the workers promise rests on fsync; what needs a superuser must show in tests."""
    env = stack.environment()
    shown = "select current_setting('fsync') || current_setting('synchronous_commit')"
    assert asyncio.run(_query(env, shown)) == "onon"
    assert asyncio.run(_query(env, "select rolsuper from pg_roles where rolname = current_user")) is False
    assert asyncio.run(_query(env, "select count(*) >= 0 from pg_stat_statements")) is True


def test_the_doctor_finds_nothing_that_fails(stack: EmbeddedStack) -> None:
    """On servers as they are run, set up by the two commands, exit code 0: what could be better is a warning."""
    env = os.environ | stack.environment().as_env()
    for arguments in (["migrate"], ["topics", "create"]):
        assert asyncio.run(command(*arguments, env=env)).code == 0
    finished = asyncio.run(command("doctor", env=env))
    assert (finished.code, finished.out.splitlines()[-1].split(",")[0]) == (0, "0 failing"), finished


def test_unknown_password_is_refused(stack: EmbeddedStack) -> None:
    """Another account of this machine does not get in by TCP alone."""
    env = stack.environment()
    with pytest.raises(asyncpg.InvalidPasswordError):
        asyncio.run(asyncpg.connect(env.database_url, password="wrong"))


# Deaths --------------------------------------------------------------------------------------------------------------


def test_killed_owner_leaves_nothing(stack: EmbeddedStack, tmp_path: Path) -> None:
    """`kill -9` of the owner ends every process of its stack, and none of another stack that runs beside it."""
    second = EmbeddedStack(tmp_path / ".local")
    try:
        with subprocess.Popen([sys.executable, "-c", OWNER, second.state], stdout=subprocess.PIPE) as owner:
            assert owner.stdout is not None
            assert owner.stdout.readline() == b"up\n"
            processes = [process for part in _processes(second).values() for process in part]
            assert {part.port for part in stack.status()}.isdisjoint(part.port for part in second.status())
            owner.kill()
        assert _left_of(processes) == []
        assert [part.running for part in second.status()] == [False] * len(PARTS)
        assert _ready(stack) == dict.fromkeys(PARTS, True)
    finally:
        second.wipe()
    assert not second.state.exists()


@pytest.mark.parametrize("stopped", [False, True])
def test_who_is_tied_to_a_killed_process_ends(*, stopped: bool) -> None:
    """`kill -9` of what started a worker ends the worker, also one that is stopped: it would wait for its servers."""
    with subprocess.Popen([sys.executable, "-c", STARTER], stdout=subprocess.PIPE) as starter:
        assert starter.stdout is not None
        tied = psutil.Process(int(starter.stdout.readline()))
        if stopped:
            tied.suspend()
        starter.kill()
    if sys.platform != "linux":
        tied.kill()
    assert _left_of([tied]) == []


def test_killed_servers_start_again_with_their_data(stack: EmbeddedStack) -> None:
    """After `kill -9` of the servers from outside, `up` starts them at once, and a committed row is there."""
    env = stack.environment()
    asyncio.run(_query(env, "create table survivor as select 9 as n", "select 1"))
    for part in stack.status():
        assert part.pid is not None
        os.kill(part.pid, 9)
    assert stack.up() == env
    assert asyncio.run(_query(env, "select n from survivor")) == 9


def test_killed_guardians_take_their_servers_along(stack: EmbeddedStack) -> None:
    """`kill -9` of the guardians leaves no server that nobody guards, and nothing that stops the next start."""
    env = stack.environment()
    asyncio.run(_query(env, "create table orphan as select 11 as n", "select 1"))
    processes = _processes(stack)
    for guardian, *_ in processes.values():
        guardian.kill()
    servers = [server for _, *started in processes.values() for server in started]
    if sys.platform == "linux":
        assert _left_of(servers) == []
    assert stack.up() == env
    assert _left_of(servers) == []
    assert asyncio.run(_query(env, "select n from orphan")) == 11


@pytest.mark.parametrize("part", PARTS)
def test_paused_part_is_running_but_not_ready(stack: EmbeddedStack, part: str) -> None:
    """A part that hangs is seen as such, the others are not touched, and it goes on when it is let go."""
    stack.pause_part(part)
    assert _ready(stack) == {name: name != part for name in PARTS}
    stack.resume_part(part)
    assert _ready(stack)[part]


def test_part_stops_and_starts_alone(stack: EmbeddedStack) -> None:
    """One part can be killed and started again, with its neighbours running on."""
    before = {part.name: part.pid for part in stack.status()}
    stack.stop_part("postgres", "kill")
    assert _ready(stack) == {"kafka": True, "postgres": False, "redis": True}
    stack.start_part("postgres")
    after = {part.name: part.pid for part in stack.status()}
    assert _ready(stack)["postgres"]
    assert (after["kafka"], after["redis"]) == (before["kafka"], before["redis"])
    assert after["postgres"] != before["postgres"]


def test_stale_pid_files_of_a_living_stranger_are_not_believed(
    stopped: EmbeddedStack, foreigner: subprocess.Popen[bytes]
) -> None:
    """Process ids that a crash left and that belong to somebody else by now stop no start, and nobody is killed."""
    memory = json.loads((stopped.state / "stack.json").read_text())
    data = Path(memory["postgres_folder"]) / "data"
    (data / "postmaster.pid").write_text(f"{foreigner.pid}\n{data}\n1700000000\n1\n\n127.0.0.1\n1 1\nready   \n")
    for part in PARTS:
        (stopped.state / "run" / f"{part}.lock").write_text(
            json.dumps({"guardian": foreigner.pid, "server": foreigner.pid, "owner": None, "stopping": False})
        )
    assert [part.pid for part in stopped.status()] == [None] * len(PARTS)
    stopped.down()
    stopped.up()
    assert _ready(stopped) == dict.fromkeys(PARTS, True)
    stopped.down()
    assert foreigner.poll() is None


# What a user can mend is one line ------------------------------------------------------------------------------------


def test_taken_port_is_exchanged_and_told(stopped: EmbeddedStack) -> None:
    """A kept port that somebody else listens on is given up for another one, which is kept from then on."""
    port = next(part.port for part in stopped.status() if part.name == "redis")
    assert port is not None
    with socket.create_server(("127.0.0.1", port)):
        env = stopped.up()
    assert [notice for notice in stopped.notices if f"port {port} (redis) is taken" in notice]
    assert f":{port}/" not in env.redis_url
    assert read_env(stopped.env_file)["REDIS_URL"] == env.redis_url


def _another_version(data: Path) -> Callable[[], object]:
    (data / "PG_VERSION").write_text("17\n")
    return lambda: (data / "PG_VERSION").write_text("18\n")


def _damaged(data: Path) -> Callable[[], object]:
    control = (data / "global" / "pg_control").rename(data / "aside")
    return lambda: control.rename(data / "global" / "pg_control")


@pytest.mark.parametrize(
    ("harm", "told"), [(_another_version, "is of PostgreSQL 17, this stack's is 18"), (_damaged, "pg_control")]
)
def test_unusable_data_stop_the_start_in_one_line(
    stopped: EmbeddedStack, harm: Callable[[Path], Callable[[], object]], told: str
) -> None:
    """Data of another version and damaged data are named in one line, and no server is left running."""
    mend = harm(Path(json.loads((stopped.state / "stack.json").read_text())["postgres_folder"]) / "data")
    try:
        with pytest.raises(StackError, match=told) as refused:
            stopped.up()
    finally:
        mend()
    assert "\n" not in str(refused.value)
    assert [part.running for part in stopped.status()] == [False] * len(PARTS)


def test_env_file_keeps_the_lines_of_others(stack: EmbeddedStack) -> None:
    """Lines that are added stay over the next `up`; the stack's own cannot be replaced."""
    stack.update_env({"METRICS_URL_COMMANDS": "http://127.0.0.1:9/metrics/", "ODD": "two words # and more"})
    stack.up()
    found = read_env(stack.env_file)
    assert found["METRICS_URL_COMMANDS"] == "http://127.0.0.1:9/metrics/"
    assert found["ODD"] == "two words # and more"
    with pytest.raises(ValueError, match="JWT_SECRET"):
        stack.update_env({"JWT_SECRET": "another"})
    with pytest.raises(ValueError, match="ODD"):
        stack.update_env({"ODD": "two\nlines"})


def test_commands_show_and_refuse(stack: EmbeddedStack, tmp_path: Path) -> None:
    """`status` and `env` show the running stack; where none was ever started they say so in one line, exit code 1."""
    run = CliRunner().invoke
    shown = run(commands.app, ["status", "--state", str(stack.state)])
    assert (shown.exit_code, shown.output.count("ready")) == (0, len(PARTS))
    exported = run(commands.app, ["env", "--state", str(stack.state)])
    assert f"export REDIS_URL={stack.environment().redis_url}" in exported.output.splitlines()
    for asked in ("status", "env"):
        refused = run(commands.app, [asked, "--state", str(tmp_path)])
        assert isinstance(refused.exception, StackError)  # which the command line tells in a line, with exit code 1
        assert re.fullmatch(r"no stack was ever started in \S+: `catalog stack up`", str(refused.exception))


# Files ---------------------------------------------------------------------------------------------------------------


def test_every_file_is_pinned() -> None:
    """Kafka with its bridge from slf4j to its own log4j, PostgreSQL for four platforms, a compiler: all by hash."""
    kafka = {artifact.coordinate.rsplit(":", 1)[0]: artifact for artifact in artifacts.pinned("kafka")}
    bridge = kafka["org.apache.logging.log4j:log4j-slf4j-impl"]
    assert kafka["org.apache.kafka:kafka_2.13"].version == "4.3.0"
    assert bridge.version == kafka["org.apache.logging.log4j:log4j-core"].version
    postgres = artifacts.pinned("postgres")
    assert len(postgres) == 4
    assert {len(artifact.sha256) for artifact in (*kafka.values(), *postgres, *artifacts.pinned("java"))} == {64}


def _pinned(content: bytes) -> Artifact:
    return Artifact("org.example:thing:1.0", hashlib.sha256(content).hexdigest(), len(content))


def _brings(content: bytes) -> artifacts.Bring:
    def bring(_artifact: Artifact, folder: Path, came: Callable[[int], None]) -> Path:
        folder.mkdir(parents=True)
        came(len(content))
        (folder / "thing.jar").write_bytes(content)
        return folder / "thing.jar"

    return bring


def _unreachable(_artifact: Artifact, _folder: Path, _came: Callable[[int], None]) -> Path:
    raise RuntimeError("not found in remote repositories")


def test_fetched_once(tmp_path: Path) -> None:
    """What is in the cache is not fetched again."""
    artifact = _pinned(b"right")
    (path,) = artifacts.fetch([artifact], tmp_path, print, bring=_brings(b"right"))
    assert path.read_bytes() == b"right"
    assert artifacts.fetch([artifact], tmp_path, print, bring=_unreachable) == [path]


def test_wrong_hash_is_refused(tmp_path: Path) -> None:
    """A file that is not the pinned one is named in one line and not kept."""
    artifact = _pinned(b"right")
    with pytest.raises(StackError, match=r"org\.example:thing:1\.0 is not the pinned file") as refused:
        artifacts.fetch([artifact], tmp_path, print, bring=_brings(b"wrong"))
    assert "\n" not in str(refused.value)
    assert list(tmp_path.rglob("*.jar")) == []


def test_failed_fetch_names_artifact_and_remedy(tmp_path: Path) -> None:
    """A file that does not come is named in one line, with what to check."""
    with pytest.raises(
        StackError, match=r"org\.example:thing:1\.0 could not be fetched .* check the network"
    ) as failed:
        artifacts.fetch([_pinned(b"right")], tmp_path, print, bring=_unreachable)
    assert "\n" not in str(failed.value)
