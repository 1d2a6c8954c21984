"""The client: commands and queries of the catalog, each a method, from an asyncio program."""

import logging
import re
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final, Self, TypeVar

from catalog_client.errors import FAMILIES, NotFound, Refused, UnreadableReply, WithIncident
from catalog_client.exchange import REPEAT_AFTER_S, Exchange, Settlement, Token, epoch_ms
from catalog_client.generated import kinds, results
from catalog_client.generated.errors import BY_CODE
from catalog_client.generated.methods import Calls, Iterates, RawCalls, Records, Sends
from catalog_client.hooks import Counters, Hooks
from catalog_client.kafka import KafkaWire
from catalog_client.replies import Envelope, Reply
from catalog_client.requests import Headers, Kind, Record, Request, Side, checked_id, read_plain
from catalog_client.security import SASL, TLS, client_options
from catalog_client.surface import Timeout
from catalog_client.unset import UNSET, Unset
from catalog_client.version import VERSION
from catalog_client.wire import Wire

T = TypeVar("T")

TIMEOUT_S: Final = 10.0
MAX_IN_FLIGHT: Final = 10_000

_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,180}")
_UNFIT: Final = re.compile(r"[^A-Za-z0-9._-]")
_USER_AGENT_CHARACTERS: Final = 200

_log: Final = logging.getLogger("catalog_client")


