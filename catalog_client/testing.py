"""A double of the catalog for your tests: the real client, with scripted answers in the place of Kafka.

    fake = FakeCatalog()
    fake.answer("create_customer", {"id": "…", "name": "Ada", …}, status_code=201)
    async with fake.client() as catalog:
        await catalog.create_customer(name="Ada", email="ada@example.com")
    assert fake.received[0].payload["name"] == "Ada"

Ids, deadlines, repetitions, time-outs and decoding are those of the real client.
"""

import asyncio
import json
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from catalog_client.client import CatalogClient
from catalog_client.generated.errors import BY_CODE
from catalog_client.requests import Record
from catalog_client.sync import SyncCatalogClient
from catalog_client.wire import NotTakenError, OnReply


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A reply, so many seconds after the request."""

    data: Any = None
    """Plain JSON."""
    status_code: int = 200
    type: str = "success"
    message: str = "Done"
    headers: Mapping[str, str] = field(default_factory=dict)
    after_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Received:
    """A record that the client published."""

    kind: str
    version: int
    payload: Mapping[str, Any]
    headers: Mapping[str, str]
    record: Record


class FakeCatalog:
    """Answers what it was told to; a kind that it was told nothing about fails the call at once."""

    def __init__(self, prefix: str = "catalog") -> None:
        self.prefix: Final = prefix
        self.received: Final[list[Received]] = []
        """Every record, repetitions too."""
        self.reply_topic: Final = f"{prefix}.replies.fake"
        self._answers: defaultdict[str, deque[Sequence[Answer]]] = defaultdict(deque)
        self._script: deque[Sequence[Answer]] | None = None
        self._on_reply: OnReply | None = None
        self._on_lost: Callable[[], None] = lambda: None

    def client(self, **options: Any) -> CatalogClient:  # noqa: ANN401 - `CatalogClient` names and checks them
        """Make a client of it; takes the options of a `CatalogClient`."""
        return CatalogClient("", **self._options(options))

    def sync_client(self, **options: Any) -> SyncCatalogClient:  # noqa: ANN401 - `CatalogClient` names and checks them
        """Make a client of it for programs without an event loop."""
        return SyncCatalogClient("", **self._options(options))

    def _options(self, options: Mapping[str, Any]) -> dict[str, Any]:
        given = {"token": "fake", "name": "fake", "prefix": self.prefix}
        return {**given, **options, "wire": self, "reply_topic": self.reply_topic}

    # What it answers -------------------------------------------------------------------------------------------------
    def answer(
        self,
        kind: str,
        data: Any = None,  # noqa: ANN401 - any JSON value
        *,
        status_code: int = 200,
        type: str = "success",
        message: str = "Done",
        headers: Mapping[str, str] | None = None,
        after_s: float = 0.0,
    ) -> None:
        """Answer a request of this kind so. Told several times: one after the other, the last one for ever."""
        self._answers[kind].append(
            [
                Answer(
                    data=data,
                    status_code=status_code,
                    type=type,
                    message=message,
                    headers=headers or {},
                    after_s=after_s,
                )
            ]
        )

    def refuse(
        self, kind: str, error_code: str, details: Mapping[str, Any] | None = None, *, message: str = "Refused"
    ) -> None:
        """Refuse a request of this kind. Raise KeyError for a code that the contract does not know."""
        data = {"error_code": error_code, "details": dict(details or {})}
        self.answer(kind, data, status_code=BY_CODE[error_code].status, type="error", message=message)

    def ignore(self, kind: str) -> None:
        """Leave a request of this kind unanswered."""
        self._answers[kind].append([])

    def answer_all(self, answers: Sequence[Sequence[Answer]]) -> None:
        """Answer the n-th record, whatever it is, by the n-th list of replies; beyond its end nothing."""
        self._script = deque(answers)

    def lose_connection(self) -> None:
        """Tell the client that a connection broke."""
        self._on_lost()

    # In the place of Kafka -------------------------------------------------------------------------------------------
    async def start(self) -> None:
        """Connect to nothing."""

    async def stop(self) -> None:
        """Disconnect from nothing."""
        self._on_reply = None

    async def listen(self, on_reply: OnReply, on_lost: Callable[[], None]) -> None:
        """Hand answers over from now on."""
        self._on_reply, self._on_lost = on_reply, on_lost

    async def publish(self, record: Record) -> asyncio.Future[Any]:
        """Take a record, and answer it when its time has come."""
        loop = asyncio.get_running_loop()
        body = json.loads(record.body)
        headers = {name: value.decode() for name, value in record.headers}
        answers = self._next(body["kind"])
        self.received.append(Received(body["kind"], body["version"], body["payload"], headers, record))
        if "reply_to" in headers:
            for one in answers:
                loop.call_later(one.after_s, self._deliver, headers, body["kind"], one)
        handed: asyncio.Future[Any] = loop.create_future()
        handed.set_result(None)
        return handed

    def explained(self, error: BaseException) -> NotTakenError:
        """Say why a record was not taken; all are."""
        return NotTakenError(str(error), is_final=False)

    def _next(self, kind: str) -> Sequence[Answer]:
        if self._script is not None:
            return self._script.popleft() if self._script else ()
        answers = self._answers[kind]
        if not answers:
            raise LookupError(f"FakeCatalog was not told how to answer {kind}: fake.answer('{kind}', …)")
        return answers.popleft() if len(answers) > 1 else answers[0]

    def _deliver(self, asked: Mapping[str, str], kind: str, answer: Answer) -> None:
        if self._on_reply is None:
            return
        headers = {"correlation_id": asked["correlation_id"], "kind": kind, "content-type": "application/json"}
        if "message_id" in asked:
            headers["in_reply_to"] = asked["message_id"]
        envelope = {
            "statusCode": answer.status_code,
            "message": answer.message,
            "type": answer.type,
            "data": answer.data,
        }
        told = {name: value.encode() for name, value in {**headers, **answer.headers}.items()}
        self._on_reply(told, asked["correlation_id"].encode(), json.dumps(envelope).encode())
