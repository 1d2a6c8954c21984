"""The settings: what each alone, and the start of a worker, would let pass."""

from collections.abc import Iterator
from typing import Final
from urllib.parse import parse_qs, urlsplit

from workers.admission.keys import KeySourceError
from workers.checks import StartRefusedError, unset_in_production
from workers.deployment import too_few_connections, verifier_of
from workers.doctor.findings import Finding, failing, ok, warning
from workers.settings import Settings

_LOCAL: Final = frozenset({"localhost", "127.0.0.1", "::1", ""})


def examine_settings(settings: Settings) -> Iterator[Finding]:
    """Look at the settings; they were read, so each is well-formed."""
    environment = settings.process.environment
    if environment == "production":
        yield ok("environment", environment)
    else:
        yield warning(
            "environment", f"ENVIRONMENT is {environment}", "production refuses development secrets: set it there"
        )
    yield from _secrets(settings)
    yield _reply_topics(settings)
    for name, consequence, remedy in unset_in_production(settings):
        if name != "REPLY_TOPICS":  # told already, wherever we are
            yield warning("tokens", f"{name} is not set: {consequence}", remedy)
    yield from _transport(settings)
    yield _lanes(settings)
    if settings.redis.url is None:
        yield warning(
            "redis", "REDIS_URL is not set: no cache, and every process applies the full rate limit by itself"
        )


def _secrets(settings: Settings) -> Iterator[Finding]:
    try:
        verifier_of(settings)
    except (KeySourceError, StartRefusedError) as error:
        yield failing("tokens", str(error))
    else:
        yield ok("tokens", "there is a key to verify them with")
    secrets = settings.secrets
    if secrets.outcome_hmac_key == secrets.dlq_signing_key:
        yield warning("secrets", "OUTCOME_HMAC_KEY and DLQ_SIGNING_KEY are the same", "give each a value of its own")
    if secrets.dlq_operator_key is None:
        yield warning("secrets", "DLQ_OPERATOR_KEY is not set: dead letters can be replayed, but not edited")
    else:
        yield ok("secrets", "dead letters can be replayed and edited")


def _reply_topics(settings: Settings) -> Finding:
    bound = settings.domain.reply_topics
    if not bound:
        return warning(
            "reply topics",
            f"REPLY_TOPICS is not set: callers may have answers put into any {settings.kafka.topic_prefix}.replies.*",
            "name for each caller the topics it may be answered on",
        )
    return ok("reply topics", f"{len(bound)} callers may be answered, on their own topics")


def _transport(settings: Settings) -> Iterator[Finding]:
    """Passwords and personal data must not cross a network in the clear."""
    servers = [server.rpartition(":")[0].strip("[]") for server in settings.kafka.bootstrap_servers.split(",")]
    if not settings.kafka.security_protocol.endswith("SSL") and not set(servers) <= _LOCAL:
        yield warning("transport", "Kafka is reached without TLS", "KAFKA_SECURITY_PROTOCOL=SASL_SSL or SSL")
    url = urlsplit(settings.database.url.get_secret_value())
    mode = parse_qs(url.query).get("sslmode", ["none"])[0]
    if (url.hostname or "") not in _LOCAL and mode not in {"require", "verify-ca", "verify-full"}:
        yield warning("transport", "the database is reached without TLS", "add ?sslmode=verify-full to DATABASE_URL")


def _lanes(settings: Settings) -> Finding:
    lanes, partitions = settings.kafka.command_lanes, settings.kafka.partitions
    text = f"COMMAND_LANES is {lanes}, of {partitions} partitions"
    if unfit := too_few_connections(settings):
        return failing("lanes", unfit)
    if lanes > partitions:
        return warning("lanes", f"{text}: {lanes - partitions} have nothing to do", "lower it, or add partitions")
    return ok("lanes", f"{text}: {-(-partitions // lanes)} command workers have something to do")
