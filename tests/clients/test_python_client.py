"""What the Python client does with answers, and without any: on its test double, which replaces Kafka alone."""

import asyncio
import logging
import threading
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from typing import Any, Final

import pytest

from catalog_client import (
    UNSET,
    CatalogClient,
    CatalogError,
    CustomerNotFound,
    Forbidden,
    Hooks,
    InternalError,
    NotConnected,
    NotSent,
    OrderLine,
    RateLimited,
    Refused,
    ReplyTimeout,
    SyncCatalogClient,
    UnreadableReply,
    ValidationFailed,
)
from catalog_client.requests import Record
from catalog_client.testing import Answer, FakeCatalog
from catalog_client.wire import NotTakenError, OnReply

ADA_ID: Final = "0198c7a5-3c00-7000-8000-00000000ada0"
ADA: Final[dict[str, Any]] = {
    "id": ADA_ID,
    "name": "Ada",
    "email": "ada@example.com",
    "preferences": {},
    "is_active": True,
    "version": 1,
    "created_at": "2026-01-31T09:30:00Z",
    "updated_at": "2026-01-31T09:30:00Z",
}
PARKED: Final = {"error_code": "INTERNAL_ERROR", "details": {"incident": "i-1", "parked": True}}


@pytest.fixture
def fake() -> FakeCatalog:
    """A double that knows a customer."""
    made = FakeCatalog()
    made.answer("create_customer", ADA, status_code=201)
    made.answer("get_customer", ADA)
    return made


async def create(catalog: CatalogClient, **more: Any) -> Any:  # noqa: ANN401 - whatever it is asked to be
    """Create a customer."""
    return await catalog.create_customer(name="Ada", email="ada@example.com", **more)


# What is sent ---------------------------------------------------------------------------------------------------------
async def test_a_field_is_left_out_cleared_or_set(fake: FakeCatalog) -> None:
    """UNSET is left out, None is sent as null; UUIDs and dates are sent as texts, parts as objects without UNSET."""
    fake.answer("update_customer", ADA)
    fake.answer("place_order", None)
    fake.answer("find_products_for_date_range", page([]))
    async with fake.client() as catalog:
        await catalog.update_customer(customer_id=uuid.UUID(ADA_ID), preferences=None, name=UNSET)
        await catalog.find_products_for_date_range(start_date=date(2026, 1, 31), end_date="2026-02-01")
        with pytest.raises(UnreadableReply):
            await catalog.place_order(
                customer_id=ADA_ID, lines=[OrderLine(mnemonic="A", quantity=1, unit_price="1.00", attributes=None)]
            )
    assert [one.payload for one in fake.received] == [
        {"customer_id": ADA_ID, "preferences": None},
        {"start_date": "2026-01-31", "end_date": "2026-02-01"},
        {
            "customer_id": ADA_ID,
            "lines": [{"mnemonic": "A", "quantity": 1, "unit_price": "1.00", "attributes": None}],
        },
    ]


async def test_the_key_is_what_the_contract_says(fake: FakeCatalog) -> None:
    """The first path that is present, as it is sent; else the message id, of a query the correlation id; or as told."""
    fake.answer("import_products", {"processed_count": 0, "warning_count": 0, "warnings": []})
    async with fake.client() as catalog:
        await create(catalog, customer_id=ADA_ID.upper())
        await create(catalog)
        await create(catalog, key="mine")
        await catalog.import_products(products=[], message_id="m-1")
        await catalog.get_customer(customer_id=ADA_ID)
    keys = [one.record.key.decode() for one in fake.received]
    assert keys == [ADA_ID.upper(), "ada@example.com", "mine", "m-1", fake.received[-1].headers["correlation_id"]]


async def test_headers(fake: FakeCatalog) -> None:
    """A request says who asks, until when, and where it is answered; a record for an outbox has none of that."""
    async with fake.client(name="billing", token="t-1", timeout=20) as catalog:
        await create(catalog, message_id="m-1")
        await create(catalog, timeout=None)
        await catalog.send.create_customer(name="Ada", email="ada@example.com", message_id="m-2")
    asked, waiting, sent = (one.headers for one in fake.received)
    assert asked["user-agent"] == "catalog-client-python/0.2 billing"
    assert (asked["message_id"], asked["authorization"], asked["reply_to"]) == ("m-1", "Bearer t-1", fake.reply_topic)
    left_s = int(asked["deadline"]) / 1000 - datetime.now(UTC).timestamp()
    assert 0 < left_s <= 20
    assert "deadline" not in waiting
    assert "reply_to" not in sent
    recorded = dict(fake.client().record.create_customer(name="Ada", email="ada@example.com", message_id="m-3").headers)
    assert recorded.keys() == {"content-type", "user-agent", "message_id"}


