"""What the use cases of one transaction come to."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from persistence.outcomes import Outcome
from persistence.unit_of_work import BatchUnitOfWork
from workers.pipeline.delivery import Admitted, MessageKey
from workers.pipeline.parking import KeyOrder
from workers.ports import Position


@dataclass(slots=True)
class Dispatch:
    """The messages of one transaction, as far as they were given to their use cases."""

    uow: BatchUnitOfWork
    order: KeyOrder | None
    """None where nobody waits for anybody."""
    outcomes: dict[MessageKey, Outcome] = field(default_factory=dict)
    stopped: set[Position] = field(default_factory=set)
    """Partitions of which nothing more is given to its use case in this transaction."""
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    """By kind."""

    def keep(
        self, one: Admitted, content_hmac: bytes, envelope: bytes, subjects: Sequence[str], cache_keys: Sequence[str]
    ) -> None:
        """Have an outcome stored with the effect."""
        record = one.delivery.record
        self.outcomes[one.key] = Outcome(
            *one.key,
            one.kind.name,
            content_hmac,
            envelope,
            subjects,
            cache_keys,
            record.topic,
            record.partition,
            record.offset,
            one.context.now,
        )
