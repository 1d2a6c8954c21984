"""Settings: environment and `.env`, flat well-known names, grouped into nested models.

A wrong setting stops the start with one readable line per error. Secrets never show themselves.
"""

import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv6Address
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, TypeVar, cast

import pydantic_settings
from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError, create_model
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from contracts.registry import KINDS
from persistence.address import LARGEST_PORT, AddressError, read_address
from persistence.backfill.signals import Signal
from persistence.redis_client import RedisUrlError, check_redis_url
from workers.admission.keys import Keyring, KeySource, KeySourceError, PublicKey
from workers.admission.reply_topics import ReplyTopics
from workers.operator_error import OperatorError

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


def _judged(judge: Callable[[str], object], what_is_wrong: type[ValueError], kind: str) -> AfterValidator:
    """Check a secret by a function that raises; what it says holds no part of the secret."""

    def check(value: SecretStr) -> SecretStr:
        try:
            judge(value.get_secret_value())
        except what_is_wrong as error:
            raise PydanticCustomError(kind, "{reason}", {"reason": str(error)}) from None
        return value

    return AfterValidator(check)


PostgresUrl = Annotated[SecretStr, _judged(read_address, AddressError, "database_url")]
RedisUrl = Annotated[SecretStr, _judged(check_redis_url, RedisUrlError, "redis_url")]

_BROKER: Final = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<name>[A-Za-z0-9._-]+))(?::(?P<port>[0-9]{1,5}))?")


def _brokers(value: str) -> str:
    """Check a list of brokers, and take the blanks and empty places out of it."""
    brokers = [one for one in (part.strip() for part in value.split(",")) if one]
    if not brokers:
        raise PydanticCustomError("brokers", "names no broker: host:port, or several with commas between")
    for one in brokers:
        found = _BROKER.fullmatch(one)
        if found is None or (found["v6"] is not None and not _is_ipv6(found["v6"])):
            raise PydanticCustomError(
                "brokers", "'{one}' is no host:port (without a scheme; an IPv6 address in brackets)", {"one": one[:60]}
            )
        if not 0 < int(found["port"] or 9092) <= LARGEST_PORT:
            raise PydanticCustomError("brokers", "'{one}': a port is a number from 1 to 65535", {"one": one[:60]})
    return ",".join(brokers)


def _is_ipv6(text: str) -> bool:
    try:
        IPv6Address(text)
    except ValueError:
        return False
    return True


def _long_enough(value: SecretStr) -> SecretStr:
    if len(value.get_secret_value().encode()) < MIN_SECRET_BYTES:
        raise PydanticCustomError("secret", "must be at least {least} bytes long", {"least": MIN_SECRET_BYTES})
    return value


Key = Annotated[SecretStr, AfterValidator(_long_enough)]
"""Of an HMAC: as long as the hash, at least."""


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

    bootstrap_servers: Annotated[str, AfterValidator(_brokers)] = Field(
        "localhost:9092", alias="KAFKA_BOOTSTRAP_SERVERS"
    )
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
    command_lanes: int = Field(2, ge=1, le=16, alias="COMMAND_LANES")
    """Consumers of a command worker, each with a batch, a transaction and a connection of its own."""


class Redis(Group):
    """Redis: cache and rate limits. It may be away; it is never what a promise rests on."""

    url: RedisUrl | None = Field(None, alias="REDIS_URL")
    cache_strict: bool = Field(default=False, alias="CACHE_STRICT")


