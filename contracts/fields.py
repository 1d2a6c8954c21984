"""The types of fields that several payloads share; each limit of the domain stands here, once."""

from typing import Annotated, Any

from pydantic import Field, StringConstraints

from contracts.text import Email, JsonObject, Text

UUID_PATTERN = r"^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$"

Identifier = Annotated[
    str, StringConstraints(pattern=UUID_PATTERN, to_lower=True), Field(json_schema_extra={"format": "uuid"})
]
"""A UUID in its usual form; kept and answered in lower case."""
MessageId = Annotated[str, StringConstraints(pattern=r"^[ -~]{1,128}$")]
"""1-128 printable ASCII characters."""
CustomerName = Annotated[str, Text(1, 200)]
EmailAddress = Email
Preferences = Annotated[dict[str, object], JsonObject(16 * 1024)]
Needle = Annotated[str, Text(1, 254)]
"""What a search looks for; nothing longer than the longest field can match."""
Limit = Annotated[int, Field(ge=1, le=100)]
Offset = Annotated[int, Field(ge=0, le=1_000_000_000)]
PageNumber = Annotated[int, Field(ge=1, le=10_000_000)]
"""With the greatest page size it leads as far as the greatest offset."""
PageSize = Limit
Attributes = Annotated[dict[str, object], JsonObject(2 * 1024)]
"""What an order's line, or an item of a product's version, says of itself."""


def absent() -> Any:  # noqa: ANN401 - pydantic's Field has this type, too
    """Make a field that may be left out, but not be null; ask `model_fields_set` whether it was given."""
    return Field(default_factory=lambda: None)
