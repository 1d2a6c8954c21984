"""The `catalog` command as an operator runs it, against a deployment under test."""

import asyncio
import json
import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.forked import PATIENCE_S, fork
from tests.system import SECRET, System

OPERATOR_KEY = "operator-" + SECRET


@dataclass(frozen=True)
class Finished:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[dict[str, Any]]:
        """Read standard output, one JSON object a line."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def audit(self) -> list[dict[str, Any]]:
        """Read the audit lines of standard error."""
        found = [json.loads(line) for line in self.err.splitlines() if line.startswith("{")]
        return [line for line in found if line["operation"].startswith("dead_letter_")]


async def command(*arguments: str, env: Mapping[str, str]) -> Finished:
    """Run `catalog` with this environment and nothing else; one that does not end in time is killed."""
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder) / "out", Path(folder) / "err"
        process = fork("workers", *arguments, env=env, out=out, err=err)
        try:
            code = await asyncio.wait_for(process.wait(), PATIENCE_S)
        except TimeoutError:
            with suppress(ProcessLookupError):  # just now
                process.kill()
            code = await process.wait()
        return Finished(code, out.read_text(), err.read_text())


async def catalog(system: System, *arguments: str, code: int | None = 0, **settings: str) -> Finished:
    """Run `catalog` with the deployment's settings; fails unless it ends with this code (None: any)."""
    env = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("KAFKA_", "JWT_", "DLQ_"))},
        "ENVIRONMENT": "development",
        "KAFKA_BOOTSTRAP_SERVERS": system.servers.env.kafka_bootstrap_servers,
        "DATABASE_URL": system.database_url,
        "REDIS_URL": system.servers.env.redis_url,
        "TOPIC_PREFIX": system.prefix,
        "JWT_SECRET": SECRET,
        "OUTCOME_HMAC_KEY": "outcomes-" + SECRET,
        "DLQ_SIGNING_KEY": "dead-letters-" + SECRET,
        "DLQ_OPERATOR_KEY": OPERATOR_KEY,
        "CATALOG_OPERATOR": "olga",
        "COLUMNS": "300",
        "LOG_LEVEL": "INFO",
        **settings,
    }
    finished = await command(*arguments, env=env)
    assert code is None or finished.code == code, (arguments, finished)
    assert "Traceback" not in finished.err, finished.err
    return finished
