"""Every product command and query: its success and each of its failures, on repositories in memory."""

from collections.abc import Mapping
from datetime import date
from functools import partial
from typing import Any

import orjson
import pytest

from contracts.kinds import Keys, Kind
from contracts.products import COMMANDS as PRODUCT_COMMANDS
from contracts.registry import KINDS
from handlers.commands import COMMANDS
from handlers.page import read_cursor
from handlers.product import Rule, is_whole
from handlers.queries import products as product_queries
from handlers.rules import Spending
from persistence.identity_map import UndeclaredKeyError
from tests.in_memory.declared import Declared
from tests.in_memory.unit_of_work import Answer, Circumstances, InMemoryCatalogue, read

A: Mapping[str, object] = {"mnemonic": "A", "overview": "first"}
CREATE = ("create_product", A)
CUSTOMER_ID = "11111111-1111-7111-8111-111111111111"
CUSTOMER = ("create_customer", {"name": "N", "email": "n@example.com", "customer_id": CUSTOMER_ID})
ORDER = ("place_order", {"customer_id": CUSTOMER_ID, "lines": [{"mnemonic": "A", "quantity": 1, "unit_price": "1.00"}]})


@pytest.fixture
def catalogue() -> InMemoryCatalogue:
    """An empty one."""
    return InMemoryCatalogue()


def version(label: str, start: str, end: str | None = None, **more: object) -> tuple[str, dict[str, object]]:
    """Make the command that adds a version to product A."""
    payload: dict[str, object] = {
        "mnemonic": "A",
        "version_label": label,
        "start_date": start,
        "end_date": end,
        "items": [],
    }
    return "add_product_version", payload | more


def refused(answer: Answer) -> tuple[int, str, Any]:
    """Take an error apart."""
    assert answer["type"] == "error"
    return answer["statusCode"], answer["data"]["error_code"], answer["data"]["details"]


def code(answer: Answer) -> tuple[int, str]:
    """Take what programs go by out of an error."""
    return refused(answer)[:2]


PRODUCT: dict[str, object] = {
    "id": "00000001-0000-7000-8000-000000000001",
    "mnemonic": "A",
    "archived_at": None,
    "overview": "first",
    "is_confidential": False,
    "category": None,
    "tags": [],
    "catalog": {},
    "version": 1,
    "created_at": "2025-03-01T12:00:00Z",
    "updated_at": "2025-03-01T12:00:00Z",
}


# Products ------------------------------------------------------------------------------------------------------------
async def test_create(catalogue: InMemoryCatalogue) -> None:
    """201 with the whole product, named by its mnemonic; text is trimmed and stored as it is."""
    (answer,) = await catalogue.apply(
        (
            "create_product",
            {
                "mnemonic": "A",
                "overview": '  <b>5 > 3 & "x"</b> ',
                "is_confidential": True,
                "category": "BOOKS",
                "tags": ["a", "b"],
                "catalog": {"pages": 3},
            },
        )
    )
    assert answer == {
        "statusCode": 201,
        "message": "Product 'A' created successfully",
        "type": "success",
        "data": PRODUCT
        | {
            "overview": '<b>5 > 3 & "x"</b>',
            "is_confidential": True,
            "category": "BOOKS",
            "tags": ["a", "b"],
            "catalog": {"pages": 3},
        },
    }


async def test_create_version_1(catalogue: InMemoryCatalogue) -> None:
    """The old version is upcast: no category, no tags; it knows neither of both fields."""
    first, second = await catalogue.apply(
        ("create_product@1", A), ("create_product@1", {"mnemonic": "B", "overview": "x", "category": "C"})
    )
    assert first["data"] == PRODUCT
    assert refused(second) == (
        422,
        "VALIDATION_FAILED",
        {
            "validation_errors": [
                {"field": "category", "message": "Extra inputs are not permitted", "type": "extra_forbidden"}
            ]
        },
    )


async def test_create_what_is_there(catalogue: InMemoryCatalogue) -> None:
    """409 names the mnemonic, and the first product stays as it is."""
    _, answer = await catalogue.apply(CREATE, ("create_product", {"mnemonic": "A", "overview": "second"}))
    assert answer["message"] == "Product with mnemonic 'A' already exists"
    assert refused(answer) == (409, "PRODUCT_ALREADY_EXISTS", {"mnemonic": "A"})
    assert (await catalogue.ask("get_product", {"mnemonic": "A"}))["data"]["overview"] == "first"


