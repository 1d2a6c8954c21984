"""Order behind a defect: later commands of a key wait until the one that failed was brought back.

For the kinds that ask for it. The command that met the defect is the head of its key's queue; later ones of the key
are parked behind it: answered with its incident, dead-lettered, not applied. An operator brings them back (`catalog dlq
replay`, which goes by the first arrivals); each is let through when it is its turn, and is out of the queue once it
came to an end that is no defect. Whoever dies before the queues are written leaves all of it to be decided again.

Once the head has had its turn, the key need not pause for the rest: the next command of the key brings those before it
back out of the log, as if they had been delivered again, and follows them. One of them that meets a defect is the new
head, and waits for an operator; so does what the log has no longer.
"""

import asyncio
import hashlib
import hmac
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Final, Protocol

import structlog

from persistence import parked_commands
from persistence.engine import Engine
from persistence.parked_commands import Arrival, Entering, Parked, Queues
from workers.pipeline.delivery import Delivery, Ended, MessageKey
from workers.pipeline.ends import End, Waiting
from workers.ports import Record

_log = structlog.get_logger(__name__)

RECALLED_MOST: Final = 200
"""How many parked commands a batch brings back at most, beyond as many as it has itself."""

_RECALL_TIMEOUT_S: Final = 10.0


class Recall(Protocol):
    """Fetches records of the commands topic again, by their places."""

    async def __call__(self, partition: int, offsets: Sequence[int]) -> Sequence[Record]:
        """Return those that are still there, by offset."""
        ...


@dataclass(frozen=True, slots=True)
class Parking:
    """Which kinds keep their order behind a defect, and the queues in the database."""

    engine: Engine
    topic: str
    kinds: frozenset[str]
    hmac_key: bytes = field(repr=False)
    previous_hmac_key: bytes | None = field(default=None, repr=False)
    """While the key is exchanged: queues under the other one are gone through as well."""
    recall: Recall | None = None
    """Without it everything parked waits for an operator."""

    def unknown_queues(self) -> "KeyQueues":
        """Begin with queues that nobody has looked up."""
        return KeyQueues(self, {}, (), are_known=False)

    async def queues(self, deliveries: Sequence[Delivery], *, any_parked: bool) -> "KeyQueues":
        """Look up the queues of a batch's keys; raises what the database raises. Costs nothing where none is parked."""
        if not any_parked:
            return KeyQueues(self, {}, deliveries)
        known = [one for one in deliveries if one.identity is not None]
        keyed = [one for one in known if one.record.key is not None]
        other = {self.key_of(one): self._previous_of(one) for one in keyed}
        keys, own = {*other, *filter(None, other.values())}, {arrival_of(one) for one in keyed}
        found = await parked_commands.load(self.engine, self.topic, keys, own) if keys else {}
        if self.previous_hmac_key is not None:
            found = _merged(found, other)
        return KeyQueues(self, found, known)

    def _previous_of(self, delivery: Delivery) -> bytes | None:
        if self.previous_hmac_key is None:
            return None
        return hmac.digest(self.previous_hmac_key, delivery.record.key or b"", hashlib.sha256)

    def places_of(self, delivery: Delivery, arrival: Arrival) -> list[tuple[bytes, Arrival]]:
        """Name the places where a delivery may be queued."""
        keys = (self.key_of(delivery), self._previous_of(delivery))
        return [(key, arrival) for key in keys if key is not None]

    async def returning(self, queues: "KeyQueues") -> list[Record]:
        """Bring back what stands before the batch's commands and has nobody to wait for; in the order of its queue.

        What the log has no longer, or cannot be read, waits for an operator. Raises what the database raises.
        """
        found: list[Record] = []
        if self.recall is None:
            return found
        for keys, partition in queues.next_in_turn():
            most = RECALLED_MOST + len(queues.deliveries)
            arrivals = await parked_commands.front(self.engine, self.topic, keys, most)
            places = [one.offset for one in arrivals if one.partition == partition]
            found += await self._recalled(self.recall, keys, partition, places)
        return found

    async def _recalled(
        self, recall: Recall, keys: Sequence[bytes], partition: int, offsets: Sequence[int]
    ) -> Sequence[Record]:
        try:
            async with asyncio.timeout(_RECALL_TIMEOUT_S):
                records = await recall(partition, offsets)
        except Exception as error:  # noqa: BLE001 (they wait for an operator, as they do without it)
            _log.warning("parked_not_recalled", error=type(error).__name__)
            records = ()
        there = {one.offset: one for one in records}
        unbroken = list(takewhile(lambda offset: offset in there, offsets))
        if not unbroken:
            await parked_commands.stay(self.engine, self.topic, keys)
        return [there[offset] for offset in unbroken]

    def key_of(self, delivery: Delivery) -> bytes:
        """Hash a record's key."""
        return hmac.digest(self.hmac_key, delivery.record.key or b"", hashlib.sha256)

    def concerns(self, delivery: Delivery) -> bool:
        """Say whether a delivery's kind keeps its order behind a defect; without a key there is none."""
        return delivery.kind is not None and delivery.kind.name in self.kinds and delivery.record.key is not None


