"""Backfills as queries see them: read through the same code that steers them, on the primary."""

from collections.abc import Callable, Sequence

from handlers.backfill import BackfillReader, RunView
from persistence.engine import Connection, Engine, connected

Viewing = Callable[[Connection], BackfillReader]
"""Makes what shows backfills over a connection."""


class BackfillViews:
    """Shows backfills; each call borrows a connection."""

    def __init__(self, engine: Engine, viewing: Viewing | None) -> None:
        self._engine = engine
        self._viewing = viewing

    async def get(self, name: str) -> RunView:
        """Show the last run of a backfill. Raises `BackfillNotFoundError`."""
        async with connected(self._engine) as connection:
            return await self._over(connection).get(name)

    async def list_all(self) -> Sequence[RunView]:
        """Show every backfill with the state of its last run."""
        async with connected(self._engine) as connection:
            return await self._over(connection).list_all()

    def _over(self, connection: Connection) -> BackfillReader:
        assert self._viewing is not None, "nothing to show backfills with was given"
        return self._viewing(connection)
