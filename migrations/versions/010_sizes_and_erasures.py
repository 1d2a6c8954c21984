"""What a product takes up when it is shown, and whose outcomes are still being erased.

A product's size stands beside the product's version that it was measured at: workers of the release before, which know
nothing of it, raise the version alone, and so make the size unknown. Nothing is measured here: whoever needs a size
that is not known measures it.

A customer's outcomes that one transaction cannot erase are erased in chunks, by whoever finds the customer in
`outcome_erasures`; until then nobody shows them. The indexes by which they are found lose what has been erased, so that
the next chunk does not wade through it. Building and dropping them can be repeated, while the workers go on.
"""

from migrations.safe_ddl import commit, create_index_concurrently, drop_index_concurrently, drop_tables, run

revision = "010"
down_revision = "009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns and the table, then exchange the indexes."""
    run(
        """
        alter table products
            -- a product over 2 GB cannot be
            -- squawk-ignore prefer-bigint-over-int
            add column if not exists answer_bytes integer,
            -- counts as `version` does
            -- squawk-ignore prefer-bigint-over-int
            add column if not exists answer_bytes_version integer
        """,
        """
        create table if not exists outcome_erasures (
            customer_id uuid constraint outcome_erasures_pkey primary key,
            asked_at timestamptz not null default clock_timestamp()
        )
        """,
    )
    commit()
    for place, name in ((1, "first"), (2, "second")):
        create_index_concurrently(
            f"outcomes_{name}_spoken_of",
            f"outcomes ((subjects[{place}])) where subjects[{place}] is not null and envelope is not null",
        )
        drop_index_concurrently(f"outcomes_{name}_subject")


def downgrade() -> None:
    """Exchange the indexes, drop table and columns; refused while outcomes are still being erased."""
    run(
        """
        do $$
        begin
            if exists (select from outcome_erasures) then
                raise exception 'outcomes of deleted customers are still being erased: let the workers end that first';
            end if;
        end
        $$
        """
    )
    for place, name in ((1, "first"), (2, "second")):
        create_index_concurrently(
            f"outcomes_{name}_subject", f"outcomes ((subjects[{place}])) where subjects[{place}] is not null"
        )
        drop_index_concurrently(f"outcomes_{name}_spoken_of")
    drop_tables("outcome_erasures")
    run(
        "-- squawk-ignore ban-drop-column\nalter table products drop column answer_bytes",
        "-- squawk-ignore ban-drop-column\nalter table products drop column answer_bytes_version",
    )