@dataclass(frozen=True, slots=True)
class KeyQueues:
    """The queues of a batch's keys, as it found them."""

    parking: Parking
    found: Queues
    deliveries: Sequence[Delivery]
    """Of the batch, those whose sender is known."""
    are_known: bool = True

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to keep in order."""
        return not self.found and not self.parking.kinds

    def next_in_turn(self) -> list[tuple[Sequence[bytes], int]]:
        """Name the keys, each with its partition, whose front may return and which a command of the batch waits for."""
        if not self.found:
            return []
        order = self._order()
        wanted: dict[tuple[Sequence[bytes], int], None] = {}
        for delivery in self.deliveries:
            if delivery.end is None and delivery.replay is None and order.must_wait(delivery):
                head = order.queues[self.parking.key_of(delivery)][0]
                if head.may_return and head.arrival.partition == delivery.record.partition:
                    keys = tuple(key for key, _ in self.parking.places_of(delivery, head.arrival))
                    wanted[keys, delivery.record.partition] = None
        return list(wanted)

    def order(self) -> "KeyOrder | None":
        """Say whose turn it is by now: after all of the batch that has come to an end; None where nobody waits."""
        return None if self.is_idle else self._order()

    def _order(self) -> "KeyOrder":
        order = KeyOrder(self.parking, self._copy())
        for delivery in self.deliveries:
            order.note(delivery)
        return order

    def _copy(self) -> defaultdict[bytes, list[Parked]]:
        return defaultdict(list, {key: list(queue) for key, queue in self.found.items()})

    def keep_places(self) -> None:
        """Let what is queued and was delivered again wait on, where it would be refused for coming late or too often.

        Its dead letter can be brought back, and what follows it is to come after it.
        """
        if not self.found:
            return
        order = KeyOrder(self.parking, self._copy())
        for delivery in self.deliveries:
            consequences = delivery.consequences
            if consequences is not None and consequences.says_nothing and (place := order.place_of(delivery)):
                delivery.come_to(place)

    async def settle(self, decided: Iterable[Ended]) -> None:
        """Write down what a batch changed, before any of it is answered; raises what the database raises."""
        if self.is_idle or not self.are_known:
            return
        waiting = {(key, one.arrival) for key, queue in self.found.items() for one in queue}
        parked: dict[tuple[bytes, Arrival], Entering] = {}
        released: dict[tuple[bytes, Arrival], Sequence[tuple[bytes, Arrival]]] = {}
        for delivery, consequences in decided:
            if delivery.record.key is None:
                continue
            key, arrival = self.parking.key_of(delivery), arrival_of(delivery)
            place = key, arrival
            queued = consequences.queued
            if queued is None:
                if parked.pop(place, None) is not None or place in waiting:
                    released[place] = self.parking.places_of(delivery, arrival)
            elif delivery.key is not None and (not queued.is_head or self.parking.concerns(delivery)):
                released.pop(place, None)
                parked[place] = Entering(key, Parked(arrival, queued.incident), delivery.key)
        if parked or released:
            leaving = [place for one in released.values() for place in one]
            await parked_commands.settle(self.parking.engine, self.parking.topic, list(parked.values()), leaving)


@dataclass(frozen=True, slots=True)
class KeyOrder:
    """Whose turn it is in the queues of the keys, within one attempt at a batch."""

    parking: Parking
    queues: dict[bytes, list[Parked]]
    held: dict[MessageKey, Delivery] = field(default_factory=dict)
    """By message: what waits, and with it a second delivery of it in the same batch."""

    def waits(self, delivery: Delivery, *, is_late: bool) -> End | None:
        """Say what a delivery waits for; one that comes too late waits on where it has a place, for nobody else."""
        return self.place_of(delivery) if is_late else self.must_wait(delivery)

    def must_wait(self, delivery: Delivery) -> End | None:
        """Say what a delivery waits for; None when it may go on: it is the head, or came before it."""
        if self.held and delivery.key is not None and (held := self.held.get(delivery.key)):
            return held.end
        if not self.parking.concerns(delivery):
            return None
        queue = self.queues.get(self.parking.key_of(delivery))
        if not queue or arrival_of(delivery) <= queue[0].arrival:
            return None
        head = queue[0]
        return Waiting(f"{head.arrival.partition}/{head.arrival.offset}", head.incident)

    def place_of(self, delivery: Delivery) -> Waiting | None:
        """Say that a delivery waits on, where it has a place in its queue and nobody brought it back."""
        if delivery.replay is not None or delivery.record.key is None:
            return None
        arrival = arrival_of(delivery)
        for one in self.queues.get(self.parking.key_of(delivery), ()):
            if one.arrival == arrival:
                return Waiting(f"{arrival.partition}/{arrival.offset}", one.incident)
        return None

    def note(self, delivery: Delivery) -> None:
        """Take a delivery's end into account."""
        consequences = delivery.consequences
        if consequences is None or delivery.record.key is None or not (self.queues or self.parking.kinds):
            return
        arrival = arrival_of(delivery)
        queue = self.queues[self.parking.key_of(delivery)]
        place = bisect_left(queue, arrival, key=_arrival)
        known = place < len(queue) and queue[place].arrival == arrival
        queued = consequences.queued
        if queued is None:
            if known:
                del queue[place]
        elif delivery.key is not None and (not queued.is_head or self.parking.concerns(delivery)):
            if not queued.is_head:
                self.held[delivery.key] = delivery
            if not known:
                queue.insert(place, Parked(arrival, queued.incident))


def _merged(found: Queues, other: Mapping[bytes, bytes | None]) -> Queues:
    """Put the queues of each key under both hashes together, in order, under the first; one place counts once."""
    queues = {}
    for first, previous in other.items():
        places = {one.arrival: one for key in (previous, first) if key is not None for one in found.get(key, ())}
        if places:
            queues[first] = [places[arrival] for arrival in sorted(places)]
    return queues


def _arrival(one: Parked) -> Arrival:
    return one.arrival


def arrival_of(delivery: Delivery) -> Arrival:
    """Return where and when a message first arrived."""
    partition, offset = delivery.first_position
    return Arrival(partition, offset, delivery.stamped_at)
