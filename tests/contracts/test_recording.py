"""What the tests' caller records is judged rightly: a deviation is seen, and what the contract knows is none."""

from collections.abc import Mapping
from typing import Any, Final

import orjson
import pytest

from contracts.canonical import canonical
from contracts.customers import ADA_ID
from contracts.registry import KINDS
from tests.contracts.recording import recorder

HEADERS: Final = {"kind": "place_order", "content-type": "application/json", "correlation_id": "c"}
NAME: Final = {"kind": "create_customer", "payload": {"name": "Ada", "email": "ada@example.com"}}
DONE: Final = {"statusCode": 201, "message": "", "type": "success", "data": {}}
Change = Mapping[str, Any]


def refusal(code: str, status: int) -> dict[str, Any]:
    """Make the envelope of an error."""
    return {"statusCode": status, "message": "", "type": "error", "data": {"error_code": code, "details": {}}}


def placed(**changes: Any) -> dict[str, Any]:  # noqa: ANN401 - any JSON value
    """Make the envelope of an order, changed."""
    envelope: dict[str, Any] = orjson.loads(KINDS["place_order"].reply.encode())
    envelope["data"] |= changes
    return envelope


GOOD: Final = [
    placed(),
    refusal("ORDER_ALREADY_EXISTS", 409),
    refusal("BUSINESS_RULE_VIOLATION", 400),
    refusal("MESSAGE_ID_REUSED", 409),
    refusal("UNAUTHENTICATED", 401),
]
BAD: Final = {
    "an unlisted error": refusal("ORDER_NOT_FOUND", 404),
    "another status": refusal("ORDER_ALREADY_EXISTS", 400),
    "a field that is not told": placed(discount="1.00"),
    "another type": placed(total_amount=1.5),
    "another value": placed(status="shipped"),
    "a time that is none": placed(created_at="yesterday"),
    "another answer": {**placed(), "statusCode": 200},
    "no data": {"statusCode": 201, "message": "", "type": "success"},
}


@pytest.mark.parametrize("envelope", GOOD, ids=lambda one: one["data"].get("error_code", "success"))
def test_what_the_contract_knows_is_no_deviation(envelope: Change) -> None:
    """Answers, a kind's own errors, and those of any request pass."""
    assert list(recorder().of_reply(HEADERS, envelope)) == []


@pytest.mark.parametrize("envelope", BAD.values(), ids=BAD)
def test_a_reply_that_the_contract_does_not_know(envelope: Change) -> None:
    """Whatever of a reply is not in the document is one deviation."""
    assert len(list(recorder().of_reply(HEADERS, envelope))) == 1


@pytest.mark.parametrize("changes", [{"content-type": "text/plain"}, {"replayed": "yes"}, {"deprecation": "soon"}])
def test_a_header_that_the_contract_does_not_know(changes: Change) -> None:
    """Headers of replies are judged, too."""
    assert len(list(recorder().of_reply({**HEADERS, **changes}, placed()))) == 1


def test_what_a_release_before_did_not_answer() -> None:
    """The document does not require it, since what was answered then is repeated; of these workers it is required."""
    envelope = orjson.loads(KINDS["create_product"].reply.encode())
    assert list(recorder().of_reply({**HEADERS, "kind": "create_product"}, envelope)) == []
    del envelope["data"]["archived_at"]
    assert len(list(recorder().of_reply({**HEADERS, "kind": "create_product"}, envelope))) == 1


def test_what_has_no_known_kind() -> None:
    """Without a kind of ours a reply is one of the refusals that need none."""
    for kind in ("", "fly"):
        assert list(recorder().of_reply({**HEADERS, "kind": kind}, refusal("UNKNOWN_KIND", 400))) == []
        assert len(list(recorder().of_reply({**HEADERS, "kind": kind}, refusal("FORBIDDEN", 403)))) == 1


def asked(**payload: Any) -> dict[str, Any]:  # noqa: ANN401 - any JSON value
    """Make a request, changed."""
    return {**NAME, "payload": {**NAME["payload"], **payload}}  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("body", "envelope", "is_deviation"),
    [
        (asked(), DONE, False),
        (asked(nickname="A"), DONE, True),
        (asked(name="A" * 201), DONE, True),
        (asked(name="A" * 201), refusal("VALIDATION_FAILED", 422), False),
        (asked(nickname="A"), refusal("CUSTOMER_ALREADY_EXISTS", 409), True),
        (asked(name=" " * 300 + "A"), DONE, False),
        (asked(name="a\u0301" * 200), DONE, False),
        (asked(customer_id=ADA_ID.upper()), DONE, False),
        (asked(email="ü@exämple.de"), DONE, False),
        (asked(email="中@例子.公司"), DONE, False),
        (asked(email=f"a😀'b@{'x' * 64}.org"), DONE, False),
        (asked(email="nobody"), DONE, True),
        ({"kind": "list_products", "version": 1.0, "payload": {"page": 2.0}}, DONE, False),
        (
            {"kind": "find_products_for_date_range", "payload": {"start_date": "0001-01-01", "end_date": "9999-12-31"}},
            DONE,
            False,
        ),
        ({"kind": "import_products", "payload": {"products": [{"mnemonic": "no"}]}}, DONE, False),
        ({"kind": "import_products", "payload": {"products": []}}, DONE, True),
        ({"kind": "delete_product", "payload": {"mnemonic": "no"}}, refusal("INVALID_PRODUCT_CODE", 400), False),
        ({"kind": "delete_product", "payload": {"mnemonic": "no"}}, refusal("PRODUCT_NOT_FOUND", 404), True),
    ],
)
def test_a_request_that_its_schema_refuses_was_refused(body: Change, envelope: Change, is_deviation: bool) -> None:
    """What was accepted, if only to fail later, fits its schema once trimmed and composed; rows of imports apart."""
    assert bool(list(recorder().of_requests([body], envelope))) is is_deviation
    assert list(recorder().of_requests([body, asked()], DONE)) == []


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        ("create_customer", {"name": "N", "email": "ü@exämple.de"}),
        ("create_customer", {"name": "N", "email": "中@例子.公司"}),
        ("create_customer", {"name": "😀", "email": f"a😀'b@{'x' * 64}.org", "customer_id": ADA_ID.upper()}),
        ("update_customer", {"customer_id": ADA_ID, "preferences": None, "expected_version": 1.0}),
        ("find_products_for_date_range", {"start_date": "0001-01-01", "end_date": "9999-12-31"}),
        ("place_order", {"customer_id": ADA_ID, "lines": [{"mnemonic": "_", "quantity": 1, "unit_price": "0"}]}),
        ("start_backfill", {"name": "a", "rate": 1e9}),
        ("get_outcome", {"message_id": "~"}),
    ],
)
def test_what_the_models_take_fits_the_schema(kind: str, payload: Change) -> None:
    """Edge values that workers accept are within what the document says."""
    KINDS[kind].read(KINDS[kind].newest, canonical(payload))
    assert list(recorder().of_requests([{"kind": kind, "payload": payload}], DONE)) == []
