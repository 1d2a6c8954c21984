"""What a field is that was not given: apart from None, which clears it."""

from enum import Enum
from typing import Final


class Unset(Enum):
    """The type of `UNSET`."""

    UNSET = "UNSET"

    def __repr__(self) -> str:
        return "UNSET"

    def __bool__(self) -> bool:
        return False


UNSET: Final = Unset.UNSET
"""Not given. An optional field that is `UNSET` is left out of the request; one that is None is sent as null."""
