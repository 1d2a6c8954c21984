"""Whose keys these are: a fingerprint of each key that all workers must share, and which keys each worker has.

Workers of the release before say nothing of their keys, and may have any.
"""

from migrations.safe_ddl import drop_tables, run

revision = "012"
down_revision = "011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table, and the heartbeats' column."""
    run(
        """
        create table if not exists key_fingerprints (
            name text constraint key_fingerprints_pkey primary key,
            -- an HMAC by the key of a fixed text: tells nothing of the key
            fingerprint bytea not null,
            recorded_at timestamptz not null default now()
        )
        """,
        "alter table worker_heartbeats add column if not exists keys jsonb",
    )


def downgrade() -> None:
    """Drop both: the next release records anew."""
    run(
        """
        -- squawk-ignore ban-drop-column
        alter table worker_heartbeats drop column keys
        """
    )
    drop_tables("key_fingerprints")
