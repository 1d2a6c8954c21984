"""Publishing dead letters: stored by all replicas, or the batch comes again."""

from collections.abc import Sequence

from workers.kafka.replies import Publisher
from workers.ports import BrokerAwayError, Message


class DeadLetterPublisher:
    """The `DeadLetterPort`. Its topics are ours: one that takes nothing is an outage, never a reason to go on."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher

    async def publish(self, letters: Sequence[Message]) -> None:
        """Publish, at most about 6 s. Raise BrokerAwayError unless all replicas have every one of them."""
        if not letters:
            return
        lost = await self._publisher.publish(letters, closable=False)
        if lost:
            topic = letters[lost[0].index].topic
            raise BrokerAwayError(f"{len(lost)} dead letters could not be stored in {topic}: {lost[0].reason}")
