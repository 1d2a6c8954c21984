"""Commands whose servers do not answer: each says for what it waits, and ends with one line and exit code 1."""

import socket
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, Final

import pytest

from tests.command_line import catalog

DEAD: Final = "127.0.0.1:1"
BOTH: Final = ("Kafka", "PostgreSQL")

COMMANDS: Final[dict[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "topics create": (("topics", "create"), ("Kafka",)),
    "migrate": (("migrate",), ("PostgreSQL",)),
    "seed": (("seed",), ("PostgreSQL",)),
    "send": (("send", "create_customer", "{}"), ("Kafka",)),
    "ask": (("ask", "search_customers"), ("Kafka",)),
    "dlq list": (("dlq", "list"), BOTH),
    "dlq group": (("dlq", "group", "--json"), BOTH),
    "dlq show": (("dlq", "show", "commands/0/0"), BOTH),
    "dlq replay": (("dlq", "replay", "--all"), BOTH),
    "dlq discard": (("dlq", "discard", "--all"), BOTH),
    "backfill list": (("backfill", "list"), ("PostgreSQL",)),
    "backfill start": (("backfill", "start", "product_catalog"), ("PostgreSQL",)),
    "change show": (("change", "show"), ("PostgreSQL",)),
    "change advance": (("change", "advance", "product_catalog"), ("PostgreSQL",)),
    "offsets rewind": (("offsets", "rewind", "--to-start"), BOTH),
}


def nowhere(place: str) -> Any:  # noqa: ANN401 - what `catalog` takes of a system
    """Describe a deployment all of whose servers are at one place."""
    env = SimpleNamespace(kafka_bootstrap_servers=place, redis_url=f"redis://{place}/0")
    return SimpleNamespace(
        servers=SimpleNamespace(env=env), database_url=f"postgresql://catalog:secret@{place}/catalog", prefix="catalog"
    )


@pytest.fixture
def silent() -> Iterator[str]:
    """Somebody who listens, and never says anything."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize(("arguments", "names"), COMMANDS.values(), ids=COMMANDS)
async def test_a_command_without_its_servers(arguments: tuple[str, ...], names: tuple[str, ...]) -> None:
    """It names each of them, and in the end the one that it gave up on; nothing of a trace, nor of a password."""
    ended = await catalog(nowhere(DEAD), *arguments, code=1, WAIT_TIMEOUT_S="0.3")
    *waiting, error = ended.err.splitlines()
    assert sorted(line.split(f" at {DEAD}")[0] for line in waiting) == sorted(f"waiting for {name}" for name in names)
    assert error.startswith("error: ")
    assert "did not answer for 0.3 s" in error
    assert "secret" not in ended.err
    assert ended.out == ""


@pytest.mark.parametrize("arguments", [COMMANDS["dlq list"][0], COMMANDS["migrate"][0], COMMANDS["send"][0]])
async def test_servers_that_say_nothing(arguments: tuple[str, ...], silent: str) -> None:
    """A connection that stands and stays silent is no answer."""
    ended = await catalog(nowhere(silent), *arguments, code=1, WAIT_TIMEOUT_S="0.3")
    assert "no answer within 3 s" in ended.err
    assert ended.err.splitlines()[-1].startswith("error: ")
