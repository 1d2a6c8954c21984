"""Customers on the wire: their commands, queries and results."""

from dataclasses import dataclass
from datetime import date, datetime
from typing import Annotated

from pydantic import Field

from contracts.envelope import Page
from contracts.fields import CustomerName, EmailAddress, Identifier, Limit, Needle, Offset, Preferences, absent
from contracts.kinds import Keys, Kind, Payload, Role, Version
from contracts.text import fold_key

RESOURCE = "Customer"


@dataclass(frozen=True, slots=True)
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
    cursor: str | None = None


class GetCustomerSummary(Payload):
    """Ask for a customer's read model."""

    customer_id: Identifier


class CustomerAnalytics(Payload):
    """Ask for the figures over all customers."""


@dataclass(frozen=True, slots=True)
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


@dataclass(frozen=True, slots=True)
class CategoryFigures:
    """A category's placed orders and their revenue."""

    category: str
    orders: int
    revenue: str


@dataclass(frozen=True, slots=True)
class CustomerFigures:
    """A living customer's placed orders and what they amount to."""

    customer_id: str
    total_orders: int
    total_spent: str


@dataclass(frozen=True, slots=True)
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


COMMANDS = (
    Kind(
        "create_customer",
        "commands",
        Role.WRITER,
        RESOURCE,
        "create",
        (Version(1, CreateCustomer),),
        result=CustomerResult,
        keys=_create_keys,
    ),
    Kind(
        "update_customer",
        "commands",
        Role.WRITER,
        RESOURCE,
        "update",
        (Version(1, UpdateCustomer),),
        result=CustomerResult,
        keys=_update_keys,
    ),
    Kind(
        "delete_customer",
        "commands",
        Role.WRITER,
        RESOURCE,
        "delete",
        (Version(1, DeleteCustomer),),
        keys=lambda command: Keys(customers=(command.customer_id,)),
    ),
)

QUERIES = (
    Kind("get_customer", "queries", Role.READER, RESOURCE, "read", (Version(1, GetCustomer),), result=CustomerResult),
    Kind("search_customers", "queries", Role.READER, RESOURCE, "search", (Version(1, SearchCustomers),), result=Page),
    Kind(
        "get_customer_summary",
        "queries",
        Role.READER,
        RESOURCE,
        "read",
        (Version(1, GetCustomerSummary),),
        result=CustomerSummaryResult,
    ),
    Kind(
        "customer_analytics",
        "queries",
        Role.READER,
        RESOURCE,
        "read",
        (Version(1, CustomerAnalytics),),
        result=CustomerAnalyticsResult,
    ),
)
