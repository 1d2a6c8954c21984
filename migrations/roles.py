"""A role for the workers that may do their work and nothing else: no DDL, no other table, no delete where none is due.

Migrations run as the owner of the tables; with this role, a fault in a worker cannot change the schema.
"""

from collections.abc import Mapping
from typing import Final

import asyncpg

from migrations.runner import Database, MigrationError, Patience, connected

ROWS: Final = "select, insert, update, delete"
KEPT: Final = "select, insert, update"
"""For what is never deleted: a customer leaves a tombstone, an order is cancelled."""

PRIVILEGES: Final[Mapping[str, str]] = {
    "alembic_version": "select",
    "products": ROWS,
    "product_versions": ROWS,
    "product_version_items": ROWS,
    "validation_instances": ROWS,
    "customers": KEPT,
    "outcomes": ROWS,
    "outcome_mark": "select, update",
    "outcome_erasures": ROWS,
    "counter_deltas": ROWS,
    "orders": KEPT,
    "product_holds": ROWS,
    "customer_summaries": ROWS,
    "customer_category_counts": ROWS,
    "cache_invalidations": ROWS,
    "backfill_runs": ROWS,
    "backfill_chunks": ROWS,
    "backfill_quarantine": ROWS,
    "backfill_times": ROWS,
    "backfill_workers": ROWS,
    "backfill_budget": "select, update",
    "schema_changes": "select, update",
    "schema_change_log": "select, insert",
    "phase_wishes": KEPT,
    "worker_heartbeats": ROWS,
    "dead_letter_actions": KEPT,
    "offset_rewinds": "select, insert",
    "parked_commands": ROWS,
    "key_fingerprints": KEPT,
    "blocks": ROWS,
    "block_log": "select, insert",
}
"""What a worker needs, by table. A revision that adds a table adds its line here; a test compares the two."""

STATISTICS: Final = "pg_read_all_stats"
"""The backfill's throttle reads what the whole server is doing; it may look, not touch."""


async def grant_worker(database: Database, role: str, *, patience: Patience | None = None) -> None:
    """Give an existing role the privileges of a worker, in one transaction; to repeat it is right after each migration.

    What the role had before stays, so it should own nothing. The caller owns the tables and may grant
    `pg_read_all_stats` (a superuser may). Raises `MigrationError`: no such role, or not the owner.
    """
    name = '"' + role.replace('"', '""') + '"'
    statements = [
        f"grant usage on schema public to {name}",
        *(f"grant {privileges} on table {table} to {name}" for table, privileges in PRIVILEGES.items()),
        f"grant {STATISTICS} to {name}",
    ]
    async with connected(database, patience) as connection:
        try:
            await connection.execute(";\n".join(statements))
        except asyncpg.PostgresError as error:
            raise MigrationError(f"the role {role} cannot be made a worker's: {error}") from error
