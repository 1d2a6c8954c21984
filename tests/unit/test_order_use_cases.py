"""Every order command and query, summary and analytics: success and each failure, on repositories in memory."""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any, Final

import orjson
import pytest

from contracts.errors import CatalogError
from contracts.kinds import Keys
from contracts.registry import KINDS
from handlers.commands.orders import place_order
from handlers.context import Context
from handlers.order import OrderLine, leading_line, money
from handlers.product import Rule
from handlers.queries.asked import Asked
from handlers.queries.summaries import get_customer_analytics
from handlers.result import Success
from handlers.summary import average
from tests.in_memory.declared import Declared
from tests.in_memory.unit_of_work import Answer, Asking, Circumstances, InMemoryCatalogue, read, shown

ADA: Final = "aaaaaaaa-0000-7000-8000-000000000001"
BOB: Final = "bbbbbbbb-0000-7000-8000-000000000002"
FIRST: Final = "00000000-0000-7000-8000-00000000000a"
SECOND: Final = "00000000-0000-7000-8000-00000000000b"
NOBODY: Final = "00000000-0000-7000-8000-0000000000ff"


def line(mnemonic: str, quantity: int, unit_price: str, **more: object) -> dict[str, object]:
    """Make a line of an order."""
    return {"mnemonic": mnemonic, "quantity": quantity, "unit_price": unit_price, **more}


def order(*lines: Mapping[str, object], customer_id: str = ADA, order_id: str | None = FIRST) -> Asking:
    """Make the command that places an order."""
    return "place_order", {"customer_id": customer_id, "lines": list(lines), "order_id": order_id}


def cancel(order_id: str = FIRST, customer_id: str = ADA) -> Asking:
    """Make the command that takes an order back."""
    return "cancel_order", {"customer_id": customer_id, "order_id": order_id}


def rule(parameters: object, start: str = "2020-01-01", end: str | None = None) -> Asking:
    """Make the command that gives BOOK one rule."""
    rules = [{"name": "cover", "parameters": parameters, "start_date": start, "end_date": end}]
    return "set_validation_rules", {"mnemonic": "BOOK", "rules": rules}


COVERED: Final = {
    "type": "object",
    "required": ["cover"],
    "properties": {"cover": {"type": "object", "properties": {"colour": {"enum": ["red", "blue"]}}}},
}


@pytest.fixture
async def catalogue() -> InMemoryCatalogue:
    """Two customers and three products."""
    made = InMemoryCatalogue()
    answers = await made.apply(
        ("create_customer", {"name": "Ada", "email": "ada@example.com", "customer_id": ADA}),
        ("create_customer", {"name": "Bob", "email": "bob@example.com", "customer_id": BOB}),
        ("create_product", {"mnemonic": "BOOK", "overview": "", "category": "BOOKS"}),
        ("create_product", {"mnemonic": "SONG", "overview": "", "category": "MUSIC"}),
        ("create_product", {"mnemonic": "THING", "overview": ""}),
    )
    assert {answer["statusCode"] for answer in answers} == {201}
    return made


def refused(answer: Answer) -> tuple[int, str, Any]:
    """Take an error apart."""
    assert answer["type"] == "error"
    return answer["statusCode"], answer["data"]["error_code"], answer["data"]["details"]


SHOWN: Final = {
    "id": FIRST,
    "customer_id": ADA,
    "status": "placed",
    "lines": [
        {"mnemonic": "BOOK", "quantity": 3, "unit_price": "19.99", "attributes": None},
        {"mnemonic": "SONG", "quantity": 1, "unit_price": "5.00", "attributes": {"format": "vinyl"}},
    ],
    "total_amount": "64.97",
    "catalog": {"category": "BOOKS"},
    "created_at": "2025-03-01T12:00:05Z",
}
TWO_LINES: Final = (line("BOOK", 3, "19.99"), line("SONG", 1, "5", attributes={"format": "vinyl"}))


# place_order ---------------------------------------------------------------------------------------------------------
async def test_place(catalogue: InMemoryCatalogue) -> None:
    """201 with the whole order: the total is computed, the category is that of the greatest line."""
    (answer,) = await catalogue.apply(order(*TWO_LINES))
    assert answer == {
        "statusCode": 201,
        "message": f"Order '{FIRST}' created successfully",
        "type": "success",
        "data": SHOWN,
    }
    assert (await catalogue.ask("get_order", {"order_id": FIRST}))["data"] == SHOWN


