"""Puts a database where a change under way would have left it: its phase, and the ledger of its backfill."""

from typing import Final

from persistence.phases import Phase
from tests.migrations.conftest import Session

FILL: Final = "update products set new_catalog = old_catalog_field::jsonb"
"""What the backfill of the catalogue comes down to."""
MIDDLE: Final = "70000000-0000-0000-0000-000000000000"
LATER: Final = "80000000-0000-0000-0000-000000000000"
"""Keys of chunks' bounds."""


async def put(session: Session, phase: Phase) -> None:
    """Set the phase, as steps long ago would have left it."""
    await session.execute("update schema_changes set phase = $1, last_exclusive_at = clock_timestamp()", phase)
    await session.execute(
        "insert into schema_change_log (change, from_phase, to_phase, changed_at, changed_by) "
        "select change, '', phase, last_exclusive_at, 'a test' from schema_changes"
    )


async def record_run(session: Session, *bounds: tuple[str | None, str | None], verifies: int | None = None) -> int:
    """Write what the engine leaves in the ledger after a run with chunks of these bounds; return the run's id."""
    run: int = await session.fetchval(
        """
        insert into backfill_runs (name, kind, definition, definition_digest, verifies, state, chunk_rows, started_at)
        values ('product_catalog', $1, 'product_catalog', '', $2, 'completed', 1, clock_timestamp()) returning id
        """,
        "work" if verifies is None else "verify",
        verifies,
    )
    for low, high in bounds or [(None, MIDDLE), (MIDDLE, None)]:
        await session.execute(
            """
            insert into backfill_chunks (run_id, pass, low, high, state, rows_walked, rows_left, rows_differing,
                expected_digest, actual_digest)
            values ($1, 1, $2, $3, 'done', 1, 0, 0, 7, 7)
            """,
            run,
            low and [low],
            high and [high],
        )
    return run
