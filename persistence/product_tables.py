"""The columns of products and of what is theirs: versions, items, rules. See `contracts/ADDING.md`."""

from typing import Final

import orjson

from handlers.product import Item, Product, ProductVersion, Rule
from persistence.table import Column, Table


def _tags(text: str) -> tuple[str, ...]:
    return tuple(orjson.loads(text))


def _catalog(text: str | None) -> dict[str, object]:
    """Read a catalogue. The legacy text may be no JSON object: that is shown as empty, and not overwritten."""
    try:
        value = orjson.loads(text or "{}")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


PRODUCTS: Final = Table(
    "products",
    Product,
    (
        Column("id", "uuid"),
        Column("mnemonic", "text", changes=False),
        Column("overview", "text"),
        Column("is_confidential", "boolean"),
        Column("category", "text"),
        Column("tags", "jsonb", read=_tags),
        Column("version", "integer"),
        Column("created_at", "timestamptz", changes=False),
        Column("updated_at", "timestamptz"),
        Column("archived_at", "timestamptz"),
    ),
    also_read=(Column("catalog", "text", read=_catalog),),
)
"""A product. Which column has its catalogue is a matter of the phase: `selected(catalog=…)` gives it as JSON text."""
VERSIONS: Final = Table(
    "product_versions",
    ProductVersion,
    (
        Column("id", "uuid"),
        Column("version_label", "text", changes=False, field="label"),
        Column("start_date", "date", changes=False),
        Column("end_date", "date"),
        Column("created_at", "timestamptz", changes=False),
    ),
)
ITEMS: Final = Table(
    "product_version_items",
    Item,
    (Column("name", "text"), Column("position", "integer"), Column("attributes", "jsonb")),
)
RULES: Final = Table(
    "validation_instances",
    Rule,
    (Column("name", "text"), Column("parameters", "jsonb"), Column("start_date", "date"), Column("end_date", "date")),
)
