"""Products in memory: with versions, items and rules; and a cache that forgets what it is told to."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

import orjson

from handlers.page import After, Found
from handlers.product import (
    PRODUCT_SPACE,
    Item,
    OversizedProduct,
    Product,
    ProductDetail,
    ProductPage,
    ProductSearch,
    ProductVersion,
    Rule,
    RuleSet,
    Shown,
    product_detail_result,
)
from handlers.product_size import MAX_SHOWN_BYTES, detail_bytes
from tests.in_memory.declared import Declared, touch

COUNT_BOUND: Final = 1000


class InMemoryProducts:
    """Products by mnemonic, the rest by id. `count_holds_of` counts the placed orders that refer to a product's id."""

    def __init__(self, count_holds_of: Callable[[str], int]) -> None:
        self.rows: dict[str, Product] = {}
        self.versions: dict[str, tuple[ProductVersion, ...]] = {}
        self.items: dict[str, tuple[Item, ...]] = {}
        self.rules: dict[str, tuple[Rule, ...]] = {}
        self.touched: list[str] = []
        self.declared = Declared()
        self._count_holds_of = count_holds_of

    async def find(self, mnemonic: str) -> Product | None:
        """Find a product; the catalogue of one that is only held is not there."""
        touch(mnemonic, self.declared.products, "products")
        found = self.rows.get(mnemonic)
        if found is None or mnemonic in self.declared.changed_products:
            return found
        return replace(found, catalog={})

    async def save(self, product: Product) -> None:
        """Insert or change."""
        touch(product.mnemonic, self.declared.changed_products, "changed products")
        self.rows[product.mnemonic] = product
        self.touched.append(f"{PRODUCT_SPACE}:{product.mnemonic}")

    async def delete(self, product: Product) -> None:
        """Delete."""
        touch(product.mnemonic, self.declared.deleted_products, "deleted products")
        del self.rows[product.mnemonic]
        self.touched.append(f"{PRODUCT_SPACE}:{product.mnemonic}")

    async def count_holds(self, product: Product) -> int:
        """Count the placed orders that refer to the product."""
        touch(product.mnemonic, self.declared.deleted_products, "deleted products")
        return self._count_holds_of(product.id)

    async def versions_of(self, product: Product) -> Sequence[ProductVersion]:
        """Return the versions by first day."""
        touch(product.mnemonic, {mnemonic for mnemonic, _ in self.declared.versions}, "versions")
        return self.versions.get(product.id, ())

    async def items_of(self, version: ProductVersion) -> Sequence[Item]:
        """Return the items of a version."""
        return self.items[version.id]

    async def add_version(self, product: Product, version: ProductVersion, items: Sequence[Item]) -> None:
        """Insert a version with its items."""
        touch((product.mnemonic, version.label), self.declared.versions, "versions")
        versions = (*self.versions.get(product.id, ()), version)
        self.versions[product.id] = tuple(sorted(versions, key=lambda one: one.start_date))
        self.items[version.id] = tuple(items)

    async def change_version(self, product: Product, version: ProductVersion) -> None:
        """Change a version."""
        touch((product.mnemonic, version.label), self.declared.versions, "versions")
        versions = self.versions[product.id]
        self.versions[product.id] = tuple(version if one.id == version.id else one for one in versions)

    async def size_of(self, product: Product) -> int:
        """Put the product together and measure it as a reply."""
        touch(product.mnemonic, self.declared.sized_products, "sized products")
        kept = self.rows[product.mnemonic]
        versions = [(version, self.items[version.id]) for version in self.versions.get(kept.id, ())]
        shown = product_detail_result(ProductDetail(kept, versions))
        return len(orjson.dumps(shown, option=orjson.OPT_UTC_Z))

    async def rules_of(self, product: Product) -> RuleSet:
        """Return the rules."""
        touch(product.mnemonic, self.declared.rules, "rules")
        return RuleSet(product.id, None, self.rules.get(product.id, ()))

    async def replace_rules(self, product: Product, rules: Sequence[Rule]) -> None:
        """Replace the rules."""
        touch(product.mnemonic, self.declared.rules, "rules")
        self.rules[product.id] = tuple(rules)