@pytest.mark.parametrize("mnemonic", ["lower", "A-B", "", "A" * 51, "Ä", "A B"])
async def test_the_form_of_a_mnemonic(catalogue: InMemoryCatalogue, mnemonic: str) -> None:
    """A mnemonic of another form has an error_code of its own, in every kind that takes one."""
    asked = [
        (kind, f"{kind.name}@{version.number}", {**version.examples[0], "mnemonic": mnemonic})
        for kind in KINDS.values()
        for version in kind.versions
        if "mnemonic" in version.model.model_fields
    ]
    assert len(asked) >= 11
    for kind, name, payload in asked:
        if kind.topic == "commands":
            (answer,) = await catalogue.apply((name, payload))
            assert refused(answer) == (400, "INVALID_PRODUCT_CODE", {"field": "mnemonic"})
        else:
            assert code(await catalogue.ask(kind.name, payload)) == (400, "INVALID_PRODUCT_CODE")


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"mnemonic": 5}, "mnemonic"),
        ({"overview": "x" * 1001}, "overview"),
        ({"overview": None}, "overview"),
        ({"is_confidential": "yes"}, "is_confidential"),
        ({"category": ""}, "category"),
        ({"category": "x" * 101}, "category"),
        ({"tags": ["x"] * 21}, "tags"),
        ({"tags": ["x", ""]}, "tags.1"),
        ({"tags": ["x" * 51]}, "tags.0"),
        ({"catalog": []}, "catalog"),
        ({"catalog": {"x": "y" * 66_000}}, "catalog"),
        ({"catalog": {"x": "\u0000"}}, "catalog.x"),
        ({"price": 1}, "price"),
    ],
)
async def test_fields_of_a_product(catalogue: InMemoryCatalogue, wrong: dict[str, object], field: str) -> None:
    """422 names the field, when a product is created and when it is changed."""
    for kind in ("create_product", "update_product"):
        (answer,) = await catalogue.apply((kind, {**A, **wrong}))
        status, error_code, details = refused(answer)
        assert (status, error_code) == (422, "VALIDATION_FAILED")
        assert [one["field"] for one in details["validation_errors"]] == [field]


async def test_update(catalogue: InMemoryCatalogue) -> None:
    """200: given fields change, absent ones are kept, null clears the optional ones; the version counts up."""
    full = {**A, "category": "C", "tags": ["t"], "catalog": {"a": 1}}
    _, changed, cleared = await catalogue.apply(
        ("create_product", full),
        ("update_product", {"mnemonic": "A", "overview": "second", "is_confidential": True, "expected_version": 1}),
        ("update_product", {"mnemonic": "A", "category": None, "tags": None, "catalog": None}),
    )
    assert changed["message"] == "Product 'A' updated successfully"
    assert changed["data"] == PRODUCT | {
        "overview": "second",
        "is_confidential": True,
        "category": "C",
        "tags": ["t"],
        "catalog": {"a": 1},
        "version": 2,
        "updated_at": "2025-03-01T12:00:01Z",
    }
    assert cleared["data"] == PRODUCT | {
        "overview": "second",
        "is_confidential": True,
        "version": 3,
        "updated_at": "2025-03-01T12:00:02Z",
    }


async def test_update_nothing(catalogue: InMemoryCatalogue) -> None:
    """Neutral when the state was so already; JSON is compared as JSON, where 1 is not true."""
    _, same, other = await catalogue.apply(
        ("create_product", {**A, "catalog": {"a": 1, "b": 2}}),
        ("update_product", {"mnemonic": "A", "overview": "first", "catalog": {"b": 2, "a": 1}}),
        ("update_product", {"mnemonic": "A", "catalog": {"a": True, "b": 2}}),
    )
    assert (same["type"], same["statusCode"], same["data"]["version"]) == ("neutral", 200, 1)
    assert (other["type"], other["data"]["version"]) == ("success", 2)


async def test_update_refused(catalogue: InMemoryCatalogue) -> None:
    """404 for no such product; 409 for another version, also where there was nothing to change."""
    _, missing, conflict = await catalogue.apply(
        CREATE,
        ("update_product", {"mnemonic": "B", "overview": "x"}),
        ("update_product", {"mnemonic": "A", "overview": "first", "expected_version": 7}),
    )
    assert missing["message"] == "Product with mnemonic 'B' not found"
    assert refused(missing) == (404, "PRODUCT_NOT_FOUND", {"mnemonic": "B"})
    assert refused(conflict) == (409, "VERSION_CONFLICT", {"expected_version": 7, "current_version": 1})


async def test_delete(catalogue: InMemoryCatalogue) -> None:
    """200 with null data; the mnemonic is free again, for a product of another id and without the old versions."""
    _, _, gone, missing, again = await catalogue.apply(
        CREATE,
        version("1", "2025-01-01"),
        ("delete_product", {"mnemonic": "A"}),
        ("delete_product", {"mnemonic": "A"}),
        CREATE,
    )
    assert (gone["statusCode"], gone["message"], gone["data"]) == (200, "Product 'A' deleted successfully", None)
    assert code(missing) == (404, "PRODUCT_NOT_FOUND")
    assert again["statusCode"] == 201
    shown = (await catalogue.ask("get_product", {"mnemonic": "A"}))["data"]
    assert shown["id"] == again["data"]["id"]
    assert shown["versions"] == []


