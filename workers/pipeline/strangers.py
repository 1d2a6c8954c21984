"""What is kept of senders that nobody verified: so much a minute, whoever they are and however many.

They pay no rate limit, so whatever each of their messages would add without end (a letter in full, a log line) is taken
from an allowance of the process.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from workers.ports import LogPlace

WINDOW_S: Final = 60.0
LETTERS_A_MINUTE: Final = 600
"""How many of their dead letters go in full in any minute, of one worker; by the contract."""


@dataclass(slots=True)
class StrangersAllowance:
    """So many in any 60 s, by `clock` (in seconds). It remembers as many records as it grants, and no more.

    A record that is granted is granted again: a batch that comes again in an outage of the broker uses up nothing.
    """

    limit: int = LETTERS_A_MINUTE
    clock: Callable[[], float] = time.monotonic
    _granted: "OrderedDict[LogPlace, float]" = field(default_factory=OrderedDict)

    def grants(self, place: LogPlace) -> bool:
        """Tell whether there is something left for this record, and take it."""
        now = self.clock()
        granted = self._granted
        while granted and not 0 <= now - next(iter(granted.values())) < WINDOW_S:  # < 0: the clock was set back
            granted.popitem(last=False)
        if place in granted:
            return True
        if len(granted) >= self.limit:
            return False
        granted[place] = now
        return True
