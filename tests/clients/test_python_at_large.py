"""The Python client on a real broker: thousands of requests while all of it fails, and its wheel in an empty place."""

import asyncio
import re
import sys
import uuid
from pathlib import Path
from typing import Final

import pytest
from aiokafka.admin import NewTopic

from catalog_client import CatalogClient, NotSent, ReplyTimeout, results
from tests.clients.drivers import ROOT
from tests.clients.world import World

pytestmark = [pytest.mark.clients, pytest.mark.timeout(240)]

CALLS: Final = 5_000
ANSWERED_SHARE: Final = 0.995


async def test_thousands_while_all_of_it_is_killed(place: World) -> None:
    """5,000 at once, worker and broker killed: 99.5 % answered in 60 s, each by its own; all are known by id."""
    run = uuid.uuid4().hex[:8]
    servers, prefix = place.stack.environment().kafka_bootstrap_servers, place.system.prefix
    token = place.token("admin", "large")
    async with CatalogClient(servers, token=token, name="large", instance="one", prefix=prefix) as catalog:

        async def ask(number: int) -> results.CustomerResult:
            email = f"large.{number}.{run}@example.com"
            return await catalog.create_customer(
                name=f"{number} {run}", email=email, message_id=f"{number}-{run}", timeout=60
            )

        asked = [asyncio.create_task(ask(number)) for number in range(CALLS)]
        await place.system.until(lambda: _answered(catalog, 100), 30, "nothing is answered")
        await place.act("kill the workers")
        await place.act("start the workers")
        await place.system.until(lambda: _answered(catalog, 1000), 30, "nothing is answered")
        await place.act("kill the broker")
        await place.act("start the broker")
        ended = await asyncio.gather(*asked, return_exceptions=True)

        answered = [number for number, end in enumerate(ended) if isinstance(end, results.CustomerResult)]
        assert {type(end) for end in ended} <= {results.CustomerResult, ReplyTimeout}
        assert len(answered) >= CALLS * ANSWERED_SHARE
        for number in answered:
            end = ended[number]
            assert isinstance(end, results.CustomerResult)
            assert end.name == f"{number} {run}"
        rows = await place.system.fetch("select name from customers where name like $1", f"% {run}")
        stored = {row["name"] for row in rows}
        assert len(rows) == len(stored)
        outcomes = await asyncio.gather(*(catalog.outcome(f"{number}-{run}", timeout=60) for number in range(CALLS)))
        for number, outcome in enumerate(outcomes):
            assert (f"{number} {run}" in stored) == (outcome is not None and outcome.status_code == 201)
        assert catalog.counters.waiting == 0


@pytest.mark.parametrize("reply_topic", [None, "theirs"])
async def test_a_broker_that_dies_before_the_first_request(place: World, reply_topic: str | None) -> None:
    """A request is answered whose broker was away when the client wished to read replies; a short one ends in time."""
    servers, prefix = place.stack.environment().kafka_bootstrap_servers, place.system.prefix
    topic = None
    if reply_topic is not None:
        topic = f"{prefix}.replies.{reply_topic}-{uuid.uuid4().hex}"
        await place.system.admin.create_topics([NewTopic(topic, 1, 1)])
    token = place.token("admin", "early")
    name = f"early-{uuid.uuid4().hex}"
    async with CatalogClient(servers, token=token, name=name, prefix=prefix, reply_topic=topic) as catalog:
        await place.act("kill the broker")
        patient = asyncio.create_task(
            catalog.create_customer(name="Early", email=f"{uuid.uuid4().hex}@example.com", timeout=60)
        )
        with pytest.raises(NotSent):
            await catalog.create_customer(name="Early", email=f"{uuid.uuid4().hex}@example.com", timeout=0.5)
        assert not patient.done()
        await place.act("start the broker")
        assert (await patient).name == "Early"


async def _answered(catalog: CatalogClient, least: int) -> bool:
    return catalog.counters.answered >= least


async def test_the_wheel_in_an_empty_environment(place: World, tmp_path: Path) -> None:
    """Built alone and installed with nothing else, it runs the README's first example against a running stack."""
    await _run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir",
               str(tmp_path), str(ROOT / "clients" / "python"))  # fmt: skip
    (wheel,) = tmp_path.glob("catalog_client-*.whl")  # noqa: ASYNC240 - a moment
    await _run(sys.executable, "-m", "venv", str(tmp_path / "venv"))
    python = str(tmp_path / "venv" / "bin" / "python")
    await _run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", str(wheel))
    readme = (ROOT / "clients" / "python" / "README.md").read_text(encoding="utf-8")
    example = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)[0]
    ours = f'name="billing", prefix="{place.system.prefix}"'
    (tmp_path / "example.py").write_text(example.replace('name="billing"', ours), encoding="utf-8")
    env = {
        "KAFKA_BOOTSTRAP_SERVERS": place.stack.environment().kafka_bootstrap_servers,
        "CATALOG_TOKEN": place.token("admin", "readme"),
    }
    told = await _run(python, "example.py", env=env, cwd=tmp_path)
    assert re.match(r"created [0-9a-f-]{36}\n(.*\n)*Ada Lovelace 20", told)
    again = await _run(python, "example.py", env=env, cwd=tmp_path)
    assert again.startswith("somebody has this address already\n")


async def _run(*command: str, env: dict[str, str] | None = None, cwd: Path | None = None) -> str:
    process = await asyncio.create_subprocess_exec(
        *command, env=env, cwd=cwd, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    told, _ = await process.communicate()
    assert process.returncode == 0, told.decode()
    return told.decode()
