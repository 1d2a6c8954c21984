"""Commands that wait behind one of their key that met a defect, and that one itself: what has to come back in order.

The table is new, and empty where nobody asked for parking.
"""

from migrations.safe_ddl import drop_tables, run

revision = "009"
down_revision = "008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table."""
    run(
        """
        create table parked_commands (
            log_topic text not null,
            -- a keyed hash of the record's key, which may be an e-mail address
            key_hmac bytea not null,
            -- a partition's number is 32 bits in Kafka
            -- squawk-ignore prefer-bigint-over-int
            log_partition integer not null,
            log_offset bigint not null,
            stamped_at timestamptz not null,
            -- of the defect that the key waits for
            incident text not null,
            parked_at timestamptz not null default clock_timestamp(),
            constraint parked_commands_pkey primary key (log_topic, key_hmac, stamped_at, log_partition, log_offset)
        )
        """
    )


def downgrade() -> None:
    """Drop the table: what is parked then comes back in the order in which an operator brings it back."""
    drop_tables("parked_commands")
