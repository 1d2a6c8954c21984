"""What the settings say of a deployment: how its servers are reached, who its callers are, which keys it shares."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

import structlog
from pydantic import SecretStr
from uuid_utils import uuid7

from contracts.topics import Topics
from persistence.address import Address, read_address
from persistence.engine import Engine, PoolSettings, create_engine
from persistence.key_fingerprints import KeyPair
from workers.admission.identity import Verifier
from workers.admission.keys import Keyring, KeySource, PublicKey, mint
from workers.checks import StartRefusedError
from workers.kafka.security import KafkaSecurity
from workers.pipeline.replays import Replays
from workers.settings import Settings

Role = Literal["commands", "queries"]

LEAST_FOR_QUERIES: Final = 3
"""Connections of a worker that answers queries: for what may take long, for look-ups by key, and for the look-up that
tells whether the database is slow."""

_log = structlog.get_logger(__name__)


def new_id() -> str:
    """Make a UUID of version 7: its order is that of its making, so that indexes grow at one end."""
    return str(uuid7())


def secret_of(value: SecretStr | None) -> str | None:
    """Take a secret out of its cover; None where it is not set."""
    return value.get_secret_value() if value is not None else None


def key_of(value: SecretStr) -> bytes:
    """Take a key out of its cover."""
    return value.get_secret_value().encode()


def key_or_none(value: SecretStr | None) -> bytes | None:
    """Take a key out of its cover; None where it is not set."""
    return key_of(value) if value is not None else None


def kafka_security(settings: Settings) -> KafkaSecurity:
    """Say how to talk to Kafka."""
    kafka = settings.kafka
    return KafkaSecurity(
        kafka.security_protocol,
        kafka.sasl_mechanism if kafka.security_protocol.startswith("SASL") else None,
        kafka.username,
        secret_of(kafka.password),
        str(kafka.cafile) if kafka.cafile else None,
        str(kafka.certfile) if kafka.certfile else None,
        str(kafka.keyfile) if kafka.keyfile else None,
        secret_of(kafka.keyfile_password),
        kafka.token_provider,
    )


def engine_of(settings: Settings, application_name: str, *, reading: bool = False, for_queries: bool = False) -> Engine:
    """Make a pool: to the primary, or (`reading`) to the replica where one is set; `for_queries`, its reads bounded."""
    database = settings.database
    url = (database.read_url if reading else None) or database.url
    pool = PoolSettings(
        database.pool_size,
        connections_of(settings, for_queries=for_queries) - database.pool_size,
        database.pre_ping,
        database.recycle_s,
        database.echo,
    )
    return create_engine(url.get_secret_value(), pool, application_name, for_queries=for_queries)


def connections_of(settings: Settings, *, for_queries: bool) -> int:
    """Say how many connections a pool may have."""
    return max(settings.database.pool_size + settings.database.max_overflow, LEAST_FOR_QUERIES if for_queries else 1)


def too_few_connections(settings: Settings) -> str | None:
    """Say why the lanes of a command worker would wait for each other's connections; None where they need not."""
    lanes, connections = settings.kafka.command_lanes, connections_of(settings, for_queries=False)
    if connections >= lanes:
        return None
    return (
        f"COMMAND_LANES is {lanes}, and each lane has a transaction of its own: the pool has {connections}"
        " (DB_POOL_SIZE and DB_MAX_OVERFLOW together); raise it, or lower COMMAND_LANES"
    )


def primary_address(settings: Settings) -> Address:
    """Say where the primary is."""
    return read_address(settings.database.url.get_secret_value())


def verifier_of(settings: Settings) -> Verifier:
    """Say how callers prove who they are."""
    jwt = settings.jwt
    public: list[PublicKey] = []
    if jwt.public_key is not None:
        public.append(PublicKey(jwt.public_key.get_secret_value().encode(), jwt.public_key_kid))
    if jwt.public_key_file is not None:
        try:
            public.append(PublicKey(jwt.public_key_file.read_bytes(), jwt.public_key_kid))
        except OSError as error:
            msg = f"JWT_PUBLIC_KEY_FILE cannot be read: {error.strerror}"
            raise StartRefusedError(msg) from None
    secret = secret_of(jwt.secret)
    source = KeySource(
        secret=secret.encode() if secret is not None else None,
        secret_kid=jwt.secret_kid,
        public_keys=public,
        jwks_file=jwt.jwks_file,
    )
    keyring = Keyring(source, time.monotonic, lambda reason: _log.warning("jwks_unreadable", reason=reason))
    return Verifier(keyring, issuer=jwt.issuer, audience=jwt.audience, leeway_s=jwt.leeway_s)


def group_id(topics: Topics, role: Role) -> str:
    """Name the consumer group of the workers of one kind."""
    return f"{topics.prefix}.{role}"


def replays_of(settings: Settings) -> Replays:
    """Say which dead letters are believed when they come back."""
    secrets = settings.secrets
    return Replays(
        key_of(secrets.dlq_signing_key),
        key_or_none(secrets.dlq_operator_key),
        key_or_none(secrets.dlq_signing_key_previous),
        key_or_none(secrets.dlq_operator_key_previous),
    )


def keys_of(settings: Settings) -> list[KeyPair]:
    """Name the keys that all workers of a database share."""
    secrets = settings.secrets
    pairs = {
        "OUTCOME_HMAC_KEY": (secrets.outcome_hmac_key, secrets.outcome_hmac_key_previous),
        "DLQ_SIGNING_KEY": (secrets.dlq_signing_key, secrets.dlq_signing_key_previous),
        "DLQ_OPERATOR_KEY": (secrets.dlq_operator_key, secrets.dlq_operator_key_previous),
    }
    return [
        KeyPair(name, key_of(first), key_or_none(previous))
        for name, (first, previous) in pairs.items()
        if first is not None
    ]


def mint_token(settings: Settings, sub: str, roles: Sequence[str], lifetime: timedelta) -> str:
    """Make a development token; raises `StartRefusedError` without a JWT_SECRET."""
    secret = secret_of(settings.jwt.secret)
    if secret is None:
        msg = "JWT_SECRET is not set: tokens come from your identity provider; give one by --token"
        raise StartRefusedError(msg)
    return mint(
        secret.encode(),
        sub,
        roles,
        lifetime,
        issued_at=datetime.now(UTC),
        kid=settings.jwt.secret_kid,
        issuer=settings.jwt.issuer,
        audience=settings.jwt.audience,
    )
