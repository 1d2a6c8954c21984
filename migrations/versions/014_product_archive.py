"""Since when a product is archived; and its lists by that, each by an index that has nothing of the other.

Workers of the release before know nothing of it: they keep what stands there, and go on to sell. Building and dropping
the indexes can be repeated, while the workers go on.
"""

from migrations.safe_ddl import commit, create_index_concurrently, drop_index_concurrently, run

revision = "014"
down_revision = "013"
branch_labels = None
depends_on = None

_NEWEST = "created_at desc, id desc"
_INDEXES = {
    f"products_{name}{by}_newest": f"products ({key}{_NEWEST}) where archived_at {condition}"
    for name, condition in (("archived", "is not null"), ("unarchived", "is null"))
    for by, key in (("", ""), ("_category", "category, "))
}


def upgrade() -> None:
    """Add the column, then the indexes."""
    run("alter table products add column if not exists archived_at timestamptz")
    commit()
    for name, on in _INDEXES.items():
        create_index_concurrently(name, on)


def downgrade() -> None:
    """Drop both; refused while products are archived, since they would be sold again."""
    run(
        """
        do $$
        begin
            if exists (select from products where archived_at is not null) then
                raise exception 'products are archived, and would be sold again: restore or delete them first';
            end if;
        end
        $$
        """
    )
    for name in _INDEXES:
        drop_index_concurrently(name)
    run(
        """
        -- squawk-ignore ban-drop-column
        alter table products drop column archived_at
        """
    )
