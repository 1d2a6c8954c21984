"""What the ledger itself proves: that the chunks of each pass tile the key range, each applied exactly once.

Constant memory: the server looks along the chunks and returns the first few that are wrong.
"""

from collections.abc import Sequence
from typing import Final

from persistence.backfill.keys import KeyShape
from persistence.backfill.runs import Run
from persistence.engine import Connection

FINDINGS_SHOWN: Final = 10
"""How many findings a verify lists; it counts them all."""


async def flaws(connection: Connection, run: Run, shape: KeyShape) -> Sequence[str]:
    """Say what is wrong with a run's chunks, a sentence each, at most `FINDINGS_SHOWN`; nothing: they are in order."""
    found = [row["flaw"] for row in await connection.fetch(_tiling(shape), run.id, FINDINGS_SHOWN)]
    found += [row["flaw"] for row in await connection.fetch(_APPLIED, run.id, FINDINGS_SHOWN)]
    found += [row["flaw"] for row in await connection.fetch(_PASSES, run.id, run.pass_number)]
    return found[:FINDINGS_SHOWN]


_APPLIED: Final = """
select case
           when state in ('waiting', 'leased') then format('chunk %s of pass %s is not done', id, pass)
           when applied <> 1 then format('chunk %s of pass %s was applied %s times', id, pass, applied)
           else format('chunk %s of pass %s wrote something else than its source says', id, pass)
       end as flaw
from backfill_chunks
where run_id = $1
  and (state in ('waiting', 'leased')
       or state = 'done' and applied <> 1
       or state = 'quarantined' and applied <> 0
       or state = 'done' and expected_digest is distinct from actual_digest
          and exists (select from backfill_runs r where r.id = $1 and r.kind = 'work'))
order by id limit $2"""
_PASSES: Final = """
select format('pass %s has no chunk', pass) as flaw
from generate_series(1, $2::bigint) as pass
where not exists (select from backfill_chunks c
                  where c.run_id = $1 and c.pass = pass and c.state in ('done', 'quarantined'))
order by pass limit 1"""


def _tiling(shape: KeyShape) -> str:
    """Look along the chunks in key order: each must begin where the one before it ends."""
    order = ", ".join(["low is not null", *shape.of_ledger("low"), "high is null", *shape.of_ledger("high")])
    low = f"({', '.join(shape.of_ledger('low'))})"
    high = f"({', '.join(shape.of_ledger('high'))})"
    before = f"({', '.join(shape.of_ledger('before'))})"
    return f"""
        with along as (
            select id, pass, low, high,
                   lag(high) over sorted as before, lag(id) over sorted as before_id, lead(id) over sorted as after_id
            from backfill_chunks
            where run_id = $1 and state in ('done', 'quarantined')
            window sorted as (partition by pass order by {order})),
        judged as (
            select id, pass, case
                when low is not null and high is not null and not {low} < {high}
                    then format('chunk %s of pass %s is empty or upside down: %s to %s', id, pass, low, high)
                when before_id is null and low is not null
                    then format('gap in pass %s: no chunk covers the keys below %s', pass, low)
                when before_id is not null and (low is null or before is null)
                    then format('overlap in pass %s: chunks %s and %s', pass, before_id, id)
                when before_id is not null and {before} < {low}
                    then format('gap in pass %s: no chunk covers the keys from %s to %s', pass, before, low)
                when before_id is not null and {before} > {low}
                    then format('overlap in pass %s: chunks %s and %s', pass, before_id, id)
                end as flaw
            from along
            union all
            select id, pass, format('gap in pass %s: no chunk covers the keys from %s on', pass, high)
            from along where after_id is null and high is not null)
        select flaw from judged where flaw is not null order by pass, id limit $2"""


async def sums(connection: Connection, run: Run) -> dict[str, object]:
    """Add up what the chunks of a run found: rows, those left and differing, a sample's key, and the two digests."""
    row = await connection.fetchrow(
        """
        select count(*) as chunks, coalesce(sum(rows_done), 0)::bigint as rows,
               coalesce(sum(rows_left), 0)::bigint as left, coalesce(sum(rows_differing), 0)::bigint as differing,
               min(sample_key) as sample, bit_xor(expected_digest) as expected, bit_xor(actual_digest) as actual,
               coalesce(sum(seconds), 0)::float8 as seconds
        from backfill_chunks where run_id = $1 and state = 'done'""",
        run.id,
    )
    return {
        "chunks": row["chunks"],
        "rows": row["rows"],
        "rows_left": row["left"],
        "rows_differing": row["differing"],
        "sample_key": row["sample"],
        "expected_digest": _hex(row["expected"]),
        "actual_digest": _hex(row["actual"]),
        "seconds": round(row["seconds"], 3),
    }


def _hex(digest: int | None) -> str | None:
    return None if digest is None else f"{digest & 0xFFFF_FFFF_FFFF_FFFF:016x}"
