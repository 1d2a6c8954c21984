"""Order behind a defect: later commands of a key wait until the one that failed was brought back.

For the kinds that ask for it. The command that met the defect is the head of its key's queue; later ones of the key
are parked behind it: answered with its incident, dead-lettered, not applied. An operator brings them back (`catalog dlq
replay`, which goes by the first arrivals); each is let through when it is its turn, and is out of the queue once it
came to an end that is no defect. Whoever dies before the queues are written leaves all of it to be decided again.
"""

import hashlib
import hmac
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from persistence import parked_commands
from persistence.engine import Engine
from persistence.parked_commands import Arrival, Parked, Queues
from workers.pipeline.delivery import Broken, Delivery, Waiting


@dataclass(frozen=True, slots=True)
class Parking:
    """Which kinds keep their order behind a defect, and the queues in the database."""

    engine: Engine
    topic: str
    kinds: frozenset[str]
    hmac_key: bytes = field(repr=False)

    async def sitting(self, deliveries: Sequence[Delivery], *, any_parked: bool) -> "Sitting":
        """Look up the queues of a batch's keys; raises what the database raises. Costs nothing where none is parked."""
        keys = {self.key_of(one) for one in deliveries if one.record.key is not None} if any_parked else set()
        queues = await parked_commands.load(self.engine, self.topic, keys) if keys else {}
        return Sitting(self, queues, deliveries)

    def key_of(self, delivery: Delivery) -> bytes:
        """Hash a record's key."""
        return hmac.digest(self.hmac_key, delivery.record.key or b"", hashlib.sha256)

    def concerns(self, delivery: Delivery) -> bool:
        """Say whether a delivery's kind keeps its order behind a defect; without a key there is none."""
        return delivery.kind is not None and delivery.kind.name in self.kinds and delivery.record.key is not None


@dataclass(frozen=True, slots=True)
class Sitting:
    """The queues as one batch found them."""

    parking: Parking
    found: Queues
    deliveries: Sequence[Delivery]

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to keep in order."""
        return not self.found and not self.parking.kinds

    def turns(self) -> "Turns":
        """Say whose turn it is by now: after all of the batch that has come to an end."""
        turns = Turns(self.parking, defaultdict(list, {key: list(queue) for key, queue in self.found.items()}))
        if not self.is_idle:
            for delivery in self.deliveries:
                turns.note(delivery)
        return turns

    async def settle(self, decided: Iterable[Delivery]) -> None:
        """Write down what a batch changed, before any of it is answered; raises what the database raises."""
        if self.is_idle:
            return
        waiting = {(key, one.arrival) for key, queue in self.found.items() for one in queue}
        parked: dict[tuple[bytes, Arrival], Parked] = {}
        released: dict[tuple[bytes, Arrival], None] = {}
        for delivery in decided:
            if delivery.record.key is None:
                continue
            place = self.parking.key_of(delivery), arrival_of(delivery)
            match delivery.end:
                case Waiting(_, incident):
                    parked[place] = Parked(place[1], incident)
                case Broken(incident) if self.parking.concerns(delivery):
                    parked[place] = Parked(place[1], incident)
                case Broken():
                    pass
                case _:
                    if parked.pop(place, None) is not None or place in waiting:
                        released[place] = None
        if parked or released:
            await parked_commands.settle(
                self.parking.engine,
                self.parking.topic,
                [(key, one) for (key, _), one in parked.items()],
                list(released),
            )


@dataclass(frozen=True, slots=True)
class Turns:
    """Whose turn it is, within one attempt at a batch."""

    parking: Parking
    queues: dict[bytes, list[Parked]]

    def must_wait(self, delivery: Delivery) -> Waiting | None:
        """Say what a delivery waits for; None when it may go on."""
        if not self.parking.concerns(delivery):
            return None
        queue = self.queues.get(self.parking.key_of(delivery))
        if not queue or queue[0].arrival == arrival_of(delivery):
            return None
        head = queue[0]
        return Waiting(f"{head.arrival.partition}/{head.arrival.offset}", head.incident)

    def note(self, delivery: Delivery) -> None:
        """Take a delivery's end into account."""
        if delivery.end is None or delivery.record.key is None or not (self.queues or self.parking.kinds):
            return
        key, arrival = self.parking.key_of(delivery), arrival_of(delivery)
        queue = self.queues[key]
        match delivery.end:
            case Waiting(_, incident) | Broken(incident):
                known = any(one.arrival == arrival for one in queue)
                if not known and (isinstance(delivery.end, Waiting) or self.parking.concerns(delivery)):
                    queue.append(Parked(arrival, incident))
            case _:
                queue[:] = [one for one in queue if one.arrival != arrival]


def arrival_of(delivery: Delivery) -> Arrival:
    """Return where and when a message first arrived."""
    partition, offset = delivery.first_position
    return Arrival(delivery.stamped_at, partition, offset)
