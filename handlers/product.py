"""The product: what it is, the rules of its versions, how it is kept, how it is shown."""

from collections.abc import Iterable, Sequence
from dataclasses import field
from datetime import date, datetime
from itertools import takewhile
from typing import Final, Protocol

from contracts import messages
from contracts.errors import (
    OverlappingDateRangeError,
    ProductAlreadyExistsError,
    ProductNotFoundError,
    ProductVersionAlreadyExistsError,
    ProductVersionNotFoundError,
)
from contracts.products import (
    RESOURCE,
    VERSION_RESOURCE,
    ItemResult,
    ProductDetailResult,
    ProductResult,
    ProductRulesResult,
    ProductVersionResult,
    RuleResult,
)
from contracts.values import value
from handlers.fields import field_names, shown_as
from handlers.page import After, Found, TooMuch

PRODUCT_SPACE: Final = "product:mnemonic"
"""Where `get_product` by mnemonic is cached; every change of a product clears its name there."""


@value(frozen=True, slots=True)
class Product:
    """A product. Its mnemonic is for ever; one that is created again after a delete has another id.

    While it is archived no order of it is placed. What has a default has it where a command gives null.
    """

    id: str
    mnemonic: str
    overview: str
    is_confidential: bool
    version: int
    created_at: datetime
    updated_at: datetime
    archived_at: datetime | None = None
    category: str | None = None
    tags: tuple[str, ...] = ()
    catalog: dict[str, object] = field(default_factory=dict)


@value(frozen=True, slots=True)
class ProductVersion:
    """A version of a product, in force from its first to its last day, both included."""

    id: str
    label: str
    start_date: date
    end_date: date | None
    created_at: datetime

    def overlaps(self, other: "ProductVersion") -> bool:
        """Tell whether both are in force on any one day."""
        return _last(self) >= other.start_date and _last(other) >= self.start_date


@value(frozen=True, slots=True)
class Item:
    """An item of a version; items are listed by position, then as they were given."""

    name: str
    position: int
    attributes: dict[str, object] | None


@value(frozen=True, slots=True)
class Rule:
    """What orders of the product must say of themselves, from its first to its last day, both included.

    `parameters` is a JSON Schema; what the legacy column holds may be no schema, and is told when it is used.
    """

    name: str
    parameters: object
    start_date: date
    end_date: date | None

    def is_in_force(self, on: date) -> bool:
        """Tell whether the rule counts on that day."""
        return self.start_date <= on and (self.end_date is None or on <= self.end_date)


@value(frozen=True, slots=True)
class RuleSet:
    """The rules of a product, in their order.

    `version` is the product's, read in one snapshot with the rules, so that both together name what may be kept as
    compiled; None for rules that are not committed yet: another worker may give the same version to other rules.
    """

    product_id: str
    version: int | None
    rules: tuple[Rule, ...]


@value(frozen=True, slots=True)
class ProductDetail:
    """A product with its versions by first day, and the items of each by position."""

    product: Product
    versions: Sequence[tuple[ProductVersion, Sequence[Item]]]


@value(frozen=True, slots=True)
class OversizedProduct:
    """A product that is too large to be shown, and therefore was not loaded; its bytes as `get_product` shows it."""

    id: str
    mnemonic: str
    bytes: int


Shown = ProductDetail | OversizedProduct | None
"""What a query gets of a product that there is; None: others before it are as much as is loaded at once, ask again."""


class ProductRepository(Protocol):
    """Products as a command sees them. What is saved is seen by the messages after it in the batch."""

    async def find(self, mnemonic: str) -> Product | None:
        """Find a product by its mnemonic; of one that is only held, the catalogue is not loaded: it is empty."""
        ...

    async def save(self, product: Product) -> None:
        """Insert or change; what is cached of it is outdated."""
        ...

    async def delete(self, product: Product) -> None:
        """Delete with versions, items and rules; the mnemonic is free."""
        ...

    async def count_holds(self, product: Product) -> int:
        """Count the placed orders that refer to a product which would be deleted."""
        ...

    async def versions_of(self, product: Product) -> Sequence[ProductVersion]:
        """Return the product's versions by first day."""
        ...

    async def items_of(self, version: ProductVersion) -> Sequence[Item]:
        """Return the items of the version that the command names."""
        ...

    async def add_version(self, product: Product, version: ProductVersion, items: Sequence[Item]) -> None:
        """Insert a version with its items, which never change."""
        ...

    async def change_version(self, product: Product, version: ProductVersion) -> None:
        """Change a version's last day."""
        ...

    async def size_of(self, product: Product) -> int:
        """Return how many bytes `get_product` would show of it, as it was saved last."""
        ...

    async def rules_of(self, product: Product) -> RuleSet:
        """Return the product's rules."""
        ...

    async def replace_rules(self, product: Product, rules: Sequence[Rule]) -> None:
        """Replace the product's rules."""
        ...


@value(frozen=True, slots=True)
class ProductSearch:
    """What to look for in mnemonics. After a `cursor` come those created before it (ties: smaller ids)."""

    mnemonic_contains: str | None = None
    limit: int = 50
    offset: int = 0
    after: After | None = None