async def test_delete_what_is_ordered(catalogue: InMemoryCatalogue) -> None:
    """400 while a placed order refers to the product; a cancelled one does not hold it."""
    _, _, order, held = await catalogue.apply(CUSTOMER, CREATE, ORDER, ("delete_product", {"mnemonic": "A"}))
    assert refused(held) == (400, "BUSINESS_RULE_VIOLATION", {"mnemonic": "A", "placed_orders": 1})
    cancel = ("cancel_order", {"customer_id": CUSTOMER_ID, "order_id": order["data"]["id"]})
    _, gone = await catalogue.apply(cancel, ("delete_product", {"mnemonic": "A"}))
    assert gone["statusCode"] == 200


# The archive ---------------------------------------------------------------------------------------------------------
ARCHIVE = ("archive_product", {"mnemonic": "A"})
RESTORE = ("restore_product", {"mnemonic": "A"})


async def test_archive_and_restore(catalogue: InMemoryCatalogue) -> None:
    """200: archived from the broker's time on, and back; each counts the version up."""
    _, archived, restored, again = await catalogue.apply(CREATE, ARCHIVE, RESTORE, ARCHIVE)
    assert archived["message"] == restored["message"] == "Product 'A' updated successfully"
    at = "2025-03-01T12:00:01Z"
    assert archived["data"] == PRODUCT | {"archived_at": at, "version": 2, "updated_at": at}
    assert restored["data"] == PRODUCT | {"version": 3, "updated_at": "2025-03-01T12:00:02Z"}
    assert again["data"]["archived_at"] == again["data"]["updated_at"] == "2025-03-01T12:00:03Z"
    shown = await catalogue.ask("get_product", {"mnemonic": "A"})
    assert shown["data"] == again["data"] | {"versions": []}


async def test_archive_twice(catalogue: InMemoryCatalogue) -> None:
    """Neutral: it stays archived since the first time, at the same version; so does restoring what is not archived."""
    _, unneeded, archived, again = await catalogue.apply(CREATE, RESTORE, ARCHIVE, ARCHIVE)
    assert (unneeded["statusCode"], unneeded["type"], unneeded["data"]) == (200, "neutral", PRODUCT)
    assert (again["statusCode"], again["type"], again["data"]) == (200, "neutral", archived["data"])
    assert again["message"] == "Product 'A' unchanged: nothing to do"


@pytest.mark.parametrize("kind", ["archive_product", "restore_product"])
async def test_archive_refused(catalogue: InMemoryCatalogue, kind: str) -> None:
    """404 for no such product; 409 for another version, also with nothing to do; 422 for what is no version."""
    _, missing, *conflicts, wrong, matching = await catalogue.apply(
        CREATE,
        (kind, {"mnemonic": "B"}),
        (kind, {"mnemonic": "A", "expected_version": 7}),
        (kind, {"mnemonic": "A", "expected_version": 2}),
        (kind, {"mnemonic": "A", "expected_version": 0}),
        (kind, {"mnemonic": "A", "expected_version": 1}),
    )
    assert refused(missing) == (404, "PRODUCT_NOT_FOUND", {"mnemonic": "B"})
    for conflict, expected in zip(conflicts, (7, 2), strict=True):
        assert refused(conflict) == (409, "VERSION_CONFLICT", {"expected_version": expected, "current_version": 1})
    assert code(wrong) == (422, "VALIDATION_FAILED")
    assert matching["statusCode"] == 200


async def test_an_archived_product_is_not_sold(catalogue: InMemoryCatalogue) -> None:
    """No order that names it is placed; those of before stay, and can be cancelled; restored, it is sold."""
    *_, order = await catalogue.apply(CUSTOMER, CREATE, ("create_product", {"mnemonic": "B", "overview": ""}), ORDER)
    lines = [{"mnemonic": name, "quantity": 1, "unit_price": "1.00"} for name in ("B", "A")]
    both = ("place_order", {"customer_id": CUSTOMER_ID, "lines": lines})
    _, alone, beside, other = await catalogue.apply(
        ARCHIVE, ORDER, both, ("place_order", {"customer_id": CUSTOMER_ID, "lines": lines[:1]})
    )
    for answer in (alone, beside):
        assert refused(answer) == (400, "BUSINESS_RULE_VIOLATION", {"mnemonic": "A"})
        assert answer["message"] == "Product 'A' is archived: no orders of it are placed"
    assert other["statusCode"] == 201
    kept = await catalogue.ask("get_order", {"order_id": order["data"]["id"]})
    assert kept["data"] == order["data"]
    cancel = ("cancel_order", {"customer_id": CUSTOMER_ID, "order_id": order["data"]["id"]})
    cancelled, _, sold = await catalogue.apply(cancel, RESTORE, both)
    assert (cancelled["data"]["status"], sold["statusCode"]) == ("cancelled", 201)


