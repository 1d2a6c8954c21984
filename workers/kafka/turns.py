"""A batch is shared among the partitions that have records: none of them fills it while others wait.

aiokafka's `getmany` empties the first partition that it has records of before it looks at the next: with 5,000 records
in one of them, ten batches of 500 are that partition's alone. Here each gets the same part of a batch, and what one
leaves goes to those that have more; so with its bytes, and with the time that reading may take. Whose turn came first
comes last the next time. What does not fit comes with the next batch: of a partition whose records take long to unpack
only its own are late.

What `getmany` does besides is done here as well: it reports errors, waits for records, tells the fetching task that a
partition's buffer is empty, and drops what was fetched for a position that is not the current one.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, ConsumerRecord
from aiokafka.consumer.fetcher import FetchError, FetchResult
from aiokafka.errors import ConsumerStoppedError
from aiokafka.structs import TopicPartition

from workers.kafka.allowance import REQUEST, Allowance
from workers.kafka.records import RecordBatches
from workers.kafka.unpacking import MAX_REMEMBERED_BYTES, PIECE_BYTES

Batch = dict[TopicPartition, list[ConsumerRecord[bytes, bytes]]]

BATCH_BYTES: Final = 32 * 1024 * 1024
"""Of all that is unpacked at a time: a batch's records, and what is kept for later ones. Lanes share it, as each has a
batch in hand; what a decoder must remember is more than a share may be, and is bound for each."""
READING_S: Final = 0.025
"""CPU time for one batch, before others of the event loop have their turn."""


async def take(consumer: AIOKafkaConsumer, timeout_s: float, max_records: int, lanes: int = 1) -> Batch:
    """The next records, at most `max_records` of all partitions together; none after `timeout_s` without any.

    They hold no more than the part of a worker's bytes that is each of its `lanes`'.

    Raise what aiokafka's `getmany` raises. There is no suspension between the last look at what is fetched and the
    return.
    """
    if consumer._closed:  # noqa: SLF001 - as `getmany` begins
        raise ConsumerStoppedError
    consumer._coordinator.check_errors()  # noqa: SLF001 - as `getmany` begins
    fetcher = consumer._fetcher  # noqa: SLF001 - aiokafka hands its records out in no other way
    clock = asyncio.get_running_loop().time
    ends_at = clock() + timeout_s
    with consumer._subscription.fetch_context():  # noqa: SLF001 - as `getmany` does: it is alive
        while True:
            if fetcher._subscriptions.reassignment_in_progress:  # noqa: SLF001
                await fetcher._subscriptions.wait_for_assignment()  # noqa: SLF001
            batch = share_out(fetcher, max_records, lanes=lanes)
            left_s = ends_at - clock()
            if batch or left_s <= 0:
                return batch
            if stopped(fetcher):
                await asyncio.sleep(0)
                continue
            waiter = fetcher._create_fetch_waiter()  # noqa: SLF001
            await asyncio.wait([waiter], timeout=left_s)
            if fetcher._closed or not waiter.done():  # noqa: SLF001
                waiter.cancel()
                return {}
            waiter.result()  # raises what the group's coordination met


def stopped(fetcher: Any) -> set[TopicPartition]:  # noqa: ANN401 - aiokafka is untyped
    """The partitions whose records are being unpacked, and took longer than a batch may."""
    return {partition for partition, batches in _open(fetcher) if batches.is_stopped}


def share_out(
    fetcher: Any,  # noqa: ANN401 - aiokafka is untyped
    max_records: int,
    clock: Callable[[], float] = time.thread_time,
    lanes: int = 1,
) -> Batch:
    """Hand out what is fetched: while k partitions have records, to each its k-th part (rounded up) of what is free.

    What a batch may hold is the part of one of so many `lanes`.

    Raise the error of a partition where one was met; where there are records of others, the next call does.
    """
    _raise_error(fetcher)
    batch: Batch = {}
    buffers = fetcher._records  # noqa: SLF001
    waiting = list(buffers)
    if not waiting:
        return batch
    buffers.move_to_end(waiting[0])
    allowance, most_bytes = _allowance(fetcher, clock), BATCH_BYTES // lanes
    left, ends_at = max_records, clock() + READING_S
    while waiting and left:
        share = -(-left // len(waiting))
        have_more = []
        for turns_left, partition in zip(range(len(waiting), 0, -1), waiting, strict=True):
            wanted = min(share, left)
            if not wanted:
                break
            allowance.share_bytes = min(allowance.bytes_left, most_bytes - allowance.paid_bytes) // turns_left
            now = clock()
            allowance.ends_at = now + (ends_at - now) / turns_left
            records = _hand_out(fetcher, partition, wanted, allowance)
            if records:
                batch.setdefault(partition, []).extend(records)
                left -= len(records)
            if len(records) == wanted:
                have_more.append(partition)
        waiting = have_more
    if not batch:
        _raise_error(fetcher)
    return batch


def _allowance(fetcher: Any, clock: Callable[[], float]) -> Allowance:  # noqa: ANN401 - aiokafka is untyped
    """What a batch may take, where so much is held already, and of each partition another piece will be."""
    held_bytes = decoder_bytes = 0
    for _, batches in _open(fetcher):
        held_bytes += batches.held_bytes + PIECE_BYTES
        decoder_bytes += batches.remembered_bytes
    return Allowance(max(0, BATCH_BYTES - held_bytes), max(0, MAX_REMEMBERED_BYTES - decoder_bytes), clock)


def _open(fetcher: Any) -> Iterator[tuple[TopicPartition, RecordBatches]]:  # noqa: ANN401 - aiokafka is untyped
    """The partitions of which something is fetched and not handed out."""
    for partition, found in fetcher._records.items():  # noqa: SLF001
        if type(found) is FetchResult and found.has_more():
            yield partition, found._partition_records._records  # noqa: SLF001


def _raise_error(fetcher: Any) -> None:  # noqa: ANN401 - aiokafka is untyped
    for partition, found in list(fetcher._records.items()):  # noqa: SLF001
        if type(found) is FetchError:
            _drop(fetcher, partition)
            found.check_raise()


def _hand_out(fetcher: Any, partition: TopicPartition, wanted: int, allowance: Allowance) -> list[Any]:  # noqa: ANN401
    """At most so many of a partition's records; fewer where no more are fetched, which are fetched then."""
    found = fetcher._records.get(partition)  # noqa: SLF001
    if type(found) is not FetchResult:
        return []
    if not found.check_assignment(partition) or not found.has_more():
        _drop(fetcher, partition)
        return []
    source = found._partition_records  # noqa: SLF001
    batches: RecordBatches = source._records  # noqa: SLF001
    batches.go_on(allowance, REQUEST, source.next_fetch_offset)
    if source._records_iterator is None:  # noqa: SLF001 - it ended where reading stopped
        source._records_iterator = source._unpack_records()  # noqa: SLF001
    records: list[Any] = []
    error = None
    try:
        records.extend(islice(source, wanted))  # keeps what came before an error
    except Exception as met:  # noqa: BLE001 - whatever it was: it is that partition's alone, and told when it is due
        error = met
    found._update_position()  # noqa: SLF001
    if len(records) < wanted and not batches.is_stopped:
        _drop(fetcher, partition)
    if error is not None:
        fetcher._records.pop(partition, None)  # noqa: SLF001
        fetcher._set_error(partition, error)  # noqa: SLF001
    return records


def _drop(fetcher: Any, partition: TopicPartition) -> None:  # noqa: ANN401 - aiokafka is untyped
    """Have a partition fetched again from where it stands."""
    del fetcher._records[partition]  # noqa: SLF001
    fetcher._notify(fetcher._wait_consume_future)  # noqa: SLF001
