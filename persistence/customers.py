"""Customers in Postgres: as a batch of commands sees them, and as queries do."""

from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import date
from operator import itemgetter
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncEngine

from contracts.text import fold_key
from handlers.customer import Customer, CustomerSearch
from handlers.page import Found, TooMuch
from persistence import counters
from persistence.counters import CounterDeltas
from persistence.engine import Connection, connected
from persistence.faults import StaleReadError
from persistence.identity_map import IdentityMap, Journal
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
from persistence.rowset import RowSet, array_text
from persistence.stale_keys import ANY_NAME_OR_EMAIL, refolded, stale
from persistence.table import Column, Table

EMAIL_SPACE: Final = "email"

CUSTOMERS: Final = Table(
    "customers",
    Customer,
    (
        Column("id", "uuid"),
        Column("name", "text", erased="null"),
        Column("email", "text", erased="null"),
        Column("preferences", "jsonb", erased="'{}'"),
        Column("is_active", "boolean", erased="false"),
        Column("version", "integer"),
        Column("created_at", "timestamptz", changes=False),
        Column("updated_at", "timestamptz"),
    ),
    also_written=(Column("name_key", "text", erased="null"),),
)
"""A customer. Its e-mail's key is written by the batch, which knows whether it is to stay as it is. What is personal is
`erased`. See `contracts/ADDING.md`."""

_COLUMNS: Final = f"{CUSTOMERS.selected()}, deleted_at is not null as deleted"
_PEEK: Final = "select id::text, email_key from customers where id = any($1::text::uuid[])"
_LOCK: Final = (
    f"select {_COLUMNS}, email_key from customers where id = any($1::text::uuid[]) order by id for no key update"
)
_HOLDERS: Final = f"select {_COLUMNS}, email_key from customers where email_key = any($1::text::text[])"
_STALE_HOLDERS: Final = f"""
select {_COLUMNS}, email_key from customers
where {stale("email_key")} and {refolded("email_key")} = any($1::text::text[])"""
_SEARCH_STALE: Final = f"select {ANY_NAME_OR_EMAIL}"
_ERASE: Final = f"""
update customers set {CUSTOMERS.erased}, email_key = null,
  version = version + 1, updated_at = now(), deleted_at = now()
where id = any($1::uuid[])"""
_PARK: Final = "update customers set email_key = 'parked:' || id where id = any($1::uuid[])"
_NEW: Final = RowSet("customers", {**CUSTOMERS.inserted, "email_key": "text"})
_CHANGED: Final = RowSet("customers", {**CUSTOMERS.updated, "email_key": "text"})
_TOMBSTONES: Final = """
insert into customers (id, is_active, created_at, updated_at, deleted_at)
select id, false, now(), now(), now() from unnest($1::uuid[]) as r(id)"""


async def _find_holders(connection: Connection, emails: Sequence[str], *, any_stale: bool) -> Sequence[Any]:
    """Read who has these e-mails; where two meet in one, the one whose key is the right one comes last."""
    if not emails:
        return ()
    named = array_text(emails)
    holders = await connection.fetch(_HOLDERS, named)
    return [*await connection.fetch(_STALE_HOLDERS, named), *holders] if any_stale else holders


