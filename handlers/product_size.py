"""How many bytes a product takes up as `get_product` shows it, and how many it may.

A product's bytes are those of its head and of each version, added up: so a change is measured by what it changes, and a
product is never put together to be measured.
"""

from collections.abc import Sequence
from datetime import date
from typing import Any, Final

import orjson

from contracts.envelope import MAX_REPLY_BYTES
from contracts.errors import BusinessRuleViolationError, ResponseTooLargeError
from contracts.products import RESOURCE, ItemResult, ProductResult
from handlers.fields import field_names, values_of
from handlers.product import (
    Item,
    Product,
    ProductDetail,
    ProductVersion,
    product_detail_result,
    product_version_result,
)

MAX_PRODUCT_BYTES: Final = 768 * 1024
"""No command makes a product larger. One that is larger already may shrink."""
MAX_SHOWN_BYTES: Final = MAX_REPLY_BYTES - 1024
"""A larger product is not loaded to be shown: its reply, with what stands around the product, would not fit."""

_COMMA: Final = 1
_FIRST_FIELDS: Final = frozenset({
    "id", "mnemonic", "overview", "is_confidential", "category", "tags", "version", "created_at", "updated_at",
    "catalog",
})  # fmt: skip
_LATER_FIELDS: Final = [name for name in field_names(ProductResult) if name not in _FIRST_FIELDS]
"""What came after sizes were kept: workers of the release before, which keep sizes as well, know nothing of it."""
_later: Final = values_of(_LATER_FIELDS)
_LATER_NAMES_BYTES: Final = sum(len(f'"{name}":') for name in _LATER_FIELDS) - len("[]") + _COMMA
"""What stands around their values, beside what stands around a list of them."""
_LEAST_EXPONENT: Final = b"e+1"
_INTEGERS: Final = (-(2**63), 2**64 - 1)


def head_bytes(product: Product) -> int:
    """Measure a product without its versions."""
    return _NAMES_BYTES + _values_bytes(product, product.id, product.created_at) + json_bytes(product.catalog)


def change_bytes(before: Product, after: Product) -> int:
    """Say by how much a change of its own fields makes a product larger."""
    catalog = 0 if after.catalog is before.catalog else json_bytes(after.catalog) - json_bytes(before.catalog)
    return catalog + _values_bytes(after) - _values_bytes(before)


def stamp_bytes(product: Product) -> int:
    """Measure what every change writes anew: the version's number and the time of the update."""
    return len(str(product.version)) + len(orjson.dumps(product.updated_at, option=orjson.OPT_UTC_Z))


def later_bytes(product: Product) -> int:
    """Measure the fields that not every release shows, and measures: a size that is kept leaves them out."""
    return _LATER_NAMES_BYTES + len(orjson.dumps(_later(product), option=orjson.OPT_UTC_Z))


def version_bytes(version: ProductVersion, items: Sequence[Item], others: int) -> int:
    """Measure a version that stands beside so many others."""
    bare = orjson.dumps(product_version_result(version, ()), option=orjson.OPT_UTC_Z)
    commas = max(0, len(items) - 1) + (others > 0)
    return len(bare) + commas + sum(item_bytes(item) for item in items)


def item_bytes(item: Item) -> int:
    """Measure an item."""
    bare = orjson.dumps(ItemResult(item.name, item.position, None))
    return len(bare) - len(b"null") + json_bytes(item.attributes)


def day_bytes(day: date | None) -> int:
    """Measure a day, or that there is none."""
    return len(orjson.dumps(day))


def detail_bytes(detail: ProductDetail) -> int:
    """Measure a whole product."""
    return head_bytes(detail.product) + sum(
        version_bytes(version, items, place) for place, (version, items) in enumerate(detail.versions)
    )


def json_bytes(value: object) -> int:
    """Measure JSON as it is shown once the database has kept it: a double of the size of an integer comes back as one.

    `1e+16` is kept with all its digits. (While catalogues are still read as texts, theirs is shown as it was written:
    then the measure is some digits too high, and right once they are not.)
    """
    body = orjson.dumps(value)
    return len(orjson.dumps(_kept(value)) if _LEAST_EXPONENT in body else body)


def _kept(value: object) -> object:
    if isinstance(value, float):
        return int(value) if abs(value) >= 1e16 and _INTEGERS[0] <= value <= _INTEGERS[1] else value  # noqa: PLR2004
    if isinstance(value, dict):
        return {key: _kept(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_kept(one) for one in value]
    return value


_changing: Final = values_of(
    [name for name in field_names(ProductResult) if name not in {"id", "created_at", "catalog"}]
)


def _values_bytes(product: Product, *constant: object) -> int:
    """Measure values without the names of their fields, as a list: a fraction of the time, at each command."""
    return len(orjson.dumps(_changing(product) + constant, option=orjson.OPT_UTC_Z))


def _names_bytes() -> int:
    nothing: dict[str, Any] = dict.fromkeys(field_names(Product))
    one = Product(**nothing)
    shown = orjson.dumps(product_detail_result(ProductDetail(one, ())), option=orjson.OPT_UTC_Z)
    return len(shown) - _values_bytes(one, one.id, one.created_at) - json_bytes(one.catalog)


_NAMES_BYTES: Final = _names_bytes()
"""What stands around the values of a product."""


def product_too_large(product: Product, product_bytes: int) -> BusinessRuleViolationError:
    """Say that a change would make a product larger than it may be."""
    return BusinessRuleViolationError(
        f"{RESOURCE} '{product.mnemonic}' would take up {product_bytes} bytes as get_product shows it;"
        f" at most {MAX_PRODUCT_BYTES} are allowed",
        {
            "mnemonic": product.mnemonic,
            "product_bytes": product_bytes,
            "limit_bytes": MAX_PRODUCT_BYTES,
            "remedy": "give fewer or smaller items, or make the catalog smaller; versions are never deleted alone:"
            " a product may be deleted and made anew",
        },
    )


def product_not_shown(mnemonic: str, product_bytes: int) -> ResponseTooLargeError:
    """Say that a product is larger than a reply may be; such a one was made before products were bounded."""
    return ResponseTooLargeError(
        f"{RESOURCE} '{mnemonic}' is too large to be sent",
        {
            "mnemonic": mnemonic,
            "response_bytes": product_bytes,
            "limit_bytes": MAX_REPLY_BYTES,
            "remedy": "make its catalog smaller by update_product, or delete the product and make it anew",
        },
    )
