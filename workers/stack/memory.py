"""What a state folder remembers between two runs: ports, identities and secrets."""

import base64
import json
import secrets
import uuid
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import ClassVar, Final, Self

from workers.stack.errors import StackError
from workers.stack.files import write_atomically
from workers.stack.free_ports import free_port

_SECRET_BYTES: Final = 32


def _secret() -> str:
    return secrets.token_urlsafe(_SECRET_BYTES)


@dataclass(slots=True)
class Memory:
    """The contents of `stack.json`. Losing the file loses the stack's data: nothing else knows the passwords."""

    FILE: ClassVar[str] = "stack.json"

    brokers: int
    postgres_folder: str
    cluster_id: str = field(default_factory=lambda: base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("="))
    ports: dict[str, int] = field(default_factory=dict)
    """By name of the part, with suffixes for a node's further listeners."""
    database_password: str = field(default_factory=_secret, repr=False)
    superuser_password: str = field(default_factory=_secret, repr=False)
    jwt_secret: str = field(default_factory=_secret, repr=False)
    outcome_hmac_key: str = field(default_factory=_secret, repr=False)
    dlq_signing_key: str = field(default_factory=_secret, repr=False)

    @classmethod
    def load(cls, state: Path) -> Self | None:
        """Return what the folder remembers; None when nothing was ever started there.

        Raises:
            StackError: the file is damaged.
        """
        path = state / cls.FILE
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, OSError) as error:
            raise StackError(f"{path} cannot be read ({error}); remove {state} to start afresh") from error

    def save(self, state: Path) -> None:
        """Keep it, readable for its owner alone."""
        write_atomically(state / self.FILE, json.dumps(asdict(self), indent=2) + "\n", mode=0o600)

    def new_port(self, name: str) -> int:
        """Choose a free port, another one than before; `save` keeps it."""
        self.ports[name] = free_port({*self.ports.values()})
        return self.ports[name]
