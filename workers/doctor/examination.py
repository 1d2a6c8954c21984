"""Everything, looked at in turn: what cannot be reached fails, and what depends on it is left out."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from datetime import timedelta
from typing import Final

from contracts.registry import KINDS
from contracts.topics import Topics
from migrations.runner import MigrationError
from persistence.causes import cause_of
from persistence.engine import Engine
from persistence.faults import Fault, fault_of
from persistence.rate_limits import RedisAwayError, RedisWindows
from workers import deployment
from workers.admission.rate import RateLimit
from workers.admission.reply_topics import ReplyTopics
from workers.doctor.data import examine_data
from workers.doctor.database import examine_database
from workers.doctor.findings import Finding, Level, failing, ok, warning
from workers.doctor.restore import Case, Restore
from workers.doctor.rules import examine_rules
from workers.doctor.settings import examine_settings
from workers.kafka.connection import KafkaAccessError
from workers.kafka.log_reader import LogReader, NoSuchTopicError
from workers.kafka.security import SecurityConfigError
from workers.kafka.topic_survey import Planned, TopicSurvey
from workers.pipeline.intake import Intake
from workers.pipeline.refusal import Refusal
from workers.ports import BrokerAwayError
from workers.settings import Settings

REACH_TIMEOUT_S: Final = 15.0
"""How long a server is tried to be reached before it counts as away."""
_PROCEDURE: Final = "stop the command workers and follow workers/RESTORE.md"


async def examine(settings: Settings) -> AsyncGenerator[Finding, None]:
    """Look at settings, database, topics, Redis, and at what database and topics say of each other."""
    for finding in examine_settings(settings):
        yield finding
    engine = deployment.engine_of(settings, "catalog-doctor")
    try:
        database_fit = True
        async for finding in _database(engine, settings):
            if finding.level is Level.FAILING and finding.about in {"database", "schema", "sessions"}:
                database_fit = False
            yield finding
        if database_fit:
            async for finding in _data(engine):
                yield finding
        if database_fit:
            async for finding in _rules(engine):
                yield finding
        async for finding in _kafka(settings, engine if database_fit else None):
            yield finding
    finally:
        await engine.dispose()
    if settings.redis.url is not None:
        yield await _redis(settings)


def restore_of(settings: Settings, reader: LogReader, engine: Engine) -> Restore:
    """Put together what compares the database with the topics."""
    topics = Topics(settings.kafka.topic_prefix)
    intake = Intake(
        topics,
        KINDS,
        deployment.verifier_of(settings),
        ReplyTopics(settings.domain.reply_topics, topics.prefix),
        settings.secrets.outcome_hmac_key.get_secret_value().encode(),
        needs_answer=False,
        replays=deployment.replays_of(settings),
    )
    limits = RateLimit(
        None,
        limit=settings.rate.requests,
        window_s=settings.rate.window_s,
        overrides=settings.rate.overrides,
        on_fallback=lambda: None,
    )
    refusal = Refusal(KINDS, limits, lambda: 0.0, deployment.new_id, settings.domain.refuse_sunset_versions)
    return Restore(reader, engine, topics, deployment.group_id(topics, "commands"), intake, refusal)


async def _database(engine: Engine, settings: Settings) -> AsyncIterator[Finding]:
    try:
        async with asyncio.timeout(REACH_TIMEOUT_S):
            async for finding in examine_database(engine, settings):
                yield finding
    except MigrationError as error:
        yield failing("database", str(error))
    except Exception as error:
        if fault_of(error) is Fault.DEFECT:
            raise
        yield failing("database", f"it cannot be used: {cause_of(error)}", "is DATABASE_URL right?")


async def _rules(engine: Engine) -> AsyncIterator[Finding]:
    try:
        async for finding in examine_rules(engine):
            yield finding
    except Exception as error:
        if fault_of(error) is Fault.DEFECT:
            raise
        yield failing("rules", f"they cannot be read ({type(error).__name__})")


async def _data(engine: Engine) -> AsyncIterator[Finding]:
    try:
        async for finding in examine_data(engine):
            yield finding
    except Exception as error:
        if fault_of(error) is Fault.DEFECT:
            raise
        yield failing("database", f"it did not answer ({type(error).__name__})")


async def _kafka(settings: Settings, engine: Engine | None) -> AsyncIterator[Finding]:
    kafka, topics = settings.kafka, Topics(settings.kafka.topic_prefix)
    try:
        survey = TopicSurvey(kafka.bootstrap_servers, deployment.kafka_security(settings), "catalog-doctor")
        async with asyncio.timeout(REACH_TIMEOUT_S):
            await survey.__aenter__()
    except (KafkaAccessError, SecurityConfigError) as error:
        yield failing("kafka", str(error))
        return
    except TimeoutError:
        yield failing("kafka", "it does not answer", "are KAFKA_BOOTSTRAP_SERVERS and KAFKA_SECURITY_PROTOCOL right?")
        return
    try:
        planned = Planned(
            kafka.partitions,
            kafka.replication_factor,
            kafka.min_insync_replicas,
            kafka.accept_auto_create,
            timedelta(days=settings.domain.outcome_retention_days),
        )
        for state in await survey.survey(topics, planned):
            for problem in state.problems:
                yield failing(state.name, problem, "catalog topics create" if "does not exist" in problem else "")
            for text in state.warnings:
                yield warning(state.name, text)
            if not state.problems and not state.warnings:
                yield ok(state.name, "as it should be")
        if engine is not None:
            async for finding in _restore(survey, engine, settings, topics):
                yield finding
    except (BrokerAwayError, KafkaAccessError) as error:
        yield failing("kafka", str(error))
    finally:
        await survey.__aexit__()


async def _restore(survey: TopicSurvey, engine: Engine, settings: Settings, topics: Topics) -> AsyncIterator[Finding]:
    try:
        compared = await restore_of(settings, survey, engine).compare()
        spans = [await survey.spans(topics.dead_letters(topic)) for topic in (topics.commands, topics.queries)]
    except NoSuchTopicError:
        return  # said already
    if compared.case in {Case.DATABASE_OLDER, Case.TOPIC_OLDER}:
        yield failing("restore", f"{compared.case.value}: {compared.evidence}", _PROCEDURE)
    elif compared.case is Case.DATABASE_MAY_BE_OLDER:
        yield warning(
            "restore", f"{compared.case.value}: {compared.evidence}", "if it was restored: workers/RESTORE.md"
        )
    else:
        yield ok("restore", compared.case.value)
    letters = sum(end - first for span in spans for first, end in span.values())
    text = f"{letters} on the dead-letter topics, those dealt with included"
    yield warning("dead letters", text, "catalog dlq group") if letters else ok("dead letters", "none")


async def _redis(settings: Settings) -> Finding:
    assert settings.redis.url is not None  # noqa: S101 - the caller looked
    windows = RedisWindows(settings.redis.url.get_secret_value(), settings.kafka.topic_prefix)
    try:
        await windows.ping()
    except RedisAwayError as error:
        return failing("redis", f"it does not answer ({str(error).partition(':')[0]})", "is REDIS_URL right?")
    finally:
        await windows.close()
    return ok("redis", "it answers, and runs scripts")
