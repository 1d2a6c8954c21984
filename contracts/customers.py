"""Customers on the wire: their commands, queries and results."""

from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Annotated, Final

from pydantic import Field

from contracts.envelope import Page, created, deleted, listed, retrieved, updated
from contracts.errors import CustomerAlreadyExistsError, CustomerNotFoundError, VersionConflictError
from contracts.fields import (
    Cursor,
    CustomerName,
    EmailAddress,
    Identifier,
    Limit,
    Needle,
    Offset,
    Preferences,
    absent,
)
from contracts.kinds import CREATED, DONE, UNCHANGED, Keys, Kind, Payload, Role, Version
from contracts.text import fold_key
from contracts.values import value

RESOURCE = "Customer"
SUMMARY: Final = "Customer summary"
ANALYTICS: Final = "Customer analytics"


@value(frozen=True)
class CustomerResult:
    """A customer as every envelope shows it. `version` counts up with each change."""

    id: str
    name: str
    email: str
    preferences: dict[str, object]
    is_active: bool
    version: int
    created_at: datetime
    updated_at: datetime


class CreateCustomer(Payload):
    """Create a customer; without a `customer_id` the workers choose one."""

    name: CustomerName
    email: EmailAddress
    preferences: Preferences | None = None
    customer_id: Identifier | None = None


class UpdateCustomer(Payload):
    """Change the fields that are given, keep the others; null preferences clear them."""

    customer_id: Identifier
    name: CustomerName = absent()
    email: EmailAddress = absent()
    preferences: Preferences | None = None
    is_active: bool = absent()
    expected_version: Annotated[int, Field(ge=1)] | None = None


class DeleteCustomer(Payload):
    """Erase a customer's personal data for good."""

    customer_id: Identifier


class GetCustomer(Payload):
    """Ask for one customer."""

    customer_id: Identifier


class SearchCustomers(Payload):
    """Search living customers, newest first, without regard to case; every character is an ordinary one."""

    name_contains: Needle | None = None
    email_contains: Needle | None = None
    is_active: bool | None = None
    limit: Limit = 50
    offset: Offset = 0
    cursor: Cursor | None = None


class GetCustomerSummary(Payload):
    """Ask for a customer's read model."""

    customer_id: Identifier


class CustomerAnalytics(Payload):
    """Ask for the figures over all customers."""


@value(frozen=True)
class CustomerSummaryResult:
    """A customer's orders in figures; counts and sums are of placed orders."""

    customer_id: str
    name: str
    email: str
    total_orders: int
    total_spent: str
    last_order_date: datetime | None
    is_active: bool
    preferred_category: str | None


@value(frozen=True)
class CategoryFigures:
    """A category's placed orders and their revenue."""

    category: str
    orders: int
    revenue: str


@value(frozen=True)
class CustomerFigures:
    """A living customer's placed orders and what they amount to."""

    customer_id: str
    total_orders: int
    total_spent: str


@value(frozen=True)
class CustomerAnalyticsResult:
    """The figures over all customers; `new_customers_30_days` counts whole UTC days, today included."""

    total_customers: int
    active_customers: int
    new_customers_30_days: int
    total_orders: int
    total_revenue: str
    average_order_value: str
    top_categories: list[CategoryFigures]
    top_customers: list[CustomerFigures]
    as_of: date


def _create_keys(command: CreateCustomer) -> Keys:
    ids = (command.customer_id,) if command.customer_id else ()
    return Keys(customers=ids, emails=(fold_key(command.email),))


def _update_keys(command: UpdateCustomer) -> Keys:
    emails = (fold_key(command.email),) if "email" in command.model_fields_set else ()
    return Keys(customers=(command.customer_id,), emails=emails)


ADA_ID: Final = "0198c7a5-3c00-7000-8000-00000000ada0"
GRACE_ID: Final = "0198c7a5-3c00-7000-8000-0000000ace00"
_AT: Final = datetime(2026, 1, 31, 9, 30, tzinfo=UTC)
_ADA: Final = CustomerResult(
    ADA_ID,
    "Ada Lovelace",
    "ada@example.com",
    {"language": "en"},
    is_active=True,
    version=1,
    created_at=_AT,
    updated_at=_AT,
)

