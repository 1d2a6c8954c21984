"""Products as queries see them, in every phase of the catalogue's change.

Each query is answered by one statement, hence of one moment, however many products are asked for.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import asyncpg
import orjson

from handlers.page import After, Found, TooMuch
from handlers.product import (
    Item,
    OversizedProduct,
    Product,
    ProductDetail,
    ProductPage,
    ProductSearch,
    ProductVersion,
    RuleSet,
    Shown,
)
from handlers.product_size import MAX_SHOWN_BYTES, later_bytes
from persistence import counters
from persistence.engine import Connection, Engine, connected, transaction
from persistence.like import contains
from persistence.page_rows import (
    COUNT_BOUND,
    SLICED,
    after_arguments,
    bounded,
    find_pages,
    found_by_number,
    older,
    slice_arguments,
    slices,
)
from persistence.phases import (
    PRODUCT_CATALOG,
    CatalogueColumns,
    Phase,
    catalogue_columns,
    count_drift,
    known_phases,
    read_phases,
)
from persistence.product_sizes import ProductMovedError, keep, measure
from persistence.product_tables import ITEMS, PRODUCTS, VERSIONS
from persistence.products import KNOWN_BYTES, READ_RULES, RULES_ORDER, rule_sets_of

SAMPLED_ONE_IN: Final = 64
"""How often a read of products compares both columns of the catalogue."""

_PHASE: Final = f"(select phase from schema_changes where change = '{PRODUCT_CATALOG}') as phase"


class DriftWatch(Protocol):
    """Counts how often the two columns of the catalogue were compared, and how often they differed."""

    def on_catalogue_compared(self, compared: int, differing: int) -> None:
        """So many rows were compared, and in so many of them the columns differ."""
        ...


class CatalogueReads:
    """Reads products from the column that their catalogue is in at the moment of the statement; made once a process.

    A statement names the column by the phase that was seen last, and returns the phase of its own snapshot: where they
    disagree on the column, it runs again. That a column is gone is the same.
    """

    def __init__(self, watch: DriftWatch | None = None) -> None:
        self._watch = watch
        self._phase = Phase.EXPANDED
        self._reads = 0

    async def fetch(
        self, connection: Connection, statement: Callable[[CatalogueColumns], str], *args: object
    ) -> Sequence[Any]:
        """Run what `statement` makes for the columns; its rows have the phase as `phase`.

        Raises `UnknownPhaseError` for a phase that this release does not know.
        """
        while True:
            columns = catalogue_columns(self._phase)
            try:
                rows = await connection.fetch(statement(columns), *args)
            except asyncpg.UndefinedColumnError:
                known = (await read_phases(connection))[PRODUCT_CATALOG]
                if catalogue_columns(known).read == columns.read:
                    raise
                self._phase = known
                continue
            if rows:
                self._phase = known_phases([(PRODUCT_CATALOG, rows[0]["phase"])])[PRODUCT_CATALOG]
            if catalogue_columns(self._phase).read == columns.read:
                return rows

    async def sample(self, connection: Connection, ids: Sequence[str]) -> None:
        """Now and then, compare both columns of products that were read, where both are written."""
        self._reads += 1
        columns = catalogue_columns(self._phase)
        if self._watch is None or self._reads % SAMPLED_ONE_IN or len(columns.written) == 1 or not ids:
            return
        try:
            rows = await connection.fetch(_BOTH, ids)
        except asyncpg.UndefinedColumnError:
            return  # the old column went meanwhile: nothing is left to compare
        pairs = [(row["old_text"], row["new_text"]) for row in rows]
        self._watch.on_catalogue_compared(len(pairs), count_drift(pairs))


_BOTH: Final = """
select old_catalog_field as old_text, new_catalog::text as new_text
from products where id = any($1::uuid[]) and new_catalog is not null"""

# Versions with their items as one JSON value a product: the whole is of one snapshot, and no row is sent twice.
_ITEMS: Final = f"""
(select json_agg({ITEMS.json_array("i")} order by i.position, i.ordinal)
 from product_version_items i where i.version_id = v.id)"""
_VERSIONS: Final = f"""
(select json_agg({VERSIONS.json_array("v", _ITEMS)} order by v.start_date)
 from product_versions v where v.product_id = p.id)::text"""


def _product(columns: CatalogueColumns) -> str:
    return PRODUCTS.selected("p", catalog=f"p.{columns.read}::text")


def _columns(columns: CatalogueColumns) -> str:
    return f"{_product(columns)}, {_PHASE}"


GUESSED_ITEMS: Final = 10_000
"""A size that is not known is guessed, as the JSON texts of so many items: some 50 ms at most. A product with more, or
one that may be too large, is measured row by row, and its size kept."""
BYTES_AT_ONCE: Final = 8 * 1024 * 1024
"""How many bytes of products one statement loads, the first product apart."""

_GUESS: Final = f"""
(select case when count(*) > {GUESSED_ITEMS} then {MAX_SHOWN_BYTES + 1} else coalesce(sum(bytes), 0) end from (
   select octet_length(i.attributes::text) + octet_length(i.name) as bytes
   from product_versions v join product_version_items i on i.version_id = v.id
   where v.product_id = p.id limit {GUESSED_ITEMS + 1}) as items)"""


def details_by(key: str, kind: str) -> Callable[[CatalogueColumns], str]:
    """Write the statement that reads products with versions and items, in the order of the keys $1.

    `fits` is false for one that is too large to be shown, or may be: it comes without catalogue and versions. It is
    null for one that has to be asked for again, since those before it are as much as is loaded at once.
    """
    return lambda columns: (
        f"""
