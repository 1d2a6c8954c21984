"""The composition root: the only place where settings, engine, broker, clock and ids meet. Tests build another one."""

import asyncio
import os
import platform
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, Final

import structlog
from starlette.routing import Route

from contracts.asyncapi import Deployment
from contracts.registry import KINDS
from contracts.topics import Topics
from handlers.commands import COMMANDS, PREPARATIONS
from handlers.queries import AT_ONCE, INSTEAD, LOOK_UPS, QUERIES
from handlers.rules import RuleBook
from persistence import phases
from persistence.address import Address, read_address
from persistence.backfill.definition import load_definitions
from persistence.backfill.signals import Signal
from persistence.blocks import BlockReader
from persistence.cache import RedisCache
from persistence.engine import Connection, Engine, PoolSettings, connected, create_engine
from persistence.log_positions import DecidedBefore, rewinds
from persistence.look_up import look_up_s
from persistence.outcomes import probe
from persistence.pool_use import connections_in_use
from persistence.product_queries import CatalogueReads
from persistence.rate_limits import RedisWindows
from persistence.readers import TableReaders
from persistence.redis_client import create_redis
from persistence.replica import has_replayed
from workers import worker
from workers.admission.rate import RateLimit
from workers.admission.reply_topics import ReplyTopics
from workers.backfill.control import BackfillControl
from workers.backfill.metrics import BackfillMetrics
from workers.backfill.throttle import LIMITS, Throttle
from workers.backfill.worker import run_backfill_worker as work_on_backfills
from workers.backfill.workplace import APPLICATION_NAME, RELEASED, BackfillWorkerConfig
from workers.background import beat, clear_cache_later, fold_differences, grant_wishes
from workers.checks import StartRefusedError, check_database, check_keys, warn, when_there, why_unusable
from workers.command_line.mendable import mendable
from workers.contract.site import contract_routes
from workers.deployment import (
    Role,
    connections_of,
    engine_of,
    group_id,
    kafka_security,
    key_of,
    key_or_none,
    keys_of,
    new_id,
    primary_address,
    replays_of,
    secret_of,
    too_few_connections,
    verifier_of,
)
from workers.fault_points import FaultPoints
from workers.health import Vitals, health_app
from workers.kafka.edge import KafkaEdge
from workers.kafka.recall import Recall
from workers.kafka.topics import DEAD_LETTER_BYTES
from workers.liveness import Presence, stuck_because, until_stuck
from workers.outcome_erasure import OutcomeErasure
from workers.outcome_purge import OutcomePurge
from workers.pipeline.answering import Answering
from workers.pipeline.blame import Blame
from workers.pipeline.commands import CommandPipeline
from workers.pipeline.dead_letters import DeadLetters
from workers.pipeline.intake import Intake
from workers.pipeline.look_ups import LookUps
from workers.pipeline.parking import Parking
from workers.pipeline.patience import Patience
from workers.pipeline.places import Places
from workers.pipeline.queries import QueryPipeline, Source
from workers.pipeline.refusal import Refusal
from workers.pipeline.served import unserved_because
from workers.ports import Position
from workers.settings import Settings
from workers.telemetry import logs
from workers.telemetry.dead_letters import CountedDeadLetters
from workers.telemetry.metrics import Metrics
from workers.telemetry.shared_windows import WatchedWindows
from workers.telemetry.told import Tally, Telling
from workers.telemetry.watching import Watching

MOST_LOOK_UPS: Final = 8
"""Statements for look-ups by key at once: each answers many, and may have many megabytes in hand."""

_log = structlog.get_logger(__name__)


# Parts -------------------------------------------------------------------------------------------------------------
def steering() -> Callable[[Connection], BackfillControl]:
    """Say what steers backfills over a connection; raises `DefinitionError` for a definition that cannot be loaded."""
    definitions = load_definitions(RELEASED)
    return lambda connection: BackfillControl(connection, definitions)


