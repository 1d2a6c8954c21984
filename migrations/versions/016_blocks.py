"""Whom operators block, and which kinds; and the record of who blocked what, and why.

Workers of the release before know nothing of it: they serve everybody until they are replaced.
"""

from migrations.safe_ddl import drop_tables, run

revision = "016"
down_revision = "015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create both tables."""
    run(
        """
        create table if not exists blocks (
            target text not null constraint blocks_target_known check (target in ('caller', 'kind')),
            -- a kind's name; of a caller its subject, or issuer, a blank, subject
            name text not null,
            operator text not null,
            reason text not null,
            blocked_at timestamptz not null default clock_timestamp(),
            constraint blocks_pkey primary key (target, name)
        )
        """,
        """
        create table if not exists block_log (
            id bigint generated always as identity constraint block_log_pkey primary key,
            action text not null constraint block_log_action_known check (action in ('block', 'unblock')),
            target text not null,
            name text not null,
            operator text not null,
            reason text not null,
            acted_at timestamptz not null default clock_timestamp()
        )
        """,
    )


def downgrade() -> None:
    """Drop both: nobody is blocked any more, and nobody knows who was."""
    drop_tables("block_log", "blocks")