async def test_place_without_an_id(catalogue: InMemoryCatalogue) -> None:
    """The workers choose an id where the caller gives none."""
    (answer,) = await catalogue.apply(order(line("BOOK", 1, "1"), order_id=None))
    assert answer["data"]["id"] == "00000004-0000-7000-8000-000000000004"


async def test_place_for_nobody(catalogue: InMemoryCatalogue) -> None:
    """404 for a customer who is not there; the customer is asked for before the products."""
    (answer,) = await catalogue.apply(order(line("NONE", 1, "1"), customer_id=NOBODY))
    assert refused(answer) == (404, "CUSTOMER_NOT_FOUND", {"customer_id": NOBODY})


async def test_place_for_a_deleted_customer(catalogue: InMemoryCatalogue) -> None:
    """404 for a customer who was deleted, also by an earlier message of the batch."""
    *_, answer = await catalogue.apply(("delete_customer", {"customer_id": ADA}), order(*TWO_LINES))
    assert refused(answer) == (404, "CUSTOMER_NOT_FOUND", {"customer_id": ADA})


async def test_place_with_an_unknown_product(catalogue: InMemoryCatalogue) -> None:
    """404 names the product, also where the customer is not active."""
    *_, answer = await catalogue.apply(
        ("update_customer", {"customer_id": ADA, "is_active": False}), order(line("BOOK", 1, "1"), line("NONE", 1, "1"))
    )
    assert refused(answer) == (404, "PRODUCT_NOT_FOUND", {"mnemonic": "NONE"})
    assert answer["message"] == "Product with mnemonic 'NONE' not found"


async def test_place_for_an_inactive_customer(catalogue: InMemoryCatalogue) -> None:
    """400: who is not active places no orders; the refusal names ids alone."""
    *_, answer = await catalogue.apply(("update_customer", {"customer_id": ADA, "is_active": False}), order(*TWO_LINES))
    assert refused(answer) == (400, "BUSINESS_RULE_VIOLATION", {"customer_id": ADA})
    assert "Ada" not in orjson.dumps(answer).decode()


async def test_place_with_an_archived_product(catalogue: InMemoryCatalogue) -> None:
    """400 names the first archived product: after who is unknown or inactive, before rules and taken ids."""
    archive = [("archive_product", {"mnemonic": one}) for one in ("SONG", "THING")]
    await catalogue.apply(*archive, rule({"required": ["cover"]}), order(line("BOOK", 1, "1", attributes={"cover": 1})))
    lines = [line(one, 1, "1") for one in ("BOOK", "THING", "SONG")]
    inactive = ("update_customer", {"customer_id": BOB, "is_active": False})
    archived, unknown, _, idle = await catalogue.apply(
        order(*lines), order(*lines, line("NONE", 1, "1")), inactive, order(*lines, customer_id=BOB)
    )
    assert refused(archived) == (400, "BUSINESS_RULE_VIOLATION", {"mnemonic": "THING"})
    assert refused(unknown) == (404, "PRODUCT_NOT_FOUND", {"mnemonic": "NONE"})
    assert refused(idle) == (400, "BUSINESS_RULE_VIOLATION", {"customer_id": BOB})


async def test_place_against_a_rule(catalogue: InMemoryCatalogue) -> None:
    """400 names the rule and the path inside the payload; the first line that breaks one is told."""
    await catalogue.apply(rule(COVERED))
    good, bad = {"cover": {"colour": "red"}}, {"cover": {"colour": "green"}}
    (answer,) = await catalogue.apply(
        order(line("SONG", 1, "1"), line("BOOK", 1, "1", attributes=good), line("BOOK", 1, "1", attributes=bad))
    )
    status, code, details = refused(answer)
    assert (status, code) == (400, "BUSINESS_RULE_VIOLATION")
    assert (details["mnemonic"], details["rule"], details["path"]) == (
        "BOOK",
        "cover",
        "lines.2.attributes.cover.colour",
    )
    assert details["violations"] == [{"path": details["path"], "reason": details["reason"]}]
    assert "green" not in orjson.dumps(answer).decode()
    assert (await catalogue.ask("get_order", {"order_id": FIRST}))["statusCode"] == 404


