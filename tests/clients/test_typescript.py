"""The TypeScript client as it is shipped: what is generated, what is packed, and what its README says."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import orjson
import pytest

from contracts.asyncapi import Deployment, document
from tests.clients.drivers import TYPESCRIPT as TYPESCRIPT_DRIVER
from tests.clients.drivers import Driver, judged
from tests.clients.programs import TYPESCRIPT, run
from tests.clients.scenarios import filled, table
from tests.clients.world import World

pytestmark = [pytest.mark.clients, pytest.mark.timeout(120)]

_SNIPPET: Final = re.compile(r"^```ts\n(.*?)^```", re.MULTILINE | re.DOTALL)
_STRICT: Final = {
    "target": "es2024",
    "lib": ["es2024", "esnext.disposable"],
    "module": "nodenext",
    "strict": True,
    "noUncheckedIndexedAccess": True,
    "exactOptionalPropertyTypes": True,
    "noEmit": True,
    "types": ["node"],
    "typeRoots": [str(TYPESCRIPT / "node_modules" / "@types")],
}


async def test_what_is_committed_is_what_is_generated(tmp_path: Path) -> None:
    """`src/generated.ts` is what the contract of today makes; `make client` writes it."""
    made = tmp_path / "generated.ts"
    await run("node", "generate.ts", str(made), cwd=TYPESCRIPT, given=orjson.dumps(document(Deployment())))
    assert (TYPESCRIPT / "src" / "generated.ts").read_text() == made.read_text()


async def test_rows_that_need_no_server() -> None:
    """The client on its test double passes the rows of the table that are marked so."""
    rows = [filled(row, "fake") for row in table().rows.values() if "fake" in row["on"]]
    async with Driver(TYPESCRIPT_DRIVER) as driver:
        found = {row["name"]: list(judged(row, await driver.perform(row))) for row in rows}
    assert len(found) > 30
    assert not {name: deviations for name, deviations in found.items() if deviations}


@pytest.fixture(scope="module")
async def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty project in which the packed client was installed, with the snippets of its README beside it."""
    folder = tmp_path_factory.mktemp("installed")
    await run("npm", "run", "--silent", "build", cwd=TYPESCRIPT)
    packed = json.loads(await run("npm", "pack", "--json", "--pack-destination", str(folder), cwd=TYPESCRIPT))
    (folder / "package.json").write_text('{"name": "caller", "private": true, "type": "module"}')
    (folder / ".npmrc").write_text((TYPESCRIPT / ".npmrc").read_text())
    await run("npm", "install", "--silent", "--prefer-offline", f"./{packed[0]['filename']}", cwd=folder)
    for number, text in enumerate(snippets()):
        (folder / f"snippet{number}.ts").write_text(text)
    (folder / "tsconfig.json").write_text(json.dumps({"compilerOptions": _STRICT, "include": ["*.ts"]}))
    return folder


def snippets() -> Sequence[str]:
    """Read what the README shows, in its order."""
    return _SNIPPET.findall((TYPESCRIPT / "README.md").read_text())


async def test_what_is_packed(installed: Path) -> None:
    """The package holds its compiled modules with their types, README and package.json, and nothing else."""
    package = installed / "node_modules" / "catalog-client"
    files = {str(path.relative_to(package)) for path in package.rglob("*") if path.is_file()}
    modules = {path.stem for path in (TYPESCRIPT / "src").glob("*.ts")}
    assert files == {f"dist/{name}{end}" for name in modules for end in (".js", ".d.ts")} | {
        "package.json",
        "README.md",
    }


async def test_snippets_are_right(installed: Path) -> None:
    """A strict compiler accepts every snippet of the README, with the types of the installed package."""
    await run(str(TYPESCRIPT / "node_modules" / ".bin" / "tsc"), "--project", ".", cwd=installed)


async def test_first_example(installed: Path, place: World) -> None:
    """The README's first example reaches its first reply, and its second run says that the address is taken."""
    env = {
        "KAFKA_BOOTSTRAP_SERVERS": place.stack.environment().kafka_bootstrap_servers,
        "TOPIC_PREFIX": place.system.prefix,
        "CATALOG_TOKEN": place.token("admin", "readme"),
    }
    said = await run("node", "snippet0.ts", cwd=installed, env=env)
    assert "created" in said
    assert "Grace Hopper" in said
    assert "somebody has this address already" in await run("node", "snippet0.ts", cwd=installed, env=env)


async def test_the_example_of_a_test(installed: Path) -> None:
    """The README's example with the double passes."""
    (number,) = [number for number, text in enumerate(snippets()) if "FakeCatalog" in text]
    await run("node", f"snippet{number}.ts", cwd=installed)
