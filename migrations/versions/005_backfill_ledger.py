"""The ledger of backfills: runs, their chunks, what was put aside, and how the work is shared and paced.

Whoever must know whether a backfill is done looks here and at the data: the `done` and `quarantined` chunks of each
pass of a run of kind `work` tile the key range, every one of them applied exactly once; a run of kind `verify` that is
`completed` found that so, and the data in order, at some moment after its `started_at`. All tables are new.
"""

from migrations.safe_ddl import drop_tables, run

revision = "005"
down_revision = "004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables; the budget that all backfills share gets its only row."""
    run(
        """
        create table backfill_runs (
            id bigint generated always as identity constraint backfill_runs_pkey primary key,
            name text not null,
            kind text not null constraint backfill_runs_kind_known check (kind in ('work', 'verify')),
            -- the definition that is carried out (its reverse has another name), and the SHA-256 of its file
            definition text not null,
            definition_digest text not null,
            reverse boolean not null default false,
            dry_run boolean not null default false,
            verifies bigint constraint backfill_runs_verifies_fkey references backfill_runs (id) on delete cascade,
            state text not null constraint backfill_runs_state_known check (state in (
                'pending', 'running', 'pausing', 'paused', 'cancelling', 'cancelled',
                'completed', 'completed_with_quarantine', 'failed')),
            -- why it is in that state, in a sentence for an operator
            reason text,
            -- rows a second, all workers together; null: no cap. The next chunk may start at rate_free_at
            rate_rows_per_s double precision constraint backfill_runs_rate_positive check (rate_rows_per_s > 0),
            rate_free_at timestamptz not null default '-infinity',
            -- the walk: which time through the table, where its next chunk begins (null: before the first key),
            -- whether it is planned to the end, and the size of the chunk planned last
            pass bigint not null default 1,
            walked_to text[],
            walked boolean not null default false,
            chunk_rows bigint not null,
            rows_estimated bigint,
            -- measured: seconds that a row takes which has nothing left to do
            idle_row_s double precision,
            -- a dry run's estimate, a verify's findings
            result jsonb,
            asked_at timestamptz not null default clock_timestamp(),
            -- when the state was last changed, or a change of it was asked for
            state_since timestamptz not null default clock_timestamp(),
            started_at timestamptz,
            finished_at timestamptz,
            constraint backfill_runs_verify_of check ((kind = 'verify') = (verifies is not null))
        )
        """,
        """
        create unique index backfill_runs_one_active on backfill_runs (name)
            where state in ('pending', 'running', 'pausing', 'paused', 'cancelling')
        """,
        "create index backfill_runs_newest on backfill_runs (name, id desc)",
        "create index backfill_runs_verifies on backfill_runs (verifies) where verifies is not null",
        """
        create table backfill_chunks (
            id bigint generated always as identity constraint backfill_chunks_pkey primary key,
            run_id bigint not null
                constraint backfill_chunks_run_fkey references backfill_runs (id) on delete cascade,
            pass bigint not null,
            -- the chunk that was halved
            parent_id bigint,
            -- low <= key < high, each key column as text; null: without bound
            low text[],
            high text[],
            state text not null
                constraint backfill_chunks_state_known
                check (state in ('waiting', 'leased', 'done', 'split', 'quarantined')),
            -- the fence: raised by every lease and every take-back; whoever holds an older one can change nothing
            epoch bigint not null default 1,
            worker text,
            lease_until timestamptz,
            leased_at timestamptz,
            attempts bigint not null default 0,
            not_before timestamptz not null default '-infinity',
            -- keys in the range when it was planned, and rows that were treated
            rows_walked bigint not null,
            rows_done bigint not null default 0,
            -- commits of this chunk's work: 1 for every done one, or the engine is broken
            applied bigint not null default 0,
            seconds double precision,
            -- of f(source) and of the target, in one snapshot
            expected_digest bigint,
            actual_digest bigint,
            -- verify: rows that still meet the predicate, rows that differ, and the key of one of them
            rows_left bigint,
            rows_differing bigint,
            sample_key text[],
            error text,
            planned_at timestamptz not null default clock_timestamp(),
            finished_at timestamptz
        )
        """,
        "create index backfill_chunks_open on backfill_chunks (run_id, id) where state in ('waiting', 'leased')",
        "create index backfill_chunks_run on backfill_chunks (run_id, pass, state)",
        "create index backfill_chunks_finished on backfill_chunks (run_id, finished_at)",
        """
        create table backfill_quarantine (
            id bigint generated always as identity constraint backfill_quarantine_pkey primary key,
            run_id bigint not null
                constraint backfill_quarantine_run_fkey references backfill_runs (id) on delete cascade,
            key text[] not null,
            reason text not null,
            quarantined_at timestamptz not null default clock_timestamp(),
            -- set when the row is tried again
            released_at timestamptz
        )
        """,
        "create unique index backfill_quarantine_key on backfill_quarantine (run_id, key) where released_at is null",
        """
        create table backfill_times (
            run_id bigint not null
                constraint backfill_times_run_fkey references backfill_runs (id) on delete cascade,
            spent text not null
                constraint backfill_times_spent_known check (spent in ('running', 'held', 'waiting', 'idle')),
            -- what held it; empty for the others
            signal text not null default '',
            seconds double precision not null,
            constraint backfill_times_pkey primary key (run_id, spent, signal)
        )
        """,
        """
        create table backfill_workers (
            worker text constraint backfill_workers_pkey primary key,
            run_id bigint,
            spent text not null,
            signal text not null default '',
            seen_at timestamptz not null default clock_timestamp()
        )
        """,
        """
        create table backfill_budget (
            only_row boolean constraint backfill_budget_pkey primary key default true
                constraint backfill_budget_single check (only_row),
            -- the last reading of the throttle's signals: whose turn, since when, and what follows from it
            claimed_at timestamptz not null default '-infinity',
            sampled_at timestamptz not null default '-infinity',
            sampled_by text,
            level double precision not null default 0,
            signal text not null default '',
            share double precision not null default 1,
            ceiling double precision not null default 1,
            trusted double precision not null default 1,
            readings jsonb not null default '[]',
            wal_lsn pg_lsn,
            -- while slowed down: when the next chunk of anybody may start
            free_at timestamptz not null default '-infinity',
            pruned_at timestamptz not null default '-infinity'
        )
        """,
        "insert into backfill_budget default values",
    )


def downgrade() -> None:
    """Drop the ledger; what the backfills did to the data stays."""
    drop_tables(
        "backfill_budget",
        "backfill_workers",
        "backfill_times",
        "backfill_quarantine",
        "backfill_chunks",
        "backfill_runs",
    )
