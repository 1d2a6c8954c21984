"""Products in Postgres, as a batch of commands sees them: with versions, items and rules."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, Literal, TypeVar

from handlers.product import PRODUCT_SPACE, Item, Product, ProductVersion, Rule, RuleSet
from handlers.product_size import change_bytes, day_bytes, head_bytes, later_bytes, version_bytes
from persistence import counters
from persistence.cache import cache_key
from persistence.counters import CounterDeltas
from persistence.engine import Connection
from persistence.faults import StaleReadError
from persistence.identity_map import IdentityMap, Journal, UndeclaredKeyError
from persistence.legacy_rules import read_rules
from persistence.phases import CatalogueColumns, count_drift
from persistence.product_holds import ProductHolds
from persistence.product_sizes import keep_many, measure
from persistence.product_tables import ITEMS, PRODUCTS, RULES, VERSIONS
from persistence.rowset import RowSet
from persistence.table import Table, json_text

T = TypeVar("T")

MNEMONIC_SPACE: Final = "mnemonic"

_OLD: Final = "old_catalog_field"
_NEW: Final = "new_catalog"

LockMode = Literal["for update", "for no key update", "for key share"]


KNOWN_BYTES: Final = "case when p.answer_bytes_version = p.version then p.answer_bytes end"
"""A product's size as `get_product` shows it, but for its `later_bytes`; null where it is not known."""


# The rules of products, with the product's version of the same snapshot: together they name what may be compiled and
# kept. While the legacy column is not null, it has them.
READ_RULES: Final = f"""
select p.id::text, p.mnemonic, p.version, p.old_validations, {RULES.selected("r")}
from products p
left join validation_instances r on r.product_id = p.id and p.old_validations is null"""
RULES_ORDER: Final = "order by p.id, r.ordinal"


def rule_sets_of(rows: Iterable[Any]) -> dict[str, RuleSet]:
    """Read rows of `READ_RULES`, in their order; by mnemonic."""
    heads: dict[str, Any] = {}
    rules: dict[str, list[Rule]] = defaultdict(list)
    for row in rows:
        heads[row["mnemonic"]] = row
        if row["name"] is not None:
            rules[row["mnemonic"]].append(RULES.read(row))
    return {
        mnemonic: RuleSet(row["id"], row["version"], tuple(rules[mnemonic]))
        if row["old_validations"] is None
        else RuleSet(row["id"], row["version"], read_rules(row["old_validations"]))
        for mnemonic, row in heads.items()
    }


_MISSED: Final = "select count(*) from products where mnemonic = any($1::text[])"
_VERSIONS: Final = f"""
select product_id::text, {VERSIONS.selected()}
from product_versions where product_id = any($1::uuid[]) order by product_id, start_date"""
_ITEMS: Final = f"""
select i.version_id::text, {ITEMS.selected("i")}
from unnest($1::uuid[], $2::text[]) as k(product_id, label)
join product_versions v on v.product_id = k.product_id and v.version_label = k.label
join product_version_items i on i.version_id = v.id
order by i.version_id, i.ordinal"""
_DELETE: Final = "delete from products where id = any($1::uuid[])"
_DELETE_RULES: Final = "delete from validation_instances where product_id = any($1::uuid[])"

_CHANGES: Final = RowSet(
    "products", {**PRODUCTS.updated, "catalog": "text", "new_rules": "boolean", "answer_bytes": "integer"}
)
_VERSION_ROWS: Final = RowSet("product_versions", {"product_id": "uuid", **VERSIONS.inserted})
_VERSION_CHANGES: Final = RowSet("product_versions", VERSIONS.updated)
_ITEM_ROWS: Final = RowSet("product_version_items", {"version_id": "uuid", "ordinal": "integer", **ITEMS.inserted})
_RULE_ROWS: Final = RowSet("validation_instances", {"product_id": "uuid", "ordinal": "integer", **RULES.inserted})


