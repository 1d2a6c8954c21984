"""Products in Postgres, as a batch of commands sees them: with versions, items and rules."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, Literal

import orjson

from handlers.product import PRODUCT_SPACE, Item, Product, ProductVersion, Rule, RuleSet
from handlers.product_size import change_bytes, day_bytes, head_bytes, version_bytes
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
from persistence.rowset import RowSet

MNEMONIC_SPACE: Final = "mnemonic"

_OLD: Final = "old_catalog_field"
_NEW: Final = "new_catalog"

LockMode = Literal["for update", "for no key update", "for key share"]


def product_columns(catalogue: str) -> str:
    """Name the columns of a product `p` that `product_of` reads; `catalogue` is an expression that gives JSON text."""
    return (
        "p.id::text, p.mnemonic, p.overview, p.is_confidential, p.category, p.tags::text as tags,"
        f" {catalogue} as catalog, p.version, p.created_at, p.updated_at"
    )


KNOWN_BYTES: Final = "case when p.answer_bytes_version = p.version then p.answer_bytes end"
"""A product's size as `get_product` shows it; null where it is not known."""


def product_of(row: Any) -> Product:  # noqa: ANN401 - asyncpg's Record has no types
    """Read a row of `product_columns`."""
    return Product(
        row["id"],
        row["mnemonic"],
        row["overview"],
        row["is_confidential"],
        row["category"],
        tuple(orjson.loads(row["tags"])),
        _catalog(row["catalog"]),
        row["version"],
        row["created_at"],
        row["updated_at"],
    )


def _catalog(text: str | None) -> dict[str, object]:
    """Read a catalogue. The legacy text may be no JSON object: that is shown as empty, and not overwritten."""
    try:
        value = orjson.loads(text or "{}")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


# The rules of products, with the product's version of the same snapshot: together they name what may be compiled and
# kept. While the legacy column is not null, it has them.
RULES: Final = """
select p.id::text, p.mnemonic, p.version, p.old_validations,
  r.name, r.parameters::text as parameters, r.start_date, r.end_date
from products p
left join validation_instances r on r.product_id = p.id and p.old_validations is null"""
RULES_ORDER: Final = "order by p.id, r.ordinal"


def rule_sets_of(rows: Iterable[Any]) -> dict[str, RuleSet]:
    """Read rows of `RULES`, in their order; by mnemonic."""
    heads: dict[str, Any] = {}
    rules: dict[str, list[Rule]] = defaultdict(list)
    for row in rows:
        heads[row["mnemonic"]] = row
        if row["name"] is not None:
            rules[row["mnemonic"]].append(
                Rule(row["name"], orjson.loads(row["parameters"]), row["start_date"], row["end_date"])
            )
    return {
        mnemonic: RuleSet(row["id"], row["version"], tuple(rules[mnemonic]))
        if row["old_validations"] is None
        else RuleSet(row["id"], row["version"], read_rules(row["old_validations"]))
        for mnemonic, row in heads.items()
    }


_MISSED: Final = "select count(*) from products where mnemonic = any($1::text[])"
_VERSIONS: Final = """
select product_id::text, id::text, version_label, start_date, end_date, created_at
from product_versions where product_id = any($1::uuid[]) order by product_id, start_date"""
_ITEMS: Final = """
select i.version_id::text, i.name, i.position, i.attributes::text as attributes
from unnest($1::uuid[], $2::text[]) as k(product_id, label)
join product_versions v on v.product_id = k.product_id and v.version_label = k.label
join product_version_items i on i.version_id = v.id
order by i.version_id, i.ordinal"""
_DELETE: Final = "delete from products where id = any($1::uuid[])"
_DELETE_RULES: Final = "delete from validation_instances where product_id = any($1::uuid[])"

_FIELDS: Final = {
    "id": "uuid",
    "mnemonic": "text",
    "overview": "text",
    "is_confidential": "boolean",
    "category": "text",
    "tags": "jsonb",
    "version": "integer",
    "created_at": "timestamptz",
    "updated_at": "timestamptz",
    "answer_bytes": "integer",
    "answer_bytes_version": "integer",
}
_VERSION_ROWS: Final = RowSet(
    "product_versions",
    {
        "id": "uuid",
        "product_id": "uuid",
        "version_label": "text",
        "start_date": "date",
        "end_date": "date",
        "created_at": "timestamptz",
    },
)
_VERSION_ENDS: Final = RowSet("product_versions", {"id": "uuid", "end_date": "date"})
_ITEM_ROWS: Final = RowSet(
    "product_version_items",
    {
        "version_id": "uuid",
        "ordinal": "integer",
        "name": "text",
        "position": "integer",
        "attributes": "jsonb",
    },
)
_RULE_ROWS: Final = RowSet(
    "validation_instances",
    {
        "product_id": "uuid",
        "ordinal": "integer",
        "name": "text",
        "parameters": "jsonb",
        "start_date": "date",
        "end_date": "date",
    },
)


@cache
def _inserting(written: tuple[str, ...]) -> RowSet:
    types = {_OLD: "text", _NEW: "jsonb"}
    return RowSet("products", _FIELDS | {column: types[column] for column in written})


