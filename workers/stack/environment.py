"""`stack.env`: what other processes must know to use the stack, as lines of NAME=value."""

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from workers.stack.files import write_atomically

_HEADER: Final = "# Written by the embedded stack, which keeps only lines that are not its own. Holds secrets.\n"
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PLAIN: Final = re.compile(r"[A-Za-z0-9_.,:;@%/+=?&-]*")


@dataclass(frozen=True, slots=True)
class StackEnv:
    """The workers' settings for the running stack."""

    kafka_bootstrap_servers: str
    database_url: str = field(repr=False)
    redis_url: str
    jwt_secret: str = field(repr=False)
    outcome_hmac_key: str = field(repr=False)
    dlq_signing_key: str = field(repr=False)
    database_admin_url: str = field(repr=False)
    """The same database as a superuser: for tests that need one, and never part of the workers' settings."""
    topic_prefix: str = "catalog"
    environment: str = "development"

    def as_env(self) -> dict[str, str]:
        """Return them under the names that the workers' settings have."""
        return {
            "KAFKA_BOOTSTRAP_SERVERS": self.kafka_bootstrap_servers,
            "DATABASE_URL": self.database_url,
            "REDIS_URL": self.redis_url,
            "JWT_SECRET": self.jwt_secret,
            "TOPIC_PREFIX": self.topic_prefix,
            "ENVIRONMENT": self.environment,
            "OUTCOME_HMAC_KEY": self.outcome_hmac_key,
            "DLQ_SIGNING_KEY": self.dlq_signing_key,
        }


def read_env(path: Path) -> dict[str, str]:
    """Read such a file; comments and empty lines are passed over. A missing file raises FileNotFoundError."""
    found = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        name, equals, value = line.strip().partition("=")
        if equals and _NAME.fullmatch(name):
            found[name] = value[1:-1] if len(value) > 1 and value[0] == value[-1] == "'" else value
    return found


def write_env(path: Path, values: Mapping[str, str]) -> None:
    """Replace such a file as a whole, readable for its owner alone.

    Raises:
        ValueError: a name is none, or a value holds a quotation mark or a line break, which not every reader takes.
    """
    write_atomically(path, _HEADER + "".join(_line(name, value) for name, value in values.items()), mode=0o600)


def export_lines(values: Mapping[str, str]) -> list[str]:
    """Return lines that a POSIX shell can evaluate."""
    return [f"export {name}={shlex.quote(value)}" for name, value in values.items()]


def _line(name: str, value: str) -> str:
    if not _NAME.fullmatch(name) or any(character in value for character in "'\r\n"):
        raise ValueError(
            f"{name!r} cannot be kept as an environment variable: a name or value that readers disagree on"
        )
    return f"{name}={value}\n" if _PLAIN.fullmatch(value) else f"{name}='{value}'\n"
