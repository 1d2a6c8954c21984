"""What the generated methods stand on: each class says what becomes of a request that one of them made."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any, TypeVar

from catalog_client.replies import Reply
from catalog_client.requests import Kind, Record, Request
from catalog_client.unset import Unset

T = TypeVar("T")

Timeout = float | None | Unset
"""Seconds; None: wait for ever; UNSET: the client's."""


class Asking(ABC):
    """Asks and waits."""

    @abstractmethod
    async def _data(self, request: Request[T], message_id: str | None, timeout: Timeout, key: str | None) -> T:
        """Return the result."""


class RawAsking(ABC):
    """Asks and waits; whatever came with the result is kept."""

    @abstractmethod
    async def _reply(self, request: Request[T], message_id: str | None, timeout: Timeout, key: str | None) -> Reply[T]:
        """Return the reply."""


class Iterating(ABC):
    """Goes through a list, page after page."""

    @abstractmethod
    def _items(self, kind: Kind[Any], payload: Mapping[str, Any], timeout: Timeout) -> AsyncIterator[Any]:
        """Go through the items of all pages."""


class Sending(ABC):
    """Publishes, and wants no answer."""

    @abstractmethod
    async def _sent(self, request: Request[Any], message_id: str | None, timeout: Timeout, key: str | None) -> str:
        """Return the message_id when the broker has it."""


class Recording(ABC):
    """Makes records, and publishes none."""

    @abstractmethod
    def _recorded(self, request: Request[Any], message_id: str | None, key: str | None) -> Record:
        """Return the record."""


class SyncAsking(ABC):
    """Asks and waits, outside an event loop."""

    @abstractmethod
    def _data(self, request: Request[T], message_id: str | None, timeout: Timeout, key: str | None) -> T:
        """Return the result."""


class SyncRawAsking(ABC):
    """Asks and waits, outside an event loop; whatever came with the result is kept."""

    @abstractmethod
    def _reply(self, request: Request[T], message_id: str | None, timeout: Timeout, key: str | None) -> Reply[T]:
        """Return the reply."""


class SyncIterating(ABC):
    """Goes through a list, page after page, outside an event loop."""

    @abstractmethod
    def _items(self, kind: Kind[Any], payload: Mapping[str, Any], timeout: Timeout) -> Iterator[Any]:
        """Go through the items of all pages."""


class SyncSending(ABC):
    """Publishes, and wants no answer, outside an event loop."""

    @abstractmethod
    def _sent(self, request: Request[Any], message_id: str | None, timeout: Timeout, key: str | None) -> str:
        """Return the message_id when the broker has it."""