class CatalogClient(Calls):
    """A caller of the catalog; an async context manager. One is enough for a process, thousands of requests at once.

        async with CatalogClient("kafka:9092", token=token, name="billing") as catalog:
            customer = await catalog.create_customer(name="Ada", email="ada@example.com")

    Each method takes `timeout` in seconds (None: wait for ever), which is the deadline of the request as well, and each
    command a `message_id`, under which it takes effect at most once. An unanswered command is repeated under the same
    id. What can go wrong is told in `catalog_client.errors`.

    `with_raw_response` has the same methods; each returns a `Reply`. `send` has the commands without an answer,
    `record` the commands as records for your own outbox, `iterate` the lists, item by item.
    """

    def __init__(  # noqa: PLR0913 - options, most with a default
        self,
        servers: str | Sequence[str],
        *,
        token: Token,
        name: str,
        instance: str | None = None,
        prefix: str = "catalog",
        reply_topic: str | None = None,
        delete_on_close: bool = False,
        tls: TLS | None = None,
        sasl: SASL | None = None,
        timeout: float | None = TIMEOUT_S,
        max_in_flight: int = MAX_IN_FLIGHT,
        repeat_after: float = REPEAT_AFTER_S,
        hooks: Hooks | None = None,
        wire: Wire | None = None,
    ) -> None:
        """Connect nothing yet. Raise ValueError for what cannot work.

        Args:
            servers: host:port, one or several.
            token: The JWT, or a function, which may be async, that returns it; it is asked at each record.
            name: What this application is called: in `user-agent`, and in the name of its reply topic.
            instance: Which of several processes this is; the host's name unless given. The reply topic is
                `<prefix>.replies.<name>-<instance>`; it is made when it is missing, and kept: a restart finds it.
            prefix: The prefix of all topics.
            reply_topic: One that exists; then nothing is made. Several clients may share it.
            delete_on_close: Delete the reply topic at the end; for a name that no other process uses.
            tls: TLS to the broker.
            sasl: Name and password, or tokens, for the broker.
            timeout: What a call takes that names none, in seconds; None: it waits for ever.
            max_in_flight: How many requests may wait for an answer; more wait for one of them.
            repeat_after: When an unanswered command is first repeated, in seconds.
            hooks: What to be told in passing.
            wire: What stands in for Kafka; see `catalog_client.testing`.
        """
        self._prefix = prefix
        self._token = token
        self._timeout = timeout
        self._max_in_flight = max_in_flight
        self._repeat_after = repeat_after
        self._hooks = hooks or Hooks()
        self._exchange: Exchange | None = None
        self._told: set[Kind[Any]] = set()
        self._user_agent = f"catalog-client-python/{VERSION} {name}".encode("ascii", "replace")[:_USER_AGENT_CHARACTERS]
        reply_name = self._reply_name(name, instance, reply_topic)
        if max_in_flight < 1 or repeat_after <= 0 or (timeout is not None and timeout <= 0):
            raise ValueError("max_in_flight, repeat_after and timeout must be more than 0")
        if reply_topic is not None and delete_on_close:
            raise ValueError("a reply_topic that is given is not deleted: leave delete_on_close out")
        self._wire: Wire = wire or KafkaWire(
            servers if isinstance(servers, str) else ",".join(servers),
            f"catalog-client-{reply_name}",
            client_options(tls, sasl),
            f"{prefix}.replies.{reply_name}",
            makes=reply_topic is None,
            deletes=delete_on_close,
        )
        self.with_raw_response: Final = _RawCalls(self)
        self.send: Final = _Sends(self)
        self.record: Final = _Records(self)
        self.iterate: Final = _Iterates(self)

    def _reply_name(self, name: str, instance: str | None, reply_topic: str | None) -> str:
        if not _NAME.fullmatch(name):
            raise ValueError(f"name: letters, digits, '.', '_' and '-' of ASCII, not {name!r}")
        if reply_topic is None:
            own = _UNFIT.sub("-", socket.gethostname()) if instance is None else instance
            reply_name = f"{name}-{own}"
        else:
            begin = f"{self._prefix}.replies."
            if not reply_topic.startswith(begin):
                raise ValueError(f"reply_topic: it must begin with '{begin}', not {reply_topic!r}")
            reply_name = reply_topic.removeprefix(begin)
        if not _NAME.fullmatch(reply_name):
            raise ValueError(
                f"the name of the reply topic: 1 to 180 letters, digits, '.', '_' and '-' of ASCII, not {reply_name!r}"
            )
        return reply_name

    async def __aenter__(self) -> Self:
        """Connect. Raise NotConnected where that cannot be."""
        if self._exchange is not None:
            raise RuntimeError("the client is open already")
        self._exchange = Exchange(
            self._wire,
            self._token,
            hooks=self._hooks,
            max_in_flight=self._max_in_flight,
            repeat_after_s=self._repeat_after,
        )
        try:
            await self._wire.start()
        except BaseException:
            self._exchange = None
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        """Disconnect. What was handed over is published; who still waits for an answer gets a ReplyTimeout."""
        exchange, self._exchange = self._opened, None
        await exchange.close()
        await self._wire.stop()

    @property
    def reply_topic(self) -> str:
        """Where replies are read."""
        return self._wire.reply_topic

    @property
    def counters(self) -> Counters:
        """What happened since the client was opened."""
        exchange = self._opened
        return replace(exchange.counters, waiting=exchange.waiting)

    async def outcome(self, message_id: str, *, timeout: Timeout = UNSET) -> results.OutcomeResult | None:
        """Ask what became of a command of this caller; None: it is not decided yet, or never was sent."""
        try:
            return await self.get_outcome(message_id=message_id, timeout=timeout)
        except NotFound as error:
            if error.error_code == "OUTCOME_NOT_FOUND":
                return None
            raise

    async def call(  # noqa: PLR0913 - options
        self,
        kind: str,
        payload: Mapping[str, Any],
        *,
        version: int | None = None,
        side: Side | None = None,
        message_id: str | None = None,
        timeout: Timeout = UNSET,
        key: str | None = None,
        token: Token | None = None,
    ) -> Reply[Any]:
        """Ask by the name of a kind, for one that this client has no method for; `data` is plain JSON.

        Without a `version` the newest known is meant, without a `side` what the kind belongs on; of an unknown kind
        version 1 on `commands`. With a `token` this request is another caller's.
        """
        known = kinds.NEWEST.get(kind)
        asked = Kind(
            kind,
            version or (known.version if known else 1),
            side or (known.side if known else "commands"),
            known.key if known else (),
            read_plain,
        )
        return await self._reply(Request(asked, payload), message_id, timeout, key, token)

    # What the methods stand on ---------------------------------------------------------------------------------------
    @property
    def _opened(self) -> Exchange:
        if self._exchange is None:
            raise RuntimeError("the client is not open: use it as `async with CatalogClient(…) as catalog:`")
        return self._exchange

    async def _data(self, request: Request[T], message_id: str | None, timeout: Timeout, key: str | None) -> T:
        identity, envelope, settlement = await self._asked(request, message_id, timeout, key, None)
        return self._read(request.kind, identity, envelope, settlement)

    async def _reply(
        self,
        request: Request[T],
        message_id: str | None,
        timeout: Timeout,
        key: str | None,
        token: Token | None = None,
    ) -> Reply[T]:
        identity, envelope, settlement = await self._asked(request, message_id, timeout, key, token)
        data = self._read(request.kind, identity, envelope, settlement)
        return Reply(
            envelope.status_code,
            envelope.message,
            envelope.type,
            data,
            identity,
            envelope.replayed,
            envelope.deprecation,
            envelope.sunset,
            envelope,
        )

    async def _asked(
        self, request: Request[T], message_id: str | None, timeout: Timeout, key: str | None, token: Token | None
    ) -> tuple[str, Envelope, Settlement | None]:
        """Ask; return the id under which that was done, the answer, and of a 500 what may follow."""
        exchange = self._opened
        is_command = request.kind.side == "commands"
        correlation_id = exchange.next_correlation_id()
        identity = checked_id(message_id) if is_command else correlation_id
        timeout_s = self._timeout if timeout is UNSET else timeout
        headers = self._headers(timeout_s)
        if is_command:
            headers.append(("message_id", identity.encode()))
        headers += [("correlation_id", correlation_id.encode()), ("reply_to", self._wire.reply_topic.encode())]
        record = self._made(request, identity, headers, key)
        envelope, settlement = await exchange.ask(
            identity, correlation_id, record, is_command=is_command, timeout_s=timeout_s, token=token
        )
        return identity, envelope, settlement

    async def _sent(self, request: Request[Any], message_id: str | None, timeout: Timeout, key: str | None) -> str:
        identity = checked_id(message_id)
        timeout_s = self._timeout if timeout is UNSET else timeout
        headers = [*self._headers(None), ("message_id", identity.encode())]
        await self._opened.send(identity, self._made(request, identity, headers, key), timeout_s)
        return identity

    def _recorded(self, request: Request[Any], message_id: str | None, key: str | None) -> Record:
        identity = checked_id(message_id)
        return self._made(request, identity, [*self._headers(None), ("message_id", identity.encode())], key)

    async def _items(self, kind: Kind[Any], payload: Mapping[str, Any], timeout: Timeout) -> AsyncIterator[Any]:
        cursor: str | Unset | None = UNSET
        while cursor is not None:
            page = await self._data(Request(kind, {**payload, "cursor": cursor}), None, timeout, None)
            for item in page.items:
                yield item
            cursor = page.next_cursor

    def _headers(self, timeout_s: float | None) -> Headers:
        headers: Headers = [("content-type", b"application/json"), ("user-agent", self._user_agent)]
        if timeout_s is not None:
            headers.append(("deadline", b"%d" % epoch_ms(timeout_s)))
        return headers

    def _made(self, request: Request[Any], identity: str, headers: Headers, key: str | None) -> Record:
        topic = f"{self._prefix}.{request.kind.side}"
        return Record(topic, request.key(identity) if key is None else key.encode(), headers, request.body())

    def _read(self, kind: Kind[T], message_id: str, envelope: Envelope, settlement: Settlement | None) -> T:
        if envelope.type == "error":
            error = error_of(message_id, envelope)
            if settlement is not None and isinstance(error, WithIncident):
                error.later = partial(self._settled, kind, message_id, settlement)
            raise error
        if "deprecation" in envelope.raw_headers and kind not in self._told:
            self._told.add(kind)
            _log.warning(
                "%s version %d is deprecated since %s, and may be refused from %s on",
                kind.name, kind.version, envelope.deprecation, envelope.sunset,
            )  # fmt: skip
        try:
            return kind.read(envelope.data)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UnreadableReply(message_id, envelope, f"{type(error).__name__}: {error}") from error

    async def _settled(self, kind: Kind[T], message_id: str, settlement: Settlement) -> T:
        return self._read(kind, message_id, await settlement.answer(), None)