class Jwt(Group):
    """How callers prove who they are."""

    secret: Key | None = Field(None, alias="JWT_SECRET")
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
    contract_servers: Annotated[str, AfterValidator(_brokers)] | None = Field(None, alias="CONTRACT_SERVERS")
    """Where callers reach Kafka, as the contract that the workers serve tells them; not the workers' own address."""
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

    outcome_hmac_key: Key = Field(alias="OUTCOME_HMAC_KEY")
    dlq_signing_key: Key = Field(alias="DLQ_SIGNING_KEY")
    dlq_operator_key: Key | None = Field(None, alias="DLQ_OPERATOR_KEY")
    """Signs dead letters that an operator edited. Unset: none are made, and none are accepted."""
    outcome_hmac_key_previous: Key | None = Field(None, alias="OUTCOME_HMAC_KEY_PREVIOUS")
    dlq_signing_key_previous: Key | None = Field(None, alias="DLQ_SIGNING_KEY_PREVIOUS")
    dlq_operator_key_previous: Key | None = Field(None, alias="DLQ_OPERATOR_KEY_PREVIOUS")
    """While a key is exchanged, its other value: nothing is made with it, but what was is recognised."""


class Process(Group):
    """What this process is."""

    environment: Annotated[Environment, BeforeValidator(_lower)] = Field("development", alias="ENVIRONMENT")
    worker_name: str = Field("", alias="WORKER_NAME")
    fault_point: str = Field("", alias="FAULT_POINT")
    wait_timeout_s: float = Field(60, gt=0, le=86_400, alias="WAIT_TIMEOUT_S")
    """How long a command (not a worker) waits for a server that does not answer."""


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
        errors: dict[str, str] = {}
        process = _build(Process, env_file, {}, errors)
        defaults = _DEFAULTS.get(process.environment, {})
        groups = {name: _build(model, env_file, defaults, errors) for name, model in GROUPS.items()}
        settings = cls(process, **groups)  # type: ignore[arg-type]  # each is of its class
        for name, reason in _contradictions(settings, errors.keys()):
            errors.setdefault(name, reason)
        if errors:
            raise SettingsError([f"{name}: {reason}" for name, reason in errors.items()])
        return settings

    def effective(self) -> Iterator[tuple[str, str]]:
        """Go through the settings in force, by the names of their variables; secrets are masked."""
        for group in (getattr(self, name) for name in self.__dataclass_fields__):
            for name, field in type(group).model_fields.items():
                yield str(field.alias), str(getattr(group, name))


