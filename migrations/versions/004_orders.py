"""Orders, the products they hold, the customers' summaries, and cache keys still to be cleared. All tables are new."""

from migrations.safe_ddl import drop_tables, run

revision = "004"
down_revision = "003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables."""
    run(
        """
        create table orders (
            id uuid constraint orders_pkey primary key,
            customer_id uuid not null constraint orders_customer_fkey references customers (id),
            status text not null constraint orders_status_known check (status in ('placed', 'cancelled')),
            lines jsonb not null,
            total_amount numeric(12, 2) not null constraint orders_total_bound check (total_amount >= 0),
            category text,
            catalog jsonb not null default '{}',
            created_at timestamptz not null default now(),
            cancelled_at timestamptz
        )
        """,
        "create index orders_customer_newest on orders (customer_id, created_at desc, id desc)",
        "create index orders_customer_status_newest on orders (customer_id, status, created_at desc, id desc)",
        """
        create index orders_customer_category_newest on orders (customer_id, category, created_at desc)
            where status = 'placed'
        """,
        """
        create table product_holds (
            id bigint generated always as identity constraint product_holds_pkey primary key,
            product_id uuid not null constraint product_holds_product_fkey references products (id) on delete cascade,
            amount bigint not null
        )
        """,
        "create index product_holds_product on product_holds (product_id)",
        """
        create table customer_summaries (
            customer_id uuid constraint customer_summaries_pkey primary key
                constraint customer_summaries_customer_fkey references customers (id),
            all_orders bigint not null default 0,
            placed_orders bigint not null default 0,
            total_spent numeric(20, 2) not null default 0,
            last_order_at timestamptz
        )
        """,
        """
        create index customer_summaries_spent on customer_summaries (total_spent desc, customer_id)
            where placed_orders > 0
        """,
        """
        create table customer_category_counts (
            customer_id uuid not null constraint customer_category_counts_customer_fkey references customers (id),
            category text not null,
            placed_orders bigint not null,
            last_order_at timestamptz,
            constraint customer_category_counts_pkey primary key (customer_id, category)
        )
        """,
        """
        create table cache_invalidations (
            key text constraint cache_invalidations_pkey primary key,
            asked_at timestamptz not null default now()
        )
        """,
    )


def downgrade() -> None:
    """Drop the tables, referring ones first."""
    drop_tables(
        "cache_invalidations",
        "customer_category_counts",
        "customer_summaries",
        "product_holds",
        "orders",
    )