select {PRODUCTS.selected("p", catalog=f"case when s.fits then p.{columns.read}::text end")},
  {_PHASE}, s.known_bytes, s.fits,
  case when s.fits then {_VERSIONS} end as versions
from (
  select b.place, b.id, b.known_bytes,
    case when b.bytes > {MAX_SHOWN_BYTES} then false
      when sum(b.bytes) over (order by b.place) - b.bytes <= {BYTES_AT_ONCE} then true end as fits
  from (
    select a.place, p.id, {KNOWN_BYTES} as known_bytes,
      coalesce({KNOWN_BYTES}, {_GUESS}) as bytes
    from unnest($1::{kind}[]) with ordinality as a(key, place) join products p on p.{key} = a.key) as b) as s
join products p on p.id = s.id
order by s.place"""
    )


DETAILS_BY_MNEMONIC: Final = details_by("mnemonic", "text")
DETAILS_BY_ID: Final = details_by("id", "uuid")


def _detail_alone(columns: CatalogueColumns) -> str:
    return f"select {_columns(columns)}, {_VERSIONS} as versions from products p where p.id = $1::uuid"


def _head_alone(columns: CatalogueColumns) -> str:
    return f"select {_columns(columns)} from products p where p.id = $1::uuid"


_ALL: Final = f"select coalesce(sum(amount), 0)::bigint from counter_deltas where counter = '{counters.PRODUCTS}'"


_HEAD: Final = (*(name for name in PRODUCTS.names if name != "catalog"), "phase", "total")

Statement = Callable[[CatalogueColumns], str]
"""A statement, once it is known which columns hold the catalogue."""


def _page_of_products(total: str, ids: str) -> Statement:
    """Write the statement of pages, where `ids` gives `number` and `page.id` of their rows.

    What is passed over is looked at in an index alone where one has all of it; rows are read for the pages.
    """

    def rows(columns: CatalogueColumns) -> str:
        return f"""
