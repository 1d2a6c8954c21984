# Generated from the contract by clients/python/generate.py: edit neither by hand.
"""Objects within payloads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from catalog_client.unset import UNSET, Unset


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionItem:
    """An item of a version; items are listed by position."""

    name: str
    """1 to 100 characters."""
    position: int
    attributes: Mapping[str, Any] | None | Unset = UNSET
    """At most 2 KiB in canonical form (RFC 8785), 32 levels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationRule:
    """A rule for what orders say of the product, in force from its first to its last day."""

    name: str
    """1 to 100 characters."""
    parameters: Mapping[str, Any]
    """At most 16 KiB in canonical form (RFC 8785), 32 levels."""
    start_date: date | str
    """A day, YYYY-MM-DD."""
    end_date: date | str | None | Unset = UNSET
    """Inclusive, not before `start_date`; null: no end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateProduct:
    """Create a product."""

    mnemonic: str
    """A product's code."""
    overview: str
    """0 to 1000 characters."""
    is_confidential: bool | Unset = UNSET
    """otherwise False."""
    category: str | None | Unset = UNSET
    """1 to 100 characters."""
    tags: Sequence[str] | None | Unset = UNSET
    """0 to 20 of them."""
    catalog: Mapping[str, Any] | None | Unset = UNSET
    """At most 64 KiB in canonical form (RFC 8785), 32 levels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderLine:
    """So much of a product, at that price apiece; the product's rules judge the attributes, {} where there are
    none.
    """

    mnemonic: str
    """A product's code."""
    quantity: int
    """1 to 1000000."""
    unit_price: str
    """An amount of the deployment's one currency (CURRENCY), with at most two decimals."""
    attributes: Mapping[str, Any] | None | Unset = UNSET
    """At most 2 KiB in canonical form (RFC 8785), 32 levels."""
