"""A believable data set, made inside Postgres by set-based SQL, with every figure that follows from it.

It is made chunk by chunk, each a transaction of its own in which summaries, counters and holds follow: whoever dies in
between leaves a smaller, sound data set, and the next seed goes on from there. Rows are numbered; what a number looks
like follows from it alone, but for times, which are spread over the days before `as_of`.
"""

import unicodedata
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from contracts.text import fold_key
from persistence import counters
from persistence.engine import Connection, Engine, connected, transaction
from persistence.phases import PRODUCT_CATALOG, CatalogueColumns, catalogue_columns, shared_lock_and_phases
from persistence.summaries import add_to_categories, add_to_summaries

Made = Callable[[str, int], None]
"""Told what is made (`customers`, `products` or `orders`) and how many more: 0 at the start, then after each chunk."""


class SeedError(Exception):
    """The data set cannot be made as asked for; the text says why."""


@dataclass(frozen=True, slots=True)
class SeedSizes:
    """How much to make. `one_customer_percent` of the orders are those of one customer."""

    customers: int = 0
    products: int = 0
    orders: int = 0
    one_customer_percent: int = 10


CUSTOMERS_A_CHUNK: Final = 10_000
PRODUCTS_A_CHUNK: Final = 5_000
ORDERS_A_CHUNK: Final = 5_000
"""A chunk takes a second or two: far from the time-outs of a transaction."""

SEEDED_CUSTOMERS: Final = "seeded_customers"
SEEDED_PRODUCTS: Final = "seeded_products"
SEEDED_ORDERS: Final = "seeded_orders"
"""Counters of what was made so far: numbers go on from there."""

_FIRST_NAMES: Final = (
    "Ada", "Agnès", "Akira", "Alan", "Amara", "Andrzej", "Anna", "Ayşe", "Barbara", "Béla", "Blaise", "Carl",
    "Chiara", "Claude", "Daniel", "Dorothy", "Edsger", "Elif", "Emmy", "Étienne", "Evelyn", "Fatima", "Frances",
    "Gottfried", "Grace", "Hedy", "Hypatia", "Ibrahim", "Inès", "Jan", "João", "José", "Jürgen", "Katherine",
    "Kofi", "Kristen", "Leonhard", "Lise", "Lucía", "Margaret", "Marie", "Maryam", "Mary", "Mikołaj", "Ming",
    "Niklaus", "Noor", "Olga", "Paul", "Priya", "Radia", "René", "Rosalind", "Shafi", "Sofia", "Søren", "Srinivasa",
    "Tove", "Ursula", "Vera", "Wei", "Yukio", "Zainab", "Zoë",
)  # fmt: skip
_LAST_NAMES: Final = (
    "Abel", "Agnesi", "Allen", "Ampère", "Backus", "Banach", "Bartik", "Bernoulli", "Bohr", "Boole", "Bourbaki",
    "Cantor", "Cauchy", "Chandrasekhar", "Châtelet", "Church", "Clarke", "Conway", "Curie", "Dahl", "Darwin",
    "Descartes", "Dijkstra", "Dirac", "Einstein", "Engelbart", "Erdős", "Euler", "Fermat", "Feynman", "Floyd",
    "Fourier", "Franklin", "Galois", "Gauß", "Germain", "Gödel", "Goldwasser", "Grothendieck", "Hamilton",
    "Hamming", "Hausdorff", "Hilbert", "Hoare", "Holberton", "Hopper", "Huffman", "Jacobi", "Johnson", "Kepler",
    "Kahn", "Karp", "Kernighan", "Knuth", "Kolmogorov", "Kovalevskaya", "Lagrange", "Lamarr", "Lamport", "Laplace",
    "Leibniz", "Liskov", "Lovelace", "Lumière", "Maxwell", "McCarthy", "Meitner", "Mirzakhani", "Möbius", "Nash",
    "Naur", "Newton", "Noether", "Nygaard", "Øersted", "Ohm", "Pascal", "Perlman", "Pérez", "Planck", "Poincaré",
    "Ramanujan", "Riemann", "Ritchie", "Rivest", "Rózsa", "Russell", "Schrödinger", "Shamir", "Shannon",
    "Sierpiński", "Snyder", "Somerville", "Szegő", "Tarjan", "Tesla", "Thompson", "Torvalds", "Turing", "Ulam",
    "Viète", "Weierstraß", "Wilkes", "Wirth", "Yao", "Young", "Zuse",
)  # fmt: skip
_DOMAINS: Final = ("example.com", "example.net", "example.org")
_CATEGORIES: Final = (
    "BANKING", "BATHROOM", "BICYCLES", "BOOKS", "CAMPING", "CLOTHING", "COMPUTERS", "FURNITURE", "GAMES", "GARDEN",
    "GROCERY", "INSURANCE", "JEWELLERY", "KITCHEN", "LIGHTING", "MOBILE", "MUSIC", "OFFICE", "PETS", "PHOTO",
    "SPORTS", "TOOLS", "TOYS", "TRAVEL",
)  # fmt: skip
_KINDS: Final = (
    "Compact", "Classic", "Deluxe", "Durable", "Everyday", "Family", "Foldable", "Handmade", "Light", "Modern",
    "Outdoor", "Portable", "Professional", "Recycled", "Slim", "Travel",
)  # fmt: skip
_THINGS: Final = (
    "adapter", "bag", "basket", "box", "case", "cover", "guide", "holder", "kit", "lamp", "organiser", "pack",
    "plan", "rack", "set", "stand",
)  # fmt: skip
_COLOURS: Final = ("black", "blue", "green", "grey", "red", "white")

