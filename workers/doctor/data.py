"""The rows: do they keep the limits that came after them, and is each customer found by its key."""

from collections.abc import AsyncIterator
from typing import Any, Final

from persistence.engine import Connection, Engine, connected, transaction
from persistence.faults import Fault, fault_of
from persistence.stale_keys import refolded, stale
from workers.doctor.findings import Finding, ok, warning

NAMED: Final = 3
"""How many rows are named; all are counted, up to `COUNTED`."""
COUNTED: Final = 1000
PATIENCE_MS: Final = 10_000
"""How long the rows of one table are looked through."""

_NOT_VALID: Final = """
select c.conname as name, c.conrelid::regclass::text as on_table, pg_get_expr(c.conbin, c.conrelid) as condition,
  (select array_agg(quote_ident(a.attname) order by k.place)
   from pg_index i, unnest(i.indkey::int2[]) with ordinality k (attnum, place), pg_attribute a
   where i.indrelid = c.conrelid and i.indisprimary and a.attrelid = i.indrelid and a.attnum = k.attnum) as key
from pg_constraint c
where c.contype = 'c' and not c.convalidated and c.connamespace = current_schema::regnamespace
order by 2, 1"""
_STALE: Final = f"""
select c.id::text, (select o.id::text from customers o where o.email_key = {refolded("c.email_key")}) as other
from customers c
where {stale("c.email_key")}
order by {refolded("c.email_key")} limit {COUNTED}"""  # noqa: S608 (constants)


_STALE_NAMES: Final = f"""
select count(*) from (
  select from customers where {stale("name_key")} order by left(name_key, 1) limit {COUNTED}) as found"""  # noqa: S608


async def examine_data(engine: Engine) -> AsyncIterator[Finding]:
    """Look for rows that an upgrade left as they were; a table is read only where such rows may be."""
    async with connected(engine) as connection:
        limits = await connection.fetch(_NOT_VALID)
    for limit in limits:
        yield await _rows_beyond(engine, limit)
    if not limits:
        yield ok("limits", "all rows keep them")
    async with connected(engine) as connection:
        async for one in _keys(connection):
            yield one


async def _rows_beyond(engine: Engine, limit: Any) -> Finding:  # noqa: ANN401 (a driver's record)
    table, name = limit["on_table"], limit["name"]
    key = " || '/' || ".join(f"{column}::text" for column in limit["key"] or ["ctid"])
    beyond = f"from {table} where not ({limit['condition']})"
    look = f"select {key} as key {beyond} limit {COUNTED}"
    remedy = f"alter table {table} validate constraint {name}"
    try:
        async with transaction(engine, f"set local statement_timeout = {PATIENCE_MS}") as connection:
            rows = await connection.fetch(look)
    except Exception as error:
        if fault_of(error) is not Fault.TOO_SLOW:
            raise
        return warning("limits", f"rows of {table} may break {name}; to look took too long", look)
    if not rows:
        return warning("limits", f"{name} holds for all rows of {table}, and is not validated", remedy)
    named = ", ".join(one["key"] for one in rows[:NAMED]) + (", …" if len(rows) > NAMED else "")
    text = f"{_count(len(rows))} of {table} break {name}: they are read and deleted, but not changed ({named})"
    return warning("limits", text, f"mend them, then {remedy}")


async def _keys(connection: Connection) -> AsyncIterator[Finding]:
    rows = await connection.fetch(_STALE)
    pairs = [f"{row['id']} and {row['other']}" for row in rows if row["other"] is not None]
    if pairs:
        named = ", ".join(pairs[:NAMED]) + (", …" if len(pairs) > NAMED else "")
        yield warning(
            "customers",
            f"{_count(len(pairs))} have an e-mail that is another one's but for case: {named}",
            "give one of each two another e-mail (update_customer), or delete it; then start the backfill again",
        )
    old = len(rows) - len(pairs)
    if not rows:
        old = await connection.fetchval(_STALE_NAMES)
    if old:
        text = f"the keys of {_count(old)} are folded as before: look-ups take both ways"
        yield warning("customers", text, "catalog backfill start customer_keys")


def _count(rows: int) -> str:
    return f"{rows} rows" if rows < COUNTED else f"{COUNTED} rows or more"
