"""Settings: environment and `.env`, flat well-known names, grouped into nested models.

A wrong setting stops the start with one readable line per error. Secrets never show themselves.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, TypeVar
from urllib.parse import urlsplit

import pydantic_settings
from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from contracts.registry import KINDS
from persistence.backfill.signals import Signal

Environment = Literal["development", "staging", "production"]

DEVELOPMENT_SECRET: Final = "development-secret-of-the-catalog-workers"  # noqa: S105 - refused in production
MIN_SECRET_BYTES: Final = 32

ENV_FILES: Final = (Path(".local/stack.env"), Path(".env"))
"""Where a command line looks beside the environment: the embedded stack's addresses, then the operator's own file."""


class Group(BaseSettings):
    """A group of settings; each field's `alias` is the name of its environment variable.

    What is given in code are the defaults of the deployment's environment: the variables and the file come first.
    """

    model_config = SettingsConfigDict(
        frozen=True, extra="ignore", env_ignore_empty=True, case_sensitive=True, hide_input_in_errors=True
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - the signature is the library's
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Environment over file over defaults."""
        return env_settings, dotenv_settings, init_settings


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _upper(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


def _url_of(*schemes: str) -> AfterValidator:
    """Check a URL's form; what is wrong is said without a part of it, as it holds a password."""

    def check(value: SecretStr) -> SecretStr:
        try:
            parts = urlsplit(value.get_secret_value())
            fits = parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
        except ValueError:  # the port is no number, or there is half an IPv6 address
            fits = False
        if not fits:
            raise PydanticCustomError(
                "url", "must be a URL: {form}", {"form": f"{schemes[0]}://user:password@host:port/name"}
            )
        return value

    return AfterValidator(check)


PostgresUrl = Annotated[SecretStr, _url_of("postgresql", "postgres", "postgresql+asyncpg")]
RedisUrl = Annotated[SecretStr, _url_of("redis", "rediss", "redis+cluster", "rediss+cluster")]


class Database(Group):
    """Postgres. The pool's defaults follow the environment."""

    url: PostgresUrl = Field(alias="DATABASE_URL")
    read_url: PostgresUrl | None = Field(None, alias="DATABASE_READ_URL")
    pool_size: int = Field(5, ge=1, le=100, alias="DB_POOL_SIZE")
    max_overflow: int = Field(5, ge=0, le=100, alias="DB_MAX_OVERFLOW")
    pre_ping: bool = Field(default=False, alias="DB_PRE_PING")
    recycle_s: int = Field(3600, ge=1, alias="DB_POOL_RECYCLE")
    echo: bool = Field(default=False, alias="DB_ECHO")
    slow_ms: int = Field(500, ge=1, alias="DB_SLOW_MS")


class Kafka(Group):
    """The broker, the topics and how batches are made."""

    bootstrap_servers: str = Field("localhost:9092", alias="KAFKA_BOOTSTRAP_SERVERS", min_length=1)
    topic_prefix: str = Field("catalog", alias="TOPIC_PREFIX", pattern=r"^[A-Za-z0-9._-]{1,40}$")
    security_protocol: Annotated[Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"], BeforeValidator(_upper)] = (
        Field("PLAINTEXT", alias="KAFKA_SECURITY_PROTOCOL")
    )
    sasl_mechanism: Annotated[
        Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"], BeforeValidator(_upper)
    ] = Field("PLAIN", alias="KAFKA_SECURITY_SASL_MECHANISM")
    username: str | None = Field(None, alias="KAFKA_SECURITY_USERNAME")
    password: SecretStr | None = Field(None, alias="KAFKA_SECURITY_PASSWORD")
    cafile: Path | None = Field(None, alias="KAFKA_SECURITY_CAFILE")
    certfile: Path | None = Field(None, alias="KAFKA_SECURITY_CERTFILE")
    keyfile: Path | None = Field(None, alias="KAFKA_SECURITY_KEYFILE")
    keyfile_password: SecretStr | None = Field(None, alias="KAFKA_SECURITY_KEYFILE_PASSWORD")
    token_provider: str | None = Field(None, alias="KAFKA_SECURITY_TOKEN_PROVIDER")
    partitions: int = Field(12, ge=1, le=1000, alias="KAFKA_PARTITIONS")
    replication_factor: int = Field(1, ge=1, le=10, alias="KAFKA_REPLICATION_FACTOR")
    min_insync_replicas: int = Field(1, ge=1, le=10, alias="KAFKA_MIN_INSYNC_REPLICAS")
    accept_auto_create: bool = Field(default=False, alias="KAFKA_ACCEPT_AUTO_CREATE_TOPICS")
    session_timeout_ms: int = Field(10_000, ge=1_000, le=300_000, alias="KAFKA_SESSION_TIMEOUT_MS")
    max_batch: int = Field(500, ge=1, le=5000, alias="KAFKA_MAX_BATCH")
    group_instance_id: str | None = Field(None, alias="KAFKA_GROUP_INSTANCE_ID")


class Redis(Group):
    """Redis: cache and rate limits. It may be away; it is never what a promise rests on."""

    url: RedisUrl | None = Field(None, alias="REDIS_URL")
    cache_strict: bool = Field(default=False, alias="CACHE_STRICT")


class Jwt(Group):
    """How callers prove who they are."""

    secret: SecretStr | None = Field(None, alias="JWT_SECRET")
    secret_kid: str | None = Field(None, alias="JWT_KID")
    public_key: SecretStr | None = Field(None, alias="JWT_PUBLIC_KEY")
    public_key_file: Path | None = Field(None, alias="JWT_PUBLIC_KEY_FILE")
    public_key_kid: str | None = Field(None, alias="JWT_PUBLIC_KEY_KID")
    algorithm: Annotated[Literal["HS256", "RS256", "ES256"], BeforeValidator(_upper)] = Field(
        "HS256", alias="JWT_ALGORITHM"
    )
    jwks_file: Path | None = Field(None, alias="JWT_JWKS_FILE")
    issuer: str | None = Field(None, alias="JWT_ISSUER")
    audience: str | None = Field(None, alias="JWT_AUDIENCE")
    leeway_s: int = Field(30, ge=0, le=600, alias="JWT_LEEWAY_S")


class RateLimits(Group):
    """How often a caller may ask. An override of 0 means: without limit."""

    requests: int = Field(100, ge=1, le=1_000_000, alias="RATE_LIMIT_REQUESTS")
    window_s: int = Field(60, ge=1, le=3600, alias="RATE_LIMIT_WINDOW_S")
    overrides: dict[str, int] = Field(default_factory=dict, alias="RATE_LIMIT_OVERRIDES")


class Observing(Group):
    """Logs, metrics, health."""

    log_level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], BeforeValidator(_upper)] = Field(
        "INFO", alias="LOG_LEVEL"
    )
    log_format: Annotated[Literal["json", "console"], BeforeValidator(_lower)] = Field("json", alias="LOG_FORMAT")
    log_successes_per_s: float = Field(50, ge=0, alias="LOG_SUCCESSES_PER_S")
    metrics: bool = Field(default=True, alias="ENABLE_METRICS")
    host: str = Field("127.0.0.1", alias="METRICS_HOST")
    port: int = Field(0, ge=0, le=65535, alias="METRICS_PORT")
    url_file: Path | None = Field(None, alias="METRICS_URL_FILE")
    stuck_after_s: int = Field(60, ge=5, alias="HEALTH_STUCK_AFTER_S")


