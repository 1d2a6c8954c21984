"""What a use case is told beside its command: time and ids are arguments."""

from collections.abc import Callable
from datetime import datetime

from contracts.values import value


@value(frozen=True, slots=True)
class Context:
    """One delivery's circumstances.

    `now` is when the broker stamped the message (UTC): what was valid then is decided by it, also after a backlog.
    `new_id` makes a UUID of version 7.
    """

    now: datetime
    new_id: Callable[[], str]
    caller: str
    is_operator: bool = False