_CUSTOMER_DAYS: Final = 1_000
"""Customers came during so many days."""
_ORDER_DAYS: Final = 365


def _pick(number: str, multiplier: int, size: int | str) -> str:
    """Write an expression that maps numbers evenly onto 0 … size - 1 (Weyl's sequence on 32 bits)."""
    return f"(({number}) * {multiplier} % 4294967296 * ({size}) / 4294967296)"


# A multiplier a choice, odd and far apart, so that choices do not go together.
_BY_NAME, _BY_SURNAME, _BY_STATE, _BY_CUSTOMER, _BY_LINES, _BY_PRODUCT = (
    2654435761,
    2246822519,
    3266489917,
    668265263,
    374761393,
    1597334677,
)


def _uuid7(time: str, seed: str) -> str:
    """Write an expression that makes a UUID of version 7 from a time and, instead of chance, a text."""
    milliseconds = f"lpad(to_hex((extract(epoch from {time}) * 1000)::bigint), 12, '0')"
    digest = f"md5({seed})"
    return f"({milliseconds} || '7' || substr({digest}, 1, 3) || '8' || substr({digest}, 4, 15))::uuid"


def _texts(values: Sequence[str]) -> str:
    """Write an array of texts; none of ours holds a quotation mark."""
    return "'{" + ",".join(f'"{value}"' for value in values) + "}'::text[]"


def _one_of(values: Sequence[str], number: str, multiplier: int) -> str:
    return f"({_texts(values)})[1 + {_pick(number, multiplier, len(values))}]"


def _mailbox(name: str) -> str:
    """Write a name with the letters that every mail system takes."""
    plain = name.replace("ß", "ss").replace("ø", "o").replace("Ø", "O").replace("ł", "l")
    return unicodedata.normalize("NFKD", plain).encode("ascii", "ignore").decode().lower()


def _email(number: str) -> str:
    """Write the expression of a customer's e-mail; in small letters, so it is its own key."""
    first = _one_of([_mailbox(one) for one in _FIRST_NAMES], number, _BY_NAME)
    last = _one_of([_mailbox(one) for one in _LAST_NAMES], number, _BY_SURNAME)
    return f"{first} || '.' || {last} || '.' || ({number}) || '@' || {_one_of(_DOMAINS, number, _BY_STATE)}"


def _category(number: str) -> str:
    """Write the expression of a product's category; some have none."""
    return f"case when ({number}) % 50 <> 0 then {_one_of(_CATEGORIES, number, _BY_STATE)} end"


def _mnemonic(number: str) -> str:
    return f"coalesce({_category(number)}, 'OTHER') || '_' || lpad(({number})::text, 8, '0')"


# $1 … $2: the numbers of the chunk; $3: as_of; $4: how many come after this chunk; $5: how many there are in all.
_TIME: Final = "$3::timestamptz - interval '{days} days' * (($4::bigint + $2 - n)::float8 / $5::bigint)"
_NUMBERS: Final = "generate_series($1::bigint, $2::bigint) as n"

_DAY: Final = "to_char(created_at at time zone 'UTC', 'YYYY-MM-DD')"

