"""Customers, the outcomes of commands (inbox and outbox in one) and the counters. All tables are new here."""

from migrations.safe_ddl import drop_tables, run

revision = "003"
down_revision = "002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables; the mark of kept outcomes gets its only row."""
    run(
        """
        create table customers (
            id uuid constraint customers_pkey primary key,
            name text,
            name_key text,
            email text,
            email_key text,
            preferences jsonb not null default '{}',
            is_active boolean not null default true,
            -- counts the changes of one customer: 2 billion of them are out of reach
            -- squawk-ignore prefer-bigint-over-int
            version integer not null default 1,
            created_at timestamptz not null default now(),
            updated_at timestamptz not null default now(),
            deleted_at timestamptz,
            constraint customers_living_or_erased check (
                (deleted_at is null and name is not null and name_key is not null
                    and email is not null and email_key is not null)
                or (deleted_at is not null and name is null and name_key is null
                    and email is null and email_key is null and preferences = '{}'))
        )
        """,
        "create unique index customers_email_key on customers (email_key)",
        "create index customers_newest on customers (created_at desc, id desc) where deleted_at is null",
        "create index customers_name_trgm on customers using gin (name_key gin_trgm_ops)",
        "create index customers_email_trgm on customers using gin (email_key gin_trgm_ops)",
        """
        create table outcomes (
            caller text not null,
            message_id text not null,
            kind text not null,
            content_hmac bytea,
            envelope bytea,
            subjects uuid[] not null default '{}',
            cache_keys text[] not null default '{}',
            log_topic text not null,
            -- a partition's number is 32 bits in Kafka
            -- squawk-ignore prefer-bigint-over-int
            log_partition integer not null,
            log_offset bigint not null,
            stamped_at timestamptz not null,
            decided_at timestamptz not null default now(),
            constraint outcomes_pkey primary key (caller, message_id),
            constraint outcomes_subjects_bound check (cardinality(subjects) <= 2),
            constraint outcomes_erased_whole check ((content_hmac is null) = (envelope is null))
        )
        """,
        "create index outcomes_first_subject on outcomes ((subjects[1])) where subjects[1] is not null",
        "create index outcomes_second_subject on outcomes ((subjects[2])) where subjects[2] is not null",
        "create index outcomes_stamped on outcomes using brin (stamped_at)",
        """
        create table outcome_mark (
            only_row boolean constraint outcome_mark_pkey primary key default true
                constraint outcome_mark_single check (only_row),
            stamped_before timestamptz not null default 'epoch'
        )
        """,
        "insert into outcome_mark default values",
        """
        create table counter_deltas (
            id bigint generated always as identity constraint counter_deltas_pkey primary key,
            counter text not null,
            label text not null default '',
            amount numeric not null
        )
        """,
        "create index counter_deltas_counter on counter_deltas (counter, label)",
    )


def downgrade() -> None:
    """Drop the tables; with the outcomes goes the knowledge of which commands were applied."""
    drop_tables("counter_deltas", "outcome_mark", "outcomes", "customers")
