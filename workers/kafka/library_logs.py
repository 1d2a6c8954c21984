"""aiokafka logs every attempt of an outage, seventy lines a second of them; one of each kind is enough for a while."""

import logging
import time
from collections.abc import Callable
from typing import Final

SAY_AGAIN_S: Final = 10.0
"""Between two lines made of the same text, whatever its arguments."""

_LOGGERS: Final = (
    "aiokafka",
    "aiokafka.cluster",
    "aiokafka.conn",
    "aiokafka.consumer.fetcher",
    "aiokafka.consumer.group_coordinator",
    "aiokafka.producer.sender",
)


class OncePerWhile(logging.Filter):
    """Lets a text of a logger pass if it did not a short while ago."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._said_at: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether the line is written."""
        text, now = (record.name, str(record.msg)), self._clock()
        if now - self._said_at.get(text, float("-inf")) < SAY_AGAIN_S:
            return False
        self._said_at[text] = now
        return True


def limit() -> None:
    """Have aiokafka repeat itself less in this process. Doing it again changes nothing."""
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        if not any(isinstance(one, OncePerWhile) for one in logger.filters):
            logger.addFilter(OncePerWhile())