async def test_all_else_goes_on_while_archived(catalogue: InMemoryCatalogue) -> None:
    """Every other command works, and it stays archived; its mnemonic is taken until it is deleted."""
    _, archived, *changes, taken, imported = await catalogue.apply(
        CREATE,
        ARCHIVE,
        ("update_product", {"mnemonic": "A", "overview": "other", "category": "C"}),
        version("1", "2025-01-01"),
        ("end_product_version", {"mnemonic": "A", "version_label": "1", "end_date": "2025-02-01"}),
        ("set_validation_rules", {"mnemonic": "A", "rules": [COLOUR]}),
        CREATE,
        ("import_products", {"products": [A]}),
    )
    assert {answer["type"] for answer in changes} == {"success"}
    assert code(taken) == (409, "PRODUCT_ALREADY_EXISTS")
    assert imported["data"]["warnings"][0]["error_code"] == "PRODUCT_ALREADY_EXISTS"
    shown = (await catalogue.ask("get_product", {"mnemonic": "A"}))["data"]
    assert (shown["archived_at"], shown["version"]) == (archived["data"]["archived_at"], 6)
    gone, anew = await catalogue.apply(("delete_product", {"mnemonic": "A"}), CREATE)
    assert (gone["statusCode"], anew["statusCode"], anew["data"]["archived_at"]) == (200, 201, None)


async def test_lists_of_the_archived(catalogue: InMemoryCatalogue) -> None:
    """`archived` leaves one of both kinds, alone and with a category; absent or null all are listed, as ever."""
    rows = [
        {"mnemonic": name, "overview": "", "category": category} for name, category in zip("BCDE", "XYXY", strict=True)
    ]
    await catalogue.apply(("import_products", {"products": rows}))
    await catalogue.apply(*(("archive_product", {"mnemonic": name}) for name in "BC"))
    asked: list[tuple[dict[str, object], str]] = [
        ({}, "EDCB"),
        ({"archived": None}, "EDCB"),
        ({"archived": True}, "CB"),
        ({"archived": False}, "ED"),
        ({"archived": True, "category": "X"}, "B"),
        ({"archived": False, "category": "X"}, "D"),
        ({"archived": True, "category": "Z"}, ""),
    ]
    for query, expected in asked:
        data = (await catalogue.ask("list_products", query))["data"]
        assert [one["mnemonic"] for one in data["items"]] == [*expected], query
        assert data["total_count"] == len(expected)
        assert all(one["archived_at"] is not None for one in data["items"] if one["mnemonic"] in "BC")


async def test_a_cursor_is_bound_to_the_archive(catalogue: InMemoryCatalogue) -> None:
    """A cursor of one filter leads on in it, and is refused in the others; without the filter it is that of before."""
    rows = [{"mnemonic": f"P_{n}", "overview": "x"} for n in range(4)]
    await catalogue.apply(("import_products", {"products": rows}))
    queries: list[dict[str, object]] = [{}, {"archived": False}, {"archived": True}]
    await catalogue.apply(*(("archive_product", {"mnemonic": f"P_{n}"}) for n in range(2)))
    for query in queries:
        cursor = (await catalogue.ask("list_products", query | {"page_size": 1}))["data"]["next_cursor"]
        for other in queries:
            answer = await catalogue.ask("list_products", other | {"page_size": 1, "cursor": cursor})
            assert answer["statusCode"] == (200 if other == query else 422)
    cursor = (await catalogue.ask("list_products", {"page_size": 1}))["data"]["next_cursor"]
    read_cursor(cursor, ["list_products", None])


@pytest.mark.parametrize(
    "before",
    [
        {},
        {"catalog": {"archived_at": None}},
        {"overview": '","archived_at":null,"'},
        {"catalog": {"catalog": {"archived_at": 1}}, "archived_at": None},
        {"versions": [{"items": [{"attributes": {"archived_at": None}}]}]},
    ],
)
def test_a_shown_product_of_the_release_before(before: dict[str, object]) -> None:
    """Without the archive it is not whole, whatever a catalogue or an item calls by that name."""
    shown = {name: PRODUCT[name] for name in PRODUCT if name not in {"archived_at", "catalog"}} | {"catalog": {}}
    assert not is_whole(orjson.dumps(shown | before))
    del shown["catalog"]
    assert is_whole(orjson.dumps({**shown, "archived_at": None, "catalog": {}} | before))


# Versions ------------------------------------------------------------------------------------------------------------
async def test_add_version(catalogue: InMemoryCatalogue) -> None:
    """201 the version with its items by position; the product's version counts up."""
    items = [
        {"name": "second", "position": 2, "attributes": {"x": 1}},
        {"name": "first", "position": 1},
        {"name": "also second", "position": 2, "attributes": None},
    ]
    _, answer = await catalogue.apply(CREATE, version("1.0", "2025-01-01", "2025-06-30", items=items))
    assert answer["message"] == "Product version 'A 1.0' created successfully"
    shown = {
        "version_label": "1.0",
        "start_date": "2025-01-01",
        "end_date": "2025-06-30",
        "items": [
            {"name": "first", "position": 1, "attributes": None},
            {"name": "second", "position": 2, "attributes": {"x": 1}},
            {"name": "also second", "position": 2, "attributes": None},
        ],
        "created_at": "2025-03-01T12:00:01Z",
    }
    assert (answer["statusCode"], answer["data"]) == (201, shown)
    product = await catalogue.ask("get_product", {"mnemonic": "A"})
    assert product["data"] == PRODUCT | {"version": 2, "updated_at": "2025-03-01T12:00:01Z", "versions": [shown]}