async def test_place_without_attributes_that_a_rule_asks_for(catalogue: InMemoryCatalogue) -> None:
    """No attributes are judged as {}: what is required is missing."""
    await catalogue.apply(rule(COVERED))
    for given in (line("BOOK", 1, "1"), line("BOOK", 1, "1", attributes=None), line("BOOK", 1, "1", attributes={})):
        (answer,) = await catalogue.apply(order(given))
        assert refused(answer)[2]["path"] == "lines.0.attributes"


@pytest.mark.parametrize(
    ("start", "end", "status"),
    [
        ("2025-03-01", None, 400),
        ("2025-03-02", None, 201),
        ("2020-01-01", "2025-03-01", 400),
        ("2020-01-01", "2025-02-28", 201),
    ],
)
async def test_place_by_the_rules_of_the_day(
    catalogue: InMemoryCatalogue, start: str, end: str | None, status: int
) -> None:
    """Rules count from their first to their last day; the day is UTC's, by the broker's timestamp."""
    await catalogue.apply(rule(COVERED, start, end))
    (answer,) = await catalogue.apply(order(line("BOOK", 1, "1")))
    assert answer["statusCode"] == status


async def test_the_day_is_utcs(catalogue: InMemoryCatalogue) -> None:
    """A timestamp is a moment, whatever zone it is written in: the rule counts once its first day has begun in UTC."""
    await catalogue.apply(rule(COVERED, "2025-03-02"))
    message = read(order(line("BOOK", 1, "1")))
    declared = Declared()
    declared.add(KINDS["place_order"].keys(message.payload))
    catalogue.uow.declare(declared)
    for day, hour, zone, code in ((2, 2, 5, 201), (1, 22, -5, 400)):
        stamped = datetime(2025, 3, day, hour, tzinfo=timezone(timedelta(hours=zone)))
        result = await place_order(message.payload, catalogue.uow, Context(stamped, Circumstances().new_id, "caller"))
        assert shown(result)["statusCode"] == code


async def test_place_with_a_rule_that_cannot_be_evaluated(catalogue: InMemoryCatalogue) -> None:
    """422: a rule stored before that would not be accepted now is not evaluated, and says nothing about the order."""
    parameters: dict[str, object] = {"$ref": "#/$defs/a", "$defs": {"a": {"allOf": [{"$ref": "#/$defs/a"}]}}}
    (refusal,) = await catalogue.apply(rule(parameters))
    assert refused(refusal)[:2] == (422, "BUSINESS_RULE_ERROR")
    products = catalogue.uow.products
    products.rules[products.rows["BOOK"].id] = (Rule("cover", parameters, date(2020, 1, 1), None),)
    (answer,) = await catalogue.apply(order(line("BOOK", 1, "1")))
    status, code, details = refused(answer)
    assert (status, code) == (422, "BUSINESS_RULE_ERROR")
    assert (details["mnemonic"], details["rule"], details["path"]) == ("BOOK", "cover", "lines.0.attributes")


async def test_place_with_a_taken_id(catalogue: InMemoryCatalogue) -> None:
    """409: an order's id is taken for ever, by whomever, cancelled or not."""
    await catalogue.apply(order(*TWO_LINES))
    for place in (order(*TWO_LINES), order(*TWO_LINES, customer_id=BOB)):
        (answer,) = await catalogue.apply(place)
        assert refused(answer) == (409, "ORDER_ALREADY_EXISTS", {"order_id": FIRST})
    *_, answer = await catalogue.apply(cancel(), order(*TWO_LINES))
    assert refused(answer)[1] == "ORDER_ALREADY_EXISTS"


async def test_a_product_is_held_until_the_order_is_cancelled(catalogue: InMemoryCatalogue) -> None:
    """A product that a placed order refers to is not deleted; one of a cancelled order is."""
    delete = ("delete_product", {"mnemonic": "BOOK"})
    answers = await catalogue.apply(order(*TWO_LINES), delete, cancel(), delete)
    assert [answer["statusCode"] for answer in answers] == [201, 400, 200, 200]
    assert (await catalogue.ask("get_order", {"order_id": FIRST}))["data"]["status"] == "cancelled"


# Payloads ------------------------------------------------------------------------------------------------------------
MOST: Final = "9999999999.99"


@pytest.mark.parametrize("price", ["0", "0.0", "0.01", "1.5", "10", MOST])
def test_prices(price: str) -> None:
    """What is no less than 0 and has at most two decimals is a price."""
    assert read(order(line("BOOK", 1, price))).refusal is None


