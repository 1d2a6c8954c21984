"""A catalogue in memory has neither backfills nor changes: whoever names one is told so."""

from collections.abc import Sequence

from contracts.backfills import ChangeResult
from contracts.errors import BackfillNotFoundError
from handlers.backfill import RunView


class NoBackfills:
    """Knows none."""

    async def start(
        self, name: str, *, dry_run: bool = False, reverse: bool = False, rate_rows_per_s: float | None = None
    ) -> RunView:
        """Find none."""
        raise _no_such(name)

    async def set_rate(self, name: str, rows_per_s: float | None) -> RunView:
        """Find none."""
        raise _no_such(name)

    async def get(self, name: str) -> RunView:
        """Find none."""
        raise _no_such(name)

    pause = resume = cancel = retry = verify = get

    async def list_all(self) -> Sequence[RunView]:
        """Find none."""
        return []


class NoChanges:
    """Knows none."""

    async def find(self, change: str) -> ChangeResult | None:
        """Find none."""
        return None

    async def wish(self, change: str, to: str, by: str) -> ChangeResult:
        """Find none."""
        raise _no_such(change)


def _no_such(name: str) -> BackfillNotFoundError:
    return BackfillNotFoundError(f"There is no backfill or change {name}")
