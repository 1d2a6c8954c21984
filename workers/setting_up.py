"""What a deployment needs once before its workers: topics, a schema, and for a trial some data."""

from datetime import UTC, datetime
from functools import partial

from contracts.topics import Topics
from migrations import runner
from persistence.seed import SeedSizes
from persistence.sessions import unfit_because
from workers.deployment import engine_of, kafka_security, primary_address
from workers.kafka.topics import TopicAdmin
from workers.seed import seed_with_progress
from workers.settings import Settings


async def create_topics(settings: Settings) -> list[str]:
    """Create the topics; one readable line for each."""
    kafka = settings.kafka
    async with TopicAdmin(kafka.bootstrap_servers, kafka_security(settings)) as admin:
        reports = await admin.create_topics(
            Topics(kafka.topic_prefix),
            partitions=kafka.partitions,
            replication_factor=kafka.replication_factor,
            min_insync_replicas=kafka.min_insync_replicas,
        )
    return [str(report) for report in reports]


async def seed(settings: Settings, sizes: SeedSizes) -> None:
    """Load a believable data set, with a progress bar."""
    engine = engine_of(settings, "catalog-seed")
    try:
        await seed_with_progress(engine, sizes, datetime.now(UTC))
    finally:
        await engine.dispose()


async def migrate(settings: Settings) -> list[str]:
    """Bring the schema up to date; the revisions that were applied."""
    address = primary_address(settings)
    return await runner.upgrade(address.arguments("catalog-migrations"), unfit_because=partial(unfit_because, address))