@value(frozen=True, slots=True)
class ProductPage:
    """Which page is asked for: after a row (what was created before it, ties: smaller ids), else by its number, from 1.

    `archived`: only products that are, or are not. `days`: only products with a version in force from first to last.
    """

    page: int
    page_size: int
    category: str | None = None
    archived: bool | None = None
    days: tuple[date, date] | None = None
    after: After | None = None

    @property
    def offset(self) -> int:
        """How many others are passed over."""
        return 0 if self.after is not None else (self.page - 1) * self.page_size


class ProductReader(Protocol):
    """Products as a query sees them: many at once, of one moment."""

    async def get_many(self, mnemonics: Sequence[str]) -> dict[str, Shown]:
        """Find products by mnemonic; a number of statements that does not depend on how many are asked for."""
        ...

    async def get_many_by_id(self, product_ids: Sequence[str]) -> dict[str, Shown]:
        """Find products by id; a number of statements that does not depend on how many are asked for."""
        ...

    async def list_pages(self, pages: Sequence[ProductPage]) -> Sequence[Found[Product] | TooMuch | None]:
        """Find pages of products, newest first, ties by id; None for some where all would take long."""
        ...

    async def search(self, searches: Sequence[ProductSearch]) -> Sequence[Found[Product] | TooMuch | None]:
        """Find pages of products by a part of their mnemonic, newest first, ties by id; None for some, as above."""
        ...

    async def rules_of(self, mnemonics: Sequence[str]) -> dict[str, RuleSet]:
        """Return the rules of the products that there are; one statement."""
        ...


def _last(version: ProductVersion) -> date:
    return version.end_date or date.max


def overlapped_by(version: ProductVersion, others: Iterable[ProductVersion]) -> ProductVersion | None:
    """Find the first other version that shares a day with this one."""
    return next((other for other in others if other.id != version.id and other.overlaps(version)), None)


product_result: Final = shown_as(ProductResult)
"""Show a product as envelopes do."""
_item_result: Final = shown_as(ItemResult)
_rule_result: Final = shown_as(RuleResult)
_version_result: Final = shown_as(
    ProductVersionResult,
    version_label=lambda version, _: version.label,
    items=lambda _, items: [_item_result(item) for item in sorted(items, key=lambda item: item.position)],
)
_detail_result: Final = shown_as(
    ProductDetailResult,
    versions=lambda _, versions: [product_version_result(version, items) for version, items in versions],
)


def product_detail_result(detail: ProductDetail) -> ProductDetailResult:
    """Show a product with versions and items as envelopes do."""
    return _detail_result(detail.product, detail.versions)


def product_version_result(version: ProductVersion, items: Sequence[Item]) -> ProductVersionResult:
    """Show a version as envelopes do."""
    return _version_result(version, items)


_BEFORE_CATALOG: Final = [
    f'"{name}":'.encode() for name in takewhile(lambda name: name != "catalog", field_names(ProductResult))
]


def is_whole(body: bytes) -> bool:
    """Tell whether what `get_product` showed has every field: a release before may have kept it without a new one.

    The catalogue and the versions, where any name may stand, come last.
    """
    head = body[: body.find(b'"catalog":')]
    return all(name in head for name in _BEFORE_CATALOG)


def product_rules_result(product: Product, rules: Sequence[Rule]) -> ProductRulesResult:
    """Show a product's rules as envelopes do."""
    return ProductRulesResult(
        product.mnemonic,
        product.version,
        [_rule_result(rule) for rule in rules],
    )


def product_not_found(mnemonic: str) -> ProductNotFoundError:
    """Say that no product has this mnemonic."""
    return ProductNotFoundError(messages.not_found(RESOURCE, "mnemonic", mnemonic), {"mnemonic": mnemonic})


def product_id_not_found(product_id: str) -> ProductNotFoundError:
    """Say that no product has this id."""
    return ProductNotFoundError(messages.not_found(RESOURCE, "id", product_id), {"product_id": product_id})


def mnemonic_taken(mnemonic: str) -> ProductAlreadyExistsError:
    """Say that a product has this mnemonic."""
    return ProductAlreadyExistsError(messages.already_exists(RESOURCE, "mnemonic", mnemonic), {"mnemonic": mnemonic})


def version_not_found(mnemonic: str, label: str) -> ProductVersionNotFoundError:
    """Say that the product has no version of this label."""
    return ProductVersionNotFoundError(
        messages.not_found(VERSION_RESOURCE, "version_label", label), {"mnemonic": mnemonic, "version_label": label}
    )


def version_label_taken(mnemonic: str, label: str) -> ProductVersionAlreadyExistsError:
    """Say that the product has a version of this label."""
    return ProductVersionAlreadyExistsError(
        messages.already_exists(VERSION_RESOURCE, "version_label", label),
        {"mnemonic": mnemonic, "version_label": label},
    )


def version_overlaps(mnemonic: str, label: str, other: ProductVersion) -> OverlappingDateRangeError:
    """Say which version is in force on a day that this one asks for."""
    return OverlappingDateRangeError(
        f"{VERSION_RESOURCE} '{label}' overlaps version '{other.label}'",
        {
            "mnemonic": mnemonic,
            "version_label": label,
            "overlaps": {
                "version_label": other.label,
                "start_date": other.start_date.isoformat(),
                "end_date": other.end_date.isoformat() if other.end_date else None,
            },
        },
    )