select w.number, ({total}) as total, {_PHASE}, p.* from {ids}
left join lateral (
  select {_product(columns)} from products p where p.id = page.id offset 0) as p on true"""

    return lambda columns: bounded(rows(columns), _HEAD, "catalog", by="number")


@dataclass(frozen=True, slots=True)
class _Listing:
    """The statements of a list: of its pages by number, and of the one after a row.

    What they filter by begins at $4; the `condition` speaks of it as `{0}` and `{1}`.
    """

    condition: str | None = None

    @property
    def is_filtered(self) -> bool:
        return self.condition is not None

    def _meeting(self, first: int) -> str:
        condition = (self.condition or "true").format(*(f"${first + place}" for place in range(2)))
        return f"products n where {condition}"

    def by_number(self, columns: CatalogueColumns) -> str:
        """Several pages: the arguments of `slice_arguments`, then the filters."""
        total = "select count(*) from hits" if self.is_filtered else _ALL
        return slices(self._meeting(4), "n", 3) + _page_of_products(total, SLICED)(columns)

    def after(self, columns: CatalogueColumns) -> str:
        """One page: its size, the arguments of `older`, then the filters."""
        meeting = self._meeting(4)
        counted = f"select count(*) from (select from {meeting} limit {COUNT_BOUND + 1}) as counted"
        ids = f"""(values (1)) as w(number)
left join lateral (
  select n.id from {meeting} and {older("n.created_at, n.id", 2)}
  order by n.created_at desc, n.id desc limit $1::bigint) as page on true"""
        return _page_of_products(counted if self.is_filtered else _ALL, ids)(columns)


_IN_FORCE: Final = """exists (
    select from product_versions v
    where v.product_id = n.id and daterange(v.start_date, v.end_date, '[]') && daterange({0}, {1}, '[]'))"""

LIST: Final = _Listing()
LIST_OF_CATEGORY: Final = _Listing("n.category = {0}")
# Spelt out, not as an argument: each has an index of its own, so that neither wades through the other's products.
_ARCHIVED: Final = "n.archived_at is not null"
_UNARCHIVED: Final = "n.archived_at is null"
LISTS: Final = {
    (False, None): LIST,
    (True, None): LIST_OF_CATEGORY,
    (False, True): _Listing(_ARCHIVED),
    (False, False): _Listing(_UNARCHIVED),
    (True, True): _Listing(f"{LIST_OF_CATEGORY.condition} and {_ARCHIVED}"),
    (True, False): _Listing(f"{LIST_OF_CATEGORY.condition} and {_UNARCHIVED}"),
}
"""By whether only a category's are asked for, and whether only archived ones, or only others."""
LIST_IN_FORCE: Final = _Listing(_IN_FORCE)
SEARCH: Final = _Listing("n.mnemonic like {0}")


@dataclass(frozen=True, slots=True)
class _Page:
    """A page of a list, and what that filters by."""

    listing: _Listing
    filters: tuple[object, ...]
    size: int
    offset: int
    after: After | None


def _list_of(page: ProductPage) -> tuple[_Listing, tuple[object, ...]]:
    if page.days is not None:
        return LIST_IN_FORCE, page.days
    by_category = page.category is not None
    return LISTS[by_category, page.archived], (page.category,) if by_category else ()


