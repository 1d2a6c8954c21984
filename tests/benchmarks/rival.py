"""The usual handler, as a fair rival: what a careful team writes with the same libraries.

One FastStream subscriber, one message at a time; one AsyncSession and one transaction a message; the same JWT check
(PyJWT, not cached), the same stored outcome, the same reply, acks=all with an idempotent producer, and the offset is
committed after the reply. It serves `create_customer` alone. Run as a process: settings come from the environment.
"""

import asyncio
import hashlib
import hmac
import json
import os
import signal
import unicodedata
import uuid
from datetime import UTC, datetime
from typing import Any

import jwt
import uvloop
from faststream import AckPolicy
from faststream.kafka import KafkaBroker, KafkaMessage
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from sqlalchemy import DateTime, Integer, LargeBinary, String, select
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, UUID, insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """The tables' root."""


class CustomerRow(Base):
    """The columns that a creation writes."""

    __tablename__ = "customers"
    id: Mapped[uuid.UUID] = mapped_column(UUID, primary_key=True)
    name: Mapped[str] = mapped_column(String)
    name_key: Mapped[str] = mapped_column(String)
    email: Mapped[str] = mapped_column(String)
    email_key: Mapped[str] = mapped_column(String)
    preferences: Mapped[dict[str, object]] = mapped_column(JSONB)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    updated_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))


class OutcomeRow(Base):
    """The stored outcome, as ours."""

    __tablename__ = "outcomes"
    caller: Mapped[str] = mapped_column(String, primary_key=True)
    message_id: Mapped[str] = mapped_column(String, primary_key=True)
    kind: Mapped[str] = mapped_column(String)
    content_hmac: Mapped[bytes] = mapped_column(LargeBinary)
    envelope: Mapped[bytes] = mapped_column(LargeBinary)
    subjects: Mapped[list[uuid.UUID]] = mapped_column(ARRAY(UUID))
    log_topic: Mapped[str] = mapped_column(String)
    log_partition: Mapped[int] = mapped_column(Integer)
    log_offset: Mapped[int] = mapped_column(Integer)
    stamped_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))


class CreateCustomer(BaseModel):
    """The payload."""

    model_config = ConfigDict(extra="forbid", strict=True)
    name: str = Field(min_length=1, max_length=200)
    email: str = Field(
        max_length=254, pattern=r"^[^@\s]+@[^@\s]+\.[^@\s]+$"
    )  # cheaper than EmailStr: the rival is favoured
    preferences: dict[str, object] = {}


class Command(BaseModel):
    """The body."""

    model_config = ConfigDict(extra="forbid", strict=True)
    kind: str
    version: int = 1
    payload: CreateCustomer


def folded(text: str) -> str:
    """Fold as the schema's keys are."""
    return unicodedata.normalize("NFKC", text).casefold()


async def main() -> None:
    """Serve until SIGTERM."""
    engine = create_async_engine(os.environ["DATABASE_URL"].replace("postgresql://", "postgresql+asyncpg://"))
    sessions = async_sessionmaker(engine, expire_on_commit=False)
    broker = KafkaBroker(
        os.environ["KAFKA_BOOTSTRAP_SERVERS"], acks="all", enable_idempotence=True, allow_auto_create_topics=False
    )
    prefix, secret = os.environ["TOPIC_PREFIX"], os.environ["JWT_SECRET"]

    async def decide(session: AsyncSession, message: KafkaMessage) -> bytes:
        record: Any = message.raw_message  # one record: this subscriber is no batch
        headers = {name: value.decode() for name, value in record.headers}
        claims = jwt.decode(headers["authorization"].removeprefix("Bearer "), secret, ["HS256"])
        message_id, caller = headers["message_id"], "\n" + claims["sub"]
        known = await session.scalar(
            select(OutcomeRow.envelope).where(OutcomeRow.caller == caller, OutcomeRow.message_id == message_id)
        )
        if known is not None:
            return known
        if not {"catalog_writer", "catalog_admin"} & set(claims["roles"]):
            return envelope(403, "Insufficient permissions to create Customer", "error", None)
        try:
            payload = Command.model_validate_json(record.value).payload
        except ValidationError:
            return envelope(422, "Request validation failed", "error", None)
        now = datetime.fromtimestamp(record.timestamp / 1000, UTC)
        row = CustomerRow(
            id=uuid.uuid4(),
            name=payload.name,
            name_key=folded(payload.name),
            email=payload.email,
            email_key=folded(payload.email),
            preferences=payload.preferences,
            created_at=now,
            updated_at=now,
        )
        try:
            async with session.begin_nested():
                session.add(row)
        except IntegrityError:
            body = envelope(409, "Customer with email '(hidden)' already exists", "error", None)
        else:
            data = {
                "id": str(row.id),
                "name": row.name,
                "email": row.email,
                "preferences": row.preferences,
                "is_active": True,
                "version": 1,
                "created_at": now.isoformat(),
                "updated_at": now.isoformat(),
            }
            body = envelope(201, f"Customer '{row.id}' created successfully", "success", data)
        digest = hmac.digest(b"key", record.value, hashlib.sha256)
        await session.execute(
            insert(OutcomeRow).values(
                caller=caller,
                message_id=message_id,
                kind="create_customer",
                content_hmac=digest,
                envelope=body,
                subjects=[row.id],
                log_topic=record.topic,
                log_partition=record.partition,
                log_offset=record.offset,
                stamped_at=now,
            )
        )
        return body

    @broker.subscriber(
        f"{prefix}.commands",
        group_id=f"{prefix}.rival",
        ack_policy=AckPolicy.NACK_ON_ERROR,
        no_reply=True,
        auto_offset_reset="earliest",
    )
    async def handle(_: object, message: KafkaMessage) -> None:
        async with sessions() as session, session.begin():
            body = await decide(session, message)
        record: Any = message.raw_message
        headers = {name: (value or b"").decode() for name, value in record.headers}
        await broker.publish(
            body,
            topic=headers["reply_to"],
            key=headers["correlation_id"].encode(),
            headers={"correlation_id": headers["correlation_id"], "content-type": "application/json"},
        )

    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with broker:
        await broker.start()
        await stop.wait()
    await engine.dispose()


def envelope(status: int, message: str, kind: str, data: object) -> bytes:
    """Write an envelope."""
    return json.dumps({"statusCode": status, "message": message, "type": kind, "data": data}).encode()


if __name__ == "__main__":
    uvloop.run(main())