class CustomerBatch:
    """Customers of one batch of commands: loaded once, locked; changed in memory; written set by set.

    E-mails are indexed here as well, so that a message sees what earlier ones of its batch took or released. A customer
    whose stored key is stale (`persistence.stale_keys`) is found by what it would be today, and keeps it while its
    e-mail stays: somebody else may have the other one.
    """

    def __init__(self, journal: Journal) -> None:
        self._living: IdentityMap[str, Customer] = IdentityMap(journal, "customers")
        self._taken_ids: IdentityMap[str, bool] = IdentityMap(journal, "customer ids")
        self._by_email: IdentityMap[str, str] = IdentityMap(journal, "customers by e-mail")
        self._holders: dict[str, Customer] = {}
        self._stored_keys: dict[str, str] = {}

    # What use cases call -------------------------------------------------------------------------------------------
    async def find_by_id(self, customer_id: str) -> Customer | None:
        """Find a living customer; its id must have been declared, or made in this batch."""
        return self._living.get(customer_id)

    async def find_by_email(self, email_key: str) -> Customer | None:
        """Find who has this e-mail now, after the batch's earlier messages."""
        holder = self._by_email.get(email_key)
        if holder is None:
            return None
        return self._living.get(holder) if self._living.knows(holder) else self._holders[holder]

    async def is_id_taken(self, customer_id: str) -> bool:
        """Tell whether the id belongs to a living or a deleted customer."""
        return bool(self._taken_ids.get(customer_id))

    async def save(self, customer: Customer) -> None:
        """Insert or change."""
        before = self._living.get(customer.id) if self._living.knows(customer.id) else None
        if before is not None and before.email_key != customer.email_key:
            self._by_email.set(before.email_key, None)
        self._by_email.set(customer.email_key, customer.id)
        self._taken_ids.set(customer.id, value=True)
        self._living.set(customer.id, customer)

    async def delete(self, customer: Customer) -> None:
        """Erase; the id stays taken, the e-mail is free."""
        self._by_email.set(customer.email_key, None)
        self._living.set(customer.id, None)

    # What the unit of work calls -----------------------------------------------------------------------------------
    async def peek(self, connection: Connection, ids: Sequence[str]) -> dict[str, str]:
        """Read, before any lock, which e-mails the declared customers hold: they may be released by this batch."""
        rows = await connection.fetch(_PEEK, array_text(ids)) if ids else ()
        return {row["id"]: row["email_key"] for row in rows if row["email_key"] is not None}

    async def load(
        self,
        connection: Connection,
        ids: Sequence[str],
        emails: Sequence[str],
        peeked: Mapping[str, str],
        *,
        any_stale: bool,
    ) -> None:
        """Lock and read the declared customers, then read who holds the declared e-mails.

        The names are locked already; `any_stale` says whether there may be keys of a release before. Raises
        `StaleReadError` when an e-mail changed hands between peek and lock.
        """
        rows = await connection.fetch(_LOCK, array_text(ids)) if ids else ()
        if any(row["email_key"] is not None and peeked.get(row["id"]) != row["email_key"] for row in rows):
            msg = "a customer's e-mail changed before its row was locked"
            raise StaleReadError(msg)
        living = {row["id"]: CUSTOMERS.read(row) for row in rows if not row["deleted"]}
        self._living.load(living, ids)
        self._taken_ids.load({row["id"]: True for row in rows}, ids)
        self._stored_keys = {row["id"]: row["email_key"] for row in rows}
        holders = await _find_holders(connection, emails, any_stale=any_stale)
        by_email = {fold_key(row["email_key"]): row["id"] for row in holders}
        self._holders = {row["id"]: CUSTOMERS.read(row) for row in holders}
        own = {customer.email_key: customer.id for customer in living.values()}
        self._by_email.load(own | by_email, {*own, *emails})

    def deleted(self) -> list[str]:
        """Name the customers whose personal data this batch erases, those it made itself included."""
        return sorted(self._living.gone())

    def gone(self) -> set[str]:
        """Name the declared customers that are not living now, whenever they were deleted."""
        return {customer_id for customer_id, customer in self._living.items() if customer is None}

    async def release(self, connection: Connection) -> None:
        """First step of the flush: erase what is deleted, park every e-mail that moves."""
        erased = [key for key, before, after in self._living.changes() if before is not None and after is None]
        if erased:
            await connection.execute(_ERASE, sorted(erased))
        moved = [
            key
            for key, before, after in self._living.changes()
            if before is not None and after is not None and before.email_key != after.email_key
        ]
        if moved:
            await connection.execute(_PARK, sorted(moved))

    async def write(self, connection: Connection) -> None:
        """Second step: insert and update net states."""
        new = [after for _, before, after in self._living.changes() if before is None and after is not None]
        by_email = sorted(((one.email_key, one) for one in new), key=itemgetter(0))
        columns = CUSTOMERS.to_insert(one for _, one in by_email)
        await _NEW.insert_columns(connection, [*columns, [email_key for email_key, _ in by_email]])
        changed = [
            (self._stored_keys[key] if before.email_key == after.email_key else after.email_key, after)
            for key, before, after in self._living.changes()
            if before is not None and after is not None
        ]
        columns = CUSTOMERS.to_update(one for _, one in changed)
        await _CHANGED.update_columns(connection, [*columns, [email_key for email_key, _ in changed]])
        born_and_gone = [
            key for key in self.deleted() if not self._living.was_loaded(key) and not self._taken_ids.was_loaded(key)
        ]
        if born_and_gone:
            await connection.execute(_TOMBSTONES, born_and_gone)

    def count(self, deltas: CounterDeltas) -> None:
        """Add this batch's differences to the counters."""
        born: Counter[date] = Counter()
        active = 0
        for _, before, after in self._living.changes():
            active += (after is not None and after.is_active) - (before is not None and before.is_active)
            if before is None and after is not None:
                born[after.created_at.date()] += 1
            elif before is not None and after is None:
                born[before.created_at.date()] -= 1
        deltas.add(counters.CUSTOMERS, born.total())
        deltas.add(counters.ACTIVE_CUSTOMERS, active)
        for day, number in born.items():
            deltas.add(counters.NEW_CUSTOMERS, number, day.isoformat())


_GET: Final = f"select {_COLUMNS} from customers where id = any($1::uuid[]) and deleted_at is null"