@pytest.mark.parametrize("form", ["text", "function", "async function"])
async def test_a_token_is_asked_for_at_each_record(fake: FakeCatalog, form: str) -> None:
    """A function is called for each record, a repetition too; a text is a text."""
    number = 0

    def token() -> str:
        nonlocal number
        number += 1
        return f"t-{number}"

    async def token_later() -> str:
        await asyncio.sleep(0)
        return token()

    fake.answer_all([[], [Answer(data=ADA)], [Answer(data=ADA)]])
    given: Any = {"text": "t", "function": token, "async function": token_later}[form]
    async with fake.client(token=given, repeat_after=0.01) as catalog:
        await create(catalog)
        await create(catalog)
    tokens = [one.headers["authorization"].removeprefix("Bearer ") for one in fake.received]
    assert tokens == (["t"] * 3 if form == "text" else ["t-1", "t-2", "t-3"])


async def test_a_token_that_cannot_be_had(fake: FakeCatalog) -> None:
    """What the application's own function raises is raised by the call, and nothing waits on."""

    def token() -> str:
        raise LookupError("the vault is shut")

    async with fake.client(token=token) as catalog:
        with pytest.raises(LookupError, match="vault"):
            await create(catalog)
        assert catalog.counters.waiting == 0


@pytest.mark.parametrize("message_id", ["", "x" * 129, "grüß", "new\nline"])
async def test_an_id_that_would_be_refused(fake: FakeCatalog, message_id: str) -> None:
    """It is refused before it is sent."""
    async with fake.client() as catalog:
        with pytest.raises(ValueError, match="printable ASCII"):
            await create(catalog, message_id=message_id)
    assert not fake.received


# What is answered -----------------------------------------------------------------------------------------------------
async def test_results_are_typed(fake: FakeCatalog) -> None:
    """Data is a frozen object with times as times; the raw reply keeps what came with it."""
    fake.answer("delete_customer", None, headers={"replayed": "true"})
    async with fake.client() as catalog:
        customer = await create(catalog)
        raw = await catalog.with_raw_response.delete_customer(customer_id=ADA_ID, message_id="m-1")
    assert customer.created_at == datetime(2026, 1, 31, 9, 30, tzinfo=UTC)
    with pytest.raises(AttributeError):
        customer.name = "Eve"
    assert (raw.status_code, raw.data, raw.replayed, raw.message_id) == (200, None, True, "m-1")


REFUSED: Final[Sequence[tuple[str, dict[str, Any], type[Refused], dict[str, Any]]]] = [
    ("CUSTOMER_NOT_FOUND", {}, CustomerNotFound, {"repeatable": False, "repeat": "new"}),
    ("FORBIDDEN", {"required_role": "catalog_admin"}, Forbidden, {"required_role": "catalog_admin"}),
    ("RATE_LIMITED", {"retry_after_ms": 90_000, "blocked": True}, RateLimited, {"retry_after": 90.0, "blocked": True}),
    ("RATE_LIMITED", {}, RateLimited, {"retry_after": 0.0, "blocked": False, "repeatable": True}),
    ("INTERNAL_ERROR", {"incident": "i-1"}, InternalError, {"incident": "i-1", "parked": False, "repeatable": True}),
]


@pytest.mark.parametrize(("code", "details", "kind", "expected"), REFUSED)
async def test_an_error_has_what_its_code_says(
    code: str, details: dict[str, Any], kind: type[Refused], expected: dict[str, Any]
) -> None:
    """Each error_code is a class with what its details say."""
    fake = FakeCatalog()
    fake.refuse("get_customer", code, details)
    async with fake.client() as catalog:
        with pytest.raises(kind) as refused:
            await catalog.get_customer(customer_id=ADA_ID)
    assert {name: getattr(refused.value, name) for name in expected} == expected


async def test_wrong_fields_are_named() -> None:
    """A 422 names each field."""
    fake = FakeCatalog()
    fake.refuse(
        "get_customer", "VALIDATION_FAILED", {"validation_errors": [{"field": "a.b", "message": "m", "type": "t"}]}
    )
    async with fake.client() as catalog:
        with pytest.raises(ValidationFailed) as refused:
            await catalog.get_customer(customer_id="?")
    assert [(one.field, one.message, one.type) for one in refused.value.errors] == [("a.b", "m", "t")]