@cache
def _inserting(written: tuple[str, ...]) -> RowSet:
    types = {_OLD: "text", _NEW: "jsonb"}
    sizes = {"answer_bytes": "integer", "answer_bytes_version": "integer"}
    return RowSet("products", {**PRODUCTS.inserted, **sizes, **{column: types[column] for column in written}})


@cache
def _updating(columns: CatalogueColumns) -> str:
    """Write the statement that updates products.

    A catalogue that was not changed (null) stays as it stands in the column that is read, whatever that is. The column
    that is only written then follows it, by an expression of the row's own: also where it was stale.
    """
    sets = {name: f"r.{name}" for name in (*PRODUCTS.updated, "answer_bytes") if name != "id"}
    sets["answer_bytes_version"] = "r.version"
    sets["old_validations"] = "case when r.new_rules then null else t.old_validations end"
    if _OLD in columns.written:
        sets[_OLD] = f"coalesce(r.catalog, t.{_OLD})"
    if _NEW in columns.written:
        unchanged = f"t.{_NEW}"
        if columns.read == _OLD:
            unchanged = f"case when pg_input_is_valid(t.{_OLD}, 'jsonb') then t.{_OLD}::jsonb else t.{_NEW} end"
        sets[_NEW] = f"case when r.catalog is not null then r.catalog::jsonb else {unchanged} end"
    return f"""
        update products t set {", ".join(f"{name} = {value}" for name, value in sets.items())}
        from {_CHANGES.source(1)} where t.id = r.id"""


@dataclass(frozen=True, slots=True)
class DeclaredProducts:
    """What the messages of a batch declared, as mnemonics: see `contracts.kinds.Keys`."""

    changed: Sequence[str]
    sized: Collection[str]
    deleted: Collection[str]
    held: Sequence[str]
    """Those whose rows must not vanish, whether they are read or not."""
    versions: Sequence[tuple[str, str]]
    rules: Sequence[str]

    @property
    def lock_mode(self) -> LockMode:
        """The strongest lock that any of them needs: all are locked alike, by id, so that nobody waits in a circle."""
        if self.deleted:
            return "for update"
        return "for no key update" if self.changed else "for key share"


