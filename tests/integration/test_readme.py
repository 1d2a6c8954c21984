"""Every command of the README does what the README says (kcat and Docker, which no test may presuppose, apart)."""

import asyncio
import os
import re
import shlex
import sys
from pathlib import Path

from tests.command_line import command
from tests.forked import ROOT
from tests.system import System

PROMPT = ".venv/bin/catalog "


def commands() -> list[list[str]]:
    """Read the README's `catalog` commands, comments and continued lines taken away."""
    text = Path(ROOT / "README.md").read_text().replace("\\\n", " ")
    blocks = re.findall(r"^ {4,6}(\S.*)$", text, re.MULTILINE)
    return [shlex.split(line.split("  #")[0])[1:] for line in blocks if line.startswith(PROMPT)]


async def test_every_command(system: System) -> None:
    """Setting up, asking, verifying: each command ends with 0; each worker named gets ready and stops on SIGTERM."""
    found = commands()
    assert len(found) >= 8, found
    workers = [arguments[1] for arguments in found if arguments[0] == "worker"]
    assert {"commands", "queries"} <= set(workers)
    system.forks = False
    started = [await system.start(role) for role in workers]
    for arguments in found:
        if arguments[0] != "worker":
            ended = await command(*arguments, env=system.environment())
            assert ended.code == 0, (arguments, ended)
    for worker in started:
        worker.process.terminate()
        assert await worker.ended(60) == 0


async def test_a_wrong_setting_is_one_line(system: System) -> None:
    """A wrong setting ends the command with code 2 and one readable line for each error, without a stack trace."""
    env = system.environment() | {"DB_POOL_SIZE": "many", "LOG_LEVEL": "loud"}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "workers", "worker", "commands", env=env, cwd=ROOT, stderr=asyncio.subprocess.PIPE
    )
    _, errors = await process.communicate()
    assert process.returncode == 2
    lines = errors.decode().strip().splitlines()
    assert len(lines) == 2, lines
    assert all(line.startswith("error: ") for line in lines)
    assert os.linesep.join(lines).count("Traceback") == 0