COMMANDS = (
    Kind(
        name="create_customer",
        description="Create a customer, active from the start; the e-mail address must be no living customer's",
        topic="commands",
        role=Role.WRITER,
        resource=RESOURCE,
        action="create",
        versions=(
            Version(
                1,
                CreateCustomer,
                examples=(
                    {
                        "customer_id": ADA_ID,
                        "name": "Ada Lovelace",
                        "email": "ada@example.com",
                        "preferences": {"language": "en"},
                    },
                    {"customer_id": GRACE_ID, "name": "Grace Hopper", "email": "grace@example.com"},
                ),
            ),
        ),
        key=("customer_id", "email"),
        result=CustomerResult,
        answers=(CREATED,),
        reply=created(RESOURCE, ADA_ID, _ADA),
        errors=(CustomerAlreadyExistsError,),
        keys=_create_keys,
    ),
    Kind(
        name="update_customer",
        description="Change what is known of a customer; one that is made inactive places no orders",
        topic="commands",
        role=Role.WRITER,
        resource=RESOURCE,
        action="update",
        versions=(Version(1, UpdateCustomer, examples=({"customer_id": ADA_ID, "name": "Ada King"},)),),
        key=("customer_id",),
        result=CustomerResult,
        answers=(DONE, UNCHANGED),
        reply=updated(RESOURCE, ADA_ID, replace(_ADA, name="Ada King", version=2)),
        errors=(CustomerNotFoundError, CustomerAlreadyExistsError, VersionConflictError),
        needs=("create_customer",),
        keys=_update_keys,
    ),
    Kind(
        name="delete_customer",
        description="Erase a customer's name, e-mail address and preferences for good; the orders keep the bare id",
        topic="commands",
        role=Role.WRITER,
        resource=RESOURCE,
        action="delete",
        versions=(Version(1, DeleteCustomer, examples=({"customer_id": GRACE_ID},)),),
        key=("customer_id",),
        result=None,
        reply=deleted(RESOURCE, GRACE_ID),
        errors=(CustomerNotFoundError,),
        needs=("create_customer",),
        keys=lambda command: Keys(customers=(command.customer_id,)),
    ),
)

QUERIES = (
    Kind(
        name="get_customer",
        description="One living customer",
        topic="queries",
        role=Role.READER,
        resource=RESOURCE,
        action="read",
        versions=(Version(1, GetCustomer, examples=({"customer_id": ADA_ID},)),),
        key=(),
        result=CustomerResult,
        reply=retrieved(RESOURCE, _ADA),
        errors=(CustomerNotFoundError,),
        needs=("create_customer",),
    ),
    Kind(
        name="search_customers",
        description="A page of the living customers whose name and e-mail address hold these parts, newest first",
        topic="queries",
        role=Role.READER,
        resource=RESOURCE,
        action="search",
        versions=(Version(1, SearchCustomers, examples=({"name_contains": "ada", "limit": 10},)),),
        key=(),
        result=Page[CustomerResult],
        reply=listed(RESOURCE, Page([_ADA], 1, 1, 10, has_more=False, next_cursor=None)),
        errors=(),
    ),
    Kind(
        name="get_customer_summary",
        description="The figures of one living customer's orders, never older than what was answered before",
        topic="queries",
        role=Role.READER,
        resource=RESOURCE,
        action="read",
        versions=(Version(1, GetCustomerSummary, examples=({"customer_id": ADA_ID},)),),
        key=(),
        result=CustomerSummaryResult,
        reply=retrieved(
            SUMMARY,
            CustomerSummaryResult(
                ADA_ID,
                "Ada Lovelace",
                "ada@example.com",
                total_orders=1,
                total_spent="249.50",
                last_order_date=_AT,
                is_active=True,
                preferred_category="FINANCE",
            ),
        ),
        errors=(CustomerNotFoundError,),
        needs=("create_customer",),
    ),
    Kind(
        name="customer_analytics",
        description="The figures of all customers and their placed orders, as of the UTC day of the question",
        topic="queries",
        role=Role.READER,
        resource=RESOURCE,
        action="read",
        versions=(Version(1, CustomerAnalytics, examples=({},)),),
        key=(),
        result=CustomerAnalyticsResult,
        reply=retrieved(
            ANALYTICS,
            CustomerAnalyticsResult(
                total_customers=2,
                active_customers=2,
                new_customers_30_days=1,
                total_orders=1,
                total_revenue="249.50",
                average_order_value="249.50",
                top_categories=[CategoryFigures("FINANCE", 1, "249.50")],
                top_customers=[CustomerFigures(ADA_ID, 1, "249.50")],
                as_of=date(2026, 1, 31),
            ),
        ),
        errors=(),
    ),
)