@cache
def _updating(columns: CatalogueColumns) -> str:
    """Write the statement that updates products.

    A catalogue that was not changed (null) stays as it stands in the column that is read, whatever that is. The column
    that is only written then follows it, by an expression of the row's own: also where it was stale.
    """
    own = ("overview", "is_confidential", "category", "tags", "version", "updated_at", "answer_bytes")
    sets = {name: f"r.{name}" for name in own}
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
        from unnest($1::uuid[], $2::text[], $3::boolean[], $4::text[], $5::jsonb[], $6::integer[], $7::timestamptz[],
          $8::text[], $9::boolean[], $10::integer[])
          as r(id, overview, is_confidential, category, tags, version, updated_at, catalog, new_rules, answer_bytes)
        where t.id = r.id"""


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
        products = {row["mnemonic"]: product_of(row) for row in rows}
        missing = [one for one in mnemonics if one not in products and one not in set(declared.changed)]
        if missing and await connection.fetchval(_MISSED, missing):
            msg = "a product was created anew before its row was locked"
            raise StaleReadError(msg)
        self._products.load(products, mnemonics)
        if len(columns.written) > 1:
            self._catalogues = {row["id"]: (row["old_text"], row["new_text"]) for row in rows if row["changes"]}
        await self._load_sizes(connection, rows, declared.sized)
        await self._load_versions(connection, products, declared.versions)
        await self._load_rules(connection, products, declared.rules)
        deleted = [product.id for mnemonic, product in products.items() if mnemonic in declared.deleted]
        await self._holds.load(connection, sorted(deleted))

    async def _load_sizes(self, connection: Connection, rows: Sequence[Any], sized: Collection[str]) -> None:
        """Take in the sizes that are known, and measure the others that have to be known."""
        sizes = {row["id"]: row["known_bytes"] for row in rows if row["known_bytes"] is not None}
        unknown = [product_of(row) for row in rows if row["id"] not in sizes and row["mnemonic"] in sized]
        measured = await measure(connection, unknown)
        self._measured = {one.id: (one.id, measured[one.id], one.version) for one in unknown}
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
            version = ProductVersion(
                row["id"], row["version_label"], row["start_date"], row["end_date"], row["created_at"]
            )
            versions[row["product_id"]].append(version)
            if (row["product_id"], version.label) in wanted:
                shown.append(version.id)
        self._versions.load({product_id: tuple(found) for product_id, found in versions.items()}, ids)
        if not shown:
            return
        items: dict[str, list[Item]] = defaultdict(list)
        for row in await connection.fetch(_ITEMS, [one[0] for one in places], [one[1] for one in places]):
            attributes = orjson.loads(row["attributes"]) if row["attributes"] is not None else None
            items[row["version_id"]].append(Item(row["name"], row["position"], attributes))
        self._items.load({version_id: tuple(found) for version_id, found in items.items()}, shown)

    async def _load_rules(
        self, connection: Connection, products: Mapping[str, Product], mnemonics: Sequence[str]
    ) -> None:
        ids = sorted({products[mnemonic].id for mnemonic in mnemonics if mnemonic in products})
        if not ids:
            return
        rows = await connection.fetch(f"{RULES} where p.id = any($1::uuid[]) {RULES_ORDER}", ids)
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
        changed, new = [], []
        rules = {product_id for product_id, before, _ in self._rules.changes() if before is not None}
        for _, before, after in self._products.changes():
            if after is None:
                continue
            if before is not None and before.id == after.id:
                catalog = None if after.catalog is before.catalog else _text(after.catalog)
                changed.append(
                    (
                        after.id,
                        after.overview,
                        after.is_confidential,
                        after.category,
                        _text(after.tags),
                        after.version,
                        after.updated_at,
                        catalog,
                        after.id in rules,
                        self._sizes.get(after.id),
                    )
                )
                self._measured.pop(after.id, None)
            else:
                new.append(after)
        if changed:
            await connection.execute(_updating(columns), *zip(*changed, strict=True))
        await _inserting(columns.written).insert(
            connection,
            [
                (
                    one.id,
                    one.mnemonic,
                    one.overview,
                    one.is_confidential,
                    one.category,
                    _text(one.tags),
                    one.version,
                    one.created_at,
                    one.updated_at,
                    self._sizes.get(one.id),
                    one.version,
                    *[_text(one.catalog)] * len(columns.written),
                )
                for one in sorted(new, key=lambda one: one.mnemonic)
            ],
        )
        await keep_many(connection, sorted(self._measured.values()))

    async def _write_versions(self, connection: Connection, living: Collection[str]) -> None:
        ended, new, items = [], [], []
        for product_id, before, after in self._versions.changes():
            if product_id not in living:
                continue
            known = {version.id: version for version in before or ()}
            for version in after or ():
                if version.id not in known:
                    new.append(
                        (
                            version.id,
                            product_id,
                            version.label,
                            version.start_date,
                            version.end_date,
                            version.created_at,
                        )
                    )
                    items += [
                        (version.id, ordinal, item.name, item.position, _optional_text(item.attributes))
                        for ordinal, item in enumerate(self._items.get(version.id) or ())
                    ]
                elif version is not known[version.id]:
                    ended.append((version.id, version.end_date))
        await _VERSION_ENDS.update(connection, ended)
        await _VERSION_ROWS.insert(connection, new)
        await _ITEM_ROWS.insert(connection, items)

    async def _write_rules(self, connection: Connection, living: Collection[str]) -> None:
        changes = [
            (product_id, before, after)
            for product_id, before, after in self._rules.changes()
            if product_id in living and after is not None
        ]
        replaced = sorted(product_id for product_id, before, _ in changes if before is not None)
        if replaced:
            await connection.execute(_DELETE_RULES, replaced)
        await _RULE_ROWS.insert(
            connection,
            [
                (product_id, ordinal, rule.name, _text(rule.parameters), rule.start_date, rule.end_date)
                for product_id, _, after in changes
                for ordinal, rule in enumerate(after.rules)
            ],
        )

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
        select {product_columns(read)}, {KNOWN_BYTES} as known_bytes{both}
        from products p where p.mnemonic = any($1::text[]) order by p.id {mode}"""


def _text(value: object) -> str:
    return orjson.dumps(value).decode()


def _optional_text(value: object) -> str | None:
    return None if value is None else _text(value)