@pytest.mark.parametrize(
    "price",
    [
        *("-1", "-0", "+1", "1.005", "1.", ".5", "01", "1e3", "1,00", " 1", "1\n", "٣", "NaN", "Infinity", ""),
        *("10000000000", "10000000000.00"),
        *(1, 1.5, None, True),
    ],
)
def test_no_prices(price: object) -> None:
    """Anything else is not, and the field is named."""
    refusal = read(order(line("BOOK", 1, "1"), {**line("BOOK", 1, "1"), "unit_price": price})).refusal
    assert _fields(refusal) == ["lines.1.unit_price"]


@pytest.mark.parametrize(
    "lines",
    [[line("BOOK", 2, "5000000000")], [line("BOOK", 1, MOST), line("BOOK", 1, "0.01")], [line("A", 10**6, MOST)]],
)
def test_a_total_is_money_too(lines: Sequence[Mapping[str, object]]) -> None:
    """A total beyond the greatest amount is refused where the lines are read."""
    assert _fields(read(order(*lines)).refusal) == ["lines"]


def test_the_greatest_total() -> None:
    """The greatest amount itself is one."""
    assert read(order(line("BOOK", 1, "9999999999.98"), line("BOOK", 1, "0.01"))).refusal is None


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"lines": []}, "lines"),
        ({"lines": [line("BOOK", 1, "1")] * 101}, "lines"),
        ({"lines": [line("BOOK", 0, "1")]}, "lines.0.quantity"),
        ({"lines": [line("BOOK", 1_000_001, "0")]}, "lines.0.quantity"),
        ({"lines": [{**line("BOOK", 1, "1"), "quantity": "1"}]}, "lines.0.quantity"),
        ({"lines": [{**line("BOOK", 1, "1"), "quantity": 1.0}]}, "lines.0.quantity"),
        ({"lines": [line("BOOK", 1, "1", attributes={"a": "x" * 2048})]}, "lines.0.attributes"),
        ({"lines": [line("BOOK", 1, "1", attributes=[])]}, "lines.0.attributes"),
        ({"lines": [line("BOOK", 1, "1", attributes={"a": "\u0000"})]}, "lines.0.attributes.a"),
        ({"lines": [line("BOOK", 1, "1", price="1")]}, "lines.0.price"),
        ({"customer_id": "nobody"}, "customer_id"),
        ({"order_id": "first"}, "order_id"),
        ({"total_amount": "1.00"}, "total_amount"),
    ],
)
def test_what_no_order_is(change: Mapping[str, object], field: str) -> None:
    """Each limit names its field; the total is never the caller's."""
    payload = {"customer_id": ADA, "lines": [line("BOOK", 1, "1")], **change}
    assert _fields(read(("place_order", payload)).refusal) == [field]


def test_a_mnemonic_of_the_wrong_form() -> None:
    """A product's code has an error code of its own, here as well."""
    refusal = read(order(line("no code", 1, "1"))).refusal
    assert refusal is not None
    assert refusal.error_code == "INVALID_PRODUCT_CODE"


def _fields(refusal: CatalogError | None) -> list[str]:
    assert refusal is not None
    assert refusal.error_code == "VALIDATION_FAILED"
    found: Any = refusal.details["validation_errors"]
    return [error["field"] for error in found]


def test_declared_keys() -> None:
    """Commands declare the customer, the products that are held, and the order whose id is known."""
    place = KINDS["place_order"].keys(read(order(line("B", 1, "1"), line("A", 1, "1"), line("B", 2, "1"))).payload)
    assert sorted(place.products_held) == ["A", "B"]
    assert (place.customers, place.orders, place.products) == ((ADA,), (FIRST,), ())
    assert KINDS["place_order"].keys(read(order(line("A", 1, "1"), order_id=None)).payload).orders == ()
    assert KINDS["cancel_order"].keys(read(cancel()).payload) == Keys(customers=(ADA,), orders=(FIRST,))


async def test_outcomes_speak_of_ids_alone(catalogue: InMemoryCatalogue) -> None:
    """No outcome of an order is erased with its customer."""
    message = read(order(*TWO_LINES))
    declared = Declared()
    declared.add(KINDS["place_order"].keys(message.payload))
    catalogue.uow.declare(declared)
    result = await place_order(message.payload, catalogue.uow, Circumstances().context())
    assert isinstance(result, Success)
    assert result.subjects == ()


