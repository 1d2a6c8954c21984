"""The catalogue of message templates. Every text of an envelope is made here, so that a caller may rely on its form.

Products are named by mnemonic, customers and orders by id: no text ever holds personal data.
"""

import re
from typing import Final

HIDDEN = "(hidden)"
"""Stands for an e-mail address wherever a template asks for a value."""

_PLAIN: Final = re.compile(r"[A-Za-z0-9_.-]{1,200}")

REQUEST_VALIDATION_FAILED = "Request validation failed"


def plain(name: str) -> str:
    """Return a name that a sender chose, such as that of an unknown field, unless it might be anything else."""
    return name if _PLAIN.fullmatch(name) else HIDDEN


def created(resource: str, identifier: str) -> str:
    """CREATED."""
    return f"{resource} '{identifier}' created successfully"


def updated(resource: str, identifier: str) -> str:
    """UPDATED."""
    return f"{resource} '{identifier}' updated successfully"


def deleted(resource: str, identifier: str) -> str:
    """DELETED."""
    return f"{resource} '{identifier}' deleted successfully"


def unchanged(resource: str, identifier: str) -> str:
    """UNCHANGED: the text of a neutral envelope."""
    return f"{resource} '{identifier}' unchanged: nothing to do"


def retrieved(resource: str) -> str:
    """RETRIEVED."""
    return f"{resource} retrieved successfully"


def listed(resource: str, count: int) -> str:
    """LISTED; `count` is the number of items on the page."""
    return f"Found {count} {resource}(s)"


def not_found(resource: str, field: str, value: str) -> str:
    """NOT_FOUND."""
    return f"{resource} with {field} '{value}' not found"


def already_exists(resource: str, field: str, value: str) -> str:
    """ALREADY_EXISTS; for an e-mail the value is `HIDDEN`."""
    return f"{resource} with {field} '{value}' already exists"


def validation_failed(field: str, reason: str) -> str:
    """VALIDATION_FAILED."""
    return f"{field} validation failed: {reason}"


def unauthorized(action: str, resource: str) -> str:
    """UNAUTHORIZED."""
    return f"Insufficient permissions to {action} {resource}"


def partial_success(action: str, warning_count: int) -> str:
    """PARTIAL_SUCCESS."""
    return f"{action} completed with {warning_count} warning(s)"


def deprecated(alternative: str) -> str:
    """DEPRECATED."""
    return f"This version is deprecated. Please use {alternative}"
