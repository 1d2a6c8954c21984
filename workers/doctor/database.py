"""The database: is it fit for what is promised, and large enough."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from migrations import runner
from persistence.engine import Connection, Engine, connected
from persistence.key_fingerprints import recorded, workers_without
from persistence.role_rights import excess_rights
from persistence.sessions import unfit_because
from workers.checks import DURABLE, OLDEST_SERVER, RIGHTS_REMEDY, STRANGE_KEY
from workers.deployment import keys_of, primary_address
from workers.doctor.findings import Finding, failing, ok, warning
from workers.settings import Settings

LOCKS_OF_A_MESSAGE: Final = 2
"""Names that a command locks at most, but for imports: the e-mail that is taken and the one that is released."""
LOCKS_OF_A_BATCH: Final = 100
"""Tables, indexes and phases."""
IMPORT_ROWS: Final = 1000
"""An import locks a name for each of its rows, and is a batch of its own."""
CLOCKS_APART: Final = timedelta(seconds=5)

_SETTINGS: Final = """
select name, setting from pg_settings where name in ('server_version_num', 'server_version', 'synchronous_commit',
    'fsync', 'full_page_writes', 'autovacuum', 'max_connections', 'max_prepared_transactions',
    'max_locks_per_transaction')"""
_STANDING: Final = """
select clock_timestamp() as now, stamped_before as mark, (select min(stamped_at) from outcomes) as oldest
from outcome_mark"""
_PARKED: Final = """
select count(*) as commands, count(distinct key_hmac) as keys, min(parked_at) as since from parked_commands"""
_LONGEST: Final = """
select pid, application_name, extract(epoch from now() - xact_start)::float8 as seconds
from pg_stat_activity
where datname = current_database() and xact_start < now() - interval '5 minutes' and pid <> pg_backend_pid()
order by xact_start limit 1"""


async def examine_database(engine: Engine, settings: Settings) -> AsyncIterator[Finding]:
    """Look at the server, the schema and the outcomes."""
    if unfit := await unfit_because(primary_address(settings)):
        text, _, remedy = unfit.partition(": ")
        yield failing("sessions", text, remedy)
        return
    async with connected(engine) as connection:
        found = {row["name"]: row["setting"] for row in await connection.fetch(_SETTINGS)}
        yield _version(found)
        yield _durability(found)
        yield _connections(found, settings)
        yield _locks(found, settings)
        if found["autovacuum"] != "on":
            yield failing("autovacuum", "autovacuum is off: tables and indexes grow without bound", "autovacuum = on")
    finding = await _schema(settings)
    yield finding
    if finding.level != "failing":
        async with connected(engine) as connection:
            async for one in _keys(connection, settings):
                yield one
            if rights := await excess_rights(connection):
                yield warning("role", rights, RIGHTS_REMEDY)
            async for one in _outcomes(connection, settings):
                yield one


def _version(found: dict[str, str]) -> Finding:
    if int(found["server_version_num"]) < OLDEST_SERVER:
        return failing("database", f"PostgreSQL {found['server_version']}", "transaction_timeout needs 17 or newer")
    return ok("database", f"PostgreSQL {found['server_version']}")


def _durability(found: dict[str, str]) -> Finding:
    if found["synchronous_commit"] not in DURABLE:
        text = f"synchronous_commit is {found['synchronous_commit']}: an answered command could be lost in a crash"
        return failing("durability", text, "synchronous_commit = on")
    for name in ("fsync", "full_page_writes"):
        if found[name] != "on":
            return failing("durability", f"{name} is {found[name]}: a crash damages the data", f"{name} = on")
    return ok("durability", f"synchronous_commit is {found['synchronous_commit']}, fsync is on")


def _connections(found: dict[str, str], settings: Settings) -> Finding:
    pool = settings.database.pool_size + settings.database.max_overflow
    room = int(found["max_connections"]) // pool
    text = f"{found['max_connections']} connections, {pool} for each worker at most"
    if room < 1:
        return failing("connections", text, "raise max_connections, or lower DB_POOL_SIZE and DB_MAX_OVERFLOW")
    if room < settings.kafka.partitions:
        return warning("connections", f"{text}: for certain enough for {room} workers only")
    return ok("connections", text)


def _locks(found: dict[str, str], settings: Settings) -> Finding:
    """Compare the lock table, which all sessions share, with what a batch may lock: names are advisory locks."""
    sessions = int(found["max_connections"]) + int(found["max_prepared_transactions"])
    capacity = int(found["max_locks_per_transaction"]) * sessions
    batch = max(settings.kafka.max_batch * LOCKS_OF_A_MESSAGE, IMPORT_ROWS) + LOCKS_OF_A_BATCH
    room = capacity // batch
    text = f"{capacity} locks fit, a batch of {settings.kafka.max_batch} takes up to {batch}: {room} at once"
    remedy = "raise max_locks_per_transaction, or lower KAFKA_MAX_BATCH"
    if room < 1:
        return failing("lock table", text, remedy)
    return ok("lock table", text) if room >= settings.kafka.partitions else warning("lock table", text, remedy)


async def _schema(settings: Settings) -> Finding:
    at = await runner.current(
        primary_address(settings).arguments("catalog-doctor"), patience=runner.Patience(database_s=0)
    )
    revisions = runner.history()
    head = [one.revision for one in revisions if one.branch == "main"][-1]
    unknown = sorted(set(at) - {one.revision for one in revisions})
    if unknown:
        return failing("schema", f"revision {unknown[0]} is of another release", "run the release that it belongs to")
    main = [one.revision for one in revisions if one.branch == "main" and one.revision in at]
    if not at:
        return failing("schema", "there is none", "catalog migrate")
    if not main and not any(one.revision in at for one in revisions if one.branch == "contract"):
        return failing("schema", f"revision {', '.join(at)}", "catalog migrate")
    if main and main[-1] != head:
        return failing("schema", f"revision {main[-1]}, this release needs {head}", "catalog migrate")
    return ok("schema", f"revision {', '.join(at)}")


async def _keys(connection: Connection, settings: Settings) -> AsyncIterator[Finding]:
    """Compare this command's keys with those that the workers recorded."""
    known = await recorded(connection)
    for pair in keys_of(settings):
        found = known.get(pair.name)
        if found is None:
            yield warning("keys", f"{pair.name}: nothing is recorded yet", "the first worker that starts records it")
        elif found.fingerprint == pair.fingerprints[0]:
            since = f"{found.recorded_at:%Y-%m-%d %H:%M}Z"
            held = f", {pair.name}_PREVIOUS is accepted as well" if pair.previous is not None else ""
            yield ok("keys", f"{pair.name} is the workers' since {since}{held}")
        elif found.fingerprint in pair.fingerprints:
            yield warning(
                "keys",
                f"{pair.name} is being exchanged: its _PREVIOUS is recorded still",
                "it is recorded once no live worker has the old one as its first",
            )
        else:
            yield failing("keys", f"{pair.name} {STRANGE_KEY.partition(':')[0]}", STRANGE_KEY.partition(": ")[2])
        if found is not None and (without := await workers_without(connection, pair)):
            yield failing(
                "keys",
                f"{pair.name}: not accepted by {', '.join(without)}",
                "give all workers the same key, and restart",
            )