_MAKE_CUSTOMERS: Final = f"""
with made as (
  insert into customers (id, name, name_key, email, email_key, preferences, is_active, created_at, updated_at)
  select {_uuid7("at", "'customer ' || n")}, first || ' ' || last, first_key || ' ' || last_key, email, email,
    jsonb_build_object('newsletter', n % 3 = 0, 'language', {_one_of(("de", "en", "fr", "pt"), "n", _BY_LINES)}),
    n % 20 <> 0, at, at
  from (
    select n, {_TIME.format(days=_CUSTOMER_DAYS)} as at, {_email("n")} as email,
      {_one_of(_FIRST_NAMES, "n", _BY_NAME)} as first, {_one_of(_LAST_NAMES, "n", _BY_SURNAME)} as last,
      {_one_of([fold_key(one) for one in _FIRST_NAMES], "n", _BY_NAME)} as first_key,
      {_one_of([fold_key(one) for one in _LAST_NAMES], "n", _BY_SURNAME)} as last_key
    from {_NUMBERS}) as numbered
  returning is_active, created_at)
insert into counter_deltas (counter, label, amount)
select '{SEEDED_CUSTOMERS}', '', count(*) from made
union all select '{counters.CUSTOMERS}', '', count(*) from made
union all select '{counters.ACTIVE_CUSTOMERS}', '', count(*) from made where is_active
union all select '{counters.NEW_CUSTOMERS}', {_DAY}, count(*) from made group by 2"""


_CATALOGUE: Final = """
format(
  '{"sku": "%s", "weight_g": %s, "size_mm": [%s, %s], "supplier": {"country": "%s", "since": %s}, "ean": null}',
  mnemonic, 50 + n % 4000, 10 + n % 900, 10 + n % 700, (array['DE', 'FR', 'PT', 'PL'])[1 + n % 4], 1990 + n % 35)"""
_RULE: Final = """
{"type": "object", "properties": {"colour": {"type": "string", "maxLength": 30}, "engraving": {"maxLength": 200}}}"""
_RULES: Final = f"""[{{"name": "appearance", "parameters": {_RULE}, "start_date": "2020-01-01", "end_date": null}}]"""


def _make_products(columns: CatalogueColumns) -> str:
    """Write the statement that makes products; every tenth has rules in the legacy column, another tenth as rows."""
    catalogue = {"old_catalog_field": "catalogue", "new_catalog": "catalogue::jsonb"}
    return f"""
with numbered as materialized (
  select n, at, category, mnemonic, {_uuid7("at", "'product ' || n")} as id, {_CATALOGUE} as catalogue
  from (
    select n, {_TIME.format(days=_CUSTOMER_DAYS)} as at, {_category("n")} as category, {_mnemonic("n")} as mnemonic
    from {_NUMBERS}) as first),
made as (
  insert into products (
    id, mnemonic, overview, is_confidential, category, tags, old_validations, created_at, updated_at,
    {", ".join(columns.written)})
  select id, mnemonic, {_one_of(_KINDS, "n", _BY_NAME)} || ' ' || {_one_of(_THINGS, "n", _BY_SURNAME)} || ' no. ' || n,
    n % 25 = 0, category,
    jsonb_build_array({_one_of(_COLOURS, "n", _BY_NAME)}, {_one_of(_KINDS, "n", _BY_NAME)}),
    case when n % 10 = 0 then '{_RULES}' end, at, at, {", ".join(catalogue[one] for one in columns.written)}
  from numbered),
ruled as (
  insert into validation_instances (product_id, ordinal, name, parameters, start_date)
  select id, 0, 'appearance', '{_RULE}', '2020-01-01' from numbered where n % 10 = 5),
versions as (
  insert into product_versions (id, product_id, version_label, start_date, end_date, created_at)
  select {_uuid7("at", "'version ' || year || ' of ' || n")}, id, year::text, make_date(year, 1, 1),
    case when year < this_year then make_date(year, 12, 31) end, at
  from numbered, cast(extract(year from $3::timestamptz) as integer) as this_year,
    generate_series(this_year - 1, this_year) as year
  where n % 2 = 0
  returning id),
items as (
  insert into product_version_items (version_id, ordinal, name, position, attributes)
  select id, place, (array['base', 'extra'])[place + 1], place + 1, jsonb_build_object('pieces', place + 1)
  from versions, generate_series(0, 1) as place)
insert into counter_deltas (counter, label, amount)
select '{SEEDED_PRODUCTS}', '', count(*) from numbered
union all select '{counters.PRODUCTS}', '', count(*) from numbered"""