class Domain(Group):
    """What the contract leaves to the deployment."""

    currency: str = Field("EUR", alias="CURRENCY", pattern=r"^[A-Z]{3}$")
    refuse_sunset_versions: bool = Field(default=False, alias="REFUSE_SUNSET_VERSIONS")
    validation_caching: bool = Field(default=True, alias="ENABLE_VALIDATION_CACHING")
    outcome_retention_days: int = Field(30, ge=1, le=3650, alias="OUTCOME_RETENTION_DAYS")
    park_behind_defects: list[str] = Field(default_factory=list, alias="PARK_BEHIND_DEFECTS")
    """Kinds of commands that wait while an earlier one of their key, of such a kind, met a defect; a JSON list."""
    reply_topics: dict[str, list[str]] = Field(default_factory=dict, alias="REPLY_TOPICS")


class Backfills(Group):
    """What the backfills may cost the live traffic."""

    live_p99_ms: float = Field(250, gt=0, alias="BACKFILL_LIVE_P99_MS")
    """The budget of the live traffic's 99th percentile: from 0.7 of it backfills slow down, at it they stop."""
    signals_off: list[Signal] = Field(default_factory=list, alias="BACKFILL_SIGNALS_OFF")
    """Signals that are not listened to, as a JSON list of names."""


class Secrets(Group):
    """Keys of the workers' own."""

    outcome_hmac_key: SecretStr = Field(alias="OUTCOME_HMAC_KEY")
    dlq_signing_key: SecretStr = Field(alias="DLQ_SIGNING_KEY")
    dlq_operator_key: SecretStr | None = Field(None, alias="DLQ_OPERATOR_KEY")
    """Signs dead letters that an operator edited. Unset: none are made, and none are accepted."""


class Process(Group):
    """What this process is."""

    environment: Annotated[Environment, BeforeValidator(_lower)] = Field("development", alias="ENVIRONMENT")
    worker_name: str = Field("", alias="WORKER_NAME")
    fault_point: str = Field("", alias="FAULT_POINT")


@dataclass(frozen=True, slots=True)
class Settings:
    """All of them."""

    process: Process
    database: Database
    kafka: Kafka
    redis: Redis
    jwt: Jwt
    rate: RateLimits
    observing: Observing
    domain: Domain
    backfills: Backfills
    secrets: Secrets

    @classmethod
    def load(cls, *env_files: Path) -> Self:
        """Read the environment over the files (`ENV_FILES`; later ones first) over the defaults.

        Raises `SettingsError` with a line per error.
        """
        env_file = env_files or ENV_FILES
        errors: list[str] = []
        process = _build(Process, env_file, {}, errors)
        defaults = _DEFAULTS[process.environment] if process else {}
        groups = {name: _build(model, env_file, defaults, errors) for name, model in _GROUPS.items()}
        if process is None or errors:
            raise SettingsError(errors)
        settings = cls(process, **groups)  # type: ignore[arg-type]  # none is None, or there were errors
        if errors := _contradictions(settings):
            raise SettingsError(errors)
        return settings


