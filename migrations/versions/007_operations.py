"""What operators do: records of dead letters and of rewinds after a restore; and an index for the purge of outcomes.

The purge deletes the oldest outcomes, batch by batch, for ever. New rows take the room of deleted ones, so the blocks
of the table soon hold old and new alike, and a BRIN index, whose summaries only ever widen, would have every purge read
the whole table. A btree costs an insert some 5 % more and keeps the purge as cheap as what it deletes.

Every step can be repeated: the index is built while the workers go on.
"""

from migrations.safe_ddl import create_index_concurrently, drop_index_concurrently, drop_tables, run

revision = "007"
down_revision = "006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables, build the new index, drop the old one."""
    run(
        """
        create table if not exists dead_letter_actions (
            id bigint generated always as identity constraint dead_letter_actions_pkey primary key,
            -- which message, and which of its failures: where and when it first arrived, and how often it had failed
            log_topic text not null,
            -- a partition's number is 32 bits in Kafka
            -- squawk-ignore prefer-bigint-over-int
            log_partition integer not null,
            log_offset bigint not null,
            stamped_at timestamptz not null,
            attempts bigint not null,
            -- the dead letter itself
            letter_topic text not null,
            -- squawk-ignore prefer-bigint-over-int
            letter_partition integer not null,
            letter_offset bigint not null,
            reason text not null,
            kind text,
            message_id text,
            action text not null
                constraint dead_letter_actions_action_known check (action in ('replayed', 'discarded', 'revealed')),
            -- names of what an operator changed before the replay, without the values
            edits text[] not null default '{}',
            operator text not null,
            note text,
            asked_at timestamptz not null default clock_timestamp(),
            -- null: whoever asked died before the broker had it; it is as if nothing had been done
            done_at timestamptz
        )
        """,
        """
        create index if not exists dead_letter_actions_message
            on dead_letter_actions (log_topic, log_partition, log_offset)
        """,
        """
        create table if not exists offset_rewinds (
            id bigint generated always as identity constraint offset_rewinds_pkey primary key,
            log_topic text not null,
            -- squawk-ignore prefer-bigint-over-int
            log_partition integer not null,
            -- up to where the group had decided, and where it was told to go on
            from_offset bigint not null,
            to_offset bigint not null,
            operator text not null,
            rewound_at timestamptz not null default clock_timestamp()
        )
        """,
    )
    create_index_concurrently("outcomes_oldest", "outcomes (stamped_at)")
    drop_index_concurrently("outcomes_stamped")


def downgrade() -> None:
    """Drop the tables, and with them the record of what was done by hand; the index of before comes back."""
    create_index_concurrently("outcomes_stamped", "outcomes using brin (stamped_at)")
    drop_index_concurrently("outcomes_oldest")
    drop_tables("offset_rewinds", "dead_letter_actions")