async def _outcomes(connection: Connection, settings: Settings) -> AsyncIterator[Finding]:
    standing: Any = await connection.fetchrow(_STANDING)
    apart = abs(standing["now"] - datetime.now(UTC))
    if apart > CLOCKS_APART:
        yield warning("clocks", f"this machine's and the database's are {apart.total_seconds():.0f} s apart")
    kept = timedelta(days=settings.domain.outcome_retention_days)
    if standing["mark"] > standing["now"] - kept + timedelta(days=1):
        yield failing(
            "outcomes",
            f"the purge mark is {standing['mark']:%Y-%m-%d %H:%M}Z: messages before it are refused as too old",
            f"kept are {kept.days} days; was OUTCOME_RETENTION_DAYS shorter before?",
        )
    elif standing["oldest"] is not None and standing["oldest"] < standing["now"] - kept - timedelta(days=2):
        age = standing["now"] - standing["oldest"]
        yield warning(
            "outcomes", f"the oldest is {age.days} days old, {kept.days} are kept: is a command worker running?"
        )
    else:
        yield ok("outcomes", f"kept for {kept.days} days, the mark is {standing['mark']:%Y-%m-%d %H:%M}Z")
    parked: Any = await connection.fetchrow(_PARKED)
    if parked["commands"]:
        yield warning(
            "parked commands",
            f"{parked['commands']} commands wait behind a defect of one of {parked['keys']} keys, since"
            f" {parked['since']:%Y-%m-%d %H:%M}Z",
            "mend it, then `catalog dlq replay --reason INTERNAL_ERROR --reason PARKED`",
        )
    longest: Any = await connection.fetchrow(_LONGEST)
    if longest is not None:
        yield warning(
            "transactions",
            f"{longest['application_name'] or 'a session'} (pid {longest['pid']}) has one open for "
            f"{longest['seconds'] / 60:.0f} minutes: it holds up the purge and autovacuum",
        )