def contract_of(settings: Settings) -> Sequence[Route]:
    """Give the routes to what is shown of the contract."""
    domain, rate = settings.domain, settings.rate
    servers = domain.contract_servers.split(",") if domain.contract_servers else ()
    return contract_routes(
        Deployment(settings.kafka.topic_prefix, domain.currency, rate.requests, rate.window_s, tuple(servers))
    )


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What both kinds of workers are made of."""

    settings: Settings
    role: Role
    name: str
    topics: Topics
    metrics: Metrics
    watching: Watching
    primary: Engine
    edge: KafkaEdge
    intake: Intake
    refusal: Refusal
    answering: Answering
    rate_limit: RateLimit
    fault_points: FaultPoints
    cache: RedisCache
    rule_book: RuleBook
    decided_before: dict[Position, DecidedBefore]
    """Filled when the database is there, before the first batch."""


def _named(settings: Settings, role: str) -> str:
    """Name this process, and let its log lines bear the name."""
    name = settings.process.worker_name or f"{role}-{platform.node()}-{os.getpid()}"
    observing = settings.observing
    logs.configure(observing.log_level, observing.log_format, name, lines_a_minute=logs.LINES_A_MINUTE)
    return name


def unserved(role: Role) -> str | None:
    """Say which kinds this release has no use case for, or the other way round; None where all are served."""
    if role == "commands":
        return unserved_because(role, KINDS, COMMANDS, {"preparations": PREPARATIONS})
    tables = {"look-ups by key": LOOK_UPS, "what is answered together": AT_ONCE, "what to ask instead": INSTEAD}
    return unserved_because(role, KINDS, QUERIES, tables)


def _parts(settings: Settings, role: Role) -> Parts:
    if unfit := unserved(role):
        raise StartRefusedError(unfit)
    name = _named(settings, role)
    _log.info("worker_starting", environment=settings.process.environment, currency=settings.domain.currency)
    topics = Topics(settings.kafka.topic_prefix)
    metrics = Metrics()
    watching = Watching(metrics, KINDS, settings.observing.log_successes_per_s, slow_s=settings.database.slow_ms / 1000)
    fault_points = FaultPoints(settings.process.fault_point)
    decided_before: dict[Position, DecidedBefore] = {}
    lanes = settings.kafka.command_lanes if role == "commands" else 1
    edge = KafkaEdge(
        bootstrap_servers=settings.kafka.bootstrap_servers,
        security=kafka_security(settings),
        topics=topics,
        topic=topics.commands if role == "commands" else topics.queries,
        group_id=group_id(topics, role),
        client_id=name,
        lanes=lanes,
        max_records=settings.kafka.max_batch,
        session_timeout_s=settings.kafka.session_timeout_ms / 1000,
        group_instance_id=settings.kafka.group_instance_id,
        accept_auto_create=settings.kafka.accept_auto_create,
        outcomes_kept=timedelta(days=settings.domain.outcome_retention_days) if role == "commands" else None,
        min_insync_replicas=settings.kafka.min_insync_replicas,
        in_any_order=role == "queries",
        observer=watching,
        fault_points=fault_points,
    )
    reply_topics = ReplyTopics(settings.domain.reply_topics, topics.prefix)
    redis_url = secret_of(settings.redis.url)
    rate_limit = RateLimit(
        WatchedWindows(RedisWindows(redis_url, topics.prefix), watching) if redis_url is not None else None,
        limit=settings.rate.requests,
        window_s=settings.rate.window_s,
        overrides=settings.rate.overrides,
        on_fallback=metrics.rate_fallback.inc,
        on_away=lambda reason: _log.warning("redis_away", reason=reason),
    )
    intake = Intake(
        topics,
        KINDS,
        verifier_of(settings),
        reply_topics,
        key_of(settings.secrets.outcome_hmac_key),
        needs_answer=role == "queries",
        replays=replays_of(settings),
        previous_hmac_key=key_or_none(settings.secrets.outcome_hmac_key_previous),
        lanes=lanes,
    )
    primary = engine_of(settings, name, for_queries=role == "queries")
    cache = RedisCache(
        create_redis(redis_url) if redis_url is not None else None,
        primary,
        watching,
        strict=settings.redis.cache_strict,
    )
    refusal = Refusal(KINDS, rate_limit, time.time, new_id, settings.domain.refuse_sunset_versions, decided_before)
    answering = Answering(
        edge.replies,
        CountedDeadLetters(edge.dead_letters, metrics.dead_letters),
        DeadLetters(topics, replays_of(settings).signing_key, name, time.time, DEAD_LETTER_BYTES),
        cache.clear,
        fault_points,
    )
    metrics.pool_in_use.labels("primary").set_function(partial(connections_in_use, primary))
    metrics.pool_limit.labels("primary").set(connections_of(settings, for_queries=role == "queries"))
    return Parts(
        settings=settings,
        role=role,
        name=name,
        topics=topics,
        metrics=metrics,
        watching=watching,
        primary=primary,
        edge=edge,
        intake=intake,
        refusal=refusal,
        answering=answering,
        rate_limit=rate_limit,
        fault_points=fault_points,
        cache=cache,
        rule_book=RuleBook(caching=settings.domain.validation_caching),
        decided_before=decided_before,
    )


def _assemble(
    parts: Parts, *, jobs: Sequence[Callable[[], Any]], databases: Sequence[tuple[Engine, Address]]
) -> worker.Worker:
    """Put a worker together around its edge; the handler is set already."""
    observing = parts.settings.observing
    presence = Presence()

    async def start() -> None:
        for engine, address in databases:
            await check_database(engine, address)
        await check_keys(parts.primary, keys_of(parts.settings))
        await warn(parts.primary, parts.settings)
        parts.decided_before.update(await when_there(partial(rewinds, parts.primary)))
        await parts.edge.start()

    def stuck() -> str | None:
        return stuck_because(presence.seen(parts.edge.health()), parts.watching.outage, observing.stuck_after_s)

    async def failed() -> str:
        ends = [
            asyncio.ensure_future(parts.edge.failed()),
            asyncio.ensure_future(until_stuck(stuck, observing.stuck_after_s)),
        ]
        try:
            done, _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            return done.pop().result()
        finally:
            for end in ends:
                end.cancel()

    async def vitals() -> Vitals:
        if not parts.edge.health().joined:
            return Vitals(stuck(), "has not joined its group yet")
        return Vitals(stuck(), await why_unusable(parts.primary))

    async def close() -> None:
        await parts.rate_limit.close()
        await parts.cache.close()
        await _retire(parts.primary, parts.name)
        for engine, _ in databases:
            await engine.dispose()

    return worker.Worker(
        parts.name,
        health_app(vitals, parts.metrics.registry if observing.metrics else None, contract_of(parts.settings)),
        observing.host,
        observing.port,
        start,
        failed,
        parts.edge.stop,
        close,
        jobs,
    )


async def _retire(engine: Engine, name: str) -> None:
    """Say that this worker has stopped."""
    with suppress(Exception):  # the database may be away: the heartbeat runs out by itself
        async with connected(engine) as connection:
            await phases.retire(connection, name)


def _jobs(parts: Parts) -> list[Callable[[], Any]]:
    """What every worker does beside its messages."""
    return [
        partial(
            beat,
            parts.primary,
            parts.name,
            parts.role,
            parts.watching.p99_ms,
            keys_of(parts.settings),
            Telling(Tally(parts.metrics.ended), lambda: parts.edge.health().partitions),
        ),
        partial(clear_cache_later, parts.cache),
    ]


def _announce(settings: Settings) -> Callable[[str], None]:
    def announce(url: str) -> None:
        _log.info("health_served", url=url)
        if settings.observing.url_file is not None:
            settings.observing.url_file.write_text(url + "\n")

    return announce


# Workers -----------------------------------------------------------------------------------------------------------
async def run_command_worker(settings: Settings) -> int:
    """Run a worker that applies commands; returns its exit code."""
    if unfit := too_few_connections(settings):
        raise StartRefusedError(unfit)
    parts = _parts(settings, "commands")
    steered, blame = steering(), Blame(partial(probe, parts.primary))
    parking = Parking(
        parts.primary,
        parts.topics.commands,
        frozenset(settings.domain.park_behind_defects),
        key_of(settings.secrets.outcome_hmac_key),
        key_or_none(settings.secrets.outcome_hmac_key_previous),
        Recall(settings.kafka.bootstrap_servers, kafka_security(settings), parts.topics.commands),
    )
    parts.edge.handle_by(
        lambda: CommandPipeline(
            parts.intake,
            parts.refusal,
            parts.answering,
            parts.primary,
            COMMANDS,
            Patience(parts.watching.waits),
            parts.watching,
            parts.fault_points,
            new_id,
            parts.rule_book,
            parts.watching,
            steered,
            parking,
            blame,
            settings.kafka.command_lanes,
        )
    )
    purge = OutcomePurge(
        parts.primary,
        timedelta(days=settings.domain.outcome_retention_days),
        lambda: parts.watching.lag.newest_ms,
        parts.metrics.purged_outcomes.inc,
    )
    jobs: list[Callable[[], Any]] = [
        *_jobs(parts),
        partial(fold_differences, parts.primary, parts.watching.p99_ms),
        purge.forever,
        OutcomeErasure(parts.primary).forever,
    ]
    return await worker.run(
        _assemble(parts, jobs=jobs, databases=[(parts.primary, primary_address(settings))]), _announce(settings)
    )


async def run_query_worker(settings: Settings) -> int:
    """Run a worker that answers queries; returns its exit code."""
    parts = _parts(settings, "queries")
    catalogue = CatalogueReads(parts.watching)
    viewing = steering()
    connections = connections_of(settings, for_queries=True)

    def source(engine: Engine) -> Source:
        readers = TableReaders(parts.primary, engine, parts.cache, parts.rule_book, catalogue, viewing)
        return Source(readers, LookUps(partial(look_up_s, engine)))

    from_primary = source(parts.primary)
    databases = [(parts.primary, primary_address(settings))]
    replica: Engine | None = None
    if settings.database.read_url is not None:
        replica = engine_of(settings, parts.name, reading=True, for_queries=True)
        databases.append((replica, read_address(settings.database.read_url.get_secret_value())))
        from_replica = source(replica)

    async def read_from() -> Source:
        if replica is not None and await has_replayed(parts.primary, replica):
            return from_replica
        return from_primary

    async def database_answers() -> bool:
        return await why_unusable(parts.primary) is None

    pipeline = QueryPipeline(
        parts.intake,
        parts.refusal,
        parts.answering,
        read_from,
        database_answers,
        QUERIES,
        partial(Patience, parts.watching.waits),
        parts.watching,
        new_id,
        Places(connections // 2),
        asyncio.Semaphore(min(connections - connections // 2 - 1, MOST_LOOK_UPS)),
        blocks=BlockReader(parts.primary),
    )
    parts.edge.handle_by(lambda: pipeline)
    return await worker.run(_assemble(parts, jobs=_jobs(parts), databases=databases), _announce(settings))


async def run_backfill_worker(settings: Settings) -> int:
    """Run a worker that carries out backfills and steps of changes; returns its exit code."""
    name = _named(settings, "backfill")
    observing, wanted = settings.observing, settings.backfills
    metrics = Metrics()
    # For what is done beside the backfills: a step holds a connection while another one takes it.
    engine = create_engine(
        settings.database.url.get_secret_value(),
        PoolSettings(size=2, max_overflow=2),
        name,
        kind=f"{APPLICATION_NAME}/",
    )
    config = BackfillWorkerConfig(
        settings.database.url.get_secret_value(),
        name,
        throttle=Throttle({**LIMITS, Signal.LIVE_P99: wanted.live_p99_ms}, frozenset(wanted.signals_off)),
        metrics=BackfillMetrics(metrics.registry),
    )
    told_to_stop = asyncio.Event()
    work: asyncio.Task[None] | None = None

    async def start() -> None:
        nonlocal work
        await check_database(engine, primary_address(settings))
        await check_keys(engine, keys_of(settings))
        await warn(engine, settings)
        work = asyncio.create_task(work_on_backfills(config, told_to_stop), name="backfills")

    async def failed() -> str:
        assert work is not None  # noqa: S101 - `start` came first
        await asyncio.wait({work})
        error = work.exception()
        if error is not None and mendable(error) is not None:
            raise error
        return f"the backfill worker ended: {error!r}"

    async def stop() -> None:
        told_to_stop.set()
        if work is not None:
            await asyncio.wait({work})

    async def vitals() -> Vitals:
        ended = "the backfill worker ended" if work is not None and work.done() else None
        return Vitals(ended, "has not started yet" if work is None else await why_unusable(engine))

    async def close() -> None:
        await _retire(engine, name)
        await engine.dispose()

    return await worker.run(
        worker.Worker(
            name,
            health_app(vitals, metrics.registry if observing.metrics else None, contract_of(settings)),
            observing.host,
            observing.port,
            start,
            failed,
            stop,
            close,
            [
                partial(beat, engine, name, "backfill", lambda: None, keys_of(settings), Telling()),
                partial(grant_wishes, engine),
            ],
        ),
        _announce(settings),
    )
