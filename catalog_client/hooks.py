"""What an application may be told while it waits for something else, and what is counted."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from catalog_client.replies import Envelope

_log: Final = logging.getLogger("catalog_client")


@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks:
    """Functions that are called in passing, in the client's event loop; what one raises is logged."""

    late: Callable[[Envelope], None] | None = None
    """A reply to a request that was given up, or the answer that follows a 500 and that nobody waits for."""
    duplicate: Callable[[Envelope], None] | None = None
    """A reply came again, which is normal: its body is the same."""
    repeated: Callable[[str, int], None] | None = None
    """A request is sent once more: its message_id (of a query its correlation id), and how many records that makes."""

    def call(self, name: str, *arguments: object) -> None:
        """Call one of them, where it is set."""
        hook = getattr(self, name)
        if hook is not None:
            try:
                hook(*arguments)
            except Exception:  # noqa: BLE001 - the application's own
                _log.exception("the hook '%s' failed", name)


@dataclass(slots=True)
class Counters:
    """What happened since the client was made; `CatalogClient.counters` is a snapshot."""

    sent: int = 0
    """Records published, repetitions too."""
    repeated: int = 0
    answered: int = 0
    """Requests that ended with a reply, a refusal too."""
    timed_out: int = 0
    late: int = 0
    """Replies to requests that had been given up, or that had ended with a 500."""
    duplicate: int = 0
    waiting: int = field(default=0)
    """Requests in flight now."""
