"""The names of the topics, made from one prefix."""

import re
from dataclasses import dataclass
from functools import cached_property

_REPLY_NAME = re.compile(r"[A-Za-z0-9._-]{1,180}")


@dataclass(frozen=True)
class Topics:
    """All names that start with `TOPIC_PREFIX`."""

    prefix: str = "catalog"

    @cached_property
    def commands(self) -> str:
        """Written by upstream systems; retention 7 days."""
        return f"{self.prefix}.commands"

    @cached_property
    def queries(self) -> str:
        """Written by query consumers; retention 1 hour."""
        return f"{self.prefix}.queries"

    @cached_property
    def replies(self) -> str:
        """What every reply topic starts with."""
        return f"{self.prefix}.replies."

    def dead_letters(self, topic: str) -> str:
        """The dead-letter topic that serves `topic`."""
        return f"{topic}.dead-letters"


def is_reply_topic(name: str, replies: str) -> bool:
    """Tell whether a caller may be answered on `name`, by its form; all that may be start with `replies`."""
    return name.startswith(replies) and _REPLY_NAME.fullmatch(name, len(replies)) is not None