# Orders: customers, then products are locked, as in every batch; what is made of them is collected in temporary tables
# before it is written, in the order of locks.
_COLLECT: Final = """
create temporary table seed_chosen (
  n bigint, id uuid, customer_id uuid, at timestamptz, is_cancelled boolean) on commit drop;
create temporary table seed_lines (
  n bigint, place bigint, product_id uuid, mnemonic text, category text, quantity bigint, unit_price numeric(12, 2),
  attributes jsonb) on commit drop;
create temporary table seed_orders (
  id uuid, customer_id uuid, status text, lines jsonb, total_amount numeric(12, 2), category text, at timestamptz,
  cancelled_at timestamptz) on commit drop"""

# $6: how many customers there are to choose from; $7: per cent of the orders that are those of number 1.
_CHOOSE_CUSTOMERS: Final = f"""
insert into seed_chosen
with numbered as materialized (
  select n, {_TIME.format(days=_ORDER_DAYS)} as at,
    case when n * 37 % 100 < $7::bigint then 1 else 1 + {_pick("n", _BY_CUSTOMER, "$6::bigint")} end as customer
  from {_NUMBERS}),
wanted as materialized (
  select customer, {_email("customer")} as email_key from (select distinct customer from numbered) as chosen),
locked as materialized (
  select id, email_key, created_at from customers
  where email_key = any(array(select email_key from wanted)) order by id for no key update)
select n, {_uuid7("at", "'order ' || n")}, id, at, n % 19 = 7
from (
  select n, locked.id, greatest(at, created_at) as at
  from numbered join wanted using (customer) join locked using (email_key)) as chosen"""

# $1: how many products there are to choose from. The smaller a product's number, the more often it is ordered.
_CHOOSE_PRODUCTS: Final = f"""
insert into seed_lines
with numbered as materialized (
  select n, place, 1 + floor($1::bigint * (u * u)) as product
  from (
    select n, place, {_pick("n * 3 + place", _BY_PRODUCT, 1 << 24)} / {1 << 24}.0::float8 as u
    from seed_chosen, generate_series(0, {_pick("n", _BY_LINES, 3)}) as place) as lines),
wanted as materialized (
  select product, {_mnemonic("product")} as mnemonic
  from (select distinct product::bigint as product from numbered) as chosen),
locked as materialized (
  select id, mnemonic, category from products
  where mnemonic = any(array(select mnemonic from wanted)) order by id for key share)
select n, place, id, mnemonic, category, 1 + {_pick("n + place", _BY_STATE, 5)},
  {_pick("product::bigint", _BY_NAME, 200)} + 0.99,
  case when n % 2 = 0 then jsonb_build_object('colour', {_one_of(_COLOURS, "n", _BY_NAME)}) end
from numbered join wanted using (product) join locked using (mnemonic)"""

_MAKE_ORDERS: Final = """
insert into seed_orders
select c.id, c.customer_id, case when c.is_cancelled then 'cancelled' else 'placed' end,
  jsonb_agg(
    jsonb_build_object('product_id', l.product_id, 'mnemonic', l.mnemonic, 'quantity', l.quantity,
      'unit_price', l.unit_price::text, 'attributes', l.attributes)
    order by l.place),
  sum(l.quantity * l.unit_price), (array_agg(l.category order by l.quantity * l.unit_price desc, l.place))[1], c.at,
  case when c.is_cancelled then c.at end
from seed_chosen c join seed_lines l using (n)
group by c.id, c.customer_id, c.is_cancelled, c.at"""
_WRITE_ORDERS: Final = """
insert into orders (id, customer_id, status, lines, total_amount, category, catalog, created_at, cancelled_at)
select id, customer_id, status, lines, total_amount, category, jsonb_build_object('category', category), at,
  cancelled_at
from seed_orders order by id"""
_WRITE_HOLDS: Final = """
insert into product_holds (product_id, amount)
select l.product_id, count(distinct n) from seed_lines l join seed_chosen c using (n)
where not c.is_cancelled group by l.product_id order by l.product_id"""
_WRITE_SUMMARIES: Final = add_to_summaries("""(
  select customer_id, count(*), count(*) filter (where status = 'placed'),
    coalesce(sum(total_amount) filter (where status = 'placed'), 0), max(at) filter (where status = 'placed')
  from seed_orders group by customer_id order by customer_id) as added""")
_WRITE_CATEGORIES: Final = add_to_categories("""(
  select customer_id, category, count(*), max(at) from seed_orders where status = 'placed' and category is not null
  group by customer_id, category order by customer_id, category) as added""")