async def test_add_version_refused(catalogue: InMemoryCatalogue) -> None:
    """404, 409 for the label, 409 naming the version that has one of the days, 422 for an end before the start."""
    _, _, missing, label, overlap, backwards = await catalogue.apply(
        CREATE,
        version("1", "2025-01-01", "2025-06-30"),
        version("1", "2026-01-01", mnemonic="B"),
        version("1", "2026-01-01"),
        version("2", "2025-06-30"),
        version("3", "2026-01-02", "2026-01-01"),
    )
    assert code(missing) == (404, "PRODUCT_NOT_FOUND")
    assert refused(label) == (409, "PRODUCT_VERSION_ALREADY_EXISTS", {"mnemonic": "A", "version_label": "1"})
    assert overlap["message"] == "Product version '2' overlaps version '1'"
    assert refused(overlap) == (
        409,
        "OVERLAPPING_DATE_RANGE",
        {
            "mnemonic": "A",
            "version_label": "2",
            "overlaps": {"version_label": "1", "start_date": "2025-01-01", "end_date": "2025-06-30"},
        },
    )
    assert refused(backwards)[2]["validation_errors"] == [
        {"field": "end_date", "message": "The end should not be before the start", "type": "date_range"}
    ]


@pytest.mark.parametrize(
    ("start", "end", "fits"),
    [
        ("2024-01-01", "2025-01-31", True),
        ("2024-01-01", "2025-02-01", False),
        ("2025-02-10", "2025-02-11", False),
        ("2025-02-28", None, False),
        ("2025-03-01", "2025-03-01", True),
        ("2024-01-01", None, False),
        ("0001-01-01", "9999-12-31", False),
    ],
)
async def test_both_ends_are_included(catalogue: InMemoryCatalogue, start: str, end: str | None, fits: bool) -> None:
    """Versions share no day, the first and the last included; one without an end takes all days to come."""
    _, _, answer = await catalogue.apply(CREATE, version("1", "2025-02-01", "2025-02-28"), version("2", start, end))
    assert (answer["statusCode"] == 201) == fits


@pytest.mark.parametrize(
    "day", ["2025-02-30", "2025-1-1", "20250101", "2025-01-01T00:00:00Z", "1735689600", "", "today"]
)
async def test_the_form_of_a_day(catalogue: InMemoryCatalogue, day: str) -> None:
    """A day is YYYY-MM-DD and nothing else; above all no number of seconds."""
    (answer,) = await catalogue.apply(version("1", day))
    assert refused(answer)[2]["validation_errors"] == [
        {"field": "start_date", "message": "Input should be a date, YYYY-MM-DD", "type": "date"}
    ]


async def test_versions_and_items_are_bounded(catalogue: InMemoryCatalogue) -> None:
    """A product has 200 versions at most (400 beyond), a version 200 items (422)."""
    days = [f"{1800 + n}-01-01" for n in range(201)]
    *added, refusal = await catalogue.apply(CREATE, *(version(f"v{day}", day, day) for day in days))
    assert {answer["statusCode"] for answer in added} == {201}
    assert refused(refusal) == (400, "BUSINESS_RULE_VIOLATION", {"mnemonic": "A", "max_versions": 200})
    (answer,) = await catalogue.apply(version("many", "2025-01-01", items=[{"name": "i", "position": 1}] * 201))
    assert refused(answer)[2]["validation_errors"][0]["field"] == "items"


async def test_end_version(catalogue: InMemoryCatalogue) -> None:
    """200 the version with its items; null re-opens it; neutral where the end was that already."""
    end = {"mnemonic": "A", "version_label": "1", "end_date": "2025-05-31"}
    _, _, ended, same, opened = await catalogue.apply(
        CREATE,
        version("1", "2025-01-01", items=[{"name": "i", "position": 1}]),
        ("end_product_version", end),
        ("end_product_version", end),
        ("end_product_version", end | {"end_date": None}),
    )
    assert (ended["statusCode"], ended["message"]) == (200, "Product version 'A 1' updated successfully")
    assert ended["data"]["end_date"] == "2025-05-31"
    assert ended["data"]["items"] == [{"name": "i", "position": 1, "attributes": None}]
    assert (same["type"], same["data"]) == ("neutral", ended["data"])
    assert opened["data"]["end_date"] is None
    assert (await catalogue.ask("get_product", {"mnemonic": "A"}))["data"]["version"] == 4