class InMemoryProductReader:
    """Products as queries see them."""

    def __init__(self, products: InMemoryProducts) -> None:
        self._products = products

    def _detail(self, product: Product) -> Shown:
        items = self._products.items
        detail = ProductDetail(
            product,
            [
                (version, sorted(items[version.id], key=lambda item: item.position))
                for version in self._products.versions.get(product.id, ())
            ],
        )
        size = detail_bytes(detail)
        return detail if size <= MAX_SHOWN_BYTES else OversizedProduct(product.id, product.mnemonic, size)

    async def get_many(self, mnemonics: Sequence[str]) -> dict[str, Shown]:
        """Find products by mnemonic."""
        rows = self._products.rows
        return {one: self._detail(rows[one]) for one in mnemonics if one in rows}

    async def get_many_by_id(self, product_ids: Sequence[str]) -> dict[str, Shown]:
        """Find products by id."""
        return {one.id: self._detail(one) for one in self._products.rows.values() if one.id in set(product_ids)}

    async def list_pages(self, pages: Sequence[ProductPage]) -> Sequence[Found[Product]]:
        """Find pages, newest first, ties by id."""
        return [self._list_page(page) for page in pages]

    def _list_page(self, page: ProductPage) -> Found[Product]:
        found = [
            one
            for one in self._products.rows.values()
            if page.category in {None, one.category}
            and page.archived in {None, one.archived_at is not None}
            and self._is_in_force(one, page)
        ]
        is_filtered = (page.category, page.archived, page.days) != (None, None, None)
        return _page(found, page.page_size, page.offset, page.after, is_filtered=is_filtered)

    def _is_in_force(self, product: Product, page: ProductPage) -> bool:
        if page.days is None:
            return True
        first, last = page.days
        return any(
            version.start_date <= last and (version.end_date is None or version.end_date >= first)
            for version in self._products.versions.get(product.id, ())
        )

    async def search(self, searches: Sequence[ProductSearch]) -> Sequence[Found[Product]]:
        """Find pages by a part of the mnemonic, newest first, ties by id."""
        return [self._search(search) for search in searches]

    def _search(self, search: ProductSearch) -> Found[Product]:
        needle = search.mnemonic_contains
        found = [one for one in self._products.rows.values() if (needle or "") in one.mnemonic]
        return _page(found, search.limit, search.offset, search.after, is_filtered=needle is not None)

    async def rules_of(self, mnemonics: Sequence[str]) -> dict[str, RuleSet]:
        """Return the rules of products."""
        rows = self._products.rows
        return {
            one: RuleSet(rows[one].id, rows[one].version, self._products.rules.get(rows[one].id, ()))
            for one in mnemonics
            if one in rows
        }


def _page(
    found: Sequence[Product], size: int, offset: int, after: After | None, *, is_filtered: bool
) -> Found[Product]:
    total = None if is_filtered and len(found) > COUNT_BOUND else len(found)
    ordered = sorted(found, key=lambda one: (one.created_at, one.id), reverse=True)
    left = [one for one in ordered if after is None or (one.created_at, one.id) < after]
    return Found(left[offset : offset + size], len(left) > offset + size, total)


class InMemoryCache:
    """Keeps what was loaded until it is cleared."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}

    async def get_many(
        self,
        space: str,
        names: Sequence[str],
        load: Callable[[Sequence[str]], Awaitable[Mapping[str, bytes]]],
        is_whole: Callable[[bytes], bool],
    ) -> Mapping[str, bytes]:
        """Find what is kept; load the rest."""
        kept = {name: self.values.get(f"{space}:{name}") for name in names}
        found = {name: body for name, body in kept.items() if body is not None and is_whole(body)}
        missing = [name for name in names if name not in found]
        loaded = await load(missing) if missing else {}
        self.values |= {f"{space}:{name}": value for name, value in loaded.items()}
        return found | dict(loaded)

    def clear(self, keys: Sequence[str]) -> None:
        """Forget."""
        for key in keys:
            self.values.pop(key, None)
