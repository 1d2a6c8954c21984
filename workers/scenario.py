"""The scenario of `make run`: requests that show what the workers promise, and what each must be answered."""

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Seen = dict[str, dict[str, Any]]
"""Envelopes received so far, by the name of their step."""


@dataclass(frozen=True)
class Step:
    """One request and the answer it must get. A payload may be made from earlier envelopes."""

    name: str
    side: str
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
        Step("delete", "commands", "delete_customer", lambda seen: {"customer_id": ada(seen)}, 200, "success"),
        Step(
            "outcome erased",
            "queries",
            "get_outcome",
            lambda _: {"message_id": first},
            200,
            "success",
        ),
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
