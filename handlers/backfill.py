"""Backfills and changes, as use cases see them: wishes are recorded, and what stands is shown.

Whatever is wished is carried out by the backfill workers. Each method raises a `CatalogError` *before* it has changed
anything: `BackfillNotFoundError` for a name that nobody has, `IllegalTransitionError` for what cannot be done now.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from contracts.backfills import ChangeResult

RunView = Mapping[str, Any]
"""A run as an operator sees it: plain JSON."""


class BackfillReader(Protocol):
    """Runs as they stand."""

    async def get(self, name: str) -> RunView:
        """Show the last run of a backfill."""
        ...

    async def list_all(self) -> Sequence[RunView]:
        """Show every backfill with the state of its last run."""
        ...


class BackfillSteering(Protocol):
    """What may be wished of a run; each answers with the run as it stands."""

    async def start(
        self, name: str, *, dry_run: bool = False, reverse: bool = False, rate_rows_per_s: float | None = None
    ) -> RunView: ...
    async def pause(self, name: str) -> RunView: ...
    async def resume(self, name: str) -> RunView: ...
    async def cancel(self, name: str) -> RunView: ...
    async def set_rate(self, name: str, rows_per_s: float | None) -> RunView: ...
    async def retry(self, name: str) -> RunView: ...
    async def verify(self, name: str) -> RunView: ...


class ChangeReader(Protocol):
    """Changes as they stand."""

    async def find(self, change: str) -> ChangeResult | None:
        """Show a change; None where there is none of this name."""
        ...


class ChangeSteering(Protocol):
    """What may be wished of a change."""

    async def find(self, change: str) -> ChangeResult | None:
        """Show a change; None where there is none of this name."""
        ...

    async def wish(self, change: str, to: str, by: str) -> ChangeResult:
        """Ask for a step; answers with the change as it stands."""
        ...