# cancel_order --------------------------------------------------------------------------------------------------------
async def test_cancel(catalogue: InMemoryCatalogue) -> None:
    """200 with the order as it is now."""
    *_, answer = await catalogue.apply(order(*TWO_LINES), cancel())
    assert answer == {
        "statusCode": 200,
        "message": f"Order '{FIRST}' updated successfully",
        "type": "success",
        "data": {**SHOWN, "status": "cancelled"},
    }


async def test_cancel_again(catalogue: InMemoryCatalogue) -> None:
    """What is cancelled already: neutral."""
    *_, answer = await catalogue.apply(order(*TWO_LINES), cancel(), cancel())
    assert (answer["statusCode"], answer["type"]) == (200, "neutral")
    assert answer["data"] == {**SHOWN, "status": "cancelled"}


async def test_cancel_what_is_not_there(catalogue: InMemoryCatalogue) -> None:
    """404 for an unknown order, and for one of another customer: nobody learns which of both it is."""
    await catalogue.apply(order(*TWO_LINES))
    for command in (cancel(SECOND), cancel(customer_id=BOB)):
        (answer,) = await catalogue.apply(command)
        assert refused(answer) == (404, "ORDER_NOT_FOUND", {"order_id": command[1]["order_id"]})


@pytest.mark.parametrize("customer_id", [BOB, NOBODY])
async def test_cancel_for_nobody(catalogue: InMemoryCatalogue, customer_id: str) -> None:
    """404 for a customer who is not there, or was deleted and has no such order: the order stays as it is."""
    *_, answer = await catalogue.apply(
        order(*TWO_LINES), ("delete_customer", {"customer_id": BOB}), cancel(customer_id=customer_id)
    )
    assert refused(answer) == (404, "CUSTOMER_NOT_FOUND", {"customer_id": customer_id})
    assert (await catalogue.ask("get_order", {"order_id": FIRST}))["data"] == SHOWN


async def test_cancel_for_a_deleted_customer(catalogue: InMemoryCatalogue) -> None:
    """A deleted customer's order is cancelled by the bare id, so that its products can be deleted."""
    delete = "delete_product", {"mnemonic": "BOOK"}
    answers = await catalogue.apply(
        order(*TWO_LINES), ("delete_customer", {"customer_id": ADA}), delete, cancel(), cancel(), delete
    )
    assert [(answer["statusCode"], answer["type"]) for answer in answers[2:]] == [
        (400, "error"),
        (200, "success"),
        (200, "neutral"),
        (200, "success"),
    ]


# get_order, get_customer_orders --------------------------------------------------------------------------------------
async def test_get_an_unknown_order(catalogue: InMemoryCatalogue) -> None:
    """404 by id."""
    answer = await catalogue.ask("get_order", {"order_id": NOBODY})
    assert refused(answer) == (404, "ORDER_NOT_FOUND", {"order_id": NOBODY})
    assert answer["message"] == f"Order with id '{NOBODY}' not found"


async def test_orders_of_a_customer(catalogue: InMemoryCatalogue) -> None:
    """A page, newest first, cancelled ones too; counts are exact on every page, a cursor leads on."""
    ids = [f"{number:08x}-0000-7000-8000-000000000000" for number in range(5)]
    await catalogue.apply(*(order(line("BOOK", 1, "1"), order_id=one) for one in ids))
    await catalogue.apply(order(line("BOOK", 1, "1"), customer_id=BOB), cancel(ids[1]), cancel(ids[4]))

    async def page(**asked: object) -> tuple[str, list[str], Any]:
        answer = await catalogue.ask("get_customer_orders", {"customer_id": ADA, **asked})
        data = answer["data"]
        return answer["message"], [item["id"] for item in data.pop("items")], data

    message, items, data = await page(page_size=2)
    assert (message, items) == ("Found 2 Order(s)", [ids[4], ids[3]])
    cursor = data.pop("next_cursor")
    assert data == {"total_count": 5, "page": 1, "page_size": 2, "has_more": True}
    _, items, data = await page(cursor=cursor, page_size=3)
    assert items == [ids[2], ids[1], ids[0]]
    assert data == {"total_count": 5, "page": None, "page_size": 3, "has_more": False, "next_cursor": None}
    _, items, data = await page(page=3, page_size=2)
    assert (items, data["has_more"], data["total_count"]) == ([ids[0]], False, 5)
    _, items, data = await page(page=4, page_size=2)
    assert (items, data["has_more"], data["total_count"]) == ([], False, 5)
    _, items, data = await page(status="cancelled")
    assert (items, data["total_count"], data["page_size"]) == ([ids[4], ids[1]], 2, 10)
    _, items, data = await page(status="placed", page_size=3)
    assert (items, data["total_count"], data["has_more"]) == ([ids[3], ids[2], ids[0]], 3, False)