async def test_end_version_refused(catalogue: InMemoryCatalogue) -> None:
    """404 for product and version; 422 for an end before the start; 409 where it would reach into the next version."""
    end = {"mnemonic": "A", "version_label": "1", "end_date": None}
    _, _, _, product, label, before, overlap = await catalogue.apply(
        CREATE,
        version("1", "2025-01-01", "2025-01-31"),
        version("2", "2025-03-01"),
        ("end_product_version", end | {"mnemonic": "B"}),
        ("end_product_version", end | {"version_label": "9"}),
        ("end_product_version", end | {"end_date": "2024-12-31"}),
        ("end_product_version", end),
    )
    assert code(product) == (404, "PRODUCT_NOT_FOUND")
    assert label["message"] == "Product version with version_label '9' not found"
    assert refused(label) == (404, "PRODUCT_VERSION_NOT_FOUND", {"mnemonic": "A", "version_label": "9"})
    assert refused(before)[2]["validation_errors"][0]["field"] == "end_date"
    assert refused(overlap)[2]["overlaps"]["version_label"] == "2"


# Rules ---------------------------------------------------------------------------------------------------------------
COLOUR_FROM = date(2025, 1, 1)
COLOUR = {"name": "colour", "parameters": {"required": ["colour"]}, "start_date": "2025-01-01"}


async def test_set_rules(catalogue: InMemoryCatalogue) -> None:
    """200 the rules; they replace those that were there, and raise the product's version; the same again: neutral."""
    _, first, same, none = await catalogue.apply(
        CREATE,
        ("set_validation_rules", {"mnemonic": "A", "rules": [COLOUR]}),
        ("set_validation_rules", {"mnemonic": "A", "rules": [COLOUR]}),
        ("set_validation_rules", {"mnemonic": "A", "rules": []}),
    )
    assert first["message"] == "Product 'A' updated successfully"
    assert first["data"] == {"mnemonic": "A", "version": 2, "rules": [COLOUR | {"end_date": None}]}
    assert (same["type"], same["data"]) == ("neutral", first["data"])
    assert none["data"] == {"mnemonic": "A", "version": 3, "rules": []}


async def test_set_rules_refused(catalogue: InMemoryCatalogue) -> None:
    """404; 422 naming the rule that is no schema, without effect; 422 for over fifty, or an end before its start."""
    _, missing, bad, many, backwards = await catalogue.apply(
        CREATE,
        ("set_validation_rules", {"mnemonic": "B", "rules": []}),
        (
            "set_validation_rules",
            {"mnemonic": "A", "rules": [COLOUR, COLOUR | {"name": "bad", "parameters": {"type": 7}}]},
        ),
        ("set_validation_rules", {"mnemonic": "A", "rules": [COLOUR] * 51}),
        ("set_validation_rules", {"mnemonic": "A", "rules": [COLOUR | {"end_date": "2024-12-31"}]}),
    )
    assert code(missing) == (404, "PRODUCT_NOT_FOUND")
    status, error_code, details = refused(bad)
    assert (status, error_code, details["rule"], details["field"]) == (422, "BUSINESS_RULE_ERROR", "bad", "rules.1")
    assert "no JSON Schema" in details["reason"]
    assert refused(many)[2]["validation_errors"][0]["field"] == "rules"
    assert refused(backwards)[2]["validation_errors"][0]["field"] == "rules.0.end_date"
    assert (await catalogue.ask("get_product", {"mnemonic": "A"}))["data"]["version"] == 1


async def test_validate_data(catalogue: InMemoryCatalogue) -> None:
    """200 with what each rule in force on the day says; today is the broker's; a rule beyond use is told as such."""
    later = {"name": "later", "parameters": {"required": ["size"]}, "start_date": "2025-03-02"}
    await catalogue.apply(CREATE, ("set_validation_rules", {"mnemonic": "A", "rules": [COLOUR, later]}))
    answer = await catalogue.ask("validate_product_data", {"mnemonic": "A", "data": {}})
    broken = {
        "name": "colour",
        "holds": False,
        "violations": [{"path": "", "reason": "'colour' is a required property"}],
        "problem": None,
    }
    assert (answer["statusCode"], answer["type"]) == (200, "success")
    assert answer["data"] == {"mnemonic": "A", "on_date": "2025-03-01", "is_valid": False, "rules": [broken]}
    good = {"mnemonic": "A", "data": {"colour": 1, "size": 2}, "on_date": "2025-03-02"}
    answer = await catalogue.ask("validate_product_data", good)
    assert [rule["holds"] for rule in answer["data"]["rules"]] == [True, True]
    assert answer["data"]["is_valid"] is True
    before = await catalogue.ask("validate_product_data", {"mnemonic": "A", "data": {}, "on_date": "2024-12-31"})
    assert (before["data"]["is_valid"], before["data"]["rules"]) == (True, [])
    assert code(await catalogue.ask("validate_product_data", {"mnemonic": "B", "data": {}})) == (
        404,
        "PRODUCT_NOT_FOUND",
    )


async def test_data_that_cannot_be_judged(catalogue: InMemoryCatalogue) -> None:
    """A rule that cannot be evaluated does not hold, and says why; the others are judged all the same."""
    await catalogue.apply(CREATE, ("set_validation_rules", {"mnemonic": "A", "rules": [COLOUR]}))
    product = catalogue.uow.products.rows["A"]
    legacy = Rule("legacy", None, COLOUR_FROM, None)
    catalogue.uow.products.rules[product.id] = (legacy, *catalogue.uow.products.rules[product.id])
    answer = await catalogue.ask("validate_product_data", {"mnemonic": "A", "data": {"colour": "red"}})
    first, second = answer["data"]["rules"]
    assert (first["holds"], first["problem"], answer["data"]["is_valid"]) == (False, "it is no JSON object", False)
    assert second["holds"] is True