_COUNT_ORDERS: Final = f"""
with placed as (select total_amount, category from seed_orders where status = 'placed')
insert into counter_deltas (counter, label, amount)
select '{counters.PLACED_ORDERS}', '', count(*) from placed
union all select '{counters.REVENUE}', '', sum(total_amount) from placed having count(*) > 0
union all
select '{counters.CATEGORY_ORDERS}', category, count(*) from placed where category is not null group by category
union all
select '{counters.CATEGORY_REVENUE}', category, sum(total_amount) from placed where category is not null
group by category
union all select '{SEEDED_ORDERS}', '', $1::bigint"""


@dataclass(frozen=True, slots=True)
class _Chunk:
    """Numbers of rows to make; `after`: how many of the run come after them; `in_all`: how many the run makes."""

    first: int
    last: int
    after: int
    in_all: int

    @property
    def size(self) -> int:
        return self.last - self.first + 1


_ALONE: Final = "select pg_advisory_xact_lock(hashtextextended('seed', 0))"
"""Two seeds take turns, chunk by chunk: each goes on from the numbers of the other."""


class _Seeding:
    """One run: what is made is spread over the days before `as_of`."""

    def __init__(self, engine: Engine, as_of: datetime, one_customer_percent: int, made: Made) -> None:
        self._engine = engine
        self._as_of = as_of
        self._one_customer_percent = one_customer_percent
        self._made = made

    async def customers(self, connection: Connection, chunk: _Chunk) -> None:
        await connection.execute(_MAKE_CUSTOMERS, chunk.first, chunk.last, self._as_of, chunk.after, chunk.in_all)

    async def products(self, connection: Connection, chunk: _Chunk) -> None:
        columns = catalogue_columns((await shared_lock_and_phases(connection))[PRODUCT_CATALOG])
        statement = _make_products(columns)
        await connection.execute(statement, chunk.first, chunk.last, self._as_of, chunk.after, chunk.in_all)

    async def orders(self, connection: Connection, chunk: _Chunk) -> None:
        customers = int(await counters.total(connection, SEEDED_CUSTOMERS))
        products = int(await counters.total(connection, SEEDED_PRODUCTS))
        if not customers or not products:
            raise SeedError("orders need customers and products of a seed: make some in the same run, or before it")
        await connection.execute(_COLLECT)
        await connection.execute(
            _CHOOSE_CUSTOMERS,
            chunk.first,
            chunk.last,
            self._as_of,
            chunk.after,
            chunk.in_all,
            customers,
            self._one_customer_percent,
        )
        await connection.execute(_CHOOSE_PRODUCTS, products)
        for statement in (_MAKE_ORDERS, _WRITE_ORDERS, _WRITE_HOLDS, _WRITE_SUMMARIES, _WRITE_CATEGORIES):
            await connection.execute(statement)
        await connection.execute(_COUNT_ORDERS, chunk.size)

    async def run(
        self,
        what: str,
        make: Callable[[Connection, _Chunk], Awaitable[None]],
        counter: str,
        size: int,
        chunk_size: int,
    ) -> None:
        """Make `size` rows, each chunk in a transaction; the numbers begin behind those that are there."""
        left = size
        if left:
            self._made(what, 0)
        while left:
            rows = min(left, chunk_size)
            left -= rows
            async with transaction(self._engine) as connection:
                await connection.execute(_ALONE)
                before = int(await counters.total(connection, counter))
                await make(connection, _Chunk(before + 1, before + rows, left, size))
                await connection.execute("commit")
            self._made(what, rows)


_TIDY: Final = """
vacuum (analyze) customers, products, product_versions, product_version_items, validation_instances, orders,
  product_holds, customer_summaries, customer_category_counts, counter_deltas"""
_TIDY_TIMEOUT_S: Final = 900.0


async def seed(engine: Engine, sizes: SeedSizes, as_of: datetime, made: Made) -> None:
    """Make customers, then products, then orders; then fold the counters and have the planner look at what has come.

    Raises `SeedError` for orders without customers or products of a seed. Where a run dies, what it told as made stays.
    """
    seeding = _Seeding(engine, as_of, sizes.one_customer_percent, made)
    await seeding.run("customers", seeding.customers, SEEDED_CUSTOMERS, sizes.customers, CUSTOMERS_A_CHUNK)
    await seeding.run("products", seeding.products, SEEDED_PRODUCTS, sizes.products, PRODUCTS_A_CHUNK)
    await seeding.run("orders", seeding.orders, SEEDED_ORDERS, sizes.orders, ORDERS_A_CHUNK)
    async with connected(engine) as connection:
        await counters.fold(connection)
        await connection.execute(_TIDY, timeout=_TIDY_TIMEOUT_S)
