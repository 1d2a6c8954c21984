"""How far a batch got: per partition, the records before the first one that has no end."""

from collections.abc import Sequence

from workers.pipeline.delivery import Delivery, Ended
from workers.ports import Position, Progress


def progress_of(deliveries: Sequence[Delivery], retry_after_s: float | None) -> tuple[list[Ended], Progress]:
    """Return the deliveries that may be answered, and the offsets that may be acked after that.

    A refusal that stands behind an undecided record of its partition is dropped: it comes again, after that record.
    What was recalled has no offset to be acked; undecided, it is recalled again.
    """
    decided: dict[Position, int] = {}
    stopped: set[Position] = set()
    answered: list[Ended] = []
    for delivery in deliveries:
        position = delivery.position
        if position in stopped:
            continue
        consequences = delivery.consequences
        if consequences is None:
            stopped.add(position)
            continue
        if not delivery.is_recalled:
            decided[position] = delivery.record.offset + 1
        answered.append((delivery, consequences))
    return answered, Progress(decided, retry_after_s)
