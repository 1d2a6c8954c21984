"""Counts dead letters where they are known to be stored."""

from collections import Counter
from collections.abc import Sequence

from prometheus_client import Counter as Metric

from workers.ports import DeadLetterPort, Message


class CountedDeadLetters:
    """A `DeadLetterPort` that counts what another one published, by reason."""

    def __init__(self, port: DeadLetterPort, published: Metric) -> None:
        self._port = port
        self._published = published

    async def publish(self, letters: Sequence[Message]) -> None:
        """Publish; what was not stored is not counted. Raises what the other one raises."""
        await self._port.publish(letters)
        reasons = Counter(dict(letter.headers).get("dlq.reason") or b"" for letter in letters)
        for reason, number in reasons.items():
            self._published.labels(reason.decode()).inc(number)