def error_of(message_id: str, envelope: Envelope) -> Refused:
    """Make the error that an envelope tells of."""
    data = envelope.data
    code = data.get("error_code") if isinstance(data, Mapping) else None
    made = BY_CODE.get(code) if isinstance(code, str) else None
    return (made or FAMILIES.get(envelope.status_code, Refused))(message_id, envelope)


class _RawCalls(RawCalls):
    def __init__(self, client: CatalogClient) -> None:
        self._client = client

    async def _reply(self, request: Request[T], message_id: str | None, timeout: Timeout, key: str | None) -> Reply[T]:
        return await self._client._reply(request, message_id, timeout, key)  # noqa: SLF001 - a part of it


class _Sends(Sends):
    def __init__(self, client: CatalogClient) -> None:
        self._client = client

    async def _sent(self, request: Request[Any], message_id: str | None, timeout: Timeout, key: str | None) -> str:
        return await self._client._sent(request, message_id, timeout, key)  # noqa: SLF001 - a part of it


class _Records(Records):
    def __init__(self, client: CatalogClient) -> None:
        self._client = client

    def _recorded(self, request: Request[Any], message_id: str | None, key: str | None) -> Record:
        return self._client._recorded(request, message_id, key)  # noqa: SLF001 - a part of it


class _Iterates(Iterates):
    def __init__(self, client: CatalogClient) -> None:
        self._client = client

    def _items(self, kind: Kind[Any], payload: Mapping[str, Any], timeout: Timeout) -> AsyncIterator[Any]:
        return self._client._items(kind, payload, timeout)  # noqa: SLF001 - a part of it
