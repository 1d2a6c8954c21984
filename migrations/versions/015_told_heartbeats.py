"""What a worker tells of itself beside that it lives: release, partitions, and what ended in the last minute and hour.

Workers of the release before tell nothing.
"""

from migrations.safe_ddl import run

revision = "015"
down_revision = "014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the column."""
    run("alter table worker_heartbeats add column if not exists told jsonb")


def downgrade() -> None:
    """Drop it: it is told anew with each beat."""
    run(
        """
        -- squawk-ignore ban-drop-column
        alter table worker_heartbeats drop column told
        """
    )