@pytest.mark.parametrize("data", [None, {}, [], {**ADA, "created_at": "noon"}, {**ADA, "created_at": None}])
async def test_an_answer_that_cannot_be_read(data: object) -> None:
    """It is told as that, with what came; nothing waits on."""
    fake = FakeCatalog()
    fake.answer("get_customer", data)
    async with fake.client() as catalog:
        with pytest.raises(UnreadableReply) as unreadable:
            await catalog.get_customer(customer_id=ADA_ID)
    assert unreadable.value.envelope is not None
    assert unreadable.value.envelope.data == data


async def test_what_is_no_envelope(fake: FakeCatalog) -> None:
    """Whoever else writes to the topic: no JSON, no object, a foreign or unknown id, no header; nobody is harmed."""
    async with fake.client() as catalog:
        await create(catalog)
        own = fake.received[0].headers["correlation_id"].encode()
        assert fake._on_reply is not None
        for headers, body in (
            ({"correlation_id": own}, b"{"),
            ({"correlation_id": own}, b"[]"),
            ({"correlation_id": b"somebody-else-1"}, b"{}"),
            ({"correlation_id": b"somebody-else-2"}, b'{"statusCode":200,"message":"","type":"success","data":null}'),
            ({}, b""),
            ({"correlation_id": None}, b"null"),
        ):
            fake._on_reply(headers, None, body)
        counters = catalog.counters
        assert (counters.late, counters.duplicate) == (0, 0)
        assert (await create(catalog)).name == "Ada"


async def test_a_deprecated_version_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """The log names kind, version and dates, once for each client."""
    fake = FakeCatalog()
    fake.answer("get_customer", ADA, headers={"deprecation": "2026-01-01", "sunset": "2026-07-01"})
    with caplog.at_level(logging.WARNING, "catalog_client"):
        async with fake.client() as catalog:
            for _ in range(3):
                reply = await catalog.with_raw_response.get_customer(customer_id=ADA_ID)
    assert reply.sunset == date(2026, 7, 1)
    assert [one.getMessage() for one in caplog.records] == [
        "get_customer version 1 is deprecated since 2026-01-01, and may be refused from 2026-07-01 on"
    ]


# Time ----------------------------------------------------------------------------------------------------------------
async def test_a_time_out_names_what_settles_it() -> None:
    """It carries the id and what to do; a late reply is counted, and told once: the next one is a duplicate."""
    late: list[Any] = []
    again: list[Any] = []
    fake = FakeCatalog()
    fake.answer_all([[Answer(data=ADA, after_s=0.1), Answer(data=ADA, after_s=0.11)]])
    async with fake.client(hooks=Hooks(late=late.append, duplicate=again.append)) as catalog:
        with pytest.raises(ReplyTimeout, match=r"client\.outcome\('m-1'\)") as timed_out:
            await create(catalog, message_id="m-1", timeout=0.03)
        assert isinstance(timed_out.value, TimeoutError)
        assert (timed_out.value.message_id, timed_out.value.records) == ("m-1", 1)
        await until(lambda: bool(again))
        assert (catalog.counters.timed_out, catalog.counters.late, catalog.counters.duplicate) == (1, 1, 1)
    assert [one.message_id for one in late] == ["m-1"]


async def test_a_query_is_repeated_after_a_loss() -> None:
    """Only then: a connection broke, and what was asked over it may be lost. What is asked later is not repeated."""
    fake = FakeCatalog()
    fake.answer_all([[], [Answer(data=ADA)], [Answer(data=ADA)]])
    repeated: list[tuple[str, int]] = []
    async with fake.client(repeat_after=0.01, hooks=Hooks(repeated=lambda *told: repeated.append(told))) as catalog:
        asked = asyncio.create_task(catalog.get_customer(customer_id=ADA_ID))
        await until(lambda: len(fake.received) == 1)
        await asyncio.sleep(0.05)  # as long as five repetitions of a command take
        assert len(fake.received) == 1
        fake.lose_connection()
        fake.lose_connection()
        await asked
        assert len(fake.received) == 2
        await catalog.get_customer(customer_id=ADA_ID)
        assert len(repeated) == catalog.counters.repeated == 1
    assert len({one.headers["correlation_id"] for one in fake.received[:2]}) == 1


