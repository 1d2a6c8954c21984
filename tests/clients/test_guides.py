"""The guides for callers say what is so: their programs are run, their table is that of the contract."""

import json
import re
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.clients import error_table
from tests.clients.drivers import ROOT
from tests.clients.programs import TYPESCRIPT, java, run
from tests.clients.world import World

pytestmark = [pytest.mark.clients, pytest.mark.timeout(120)]

GUIDES: Final = ROOT / "clients" / "guides"
_LINK: Final = re.compile(r"\]\((?!http)([^)#]+)")


def snippets(guide: str, language: str) -> list[str]:
    """Read the programs of a language in a guide, in their order."""
    text = (GUIDES / guide).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def environment(place: World, language: str) -> dict[str, str]:
    """Say what a caller who follows the guide has set."""
    return {
        "KAFKA_BOOTSTRAP_SERVERS": place.stack.environment().kafka_bootstrap_servers,
        "TOPIC_PREFIX": place.system.prefix,
        "CATALOG_TOKEN": place.token("admin", f"guide-{language}"),
        "PYTHONPATH": str(ROOT),
    }


def test_the_table_of_errors() -> None:
    """The guide's table is what the contract of today makes; `python -m tests.clients.error_table` writes it."""
    assert error_table.GUIDE.read_text(encoding="utf-8") == error_table.written()


def test_links_lead_somewhere() -> None:
    """Every file that a guide, or a README of a client, links to is there."""
    pages = [*GUIDES.glob("*.md"), *ROOT.glob("clients/*/README.md")]
    broken = {
        f"{page.name}: {link}"
        for page in pages
        for link in _LINK.findall(page.read_text(encoding="utf-8"))
        if not (page.parent / link).exists()
    }
    assert len(pages) > 4
    assert not broken


async def test_first_command_in_python(place: World, tmp_path: Path) -> None:
    """The guide's program creates a customer, from an empty folder."""
    (program,) = snippets("first-command.md", "python")
    said = await run(sys.executable, "-c", program, cwd=tmp_path, env=environment(place, "python"))
    assert said.startswith("created ")


async def test_first_command_in_typescript(place: World, tmp_path: Path) -> None:
    """The guide's program creates a customer; the compiled client stands where npm would put it."""
    await run("npm", "run", "--silent", "build", cwd=TYPESCRIPT)
    modules = tmp_path / "node_modules"
    modules.mkdir()
    (modules / "catalog-client").symlink_to(TYPESCRIPT)
    (program,) = snippets("first-command.md", "ts")
    (tmp_path / "first.mts").write_text(program, encoding="utf-8")
    said = await run("node", "first.mts", cwd=tmp_path, env=environment(place, "typescript"))
    assert said.startswith("created ")


async def test_first_command_in_java(place: World, tmp_path: Path) -> None:
    """The guide's program compiles without a warning and is answered; run again, the address is taken."""
    (program,) = snippets("first-command.md", "java")
    env = environment(place, "java")
    envelopes = [json.loads(await java(program, tmp_path, env=env)) for _ in range(2)]
    assert [(one["statusCode"], one["type"]) for one in envelopes] == [(201, "success"), (409, "error")]


async def test_from_your_own_outbox(place: World, tmp_path: Path) -> None:
    """The guide's two programs send what a transaction wrote; sent twice, as after a crash, it takes effect once."""
    write, publish = snippets("outbox.md", "python")
    env = environment(place, "python")
    await run(sys.executable, "-c", write, cwd=tmp_path, env=env)
    stood = (tmp_path / "app.db").read_bytes()
    for _ in range(2):
        (tmp_path / "app.db").write_bytes(stood)
        await run(sys.executable, "-c", publish, cwd=tmp_path, env=env)
    again = {"message_id": "signup-ada"}

    async def is_decided() -> bool:
        return (await place.system.query("get_outcome", again, token=env["CATALOG_TOKEN"])).status == 200

    await place.system.until(is_decided, 30, "the record of the outbox is not decided")
    outcome = await place.system.query("get_outcome", again, token=env["CATALOG_TOKEN"])
    assert outcome.data["statusCode"] == 201
    assert (await place.records())["signup-ada"] == 2
