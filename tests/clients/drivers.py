"""Drivers of the table of scenarios: processes that perform rows by the client of their language."""

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self

from tests.clients.scenarios import deviations

ROOT: Final = Path(__file__).parent.parent.parent
PYTHON: Final = (sys.executable, str(ROOT / "clients" / "python" / "driver.py"))
TYPESCRIPT: Final = (str(ROOT / ".venv-tools" / "bin" / "node"), str(ROOT / "clients" / "typescript" / "driver.ts"))
LANGUAGES: Final[Mapping[str, Sequence[str]]] = {"python": PYTHON, "typescript": TYPESCRIPT}
"""How the driver of each language is started."""

_LINE_BYTES: Final = 4 << 20


class Driver:
    """A driver at work; an async context manager."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = command
        self._process: Process | None = None

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            *self._command, stdin=PIPE, stdout=PIPE, limit=_LINE_BYTES, env={**os.environ, "PYTHONPATH": str(ROOT)}
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        process = self._started
        if process.returncode is None:
            assert process.stdin is not None
            process.stdin.close()
            try:
                await asyncio.wait_for(process.wait(), 10)
            except TimeoutError:
                process.kill()
                await process.wait()

    @property
    def _started(self) -> Process:
        assert self._process is not None
        return self._process

    async def perform(
        self, row: Mapping[str, Any], act: Callable[[str], Awaitable[None]] | None = None
    ) -> Mapping[str, Any]:
        """Have a row performed; `act` changes the world when the driver asks for it."""
        process = self._started
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(row).encode() + b"\n")
        while True:
            line = await process.stdout.readline()
            assert line, f"{self._command} ended at '{row['name']}'"
            answer: Mapping[str, Any] = json.loads(line)
            if "act" not in answer:
                return answer
            assert act is not None, f"'{row['name']}' needs a world to change"
            await act(answer["act"])
            process.stdin.write(b"go\n")


def judged(row: Mapping[str, Any], answer: Mapping[str, Any]) -> Iterator[str]:
    """Name where what came of a row is not what it expects."""
    if "failed" in answer:
        yield f"failed: {answer['failed']}"
        return
    for number, (step, result) in enumerate(zip(row["steps"], answer["results"], strict=True)):
        yield from deviations(step["expect"], result, f"step {number}")
    yield from deviations(row.get("counters", {}), answer["counters"], "counters")
