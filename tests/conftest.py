"""Real servers for every test that needs one: embedded by default, containers or given ones on request.

`TEST_STACK=embedded` (default) starts Kafka, Postgres and Redis as local processes; `containers` the same by
testcontainers; `env` uses KAFKA_BOOTSTRAP_SERVERS, DATABASE_URL and REDIS_URL. A server that is missing fails the test
with the command to run; nothing is skipped.
"""

import asyncio
import gc
import os
import uuid
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path

import asyncpg
import pytest
import structlog
from hypothesis import HealthCheck, settings

from migrations import runner
from tests import alone, databases, distribution
from tests.servers import Servers, start_servers
from tests.system import System

gc.disable()  # until all is collected: half of what loading and collecting three thousand tests takes finds no garbage

settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("short", settings.get_profile("default"), max_examples=100)
settings.register_profile("long", settings.get_profile("default"), max_examples=5000)
settings.load_profile(os.environ.get("SUITE_SIZE", "default"))

# structlog's own default draws a box around every variable of every frame: seconds of a busy machine for one defect,
# within the transaction of a batch that has one second for its use cases. The workers' own form shows no variables.
structlog.configure(
    processors=[
        *structlog.get_config()["processors"][:-1],
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback),
    ]
)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, exitstatus: int) -> None:
    """Say plainly that nothing was selected: whoever reads "deselected" alone may take it for a success."""
    if exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED:
        chosen = terminalreporter.config.option.keyword
        what = f"-k {chosen!r}" if chosen else "what was asked for"
        terminalreporter.write_line(
            f"error: {what} selects no test: -k takes a part of a test's or a file's name", red=True
        )


@pytest.hookimpl(optionalhook=True)  # without xdist nobody asks
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """Have tests distributed as `tests.distribution` says; where something else than files is asked for, so be it."""
    return distribution.OneByOne(config, log) if config.getoption("dist") == "loadfile" else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put what takes long first where several processes run tests; what runs alone comes last."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: distribution.turn_of(item.nodeid))
    alone.last(items)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Let the collector work from now on, but never go through all that was loaded and stays."""
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True)
def _turn(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Where several processes run tests, have those marked `alone` run beside no other."""
    if not hasattr(request.config, "workerinput"):  # one process
        yield
        return
    is_alone = request.node.get_closest_marker(alone.ALONE) is not None
    with alone.turn(tmp_path_factory.getbasetemp().parent, alone=is_alone):
        yield


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Kafka, Postgres and Redis for the whole session; gone when it ends, also when it is killed."""
    with start_servers(os.environ.get("TEST_STACK", "embedded"), tmp_path_factory.mktemp("stack")) as servers:
        yield servers


@pytest.fixture(scope="session")
def template_database(stack: Servers) -> str:
    """Make the name of a migrated, empty database, to be copied by each test that needs one."""
    name = f"template_{uuid.uuid4().hex[:8]}"

    async def make() -> None:
        await _execute(stack, databases.creation(name))
        await runner.upgrade(stack.database(name))

    asyncio.run(make())
    return name


@pytest.fixture
async def database_url(stack: Servers, template_database: str) -> AsyncIterator[str]:
    """A migrated, empty database of the test's own."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    await _execute(stack, databases.creation(name, template_database))
    yield stack.database(name)
    await drop_database(stack, name)


async def drop_database(stack: Servers, name: str) -> None:
    """Drop a database of the test's own."""
    await databases.drop_database(partial(_execute, stack), name)


async def _execute(stack: Servers, statement: str) -> None:
    """Run a statement on a connection of its own: a test may have restarted the server meanwhile."""
    connection = await asyncpg.connect(stack.env.database_url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


@pytest.fixture
def database_url_now(stack: Servers, template_database: str) -> Iterator[str]:
    """The same for a test that has an event loop of its own."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    asyncio.run(_execute(stack, databases.creation(name, template_database)))
    yield stack.database(name)
    asyncio.run(drop_database(stack, name))


@pytest.fixture
async def system(stack: Servers, database_url: str, tmp_path: Path) -> AsyncIterator[System]:
    """A deployment of the test's own: topics, database, and whatever workers it starts; all ended afterwards."""
    async with System(stack, database_url, logs=tmp_path) as deployment:
        yield deployment