class ProductBatch:
    """Products of one batch of commands: loaded once, locked; changed in memory; written set by set.

    Rows are locked by one statement; versions, items, rules and holds are read by later ones, as they are then. Of a
    product that is only held, the catalogue is not loaded.
    """

    def __init__(self, journal: Journal, holds: ProductHolds, outdate: Callable[[str], None]) -> None:
        self._products: IdentityMap[str, Product] = IdentityMap(journal, "products")
        self._versions: IdentityMap[str, tuple[ProductVersion, ...]] = IdentityMap(journal, "versions of products")
        self._items: IdentityMap[str, tuple[Item, ...]] = IdentityMap(journal, "items of versions")
        self._rules: IdentityMap[str, RuleSet] = IdentityMap(journal, "rules of products")
        self._sizes: IdentityMap[str, int] = IdentityMap(journal, "sizes of products")
        self._measured: dict[str, tuple[str, int, int]] = {}
        self._holds = holds
        self._outdate = outdate
        self._catalogues: Mapping[str, tuple[str, str | None]] = {}

    # What use cases call -------------------------------------------------------------------------------------------
    async def find(self, mnemonic: str) -> Product | None:
        """Find a product; its mnemonic must have been declared."""
        return self._products.get(mnemonic)

    async def save(self, product: Product) -> None:
        """Insert or change."""
        before = self._products.get(product.mnemonic)
        if before is None or before.id != product.id:
            self._versions.set(product.id, ())
            self._rules.set(product.id, RuleSet(product.id, None, ()))
            self._sizes.set(product.id, head_bytes(product))
        else:
            self._add_bytes(product.id, change_bytes(before, product))
        self._products.set(product.mnemonic, product)
        self._outdate(cache_key(PRODUCT_SPACE, product.mnemonic))

    async def delete(self, product: Product) -> None:
        """Delete with everything that is its own."""
        self._products.set(product.mnemonic, None)
        self._outdate(cache_key(PRODUCT_SPACE, product.mnemonic))

    async def count_holds(self, product: Product) -> int:
        """Count the placed orders that refer to the product, those of the batch's earlier messages included."""
        return self._holds.count(product.id)

    async def versions_of(self, product: Product) -> Sequence[ProductVersion]:
        """Return the versions by first day; one of them must have been declared."""
        return self._versions.get(product.id) or ()

    async def items_of(self, version: ProductVersion) -> Sequence[Item]:
        """Return the items of a declared version."""
        return self._items.get(version.id) or ()

    async def add_version(self, product: Product, version: ProductVersion, items: Sequence[Item]) -> None:
        """Insert a version with its items."""
        others = self._versions.get(product.id) or ()
        self._versions.set(product.id, tuple(sorted((*others, version), key=lambda one: one.start_date)))
        self._items.set(version.id, tuple(items))
        self._add_bytes(product.id, version_bytes(version, items, len(others)))

    async def change_version(self, product: Product, version: ProductVersion) -> None:
        """Change a version's last day."""
        versions = self._versions.get(product.id) or ()
        before = next(one for one in versions if one.id == version.id)
        self._versions.set(product.id, tuple(version if one is before else one for one in versions))
        self._add_bytes(product.id, day_bytes(version.end_date) - day_bytes(before.end_date))

    async def size_of(self, product: Product) -> int:
        """Return how many bytes `get_product` would show; that it has to be known must have been declared."""
        size = self._sizes.get(product.id)
        if size is None:
            raise UndeclaredKeyError("sizes of products: a key was touched that the kind did not declare")
        return size

    def _add_bytes(self, product_id: str, more: int) -> None:
        size = self._sizes.get(product_id)
        if size is not None:
            self._sizes.set(product_id, size + more)

    async def rules_of(self, product: Product) -> RuleSet:
        """Return the rules of a product that is held, or whose rules were declared."""
        return self._rules.get(product.id) or RuleSet(product.id, None, ())

    async def replace_rules(self, product: Product, rules: Sequence[Rule]) -> None:
        """Replace the rules; they are not committed yet, so nothing compiled of them may outlive the batch."""
        self._rules.set(product.id, RuleSet(product.id, None, tuple(rules)))

    # What the unit of work calls -----------------------------------------------------------------------------------
    async def load(self, connection: Connection, declared: DeclaredProducts, columns: CatalogueColumns) -> None:
        """Lock and read the declared products, then what belongs to them. Names of changed ones are locked already.

        Raises `StaleReadError` when a product that is only held was deleted and created anew meanwhile: it is there,
        but this transaction's first look waited for the one that went.
        """
        mnemonics = sorted({*declared.changed, *declared.held})
        if not mnemonics:
            return
        rows = await connection.fetch(_lock(declared.lock_mode, columns), mnemonics, list(declared.changed))
        products = {row["mnemonic"]: PRODUCTS.read(row) for row in rows}
        missing = [one for one in mnemonics if one not in products and one not in set(declared.changed)]
        if missing and await connection.fetchval(_MISSED, missing):
            msg = "a product was created anew before its row was locked"
            raise StaleReadError(msg)
        self._products.load(products, mnemonics)
        if len(columns.written) > 1:
            self._catalogues = {row["id"]: (row["old_text"], row["new_text"]) for row in rows if row["changes"]}
        await self._load_sizes(connection, rows, products.values(), declared.sized)
        await self._load_versions(connection, products, declared.versions)
        await self._load_rules(connection, products, declared.rules)
        deleted = [product.id for mnemonic, product in products.items() if mnemonic in declared.deleted]
        await self._holds.load(connection, sorted(deleted))

    async def _load_sizes(
        self, connection: Connection, rows: Sequence[Any], products: Collection[Product], sized: Collection[str]
    ) -> None:
        """Take in the sizes that are known, and measure the others that have to be known."""
        known = {row["id"]: row["known_bytes"] for row in rows if row["known_bytes"] is not None}
        sizes = {one.id: known[one.id] + later_bytes(one) for one in products if one.id in known}
        unknown = [one for one in products if one.id not in known and one.mnemonic in sized]
        measured = await measure(connection, unknown)
        self._measured = {one.id: (one.id, measured[one.id] - later_bytes(one), one.version) for one in unknown}
        self._sizes.load(sizes | measured, [row["id"] for row in rows])

    async def _load_versions(
        self, connection: Connection, products: Mapping[str, Product], named: Sequence[tuple[str, str]]
    ) -> None:
        places = [(products[mnemonic].id, label) for mnemonic, label in named if mnemonic in products]
        if not places:
            return
        ids = sorted({product_id for product_id, _ in places})
        versions: dict[str, list[ProductVersion]] = defaultdict(list)
        wanted = set(places)
        shown = []
        for row in await connection.fetch(_VERSIONS, ids):
            version = VERSIONS.read(row)
            versions[row["product_id"]].append(version)
            if (row["product_id"], version.label) in wanted:
                shown.append(version.id)
        self._versions.load({product_id: tuple(found) for product_id, found in versions.items()}, ids)
        if not shown:
            return
        items: dict[str, list[Item]] = defaultdict(list)
        for row in await connection.fetch(_ITEMS, [one[0] for one in places], [one[1] for one in places]):
            items[row["version_id"]].append(ITEMS.read(row))
        self._items.load({version_id: tuple(found) for version_id, found in items.items()}, shown)

    async def _load_rules(
        self, connection: Connection, products: Mapping[str, Product], mnemonics: Sequence[str]
    ) -> None:
        ids = sorted({products[mnemonic].id for mnemonic in mnemonics if mnemonic in products})
        if not ids:
            return
        rows = await connection.fetch(f"{READ_RULES} where p.id = any($1::uuid[]) {RULES_ORDER}", ids)
        self._rules.load({rules.product_id: rules for rules in rule_sets_of(rows).values()}, ids)

    def deleted(self) -> list[str]:
        """Return the ids of the products that this batch deletes, also where another takes the mnemonic at once."""
        return sorted(
            before.id
            for _, before, after in self._products.changes()
            if before is not None and (after is None or after.id != before.id)
        )

    async def release(self, connection: Connection) -> None:
        """First step of the flush: delete; the mnemonics are free."""
        deleted = self.deleted()
        if deleted:
            await connection.execute(_DELETE, deleted)

    async def write(self, connection: Connection, columns: CatalogueColumns) -> None:
        """Second step: update, then insert net states; products, then versions, items and rules."""
        await self._write_products(connection, columns)
        living = {product.id for _, product in self._products.items() if product is not None}
        await self._write_versions(connection, living)
        await self._write_rules(connection, living)

    async def _write_products(self, connection: Connection, columns: CatalogueColumns) -> None:
        changed: list[Product] = []
        catalogs: list[str | None] = []
        new: list[Product] = []
        rules = {product_id for product_id, before, _ in self._rules.changes() if before is not None}
        for _, before, after in self._products.changes():
            if after is None:
                continue
            if before is not None and before.id == after.id:
                changed.append(after)
                catalogs.append(None if after.catalog is before.catalog else json_text(after.catalog))
                self._measured.pop(after.id, None)
            else:
                new.append(after)
        if changed:
            are_ruled = [one.id in rules for one in changed]
            arguments: list[Sequence[object]] = [
                *PRODUCTS.to_update(changed),
                catalogs,
                are_ruled,
                self._sizes_of(changed),
            ]
            await connection.execute(_updating(columns), *_CHANGES.array_arguments(arguments))
        new.sort(key=lambda one: one.mnemonic)
        sizes: list[Sequence[object]] = [self._sizes_of(new), [one.version for one in new]]
        catalogues: list[Sequence[object]] = [[json_text(one.catalog) for one in new]] * len(columns.written)
        await _inserting(columns.written).insert_columns(connection, [*PRODUCTS.to_insert(new), *sizes, *catalogues])
        await keep_many(connection, sorted(self._measured.values()))

    def _sizes_of(self, products: Sequence[Product]) -> list[int | None]:
        known = ((one, self._sizes.get(one.id)) for one in products)
        return [None if size is None else size - later_bytes(one) for one, size in known]

    async def _write_versions(self, connection: Connection, living: Collection[str]) -> None:
        changed: list[ProductVersion] = []
        new: list[tuple[str, ProductVersion]] = []
        for product_id, before, after in self._versions.changes():
            if product_id not in living:
                continue
            known = {version.id: version for version in before or ()}
            for version in after or ():
                if version.id not in known:
                    new.append((product_id, version))
                elif version is not known[version.id]:
                    changed.append(version)
        await _VERSION_CHANGES.update_columns(connection, VERSIONS.to_update(changed))
        versions = [version for _, version in new]
        await _VERSION_ROWS.insert_columns(connection, [[one for one, _ in new], *VERSIONS.to_insert(versions)])
        await _insert_ordered(
            connection, _ITEM_ROWS, ITEMS, {one.id: self._items.get(one.id) or () for one in versions}
        )

    async def _write_rules(self, connection: Connection, living: Collection[str]) -> None:
        changes = [
            (product_id, before, after)
            for product_id, before, after in self._rules.changes()
            if product_id in living and after is not None
        ]
        replaced = sorted(product_id for product_id, before, _ in changes if before is not None)
        if replaced:
            await connection.execute(_DELETE_RULES, replaced)
        rules = {product_id: after.rules for product_id, _, after in changes}
        await _insert_ordered(connection, _RULE_ROWS, RULES, rules)

    def count(self, deltas: CounterDeltas) -> None:
        """Add this batch's differences to the counter."""
        for _, before, after in self._products.changes():
            deltas.add(counters.PRODUCTS, (after is not None) - (before is not None))

    def drift(self) -> tuple[int, int]:
        """Compare both columns of the catalogue in the rows that this batch changes: how many, and how many differ.

        What the backfill has not filled in yet is not compared.
        """
        pairs = [
            pair
            for _, before, after in self._products.changes()
            if before is not None and after is not None and (pair := self._catalogues.get(before.id)) is not None
        ]
        return len(pairs), count_drift(pairs)


