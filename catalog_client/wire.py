"""The lowest seam of the client: what carries records to the workers and replies back. The test double stands here."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from catalog_client.requests import Record

OnReply = Callable[[Mapping[str, bytes | None], bytes | None, bytes], None]
"""Is given a reply: its headers, key and body."""


class NotTakenError(Exception):
    """A record cannot be published; the text says why. `is_final`: another try would fail as well."""

    def __init__(self, reason: str, *, is_final: bool) -> None:
        super().__init__(reason)
        self.is_final = is_final


class Wire(Protocol):
    """Publishes, and hands over what comes back."""

    @property
    def reply_topic(self) -> str:
        """Where replies are read."""
        ...

    async def start(self) -> None:
        """Connect. Raise NotConnected where that cannot be."""
        ...

    async def listen(self, on_reply: OnReply, on_lost: Callable[[], None]) -> None:
        """Read the reply topic from its present end; returns when nothing that is asked from now on can be missed.

        `on_lost` is called whenever a connection broke. Raise NotConnected.
        """
        ...

    async def publish(self, record: Record) -> asyncio.Future[Any]:
        """Hand a record over; the future is done when the broker has it. Raise NotTakenError."""
        ...

    def explained(self, error: BaseException) -> NotTakenError:
        """Say why a future of `publish` failed."""
        ...

    async def stop(self) -> None:
        """Disconnect. Whatever was handed over is published first."""
        ...