async def test_orders_of_a_customer_without_any(catalogue: InMemoryCatalogue) -> None:
    """An empty page."""
    answer = await catalogue.ask("get_customer_orders", {"customer_id": ADA})
    assert (answer["data"]["items"], answer["data"]["total_count"]) == ([], 0)


async def test_orders_of_nobody(catalogue: InMemoryCatalogue) -> None:
    """404 for an unknown and for a deleted customer."""
    await catalogue.apply(order(*TWO_LINES), ("delete_customer", {"customer_id": ADA}))
    for one in (ADA, NOBODY):
        answer = await catalogue.ask("get_customer_orders", {"customer_id": one})
        assert refused(answer) == (404, "CUSTOMER_NOT_FOUND", {"customer_id": one})


@pytest.mark.parametrize(
    ("asked", "field"), [({"page": 0}, "page"), ({"page_size": 101}, "page_size"), ({"status": "lost"}, "status")]
)
async def test_pages_that_there_are_not(catalogue: InMemoryCatalogue, asked: Mapping[str, object], field: str) -> None:
    """422 names the field."""
    answer = await catalogue.ask("get_customer_orders", {"customer_id": ADA, **asked})
    assert refused(answer)[2]["validation_errors"][0]["field"] == field


# get_customer_summary ------------------------------------------------------------------------------------------------
async def summary(catalogue: InMemoryCatalogue) -> object:
    """Ask for Ada's summary."""
    return (await catalogue.ask("get_customer_summary", {"customer_id": ADA}))["data"]


async def preferred(catalogue: InMemoryCatalogue) -> object:
    """Ask which category Ada prefers."""
    return (await catalogue.ask("get_customer_summary", {"customer_id": ADA}))["data"]["preferred_category"]


async def test_summary(catalogue: InMemoryCatalogue) -> None:
    """Counts and sums are of placed orders, whatever else there was."""
    empty = {
        "customer_id": ADA,
        "name": "Ada",
        "email": "ada@example.com",
        "total_orders": 0,
        "total_spent": "0.00",
        "last_order_date": None,
        "is_active": True,
        "preferred_category": None,
    }
    assert await summary(catalogue) == empty
    await catalogue.apply(
        order(*TWO_LINES),
        order(line("SONG", 1, "0.10"), order_id=None),
        order(line("SONG", 1, "0.20"), order_id=SECOND),
    )
    placed = {"total_orders": 3, "total_spent": "65.27", "last_order_date": "2025-03-01T12:00:08Z"}
    assert await summary(catalogue) == {**empty, **placed, "preferred_category": "MUSIC"}
    await catalogue.apply(cancel(SECOND))
    placed = {"total_orders": 2, "total_spent": "65.07", "last_order_date": "2025-03-01T12:00:07Z"}
    assert await summary(catalogue) == {**empty, **placed, "preferred_category": "MUSIC"}


async def test_the_preferred_category(catalogue: InMemoryCatalogue) -> None:
    """The commonest; of equals the most recent; orders without a category are nobody's preference."""
    await catalogue.apply(order(line("SONG", 1, "1")), order(line("BOOK", 1, "1"), order_id=SECOND))
    assert await preferred(catalogue) == "BOOKS"
    await catalogue.apply(*(order(line("THING", 1, "1"), order_id=None) for _ in range(3)))
    assert await preferred(catalogue) == "BOOKS"
    await catalogue.apply(order(line("SONG", 1, "1"), order_id=None), cancel(SECOND))
    assert await preferred(catalogue) == "MUSIC"


async def test_summary_of_nobody(catalogue: InMemoryCatalogue) -> None:
    """404 for an unknown and for a deleted customer."""
    await catalogue.apply(order(*TWO_LINES), ("delete_customer", {"customer_id": ADA}))
    for one in (ADA, NOBODY):
        answer = await catalogue.ask("get_customer_summary", {"customer_id": one})
        assert refused(answer) == (404, "CUSTOMER_NOT_FOUND", {"customer_id": one})