@cache
def _lock(mode: LockMode, columns: CatalogueColumns) -> str:
    """Write the statement that locks products. The catalogue, which may be large, is read only where it may change."""
    changes = "p.mnemonic = any($2::text[])"
    read = f"case when {changes} then p.{columns.read}::text end"
    both = ""
    if len(columns.written) > 1:
        both = (
            f", case when {changes} then p.{_OLD} end as old_text"
            f", case when {changes} then p.{_NEW}::text end as new_text"
            f", {changes} and p.{_NEW} is not null as changes"
        )
    return f"""
        select {PRODUCTS.selected("p", catalog=read)}, {KNOWN_BYTES} as known_bytes{both}
        from products p where p.mnemonic = any($1::text[]) order by p.id {mode}"""


async def _insert_ordered(
    connection: Connection, rows: RowSet, table: Table[T], parts: Mapping[str, Sequence[T]]
) -> None:
    """Insert what belongs to others, by their ids, with its place among them."""
    places = [(owner, ordinal) for owner, of_owner in parts.items() for ordinal in range(len(of_owner))]
    values = [one for of_owner in parts.values() for one in of_owner]
    columns: list[Sequence[object]] = [
        [owner for owner, _ in places],
        [ordinal for _, ordinal in places],
        *table.to_insert(values),
    ]
    await rows.insert_columns(connection, columns)
