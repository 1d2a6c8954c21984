"""The client for programs without an event loop: the same methods, called from any thread."""

import asyncio
import threading
from collections.abc import Coroutine, Iterator, Mapping
from typing import Any, Final, Self, TypeVar

from catalog_client.client import CatalogClient
from catalog_client.errors import WithIncident
from catalog_client.generated import results
from catalog_client.generated.methods import Records
from catalog_client.generated.sync_methods import SyncCalls, SyncIterates, SyncRawCalls, SyncSends
from catalog_client.hooks import Counters
from catalog_client.replies import Reply
from catalog_client.requests import Kind, Request, Side
from catalog_client.surface import Timeout
from catalog_client.unset import UNSET

T = TypeVar("T")


class SyncCatalogClient(SyncCalls):
    """A caller of the catalog; a context manager, and safe to share among threads.

        with SyncCatalogClient("kafka:9092", token=token, name="billing") as catalog:
            customer = catalog.create_customer(name="Ada", email="ada@example.com")

    It runs a `CatalogClient` in a thread of its own: options, hooks (called in that thread) and errors are the same.
    """

    def __init__(self, servers: str, **options: Any) -> None:  # noqa: ANN401 - `CatalogClient` names and checks them
        """Connect nothing yet; takes what `CatalogClient` takes. Raise ValueError for what cannot work."""
        self._client = CatalogClient(servers, **options)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self.with_raw_response: Final = _RawCalls(self)
        self.send: Final = _Sends(self)
        self.record: Final[Records] = self._client.record
        self.iterate: Final = _Iterates(self)

    def __enter__(self) -> Self:
        """Connect. Raise NotConnected where that cannot be."""
        if self._loop is not None:
            raise RuntimeError("the client is open already")
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="catalog-client", daemon=True)
        self._thread.start()
        try:
            self._run(self._client.__aenter__())
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Disconnect."""
        try:
            self._run(self._client.__aexit__())
        finally:
            self._end()

    @property
    def reply_topic(self) -> str:
        """Where replies are read."""
        return self._client.reply_topic

    @property
    def counters(self) -> Counters:
        """What happened since the client was opened."""
        return self._client.counters

    def outcome(self, message_id: str, *, timeout: Timeout = UNSET) -> results.OutcomeResult | None:
        """Ask what became of a command of this caller; None: it is not decided yet, or never was sent."""
        return self._run(self._client.outcome(message_id, timeout=timeout))

    def settled(self, error: WithIncident, timeout: float | None = None) -> Any:  # noqa: ANN401 - the call's own type
        """Wait for the answer that follows a 500: `error.settled` of the other client."""
        return self._run(error.settled(timeout))

    def call(
        self,
        kind: str,
        payload: Mapping[str, Any],
        *,
        version: int | None = None,
        side: Side | None = None,
        message_id: str | None = None,
        timeout: Timeout = UNSET,
        key: str | None = None,
    ) -> Reply[Any]:
        """Ask by the name of a kind, for one that this client has no method for; `data` is plain JSON."""
        return self._run(
            self._client.call(
                kind, payload, version=version, side=side, message_id=message_id, timeout=timeout, key=key
            )
        )

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        if self._loop is None:
            work.close()
            raise RuntimeError("the client is not open: use it as `with SyncCatalogClient(…) as catalog:`")
        running = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return running.result()
        except BaseException:
            running.cancel()  # Ctrl-C while it waits; of what has ended it does nothing
            raise

    def _end(self) -> None:
        loop, self._loop = self._loop, None
        if loop is not None and self._thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            self._thread.join()
            loop.close()

    def _data(self, request: Request[T], message_id: str | None, timeout: Timeout, key: str | None) -> T:
        return self._reply(request, message_id, timeout, key).data

    def _reply(self, request: Request[T], message_id: str | None, timeout: Timeout, key: str | None) -> Reply[T]:
        return self._run(self._client._reply(request, message_id, timeout, key))  # noqa: SLF001 - a part of it


class _RawCalls(SyncRawCalls):
    def __init__(self, client: SyncCatalogClient) -> None:
        self._client = client

    def _reply(self, request: Request[T], message_id: str | None, timeout: Timeout, key: str | None) -> Reply[T]:
        return self._client._reply(request, message_id, timeout, key)  # noqa: SLF001 - a part of it


class _Sends(SyncSends):
    def __init__(self, client: SyncCatalogClient) -> None:
        self._client = client

    def _sent(self, request: Request[Any], message_id: str | None, timeout: Timeout, key: str | None) -> str:
        client = self._client
        return client._run(client._client._sent(request, message_id, timeout, key))  # noqa: SLF001 - a part of it


class _Iterates(SyncIterates):
    def __init__(self, client: SyncCatalogClient) -> None:
        self._client = client

    def _items(self, kind: Kind[Any], payload: Mapping[str, Any], timeout: Timeout) -> Iterator[Any]:
        client = self._client
        items = client._client._items(kind, payload, timeout)  # noqa: SLF001 - a part of it
        while True:
            try:
                yield client._run(anext(items))  # type: ignore[arg-type]  # noqa: SLF001 - an awaitable of a generator
            except StopAsyncIteration:
                return
