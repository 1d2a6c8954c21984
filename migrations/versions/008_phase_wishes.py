"""Steps of schema changes that operators asked for, and what became of them.

A command cannot take a step itself: its transaction holds the very lock that the step needs alone. So the wish is
recorded with the command's outcome, and a backfill worker carries it out. The table is new.
"""

from migrations.safe_ddl import drop_tables, run

revision = "008"
down_revision = "007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table; a change has at most one wish that waits."""
    run(
        """
        create table phase_wishes (
            id bigint generated always as identity constraint phase_wishes_pkey primary key,
            change text not null constraint phase_wishes_change_fkey references schema_changes (change),
            to_phase text not null constraint phase_wishes_phase_known check (
                to_phase in ('expanded', 'dual_write', 'backfilled', 'reading_new', 'contracted')),
            state text not null default 'waiting'
                constraint phase_wishes_state_known check (state in ('waiting', 'done', 'refused')),
            -- why it was refused, in a sentence for an operator
            reason text constraint phase_wishes_reason_given check ((reason is not null) = (state = 'refused')),
            asked_by text not null,
            asked_at timestamptz not null default clock_timestamp(),
            finished_at timestamptz
        )
        """,
        "create unique index phase_wishes_one_waiting on phase_wishes (change) where state = 'waiting'",
        "create index phase_wishes_newest on phase_wishes (change, id desc)",
    )


def downgrade() -> None:
    """Drop the table, and with it what was asked for; the log of the steps that were taken stays."""
    drop_tables("phase_wishes")