class SettingsError(Exception):
    """One readable line per wrong setting."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


_GROUPS: Final[Mapping[str, type[Group]]] = {
    "database": Database,
    "kafka": Kafka,
    "redis": Redis,
    "jwt": Jwt,
    "rate": RateLimits,
    "observing": Observing,
    "domain": Domain,
    "backfills": Backfills,
    "secrets": Secrets,
}

_SERVER_DEFAULTS: Final[Mapping[str, str]] = {
    "DB_POOL_SIZE": "20",
    "DB_MAX_OVERFLOW": "30",
    "DB_PRE_PING": "true",
    "LOG_LEVEL": "INFO",
    "ENABLE_METRICS": "true",
}
_DEFAULTS: Final[Mapping[str, Mapping[str, str]]] = {
    "production": _SERVER_DEFAULTS,
    "staging": _SERVER_DEFAULTS,
    "development": {
        "LOG_LEVEL": "DEBUG",
        "DATABASE_URL": "postgresql://catalog:catalog@localhost:5432/catalog",
        "REDIS_URL": "redis://localhost:6379/0",
        "JWT_SECRET": DEVELOPMENT_SECRET,
        "OUTCOME_HMAC_KEY": DEVELOPMENT_SECRET,
        "DLQ_SIGNING_KEY": DEVELOPMENT_SECRET,
    },
}


G = TypeVar("G", bound=Group)


def _build(model: type[G], env_file: tuple[Path, ...], defaults: Mapping[str, str], errors: list[str]) -> G | None:
    known = {field.alias for field in model.model_fields.values()}
    given: dict[str, Any] = {name: value for name, value in defaults.items() if name in known}
    try:
        return model(_env_file=env_file, **given)
    except ValidationError as error:
        errors += _lines(error)
    except pydantic_settings.SettingsError as error:
        names = [field.alias for name, field in model.model_fields.items() if f'"{name}"' in str(error)]
        errors.append(f"{names[0] if names else model.__name__}: is not the JSON that is expected there")
    return None


def _lines(error: ValidationError) -> list[str]:
    found = error.errors(include_url=False, include_context=False, include_input=False)
    return [
        f"{one['loc'][0]}: {'is not set' if one['type'] == 'missing' else one['msg'][:1].lower() + one['msg'][1:]}"
        for one in found
    ]


def _contradictions(settings: Settings) -> list[str]:
    """Find what each setting alone cannot show."""
    errors = []
    jwt, production = settings.jwt, settings.process.environment == "production"
    if jwt.secret is None and jwt.public_key is None and jwt.public_key_file is None and jwt.jwks_file is None:
        errors.append("JWT_SECRET: set it, or JWT_PUBLIC_KEY, JWT_PUBLIC_KEY_FILE or JWT_JWKS_FILE")
    secrets = {
        "JWT_SECRET": jwt.secret,
        "OUTCOME_HMAC_KEY": settings.secrets.outcome_hmac_key,
        "DLQ_SIGNING_KEY": settings.secrets.dlq_signing_key,
        "DLQ_OPERATOR_KEY": settings.secrets.dlq_operator_key,
    }
    for name, secret in secrets.items():
        if secret is None:
            continue
        if len(secret.get_secret_value().encode()) < MIN_SECRET_BYTES:
            errors.append(f"{name}: must be at least {MIN_SECRET_BYTES} bytes long")
        if production and secret.get_secret_value() == DEVELOPMENT_SECRET:
            errors.append(f"{name}: is the development secret; production needs one of its own")
    operator_key = settings.secrets.dlq_operator_key
    if operator_key is not None and operator_key == settings.secrets.dlq_signing_key:
        errors.append("DLQ_OPERATOR_KEY: must not be the DLQ_SIGNING_KEY, or nobody could tell who signed")
    if settings.kafka.min_insync_replicas > settings.kafka.replication_factor:
        errors.append("KAFKA_MIN_INSYNC_REPLICAS: must not exceed KAFKA_REPLICATION_FACTOR")
    if settings.process.fault_point and settings.process.environment != "development":
        errors.append("FAULT_POINT: is for tests, in development only")
    commands = {kind.name for kind in KINDS.values() if kind.topic == "commands"}
    if unknown := sorted(set(settings.domain.park_behind_defects) - commands):
        errors.append(f"PARK_BEHIND_DEFECTS: {unknown[0]} is no kind of command")
    if settings.redis.cache_strict and settings.redis.url is None:
        errors.append("CACHE_STRICT: needs REDIS_URL")
    return errors
