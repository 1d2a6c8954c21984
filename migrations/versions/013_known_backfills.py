"""Which backfills each worker knows: a run that none of them knows would wait without anybody saying why.

Workers of the release before say nothing of it, and may know any.
"""

from migrations.safe_ddl import run

revision = "013"
down_revision = "012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column: name of a definition to the digest of its file."""
    run("alter table backfill_workers add column if not exists definitions jsonb")


def downgrade() -> None:
    """Drop it: nothing but what workers say anew within seconds."""
    run(
        """
        -- squawk-ignore ban-drop-column
        alter table backfill_workers drop column definitions
        """
    )