class ProductTable:
    """Products as queries see them.

    `primary` is where a size is kept that a query had to measure.
    """

    def __init__(self, engine: Engine, reads: CatalogueReads, primary: Engine) -> None:
        self._engine = engine
        self._reads = reads
        self._primary = primary

    async def get_many(self, mnemonics: Sequence[str]) -> dict[str, Shown]:
        """Find products by mnemonic, with versions and items; one statement, in the order of the keys."""
        return {row["mnemonic"]: shown for row, shown in await self._details(DETAILS_BY_MNEMONIC, mnemonics)}

    async def get_many_by_id(self, product_ids: Sequence[str]) -> dict[str, Shown]:
        """Find products by id, with versions and items; one statement, in the order of the keys."""
        return {row["id"]: shown for row, shown in await self._details(DETAILS_BY_ID, product_ids)}

    async def _details(
        self, statement: Callable[[CatalogueColumns], str], keys: Sequence[str]
    ) -> Sequence[tuple[Any, Shown]]:
        if not keys:
            return ()
        async with connected(self._engine) as connection:
            rows = await self._reads.fetch(connection, statement, list(dict.fromkeys(keys)))
            await self._reads.sample(connection, [row["id"] for row in rows if row["fits"]])
        shown: list[tuple[Any, Shown]] = []
        may_measure = True
        for row in rows:
            if row["fits"]:
                shown.append((row, ProductDetail(PRODUCTS.read(row), _versions(row["versions"]))))
            elif row["fits"] is None:
                shown.append((row, None))
            elif row["known_bytes"] is not None:
                shown_bytes = row["known_bytes"] + later_bytes(PRODUCTS.read(row))
                shown.append((row, OversizedProduct(row["id"], row["mnemonic"], shown_bytes)))
            else:
                shown.append((row, await self._measured(row["id"]) if may_measure else None))
                may_measure = False
        return shown

    async def _measured(self, product_id: str) -> Shown:
        """Measure a product and keep its size, so that this is paid once; load it where it is not too large."""
        async with transaction(self._engine) as connection:
            rows = await self._reads.fetch(connection, _head_alone, product_id)
            if not rows:
                return None
            product = PRODUCTS.read(rows[0])
            try:
                size = (await measure(connection, [product]))[product_id]
            except ProductMovedError:
                return None
        async with connected(self._primary) as connection:
            await keep(connection, product, size - later_bytes(product))
        if size > MAX_SHOWN_BYTES:
            return OversizedProduct(product_id, product.mnemonic, size)
        async with connected(self._engine) as connection:
            rows = await self._reads.fetch(connection, _detail_alone, product_id)
        return ProductDetail(PRODUCTS.read(rows[0]), _versions(rows[0]["versions"])) if rows else None

    async def list_pages(self, pages: Sequence[ProductPage]) -> Sequence[Found[Product] | TooMuch | None]:
        """Find pages, newest first; a page and its count are of one snapshot, as are pages of the same list."""
        return await self._pages([_Page(*_list_of(one), one.page_size, one.offset, one.after) for one in pages])

    async def search(self, searches: Sequence[ProductSearch]) -> Sequence[Found[Product] | TooMuch | None]:
        """Find pages by a part of the mnemonic, newest first."""
        return await self._pages(
            [
                _Page(LIST, (), one.limit, one.offset, one.after)
                if one.mnemonic_contains is None
                else _Page(SEARCH, (contains(one.mnemonic_contains),), one.limit, one.offset, one.after)
                for one in searches
            ]
        )

    async def _pages(self, pages: Sequence["_Page"]) -> Sequence[Found[Product] | TooMuch | None]:
        async def find(
            connection: Connection, alike: Sequence[_Page]
        ) -> tuple[Sequence[Found[Product] | TooMuch], int]:
            one, listing = alike[0], alike[0].listing
            if one.after is not None:
                arguments = (one.size + 1, *after_arguments(one.after))
                rows = await self._reads.fetch(connection, listing.after, *arguments, *one.filters)
            else:
                arguments = slice_arguments(
                    [(page.size, page.offset) for page in alike], is_filtered=listing.is_filtered
                )
                rows = await self._reads.fetch(connection, listing.by_number, *arguments, *one.filters)
            return found_by_number(rows, [page.size for page in alike], PRODUCTS.read, is_filtered=listing.is_filtered)

        return await find_pages(
            self._engine, pages, lambda one: (one.listing, one.filters) if one.after is None else None, find
        )

    async def rules_of(self, mnemonics: Sequence[str]) -> dict[str, RuleSet]:
        """Return the rules of products, with the version that they came with; one statement."""
        async with connected(self._engine) as connection:
            rows = await connection.fetch(
                f"{READ_RULES} where p.mnemonic = any($1::text[]) {RULES_ORDER}", list(mnemonics)
            )
        return rule_sets_of(rows)


def _versions(text: str | None) -> Sequence[tuple[ProductVersion, Sequence[Item]]]:
    return [
        (VERSIONS.read_json(columns), [ITEMS.read_json(one) for one in items or ()])
        for *columns, items in (orjson.loads(text) if text is not None else ())
    ]
