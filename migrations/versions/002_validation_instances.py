"""Validation rules as rows of their own; the backfill moves them here from `products.old_validations`."""

from migrations.safe_ddl import drop_tables, run

revision = "002"
down_revision = "001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table of rules, new and seen by nobody yet."""
    run(
        """
        create table validation_instances (
            product_id uuid not null
                constraint validation_instances_product_fkey references products (id) on delete cascade,
            -- place in the product's list, at most 50
            -- squawk-ignore prefer-bigint-over-int
            ordinal integer not null,
            name text not null,
            parameters jsonb not null,
            start_date date not null,
            end_date date,
            constraint validation_instances_pkey primary key (product_id, ordinal),
            constraint validation_instances_dates check (end_date is null or end_date >= start_date)
        )
        """,
        "create index validation_instances_parameters on validation_instances using gin (parameters jsonb_path_ops)",
    )


def downgrade() -> None:
    """Drop the table of rules; those that were moved or set since are lost with it."""
    drop_tables("validation_instances")
