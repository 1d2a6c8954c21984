"""Values that messages make on their way by the thousand: nobody may change them, and making one is cheap.

A frozen data class sets each field by a call, which costs four times as much as making a plain one. Such a value is
frozen to the type checker, and a plain data class when it runs. What envelopes show has no slots: the encoder takes a
value's dict as it is, and would ask for each slot by its name.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataclasses import dataclass as value
else:
    from dataclasses import dataclass

    def value(*, frozen: bool, slots: bool = False) -> Callable[[type[Any]], type[Any]]:
        """Decorate as `dataclass` does, but for that; what is frozen has a hash."""
        return dataclass(slots=slots, unsafe_hash=frozen)


__all__ = ["value"]