async def test_a_repetition_is_the_same_record() -> None:
    """Id, correlation id, deadline, key and body are those of before; waits double."""
    fake = FakeCatalog()
    fake.answer_all([[], [], [], [Answer(data=ADA)]])
    loop = asyncio.get_running_loop()
    at: list[float] = []
    async with fake.client(repeat_after=0.05, hooks=Hooks(repeated=lambda *_: at.append(loop.time()))) as catalog:
        await create(catalog)
    first, *others = fake.received
    assert all(
        (one.headers, one.record.key, one.record.body) == (first.headers, first.record.key, first.record.body)
        for one in others
    )
    assert at[1] - at[0] >= 0.1
    assert at[2] - at[1] >= 0.2


async def test_who_is_cancelled_forgets() -> None:
    """Nothing waits on, and the answer that comes is late."""
    fake = FakeCatalog()
    fake.answer("create_customer", ADA, after_s=0.05)
    async with fake.client() as catalog:
        asked = asyncio.create_task(create(catalog))
        await until(lambda: bool(fake.received))
        asked.cancel()
        await asyncio.wait({asked})
        assert catalog.counters.waiting == 0
        await until(lambda: catalog.counters.late == 1)


async def test_in_flight_is_bounded() -> None:
    """More requests wait for a place, in which their time runs; who gets none in time has sent nothing."""
    fake = FakeCatalog()
    fake.answer("get_customer", ADA, after_s=0.1)
    async with fake.client(max_in_flight=2) as catalog:
        asked = [asyncio.create_task(catalog.get_customer(customer_id=ADA_ID)) for _ in range(6)]
        await until(lambda: len(fake.received) == 2)
        assert catalog.counters.waiting == 2
        with pytest.raises(NotSent, match="in flight"):
            await catalog.get_customer(customer_id=ADA_ID, timeout=0.02)
        await asyncio.gather(*asked)
        assert len(fake.received) == 6


# After a 500 ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("when", ["at once", "before it is waited for", "while it is waited for"])
async def test_a_later_answer(when: str) -> None:
    """`settled` returns the answer that follows a 500, whenever it comes; without a waiter the hook is told as well."""
    late: list[Any] = []
    fake = FakeCatalog()
    after_s = {"at once": 0.0, "before it is waited for": 0.02, "while it is waited for": 0.1}[when]
    fake.answer_all([[Answer(data=PARKED, status_code=500, type="error"), Answer(data=ADA, after_s=after_s)]])
    async with fake.client(hooks=Hooks(late=late.append)) as catalog:
        with pytest.raises(InternalError) as parked:
            await create(catalog)
        assert (parked.value.parked, parked.value.incident) == (True, "i-1")
        if when == "while it is waited for":
            with pytest.raises(TimeoutError):
                await parked.value.settled(0.01)
        else:
            await until(lambda: bool(late))
        assert (await parked.value.settled(5)).name == "Ada"
        assert len(late) == (when != "while it is waited for")
        assert catalog.counters.duplicate == 0


async def test_a_later_refusal() -> None:
    """The answer that follows may be a refusal: then that is raised."""
    gone = {"error_code": "CUSTOMER_NOT_FOUND", "details": {}}
    fake = FakeCatalog()
    fake.answer_all(
        [
            [
                Answer(data=PARKED, status_code=500, type="error"),
                Answer(data=gone, status_code=404, type="error", after_s=0.05),
            ]
        ]
    )
    async with fake.client() as catalog:
        with pytest.raises(InternalError) as parked:
            await create(catalog)
        with pytest.raises(CustomerNotFound):
            await parked.value.settled(5)