# Import --------------------------------------------------------------------------------------------------------------
async def test_import(catalogue: InMemoryCatalogue) -> None:
    """200 success with the counts when every row is good; version 2 payloads."""
    rows = [{"mnemonic": f"I_{n}", "overview": "x", "category": "C"} for n in range(3)]
    (answer,) = await catalogue.apply(("import_products", {"products": rows}))
    assert answer == {
        "statusCode": 200,
        "message": "Product import completed with 0 warning(s)",
        "type": "success",
        "data": {"processed_count": 3, "warning_count": 0, "warnings": []},
    }
    assert (await catalogue.ask("list_products", {"category": "C"}))["data"]["total_count"] == 3


async def test_import_with_warnings(catalogue: InMemoryCatalogue) -> None:
    """Good rows are imported; each bad one is told with number and reason, be it wrong, doubled or there already."""
    rows: list[dict[str, object]] = [
        {"mnemonic": "NEW", "overview": "x"},
        {"mnemonic": "bad mnemonic", "overview": "x"},
        {"mnemonic": "NEW", "overview": "twice"},
        {"mnemonic": "A", "overview": "taken"},
        {"mnemonic": "B", "overview": "x", "tags": ["\u0000"], "category": "", "price": 1},
        {},
    ]
    _, answer = await catalogue.apply(CREATE, ("import_products", {"products": rows}))
    assert (answer["statusCode"], answer["type"]) == (200, "warning")
    assert answer["message"] == "Product import completed with 5 warning(s)"
    assert (answer["data"]["processed_count"], answer["data"]["warning_count"]) == (1, 5)
    assert [(one["row"], one["error_code"]) for one in answer["data"]["warnings"]] == [
        (2, "INVALID_PRODUCT_CODE"),
        (3, "PRODUCT_ALREADY_EXISTS"),
        (4, "PRODUCT_ALREADY_EXISTS"),
        (5, "VALIDATION_FAILED"),
        (6, "VALIDATION_FAILED"),
    ]
    reasons = [one["reason"] for one in answer["data"]["warnings"]]
    assert reasons[1] == "Product with mnemonic 'NEW' already exists"
    assert reasons[3].startswith("category: ")
    assert reasons[4] == "mnemonic: Field required; overview: Field required"


@pytest.mark.parametrize(
    ("products", "field"),
    [([], "products"), ([A] * 1001, "products"), ([A, 1], "products.1"), ("x", "products"), (None, "products")],
)
async def test_import_refused(catalogue: InMemoryCatalogue, products: object, field: str) -> None:
    """422 only where `products` is no list of 1 to 1,000 objects; then nothing is imported."""
    (answer,) = await catalogue.apply(("import_products", {"products": products}))
    assert code(answer) == (422, "VALIDATION_FAILED")
    assert refused(answer)[2]["validation_errors"][0]["field"] == field
    assert (await catalogue.ask("list_products", {}))["data"]["total_count"] == 0


# Queries -------------------------------------------------------------------------------------------------------------
async def test_get(catalogue: InMemoryCatalogue) -> None:
    """200 by mnemonic and by id, the same; versions by first day; 404 for either."""
    await catalogue.apply(CREATE, version("late", "2025-07-01"), version("early", "2025-01-01", "2025-06-30"))
    by_mnemonic = await catalogue.ask("get_product", {"mnemonic": "A"})
    assert by_mnemonic["message"] == "Product retrieved successfully"
    assert [one["version_label"] for one in by_mnemonic["data"]["versions"]] == ["early", "late"]
    assert await catalogue.ask("get_product", {"product_id": PRODUCT["id"]}) == by_mnemonic
    missing = await catalogue.ask("get_product", {"mnemonic": "B"})
    assert refused(missing) == (404, "PRODUCT_NOT_FOUND", {"mnemonic": "B"})
    unknown = "99999999-0000-7000-8000-000000000001"
    missing = await catalogue.ask("get_product", {"product_id": unknown})
    assert missing["message"] == f"Product with id '{unknown}' not found"
    assert refused(missing) == (404, "PRODUCT_NOT_FOUND", {"product_id": unknown})


async def test_data_that_takes_too_long(catalogue: InMemoryCatalogue, monkeypatch: pytest.MonkeyPatch) -> None:
    """422 QUERY_TOO_EXPENSIVE names the rule at which the time was used up, and the data."""
    await catalogue.apply(CREATE, ("set_validation_rules", {"mnemonic": "A", "rules": [COLOUR]}))
    monkeypatch.setattr(product_queries, "Spending", partial(Spending, evaluating_s=0.0))
    answer = await catalogue.ask("validate_product_data", {"mnemonic": "A", "data": {"colour": "red"}})
    status, error_code, details = refused(answer)
    assert (status, error_code) == (422, "QUERY_TOO_EXPENSIVE")
    assert (details["mnemonic"], details["field"], details["rule"]) == ("A", "data", COLOUR["name"])