class SettingsError(OperatorError):
    """One readable line per wrong setting."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__("\n".join(lines), usage=True)
        self._lines = lines

    @property
    def lines(self) -> list[str]:
        """Return the line of each."""
        return self._lines


GROUPS: Final[Mapping[str, type[Group]]] = {
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


def _build(model: type[G], env_file: tuple[Path, ...], defaults: Mapping[str, str], errors: dict[str, str]) -> G:
    """Read a group. What is wrong goes into `errors`, by the name of its variable, and is None in what is returned."""
    known = {str(field.alias): name for name, field in model.model_fields.items()}
    given: dict[str, Any] = {name: value for name, value in defaults.items() if name in known}
    wrong: set[str] = set()
    while True:
        reading = _without(model, frozenset(wrong))
        try:
            read = reading(_env_file=env_file, **given)
        except ValidationError as error:
            found = _reasons(error)
        except pydantic_settings.SettingsError as error:
            names = [alias for alias, name in known.items() if f'"{name}"' in str(error)]
            if not names:
                raise
            found = {names[0]: "is not the JSON that is expected there"}
        else:
            if not wrong:
                return read
            return cast(
                "G", model.model_construct(**{alias: getattr(read, name, None) for alias, name in known.items()})
            )
        errors.update(found)
        wrong |= {known[name] for name in found}


def _without(model: type[G], wrong: frozenset[str]) -> type[G]:
    """Make the same group without some of its fields, to read the others."""
    if not wrong:
        return model
    fields: dict[str, Any] = {
        name: (field.rebuild_annotation(), field) for name, field in model.model_fields.items() if name not in wrong
    }
    return cast("type[G]", create_model(model.__name__, __base__=Group, **fields))


def _reasons(error: ValidationError) -> dict[str, str]:
    """Say what is wrong, by the name of the variable: of a list or a mapping, what is wrong first."""
    reasons: dict[str, str] = {}
    for one in error.errors(include_url=False, include_context=False, include_input=False):
        name, *place = (str(part) for part in one["loc"])
        text = "is not set" if one["type"] == "missing" else one["msg"][:1].lower() + one["msg"][1:]
        reasons.setdefault(name, f"{'.'.join(place)}: {text}" if place else text)
    return reasons


def _contradictions(settings: Settings, wrong: Collection[str]) -> Iterator[tuple[str, str]]:
    """Find what each setting alone cannot show. Those that are `wrong` are None."""
    jwt, kafka, redis, domain = settings.jwt, settings.kafka, settings.redis, settings.domain
    keys = ("JWT_SECRET", "JWT_PUBLIC_KEY", "JWT_PUBLIC_KEY_FILE", "JWT_JWKS_FILE")
    if not any((jwt.secret, jwt.public_key, jwt.public_key_file, jwt.jwks_file)) and not set(keys) & set(wrong):
        yield keys[0], f"set it, or {', '.join(keys[1:-1])} or {keys[-1]}"
    yield from _token_key_contradictions(jwt)
    yield from _secret_contradictions(settings)
    if kafka.min_insync_replicas and kafka.replication_factor and kafka.min_insync_replicas > kafka.replication_factor:
        yield "KAFKA_MIN_INSYNC_REPLICAS", "must not exceed KAFKA_REPLICATION_FACTOR"
    yield from _kafka_security_contradictions(kafka)
    if settings.process.fault_point and settings.process.environment not in {"development", None}:
        yield "FAULT_POINT", "is for tests, in development only"
    commands = {kind.name for kind in KINDS.values() if kind.topic == "commands"}
    if unknown := sorted(set(domain.park_behind_defects or ()) - commands):
        yield "PARK_BEHIND_DEFECTS", f"{unknown[0]} is no kind of command"
    if kafka.topic_prefix:
        try:
            ReplyTopics(domain.reply_topics or {}, kafka.topic_prefix)
        except ValueError as error:
            yield "REPLY_TOPICS", str(error)
    for caller, limit in (settings.rate.overrides or {}).items():
        if limit < 0:
            yield "RATE_LIMIT_OVERRIDES", f"{caller}: must be 0 (no limit) or more"
    if redis.cache_strict and redis.url is None and "REDIS_URL" not in wrong:
        yield "CACHE_STRICT", "needs REDIS_URL"
    file = settings.observing.url_file
    if file is not None and not file.parent.is_dir():
        yield "METRICS_URL_FILE", "its folder does not exist"


def _token_key_contradictions(jwt: Jwt) -> Iterator[tuple[str, str]]:
    """Read each source of keys by itself, then all of them: two may name the same `kid`."""
    secret = jwt.secret.get_secret_value().encode() if jwt.secret is not None else None
    public: list[PublicKey] = []
    sources: dict[str, KeySource] = {}
    if secret is not None:
        sources["JWT_SECRET"] = KeySource(secret=secret, secret_kid=jwt.secret_kid)
    if jwt.public_key is not None:
        public.append(PublicKey(jwt.public_key.get_secret_value().encode(), jwt.public_key_kid))
        sources["JWT_PUBLIC_KEY"] = KeySource(public_keys=public[-1:])
    if jwt.public_key_file is not None:
        try:
            public.append(PublicKey(jwt.public_key_file.read_bytes(), jwt.public_key_kid))
            sources["JWT_PUBLIC_KEY_FILE"] = KeySource(public_keys=public[-1:])
        except OSError as error:
            yield "JWT_PUBLIC_KEY_FILE", f"the file cannot be read: {error.strerror}"
    if jwt.jwks_file is not None:
        sources["JWT_JWKS_FILE"] = KeySource(jwks_file=jwt.jwks_file)
    wrong = {name: reason for name, source in sources.items() if (reason := _why_no_keys(source))}
    yield from wrong.items()
    together = KeySource(secret=secret, secret_kid=jwt.secret_kid, public_keys=public, jwks_file=jwt.jwks_file)
    if not wrong and len(sources) > 1 and (reason := _why_no_keys(together)):
        yield " and ".join(sources), reason


def _why_no_keys(source: KeySource) -> str | None:
    try:
        Keyring(source, time.monotonic, lambda _: None)
    except KeySourceError as error:
        return str(error)
    return None


def _secret_contradictions(settings: Settings) -> Iterator[tuple[str, str]]:
    """Compare the secrets with each other, and in production with the one that everybody knows."""
    jwt, secrets = settings.jwt, settings.secrets
    named = {
        "JWT_SECRET": jwt.secret,
        "OUTCOME_HMAC_KEY": secrets.outcome_hmac_key,
        "DLQ_SIGNING_KEY": secrets.dlq_signing_key,
        "DLQ_OPERATOR_KEY": secrets.dlq_operator_key,
        "OUTCOME_HMAC_KEY_PREVIOUS": secrets.outcome_hmac_key_previous,
        "DLQ_SIGNING_KEY_PREVIOUS": secrets.dlq_signing_key_previous,
        "DLQ_OPERATOR_KEY_PREVIOUS": secrets.dlq_operator_key_previous,
    }
    for name, secret in named.items():
        known = secret is not None and secret.get_secret_value() == DEVELOPMENT_SECRET
        if known and settings.process.environment == "production":
            yield name, "is the development secret; production needs one of its own"
    workers = [one for one in (secrets.dlq_signing_key, secrets.dlq_signing_key_previous) if one is not None]
    for name in ("DLQ_OPERATOR_KEY", "DLQ_OPERATOR_KEY_PREVIOUS"):
        if named[name] in workers:
            yield name, "must not be the DLQ_SIGNING_KEY, or nobody could tell who signed"
    for name in ("OUTCOME_HMAC_KEY", "DLQ_SIGNING_KEY", "DLQ_OPERATOR_KEY"):
        if named[f"{name}_PREVIOUS"] is not None and named[f"{name}_PREVIOUS"] == named[name]:
            yield f"{name}_PREVIOUS", f"must not be the {name}: it is the other one while that is exchanged"
    if secrets.dlq_operator_key_previous is not None and secrets.dlq_operator_key is None:
        yield "DLQ_OPERATOR_KEY_PREVIOUS", "needs DLQ_OPERATOR_KEY"


def _kafka_security_contradictions(kafka: Kafka) -> Iterator[tuple[str, str]]:
    """Say what the way into Kafka lacks."""
    protocol = kafka.security_protocol or ""
    if protocol.startswith("SASL") and kafka.sasl_mechanism == "OAUTHBEARER":
        module, _, name = (kafka.token_provider or "").partition(":")
        if not module or not name:
            yield "KAFKA_SECURITY_TOKEN_PROVIDER", "OAUTHBEARER needs one, as package.module:Class"
    elif protocol.startswith("SASL") and kafka.sasl_mechanism:
        for variable, value in (("USERNAME", kafka.username), ("PASSWORD", kafka.password)):
            if not value:
                yield f"KAFKA_SECURITY_{variable}", f"{kafka.sasl_mechanism} needs it"
    if not protocol.endswith("SSL"):
        return
    files = {"CAFILE": kafka.cafile, "CERTFILE": kafka.certfile, "KEYFILE": kafka.keyfile}
    for variable, file in files.items():
        if file is not None and not file.is_file():
            yield f"KAFKA_SECURITY_{variable}", f"the file '{file}' does not exist"
    if kafka.keyfile is not None and kafka.certfile is None:
        yield "KAFKA_SECURITY_KEYFILE", "needs KAFKA_SECURITY_CERTFILE"
