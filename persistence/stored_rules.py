"""The rules of all products, some at a time, as who looks through them needs them."""

from collections.abc import AsyncIterator, Mapping
from typing import Final

from handlers.product import RuleSet
from persistence.engine import Engine, connected
from persistence.products import READ_RULES, RULES_ORDER, rule_sets_of

AT_ONCE: Final = 500
"""Products."""
_FIRST: Final = "00000000-0000-0000-0000-000000000000"

_SOME: Final = f"""{READ_RULES}
where p.id = any(array(
  select id from products
  where id > $1::uuid and (old_validations is not null
    or exists (select from validation_instances where product_id = products.id))
  order by id limit $2)) {RULES_ORDER}"""


async def all_rules(engine: Engine) -> AsyncIterator[Mapping[str, RuleSet]]:
    """Go through the products that have rules: some of them, by mnemonic, at a time."""
    after = _FIRST
    while True:
        async with connected(engine) as connection:
            some = rule_sets_of(await connection.fetch(_SOME, after, AT_ONCE))
        if not some:
            return
        yield some
        after = max(rules.product_id for rules in some.values())
