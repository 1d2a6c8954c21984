"""The types of fields that several payloads share; each limit of the domain stands here, once."""

from typing import Annotated, Any, Final

from pydantic import AfterValidator, Field, StringConstraints, ValidationInfo
from pydantic_core import PydanticCustomError

from contracts.text import Email, JsonObject, Text

UUID_PATTERN = r"^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$"

Identifier = Annotated[
    str,
    StringConstraints(pattern=UUID_PATTERN, to_lower=True),
    Field(description="A UUID; kept and answered in lower case", json_schema_extra={"format": "uuid"}),
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
MAX_REACH: Final = 10_000
"""How far into a list an offset, or the number of a page, leads: what lies before is passed over, row by row."""


def _offset_within_reach(offset: int) -> int:
    if offset > MAX_REACH:
        text = "The offset should be at most {max_offset}: further on, use the cursor of the page before"
        raise PydanticCustomError("reach", text, {"max_offset": MAX_REACH})
    return offset


def _page_within_reach(page: int, info: ValidationInfo) -> int:
    if page * info.data.get("page_size", 1) > MAX_REACH:
        text = "page times page_size should be at most {max_rows}: further on, use the cursor of the page before"
        raise PydanticCustomError("reach", text, {"max_rows": MAX_REACH})
    return page


Offset = Annotated[int, Field(ge=0, json_schema_extra={"maximum": MAX_REACH}), AfterValidator(_offset_within_reach)]
Cursor = Annotated[str, Field(description="`next_cursor` of the page before, with the same filters")]
PageNumber = Annotated[int, Field(ge=1, le=10_000_000)]
PageSize = Limit
BoundedPageNumber = Annotated[
    int,
    Field(
        ge=1,
        json_schema_extra={"maximum": MAX_REACH},
        description=f"page × page_size at most {MAX_REACH:,}; further on, use the cursor",
    ),
    AfterValidator(_page_within_reach),
]
"""Of a list that is passed over row by row: with the `page_size` before it, it leads as far as the greatest offset."""
Attributes = Annotated[dict[str, object], JsonObject(2 * 1024)]
"""What an order's line, or an item of a product's version, says of itself."""


def since(version: str, what: str) -> Any:  # noqa: ANN401 - as pydantic's `Field`
    """Say of a result's field what it is, and since which version of the contract there is one.

    An outcome that was stored before is repeated as it was, and workers of the release before answer as they do: so it
    is not required of an answer.
    """
    told = f"{what}. Absent where a release before version {version} of the contract made the answer"
    return Field(description=told, json_schema_extra={"x-since": version})


def absent() -> Any:  # noqa: ANN401 - pydantic's Field has this type, too
    """Make a field that may be left out, but not be null; ask `model_fields_set` whether it was given."""
    return Field(default_factory=lambda: None)