@pytest.mark.parametrize("payload", [{}, {"mnemonic": "A", "product_id": PRODUCT["id"]}, {"mnemonic": None}])
async def test_get_names_one_product(catalogue: InMemoryCatalogue, payload: dict[str, object]) -> None:
    """422 unless exactly one of mnemonic and id is given."""
    assert refused(await catalogue.ask("get_product", payload))[2]["validation_errors"] == [
        {"field": "product_id", "message": "Either mnemonic or product_id should be given", "type": "one_of_both"}
    ]


async def test_every_change_clears_the_cache(catalogue: InMemoryCatalogue) -> None:
    """Whatever changes a product names its cache key; what fails or changes nothing names none."""
    changes = [
        CREATE,
        ("update_product", {"mnemonic": "A", "overview": "other"}),
        version("1", "2025-01-01"),
        ("end_product_version", {"mnemonic": "A", "version_label": "1", "end_date": "2025-02-01"}),
        ("set_validation_rules", {"mnemonic": "A", "rules": [COLOUR]}),
        ARCHIVE,
        RESTORE,
        ("delete_product", {"mnemonic": "A"}),
        ("import_products", {"products": [A]}),
    ]
    for change in changes:
        catalogue.uow.products.touched.clear()
        (answer,) = await catalogue.apply(change)
        assert answer["type"] == "success", answer
        assert set(catalogue.uow.products.touched) == {"product:mnemonic:A"}
    for nothing in (
        CREATE,
        RESTORE,
        ("update_product", A),
        ("update_product", {**A, "overview": "x", "expected_version": 9}),
    ):
        catalogue.uow.products.touched.clear()
        await catalogue.apply(nothing)
        assert catalogue.uow.products.touched == []


@pytest.mark.parametrize(
    ("kind", "payload", "field"),
    [
        ("list_products", {"page": 0}, "page"),
        ("list_products", {"page_size": 101}, "page_size"),
        ("list_products", {"limit": 1}, "limit"),
        ("list_products", {"archived": "true"}, "archived"),
        ("list_products", {"archived": 1}, "archived"),
        ("search_products", {"limit": 0}, "limit"),
        ("search_products", {"offset": -1}, "offset"),
        ("search_products", {"mnemonic_contains": ""}, "mnemonic_contains"),
        ("search_products", {"cursor": "nonsense"}, "cursor"),
        ("find_products_for_date_range", {"start_date": "2025-01-02", "end_date": "2025-01-01"}, "end_date"),
        ("find_products_for_date_range", {"start_date": "2025-01-02"}, "end_date"),
        ("validate_product_data", {"mnemonic": "A", "data": []}, "data"),
    ],
)
async def test_queries_refused(catalogue: InMemoryCatalogue, kind: str, payload: dict[str, object], field: str) -> None:
    """422 names the field."""
    status, error_code, details = refused(await catalogue.ask(kind, payload))
    assert (status, error_code) == (422, "VALIDATION_FAILED")
    assert [one["field"] for one in details["validation_errors"]] == [field]


async def test_a_cursor_is_bound_to_its_search(catalogue: InMemoryCatalogue) -> None:
    """A cursor leads through the whole of its search, and is refused in another one."""
    rows = [{"mnemonic": f"P_{n}", "overview": "x"} for n in range(5)]
    await catalogue.apply(("import_products", {"products": rows}))
    page = (await catalogue.ask("search_products", {"mnemonic_contains": "p_", "limit": 2}))["data"]
    assert (page["page"], page["total_count"], page["has_more"]) == (1, 5, True)
    other = await catalogue.ask("search_products", {"mnemonic_contains": "P", "cursor": page["next_cursor"]})
    assert refused(other)[2]["validation_errors"][0]["field"] == "cursor"
    seen = [one["mnemonic"] for one in page["items"]]
    while page["next_cursor"]:
        query = {"mnemonic_contains": "p_", "limit": 2, "cursor": page["next_cursor"]}
        page = (await catalogue.ask("search_products", query))["data"]
        assert page["page"] is None
        seen += [one["mnemonic"] for one in page["items"]]
    assert sorted(seen) == [f"P_{n}" for n in range(5)]


# What a kind declares ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", PRODUCT_COMMANDS, ids=lambda kind: kind.name)
async def test_an_undeclared_key_is_an_error(kind: Kind) -> None:
    """A use case that touches a product which its kind did not declare is caught."""
    example = kind.newest.examples[0]
    payload = {**example, "mnemonic": "A"} if "mnemonic" in example else example
    catalogue = InMemoryCatalogue()
    await catalogue.apply(CREATE)
    declared = Declared()
    declared.add(Keys())
    catalogue.uow.declare(declared)
    with pytest.raises(UndeclaredKeyError):
        await COMMANDS[kind.name](read((kind.name, payload)).payload, catalogue.uow, Circumstances().context())
