"""The scenario of `make run`: requests that show what the workers promise, and what each must be answered."""

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Seen = dict[str, dict[str, Any]]
"""Envelopes received so far, by the name of their step."""


@dataclass(frozen=True)
class Step:
    """One request and the answer it must get. A payload may be made from earlier envelopes."""

    name: str
    side: Literal["commands", "queries"]
    kind: str
    payload: Callable[[Seen], dict[str, Any]]
    status: int
    type: str
    code: str | None = None
    version: int | None = None
    message_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    replayed: bool = False


def scenario(run: str) -> list[Step]:
    """Make the steps; `run` keeps the names of two runs apart."""
    email = f"ada.{run}@example.com"
    create = {"name": "Ada Lovelace", "email": email, "preferences": {"theme": "dark"}}
    first = uuid.uuid4().hex

    def ada(seen: Seen) -> str:
        return str(seen["create"]["data"]["id"])

    old, new = f"OLD_{run.upper()}", f"NEW_{run.upper()}"
    spring = {
        "mnemonic": new,
        "version_label": "1",
        "start_date": "2025-01-01",
        "end_date": "2025-06-30",
        "items": [{"name": "hardcover", "position": 1}],
    }
    schema = {"type": "object", "required": ["colour"], "properties": {"colour": {"enum": ["red", "blue"]}}}
    colours = {"mnemonic": new, "rules": [{"name": "colour", "parameters": schema, "start_date": "2020-01-01"}]}

    def row(name: str) -> dict[str, Any]:
        return {"mnemonic": f"{name}_{run.upper()}", "overview": "Imported"}

    def order(seen: Seen, colour: str) -> dict[str, Any]:
        line = {"mnemonic": new, "quantity": 2, "unit_price": "19.99", "attributes": {"colour": colour}}
        return {"customer_id": ada(seen), "lines": [line]}

    return [
        Step("create", "commands", "create_customer", lambda _: create, 201, "success", message_id=first),
        Step(
            "the same again",
            "commands",
            "create_customer",
            lambda _: create,
            201,
            "success",
            message_id=first,
            replayed=True,
        ),
        Step(
            "same id, other content",
            "commands",
            "create_customer",
            lambda _: create | {"name": "Eve"},
            409,
            "error",
            "MESSAGE_ID_REUSED",
            message_id=first,
        ),
        Step(
            "e-mail taken",
            "commands",
            "create_customer",
            lambda _: {"name": "Eve", "email": email.upper()},
            409,
            "error",
            "CUSTOMER_ALREADY_EXISTS",
        ),
        Step(
            "invalid",
            "commands",
            "create_customer",
            lambda _: {"name": "", "email": "nonsense"},
            422,
            "error",
            "VALIDATION_FAILED",
        ),
        Step("read", "queries", "get_customer", lambda seen: {"customer_id": ada(seen)}, 200, "success"),
        Step(
            "update",
            "commands",
            "update_customer",
            lambda seen: {"customer_id": ada(seen), "name": "Ada King", "expected_version": 1},
            200,
            "success",
        ),
        Step(
            "nothing to change",
            "commands",
            "update_customer",
            lambda seen: {"customer_id": ada(seen), "name": "Ada King"},
            200,
            "neutral",
        ),
        Step(
            "outdated version",
            "commands",
            "update_customer",
            lambda seen: {"customer_id": ada(seen), "name": "X", "expected_version": 1},
            409,
            "error",
            "VERSION_CONFLICT",
        ),
        Step("search", "queries", "search_customers", lambda _: {"email_contains": email.upper()}, 200, "success"),
        Step("outcome", "queries", "get_outcome", lambda _: {"message_id": first}, 200, "success"),
        Step(
            "not found",
            "queries",
            "get_customer",
            lambda _: {"customer_id": str(uuid.uuid4())},
            404,
            "error",
            "CUSTOMER_NOT_FOUND",
        ),
        Step("unknown kind", "commands", "paint_customer", lambda _: {}, 400, "error", "UNKNOWN_KIND"),
        Step(
            "product, v1",
            "commands",
            "create_product",
            lambda _: {"mnemonic": old, "overview": "By the old contract"},
            201,
            "success",
            version=1,
        ),
        Step(
            "product, v2",
            "commands",
            "create_product",
            lambda _: {"mnemonic": new, "overview": "A book", "category": "BOOKS", "tags": ["paper"]},
            201,
            "success",
            version=2,
        ),
        Step("a version", "commands", "add_product_version", lambda _: spring, 201, "success"),
        Step(
            "an overlap",
            "commands",
            "add_product_version",
            lambda _: spring | {"version_label": "2"},
            409,
            "error",
            "OVERLAPPING_DATE_RANGE",
        ),
        Step("a rule", "commands", "set_validation_rules", lambda _: colours, 200, "success"),
        Step(
            "an import",
            "commands",
            "import_products",
            lambda _: {"products": [row("A"), row("B"), row("no good")]},
            200,
            "warning",
        ),
        Step("an order", "commands", "place_order", lambda seen: order(seen, "red"), 201, "success"),
        Step(
            "against the rule",
            "commands",
            "place_order",
            lambda seen: order(seen, "green"),
            400,
            "error",
            "BUSINESS_RULE_VIOLATION",
        ),
        Step(
            "held by an order",
            "commands",
            "delete_product",
            lambda _: {"mnemonic": new},
            400,
            "error",
            "BUSINESS_RULE_VIOLATION",
        ),
        Step("summary", "queries", "get_customer_summary", lambda seen: {"customer_id": ada(seen)}, 200, "success"),
        Step("product", "queries", "get_product", lambda _: {"mnemonic": new}, 200, "success"),
        Step("analytics", "queries", "customer_analytics", lambda _: {}, 200, "success"),
        Step("delete", "commands", "delete_customer", lambda seen: {"customer_id": ada(seen)}, 200, "success"),
        Step("outcome erased", "queries", "get_outcome", lambda _: {"message_id": first}, 200, "success"),
    ]


def problem(step: Step, envelope: Mapping[str, Any], headers: Mapping[str, str]) -> str | None:
    """Say what is not as expected; None when all is."""
    if (envelope["statusCode"], envelope["type"]) != (step.status, step.type):
        return f"expected {step.status} {step.type}"
    if step.code is not None and envelope["data"]["error_code"] != step.code:
        return f"expected {step.code}"
    if (headers.get("replayed") == "true") != step.replayed:
        return "expected a replay" if step.replayed else "expected no replay"
    return None
