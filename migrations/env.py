"""What Alembic runs to reach the database; all its configuration comes from `migrations.runner`.

Online it uses the connection that the runner holds (with the migrators' lock on it); offline it writes SQL.
"""

from collections.abc import Collection, Mapping
from typing import Any

from alembic import context
from alembic.runtime.migration import MigrationContext, MigrationInfo
from sqlalchemy import Connection

from migrations.safe_ddl import SESSION_SETTINGS


def write_sql() -> None:
    """Write the statements of the revisions, led by the session's settings that the runner gives online."""
    context.configure(dialect_name="postgresql", literal_binds=True, transaction_per_migration=True)
    for name, value in SESSION_SETTINGS.items():
        context.execute(f"set {name} = '{value}'")
    context.run_migrations()


def migrate(connection: Connection, applied: list[str]) -> None:
    """Run the revisions, each in a transaction of its own, and note the name of each that was committed."""

    def note(
        ctx: MigrationContext,  # noqa: ARG001 (Alembic passes all four by name)
        step: MigrationInfo,
        heads: Collection[Any],  # noqa: ARG001
        run_args: Mapping[str, Any],  # noqa: ARG001
    ) -> None:
        applied.extend(step.up_revision_ids if step.is_upgrade else step.source_revision_ids)

    context.configure(connection=connection, transaction_per_migration=True, on_version_apply=note)
    with context.begin_transaction():
        context.run_migrations()


if context.is_offline_mode():
    write_sql()
else:
    migrate(context.config.attributes["connection"], context.config.attributes["applied"])
