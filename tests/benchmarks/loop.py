"""The bare loop: what the tables and the broker cost by themselves, with nothing promised. Run as a process.

One process on uvloop, orjson, one asyncpg connection, prepared statements, 500 messages a batch: look the ids up,
insert customers and outcomes, commit, publish the replies and gather their acks (all replicas), commit the offsets. It
verifies no token, checks no payload, counts nothing, and dies of the first error. The argument says on which tables:
`ours`, as the checkout's migrations make them, with all their indexes, or `plain`: two of their own, with a key each.
"""

import asyncio
import os
import signal
import sys
from datetime import UTC, datetime
from typing import Any, Final

import asyncpg
import orjson
import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from uuid_utils import uuid7

BATCH: Final = 500
_PLAIN: Final = """
create table if not exists plain_inbox (message_id text primary key, envelope bytea not null);
create table if not exists plain_customers (
  id uuid primary key, name text not null, email text not null, preferences jsonb not null)"""

STATEMENTS: Final = {
    "ours": (
        """select o.message_id, o.envelope from unnest($1::text[], $2::text[]) as k(caller, message_id)
        join outcomes o using (caller, message_id)""",
        """insert into customers (id, name, name_key, email, email_key, preferences, created_at, updated_at)
        select id, name, lower(name), email, lower(email), preferences, at, at
        from unnest($1::uuid[], $2::text[], $3::text[], $4::jsonb[], $5::timestamptz[])
          as r(id, name, email, preferences, at)""",
        """insert into outcomes (caller, message_id, kind, content_hmac, envelope, subjects,
          log_topic, log_partition, log_offset, stamped_at)
        select caller, message_id, 'create_customer', decode(repeat('00', 32), 'hex'), envelope, array[id],
          log_topic, log_partition, log_offset, at
        from unnest($1::text[], $2::text[], $3::bytea[], $4::uuid[], $5::text[], $6::integer[], $7::bigint[],
          $8::timestamptz[]) as r(caller, message_id, envelope, id, log_topic, log_partition, log_offset, at)
        on conflict do nothing""",
    ),
    "plain": (
        """select message_id, envelope from plain_inbox
        where message_id = any($2::text[]) and $1::text[] is not null""",
        """insert into plain_customers
        select * from unnest($1::uuid[], $2::text[], $3::text[], $4::jsonb[])
        where $5::timestamptz[] is not null""",
        """insert into plain_inbox select message_id, envelope
        from unnest($1::text[], $2::text[], $3::bytea[], $4::uuid[], $5::text[], $6::integer[], $7::bigint[],
          $8::timestamptz[]) as r(caller, message_id, envelope, id, log_topic, log_partition, log_offset, at)
        on conflict do nothing""",
    ),
}


class Loop:
    """The loop with what it holds."""

    def __init__(self, connection: Any, producer: AIOKafkaProducer) -> None:  # noqa: ANN401 - as asyncpg gives it
        self._connection = connection
        self._producer = producer

    async def prepare(self, tables: str) -> None:
        """Prepare the statements."""
        if tables == "plain":
            await self._connection.execute(_PLAIN)
        look_up, customers, outcomes = STATEMENTS[tables]
        self._look_up = await self._connection.prepare(look_up)
        self._customers = await self._connection.prepare(customers)
        self._outcomes = await self._connection.prepare(outcomes)

    async def decide(self, records: list[Any]) -> None:
        """Apply a batch and answer it."""
        headers = [dict(record.headers) for record in records]
        message_ids = [one["message_id"].decode() for one in headers]
        callers = ["tester"] * len(records)
        known = {row["message_id"] for row in await self._look_up.fetch(callers, message_ids)}
        assert not known, "the loop is for new commands"
        ids, names, emails, preferences, stamps, envelopes = [], [], [], [], [], []
        for record in records:
            payload, at = orjson.loads(record.value)["payload"], datetime.fromtimestamp(record.timestamp / 1000, UTC)
            made = {
                "id": str(uuid7()), **payload, "is_active": True, "version": 1, "created_at": at, "updated_at": at,
            }  # fmt: skip
            ids.append(made["id"])
            names.append(payload["name"])
            emails.append(payload["email"])
            preferences.append(orjson.dumps(payload["preferences"]).decode())
            stamps.append(at)
            text = f"Customer '{payload['email']}' created successfully"
            envelopes.append(orjson.dumps({"statusCode": 201, "message": text, "type": "success", "data": made}))
        async with self._connection.transaction():
            await self._customers.fetch(ids, names, emails, preferences, stamps)
            await self._outcomes.fetch(
                callers,
                message_ids,
                envelopes,
                ids,
                [record.topic for record in records],
                [record.partition for record in records],
                [record.offset for record in records],
                stamps,
            )
        sent = []
        for one, message_id, envelope in zip(headers, message_ids, envelopes, strict=True):
            fields = [
                ("content-type", b"application/json"),
                ("correlation_id", one["correlation_id"]),
                ("in_reply_to", message_id.encode()),
                ("kind", b"create_customer"),
            ]
            sent.append(
                await self._producer.send(one["reply_to"].decode(), envelope, key=one["correlation_id"], headers=fields)
            )
        await asyncio.gather(*sent)


async def main(tables: str) -> None:
    """Serve until SIGTERM."""
    servers, prefix = os.environ["KAFKA_BOOTSTRAP_SERVERS"], os.environ["TOPIC_PREFIX"]
    producer = AIOKafkaProducer(
        bootstrap_servers=servers, acks="all", enable_idempotence=True, max_batch_size=256 * 1024
    )
    consumer = AIOKafkaConsumer(
        f"{prefix}.commands", bootstrap_servers=servers, group_id=f"{prefix}.loop", enable_auto_commit=False,
        auto_offset_reset="earliest", fetch_max_wait_ms=50,
    )  # fmt: skip
    connection = await asyncpg.connect(os.environ["DATABASE_URL"])
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with producer, consumer:
        loop = Loop(connection, producer)
        await loop.prepare(tables)
        while not stop.is_set():
            found = await consumer.getmany(timeout_ms=200, max_records=BATCH)
            records = [record for some in found.values() for record in some]
            if records:
                await loop.decide(records)
                await consumer.commit({TopicPartition(*of): some[-1].offset + 1 for of, some in found.items()})
    await connection.close()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1]))
