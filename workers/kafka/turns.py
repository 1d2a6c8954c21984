"""A batch is shared among the partitions that have records: none of them fills it while others wait.

aiokafka's `getmany` empties the first partition that it has records of before it looks at the next: with 5,000 records
in one of them, ten batches of 500 are that partition's alone. Here each gets the same part of a batch, and what one
leaves goes to those that have more. Whose turn came first comes last the next time.

What `getmany` does besides is done here as well: it reports errors, waits for records, tells the fetching task that a
partition's buffer is empty, and drops what was fetched for a position that is not the current one.
"""

import asyncio
from itertools import islice
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRecord
from aiokafka.consumer.fetcher import FetchError, FetchResult
from aiokafka.errors import ConsumerStoppedError
from aiokafka.structs import TopicPartition

Batch = dict[TopicPartition, list[ConsumerRecord[bytes, bytes]]]


async def take(consumer: AIOKafkaConsumer, timeout_s: float, max_records: int) -> Batch:
    """The next records, at most `max_records` of all partitions together; none after `timeout_s` of silence.

    Raise what aiokafka's `getmany` raises. There is no suspension between the last look at what is fetched and the
    return.
    """
    if consumer._closed:  # noqa: SLF001 - as `getmany` begins
        raise ConsumerStoppedError
    consumer._coordinator.check_errors()  # noqa: SLF001 - as `getmany` begins
    fetcher = consumer._fetcher  # noqa: SLF001 - aiokafka hands its records out in no other way
    ends_at = asyncio.get_running_loop().time() + timeout_s
    with consumer._subscription.fetch_context():  # noqa: SLF001 - as `getmany` does: it is alive
        while True:
            if fetcher._subscriptions.reassignment_in_progress:  # noqa: SLF001
                await fetcher._subscriptions.wait_for_assignment()  # noqa: SLF001
            batch = share_out(fetcher, max_records)
            left_s = ends_at - asyncio.get_running_loop().time()
            if batch or left_s <= 0:
                return batch
            waiter = fetcher._create_fetch_waiter()  # noqa: SLF001
            await asyncio.wait([waiter], timeout=left_s)
            if fetcher._closed or not waiter.done():  # noqa: SLF001
                waiter.cancel()
                return {}
            waiter.result()  # raises what the group's coordination met


def share_out(fetcher: Any, max_records: int) -> Batch:  # noqa: ANN401 - aiokafka is untyped
    """Hand out what is fetched: while k partitions have records, to each its k-th part (rounded up) of what is free.

    Raise the error of a partition where one was met; where there are records of others, the next call does.
    """
    buffers = fetcher._records  # noqa: SLF001
    _raise_error(fetcher)
    batch: Batch = {}
    waiting = list(buffers)
    if waiting:
        buffers.move_to_end(waiting[0])
    left = max_records
    while waiting and left:
        share = -(-left // len(waiting))
        have_more = []
        for partition in waiting:
            wanted = min(share, left)
            if not wanted:
                break
            records = _hand_out(fetcher, partition, wanted)
            if records:
                batch.setdefault(partition, []).extend(records)
                left -= len(records)
            if len(records) == wanted:
                have_more.append(partition)
        waiting = have_more
    if not batch:
        _raise_error(fetcher)
    return batch


def _raise_error(fetcher: Any) -> None:  # noqa: ANN401 - aiokafka is untyped
    for partition, found in list(fetcher._records.items()):  # noqa: SLF001
        if type(found) is FetchError:
            _drop(fetcher, partition)
            found.check_raise()


def _hand_out(fetcher: Any, partition: TopicPartition, wanted: int) -> list[Any]:  # noqa: ANN401 - aiokafka is untyped
    """At most so many of a partition's records; fewer where no more are fetched, which are fetched then."""
    found = fetcher._records.get(partition)  # noqa: SLF001
    if type(found) is not FetchResult:
        return []
    if not found.check_assignment(partition) or not found.has_more():
        _drop(fetcher, partition)
        return []
    source = found._partition_records  # noqa: SLF001
    records: list[Any] = []
    error = None
    try:
        records.extend(islice(source, wanted))  # keeps what came before an error
    except Exception as met:  # noqa: BLE001 - whatever it was: it is that partition's alone, and told when it is due
        error = met
    found._update_position()  # noqa: SLF001
    if len(records) < wanted:
        _drop(fetcher, partition)
    if error is not None:
        fetcher._set_error(partition, error)  # noqa: SLF001
    return records


def _drop(fetcher: Any, partition: TopicPartition) -> None:  # noqa: ANN401 - aiokafka is untyped
    """Have a partition fetched again from where it stands."""
    del fetcher._records[partition]  # noqa: SLF001
    fetcher._notify(fetcher._wait_consume_future)  # noqa: SLF001
