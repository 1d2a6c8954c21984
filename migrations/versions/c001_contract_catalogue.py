"""The contract of the product's catalogue: `old_catalog_field` goes, `new_catalog` takes its place.

Needs the backfill `product_catalog`: see `migrations.gate` for what it must have shown.
"""

from migrations.gate import let_go, take_back
from migrations.safe_ddl import add_check, commit, look_up, offline, run, validate

revision = "c001"
down_revision = None
branch_labels = ("contract",)
depends_on = "006"

# Both statements look at the next 2,000 rows by key and lock what is to be done in the order of all writers. The update
# is row-local and judges a row anew once it has waited for it, so a live write is never undone. Arrays, as a join would
# be planned for the whole table.
_NEXT = """
with chunk as materialized (
    select id from products
    where cast(:after as uuid) is null or id > cast(:after as uuid)
    order by id
    limit 2000),"""
_TO_DO = """
    case when pg_input_is_valid(old_catalog_field, 'jsonb')
        then new_catalog is null
            or (cast(:phase as text) <> 'contracted' and new_catalog <> cast(old_catalog_field as jsonb))
        else false end"""
_LAST = "select id as last from chunk order by id desc limit 1"
FILL = f"""{_NEXT}
locked as materialized (
    select id from products
    where id = any(array(select id from chunk)) and {_TO_DO}
    order by id
    for no key update),
filled as (
    update products set new_catalog = cast(old_catalog_field as jsonb)
    where id = any(array(select id from locked)) and {_TO_DO})
{_LAST}"""  # noqa: S608 (constants)
REFILL = f"""{_NEXT}
locked as materialized (
    select id from products where id = any(array(select id from chunk)) order by id for no key update),
filled as (
    update products set old_catalog_field = cast(new_catalog as text) where id = any(array(select id from locked)))
{_LAST}"""  # noqa: S608 (constants)


def upgrade() -> None:
    """Pass the gate, make the new column obligatory without a scan under lock, then drop the old one."""
    let_go("product_catalog", by="migration c001", fill=FILL)
    add_check("products", "products_new_catalog_present", "new_catalog is not null")
    validate("products", "products_new_catalog_present")
    run(
        "alter table products alter column new_catalog set not null",  # the validated check spares the scan
        "alter table products alter column new_catalog set default '{}'",
        # NOT NULL says the same.
        "-- squawk-ignore ban-drop-constraint\nalter table products drop constraint products_new_catalog_present",
        # No worker names the column any more: the gate has waited for all of them.
        "-- squawk-ignore ban-drop-column\nalter table products drop column old_catalog_field",
    )


def downgrade() -> None:
    """Make the old column again and have it written again, then fill it in, batch by batch. Nothing is lost."""
    take_back("product_catalog", by="migration c001, taken back")
    run(
        "alter table products add column if not exists old_catalog_field text not null default '{}'",
        # The workers that come back with the old column never relied on either; it may be repeated.
        """
        -- squawk-ignore ban-drop-not-null, ban-drop-default, prefer-robust-stmts
        alter table products alter column new_catalog drop not null, alter column new_catalog drop default
        """,
    )
    commit()
    after = None
    while not offline():
        batch = look_up(REFILL, after=after)
        commit()
        if batch is None:
            return
        after = batch.last