# Hooks, lists, the end ------------------------------------------------------------------------------------------------
async def test_a_hook_that_fails_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged, and replies are read on."""

    def fail(_: object) -> None:
        raise ZeroDivisionError

    fake = FakeCatalog()
    fake.answer_all([[Answer(data=ADA), Answer(data=ADA)], [Answer(data=ADA)]])
    async with fake.client(hooks=Hooks(duplicate=fail)) as catalog:
        await create(catalog)
        await until(lambda: catalog.counters.duplicate == 1)
        await create(catalog)
    assert [one.getMessage() for one in caplog.records] == ["the hook 'duplicate' failed"]


def page(names: Sequence[str], cursor: str | None = None) -> dict[str, Any]:
    """Make a page of customers."""
    items = [{**ADA, "name": name} for name in names]
    return {
        "items": items, "total_count": None, "page": None, "page_size": 2, "has_more": cursor is not None,
        "next_cursor": cursor,
    }  # fmt: skip


async def test_lists_are_gone_through_by_cursor(fake: FakeCatalog) -> None:
    """Pages are asked for as they are needed, with the same filters, until there is no cursor."""
    for answer in (page(["a", "b"], "c-1"), page([], "c-2"), page(["c"])):
        fake.answer("search_customers", answer)
    async with fake.client() as catalog:
        found = [one.name async for one in catalog.iterate.search_customers(name_contains="x", limit=2)]
    assert found == ["a", "b", "c"]
    first, *others = ({**one.payload} for one in fake.received)
    assert first == {"name_contains": "x", "limit": 2}
    assert others == [{**first, "cursor": "c-1"}, {**first, "cursor": "c-2"}]


async def test_closing_ends_what_waits() -> None:
    """Who still waits gets a ReplyTimeout at once."""
    fake = FakeCatalog()
    fake.ignore("create_customer")
    async with fake.client() as catalog:
        asked = asyncio.create_task(create(catalog, message_id="m-1"))
        await until(lambda: bool(fake.received))
    with pytest.raises(ReplyTimeout, match="m-1"):
        await asked


async def test_outside_of_its_block(fake: FakeCatalog) -> None:
    """A client that is not open says how to open it; one that is open cannot be opened again."""
    catalog = fake.client()
    with pytest.raises(RuntimeError, match="async with"):
        await create(catalog)
    async with catalog:
        with pytest.raises(RuntimeError, match="open already"):
            await catalog.__aenter__()
    async with catalog:
        await create(catalog)


class Deaf(FakeCatalog):
    """Has no reply topic for so many tries; then it takes for ever to be read."""

    def __init__(self, failures: int) -> None:
        super().__init__()
        self.failures = failures

    async def listen(self, on_reply: OnReply, on_lost: Callable[[], None]) -> None:
        self.failures -= 1
        if self.failures >= 0:
            raise NotConnected("no reply topic")
        if self.failures == -1:
            await asyncio.Event().wait()
        await super().listen(on_reply, on_lost)


async def test_a_reply_topic_that_cannot_be_read() -> None:
    """It is told, and tried again by the next request, which is not kept longer than its time-out; nothing is sent."""
    fake = Deaf(2)
    fake.answer("create_customer", ADA)
    async with fake.client() as catalog:
        for _ in range(2):
            with pytest.raises(NotConnected, match="no reply topic"):
                await create(catalog)
        with pytest.raises(NotSent, match="in time"):
            await create(catalog, timeout=0.05)
        waiting = asyncio.create_task(create(catalog))
        await asyncio.sleep(0)
        assert not fake.received
    with pytest.raises(NotConnected, match="closed"):
        await waiting


# A wire that fails ----------------------------------------------------------------------------------------------------
class Failing(FakeCatalog):
    """Takes no record before so many tries; or takes it and loses it on its way."""

    def __init__(self, failures: int, *, is_final: bool = False, is_later: bool = False) -> None:
        super().__init__()
        self.failures = failures
        self._is_final = is_final
        self._is_later = is_later

    async def publish(self, record: Record) -> asyncio.Future[Any]:
        self.failures -= 1
        if self.failures < 0:
            return await super().publish(record)
        if not self._is_later:
            raise NotTakenError("no leader", is_final=self._is_final)
        lost: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        lost.set_exception(OSError("no leader"))
        return lost

    def explained(self, error: BaseException) -> NotTakenError:
        return NotTakenError(str(error), is_final=self._is_final)


@pytest.mark.parametrize("is_later", [False, True])
@pytest.mark.parametrize("does", ["create", "get", "send"])
async def test_what_kafka_did_not_take_is_tried_again(does: str, *, is_later: bool) -> None:
    """At once or on its way: it is published again within the time-out, a query too."""
    fake = Failing(2, is_later=is_later)
    fake.answer("create_customer", ADA)
    fake.answer("get_customer", ADA)
    async with fake.client() as catalog:
        match does:
            case "create":
                await create(catalog)
            case "get":
                await catalog.get_customer(customer_id=ADA_ID)
            case _:
                await catalog.send.create_customer(name="Ada", email="ada@example.com")
    assert len(fake.received) == 1


@pytest.mark.parametrize("is_later", [False, True])
@pytest.mark.parametrize("does", ["create", "send"])
async def test_what_kafka_will_never_take(does: str, *, is_later: bool) -> None:
    """It is told at once, with the reason: nothing took effect."""
    fake = Failing(1000, is_final=True, is_later=is_later)
    async with fake.client() as catalog:
        with pytest.raises(NotSent, match="no leader"):
            await (create(catalog) if does == "create" else catalog.send.create_customer(name="A", email="a@b.c"))


async def test_what_kafka_did_not_take_in_time() -> None:
    """Nothing was ever handed over: NotSent, no ReplyTimeout."""
    async with Failing(1000).client() as catalog:
        with pytest.raises(NotSent, match="could not be reached in time"):
            await create(catalog, timeout=0.1)
        assert catalog.counters.timed_out == 0


# Without an event loop ------------------------------------------------------------------------------------------------
def test_the_sync_twin(fake: FakeCatalog) -> None:
    """The same methods from several threads at once: results, raw replies, errors, lists, sends, records, settled."""
    fake.refuse("get_order", "ORDER_NOT_FOUND")
    fake.answer("search_customers", page(["a"], "c-1"))
    fake.answer("search_customers", page(["b"]))
    with fake.sync_client() as catalog:
        names: list[str] = []

        def ask() -> None:
            names.append(catalog.create_customer(name="Ada", email="ada@example.com").name)

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert names == ["Ada"] * 8
        assert catalog.with_raw_response.get_customer(customer_id=ADA_ID).status_code == 200
        with pytest.raises(CatalogError, match="ORDER_NOT_FOUND"):
            catalog.get_order(order_id="o")
        assert [one.name for one in catalog.iterate.search_customers()] == ["a", "b"]
        assert catalog.counters.answered == 12
        assert catalog.record.create_customer(name="A", email="e").key == b"e"
    with pytest.raises(RuntimeError, match="not open"):
        catalog.get_customer(customer_id=ADA_ID)


def test_the_sync_twin_after_a_defect() -> None:
    """`settled` waits for the later answer."""
    fake = FakeCatalog()
    fake.answer_all([[Answer(data=PARKED, status_code=500, type="error"), Answer(data=ADA, after_s=0.05)]])
    with fake.sync_client() as catalog:
        with pytest.raises(InternalError) as parked:
            catalog.create_customer(name="Ada", email="ada@example.com")
        assert catalog.settled(parked.value, 5).name == "Ada"


# Options -------------------------------------------------------------------------------------------------------------
WRONG: Final[Sequence[tuple[dict[str, Any], str]]] = [
    ({"name": "a b"}, "name"),
    ({"name": ""}, "name"),
    ({"name": "x" * 170, "instance": "y" * 20}, "reply topic"),
    ({"name": "a", "instance": "b/c"}, "reply topic"),
    ({"name": "a", "reply_topic": "other.replies.a"}, "catalog.replies."),
    ({"name": "a", "reply_topic": "catalog.replies."}, "reply topic"),
    ({"name": "a", "reply_topic": "catalog.replies.a", "delete_on_close": True}, "delete_on_close"),
    ({"name": "a", "timeout": 0}, "timeout"),
    ({"name": "a", "max_in_flight": 0}, "max_in_flight"),
]


@pytest.mark.parametrize(("options", "named"), WRONG)
def test_an_option_that_cannot_work(options: dict[str, Any], named: str) -> None:
    """It is refused before anything is connected, and named."""
    for client in (CatalogClient, SyncCatalogClient):
        with pytest.raises(ValueError, match=named):
            client("kafka:9092", token="t", **options)


@pytest.mark.parametrize(
    ("options", "topic"),
    [
        ({"name": "billing", "instance": "a-1"}, "catalog.replies.billing-a-1"),
        ({"name": "billing", "instance": "a", "prefix": "shop"}, "shop.replies.billing-a"),
        ({"name": "billing", "reply_topic": "catalog.replies.mine"}, "catalog.replies.mine"),
    ],
)
def test_the_name_of_the_reply_topic(options: dict[str, Any], topic: str) -> None:
    """It is made of name and instance, or what was given: a restart finds its own."""
    assert CatalogClient("kafka:9092", token="t", **options).reply_topic == topic


def test_the_hosts_name_is_the_instance(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a topic's name may not have is replaced."""
    monkeypatch.setattr("socket.gethostname", lambda: "näs_1.local")
    assert CatalogClient("kafka:9092", token="t", name="a").reply_topic == "catalog.replies.a-n-s_1.local"


async def until(condition: Any, timeout_s: float = 10.0) -> None:  # noqa: ANN401 - a function without arguments
    """Ask until it is so."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - a condition that nobody tells of
            await asyncio.sleep(0.005)