# customer_analytics --------------------------------------------------------------------------------------------------
async def test_analytics(catalogue: InMemoryCatalogue) -> None:
    """Figures of living customers and placed orders; a deleted customer's revenue stays, the customer is not named."""
    await catalogue.apply(
        order(line("BOOK", 1, "10")),
        order(line("SONG", 1, "0.01"), order_id=None),
        order(line("SONG", 1, "2.50"), order_id=SECOND),
        order(line("THING", 1, "7"), customer_id=BOB, order_id=None),
        cancel(SECOND),
        ("update_customer", {"customer_id": ADA, "is_active": False}),
        ("delete_customer", {"customer_id": BOB}),
    )
    answer = await catalogue.ask("customer_analytics", {})
    assert answer["data"] == {
        "total_customers": 1,
        "active_customers": 0,
        "new_customers_30_days": 1,
        "total_orders": 3,
        "total_revenue": "17.01",
        "average_order_value": "5.67",
        "top_categories": [
            {"category": "BOOKS", "orders": 1, "revenue": "10.00"},
            {"category": "MUSIC", "orders": 1, "revenue": "0.01"},
        ],
        "top_customers": [{"customer_id": ADA, "total_orders": 2, "total_spent": "10.01"}],
        "as_of": "2025-03-01",
    }


async def test_analytics_of_nothing() -> None:
    """Zeros, and no division by them."""
    data = (await InMemoryCatalogue().ask("customer_analytics", {}))["data"]
    assert (data["total_orders"], data["total_revenue"], data["average_order_value"]) == (0, "0.00", "0.00")
    assert (data["top_categories"], data["top_customers"]) == ([], [])


async def test_lists_name_ten(catalogue: InMemoryCatalogue) -> None:
    """Of twelve categories the ten with the greatest revenue are named, the greatest first; of equals by name."""
    names = [f"C{number:02}" for number in range(12)]
    await catalogue.apply(*(("create_product", {"mnemonic": name, "overview": "", "category": name}) for name in names))
    await catalogue.apply(
        *(order(line(name, 1, str(1 + number // 2)), order_id=None) for number, name in enumerate(names))
    )
    data = (await catalogue.ask("customer_analytics", {}))["data"]
    assert [one["category"] for one in data["top_categories"]] == [
        *("C10", "C11", "C08", "C09", "C06", "C07", "C04", "C05", "C02", "C03"),
    ]


async def test_days_in_which_customers_are_new(catalogue: InMemoryCatalogue) -> None:
    """Thirty UTC days count, today included; each question is answered by the day on which it was stamped."""
    query = read(("customer_analytics", {})).payload
    last = datetime(2025, 3, 30, 23, 59, tzinfo=UTC)
    asked = [
        Asked(query, Context(now, Circumstances().new_id, "caller")) for now in (last, last + timedelta(minutes=1))
    ]
    answers = [shown(one)["data"] for one in await get_customer_analytics(asked, catalogue.readers)]
    assert [(one["as_of"], one["new_customers_30_days"]) for one in answers] == [("2025-03-30", 2), ("2025-03-31", 0)]


# Rules ---------------------------------------------------------------------------------------------------------------
def test_the_first_of_equal_lines_leads() -> None:
    """The category is that of the line with the greatest amount, of equals the first."""
    lines = [
        OrderLine(name, name, quantity, Decimal(price), None)
        for name, quantity, price in (("a", 1, "5"), ("b", 2, "5"), ("c", 10, "1"), ("d", 1, "9.99"))
    ]
    assert leading_line(lines).mnemonic == "b"


def test_money_has_both_decimals() -> None:
    """However an amount is kept, it is shown with two decimals and no exponent."""
    assert [money(Decimal(text)) for text in ("0", "5", "1.5", "2E+4", MOST)] == [
        *("0.00", "5.00", "1.50", "20000.00", MOST),
    ]


def test_the_average_is_rounded_half_up() -> None:
    """Half a cent counts as one."""
    assert average(Decimal("0.05"), 2) == Decimal("0.03")
    assert average(Decimal(10), 3) == Decimal("3.33")
    assert average(Decimal(10), 0) == 0