def _containing(key: str, pattern: str) -> str:
    """Say that a key is like a pattern, whichever release folded it."""
    return f"({key} like {pattern} or {stale(key)} and {refolded(key)} like {pattern})"


_WALK: Final = f"""
select {_COLUMNS} from customers
where deleted_at is null and ($1::uuid is null or id > $1::uuid) order by id limit 1000"""
_HEAD: Final = ("total", *(name for name in CUSTOMERS.names if name != "preferences"))


def _searching(searches: Sequence[CustomerSearch], *, any_stale: bool) -> tuple[Any, ...]:
    """Write the statement that finds pages of one list, or the page after a row, with its count and its arguments."""
    search = searches[0]
    where = ["c.deleted_at is null"]
    needles: list[object] = []
    first = 4 if search.after is None else 1
    for column, needle in (("c.name_key", search.name_contains), ("c.email_key", search.email_contains)):
        if needle is not None:
            place = f"${first + len(needles)}"
            needles.append(contains(needle))
            where.append(_containing(column, place) if any_stale else f"{column} like {place}")
    if search.is_active is not None:
        needles.append(search.is_active)
        where.append(f"c.is_active = ${first + len(needles) - 1}")
    matching = "customers c where " + " and ".join(where)
    if search.after is None:
        return _by_offset(matching, is_filtered=search.is_filtered), *_slices_of(searches), *needles
    return (
        _after(matching, len(needles), is_filtered=search.is_filtered),
        *needles,
        *after_arguments(search.after),
        search.limit + 1,
    )


def _slices_of(searches: Sequence[CustomerSearch]) -> tuple[object, ...]:
    pages = [(one.limit, one.offset) for one in searches]
    return slice_arguments(pages, is_filtered=searches[0].is_filtered)


_ALL: Final = f"(select coalesce(sum(amount), 0)::bigint from counter_deltas where counter = '{counters.CUSTOMERS}')"


def _by_offset(matching: str, *, is_filtered: bool) -> str:
    total = "(select count(*) from hits)" if is_filtered else _ALL
    return slices(matching, "c", 3) + bounded(
        f"""
        select w.number, {total} as total, c.* from {SLICED}
        left join lateral (select {_COLUMNS} from customers where id = page.id offset 0) as c on true""",
        _HEAD,
        "preferences",
        by="number",
    )


def _after(matching: str, needles: int, *, is_filtered: bool) -> str:
    total = f"(select count(*) from (select from {matching} limit {COUNT_BOUND + 1}) as counted)"
    return bounded(
        f"""
        select 1 as number, {total if is_filtered else _ALL} as total, page.* from (values (1)) as one
        left join lateral (
          select {CUSTOMERS.selected("c")} from {matching} and {older("c.created_at, c.id", needles + 1)}
          order by c.created_at desc, c.id desc limit ${needles + 3}::bigint) as page on true""",
        _HEAD,
        "preferences",
        by="number",
    )


class CustomerTable:
    """Customers as queries see them."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def get_many(self, customer_ids: Sequence[str]) -> dict[str, Customer]:
        """Find living customers; one statement."""
        async with connected(self._engine) as connection:
            rows = await connection.fetch(_GET, list(set(customer_ids)))
        return {row["id"]: CUSTOMERS.read(row) for row in rows}

    async def search(self, searches: Sequence[CustomerSearch]) -> Sequence[Found[Customer] | TooMuch | None]:
        """Find pages, newest first; a page and its count are of one snapshot, as are pages of the same filters."""
        any_stale: bool | None = None

        async def find(
            connection: Connection, alike: Sequence[CustomerSearch]
        ) -> tuple[Sequence[Found[Customer] | TooMuch], int]:
            nonlocal any_stale
            if any_stale is None and alike[0].has_text:
                any_stale = await connection.fetchval(_SEARCH_STALE)
            rows = await connection.fetch(*_searching(alike, any_stale=bool(any_stale)))
            sizes = [one.limit for one in alike]
            return found_by_number(rows, sizes, CUSTOMERS.read, is_filtered=alike[0].is_filtered)

        return await find_pages(self._engine, searches, lambda one: one.filters if one.after is None else None, find)

    async def count_active(self) -> int:
        """Count living, active customers by their counter."""
        async with connected(self._engine) as connection:
            return int(await counters.total(connection, counters.ACTIVE_CUSTOMERS))

    async def list_all(self) -> AsyncIterator[Customer]:
        """Walk over all living customers by id, a thousand at a time."""
        last: str | None = None
        while True:
            async with connected(self._engine) as connection:
                rows = await connection.fetch(_WALK, last)
            for row in rows:
                yield CUSTOMERS.read(row)
            if not rows:
                return
            last = rows[-1]["id"]
