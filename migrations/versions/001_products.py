"""Products, their versions and items.

The two `old_…` columns are the legacy ones: rules and catalogue as JSON in text. Every table is new here, so its
indexes and constraints need no care for live traffic.
"""

from migrations.safe_ddl import drop_tables, run

revision = "001"
down_revision = None
branch_labels = ("main",)
depends_on = None


def upgrade() -> None:
    """Create the product tables. Both extensions are trusted: the owner of the database may create them."""
    run(
        "create extension if not exists btree_gist",
        "create extension if not exists pg_trgm",
        """
        create table products (
            id uuid constraint products_pkey primary key,
            mnemonic text not null constraint products_mnemonic_form check (mnemonic ~ '^[A-Z0-9_]{1,50}$'),
            overview text not null constraint products_overview_length check (char_length(overview) <= 1000),
            is_confidential boolean not null default false,
            category text constraint products_category_length check (char_length(category) between 1 and 100),
            tags jsonb not null default '[]',
            old_catalog_field text not null default '{}',
            old_validations text,
            -- counts the changes of one product: 2 billion of them are out of reach
            -- squawk-ignore prefer-bigint-over-int
            version integer not null default 1,
            created_at timestamptz not null default now(),
            updated_at timestamptz not null default now()
        )
        """,
        "create unique index products_mnemonic_key on products (mnemonic)",
        "create index products_newest on products (created_at desc, id desc)",
        "create index products_category_newest on products (category, created_at desc, id desc)",
        "create index products_mnemonic_trgm on products using gin (mnemonic gin_trgm_ops)",
        """
        create table product_versions (
            id uuid constraint product_versions_pkey primary key,
            product_id uuid not null
                constraint product_versions_product_fkey references products (id) on delete cascade,
            version_label text not null
                constraint product_versions_label_length check (char_length(version_label) between 1 and 50),
            start_date date not null,
            end_date date,
            created_at timestamptz not null default now(),
            constraint product_versions_dates check (end_date is null or end_date >= start_date),
            constraint product_versions_label_key unique (product_id, version_label)
                deferrable initially immediate,
            constraint product_versions_no_overlap
                exclude using gist (product_id with =, daterange(start_date, end_date, '[]') with &&)
                deferrable initially immediate
        )
        """,
        """
        create index product_versions_range on product_versions
            using gist (daterange(start_date, end_date, '[]'))
        """,
        """
        create table product_version_items (
            version_id uuid not null
                constraint product_version_items_version_fkey references product_versions (id) on delete cascade,
            -- place in the request, at most 200
            -- squawk-ignore prefer-bigint-over-int
            ordinal integer not null,
            name text not null,
            -- squawk-ignore prefer-bigint-over-int
            position integer not null,
            attributes jsonb,
            constraint product_version_items_pkey primary key (version_id, ordinal)
        )
        """,
    )


def downgrade() -> None:
    """Drop the product tables. The extensions stay: somebody else may have created and may use them."""
    drop_tables("product_version_items", "product_versions", "products")
