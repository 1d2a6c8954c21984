"""Validation rules: from rows of `validation_instances` back to the JSON array in `products.old_validations`."""

TABLE = "products"
KEY = ("id",)
TODO = "exists (select from validation_instances where product_id = products.id)"

SQL = """
with taken as materialized (select products.id from products where {chunk}),
gone as (
    delete from validation_instances where product_id in (select id from taken)
    returning product_id, ordinal, name, parameters, start_date, end_date),
packed as (
    select product_id, jsonb_agg(jsonb_build_object('name', name, 'parameters', parameters,
                                 'start_date', start_date, 'end_date', end_date) order by ordinal)::text as rules
    from gone group by product_id),
restored as (
    update products set old_validations = packed.rules from packed where products.id = packed.product_id)
select count(*) from taken
"""

EXPECTED = """
select jsonb_agg(jsonb_build_array(name, parameters, start_date, end_date) order by ordinal)
from validation_instances where product_id = products.id
"""
ACTUAL = """
select jsonb_agg(jsonb_build_array(rule ->> 'name', rule -> 'parameters', (rule ->> 'start_date')::date,
                                   (rule ->> 'end_date')::date) order by place)
from jsonb_array_elements(products.old_validations::jsonb) with ordinality as listed (rule, place)
"""
CONSUMES_SOURCE = True
REVERSE = "validation_rules"
