"""Each kind end to end: its success and every failure that the contract names, envelopes compared whole."""

import re
import uuid
from dataclasses import dataclass
from typing import Any

import pytest

from contracts.registry import KINDS
from tests.system import System


class Whatever:
    """Equal to anything; what it stands for has a test of its own."""

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 0


@dataclass(frozen=True)
class Form:
    """Equal to every text of a form."""

    pattern: str

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str) and re.fullmatch(self.pattern, other) is not None

    def __hash__(self) -> int:
        return hash(self.pattern)


ANY = Whatever()
ID = Form(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
TIME = Form(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
NOBODY = "00000000-0000-4000-8000-000000000000"
ADA, EVE = str(uuid.uuid4()), str(uuid.uuid4())
ORDER, OTHER_ORDER = str(uuid.uuid4()), str(uuid.uuid4())

Step = tuple[str, dict[str, Any], tuple[int, str, str, Any]]


def customer(customer_id: str, name: str, email: str, version: int = 1, **more: object) -> dict[str, object]:
    """Show a customer."""
    return {
        "id": customer_id, "name": name, "email": email, "preferences": {}, "is_active": True, "version": version,
        "created_at": TIME, "updated_at": TIME,
    } | more  # fmt: skip


def product(mnemonic: str, version: int = 1, **more: object) -> dict[str, object]:
    """Show a product."""
    return {
        "id": ID, "mnemonic": mnemonic, "archived_at": None, "overview": "O", "is_confidential": False,
        "category": None, "tags": [], "catalog": {}, "version": version, "created_at": TIME, "updated_at": TIME,
    } | more  # fmt: skip


def version(label: str, start: str, end: str | None) -> dict[str, object]:
    """Show a version with one item."""
    item = {"name": "i", "position": 1, "attributes": None}
    return {"version_label": label, "start_date": start, "end_date": end, "items": [item], "created_at": TIME}


def page(items: list[object], total: int | None, size: int) -> dict[str, object]:
    """Show a first and only page."""
    return {
        "items": items, "total_count": total, "page": 1, "page_size": size, "has_more": False, "next_cursor": None,
    }  # fmt: skip


def ok(message: str, data: object, status: int = 200, type_: str = "success") -> tuple[int, str, str, Any]:
    """Expect it done."""
    return status, message, type_, data


def no(status: int, code: str, message: str, **details: object) -> tuple[int, str, str, Any]:
    """Expect a failure."""
    return status, message, "error", {"error_code": code, "details": details}


def invalid(field: str, message: str, type_: str) -> tuple[int, str, str, Any]:
    """Expect a validation error of one field."""
    errors = [{"field": field, "message": message, "type": type_}]
    return no(422, "VALIDATION_FAILED", f"{field} validation failed: {message}", validation_errors=errors)


NO_CUSTOMER = no(404, "CUSTOMER_NOT_FOUND", f"Customer with id '{NOBODY}' not found", customer_id=NOBODY)
NO_PRODUCT = no(404, "PRODUCT_NOT_FOUND", "Product with mnemonic 'NONE' not found", mnemonic="NONE")
MISSING = "Field required"
HIDDEN = "Customer with email '(hidden)' already exists"
SPRING = {"start_date": "2025-01-01", "end_date": "2025-06-30", "items": [{"name": "i", "position": 1}]}
RULE = {"name": "r", "parameters": {"required": ["a"]}, "start_date": "2020-01-01"}
SHOWN_RULE = RULE | {"end_date": None}
LINE = {"mnemonic": "BOOK", "quantity": 2, "unit_price": "19.99", "attributes": {"a": 1}}
PLACED = {
    "id": ORDER, "customer_id": ADA, "status": "placed", "lines": [LINE], "total_amount": "39.98",
    "catalog": {"category": "BOOKS"}, "created_at": TIME,
}  # fmt: skip
BOOK: dict[str, Any] = {"category": "BOOKS", "tags": ["t"], "catalog": {"a": 1}}

TABLE: list[Step] = [
    # create_customer
    ("create_customer", {"name": "Ada", "email": "Ada@example.com", "customer_id": ADA},
     ok(f"Customer '{ADA}' created successfully", customer(ADA, "Ada", "Ada@example.com"), 201)),
    ("create_customer", {"name": "Eve", "email": "eve@example.com", "customer_id": EVE, "preferences": {"x": [1]}},
     ok(f"Customer '{EVE}' created successfully", customer(EVE, "Eve", "eve@example.com", preferences={"x": [1]}), 201)),  # noqa: E501 - a row of the table
    ("create_customer", {"name": "X", "email": "ada@EXAMPLE.com"},
     no(409, "CUSTOMER_ALREADY_EXISTS", HIDDEN, field="email")),
    ("create_customer", {"name": "X", "email": "x@example.com", "customer_id": ADA},
     no(409, "CUSTOMER_ALREADY_EXISTS", f"Customer with id '{ADA}' already exists", field="customer_id", customer_id=ADA)),  # noqa: E501 - a row of the table
    ("create_customer", {"name": "X"}, invalid("email", MISSING, "missing")),
    # update_customer
    ("update_customer", {"customer_id": ADA, "name": "Ada K"},
     ok(f"Customer '{ADA}' updated successfully", customer(ADA, "Ada K", "Ada@example.com", 2))),
    ("update_customer", {"customer_id": ADA, "name": "Ada K"},
     ok(f"Customer '{ADA}' unchanged: nothing to do", customer(ADA, "Ada K", "Ada@example.com", 2), type_="neutral")),
    ("update_customer", {"customer_id": ADA, "name": "X", "expected_version": 1},
     no(409, "VERSION_CONFLICT", f"Customer '{ADA}' has another version", expected_version=1, current_version=2)),
    ("update_customer", {"customer_id": ADA, "email": "EVE@example.com"},
     no(409, "CUSTOMER_ALREADY_EXISTS", HIDDEN, field="email")),
    ("update_customer", {"customer_id": NOBODY, "name": "X"}, NO_CUSTOMER),
    # get_customer, search_customers
    ("get_customer", {"customer_id": ADA}, ok("Customer retrieved successfully", customer(ADA, "Ada K", "Ada@example.com", 2))),  # noqa: E501 - a row of the table
    ("get_customer", {"customer_id": NOBODY}, NO_CUSTOMER),
    ("search_customers", {"name_contains": "ADA"},
     ok("Found 1 Customer(s)", page([customer(ADA, "Ada K", "Ada@example.com", 2)], 1, 50))),
    ("search_customers", {"cursor": "nonsense"}, invalid("cursor", "is no cursor of ours", "cursor")),
    # create_product
    ("create_product", {"mnemonic": "BOOK", "overview": "O", **BOOK},
     ok("Product 'BOOK' created successfully", product("BOOK", **BOOK), 201)),
    ("create_product", {"mnemonic": "BOOK", "overview": "O"},
     no(409, "PRODUCT_ALREADY_EXISTS", "Product with mnemonic 'BOOK' already exists", mnemonic="BOOK")),
    ("create_product", {"mnemonic": "SPARE", "overview": "O"}, ok("Product 'SPARE' created successfully", product("SPARE"), 201)),  # noqa: E501 - a row of the table
    # update_product
    ("update_product", {"mnemonic": "BOOK", "is_confidential": True},
     ok("Product 'BOOK' updated successfully", product("BOOK", 2, is_confidential=True, **BOOK))),
    ("update_product", {"mnemonic": "BOOK", "is_confidential": True},
     ok("Product 'BOOK' unchanged: nothing to do", product("BOOK", 2, is_confidential=True, **BOOK), type_="neutral")),
    ("update_product", {"mnemonic": "BOOK", "overview": "X", "expected_version": 7},
     no(409, "VERSION_CONFLICT", "Product 'BOOK' has another version", expected_version=7, current_version=2)),
    ("update_product", {"mnemonic": "NONE", "overview": "X"}, NO_PRODUCT),
    # versions
    ("add_product_version", {"mnemonic": "BOOK", "version_label": "1", **SPRING},
     ok("Product version 'BOOK 1' created successfully", version("1", "2025-01-01", "2025-06-30"), 201)),
    ("add_product_version", {"mnemonic": "BOOK", "version_label": "1", **SPRING},
     no(409, "PRODUCT_VERSION_ALREADY_EXISTS", "Product version with version_label '1' already exists",
        mnemonic="BOOK", version_label="1")),
    ("add_product_version", {"mnemonic": "BOOK", "version_label": "2", **SPRING},
     no(409, "OVERLAPPING_DATE_RANGE", "Product version '2' overlaps version '1'", mnemonic="BOOK", version_label="2",
        overlaps={"version_label": "1", "start_date": "2025-01-01", "end_date": "2025-06-30"})),
    ("add_product_version", {"mnemonic": "NONE", "version_label": "1", **SPRING}, NO_PRODUCT),
    ("end_product_version", {"mnemonic": "BOOK", "version_label": "1", "end_date": None},
     ok("Product version 'BOOK 1' updated successfully", version("1", "2025-01-01", None))),
    ("end_product_version", {"mnemonic": "BOOK", "version_label": "9", "end_date": None},
     no(404, "PRODUCT_VERSION_NOT_FOUND", "Product version with version_label '9' not found",
        mnemonic="BOOK", version_label="9")),
    ("end_product_version", {"mnemonic": "NONE", "version_label": "1", "end_date": None}, NO_PRODUCT),
    # rules
    ("set_validation_rules", {"mnemonic": "BOOK", "rules": [RULE]},
     ok("Product 'BOOK' updated successfully", {"mnemonic": "BOOK", "version": 5, "rules": [SHOWN_RULE]})),
    ("set_validation_rules", {"mnemonic": "NONE", "rules": []}, NO_PRODUCT),
    ("validate_product_data", {"mnemonic": "BOOK", "data": {"a": 1}, "on_date": "2025-01-01"},
     ok("Product retrieved successfully", {
         "mnemonic": "BOOK", "on_date": "2025-01-01", "is_valid": True,
         "rules": [{"name": "r", "holds": True, "violations": [], "problem": None}]})),
    ("validate_product_data", {"mnemonic": "NONE", "data": {}}, NO_PRODUCT),
    # Bulk import
    ("import_products", {"products": [{"mnemonic": "IMPORTED", "overview": "O"}]},
     ok("Product import completed with 0 warning(s)", {"processed_count": 1, "warning_count": 0, "warnings": []})),
    ("import_products", {"products": []},
     invalid("products", "List should have at least 1 item after validation, not 0", "too_short")),
    # product queries
    ("get_product", {"mnemonic": "BOOK"}, ok("Product retrieved successfully", product(
        "BOOK", 5, is_confidential=True, **BOOK, versions=[version("1", "2025-01-01", None)]))),
    ("get_product", {"mnemonic": "NONE"}, NO_PRODUCT),
    ("list_products", {"category": "BOOKS"},
     ok("Found 1 Product(s)", page([product("BOOK", 5, is_confidential=True, **BOOK)], 1, 10))),
    ("search_products", {"mnemonic_contains": "SPA"}, ok("Found 1 Product(s)", page([product("SPARE")], 1, 50))),
    ("find_products_for_date_range", {"start_date": "2025-03-01", "end_date": "2025-03-01"},
     ok("Found 1 Product(s)", page([product("BOOK", 5, is_confidential=True, **BOOK)], 1, 10))),
    # the archive
    ("archive_product", {"mnemonic": "BOOK"},
     ok("Product 'BOOK' updated successfully", product("BOOK", 6, archived_at=TIME, is_confidential=True, **BOOK))),
    ("archive_product", {"mnemonic": "BOOK"},
     ok("Product 'BOOK' unchanged: nothing to do",
        product("BOOK", 6, archived_at=TIME, is_confidential=True, **BOOK), type_="neutral")),
    ("archive_product", {"mnemonic": "BOOK", "expected_version": 5},
     no(409, "VERSION_CONFLICT", "Product 'BOOK' has another version", expected_version=5, current_version=6)),
    ("archive_product", {"mnemonic": "NONE"}, NO_PRODUCT),
    ("place_order", {"customer_id": ADA, "lines": [LINE]},
     no(400, "BUSINESS_RULE_VIOLATION", "Product 'BOOK' is archived: no orders of it are placed", mnemonic="BOOK")),
    ("get_product", {"mnemonic": "BOOK"}, ok("Product retrieved successfully", product(
        "BOOK", 6, archived_at=TIME, is_confidential=True, **BOOK, versions=[version("1", "2025-01-01", None)]))),
    ("list_products", {"archived": True},
     ok("Found 1 Product(s)", page([product("BOOK", 6, archived_at=TIME, is_confidential=True, **BOOK)], 1, 10))),
    ("restore_product", {"mnemonic": "BOOK", "expected_version": 6},
     ok("Product 'BOOK' updated successfully", product("BOOK", 7, is_confidential=True, **BOOK))),
    ("restore_product", {"mnemonic": "BOOK"},
     ok("Product 'BOOK' unchanged: nothing to do", product("BOOK", 7, is_confidential=True, **BOOK), type_="neutral")),
    ("restore_product", {"mnemonic": "BOOK", "expected_version": 6},
     no(409, "VERSION_CONFLICT", "Product 'BOOK' has another version", expected_version=6, current_version=7)),
    ("restore_product", {"mnemonic": "NONE"}, NO_PRODUCT),
    # orders
    ("place_order", {"customer_id": ADA, "order_id": ORDER, "lines": [LINE]},
     ok(f"Order '{ORDER}' created successfully", PLACED, 201)),
    ("place_order", {"customer_id": ADA, "order_id": ORDER, "lines": [LINE]},
     no(409, "ORDER_ALREADY_EXISTS", f"Order with id '{ORDER}' already exists", order_id=ORDER)),
    ("place_order", {"customer_id": NOBODY, "lines": [LINE]}, NO_CUSTOMER),
    ("place_order", {"customer_id": ADA, "lines": [LINE | {"mnemonic": "NONE"}]}, NO_PRODUCT),
    ("get_order", {"order_id": ORDER}, ok("Order retrieved successfully", PLACED)),
    ("get_order", {"order_id": NOBODY},
     no(404, "ORDER_NOT_FOUND", f"Order with id '{NOBODY}' not found", order_id=NOBODY)),
    ("get_customer_orders", {"customer_id": ADA}, ok("Found 1 Order(s)", page([PLACED], 1, 10))),
    ("get_customer_orders", {"customer_id": NOBODY}, NO_CUSTOMER),
    ("get_customer_summary", {"customer_id": ADA}, ok("Customer summary retrieved successfully", {
        "customer_id": ADA, "name": "Ada K", "email": "Ada@example.com", "total_orders": 1, "total_spent": "39.98",
        "last_order_date": TIME, "is_active": True, "preferred_category": "BOOKS"})),
    ("get_customer_summary", {"customer_id": NOBODY}, NO_CUSTOMER),
    ("delete_product", {"mnemonic": "BOOK"},
     no(400, "BUSINESS_RULE_VIOLATION", "Product 'BOOK' cannot be deleted: placed orders refer to it",
        mnemonic="BOOK", placed_orders=1)),
    ("cancel_order", {"customer_id": ADA, "order_id": ORDER},
     ok(f"Order '{ORDER}' updated successfully", PLACED | {"status": "cancelled"})),
    ("cancel_order", {"customer_id": ADA, "order_id": ORDER},
     ok(f"Order '{ORDER}' unchanged: nothing to do", PLACED | {"status": "cancelled"}, type_="neutral")),
    ("cancel_order", {"customer_id": EVE, "order_id": ORDER},
     no(404, "ORDER_NOT_FOUND", f"Order with id '{ORDER}' not found", order_id=ORDER)),
    ("delete_product", {"mnemonic": "BOOK"}, ok("Product 'BOOK' deleted successfully", None)),
    ("delete_product", {"mnemonic": "NONE"}, NO_PRODUCT),
    # the end of a customer
    ("delete_customer", {"customer_id": ADA}, ok(f"Customer '{ADA}' deleted successfully", None)),
    ("delete_customer", {"customer_id": NOBODY}, NO_CUSTOMER),
]  # fmt: skip


def refused(status: int, code: str) -> tuple[int, str, str, Any]:
    """Expect a failure, whatever it says."""
    return status, ANY, "error", {"error_code": code, "details": ANY}  # type: ignore[return-value]


def done(type_: str = "success", status: int = 200) -> tuple[int, str, str, Any]:
    """Expect it done, whatever it says."""
    return status, ANY, type_, ANY  # type: ignore[return-value]


def code(field: str) -> tuple[int, str, str, Any]:
    """Expect a mnemonic of the wrong form to be told."""
    return no(400, "INVALID_PRODUCT_CODE", "A product's mnemonic has 1 to 50 characters of A-Z, 0-9 and _", field=field)


NO_CODE: dict[str, Any] = {"mnemonic": "no code"}
FIRST = {"mnemonic": "SPARE", "version_label": "1", "start_date": "2025-01-01", "end_date": "2025-06-30", "items": []}
SECOND = FIRST | {"version_label": "2", "start_date": "2025-07-01"}
TOO_LARGE = refused(400, "BUSINESS_RULE_VIOLATION")
FILL = "update products set answer_bytes = 786432, answer_bytes_version = version where mnemonic = 'SPARE'"
BREAK = """update validation_instances set parameters = '{"not": {"pattern": "(?=x)"}}'
where product_id = (select id from products where mnemonic = 'RULED')"""
EVES = {"customer_id": EVE, "lines": [LINE | {"mnemonic": "SPARE"}]}
RUN = {"name": "product_catalog"}
STEP = {"change": "product_catalog"}
NO_RUN = {"name": "no_such"}
NO_BACKFILL = refused(404, "BACKFILL_NOT_FOUND")
ILLEGAL = refused(409, "ILLEGAL_TRANSITION")
END = "update backfill_runs set state = '{}', finished_at = clock_timestamp()"

TABLE += [
    ("customer_analytics", {}, done()),
    # mnemonics of the wrong form
    ("create_product", NO_CODE | {"overview": "O"}, code("mnemonic")),
    ("update_product", NO_CODE | {"overview": "O"}, code("mnemonic")),
    ("delete_product", NO_CODE, code("mnemonic")),
    ("archive_product", NO_CODE, code("mnemonic")),
    ("restore_product", NO_CODE, code("mnemonic")),
    ("add_product_version", FIRST | NO_CODE, code("mnemonic")),
    ("end_product_version", NO_CODE | {"version_label": "1", "end_date": None}, code("mnemonic")),
    ("set_validation_rules", NO_CODE | {"rules": []}, code("mnemonic")),
    ("get_product", NO_CODE, code("mnemonic")),
    ("validate_product_data", NO_CODE | {"data": {}}, code("mnemonic")),
    ("place_order", {"customer_id": EVE, "lines": [LINE | NO_CODE]}, code("lines.0.mnemonic")),
    # rows that are no good
    ("import_products", {"products": [{"mnemonic": "SPARE", "overview": "O"}]},
     (200, "Product import completed with 1 warning(s)", "warning", {
         "processed_count": 0, "warning_count": 1,
         "warnings": [{"row": 1, "error_code": "PRODUCT_ALREADY_EXISTS",
                       "reason": "Product with mnemonic 'SPARE' already exists"}]})),
    # the ends of versions
    ("add_product_version", FIRST, done(status=201)),
    ("add_product_version", SECOND | {"end_date": None}, done(status=201)),
    ("end_product_version", {"mnemonic": "SPARE", "version_label": "1", "end_date": "2025-08-01"},
     refused(409, "OVERLAPPING_DATE_RANGE")),
    ("end_product_version", {"mnemonic": "SPARE", "version_label": "1", "end_date": "2025-06-30"}, done("neutral")),
    # rules
    ("set_validation_rules", {"mnemonic": "SPARE", "rules": [RULE | {"parameters": {"type": 1}}]},
     refused(422, "BUSINESS_RULE_ERROR")),
    ("set_validation_rules", {"mnemonic": "SPARE", "rules": [RULE]}, done()),
    ("set_validation_rules", {"mnemonic": "SPARE", "rules": [RULE]}, done("neutral")),
    ("place_order", EVES | {"lines": [LINE | {"mnemonic": "SPARE", "attributes": {}}]},
     refused(400, "BUSINESS_RULE_VIOLATION")),
    ("cancel_order", {"customer_id": NOBODY, "order_id": ORDER}, NO_CUSTOMER),
    # a product that is as large as it may be
    (FILL, {}, done()),
    ("update_product", {"mnemonic": "SPARE", "overview": "Longer than it was"}, TOO_LARGE),
    ("add_product_version", SECOND | {"version_label": "3", "start_date": "2020-01-01", "end_date": "2020-01-01"},
     TOO_LARGE),
    ("end_product_version", {"mnemonic": "SPARE", "version_label": "2", "end_date": "2025-12-31"}, TOO_LARGE),
    # a rule of before, that would not be accepted today
    ("create_product", {"mnemonic": "RULED", "overview": "O"}, done(status=201)),
    ("set_validation_rules", {"mnemonic": "RULED", "rules": [RULE]}, done()),
    (BREAK, {}, done()),
    ("place_order", EVES | {"lines": [LINE | {"mnemonic": "RULED"}]}, refused(422, "BUSINESS_RULE_ERROR")),
    # outcomes
    ("get_outcome", {"message_id": "row-1"}, done()),
    ("get_outcome", {"message_id": "row-of-nobody"},
     no(404, "OUTCOME_NOT_FOUND", "Outcome with message_id 'row-of-nobody' not found", message_id="row-of-nobody")),
    # backfills, with no worker to carry them out
    *((f"{wish}_backfill", NO_RUN, NO_BACKFILL) for wish in ("start", "pause", "resume", "cancel", "retry", "verify")),
    ("set_backfill_rate", NO_RUN | {"rows_per_s": 1}, NO_BACKFILL),
    ("get_backfill", NO_RUN, NO_BACKFILL),
    *((f"{wish}_backfill", RUN, ILLEGAL) for wish in ("pause", "resume", "cancel", "retry", "verify")),
    ("set_backfill_rate", RUN | {"rows_per_s": 1}, ILLEGAL),
    ("start_backfill", RUN, done()),
    ("start_backfill", RUN, ILLEGAL),
    ("pause_backfill", RUN, done()),
    ("resume_backfill", RUN, done()),
    ("set_backfill_rate", RUN | {"rows_per_s": 1}, done()),
    ("get_backfill", RUN, done()),
    ("list_backfills", {}, done()),
    (END.format("failed"), {}, done()),
    ("retry_backfill", RUN, done()),
    (END.format("completed"), {}, done()),
    ("verify_backfill", RUN, done()),
    ("cancel_backfill", RUN, done()),
    # phases
    ("advance_phase", {"change": "no_such", "to": "dual_write"}, NO_BACKFILL),
    ("advance_phase", STEP | {"to": "expanded"}, done("neutral")),
    ("advance_phase", STEP | {"to": "reading_new"}, ILLEGAL),
    ("advance_phase", STEP | {"to": "dual_write"}, done()),
]  # fmt: skip


def test_every_answer_has_a_row() -> None:
    """For each kind there is a row for each way in which it succeeds, and for each error of its own."""
    rows = {(kind, data["error_code"] if type_ == "error" else type_) for kind, _, (_, _, type_, data) in TABLE}
    answers = {(name, answer.type) for name, kind in KINDS.items() for answer in kind.answers}
    errors = {(name, error.error_code) for name, kind in KINDS.items() for error in kind.errors}
    assert (answers | errors) - rows == set()


@pytest.mark.timeout(240)
async def test_each_kind(system: System) -> None:
    """Sent one after the other through Kafka, each request is answered with exactly this envelope."""
    await system.start()
    await system.start("queries")
    wrong = []
    for number, (kind, payload, expected) in enumerate(TABLE, 1):
        if kind not in KINDS:  # a statement: what else takes long to come about
            await system.fetch(kind)
            continue
        if KINDS[kind].topic == "queries":
            reply = await system.query(kind, payload)
        else:
            version = KINDS[kind].newest.number
            reply = await system.command(kind, payload, version=version, message_id=f"row-{number}")
        status, message, type_, data = expected
        whole = {"statusCode": status, "message": message, "type": type_, "data": data}
        if reply.envelope != whole:
            wrong.append(f"{kind} {payload}\n  expected {whole}\n  got      {reply.envelope}")
    assert not wrong, "\n".join(wrong)
    assert await system.dead_letters() == []
    assert system.deviations == []
