"""Validation rules: from the JSON array in `products.old_validations` to rows of `validation_instances`.

The source is taken away, so a digest of the rules read is compared with one of the rows written before the chunk is
committed. A product whose rules cannot be moved (no JSON, no start date, rows there already) is put aside.
"""

TABLE = "products"
KEY = ("id",)
TODO = "products.old_validations is not null"

_RULE = """
rule ->> 'name', coalesce(rule -> 'parameters', '{}'), (rule ->> 'start_date')::date, (rule ->> 'end_date')::date"""

SQL = f"""
with taken as materialized (
    select products.id, products.old_validations::jsonb as rules from products where {{chunk}}),
moved as (
    insert into validation_instances (product_id, ordinal, name, parameters, start_date, end_date)
    select taken.id, place - 1, {_RULE}
    from taken cross join lateral jsonb_array_elements(taken.rules) with ordinality as listed (rule, place)),
cleared as (
    update products set old_validations = null from taken where products.id = taken.id)
select count(*) from taken
"""  # noqa: S608 (constants)

EXPECTED = f"""
select coalesce(jsonb_agg(jsonb_build_array({_RULE}) order by place), '[]')
from jsonb_array_elements(products.old_validations::jsonb) with ordinality as listed (rule, place)
"""  # noqa: S608
ACTUAL = """
select coalesce(jsonb_agg(jsonb_build_array(name, parameters, start_date, end_date) order by ordinal), '[]')
from validation_instances where product_id = products.id
"""
CONSUMES_SOURCE = True
REVERSE = "validation_rules_reverse"
